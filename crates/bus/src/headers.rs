//! Headers of a message: a short list, because almost everything travels in the payload.

use async_nats::HeaderMap;

/// W3C trace context, the one header that every message may carry.
pub const TRACEPARENT: &str = "traceparent";

pub(crate) const MSG_ID: &str = "Nats-Msg-Id";
pub(crate) const EXPECTED_LAST_SUBJECT_SEQ: &str = "Nats-Expected-Last-Subject-Sequence";
pub(crate) const EXPECTED_LAST_SEQ: &str = "Nats-Expected-Last-Sequence";
pub(crate) const TTL: &str = "Nats-TTL";
pub(crate) const KV_OPERATION: &str = "KV-Operation";
pub(crate) const COPIED_FROM: &str = "Nats-Stream-Source";
pub(crate) const MARKER_REASON: &str = "Nats-Marker-Reason";
pub(crate) const SEQUENCE: &str = "Nats-Sequence";
pub(crate) const SUBJECT: &str = "Nats-Subject";
pub(crate) const TIME_STAMP: &str = "Nats-Time-Stamp";
pub(crate) const REQUEST_INFO: &str = "Nats-Request-Info";

/// Headers by name, each a line. Names are compared exactly as written, as NATS does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(String);

impl Headers {
    pub fn new() -> Headers {
        Headers::default()
    }

    /// Several at once, of different names: one allocation, and nothing is looked for.
    pub fn of<const N: usize>(headers: [(&str, &str); N]) -> Headers {
        let room = headers.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        let empty = Headers(String::with_capacity(room));
        headers.into_iter().fold(empty, |headers, (name, value)| headers.and(name, value))
    }

    /// The same headers with `name` set. A value that would break the header block loses its line breaks; a name
    /// that cannot be a header name is left out.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Headers {
        self.set(name, value);
        self
    }

    pub fn set(&mut self, name: &str, value: &str) {
        if self.get(name).is_some() {
            let others = self.lines().filter(|(other, _)| *other != name);
            *self = others.fold(Headers::new(), |kept, (name, value)| kept.and(name, value));
        }
        *self = std::mem::take(self).and(name, value);
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.lines().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    pub fn traceparent(&self) -> Option<&str> {
        self.get(TRACEPARENT)
    }

    #[must_use]
    pub fn with_traceparent(self, traceparent: &str) -> Headers {
        self.with(TRACEPARENT, traceparent)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn from_map(map: &HeaderMap) -> Headers {
        let lines = map.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
        lines.fold(Headers::new(), |headers, (name, value)| headers.and(name.as_ref(), value.as_str()))
    }

    /// `None` when there is nothing to send: a message without a header block is smaller and faster.
    pub(crate) fn into_map(self) -> Option<HeaderMap> {
        let mut map = HeaderMap::new();
        self.lines().for_each(|(name, value)| map.append(name, value));
        (!map.is_empty()).then_some(map)
    }

    fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.split_terminator('\n').filter_map(|line| line.split_once(':'))
    }

    /// One more line, whatever there is.
    fn and(mut self, name: &str, value: &str) -> Headers {
        if name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') {
            self.0.reserve(name.len() + value.len() + 2);
            self.0.push_str(name);
            self.0.push(':');
            match value.bytes().any(|byte| matches!(byte, b'\r' | b'\n')) {
                true => self.0.push_str(&value.replace(['\r', '\n'], " ")),
                false => self.0.push_str(value),
            }
            self.0.push('\n');
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_break_out_of_its_line() {
        let headers = Headers::new().with("X", "a\r\nNats-Msg-Id: forged").with("bad name", "v");
        assert_eq!(headers.get("X"), Some("a  Nats-Msg-Id: forged"));
        assert_eq!(headers.get("Nats-Msg-Id"), None);
        assert_eq!(headers.get("bad name"), None);
    }
}
