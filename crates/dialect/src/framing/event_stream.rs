//! Amazon's event stream: <https://smithy.io/2.0/aws/amazon-eventstream.html>.
//!
//! ```text
//! message = length headers-length crc(so far) headers payload crc(all before)      numbers: 4 bytes, big-endian
//! header  = name-length(1) name type(1) value
//! ```
//! A length is believed only when its checksum holds. A frame's data is the payload; its event is the `:event-type`,
//! or, where the service broke off, what [`exception`] reads.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::{Frame, Framing};
use crate::error::{FrameError, Oversize};

const PRELUDE: usize = 12;
const CRC: usize = 4;
/// No event type holds a colon: they are names of members in Amazon's interface descriptions.
const EXCEPTION: &str = "exception:";

/// The name of the exception that this frame is; `None`: it is an event. The data of an exception is
/// `{"message": …}`.
pub(crate) fn exception<'a>(frame: &Frame<'a>) -> Option<&'a str> {
    frame.event.strip_prefix(EXCEPTION)
}

/// Cuts a byte stream into messages.
#[derive(Debug)]
pub(crate) struct EventStream {
    /// Bytes before `at` have been handed out.
    input: Vec<u8>,
    at: usize,
    event: String,
    data: Vec<u8>,
    limit: usize,
}

impl EventStream {
    /// `limit` bounds one message.
    pub(crate) fn new(limit: usize) -> EventStream {
        EventStream { input: Vec::new(), at: 0, event: String::new(), data: Vec::new(), limit }
    }
}

impl Framing for EventStream {
    fn push(&mut self, bytes: &[u8]) {
        self.input.drain(..self.at);
        self.at = 0;
        self.input.extend_from_slice(bytes);
    }

    fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let rest = &self.input[self.at..];
        let Some((length, headers_length)) = prelude(rest)? else {
            return Ok(None);
        };
        if length > self.limit {
            return Err(Oversize { limit: self.limit }.into());
        }
        let Some(message) = rest.get(..length) else {
            return Ok(None);
        };
        let (checked, crc) = message.split_at(length - CRC);
        if crc32fast::hash(checked).to_be_bytes() != crc {
            return Err(FrameError::Corrupt("the checksum of a message does not hold"));
        }
        let (headers, payload) = checked[PRELUDE..].split_at(headers_length);
        let headers = Headers::read(headers).ok_or(FrameError::Corrupt("the headers of a message cannot be read"))?;
        self.event = headers.event();
        self.data.clear();
        match headers.error_message {
            Some(message) if payload.is_empty() => self.data.extend(json_message(message)),
            _ => self.data.extend_from_slice(payload),
        }
        self.at += length;
        Ok(Some(Frame { event: &self.event, data: &self.data }))
    }

    /// A message has no closing mark that could be missing.
    fn finish(&mut self) -> Option<Frame<'_>> {
        None
    }
}

/// Lengths of the message and of its headers, once they are there.
fn prelude(bytes: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
    let Some((checked, crc)) = bytes.get(..PRELUDE).map(|p| p.split_at(PRELUDE - CRC)) else {
        return Ok(None);
    };
    if crc32fast::hash(checked).to_be_bytes() != crc {
        return Err(FrameError::Corrupt("the checksum of a message's lengths does not hold"));
    }
    let [length, headers] = [0, 4].map(|at| {
        let bytes = [checked[at], checked[at + 1], checked[at + 2], checked[at + 3]];
        usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX)
    });
    if length.checked_sub(PRELUDE + CRC).is_none_or(|room| headers > room) {
        return Err(FrameError::Corrupt("the lengths of a message do not fit each other"));
    }
    Ok(Some((length, headers)))
}

/// The headers that say what a message is.
#[derive(Default)]
struct Headers<'a> {
    event_type: &'a str,
    exception_type: Option<&'a str>,
    error_code: Option<&'a str>,
    error_message: Option<&'a str>,
}

