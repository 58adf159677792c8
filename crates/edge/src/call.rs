//! One call on the bus, from a request over HTTP to its answer.

use std::{pin::Pin, sync::Arc, time::Duration};

use axum::response::Response;
use bytes::Bytes;
use farebox_bus::{Delivery, Headers, Inbox, ObjectError, ObjectRef, PublishError, topology};
use farebox_dialect::{DialectName, Outline, outline};
use farebox_proto::{headers, json, subjects, v1};
use farebox_types::{ErrorKind, Fault, Timestamp};
use http::request::Parts;
use prost::Message;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::{
    access::Caller,
    app::App,
    ask::{self, Ask},
    doubt::Doubt,
    facts::Facts,
    failure::{self, Shape},
    stream, whole,
};

/// When to come back to who found a part of farebox away.
const COME_BACK: Duration = Duration::from_secs(1);
/// How often a cancel is said again: intake, which may still be waiting for the guard, hands each on for as long.
const CANCEL_AGAIN: Duration = Duration::from_secs(3);

/// Answers a request in a dialect that callers speak.
pub(crate) async fn handle(app: Arc<App>, dialect: DialectName, caller: Caller, head: Parts, body: Bytes) -> Response {
    let (arrived, now) = (Instant::now(), app.deps.clock.now());
    let ask = match ask::read(&head, dialect, &caller, &app.options, now) {
        Ok(ask) => ask,
        Err(fault) => return failure::in_dialect(dialect, &fault),
    };
    let request_id = ask.request_id().to_owned();
    let (facts_in_body, is_kept) = (ask.facts_in_body, ask.request.id_chosen);
    let origin = Origin { app, dialect, request_id, facts_in_body, is_kept, include_usage: false, arrived };
    let traceparent = head.headers.get(headers::TRACEPARENT).and_then(|value| value.to_str().ok());
    match answer(origin.clone(), ask, body, traceparent).await {
        Ok(response) => response,
        Err(fault) => origin.refusal(&fault, None),
    }
}

/// Until the first piece is there, or has been waited for, a failure has a status of its own.
async fn answer(origin: Origin, ask: Ask, body: Bytes, traceparent: Option<&str>) -> Result<Response, Fault> {
    let mut call = Call::begin(origin.app.clone(), origin.dialect, ask, body.clone(), traceparent).await?;
    // Looked into only where what comes does not tell whether a stream was asked for.
    let asked = |body: &Bytes| outline(origin.dialect, body).unwrap_or_default();
    let (heard, include_usage) = match timeout(origin.app.options.first_piece_wait.get(), call.next()).await {
        Ok(heard) => {
            let heard = heard?;
            let is_replay = matches!(&heard, Heard::Final(last) if last.chunks > 0);
            (heard, is_replay && asked(&body).include_usage)
        }
        Err(_) => {
            let Outline { stream, include_usage, .. } = asked(&body);
            drop(body);
            if stream {
                return Ok(stream::answer(&Origin { include_usage, ..origin }, call, None));
            }
            (call.next().await?, include_usage)
        }
    };
    match heard {
        Heard::Piece(piece) => Ok(stream::answer(&origin, call, Some(piece))),
        Heard::Final(mut last) => {
            let body = call.take_body(&mut last).await;
            Ok(whole::answer(&Origin { include_usage, ..origin }, &last, body))
        }
    }
}

/// A request, as its answer needs it.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) app: Arc<App>,
    pub(crate) dialect: DialectName,
    pub(crate) request_id: String,
    pub(crate) facts_in_body: bool,
    /// The answer is, under a key of the caller's; a refusal before any attempt is not.
    pub(crate) is_kept: bool,
    /// Of a stream that is written from the whole answer: whether its usage is wanted.
    pub(crate) include_usage: bool,
    pub(crate) arrived: Instant,
}

