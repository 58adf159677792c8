//! Durable writes, fenced where the writer must know that nobody wrote before.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use crate::{
    connect::Bus,
    error::{CallError, PublishError, StoreError},
    headers::{self, Headers},
    jetstream::{ApiError, code},
};

/// Conditions under which a durable write is taken, and its identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fence {
    /// A repeated id within the stream's duplicate window is not stored again.
    pub msg_id: Option<String>,
    /// Take it only if this is the sequence of the newest message on the same subject; 0: none is there.
    pub expected_last_subject_seq: Option<u64>,
    /// Take it only if this is the sequence of the newest message of the stream.
    pub expected_last_seq: Option<u64>,
}

impl Fence {
    pub fn none() -> Fence {
        Fence::default()
    }

    pub fn id(id: impl Into<String>) -> Fence {
        Fence { msg_id: Some(id.into()), ..Fence::default() }
    }

    pub fn after_subject_seq(sequence: u64) -> Fence {
        Fence { expected_last_subject_seq: Some(sequence), ..Fence::default() }
    }

    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Fence {
        self.msg_id = Some(id.into());
        self
    }

    fn write(self, mut to: Headers) -> Headers {
        if let Some(id) = self.msg_id {
            to.set(headers::MSG_ID, &id);
        }
        if let Some(sequence) = self.expected_last_subject_seq {
            to.set(headers::EXPECTED_LAST_SUBJECT_SEQ, &sequence.to_string());
        }
        if let Some(sequence) = self.expected_last_seq {
            to.set(headers::EXPECTED_LAST_SEQ, &sequence.to_string());
        }
        to
    }
}

/// The receipt of a durable write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub stream: String,
    pub sequence: u64,
    /// The id was known: `sequence` is that of the message stored before.
    pub duplicate: bool,
}

#[derive(Deserialize)]
struct PubAck {
    #[serde(default)]
    stream: String,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<ApiError>,
}

impl Bus {
    /// Stores a message and returns once the stream has it. At most `store_inflight` writes are under way at a time;
    /// the time spent waiting for a place counts towards `within`.
    pub async fn store(
        &self,
        subject: &str,
        headers: Headers,
        fence: Fence,
        payload: Bytes,
        within: Duration,
    ) -> Result<Stored, StoreError> {
        let late = || StoreError::Timeout { subject: subject.to_owned(), after: within };
        let until = tokio::time::Instant::now() + within;
        let permit = tokio::time::timeout(within, self.0.store_permits.acquire()).await;
        let _permit = match permit {
            Ok(Ok(permit)) => permit,
            // Nothing was sent, so this is not an unclear one.
            Ok(Err(_)) | Err(_) => {
                return Err(PublishError::Disconnected { subject: subject.to_owned() }.into());
            }
        };
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        let answer = match self.request(subject, fence.write(headers), payload, left).await {
            Ok(answer) => answer,
            Err(error) => {
                let subject = subject.to_owned();
                return Err(match error {
                    CallError::NoResponders { .. } => StoreError::NoStream { subject },
                    CallError::Timeout { .. } => late(),
                    CallError::Forbidden { .. } => StoreError::Forbidden { subject },
                    CallError::Disconnected { .. } => StoreError::Disconnected { subject },
                    CallError::Decode { reason, .. } => StoreError::BadAnswer { subject, reason },
                    CallError::Publish(source) => StoreError::Publish(source),
                });
            }
        };
        read_ack(subject, &answer.payload)
    }
}

fn read_ack(subject: &str, payload: &[u8]) -> Result<Stored, StoreError> {
    let subject = || subject.to_owned();
    let ack: PubAck = serde_json::from_slice(payload)
        .map_err(|e| StoreError::BadAnswer { subject: subject(), reason: e.to_string() })?;
    let Some(ApiError { err_code, description: reason }) = ack.error else {
        return Ok(Stored { stream: ack.stream, sequence: ack.seq, duplicate: ack.duplicate });
    };
    Err(match err_code {
        code::WRONG_LAST_SEQUENCE | code::WRONG_LAST_SEQUENCE_CONSTANT => {
            StoreError::WrongLastSequence { subject: subject(), reason }
        }
        code::STORE_FAILED | code::INSUFFICIENT_RESOURCES | code::STORAGE_EXCEEDED | code::MEMORY_EXCEEDED => {
            StoreError::Full { subject: subject(), reason }
        }
        code => StoreError::Refused { subject: subject(), code, reason },
    })
}
