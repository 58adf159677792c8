//! What an exchange's answer carries, and the bytes that carried it: each API's framing, both ways.

use serde_json::Value;

use crate::{
    exchange::{Body, Exchange},
    family::{Family, Host},
    wire::{self, Frame},
};

#[derive(Clone, Debug)]
pub(crate) enum Carried {
    Whole(Value),
    Stream(Vec<Frame>),
}

#[derive(Clone, Copy, PartialEq)]
enum Framing {
    Sse,
    Lines,
    EventStream,
    /// An event stream around the events of another API.
    Wrapped,
}

fn framing(family: Family, host: Host) -> Framing {
    match (family, host) {
        (_, Host::Invoke) => Framing::Wrapped,
        (Family::Converse, _) => Framing::EventStream,
        (Family::Ollama, _) => Framing::Lines,
        _ => Framing::Sse,
    }
}

/// `Err`: why it cannot be read.
pub(crate) fn read(exchange: &Exchange, family: Family, host: Host) -> Result<Carried, String> {
    let text = match &exchange.body {
        Body::Json(text) => {
            let value: Value =
                serde_json::from_str(text).map_err(|error| format!("a body that is no JSON: {error}"))?;
            return Ok(match value {
                // Google's streams without `alt=sse` are one array.
                Value::Array(chunks) if family == Family::Gemini => Carried::Stream(made(&chunks, family)),
                whole => Carried::Whole(whole),
            });
        }
        Body::Events(events) => return Ok(Carried::Stream(made(events, family))),
        Body::Binary(bytes) => {
            let frames = wire::event_stream(bytes)?;
            return Ok(Carried::Stream(match framing(family, host) {
                Framing::Wrapped => frames.iter().filter_map(wire::unwrap).collect(),
                _ => frames,
            }));
        }
        Body::Text(text) => text,
    };
    if let Ok(chunks) = serde_json::from_str::<Vec<Value>>(text) {
        return Ok(Carried::Stream(made(&chunks, family)));
    }
    let frames = match framing(family, host) {
        Framing::Sse => wire::sse(text),
        Framing::Lines => wire::lines(text),
        Framing::EventStream | Framing::Wrapped => Vec::new(),
    };
    if frames.is_empty() {
        return Err("text that is no stream of this API".to_owned());
    }
    Ok(Carried::Stream(frames))
}

/// The bytes as they came. Where only payloads were kept (`events`), they are framed here as the real wire does it, with
/// its closing mark.
pub(crate) fn bytes(exchange: &Exchange, family: Family, host: Host) -> Result<Vec<u8>, String> {
    Ok(match &exchange.body {
        Body::Text(text) | Body::Json(text) => text.clone().into_bytes(),
        Body::Binary(bytes) => bytes.clone(),
        Body::Events(events) => framed(&made(events, family), family, host),
    })
}

/// The exchange with other frames in its stream.
pub(crate) fn with_frames(exchange: &Exchange, frames: &[Frame], family: Family, host: Host) -> Exchange {
    let bytes = framed(frames, family, host);
    let body = match framing(family, host) {
        Framing::EventStream | Framing::Wrapped => Body::Binary(bytes),
        Framing::Sse | Framing::Lines => Body::Text(String::from_utf8_lossy(&bytes).into_owned()),
    };
    Exchange { body, ..exchange.clone() }
}

fn framed(frames: &[Frame], family: Family, host: Host) -> Vec<u8> {
    match framing(family, host) {
        Framing::Sse => wire::to_sse(frames).into_bytes(),
        Framing::Lines => wire::to_lines(frames).into_bytes(),
        Framing::EventStream => wire::to_event_stream(frames),
        Framing::Wrapped => {
            wire::to_event_stream(&frames.iter().map(|frame| wire::wrap(&frame.data)).collect::<Vec<_>>())
        }
    }
}

/// Payloads under the names that their API gives its frames, and the mark that ends its streams.
fn made(events: &[Value], family: Family) -> Vec<Frame> {
    let one = |event: &Value| match (family, event.as_object()) {
        (Family::Converse, Some(named)) if named.len() == 1 => {
            let (name, payload) = named.iter().next().expect("it has one member");
            Frame { event: name.clone(), data: payload.to_string() }
        }
        (Family::Anthropic | Family::Responses | Family::CohereChat, _) => {
            Frame { event: event["type"].as_str().unwrap_or_default().to_owned(), data: event.to_string() }
        }
        _ => Frame { event: String::new(), data: event.to_string() },
    };
    let mut frames: Vec<Frame> = events.iter().map(one).collect();
    if matches!(family, Family::Chat | Family::Completions | Family::CohereChat) {
        frames.push(Frame { event: String::new(), data: "[DONE]".to_owned() });
    }
    frames
}
