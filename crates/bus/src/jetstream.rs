//! The JetStream API: JSON requests over the same inboxes as every other call, so that none leaks.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep};

use crate::{
    connect::Bus,
    error::{CallError, PublishError, StreamError},
    headers::Headers,
};

/// Codes of the JetStream API that are told apart here.
pub(crate) mod code {
    pub(crate) const CLUSTER_NOT_AVAILABLE: u64 = 10008;
    pub(crate) const CLUSTER_NOT_LEADER: u64 = 10009;
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

/// Whether the same request may be answered a moment later.
fn passes(error: &StreamError) -> bool {
    match error {
        StreamError::Call { source, .. } => matches!(
            source,
            // A leader is being elected; or nobody serves the API there yet; or the connection is down.
            CallError::Timeout { .. }
                | CallError::NoResponders { .. }
                | CallError::Publish(PublishError::Disconnected { .. })
        ),
        StreamError::Refused { code, .. } => matches!(*code, code::CLUSTER_NOT_AVAILABLE | code::CLUSTER_NOT_LEADER),
        _ => false,
    }
}

/// Nobody serves the API: that is an error like any other answer.
fn named(error: StreamError) -> StreamError {
    match error {
        StreamError::Call { source: CallError::NoResponders { .. }, .. } => StreamError::NoJetStream,
        error => error,
    }
}

impl Bus {
    /// A request of the API about `stream` that does no harm when it is repeated: as long as JetStream cannot answer it
    /// is, for `api_deadline` at most. What JetStream refuses is an error at once.
    pub(crate) async fn api<Req, Rep>(&self, stream: &str, subject: &str, request: &Req) -> Result<Rep, StreamError>
    where
        Req: Serialize,
        Rep: DeserializeOwned,
    {
        let options = &self.0.options;
        let until = Instant::now() + options.api_deadline.get();
        let first = Duration::from_millis(20);
        let mut pause = first;
        loop {
            let within = options.api_timeout.get().min(until.saturating_duration_since(Instant::now()));
            let error = match self.ask(stream, subject, request, within).await {
                Err(error) if passes(&error) && Instant::now() + pause < until => error,
                answer => return answer.map_err(named),
            };
            if pause == first {
                tracing::warn!(stream, subject, %error, "JetStream does not answer yet: asking again");
            }
            sleep(pause).await;
            pause = (pause * 2).min(options.reconnect_pause_max.get());
        }
    }

    /// A request of the API that is made once: a second one would be answered differently, or come too late.
    pub(crate) async fn api_once<Req, Rep>(
        &self,
        stream: &str,
        subject: &str,
        request: &Req,
    ) -> Result<Rep, StreamError>
    where
        Req: Serialize,
        Rep: DeserializeOwned,
    {
        self.ask(stream, subject, request, self.0.options.api_timeout.get()).await.map_err(named)
    }

    async fn ask<Req, Rep>(
        &self,
        stream: &str,
        subject: &str,
        request: &Req,
        within: Duration,
    ) -> Result<Rep, StreamError>
    where
        Req: Serialize,
        Rep: DeserializeOwned,
    {
        let failed = |source: CallError| StreamError::Call { stream: stream.to_owned(), source };
        let undecodable = |reason: String| failed(CallError::Decode { subject: subject.to_owned(), reason });
        let body = serde_json::to_vec(request).map_err(|e| undecodable(e.to_string()))?;
        let answer = self.request(subject, Headers::new(), Bytes::from(body), within).await.map_err(failed)?;
        let envelope: Envelope = serde_json::from_slice(&answer.payload).map_err(|e| undecodable(e.to_string()))?;
        if let Some(error) = envelope.error {
            return Err(error.into_stream_error(stream));
        }
        serde_json::from_slice(&answer.payload).map_err(|e| undecodable(e.to_string()))
    }
}