impl Origin {
    pub(crate) fn facts(&self) -> Facts<'_> {
        let now = self.app.deps.clock.now();
        Facts { shape: Shape::of(self.dialect), request_id: &self.request_id, now }
    }

    pub(crate) fn refusal(&self, fault: &Fault, last: Option<&v1::LlmResponse>) -> Response {
        let mut response = failure::in_dialect(self.dialect, fault);
        let facts = self.facts();
        facts.asked(response.headers_mut());
        if let Some(report) = last.and_then(|last| last.report.as_ref()) {
            facts.ended(response.headers_mut(), report, self.arrived.elapsed());
            if self.is_kept {
                failure::settled(response.headers_mut());
            }
        }
        if let Some(v1::llm_response::Result::Error(error)) = last.and_then(|last| last.result.as_ref()) {
            facts.limits(response.headers_mut(), &error.limits);
        }
        response
    }
}

/// What arrives of an answer.
pub(crate) enum Heard {
    Piece(Piece),
    Final(Box<v1::LlmResponse>),
}

/// One event of a stream.
pub(crate) struct Piece {
    pub(crate) payload: Bytes,
    /// On the first one.
    pub(crate) begun: Option<v1::CallBegun>,
}

/// A call that is under way. Dropped before its final answer, it is stopped.
pub(crate) struct Call {
    app: Arc<App>,
    inbox: Inbox,
    cancel: v1::EdgeCancel,
    /// Its caller may come again for the answer: it goes on when the caller has gone.
    is_kept: bool,
    /// Asked for, and not answered yet.
    is_open: bool,
    /// Ends when its final answer is no longer waited for.
    late: Pin<Box<Sleep>>,
    doubt: Doubt,
    /// Pieces that have come.
    pieces: u64,
    /// The request's body, where it was too large for a message.
    stored: Option<ObjectRef>,
}

impl Call {
    async fn begin(
        app: Arc<App>,
        dialect: DialectName,
        ask: Ask,
        body: Bytes,
        traceparent: Option<&str>,
    ) -> Result<Call, Fault> {
        let bus = &app.deps.bus;
        if !bus.is_connected() {
            return Err(away("farebox has lost its connection to NATS"));
        }
        let Ask { request, deadline, .. } = ask;
        let inbox = bus.inbox();
        let mut call = Call {
            doubt: Doubt::new(bus, inbox.subject(), app.deps.clock.now(), &app.options),
            inbox,
            cancel: v1::EdgeCancel {
                principal: request.principal.clone(),
                request_id: request.request.as_ref().map(|r| r.request_id.clone()).unwrap_or_default(),
                caller_gone: true,
            },
            is_kept: request.id_chosen,
            is_open: false,
            late: Box::pin(sleep_until(until(&app, deadline))),
            pieces: 0,
            stored: None,
            app,
        };
        let message = call.with_body(request, dialect, body).await?;
        let head = traceparent.map_or_else(Headers::new, |parent| Headers::new().with_traceparent(parent));
        let (bus, reply) = (&call.app.deps.bus, call.inbox.subject());
        bus.publish_with_reply(subjects::EDGE_REQUEST, &reply, head, message.into()).await.map_err(unsent)?;
        call.is_open = true;
        Ok(call)
    }

    /// The message, with the body in it where there is room.
    async fn with_body(
        &mut self,
        mut message: v1::EdgeRequest,
        dialect: DialectName,
        body: Bytes,
    ) -> Result<Vec<u8>, Fault> {
        let dialect = v1::Dialect::from(dialect).into();
        let request = message.request.get_or_insert_default();
        request.body = Some(v1::llm_request::Body::Raw(v1::RawBody { dialect, bytes: body.clone() }));
        let bus = &self.app.deps.bus;
        if message.encoded_len() > bus.max_payload() {
            let object = bus.put_object(topology::BODIES, body, self.left()).await.map_err(unstored)?;
            let stored = v1::StoredBody { dialect, object: Some(object.clone().into()) };
            self.stored = Some(object);
            message.request.get_or_insert_default().body = Some(v1::llm_request::Body::Stored(stored));
        }
        Ok(message.encode_to_vec())
    }

    /// How long the final answer is still waited for.
    fn left(&self) -> Duration {
        self.late.deadline().saturating_duration_since(Instant::now())
    }

    pub(crate) fn pieces(&self) -> u64 {
        self.pieces
    }

