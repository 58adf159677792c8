//! Gemini's `generateContent`, as it stands on the wire.

use serde_json::{Value, json};

use crate::{
    Finish, Refusal,
    body::Piece,
    reply::{Resolved, Writer, split},
};

pub(crate) const WRITER: Writer = Writer { whole, stream, refusal, corrupt: CORRUPT, error: ERROR };

/// The emulator's thoughts are nobody's, and their signature says so.
pub(crate) const SIGNATURE: &str = "ZmFyZWJveC1lbXVsYXRvcg==";

const CORRUPT: &str = "data: {\"candidates\": [{\"content\": {\"pa\r\n\r\n";
const ERROR: &str = "data: {\"error\": {\"code\": 503,\"message\": \"The model is overloaded. Please try again \
                     later.\",\"status\": \"UNAVAILABLE\"}}\r\n\r\n";

fn finish(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::ToolUse => "STOP",
        Finish::Length => "MAX_TOKENS",
        Finish::Refusal => "SAFETY",
    }
}

fn answer(r: &Resolved, parts: &[Value], finish: Option<&str>, output: u64) -> Value {
    let thoughts = r.usage.reasoning.min(output);
    let mut usage = json!({
        "promptTokenCount": r.usage.prompt(),
        "candidatesTokenCount": output - thoughts,
        "totalTokenCount": r.usage.prompt() + output,
        "promptTokensDetails": [{ "modality": "TEXT", "tokenCount": r.usage.prompt() }],
    });
    if thoughts > 0 {
        usage["thoughtsTokenCount"] = thoughts.into();
    }
    if r.usage.cache_read > 0 {
        usage["cachedContentTokenCount"] = r.usage.cache_read.into();
    }
    let mut candidate = json!({ "content": { "parts": parts, "role": "model" } });
    if let Some(finish) = finish {
        candidate["finishReason"] = finish.into();
    }
    candidate["index"] = 0.into();
    json!({ "candidates": [candidate], "usageMetadata": usage, "modelVersion": &*r.model,
        "responseId": format!("emu{}", r.seq) })
}

/// Calls are whole in a stream too; the first of them carries what the model thought.
fn calls(r: &Resolved) -> Vec<Value> {
    let mut parts = Vec::new();
    for call in &r.tool_calls {
        let args: Value = serde_json::from_str(&call.arguments).unwrap_or_default();
        parts.push(json!({ "functionCall": { "name": call.name, "args": args, "id": call.id } }));
    }
    if let Some(first) = parts.first_mut() {
        first["thoughtSignature"] = SIGNATURE.into();
    }
    parts
}

fn whole(r: &Resolved) -> String {
    let mut parts = Vec::new();
    if let Some(thinking) = &r.thinking {
        parts.push(json!({ "text": thinking, "thought": true }));
    }
    if !r.text.is_empty() {
        parts.push(json!({ "text": r.text }));
    }
    parts.extend(calls(r));
    answer(r, &parts, Some(finish(r.finish)), r.usage.output).to_string()
}

fn stream(r: &Resolved) -> (Vec<Piece>, usize) {
    let thinking = r.thinking.as_deref().unwrap_or_default();
    let mut parts: Vec<Value> =
        split(thinking, r.chunks).map(|piece| json!({ "text": piece, "thought": true })).collect();
    parts.extend(split(&r.text, r.chunks).map(|piece| json!({ "text": piece })));
    parts.extend(calls(r));
    let count = parts.len() as u64;
    let event = |value: Value, produced: u64| Piece::billed(format!("data: {value}\r\n\r\n"), produced);
    let mut pieces = Vec::new();
    for (done, part) in parts.into_iter().enumerate() {
        let produced = r.produced(done as u64 + 1, count);
        pieces.push(event(answer(r, &[part], None, produced), produced));
    }
    let all = r.usage.output;
    pieces.push(event(answer(r, &[json!({ "text": "" })], Some(finish(r.finish)), all), all));
    (pieces, 1)
}

fn refusal(refusal: &Refusal, _request_id: &str) -> String {
    let status = match refusal.status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        500 => "INTERNAL",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "",
    };
    let mut error = json!({ "code": refusal.status, "message": refusal.message });
    // There is no word for the others.
    if !status.is_empty() {
        error["status"] = status.into();
    }
    if let Some(after) = refusal.retry_after {
        error["details"] = json!([{ "@type": "type.googleapis.com/google.rpc.RetryInfo",
            "retryDelay": format!("{}s", after.as_secs_f64()) }]);
    }
    json!({ "error": error }).to_string()
}
