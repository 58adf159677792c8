//! What intake itself says to a caller: refusals, receipts, stored answers.

use farebox_bus::{Bus, Delivery, Fence, Headers, StoreError, StoredMessage, StreamError, topology};
use farebox_proto::{headers, json, subjects::Tenancy, v1};
use farebox_types::{ErrorKind, Fault, Project, RequestId};
use prost::Message;

/// A message for a caller.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) headers: Headers,
    pub(crate) bytes: bytes::Bytes,
}

impl Outgoing {
    pub(crate) fn new(json: bool, bytes: Vec<u8>) -> Outgoing {
        let content_type = if json { headers::JSON } else { headers::PROTOBUF };
        Outgoing { headers: Headers::new().with(headers::CONTENT_TYPE, content_type), bytes: bytes.into() }
    }

    /// The final answer of a request that was refused.
    pub(crate) fn refusal(json: bool, request: &str, error: impl Into<v1::Error>) -> Outgoing {
        let error = error.into();
        let kind = error.kind().known().unwrap_or(ErrorKind::Internal);
        let response = v1::LlmResponse {
            request_id: request.to_owned(),
            chunks: 0,
            result: Some(v1::llm_response::Result::Error(error)),
            report: None,
        };
        let bytes = if json { json::final_answer(&response) } else { response.encode_to_vec() };
        let mut outgoing = Outgoing::new(json, bytes);
        outgoing.headers.set(headers::TYPE, "final");
        outgoing.headers.set(headers::ERROR, kind.as_str());
        outgoing
    }

    pub(crate) fn receipt(json: bool, receipt: &v1::JobReceipt) -> Outgoing {
        Outgoing::new(json, if json { json::job_receipt(receipt) } else { receipt.encode_to_vec() })
    }

    /// A final answer as it was stored.
    pub(crate) fn stored(message: StoredMessage) -> Outgoing {
        let mut outgoing = Outgoing { headers: Headers::new(), bytes: message.payload };
        for name in headers::ANSWER {
            if let Some(value) = message.headers.get(name) {
                outgoing.headers.set(name, value);
            }
        }
        outgoing
    }

    /// An answer as a caller on the bus can have it. One that only HTTP could carry is out of its reach.
    pub(crate) fn on_the_bus(self, json: bool, id: &RequestId) -> Outgoing {
        use v1::llm_response::Result::Stored;
        if self.headers.get(headers::CONTENT_TYPE) == Some(headers::JSON) {
            return self;
        }
        let Ok(v1::LlmResponse { result: Some(Stored(body)), .. }) = v1::LlmResponse::decode(self.bytes.clone()) else {
            return self;
        };
        let message = format!(
            "the answer to `{id}` has {} bytes, more than one message of this NATS server may have: it was given over \
             HTTP, where a repeat with this Idempotency-Key gets it again",
            body.object.unwrap_or_default().size
        );
        Outgoing::refusal(json, id.as_str(), Fault::new(ErrorKind::TooLarge, message))
    }

    pub(crate) fn delivered(delivery: &Delivery) -> Outgoing {
        Outgoing { headers: delivery.headers.clone(), bytes: delivery.payload.clone() }
    }
}

/// Whether a stored answer is to a body of this digest, and not to another one under the same id.
pub(crate) fn is_to(stored: &StoredMessage, digest: &str) -> bool {
    stored.headers.get(headers::BODY_DIGEST).is_none_or(|answered| answered.is_empty() || answered == digest)
}

pub(crate) fn used_before(id: &RequestId) -> Fault {
    let message = format!("request id `{id}` was used before with another body: choose a new id for a new request");
    Fault::new(ErrorKind::Conflict, message)
}

/// The kind of error that a final answer is, if it is one.
pub(crate) fn error_kind(headers: &Headers) -> Option<ErrorKind> {
    headers.get(headers::ERROR)?.parse().ok()
}

/// Stored final answers.
#[derive(Clone)]
pub(crate) struct Results {
    pub(crate) bus: Bus,
    pub(crate) tenancy: Tenancy,
    pub(crate) store_timeout: std::time::Duration,
}

impl Results {
    pub(crate) async fn find(&self, project: &Project, id: &RequestId) -> Result<Option<StoredMessage>, StreamError> {
        self.bus.last_by_subject(topology::RESULTS, &self.tenancy.response(project, id)).await
    }

    /// Stores a final answer, unless there is one: the first is the answer. `true`: this one is.
    pub(crate) async fn keep(
        &self,
        project: &Project,
        id: &RequestId,
        outgoing: &Outgoing,
    ) -> Result<bool, StoreError> {
        let subject = self.tenancy.response(project, id);
        // A refused write is still heard by those who listen on the subject: they are not to hear a second answer.
        if let Ok(Some(_)) = self.find(project, id).await {
            return Ok(false);
        }
        let fence = Fence::after_subject_seq(0);
        let (headers, bytes) = (outgoing.headers.clone(), outgoing.bytes.clone());
        match self.bus.store(&subject, headers, fence, bytes, self.store_timeout).await {
            Ok(_) => Ok(true),
            Err(StoreError::WrongLastSequence { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits for the final answer of a call that is running, or has ended a moment ago.
    pub(crate) async fn wait(
        &self,
        project: &Project,
        id: &RequestId,
        within: std::time::Duration,
    ) -> Result<Option<Outgoing>, Fault> {
        let unavailable =
            |error: String| Fault::new(ErrorKind::Unavailable, format!("the stored answers cannot be read: {error}"));
        let subject = self.tenancy.response(project, id);
        // Listen first, look second: what is stored in between is heard.
        let mut news = self.bus.subscribe(&subject, None).await.map_err(|e| unavailable(e.to_string()))?;
        if let Some(found) = self.find(project, id).await.map_err(|e| unavailable(e.to_string()))? {
            return Ok(Some(Outgoing::stored(found)));
        }
        match tokio::time::timeout(within, news.next()).await {
            Ok(Some(delivery)) => Ok(Some(Outgoing::delivered(&delivery))),
            // A message may have been lost on the way to us; the stream has it.
            _ => Ok(self.find(project, id).await.map_err(|e| unavailable(e.to_string()))?.map(Outgoing::stored)),
        }
    }
}
