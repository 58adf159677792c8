//! Server-sent events are asked for; a server or proxy that does not know them sends a JSON array instead, and so come
//! some errors. The first byte tells which.

use crate::{
    error::FrameError,
    framing::{Frame, Framing, json_array::JsonArray, sse::Sse},
};

pub(super) enum EventsOrArray {
    Untold(usize),
    Events(Sse),
    Array(JsonArray),
}

impl EventsOrArray {
    /// `limit` bounds one event or element.
    pub(super) fn new(limit: usize) -> EventsOrArray {
        EventsOrArray::Untold(limit)
    }
}

impl Framing for EventsOrArray {
    fn push(&mut self, bytes: &[u8]) {
        if let EventsOrArray::Untold(limit) = *self {
            // White space in front means nothing in either form.
            match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
                None => return,
                Some(b'[') => *self = EventsOrArray::Array(JsonArray::new(limit)),
                Some(_) => *self = EventsOrArray::Events(Sse::new(limit)),
            }
        }
        match self {
            EventsOrArray::Untold(_) => {}
            EventsOrArray::Events(sse) => sse.push(bytes),
            EventsOrArray::Array(array) => array.push(bytes),
        }
    }

    fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        match self {
            EventsOrArray::Untold(_) => Ok(None),
            EventsOrArray::Events(sse) => sse.next_frame(),
            EventsOrArray::Array(array) => array.next_frame(),
        }
    }

    fn finish(&mut self) -> Option<Frame<'_>> {
        match self {
            EventsOrArray::Untold(_) => None,
            EventsOrArray::Events(sse) => sse.finish(),
            EventsOrArray::Array(array) => array.finish(),
        }
    }
}
