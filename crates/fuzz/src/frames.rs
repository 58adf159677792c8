//! Inputs taken apart into frames and put together again.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// The form of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One JSON value.
    Json,
    /// One JSON value to a line.
    Lines,
    ServerSentEvents,
    /// An array of objects, streamed.
    Array,
    /// Amazon's event stream.
    EventStream,
    /// The same with another dialect's events in its messages, in base64.
    Invoked,
    /// No form that is known here.
    Bytes,
}

const PRELUDE: usize = 12;
const CRC: usize = 4;

impl Shape {
    pub(crate) fn split(self, input: &[u8]) -> Vec<Vec<u8>> {
        match self {
            Shape::Json | Shape::Bytes => vec![input.to_vec()],
            Shape::Lines => input.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect(),
            Shape::ServerSentEvents => split_events(input),
            Shape::Array => serde_json::from_slice::<Vec<Value>>(input)
                .map_or_else(|_| vec![input.to_vec()], |items| items.iter().map(|v| v.to_string().into()).collect()),
            Shape::EventStream | Shape::Invoked => split_messages(input),
        }
    }

    pub(crate) fn join(self, frames: &[Vec<u8>]) -> Vec<u8> {
        match self {
            Shape::Array => [b"[".to_vec(), frames.join(&b",\n"[..]), b"]".to_vec()].concat(),
            _ => frames.concat(),
        }
    }

    /// The frame with its JSON text changed, all that surrounds it made to fit. `None`: there is no JSON in it.
    pub(crate) fn edit(self, frame: &[u8], change: impl FnOnce(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
        match self {
            Shape::Bytes => None,
            Shape::Json | Shape::Lines | Shape::Array => {
                let mut changed = change(frame)?;
                if self == Shape::Lines {
                    changed.push(b'\n');
                }
                Some(changed)
            }
            Shape::ServerSentEvents => {
                let at = frame.windows(5).position(|w| w == b"data:")? + 5;
                let end = at + frame[at..].iter().position(|b| *b == b'\n').unwrap_or(frame.len() - at);
                Some([&frame[..at], &change(&frame[at..end])?, &frame[end..]].concat())
            }
            Shape::EventStream | Shape::Invoked => {
                let (headers, payload) = headers_and_payload(frame)?;
                let payload = if self == Shape::EventStream {
                    change(payload)?
                } else {
                    let chunk: Value = serde_json::from_slice(payload).ok()?;
                    invoked(&change(&STANDARD.decode(chunk["bytes"].as_str()?).ok()?)?)
                };
                Some(message(headers, &payload))
            }
        }
    }
}

fn split_events(input: &[u8]) -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = vec![Vec::new()];
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        if let Some(last) = frames.last_mut() {
            last.extend_from_slice(line);
        }
        if matches!(line, b"\n" | b"\r\n") {
            frames.push(Vec::new());
        }
    }
    frames.retain(|frame| !frame.is_empty());
    frames
}

fn split_messages(mut input: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some(length) = number(input, 0).filter(|length| (PRELUDE + CRC..=input.len()).contains(length)) {
        let (frame, rest) = input.split_at(length);
        frames.push(frame.to_vec());
        input = rest;
    }
    if !input.is_empty() {
        frames.push(input.to_vec());
    }
    frames
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(four)).ok()
}

fn headers_and_payload(frame: &[u8]) -> Option<(&[u8], &[u8])> {
    let room = frame.len().checked_sub(PRELUDE + CRC)?;
    let headers = number(frame, 4).filter(|headers| *headers <= room)?;
    Some((&frame[PRELUDE..PRELUDE + headers], &frame[PRELUDE + headers..frame.len() - CRC]))
}

/// A message of an event stream, with sound checksums.
pub(crate) fn message(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let size = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let mut out = size(PRELUDE + headers.len() + payload.len() + CRC).to_vec();
    out.extend(size(headers.len()));
    out.extend(crc32fast::hash(&out).to_be_bytes());
    out.extend_from_slice(headers);
    out.extend_from_slice(payload);
    out.extend(crc32fast::hash(&out).to_be_bytes());
    out
}

/// The payload in which Bedrock sends another dialect's event.
fn invoked(event: &[u8]) -> Vec<u8> {
    json!({"bytes": STANDARD.encode(event), "p": "abc"}).to_string().into()
}

/// Server-sent events as InvokeModel would send them.
pub(crate) fn as_invoked(events: &[u8]) -> Vec<u8> {
    const HEADERS: &[u8] = b"\x0b:event-type\x07\x00\x05chunk\x0d:message-type\x07\x00\x05event";
    let data = |event: Vec<u8>| {
        let at = event.windows(5).position(|w| w == b"data:")? + 5;
        Some(message(HEADERS, &invoked(event[at..].trim_ascii())))
    };
    split_events(events).into_iter().filter_map(data).flatten().collect()
}
