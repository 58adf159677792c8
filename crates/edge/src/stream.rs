//! An answer that comes in pieces, as server-sent events.
//!
//! Pieces are taken from the bus as they come and wait here for a client that reads more slowly, up to `buffer_max` bytes
//! and `write_timeout` without one taken; then the client is cut. What ends without its end cuts the connection.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use farebox_dialect::http_stream;
use farebox_proto::v1;
use farebox_types::{ErrorKind, Fault};
use http::{
    HeaderName, HeaderValue,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use http_body::{Frame, SizeHint};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    call::{Call, Heard, Origin, Piece},
    facts,
    options::Options,
};

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
/// What proxies are told that would collect a stream before they pass it on.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The answer to a request whose first piece is here, or has been waited for.
pub(crate) fn answer(origin: &Origin, call: Call, first: Option<Piece>) -> Response {
    let (to, from) = mpsc::unbounded_channel();
    let flow = Arc::new(Flow::default());
    let mut response = event_stream(Body::new(Events { from, flow: flow.clone() }));
    let facts = origin.facts();
    facts.asked(response.headers_mut());
    if let Some(begun) = first.as_ref().and_then(|piece| piece.begun.as_ref()) {
        facts.begun(response.headers_mut(), begun);
    }
    let now = Instant::now();
    let writer = Writer { origin: origin.clone(), to, flow, spoke: now, taken: 0, moved: now };
    origin.app.deps.tasks.spawn("stream", writer.carry(call, first));
    response
}

/// The stream of a whole answer.
pub(crate) fn replay(origin: &Origin, last: &v1::LlmResponse, body: &[u8]) -> Result<Response, Fault> {
    let mut out = Vec::with_capacity(body.len() * 2);
    write_whole(origin, body, &mut out)?;
    write_end(origin, last, &mut out);
    Ok(event_stream(Body::from(out)))
}

fn event_stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, EVENT_STREAM);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

fn write_whole(_origin: &Origin, _body: &[u8], _out: &mut Vec<u8>) -> Result<(), Fault> {
    let message = "this was answered before, and its answer is there as a whole only: repeat it without `stream`";
    Err(Fault::new(ErrorKind::Unsupported, message))
}

fn write_end(origin: &Origin, last: &v1::LlmResponse, out: &mut Vec<u8>) {
    if origin.facts_in_body {
        let facts = facts::object(last, origin.arrived.elapsed());
        out.extend_from_slice(format!(": farebox {facts}\n\n").as_bytes());
    }
    out.extend_from_slice(http_stream::end(origin.dialect));
}

/// What waits for a client.
#[derive(Default)]
struct Flow {
    /// Bytes.
    waiting: AtomicUsize,
    /// Frames that it took.
    taken: AtomicU64,
    /// All was said, so that the end is an end.
    is_whole: AtomicBool,
}

/// The client is gone, or was cut.
struct Ended;

/// Brings one call's pieces to its client.
struct Writer {
    origin: Origin,
    to: mpsc::UnboundedSender<Bytes>,
    flow: Arc<Flow>,
    /// When anything was said last.
    spoke: Instant,
    /// Frames that the client had taken at `moved`.
    taken: u64,
    moved: Instant,
}

impl Writer {
    /// To the end of the call, or of its client: then the call, dropped here, is stopped.
    async fn carry(mut self, mut call: Call, first: Option<Piece>) {
        let begun = match first {
            Some(piece) => self.write(|origin, out| http_stream::write(origin.dialect, &piece.payload, out)),
            None => self.ping(),
        };
        if begun.is_ok() && self.bring(&mut call).await.is_ok() {
            self.flow.is_whole.store(true, Ordering::Release);
        }
    }

    async fn bring(&mut self, call: &mut Call) -> Result<(), Ended> {
        loop {
            tokio::select! {
                () = self.to.closed() => return Err(Ended),
                () = sleep_until(self.due()) => self.look()?,
                heard = call.next() => match heard {
                    Ok(Heard::Piece(piece)) => {
                        self.write(|origin, out| http_stream::write(origin.dialect, &piece.payload, out))?;
                    }
                    Ok(Heard::Final(last)) => return self.finish(call, *last).await,
                    Err(fault) => return self.fail(call, &fault),
                },
            }
        }
    }

