//! The JetStream API: JSON requests over the same inboxes as every other call, so that none leaks.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    connect::Bus,
    error::{CallError, StreamError},
    headers::Headers,
};

/// Codes of the JetStream API that are told apart here.
pub(crate) mod code {
    pub(crate) const CONSUMER_NOT_FOUND: u64 = 10014;
    pub(crate) const INSUFFICIENT_RESOURCES: u64 = 10023;
    pub(crate) const MEMORY_EXCEEDED: u64 = 10028;
    pub(crate) const MESSAGE_NOT_FOUND: u64 = 10037;
    pub(crate) const NOT_ENABLED_FOR_ACCOUNT: u64 = 10039;
    pub(crate) const SEQUENCE_NOT_FOUND: u64 = 10043;
    pub(crate) const STORAGE_EXCEEDED: u64 = 10047;
    pub(crate) const NAME_IN_USE: u64 = 10058;
    pub(crate) const STREAM_NOT_FOUND: u64 = 10059;
    pub(crate) const WRONG_LAST_SEQUENCE: u64 = 10071;
    pub(crate) const NOT_ENABLED: u64 = 10076;
    pub(crate) const STORE_FAILED: u64 = 10077;
    pub(crate) const WRONG_LAST_SEQUENCE_CONSTANT: u64 = 10164;
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct ApiError {
    #[serde(default)]
    pub(crate) err_code: u64,
    #[serde(default)]
    pub(crate) description: String,
}

#[derive(Deserialize)]
struct Envelope {
    error: Option<ApiError>,
}

impl ApiError {
    fn into_stream_error(self, stream: &str) -> StreamError {
        let stream = stream.to_owned();
        match self.err_code {
            code::STREAM_NOT_FOUND => StreamError::NotFound { stream },
            code::INSUFFICIENT_RESOURCES | code::MEMORY_EXCEEDED | code::STORAGE_EXCEEDED => {
                StreamError::NoRoom { stream, reason: self.description }
            }
            code::NOT_ENABLED | code::NOT_ENABLED_FOR_ACCOUNT => StreamError::NoJetStream,
            code => StreamError::Refused { stream, code, reason: self.description },
        }
    }
}

impl Bus {
    /// One request of the API about `stream`.
    pub(crate) async fn api<Req, Rep>(&self, stream: &str, subject: &str, request: &Req) -> Result<Rep, StreamError>
    where
        Req: Serialize,
        Rep: DeserializeOwned,
    {
        let undecodable = |reason: String| StreamError::Call {
            stream: stream.to_owned(),
            source: CallError::Decode { subject: subject.to_owned(), reason },
        };
        let body = serde_json::to_vec(request).map_err(|e| undecodable(e.to_string()))?;
        let within = self.0.options.api_timeout.get();
        let answer = match self.request(subject, Headers::new(), Bytes::from(body), within).await {
            Ok(answer) => answer,
            Err(CallError::NoResponders { .. }) => return Err(StreamError::NoJetStream),
            Err(source) => {
                return Err(StreamError::Call { stream: stream.to_owned(), source });
            }
        };
        let envelope: Envelope = serde_json::from_slice(&answer.payload).map_err(|e| undecodable(e.to_string()))?;
        if let Some(error) = envelope.error {
            return Err(error.into_stream_error(stream));
        }
        serde_json::from_slice(&answer.payload).map_err(|e| undecodable(e.to_string()))
    }
}
