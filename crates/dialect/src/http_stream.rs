//! A streamed answer over HTTP, as each dialect's callers read it: server-sent events.
//!
//! | dialect | an event | the end | an error |
//! |---|---|---|---|
//! | `openai-chat`, `openai-completions` | `data: {…}` | `data: [DONE]` | `data: {"error": {…}}`, and no end |
//! | `openai-responses` | `event: <type>`, `data: {…}` | its last event | events `error` and `response.failed` |
//! | `anthropic-messages` | the same | its last event | event `error` |
//!
//! What a provider of the same dialect sent comes out byte for byte, but for its comments.

use std::borrow::Cow;

use bytes::Bytes;
use farebox_types::Fault;
use memchr::memchr_iter;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    dialect::{Caller, DialectName, caller_dialect},
    framing::sse,
};

/// Writes one event.
pub fn write(dialect: DialectName, payload: &[u8], out: &mut Vec<u8>) {
    if let Some(kind) = is_named(dialect).then(|| kind_of(payload)).flatten() {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(kind.as_bytes());
        out.push(b'\n');
    }
    let mut from = 0;
    for end in memchr_iter(b'\n', payload).chain([payload.len()]) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&payload[from..end]);
        out.push(b'\n');
        from = end + 1;
    }
    out.push(b'\n');
}

/// Says that the stream is alive.
pub fn ping(dialect: DialectName) -> Bytes {
    Bytes::from_static(match dialect {
        DialectName::AnthropicMessages => b"event: ping\ndata: {\"type\": \"ping\"}\n\n",
        _ => b": ping\n\n",
    })
}

/// What stands after the last event of a whole answer.
pub fn end(dialect: DialectName) -> &'static [u8] {
    match dialect {
        DialectName::OpenAiChat | DialectName::OpenAiCompletions => sse::DONE,
        _ => b"",
    }
}

/// Writes the error in which an answer ends that has begun: `sent` events went before, and its caller knows it as `id`.
pub fn write_failure(dialect: DialectName, fault: &Fault, id: &str, sent: u64, out: &mut Vec<u8>) {
    let body = caller_dialect(dialect).map(|caller| caller.render_error(fault).1).unwrap_or_default();
    if dialect != DialectName::OpenAiResponses {
        return write(dialect, &body, out);
    }
    let error = serde_json::from_slice::<Value>(&body).map(|mut body| body["error"].take()).unwrap_or_default();
    let (code, message, param) = (&error["code"], &error["message"], &error["param"]);
    // The first is as documented, and has the member by which SDKs know an error in a stream; others wait for the second.
    let events = [
        json!({
            "type": "error", "code": code, "message": message, "param": param, "sequence_number": sent, "error": error,
        }),
        json!({
            "type": "response.failed", "sequence_number": sent + 1,
            "response": {
                "id": id, "object": "response", "status": "failed", "error": { "code": code, "message": message },
                "incomplete_details": null, "output": [], "usage": null,
            },
        }),
    ];
    for event in events {
        write(dialect, event.to_string().as_bytes(), out);
    }
}

impl Caller {
    pub fn render_error(self, fault: &Fault) -> (http::StatusCode, Bytes) {
        match self {
            Caller::Generate(dialect) => dialect.render_error(fault),
            Caller::Embed(dialect) => dialect.render_error(fault),
            Caller::Rerank(dialect) => dialect.render_error(fault),
            Caller::CountTokens(dialect) => dialect.render_error(fault),
        }
    }
}

/// Whether events bear their payload's `type` as their name.
fn is_named(dialect: DialectName) -> bool {
    matches!(dialect, DialectName::AnthropicMessages | DialectName::OpenAiResponses)
}

fn kind_of(payload: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Kind<'a> {
        #[serde(rename = "type", borrow)]
        kind: Cow<'a, str>,
    }
    // Nearly all events begin with it.
    if let Some(rest) = payload.strip_prefix(b"{\"type\":")
        && let Some(rest) = rest.strip_prefix(b" ").unwrap_or(rest).strip_prefix(b"\"")
        && let Some(end) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))
        && rest[end] == b'"'
    {
        return std::str::from_utf8(&rest[..end]).ok().map(Cow::Borrowed);
    }
    let kind = serde_json::from_slice::<Kind<'_>>(payload).ok()?.kind;
    // A name is one line.
    (!kind.contains(['\n', '\r'])).then_some(kind)
}
