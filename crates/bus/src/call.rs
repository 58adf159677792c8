//! Request and reply, and offers of work.

use std::time::Duration;

use bytes::Bytes;
use tokio::{sync::oneshot, time::timeout};

use crate::{
    connect::Bus,
    delivery::Delivery,
    error::{CallError, PublishError},
    headers::Headers,
    inbox::{Answer, Slot},
    near::Reach,
};

impl Bus {
    /// Asks and waits for one answer. The entry that waits is gone when this ends, however it ends.
    pub async fn request(
        &self,
        subject: &str,
        headers: Headers,
        payload: Bytes,
        within: Duration,
    ) -> Result<Delivery, CallError> {
        let (slot, answer) = self.0.waiting.one(subject);
        self.send(subject, Some(slot.subject()), headers, payload).await?;
        let counters = &self.0.link.counters;
        let subject = || subject.to_owned();
        match timeout(within, answer).await {
            Ok(Ok(Ok(delivery))) if delivery.is_no_responders() => {
                counters.no_responders.add_one();
                Err(CallError::NoResponders { subject: subject() })
            }
            Ok(Ok(Ok(delivery))) => Ok(delivery),
            Ok(Ok(Err(_))) => Err(CallError::Forbidden { subject: subject() }),
            Ok(Err(_)) => Err(CallError::Disconnected { subject: subject() }),
            Err(_) => {
                counters.timeouts.add_one();
                Err(CallError::Timeout { subject: subject(), after: within })
            }
        }
    }

    /// Asks with one protobuf message and reads the answer as another.
    pub async fn call<Req, Rep>(&self, subject: &str, request: &Req, within: Duration) -> Result<Rep, CallError>
    where
        Req: prost::Message,
        Rep: prost::Message + Default,
    {
        self.request(subject, Headers::new(), request.encode_to_vec().into(), within).await?.decode()
    }

    /// Hands work to whoever takes it and learns at once when nobody does. Who takes it answers nothing; who is asked
    /// and cannot, may answer with a refusal.
    pub async fn offer(
        &self,
        reach: Reach,
        subject: &str,
        headers: Headers,
        payload: Bytes,
    ) -> Result<Offer, PublishError> {
        let (slot, answer) = self.0.waiting.one(subject);
        self.send_within(reach, subject, Some(slot.subject()), headers, payload).await?;
        Ok(Offer { _slot: slot, answer, bus: self.clone() })
    }
}

/// Why an offer was not taken.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// Nobody listens there: the work is certainly not under way.
    NoResponders,
    /// The server forbids the subject: the work is certainly not under way.
    Forbidden,
    /// Somebody was asked and answered.
    Replied(Delivery),
    /// The connection closed for good before anything came: not known.
    Disconnected,
}

/// Work handed out; see [`Bus::offer`].
pub struct Offer {
    _slot: Slot,
    answer: oneshot::Receiver<Answer>,
    bus: Bus,
}

impl Offer {
    /// Waits for a refusal. `None`: none came in time, so somebody has it, or had it.
    pub async fn refused(&mut self, within: Duration) -> Option<Refusal> {
        match timeout(within, &mut self.answer).await {
            Ok(Ok(Ok(delivery))) if delivery.is_no_responders() => {
                self.bus.0.link.counters.no_responders.add_one();
                Some(Refusal::NoResponders)
            }
            Ok(Ok(Ok(delivery))) => Some(Refusal::Replied(delivery)),
            Ok(Ok(Err(_))) => Some(Refusal::Forbidden),
            Ok(Err(_)) => Some(Refusal::Disconnected),
            Err(_) => None,
        }
    }
}
