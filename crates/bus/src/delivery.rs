//! A message as it arrives.

use bytes::Bytes;

use crate::{error::CallError, headers::Headers};

/// What the server itself says instead of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u16);

impl Status {
    pub(crate) const END_OF_BATCH: Status = Status(204);
    pub(crate) const NOT_FOUND: Status = Status(404);
    pub(crate) const NO_RESPONDERS: Status = Status(503);
}

/// A message as it arrives.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub subject: String,
    /// Where an answer goes, if one is wanted.
    pub reply: Option<String>,
    pub headers: Headers,
    pub payload: Bytes,
    /// Set when this comes from the server itself: "nobody listens", "end of batch", …
    pub status: Option<Status>,
    pub(crate) description: Option<String>,
}

impl Delivery {
    pub fn is_no_responders(&self) -> bool {
        self.status == Some(Status::NO_RESPONDERS)
    }

    /// The payload as a protobuf message.
    pub fn decode<M: prost::Message + Default>(&self) -> Result<M, CallError> {
        M::decode(self.payload.clone())
            .map_err(|source| CallError::Decode { subject: self.subject.clone(), reason: source.to_string() })
    }

    pub(crate) fn header_u64(&self, name: &str) -> Option<u64> {
        self.headers.get(name)?.parse().ok()
    }
}

impl From<async_nats::Message> for Delivery {
    fn from(message: async_nats::Message) -> Delivery {
        Delivery {
            subject: message.subject.into_string(),
            reply: message.reply.map(|reply| reply.into_string()),
            headers: message.headers.as_ref().map(Headers::from_map).unwrap_or_default(),
            payload: message.payload,
            // The client reports 200 for some ordinary messages: only what is not a success is a status.
            status: message.status.map(|s| Status(s.as_u16())).filter(|s| s.0 != 200),
            description: message.description,
        }
    }
}
