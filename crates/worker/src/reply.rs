//! What goes to the caller: numbered chunks, then exactly one final answer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use farebox_bus::{Bus, Fence, Headers, StoreError, topology};
use farebox_proto::{headers, json, subjects::Tenancy, v1};
use farebox_types::{Disposition, ErrorKind, Fault, Project, RequestId};
use prost::Message;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    held::{Handle, Held, Stop},
    listeners::Place,
    reservation::OpenAttempt,
};

/// The way back to one caller.
pub(crate) struct Reply {
    pub(crate) bus: Bus,
    pub(crate) tenancy: Tenancy,
    pub(crate) held: Arc<Held>,
    pub(crate) handle: Handle,
    pub(crate) project: Project,
    pub(crate) request: RequestId,
    pub(crate) to: String,
    /// Where it is looked whether somebody listens there.
    pub(crate) place: Option<Place>,
    pub(crate) json: bool,
    pub(crate) keep: bool,
    pub(crate) job: bool,
    /// An answer above the bus's payload limit may be stored: its caller can fetch it.
    pub(crate) may_store: bool,
    /// What the first piece says of the call.
    pub(crate) begun: Option<v1::CallBegun>,
    pub(crate) body_digest: String,
    pub(crate) store_timeout: Duration,
    /// When waiting for the lease is given up.
    pub(crate) until: Instant,
    /// Chunks sent so far.
    pub(crate) chunks: u64,
}

/// How often a broken connection is looked at.
const RELINK: Duration = Duration::from_millis(20);
/// How often an answer is tried to be kept.
const STORE_TRIES: usize = 5;

/// The guard has ended the call: the caller has been answered, or will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Silenced;

impl Reply {
    /// Whether this worker may speak, after waiting for its lease if need be. It may not without a connection either:
    /// what is handed to a broken one may arrive after the lease has gone, and what is said as soon as it is made again may
    /// find its caller not yet back.
    async fn may_speak(&self) -> Result<(), Silenced> {
        while !self.bus.is_steady() || !self.held.may_act(&self.handle) {
            if Instant::now() >= self.until {
                return Err(Silenced);
            }
            // A lost lease comes back with the guard's next answer, a lost connection by itself.
            let _ = timeout(RELINK, self.held.valid(&self.handle)).await;
            if !self.bus.is_steady() {
                sleep(RELINK).await;
            }
        }
        if self.handle.why() == Some(Stop::Closed) { Err(Silenced) } else { Ok(()) }
    }

    /// Who would answer, if this attempt does.
    pub(crate) fn would_begin(&mut self, begun: v1::CallBegun) {
        self.begun = Some(begun);
    }

    /// A provider answers.
    pub(crate) fn begins(&mut self, attempt: &OpenAttempt, provider_request_id: &str) {
        if let Some(begun) = &mut self.begun {
            begun.call_id = attempt.call.to_string();
            begun.attempt = attempt.number;
            begun.provider_request_id = provider_request_id.to_owned();
        }
    }

    /// Sends one piece of a streamed answer.
    pub(crate) async fn chunk(&mut self, piece: v1::llm_chunk::Piece) -> Result<(), Silenced> {
        self.may_speak().await?;
        if self.handle.is_forsaken() {
            return Ok(());
        }
        let request_id = self.request.as_str();
        let (content_type, bytes) = match (&piece, self.json) {
            (v1::llm_chunk::Piece::Raw(raw), true) => (headers::JSON, json::chunk(request_id, self.chunks, raw)),
            _ => {
                let chunk = v1::LlmChunk {
                    request_id: request_id.to_owned(),
                    seq: self.chunks,
                    piece: Some(piece),
                    begun: self.begun.take().filter(|_| self.chunks == 0),
                };
                (headers::PROTOBUF, chunk.encode_to_vec())
            }
        };
        let seq = self.chunks.to_string();
        let head = Headers::of([
            (headers::TYPE, "chunk"),
            (headers::CONTENT_TYPE, content_type),
            (headers::SEQ, seq.as_str()),
        ]);
        self.chunks += 1;
        let sent = match self.place.as_ref().is_some_and(Place::asks_with_this) {
            true => self.bus.publish_traced(&self.to, head, bytes.into()).await,
            false => self.bus.publish(&self.to, head, bytes.into()).await,
        };
        if let Err(error) = sent {
            // A gap shows by its number, and the final answer is whole.
            tracing::debug!(request = request_id, %error, "a chunk was not sent");
        }
        Ok(())
    }