impl<'a> Headers<'a> {
    fn read(mut bytes: &'a [u8]) -> Option<Headers<'a>> {
        let mut headers = Headers::default();
        while !bytes.is_empty() {
            let length = take(&mut bytes, 1)?[0];
            let name = take(&mut bytes, length.into())?;
            let Some(value) = value(&mut bytes)? else {
                continue;
            };
            match name {
                b":event-type" => headers.event_type = value,
                b":exception-type" => headers.exception_type = Some(value),
                b":error-code" => headers.error_code = Some(value),
                b":error-message" => headers.error_message = Some(value),
                _ => {}
            }
        }
        Some(headers)
    }

    /// `:message-type` needs no look: an exception has the second header, an unmodelled error the third.
    fn event(&self) -> String {
        match self.exception_type.or(self.error_code) {
            Some(name) => format!("{EXCEPTION}{name}"),
            None => self.event_type.to_owned(),
        }
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// A header's value, if it is text; values of other types are passed over. Outer `None`: it cannot be read.
fn value<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a str>> {
    let kind = take(bytes, 1)?[0];
    let length = match kind {
        0 | 1 => 0,
        2 => 1,
        3 => 2,
        4 => 4,
        5 | 8 => 8,
        6 | 7 => {
            let length = take(bytes, 2)?;
            u16::from_be_bytes([length[0], length[1]]).into()
        }
        9 => 16,
        _ => return None,
    };
    let value = take(bytes, length)?;
    if kind == 7 { std::str::from_utf8(value).ok().map(Some) } else { Some(None) }
}

#[derive(Serialize)]
struct Message<'a> {
    message: &'a str,
}

fn json_message(message: &str) -> Vec<u8> {
    serde_json::to_vec(&Message { message }).expect("text is always JSON")
}

/// The stream of InvokeModelWithResponseStream: messages `chunk` with `{"bytes": base64}`, in which the pieces of the
/// hosted model's own stream stand. A frame's data is such a piece; exceptions come as they are.
/// <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModelWithResponseStream.html>
#[derive(Debug)]
pub(crate) struct InvokedModel {
    messages: EventStream,
    piece: Vec<u8>,
}

impl InvokedModel {
    pub(crate) fn new(limit: usize) -> InvokedModel {
        InvokedModel { messages: EventStream::new(limit), piece: Vec::new() }
    }
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    bytes: &'a str,
}

impl Framing for InvokedModel {
    fn push(&mut self, bytes: &[u8]) {
        self.messages.push(bytes);
    }

    fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let Some(frame) = self.messages.next_frame()? else {
            return Ok(None);
        };
        if frame.event != "chunk" {
            return Ok(Some(frame));
        }
        self.piece = serde_json::from_slice::<Chunk<'_>>(frame.data)
            .ok()
            .and_then(|chunk| STANDARD.decode(chunk.bytes).ok())
            .ok_or(FrameError::Corrupt("a `chunk` bears no `bytes` in base64"))?;
        Ok(Some(Frame { event: frame.event, data: &self.piece }))
    }

    fn finish(&mut self) -> Option<Frame<'_>> {
        self.messages.finish()
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_eventstream::frame::write_message_to;
    use aws_smithy_types::{
        DateTime,
        event_stream::{Header, HeaderValue, Message},
        str_bytes::StrBytes,
    };
    use proptest::prelude::*;

    use super::*;

    type Seen = (Vec<(String, Vec<u8>)>, Option<FrameError>);

    fn text(value: &str) -> HeaderValue {
        HeaderValue::String(StrBytes::copy_from_str(value))
    }

    fn message(headers: &[(&str, HeaderValue)], payload: &[u8]) -> Vec<u8> {
        let headers = headers.iter().map(|(name, value)| Header::new(StrBytes::copy_from_str(name), value.clone()));
        let mut out = Vec::new();
        write_message_to(&Message::new_from_parts(headers.collect(), payload.to_vec()), &mut out).unwrap();
        out
    }

    fn event(name: &str, payload: &[u8]) -> Vec<u8> {
        message(&[(":event-type", text(name)), (":message-type", text("event"))], payload)
    }

    fn frames<'a>(framing: &mut dyn Framing, pieces: impl IntoIterator<Item = &'a [u8]>) -> Seen {
        let mut seen = Vec::new();
        for piece in pieces {
            framing.push(piece);
            loop {
                match framing.next_frame() {
                    Ok(Some(frame)) => seen.push((frame.event.to_owned(), frame.data.to_vec())),
                    Ok(None) => break,
                    Err(error) => return (seen, Some(error)),
                }
            }
        }
        assert_eq!(framing.finish(), None);
        (seen, None)
    }

    fn read(stream: &[u8]) -> Seen {
        frames(&mut EventStream::new(1024), [stream])
    }

    fn header() -> impl Strategy<Value = HeaderValue> {
        prop_oneof![
            any::<bool>().prop_map(HeaderValue::Bool),
            any::<i8>().prop_map(HeaderValue::Byte),
            any::<i16>().prop_map(HeaderValue::Int16),
            any::<i32>().prop_map(HeaderValue::Int32),
            any::<i64>().prop_map(HeaderValue::Int64),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(|b| HeaderValue::ByteArray(b.into())),
            ".{0,40}".prop_map(|s| text(&s)),
            (0i64..4_000_000_000).prop_map(|s| HeaderValue::Timestamp(DateTime::from_secs(s))),
            any::<u128>().prop_map(HeaderValue::Uuid),
        ]
    }

    prop_compose! {
        fn any_message()(
            name in "[a-zA-Z]{1,20}",
            others in prop::collection::vec(("[a-z]{0,20}", header()), 0..5),
            payload in prop::collection::vec(any::<u8>(), 0..200),
            place in any::<prop::sample::Index>(),
        ) -> ((String, Vec<u8>), Vec<u8>) {
            let mut headers: Vec<(&str, HeaderValue)> = others.iter().map(|(n, v)| (n.as_str(), v.clone())).collect();
            headers.insert(place.index(headers.len() + 1), (":event-type", text(&name)));
            let bytes = message(&headers, &payload);
            ((name, payload), bytes)
        }
    }

