//! farebox for an agent written in Rust: requests, streams, jobs, facts and usage over the bus.
//!
//! It speaks the contract of `proto/farebox/v1` on the plain subjects (`llm.request`, …) and needs no farebox
//! credentials beyond those of its NATS connection.
//!
//! Guarantees: every call ends, by an answer, a typed error or its deadline; the pieces of a stream come in order, and a
//! gap is an error that the final answer, which is always whole, makes good; of several final answers the first counts.

mod error;
mod stream;

use std::time::Duration;

use farebox_bus::{Bus, CallError, Headers, Login, Options, Subscription};
use farebox_proto::{
    headers,
    subjects::agent,
    v1::{self, llm_response::Result as Answer},
};
use farebox_types::{Clock, ErrorKind, Fault, RequestId, SystemClock};
use prost::Message;

pub use error::Error;
pub use stream::{Piece, Stream};

/// A connection to farebox. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    bus: Bus,
    /// For requests that set no deadline.
    default_deadline: Duration,
}

/// How long the short questions (receipts, results, usage) may take.
const SHORT: Duration = Duration::from_secs(15);
/// An answer may come this much after its deadline: it says that the deadline has passed.
const GRACE: Duration = Duration::from_secs(2);

impl Client {
    /// Connects to NATS.
    pub async fn connect(options: &Options, login: Login) -> Result<Client, Error> {
        Ok(Client::over(Bus::connect_as(options, login).await?))
    }

    /// Uses a connection that is there.
    pub fn over(bus: Bus) -> Client {
        Client { bus, default_deadline: Duration::from_secs(600) }
    }

    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Asks, and waits for the whole answer.
    pub async fn call(&self, mut request: v1::LlmRequest) -> Result<v1::LlmResponse, Error> {
        request.stream = false;
        let within = self.within(&mut request);
        let payload = self.payload(&request)?;
        let head = Headers::new().with(headers::CONTENT_TYPE, headers::PROTOBUF);
        let answer = self.bus.request(agent::REQUEST, head, payload, within + GRACE).await.map_err(explain)?;
        accept(answer.decode()?)
    }

    /// Asks for a streamed answer.
    pub async fn stream(&self, mut request: v1::LlmRequest) -> Result<Stream, Error> {
        request.stream = true;
        let within = self.within(&mut request);
        let payload = self.payload(&request)?;
        let inbox = self.bus.inbox();
        let head = Headers::new().with(headers::CONTENT_TYPE, headers::PROTOBUF);
        self.bus.publish_with_reply(agent::REQUEST, &inbox.subject(), head, payload).await?;
        Ok(Stream::new(inbox, within + GRACE))
    }

    /// Stores a job. Its answer is fetched with [`Client::result`].
    pub async fn job(&self, request: &v1::LlmRequest) -> Result<v1::JobReceipt, Error> {
        let payload = self.payload(request)?;
        let head = Headers::new().with(headers::CONTENT_TYPE, headers::PROTOBUF);
        let answer = self.bus.request(agent::JOB, head, payload, SHORT).await.map_err(explain)?;
        let receipt: v1::JobReceipt = answer.decode()?;
        match receipt.error {
            Some(error) => Err(Error::Refused(Fault::from(error))),
            None => Ok(receipt),
        }
    }

    /// The stored answer of a job, or of a request whose id the caller chose.
    pub async fn result(&self, id: &RequestId) -> Result<v1::LlmResponse, Error> {
        let head = Headers::new().with(headers::CONTENT_TYPE, headers::PROTOBUF);
        let answer = self.bus.request(&agent::result(id), head, Default::default(), SHORT).await.map_err(explain)?;
        accept(answer.decode()?)
    }

