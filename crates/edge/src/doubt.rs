//! Whether an answer can still come, where the connection to NATS was lost while it was waited for: what is sent meanwhile
//! reaches nobody.
//!
//! A connection that stays away for `bus_patience` ends the wait. One that came back sooner is a reason to ask intake what
//! became of the request, every `bus_patience`, until the answer is there or none is to come.

use std::{pin::Pin, time::Duration};

use farebox_bus::{Bus, CallError};
use farebox_proto::{subjects, v1};
use farebox_types::{ErrorKind, Fault, Timestamp};
use futures::future::BoxFuture;
use tokio::time::{Instant, Sleep, sleep};

use crate::{call::away, options::Options};

/// What is done about one answer that may have been lost.
pub(crate) struct Doubt {
    bus: Bus,
    /// Where the answer goes.
    reply_to: String,
    /// When the request had left here at the latest: it is sent while the connection stands, which is not away for longer than
    /// the patience then.
    sent_by: Timestamp,
    patience: Duration,
    /// How long what was sent before intake said that no more comes may be on its way.
    grace: Duration,
    /// How often the connection had been made again when the request was sent.
    reconnects: u64,
    /// Ends when there may be something to do.
    look: Pin<Box<Sleep>>,
    state: State,
}

enum State {
    Waiting,
    Asking(BoxFuture<'static, Result<v1::EdgeLookupReply, CallError>>),
    /// Nothing more is sent.
    Over,
}

impl Doubt {
    /// Begins before the request is sent.
    pub(crate) fn new(bus: &Bus, reply_to: String, now: Timestamp, options: &Options) -> Doubt {
        let patience = options.bus_patience.get();
        Doubt {
            bus: bus.clone(),
            reply_to,
            sent_by: now.after(patience),
            patience,
            grace: options.answer_grace.get(),
            reconnects: bus.counts().reconnects,
            look: Box::pin(sleep(patience)),
            state: State::Waiting,
        }
    }

    /// Lives until there is nothing left to wait for of the call that this would cancel. Dropped before that, it goes on where
    /// it was.
    pub(crate) async fn despair(&mut self, call: &v1::EdgeCancel) -> Fault {
        loop {
            if let State::Asking(asking) = &mut self.state {
                let reply = asking.await;
                self.state = State::Waiting;
                // Who does not answer is asked again.
                if reply.is_ok_and(|reply| reply.over) {
                    self.state = State::Over;
                    self.look.as_mut().reset(Instant::now() + self.grace);
                }
            }
            self.look.as_mut().await;
            if let Some(fault) = self.look(call) {
                return fault;
            }
        }
    }

    fn look(&mut self, call: &v1::EdgeCancel) -> Option<Fault> {
        let down = self.bus.down_for().unwrap_or_default();
        if down >= self.patience {
            let message = "farebox has lost its connection to NATS; the call may have been made and be billed (the same \
                           request with the same Idempotency-Key finds its answer)";
            return Some(away(message));
        }
        if matches!(self.state, State::Over) {
            let message = "the answer was lost with farebox's connection to NATS, which is back; the call may have been \
                           made and be billed (a request with an Idempotency-Key can be asked again without that)";
            return Some(Fault::new(ErrorKind::Lost, message));
        }
        self.look.as_mut().reset(Instant::now() + self.patience.saturating_sub(down));
        if down.is_zero() && self.bus.counts().reconnects != self.reconnects {
            let question = v1::EdgeLookup {
                principal: call.principal.clone(),
                request_id: call.request_id.clone(),
                reply_to: self.reply_to.clone(),
                reached_unix_ms: self.sent_by.millis(),
            };
            let (bus, within) = (self.bus.clone(), self.patience);
            let asking = async move { bus.call(subjects::EDGE_LOOKUP, &question, within).await };
            self.state = State::Asking(Box::pin(asking));
        }
        None
    }
}