    proptest! {
        #[test]
        fn what_amazons_encoder_writes_is_read_however_it_is_cut(
            messages in prop::collection::vec(any_message(), 0..6),
            size in 1usize..300,
        ) {
            let (expected, stream): (Vec<_>, Vec<_>) = messages.into_iter().unzip();
            let stream = stream.concat();
            let seen = frames(&mut EventStream::new(4096), stream.chunks(size));
            prop_assert_eq!(seen, (expected, None));
        }

        #[test]
        fn a_changed_byte_is_noticed(
            (_, mut stream) in any_message(),
            at in any::<prop::sample::Index>(),
            by in 1u8..,
        ) {
            let at = at.index(stream.len());
            stream[at] ^= by;
            let (seen, error) = frames(&mut EventStream::new(4096), [stream.as_slice()]);
            prop_assert_eq!(seen, []);
            prop_assert!(matches!(error, Some(FrameError::Corrupt(_))));
        }

        #[test]
        fn sound_checksums_around_noise_do_no_harm(
            noise in prop::collection::vec(any::<u8>(), 0..80),
            headers in any::<prop::sample::Index>(),
        ) {
            let mut stream = Vec::new();
            stream.extend_from_slice(&u32::try_from(noise.len() + PRELUDE + CRC).unwrap().to_be_bytes());
            stream.extend_from_slice(&u32::try_from(headers.index(noise.len() + 9)).unwrap().to_be_bytes());
            stream.extend_from_slice(&crc32fast::hash(&stream).to_be_bytes());
            stream.extend_from_slice(&noise);
            stream.extend_from_slice(&crc32fast::hash(&stream).to_be_bytes());
            frames(&mut InvokedModel::new(1024), [stream.as_slice()]);
        }
    }

    #[test]
    fn an_exception_is_no_event() {
        let modelled = message(
            &[(":exception-type", text("throttlingException")), (":message-type", text("exception"))],
            br#"{"message":"slow down"}"#,
        );
        let other = message(
            &[
                (":error-code", text("InternalError")),
                (":error-message", text("a \"bad\" day")),
                (":message-type", text("error")),
            ],
            b"",
        );
        let stream = [modelled, other, event("throttlingException", b"{}")].concat();
        let mut framing = EventStream::new(1024);
        framing.push(&stream);
        let mut seen = Vec::new();
        while let Some(frame) = framing.next_frame().unwrap() {
            seen.push((exception(&frame).map(str::to_owned), String::from_utf8(frame.data.to_vec()).unwrap()));
        }
        let expected = [
            (Some("throttlingException"), r#"{"message":"slow down"}"#),
            (Some("InternalError"), r#"{"message":"a \"bad\" day"}"#),
            (None, "{}"),
        ];
        assert_eq!(seen, expected.map(|(name, data)| (name.map(str::to_owned), data.to_owned())));
    }

    #[test]
    fn an_oversize_message_is_refused_by_its_length() {
        let stream = event("e", &[b'x'; 2000]);
        for end in [PRELUDE, stream.len()] {
            assert_eq!(read(&stream[..end]), (vec![], Some(Oversize { limit: 1024 }.into())));
        }
        assert_eq!(read(&stream[..PRELUDE - 1]), (vec![], None));
    }

    #[test]
    fn a_cut_message_is_none() {
        let stream = event("e", b"{}");
        for end in 0..stream.len() {
            assert_eq!(read(&stream[..end]), (vec![], None), "cut at {end}");
        }
    }

    #[test]
    fn the_pieces_of_an_invoked_model_are_unwrapped() {
        let piece = br#"{"type":"message_stop"}"#;
        let chunk = format!(r#"{{"bytes":"{}","p":"abcd"}}"#, STANDARD.encode(piece));
        let exception = message(&[(":exception-type", text("modelTimeoutException"))], b"{}");
        let stream = [event("chunk", chunk.as_bytes()), event("news", b"[]"), exception].concat();
        let (seen, error) = frames(&mut InvokedModel::new(1024), stream.chunks(5));
        let expected = [("chunk", &piece[..]), ("news", &b"[]"[..]), ("exception:modelTimeoutException", &b"{}"[..])];
        assert_eq!(seen, expected.map(|(event, data)| (event.to_owned(), data.to_vec())));
        assert_eq!(error, None);
        for broken in [&b"{}"[..], b"", br#"{"bytes":"*"}"#, br#"{"bytes":1}"#] {
            let (_, error) = frames(&mut InvokedModel::new(1024), [event("chunk", broken).as_slice()]);
            assert!(matches!(error, Some(FrameError::Corrupt(_))), "{broken:?}");
        }
    }
}
