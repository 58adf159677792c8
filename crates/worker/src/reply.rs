//! What goes to the caller: numbered chunks, then exactly one final answer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use farebox_bus::{Bus, Fence, Headers, StoreError, topology};
use farebox_proto::{headers, json, subjects::Tenancy, v1};
use farebox_types::{Disposition, ErrorKind, Fault, Project, RequestId};
use prost::Message;

use crate::held::{Handle, Held, Stop};

/// The way back to one caller.
pub(crate) struct Reply {
    pub(crate) bus: Bus,
    pub(crate) tenancy: Tenancy,
    pub(crate) held: Arc<Held>,
    pub(crate) handle: Handle,
    pub(crate) project: Project,
    pub(crate) request: RequestId,
    pub(crate) to: String,
    pub(crate) json: bool,
    pub(crate) keep: bool,
    pub(crate) job: bool,
    pub(crate) body_digest: String,
    pub(crate) store_timeout: Duration,
    /// Chunks sent so far.
    pub(crate) chunks: u64,
}

/// The guard has ended the call: the caller has been answered, or will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Silenced;

impl Reply {
    /// Whether this worker may speak, after waiting for its lease if need be.
    async fn may_speak(&self) -> Result<(), Silenced> {
        if !self.held.is_valid() {
            tokio::select! {
                () = self.held.valid() => {}
                () = self.handle.woken.cancelled() => self.held.valid().await,
            }
        }
        if self.handle.why() == Some(Stop::Closed) { Err(Silenced) } else { Ok(()) }
    }

    /// Sends one piece of a streamed answer.
    pub(crate) async fn chunk(&mut self, piece: v1::llm_chunk::Piece) -> Result<(), Silenced> {
        self.may_speak().await?;
        let request_id = self.request.as_str();
        let (content_type, bytes) = match (&piece, self.json) {
            (v1::llm_chunk::Piece::Raw(raw), true) => (headers::JSON, json::chunk(request_id, self.chunks, raw)),
            _ => {
                let chunk = v1::LlmChunk { request_id: request_id.to_owned(), seq: self.chunks, piece: Some(piece) };
                (headers::PROTOBUF, chunk.encode_to_vec())
            }
        };
        let head = Headers::new()
            .with(headers::CONTENT_TYPE, content_type)
            .with(headers::TYPE, "chunk")
            .with(headers::SEQ, &self.chunks.to_string());
        self.chunks += 1;
        if let Err(error) = self.bus.publish(&self.to, head, bytes.into()).await {
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
        let response = self.fit(response).await;
        let (content_type, bytes) = if self.json {
            (headers::JSON, Bytes::from(json::final_answer(&response)))
        } else {
            (headers::PROTOBUF, Bytes::from(response.encode_to_vec()))
        };
        let error = match &response.result {
            Some(v1::llm_response::Result::Error(error)) => error.kind().known(),
            _ => None,
        };
        let mut head = Headers::new()
            .with(headers::CONTENT_TYPE, content_type)
            .with(headers::TYPE, "final")
            .with(headers::BODY_DIGEST, &self.body_digest);
        if let Some(kind) = error {
            head.set(headers::ERROR, kind.as_str());
        }
        self.may_speak().await?;
        let retryable = self.job && error.is_some_and(|kind| kind.disposition() == Disposition::Nak);
        // A job that failed in passing is run again by its runner: its answer is not final yet.
        if self.keep && !retryable {
            self.store(head.clone(), bytes.clone()).await;
        }
        if !self.to.is_empty()
            && let Err(error) = self.bus.publish(&self.to, head, bytes).await
        {
            tracing::warn!(request = self.request.as_str(), %error, "a final answer was not sent");
        }
        Ok(())
    }

    /// Puts an answer that is too large for one message into the object store.
    async fn fit(&self, mut response: v1::LlmResponse) -> v1::LlmResponse {
        /// Room for headers and the report.
        const ENVELOPE: usize = 64 * 1024;
        let Some(v1::llm_response::Result::Raw(raw)) = &response.result else { return response };
        if raw.bytes.len() + ENVELOPE <= self.bus.max_payload() {
            return response;
        }
        let (dialect, bytes) = (raw.dialect, raw.bytes.clone());
        response.result = Some(match self.bus.put_object(topology::BODIES, bytes).await {
            Ok(object) => v1::llm_response::Result::Stored(v1::StoredBody {
                dialect,
                object: Some(v1::ObjectRef {
                    bucket: object.bucket,
                    name: object.name,
                    size: object.size,
                    digest: object.digest,
                }),
            }),
            Err(error) => {
                let message = format!("the answer is too large for one message and could not be stored: {error}");
                v1::llm_response::Result::Error(Fault::new(ErrorKind::TooLarge, message).into())
            }
        });
        response
    }

    async fn store(&self, head: Headers, bytes: Bytes) {
        let subject = self.tenancy.response(&self.project, &self.request);
        let mut tries = 0;
        loop {
            tries += 1;
            // An unclear try may have been stored, and those who listen on the subject hear every try.
            if tries > 1 && matches!(self.bus.last_by_subject(topology::RESULTS, &subject).await, Ok(Some(_))) {
                return;
            }
            let fence = Fence::after_subject_seq(0);
            let stored = self.bus.store(&subject, head.clone(), fence, bytes.clone(), self.store_timeout).await;
            match stored {
                // The first answer is the answer.
                Ok(_) | Err(StoreError::WrongLastSequence { .. }) => return,
                Err(error) if tries >= 5 => {
                    tracing::error!(request = self.request.as_str(), %error, "a final answer was not kept");
                    return;
                }
                Err(error) => tracing::warn!(request = self.request.as_str(), %error, "keeping an answer again"),
            }
            tokio::time::sleep(self.store_timeout / 10).await;
        }
    }
}
