//! An answer that comes in pieces, as server-sent events.
//!
//! Pieces are taken from the bus as they come, and wait in a [`Flow`] for a client that reads more slowly.

use std::pin::pin;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use farebox_dialect::{as_stream, http_stream};
use farebox_proto::v1;
use farebox_types::{ErrorKind, Fault};
use http::{
    HeaderName, HeaderValue,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use tokio::time::{Instant, sleep_until};

use crate::{
    call::{Call, Heard, Origin, Piece, away},
    facts,
    flow::{Bounds, Ended, Flow, flow},
};

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
/// What proxies are told that would collect a stream before they pass it on.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The answer to a request whose first piece is here, or has been waited for.
pub(crate) fn answer(origin: &Origin, call: Call, first: Option<Piece>) -> Response {
    let options = &origin.app.options;
    let (flow, outflow) = flow(Bounds { bytes: options.buffer_max.len(), patience: options.write_timeout.get() });
    let mut response = event_stream(Body::new(outflow));
    let facts = origin.facts();
    facts.asked(response.headers_mut());
    if let Some(begun) = first.as_ref().and_then(|piece| piece.begun.as_ref()) {
        facts.begun(response.headers_mut(), begun);
    }
    let writer = Writer { origin: origin.clone(), flow, spoke: Instant::now() };
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

fn write_whole(origin: &Origin, body: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    for payload in as_stream(origin.dialect, body, origin.include_usage)? {
        http_stream::write(origin.dialect, &payload, out);
    }
    Ok(())
}

fn write_end(origin: &Origin, last: &v1::LlmResponse, out: &mut Vec<u8>) {
    if origin.facts_in_body {
        let facts = facts::object(last, origin.arrived.elapsed());
        out.extend_from_slice(format!(": farebox {facts}\n\n").as_bytes());
    }
    out.extend_from_slice(http_stream::end(origin.dialect));
}

/// Brings one call's pieces to its client.
struct Writer {
    origin: Origin,
    flow: Flow,
    /// When anything was said last.
    spoke: Instant,
}

impl Writer {
    /// To the end of the call, or of its client: then the call, dropped here, is stopped.
    async fn carry(mut self, mut call: Call, first: Option<Piece>) {
        let brought = match first {
            Some(piece) => self.bring(&piece),
            None => self.ping(),
        };
        let brought = match brought {
            Ok(()) => self.follow(&mut call).await,
            ended => ended,
        };
        match brought {
            Ok(()) => self.flow.finish(),
            Err(Ended::Gone) => tracing::debug!(request = self.origin.request_id, "the client has gone"),
            Err(Ended::TooSlow(waiting)) => {
                tracing::debug!(request = self.origin.request_id, waiting, "a client reads too slowly and was cut");
            }
        }
    }

    async fn follow(&mut self, call: &mut Call) -> Result<(), Ended> {
        // Set up once and not for every piece: timers and signals are shared by all streams.
        let app = self.origin.app.clone();
        let (mut gone, mut cut) = (pin!(self.flow.gone()), pin!(app.cut.signaled()));
        let mut alarm = pin!(sleep_until(self.due()));
        loop {
            let due = self.due();
            if due < alarm.deadline() {
                alarm.as_mut().reset(due);
            }
            tokio::select! {
                // What comes is mostly what woke this task: then the rest need not be looked at.
                biased;
                heard = call.next() => match heard {
                    Ok(Heard::Piece(piece)) => self.bring(&piece)?,
                    Ok(Heard::Final(last)) => return self.finish(call, *last).await,
                    Err(fault) => return self.fail(call, &fault),
                },
                () = gone.as_mut() => return Err(Ended::Gone),
                () = cut.as_mut() => return self.fail(call, &away("this farebox is being stopped")),
                () = alarm.as_mut() => {
                    self.flow.look()?;
                    if Instant::now() >= self.ping_due() {
                        self.ping()?;
                    }
                    alarm.as_mut().reset(self.due());
                }
            }
        }
    }

    fn ping_due(&self) -> Instant {
        self.spoke + self.origin.app.options.ping_interval.get()
    }

    /// When there is something to do even if nothing comes.
    fn due(&self) -> Instant {
        let ping = self.ping_due();
        self.flow.due().map_or(ping, |late| late.min(ping))
    }

    async fn finish(&mut self, call: &mut Call, mut last: v1::LlmResponse) -> Result<(), Ended> {
        let mut out = Vec::with_capacity(1024);
        let written = match call.pieces() {
            0 => call.take_body(&mut last).await.and_then(|body| write_whole(&self.origin, &body, &mut out)),
            sent => call.leave_body(&last).and_then(|()| match last.chunks {
                chunks if chunks == sent => Ok(()),
                _ => Err(Fault::new(ErrorKind::Truncated, "a piece of the answer was lost on its way: ask again")),
            }),
        };
        if let Err(fault) = written {
            return self.fail(call, &fault);
        }
        write_end(&self.origin, &last, &mut out);
        if out.is_empty() { Ok(()) } else { self.say(out.into()) }
    }

    /// Ends the stream with an error, in the caller's shape and without what stands at the end of a whole one.
    fn fail(&mut self, call: &Call, fault: &Fault) -> Result<(), Ended> {
        let Origin { request_id, dialect, .. } = &self.origin;
        tracing::debug!(request = request_id, kind = %fault.kind, "a stream broke off");
        let mut out = Vec::with_capacity(1024);
        http_stream::write_failure(*dialect, fault, &format!("farebox-{request_id}"), call.pieces(), &mut out);
        self.say(out.into())
    }

    fn bring(&mut self, piece: &Piece) -> Result<(), Ended> {
        let mut out = Vec::with_capacity(piece.payload.len() + 64);
        http_stream::write(self.origin.dialect, &piece.payload, &mut out);
        self.say(out.into())
    }

    fn ping(&mut self) -> Result<(), Ended> {
        self.say(http_stream::ping(self.origin.dialect))
    }

    fn say(&mut self, frame: Bytes) -> Result<(), Ended> {
        self.spoke = Instant::now();
        self.flow.push(frame)
    }
}