    /// Sends the final answer: first to where it is kept, then to the caller.
    pub(crate) async fn finish(
        &self,
        result: v1::llm_response::Result,
        report: v1::CallReport,
    ) -> Result<(), Silenced> {
        let response = v1::LlmResponse {
            request_id: self.request.as_str().to_owned(),
            chunks: self.chunks,
            result: Some(result),
            report: Some(report),
        };
        let (head, bytes, error) = Box::pin(self.form(response)).await;
        self.may_speak().await?;
        let retryable = self.job && error.is_some_and(|kind| kind.disposition() == Disposition::Nak);
        // A job that failed in passing is run again by its runner: its answer is not final yet.
        let other = if self.keep && !retryable { self.store(head.clone(), bytes.clone()).await } else { None };
        if self.to.is_empty() {
            return Ok(());
        }
        self.may_speak().await?;
        // Whatever was stored first is the answer, also where another process stored it.
        let (head, bytes) = other.unwrap_or((head, bytes));
        if let Err(error) = self.bus.publish(&self.to, head, bytes).await {
            tracing::warn!(request = self.request.as_str(), %error, "a final answer was not sent");
        }
        Ok(())
    }

    /// The final answer as the caller reads it. One that no message can carry is stored beside it, for who can fetch it, or
    /// becomes an error that says so.
    async fn form(&self, response: v1::LlmResponse) -> (Headers, Bytes, Option<ErrorKind>) {
        let write = |response: &v1::LlmResponse| {
            if self.json { json::final_answer(response) } else { response.encode_to_vec() }
        };
        let mut response = response;
        let mut bytes = write(&response);
        let max = self.bus.max_payload();
        if bytes.len() > max && self.may_store {
            self.store_apart(&mut response).await;
            bytes = write(&response);
        }
        if bytes.len() > max {
            let message = format!(
                "the answer has {} bytes, more than one message of this NATS server may have ({max}): ask for less, or \
                 raise nats.max_payload; the call is billed",
                bytes.len()
            );
            response.result = Some(v1::llm_response::Result::Error(Fault::new(ErrorKind::TooLarge, message).into()));
            if let Some(report) = &mut response.report {
                report.warnings.clear();
            }
            bytes = write(&response);
        }
        let error = match &response.result {
            Some(v1::llm_response::Result::Error(error)) => error.kind().known(),
            _ => None,
        };
        let mut head = Headers::new()
            .with(headers::CONTENT_TYPE, if self.json { headers::JSON } else { headers::PROTOBUF })
            .with(headers::TYPE, "final")
            .with(headers::BODY_DIGEST, &self.body_digest);
        if let Some(kind) = error {
            head.set(headers::ERROR, kind.as_str());
        }
        (head, bytes.into(), error)
    }

    /// Puts an answer where its caller can fetch it; it stays as it is where that fails.
    async fn store_apart(&self, response: &mut v1::LlmResponse) {
        let Some(v1::llm_response::Result::Raw(raw)) = &response.result else { return };
        let within = self.until.saturating_duration_since(Instant::now());
        match self.bus.put_object(topology::BODIES, raw.bytes.clone(), within).await {
            Ok(object) => {
                let stored = v1::StoredBody { dialect: raw.dialect, object: Some(object.into()) };
                response.result = Some(v1::llm_response::Result::Stored(stored));
            }
            Err(error) => tracing::warn!(request = self.request.as_str(), %error, "an answer was not stored"),
        }
    }

    /// Stores the final answer. Where another one is stored already, that one comes back.
    async fn store(&self, head: Headers, bytes: Bytes) -> Option<(Headers, Bytes)> {
        let subject = self.tenancy.response(&self.project, &self.request);
        for _ in 0..STORE_TRIES {
            // Look first: even a refused write is heard by those who listen on the subject.
            if let Ok(Some(stored)) = self.bus.last_by_subject(topology::RESULTS, &subject).await {
                // It may be ours, from a try whose receipt was lost: then it is the same.
                let own = |head: Headers, name: &str| match stored.headers.get(name) {
                    Some(value) => head.with(name, value),
                    None => head,
                };
                let head = headers::ANSWER.into_iter().fold(Headers::new(), own);
                return Some((head, stored.payload));
            }
            let fence = Fence::after_subject_seq(0);
            let stored = self.bus.store(&subject, head.clone(), fence, bytes.clone(), self.store_timeout).await;
            match stored {
                Ok(_) => return None,
                // The next look finds it.
                Err(StoreError::WrongLastSequence { .. }) => {}
                Err(error) => {
                    tracing::warn!(request = self.request.as_str(), %error, "keeping an answer again");
                    sleep(self.store_timeout / 10).await;
                }
            }
        }
        tracing::error!(request = self.request.as_str(), "a final answer was not kept");
        None
    }
}