    /// Waits for the answer of a job.
    pub async fn wait(&self, id: &RequestId, within: Duration) -> Result<v1::LlmResponse, Error> {
        let waiting = async {
            let mut news = self.bus.subscribe(&agent::response(id), None).await?;
            loop {
                match self.result(id).await {
                    Err(Error::Refused(fault)) if fault.kind == ErrorKind::Unavailable => {}
                    other => return other,
                }
                // Either the answer itself arrives, or it is time to look again: a message can be lost.
                let _ = tokio::time::timeout(Duration::from_secs(5), news.next()).await;
            }
        };
        tokio::time::timeout(within, waiting).await.unwrap_or_else(|_| {
            let message = format!("job `{id}` did not end within {within:?}; it goes on, ask again later");
            Err(Error::Refused(Fault::new(ErrorKind::DeadlineExceeded, message)))
        })
    }

    /// Stops a call. `true`: it was running or waiting, and is stopped.
    pub async fn cancel(&self, id: &RequestId) -> Result<bool, Error> {
        let head = Headers::new().with(headers::CONTENT_TYPE, headers::PROTOBUF);
        let answer = self.bus.request(&agent::cancel(id), head, Default::default(), SHORT).await.map_err(explain)?;
        Ok(answer.decode::<v1::CancelReceipt>()?.cancelled)
    }

    /// Call facts of one's own project, as they happen.
    pub async fn calls(&self) -> Result<Calls, Error> {
        let news = self.bus.subscribe(agent::CALLS, None).await?;
        self.bus.flush().await?;
        Ok(Calls { news })
    }

    /// What was spent.
    pub async fn usage(&self, query: &v1::UsageQuery) -> Result<v1::UsageReport, Error> {
        let head = Headers::new().with(headers::CONTENT_TYPE, headers::PROTOBUF);
        let payload = query.encode_to_vec().into();
        let answer = self.bus.request(agent::USAGE, head, payload, SHORT).await.map_err(explain)?;
        let report: v1::UsageReport = answer.decode()?;
        match report.error {
            Some(error) => Err(Error::Refused(Fault::from(error))),
            None => Ok(report),
        }
    }

    /// Sets the deadline where there is none, and says how far it is.
    fn within(&self, request: &mut v1::LlmRequest) -> Duration {
        let now = SystemClock.now();
        if request.deadline_unix_ms == 0 {
            request.deadline_unix_ms = now.after(self.default_deadline).millis();
        }
        farebox_types::Timestamp(request.deadline_unix_ms).remaining(now)
    }

    fn payload(&self, request: &v1::LlmRequest) -> Result<bytes::Bytes, Error> {
        let payload = request.encode_to_vec();
        let max = self.bus.max_payload();
        if payload.len() > max {
            let message = format!(
                "the request has {} bytes, more than this NATS server takes in one message ({max}): send less, or raise \
                 its max_payload",
                payload.len()
            );
            return Err(Error::Refused(Fault::new(ErrorKind::TooLarge, message)));
        }
        Ok(payload.into())
    }
}

/// Call facts as they happen. A fact may come twice: its call id tells.
pub struct Calls {
    news: Subscription,
}

impl Calls {
    /// The next fact; `None` once the connection is closed.
    pub async fn next(&mut self) -> Option<v1::CallFact> {
        loop {
            if let Ok(fact) = v1::CallFact::decode(self.news.next().await?.payload) {
                return Some(fact);
            }
        }
    }
}

/// An error in an answer becomes an error.
fn accept(response: v1::LlmResponse) -> Result<v1::LlmResponse, Error> {
    match response.result {
        Some(Answer::Error(error)) => Err(Error::Refused(Fault::from(error))),
        _ => Ok(response),
    }
}

/// What a failed call means to an agent.
fn explain(error: CallError) -> Error {
    match error {
        CallError::NoResponders { .. } => Error::Refused(Fault::new(
            ErrorKind::Unavailable,
            "no farebox listens on this NATS server: start `farebox up`, or check nats.url",
        )),
        CallError::Timeout { after, .. } => {
            Error::Refused(Fault::new(ErrorKind::DeadlineExceeded, format!("no answer within {after:?}")))
        }
        other => Error::Call(other),
    }
}
