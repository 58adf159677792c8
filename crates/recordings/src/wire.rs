//! Frames of streams, cut and made by hand: not by farebox's framing, which is what is checked.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

/// What one frame carries, under its name (if its framing has names).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Frame {
    pub(crate) event: String,
    pub(crate) data: String,
}

/// Server-sent events. The last one counts without its empty line, too.
pub(crate) fn sse(text: &str) -> Vec<Frame> {
    let (mut frames, mut event, mut data) = (Vec::new(), String::new(), Vec::new());
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    for line in text.split('\n').chain([""]) {
        if let Some(rest) = line.strip_prefix("data:") {
            data.push(rest.strip_prefix(' ').unwrap_or(rest));
        } else if let Some(rest) = line.strip_prefix("event:") {
            event = rest.trim().to_owned();
        } else if line.is_empty() {
            if !data.is_empty() {
                frames.push(Frame { event: std::mem::take(&mut event), data: data.join("\n") });
            }
            event.clear();
            data.clear();
        }
    }
    frames
}

pub(crate) fn to_sse(frames: &[Frame]) -> String {
    let mut text = String::new();
    for Frame { event, data } in frames {
        if !event.is_empty() {
            text.push_str(&format!("event: {event}\n"));
        }
        text.push_str(&format!("data: {data}\n\n"));
    }
    text
}

/// One JSON value a line.
pub(crate) fn lines(text: &str) -> Vec<Frame> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| Frame { event: String::new(), data: line.to_owned() }).collect()
}

pub(crate) fn to_lines(frames: &[Frame]) -> String {
    frames.iter().map(|frame| format!("{}\n", frame.data)).collect()
}

/// Amazon's event stream: total length, length of the headers, checksum of both, headers, payload, checksum of it all.
pub(crate) fn event_stream(mut bytes: &[u8]) -> Result<Vec<Frame>, String> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let number =
            |at: usize| bytes.get(at..at + 4).map(|four| four.iter().fold(0_usize, |n, b| n << 8 | usize::from(*b)));
        let (Some(total), Some(headers), Some(sum)) = (number(0), number(4), number(8)) else {
            return Err("a frame is cut in its prelude".to_owned());
        };
        if total < 16 || headers > total - 16 || total > bytes.len() {
            return Err("a frame's lengths do not fit".to_owned());
        }
        if crc32(&bytes[..8]) as usize != sum || Some(crc32(&bytes[..total - 4]) as usize) != number(total - 4) {
            return Err("a frame's checksum is wrong".to_owned());
        }
        let names = names(&bytes[12..12 + headers])?;
        let event = [":event-type", ":exception-type", ":error-code"]
            .iter()
            .find_map(|key| names.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone()));
        let data = String::from_utf8_lossy(&bytes[12 + headers..total - 4]).into_owned();
        frames.push(Frame { event: event.unwrap_or_default(), data });
        bytes = &bytes[total..];
    }
    Ok(frames)
}

/// Headers of type 7, text: the only ones that Bedrock sends.
fn names(mut bytes: &[u8]) -> Result<Vec<(String, String)>, String> {
    let cut = || "a frame's headers do not fit".to_owned();
    let mut take = |n: usize| -> Result<&[u8], String> {
        let (head, rest) = bytes.split_at_checked(n).ok_or_else(cut)?;
        bytes = rest;
        Ok(head)
    };
    let mut names = Vec::new();
    loop {
        let Ok(length) = take(1).map(|byte| usize::from(byte[0])) else { return Ok(names) };
        let name = String::from_utf8_lossy(take(length)?).into_owned();
        if take(1)?[0] != 7 {
            return Err("a frame has a header that is no text".to_owned());
        }
        let length = take(2)?;
        let length = usize::from(length[0]) << 8 | usize::from(length[1]);
        names.push((name, String::from_utf8_lossy(take(length)?).into_owned()));
    }
}

pub(crate) fn to_event_stream(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(|Frame { event, data }| frame(event, data.as_bytes())).collect()
}

fn frame(event: &str, payload: &[u8]) -> Vec<u8> {
    let (message, kind) =
        if event.ends_with("Exception") { ("exception", ":exception-type") } else { ("event", ":event-type") };
    let mut headers = Vec::new();
    for (name, value) in [(kind, event), (":content-type", "application/json"), (":message-type", message)] {
        headers.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        headers.extend_from_slice(name.as_bytes());
        headers.push(7);
        headers.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let length = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = Vec::new();
    frame.extend_from_slice(&length(headers.len() + payload.len() + 16));
    frame.extend_from_slice(&length(headers.len()));
    frame.extend_from_slice(&crc32(&frame).to_be_bytes());
    frame.extend_from_slice(&headers);
    frame.extend_from_slice(payload);
    frame.extend_from_slice(&crc32(&frame).to_be_bytes());
    frame
}

/// The checksum of zip and Ethernet.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}

/// `InvokeModel` wraps each event of a model's own stream: `{"bytes": "<base64>"}`.
pub(crate) fn unwrap(frame: &Frame) -> Option<Frame> {
    let wrapped: Value = serde_json::from_str(&frame.data).ok()?;
    let Some(base64) = wrapped["bytes"].as_str() else { return Some(frame.clone()) };
    let data = String::from_utf8(BASE64_STANDARD.decode(base64).ok()?).ok()?;
    Some(Frame { event: String::new(), data })
}

pub(crate) fn wrap(data: &str) -> Frame {
    Frame { event: "chunk".to_owned(), data: json!({ "bytes": BASE64_STANDARD.encode(data) }).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn frames_come_back_as_they_were_made() {
        let of = |event: &str, data: &str| Frame { event: event.to_owned(), data: data.to_owned() };
        let frames = vec![of("messageStart", "{}"), of("throttlingException", "{\"message\":\"é\"}")];
        let mut bytes = to_event_stream(&frames);
        assert_eq!(event_stream(&bytes), Ok(frames.clone()));
        assert_eq!(sse(&to_sse(&frames)), frames);
        bytes[30] ^= 1;
        assert!(event_stream(&bytes).is_err());
        assert_eq!(unwrap(&wrap("{\"a\":1}")), Some(of("", "{\"a\":1}")));
    }
}