    async fn finish(&mut self, call: &Call, mut last: v1::LlmResponse) -> Result<(), Ended> {
        let body = match call.take_body(&mut last).await {
            Ok(body) => body,
            Err(fault) => return self.fail(call, &fault),
        };
        let sent = call.pieces();
        if sent > 0 && sent != last.chunks {
            let message = "a piece of the answer was lost on its way: ask again";
            return self.fail(call, &Fault::new(ErrorKind::Truncated, message));
        }
        let mut out = Vec::with_capacity(1024);
        if sent == 0
            && let Err(fault) = write_whole(&self.origin, &body, &mut out)
        {
            return self.fail(call, &fault);
        }
        write_end(&self.origin, &last, &mut out);
        if out.is_empty() { Ok(()) } else { self.send(out.into()) }
    }

    /// Ends the stream with an error, in the caller's shape and without what stands at the end of a whole one.
    fn fail(&mut self, call: &Call, fault: &Fault) -> Result<(), Ended> {
        tracing::debug!(request = self.origin.request_id, kind = %fault.kind, message = %fault.message, "a stream broke off");
        self.write(|origin, out| {
            let id = format!("farebox-{}", origin.request_id);
            http_stream::write_failure(origin.dialect, fault, &id, call.pieces(), out);
        })
    }

    fn options(&self) -> &Options {
        &self.origin.app.options
    }

    /// When there is something to say or to look at, whatever comes.
    fn due(&self) -> Instant {
        let ping = self.spoke + self.options().ping_interval.get();
        if self.flow.waiting.load(Ordering::Acquire) == 0 {
            return ping;
        }
        ping.min(self.moved + self.options().write_timeout.get())
    }

    fn look(&mut self) -> Result<(), Ended> {
        self.check(0)?;
        if self.spoke.elapsed() >= self.options().ping_interval.get() { self.ping() } else { Ok(()) }
    }

    fn ping(&mut self) -> Result<(), Ended> {
        self.send(http_stream::ping(self.origin.dialect))
    }

    fn write(&mut self, write: impl FnOnce(&Origin, &mut Vec<u8>)) -> Result<(), Ended> {
        let mut out = Vec::with_capacity(1024);
        write(&self.origin, &mut out);
        if out.is_empty() { Ok(()) } else { self.send(out.into()) }
    }

    fn send(&mut self, frame: Bytes) -> Result<(), Ended> {
        self.check(frame.len())?;
        self.spoke = Instant::now();
        self.flow.waiting.fetch_add(frame.len(), Ordering::AcqRel);
        self.to.send(frame).map_err(|_| Ended)
    }

    /// Cuts a client that reads too slowly to be given `more`.
    fn check(&mut self, more: usize) -> Result<(), Ended> {
        let (waiting, taken) = (self.flow.waiting.load(Ordering::Acquire), self.flow.taken.load(Ordering::Acquire));
        if waiting == 0 || taken != self.taken {
            (self.taken, self.moved) = (taken, Instant::now());
        }
        let full = waiting > 0 && waiting + more > self.options().buffer_max.len();
        if !full && self.moved.elapsed() < self.options().write_timeout.get() {
            return Ok(());
        }
        let count = self.origin.app.slow_readers.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::debug!(request = self.origin.request_id, waiting, count, "a client reads too slowly and was cut");
        Err(Ended)
    }
}

/// A response's body.
struct Events {
    from: mpsc::UnboundedReceiver<Bytes>,
    flow: Arc<Flow>,
}

/// The answer is not whole, and the connection cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("a stream broke off before its end")]
struct BrokenOff;

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.from.poll_recv(cx).map(|next| match next {
            Some(bytes) => {
                self.flow.waiting.fetch_sub(bytes.len(), Ordering::AcqRel);
                self.flow.taken.fetch_add(1, Ordering::AcqRel);
                Some(Ok(Frame::data(bytes)))
            }
            None if self.flow.is_whole.load(Ordering::Acquire) => None,
            None => Some(Err(BrokenOff)),
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