    /// What comes next. Dropped while it waits, it loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Heard, Fault> {
        loop {
            let heard = tokio::select! {
                biased;
                heard = self.inbox.next() => heard,
                () = self.late.as_mut() => {
                    self.cancel.caller_gone = false;
                    let message = "there was no whole answer before the request's deadline (farebox-timeout)";
                    return Err(Fault::new(ErrorKind::DeadlineExceeded, message));
                }
                fault = self.doubt.despair(&self.cancel) => {
                    self.cancel.caller_gone = false;
                    // What is over needs no cancel.
                    self.is_open = fault.kind != ErrorKind::Lost;
                    return Err(fault);
                }
            };
            let Some(delivery) = heard else {
                return Err(self.lost("pieces of the answer came faster than they could be taken"));
            };
            if delivery.is_no_responders() {
                self.is_open = false;
                return Err(away("no intake of farebox is running"));
            }
            match delivery.headers.get(headers::TYPE) {
                Some("chunk") => return self.piece(&delivery).map(Heard::Piece),
                Some("final") => {
                    self.is_open = false;
                    return Ok(Heard::Final(Box::new(read_final(&delivery)?)));
                }
                kind => tracing::debug!(?kind, request = self.cancel.request_id, "an answer that is none"),
            }
        }
    }

    fn piece(&mut self, delivery: &Delivery) -> Result<Piece, Fault> {
        let chunk: v1::LlmChunk = delivery.decode().map_err(garbled)?;
        if chunk.seq != self.pieces {
            return Err(self.lost("a piece of the answer was lost on its way"));
        }
        self.pieces += 1;
        match chunk.piece {
            Some(v1::llm_chunk::Piece::Raw(payload)) => Ok(Piece { payload, begun: chunk.begun }),
            _ => Err(other_form()),
        }
    }

    fn lost(&mut self, what: &str) -> Fault {
        self.cancel.caller_gone = false;
        Fault::new(ErrorKind::Truncated, format!("{what}: ask again"))
    }

    /// The answer's bytes, or why there are none.
    pub(crate) async fn take_body(&mut self, last: &mut v1::LlmResponse) -> Result<Bytes, Fault> {
        use v1::llm_response::Result::{Completion, Error, Raw, Stored};
        match last.result.take() {
            Some(Raw(raw)) => Ok(raw.bytes),
            // It stays: a fault has no room for how limits stand.
            Some(Error(error)) => {
                last.result = Some(Error(error.clone()));
                Err(error.into())
            }
            Some(Stored(stored)) => {
                let object = ObjectRef::from(stored.object.unwrap_or_default());
                let fetched = self.app.deps.bus.get_object(&object, self.left()).await;
                self.leave(object);
                fetched.map_err(|error| self.unfetched(error))
            }
            Some(Completion(_)) | None => Err(other_form()),
        }
    }

    /// What the end says of an answer that came in pieces. Its bytes are not needed again.
    pub(crate) fn leave_body(&self, last: &v1::LlmResponse) -> Result<(), Fault> {
        use v1::llm_response::Result::{Completion, Error, Raw, Stored};
        match &last.result {
            Some(Raw(_)) => Ok(()),
            Some(Error(error)) => Err(error.clone().into()),
            Some(Stored(stored)) => {
                self.leave(stored.object.clone().unwrap_or_default().into());
                Ok(())
            }
            Some(Completion(_)) | None => Err(other_form()),
        }
    }

    /// An answer that was stored is no longer, unless the caller may come again for it.
    fn leave(&self, object: ObjectRef) {
        if !self.is_kept {
            self.app.discard(object);
        }
    }

    fn unfetched(&self, error: ObjectError) -> Fault {
        match error {
            ObjectError::Gone { .. } if self.is_kept => {
                let message = format!(
                    "the request `{}` was answered before, with more than fits into a message, and the answer is no \
                     longer kept: use a new Idempotency-Key to ask again",
                    self.cancel.request_id
                );
                Fault::new(ErrorKind::NotFound, message)
            }
            error if self.is_kept => away(&format!("the answer was stored and cannot be fetched now: {error}")),
            error => {
                let kind = if matches!(error, ObjectError::Late { .. }) { error.kind() } else { ErrorKind::Internal };
                Fault::new(kind, format!("the answer was stored and cannot be fetched: {error}"))
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.is_open {
            if let Some(stored) = self.stored.take() {
                self.app.discard(stored);
            }
            return;
        }
        if self.is_kept {
            return;
        }
        let inbox = std::mem::replace(&mut self.inbox, self.app.deps.bus.inbox());
        let cancel = std::mem::take(&mut self.cancel);
        self.app.deps.tasks.spawn("cancel", self.app.clone().stop(cancel, inbox, self.late.deadline()));
    }
}

impl App {
    /// Says a cancel until a worker has confirmed it, or the call has ended; at the end of this process once.
    async fn stop(self: Arc<App>, cancel: v1::EdgeCancel, mut inbox: Inbox, until: Instant) {
        let (bus, drain) = (&self.deps.bus, self.deps.tasks.drain());
        let (message, reply) = (Bytes::from(cancel.encode_to_vec()), inbox.subject());
        loop {
            if let Err(error) =
                bus.publish_with_reply(subjects::EDGE_CANCEL, &reply, Headers::new(), message.clone()).await
            {
                tracing::debug!(request = cancel.request_id, %error, "a call was not cancelled");
            }
            tokio::select! {
                () = stopped(&mut inbox) => return,
                () = drain.signaled() => return,
                () = sleep_until(until.min(Instant::now() + CANCEL_AGAIN)) => {}
            }
            if Instant::now() >= until {
                return;
            }
        }
    }

    /// Deletes a stored body. One that stays goes by its age.
    fn discard(&self, object: ObjectRef) {
        let bus = self.deps.bus.clone();
        self.deps.tasks.spawn("discard", async move {
            if let Err(error) = bus.delete_object(&object).await {
                tracing::debug!(object = object.name, %error, "a stored body was not deleted");
            }
        });
    }
}

/// Waits for the end of a call that was cancelled, or for the word that it comes.
async fn stopped(inbox: &mut Inbox) {
    while let Some(heard) = inbox.next().await {
        let is_confirmed = || heard.decode::<v1::CancelReceipt>().is_ok_and(|receipt| receipt.cancelled);
        match heard.headers.get(headers::TYPE) {
            Some("final") => return,
            None if is_confirmed() => return,
            _ => {}
        }
    }
}

fn until(app: &App, deadline: Timestamp) -> Instant {
    Instant::now() + deadline.remaining(app.deps.clock.now()) + app.options.answer_grace.get()
}

/// A final answer. One of a request that came over the bus first may be JSON, which says the number of its pieces within.
fn read_final(delivery: &Delivery) -> Result<v1::LlmResponse, Fault> {
    if delivery.headers.get(headers::CONTENT_TYPE) != Some(headers::JSON) {
        return delivery.decode().map_err(garbled);
    }
    let bytes = delivery.payload.clone();
    let said: serde_json::Value = serde_json::from_slice(&bytes).map_err(garbled)?;
    let chunks = said["farebox"]["chunks"].as_u64().unwrap_or_default();
    let result = match json::error_of(&bytes) {
        Some(error) => v1::llm_response::Result::Error(error),
        None => v1::llm_response::Result::Raw(v1::RawBody { bytes, ..Default::default() }),
    };
    Ok(v1::LlmResponse { chunks, result: Some(result), ..Default::default() })
}

pub(crate) fn away(what: &str) -> Fault {
    Fault::new(ErrorKind::Unavailable, format!("{what}: try again in a moment")).retry_after(COME_BACK)
}

fn unsent(error: PublishError) -> Fault {
    match error {
        PublishError::Disconnected { .. } => away("farebox has lost its connection to NATS"),
        other => Fault::new(ErrorKind::Internal, other.to_string()),
    }
}

fn unstored(error: ObjectError) -> Fault {
    match error {
        ObjectError::TooLarge { .. } | ObjectError::Late { .. } => Fault::new(error.kind(), error.to_string()),
        _ => away(&format!("the body is too large for one message, and {error}")),
    }
}

fn other_form() -> Fault {
    garbled("the answer is of another form than the request")
}

fn garbled(error: impl ToString) -> Fault {
    Fault::new(ErrorKind::Internal, error.to_string())
}
