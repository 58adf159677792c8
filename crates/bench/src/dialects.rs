//! What the dialects themselves cost: no socket, no process, one thread.

use std::{fmt::Write as _, hint::black_box, time::Instant};

use anyhow::Context as _;
use bytes::Bytes;
use farebox_dialect::{
    Asked, Caller, DialectName, Exchange, Provider, ProviderDialect, StreamLimits, Target, caller_dialect,
    provider_dialect,
};
use http::HeaderMap;
use serde_json::{Value, json};

/// Frames of one streamed answer.
const FRAMES: usize = 1_000;
/// Bytes of a request, about.
const REQUEST: usize = 100_000;
const ROUNDS: usize = 25;

/// The goals: microseconds for a frame, and for a request.
const FRAME_GOAL: f64 = 2.0;
const REQUEST_GOAL: f64 = 1_000.0;

/// Two tables in Markdown.
pub(crate) fn tables() -> anyhow::Result<String> {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "| µs a frame, {FRAMES} frames, min / **median** of {ROUNDS} | decoded | passed through |\n|---|---|---|"
    );
    for name in DialectName::ALL {
        let (Some(dialect), Some(stream)) = (provider_dialect(name).and_then(Provider::generate), stream(name)) else {
            continue;
        };
        let decoded = per(FRAMES, || decode(dialect, &stream))?;
        let passed = caller_dialect(name).map(|_| passed(dialect, &stream)).transpose()?;
        let passed = passed.map_or_else(|| "–".to_owned(), |figures| cell(figures, FRAME_GOAL));
        let _ = writeln!(text, "| `{name}` | {} | {passed} |", cell(decoded, FRAME_GOAL));
    }
    let _ = writeln!(text, "\n| µs for a request of {} kB, from | to | |\n|---|---|---|", REQUEST / 1_000);
    for from in DialectName::ALL {
        let (Some(Caller::Generate(caller)), Some(body)) = (caller_dialect(from), request(from)) else { continue };
        for to in DialectName::ALL {
            let Some(dialect) = provider_dialect(to).and_then(Provider::generate) else { continue };
            let target = Target::new("m");
            let translate = || {
                let call =
                    caller.parse(&HeaderMap::new(), &body).map_err(|error| anyhow::anyhow!("{from}: {error:?}"))?;
                black_box(dialect.encode(&call, &target))?;
                Ok(())
            };
            let _ = writeln!(text, "| `{from}` | `{to}` | {} |", cell(per(1, translate)?, REQUEST_GOAL));
        }
    }
    Ok(text)
}

/// Microseconds for one of `parts`: the least and the median.
fn per(parts: usize, mut run: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<[f64; 2]> {
    let mut figures = Vec::with_capacity(ROUNDS);
    run()?;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        run()?;
        figures.push(start.elapsed().as_secs_f64() * 1e6 / parts as f64);
    }
    figures.sort_by(f64::total_cmp);
    Ok([figures[0], figures[ROUNDS / 2]])
}

fn cell([min, median]: [f64; 2], goal: f64) -> String {
    let missed = if median > goal { " (goal missed)" } else { "" };
    format!("{min:.2} / **{median:.2}**{missed}")
}

/// As the network brings it: in pieces that know nothing of frames.
fn pieces(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    stream.chunks(1_400)
}

fn decode(dialect: &dyn ProviderDialect, stream: &[u8]) -> anyhow::Result<()> {
    let mut decoder = dialect.decoder(&Target::new("m"), &StreamLimits::default());
    let mut events = Vec::new();
    for piece in pieces(stream) {
        decoder.feed(piece, &mut events)?;
        black_box(&events);
        events.clear();
    }
    decoder.finish(&mut events)?;
    Ok(())
}

fn passed(dialect: &'static dyn ProviderDialect, stream: &[u8]) -> anyhow::Result<[f64; 2]> {
    let body = match dialect.name() {
        DialectName::OpenAiResponses => json!({"model": "m", "input": "x", "stream": true}),
        DialectName::OpenAiCompletions => json!({"model": "m", "prompt": "x", "stream": true}),
        _ => json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], "stream": true}),
    };
    let fault = |fault| anyhow::anyhow!("{fault}");
    let asked = Asked::raw(dialect.name(), Bytes::from(body.to_string()), true).map_err(fault)?;
    let provider = Provider::Generate(dialect);
    let (exchange, ..) = Exchange::begin(&asked, provider, Target::new("m"), Default::default()).map_err(fault)?;
    let stamp = farebox_dialect::Stamp { id: "id".to_owned(), created: 1, model: None };
    per(FRAMES, || {
        let mut relay = exchange.stream(&StreamLimits::default(), &stamp).context("no stream")?;
        let mut out = Vec::new();
        for piece in pieces(stream) {
            relay.feed(piece, &mut out)?;
            black_box(&out);
            out.clear();
        }
        relay.finish(&mut out)?;
        Ok(())
    })
}

/// An answer of a thousand pieces of text.
fn stream(name: DialectName) -> Option<Vec<u8>> {
    const WORDS: &str = " a few words";
    let (first, piece, last): (Vec<Value>, Value, Vec<Value>) = match name {
        DialectName::OpenAiChat => {
            let chunk = |delta: Value, finish: Value| {
                json!({"id": "chatcmpl-0123456789", "object": "chat.completion.chunk", "created": 1_760_000_000,
                    "model": "gpt-x", "service_tier": "default", "system_fingerprint": "fp_0123456789",
                    "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}], "usage": null})
            };
            (vec![], chunk(json!({"content": WORDS}), Value::Null), vec![chunk(json!({}), "stop".into())])
        }
        DialectName::OpenAiCompletions => {
            let chunk = |text: &str, finish: Value| {
                json!({"id": "cmpl-0123456789", "object": "text_completion", "created": 1_760_000_000, "model": "x",
                    "choices": [{"index": 0, "text": text, "logprobs": null, "finish_reason": finish}]})
            };
            (vec![], chunk(WORDS, Value::Null), vec![chunk("", "stop".into())])
        }
        DialectName::OpenAiResponses => {
            let delta = json!({"type": "response.output_text.delta", "sequence_number": 7, "item_id": "msg_0123456789",
                "output_index": 0, "content_index": 0, "delta": WORDS, "logprobs": []});
            let end =
                json!({"type": "response.completed", "response": {"id": "r", "status": "completed", "output": []}});
            (vec![], delta, vec![end])
        }
        DialectName::AnthropicMessages => (
            vec![
                json!({"type": "message_start", "message": {"id": "m", "model": "m", "usage": {"input_tokens": 1}}}),
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            ],
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORDS}}),
            vec![
                json!({"type": "content_block_stop", "index": 0}),
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}),
                json!({"type": "message_stop"}),
            ],
        ),
        DialectName::Gemini => {
            let chunk = |finish: Value| {
                json!({"candidates": [{"content": {"parts": [{"text": WORDS}], "role": "model"}, "index": 0,
                    "finishReason": finish}], "modelVersion": "gemini-x", "responseId": "0123456789",
                    "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 9, "totalTokenCount": 18,
                        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 9}]}})
            };
            (vec![], chunk(Value::Null), vec![chunk("STOP".into())])
        }
        DialectName::CohereChat => (
            vec![
                json!({"id": "m", "type": "message-start", "delta": {"message": {"role": "assistant"}}}),
                json!({"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}}),
            ],
            json!({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": WORDS}}}}),
            vec![
                json!({"type": "content-end", "index": 0}),
                json!({"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}),
            ],
        ),
        DialectName::OllamaChat => {
            let chunk = |done: bool| {
                json!({"model": "m", "created_at": "2026-01-01T00:00:00.123456Z", "message": {"role": "assistant",
                    "content": WORDS}, "done": done, "done_reason": done.then_some("stop")})
            };
            (vec![], chunk(false), vec![chunk(true)])
        }
        DialectName::BedrockConverse => (
            vec![json!({"event": "messageStart", "role": "assistant"})],
            json!({"event": "contentBlockDelta", "contentBlockIndex": 0, "delta": {"text": WORDS}, "p": "abcdefghijk"}),
            vec![
                json!({"event": "contentBlockStop", "contentBlockIndex": 0}),
                json!({"event": "messageStop", "stopReason": "end_turn"}),
                json!({"event": "metadata", "usage": {"inputTokens": 9, "outputTokens": 9, "totalTokens": 18}}),
            ],
        ),
        _ => return None,
    };
    let room = FRAMES.saturating_sub(first.len() + last.len());
    let all = first.into_iter().chain(std::iter::repeat_n(piece, room)).chain(last);
    let mut bytes: Vec<u8> = all.flat_map(|frame| framed(name, frame)).collect();
    if matches!(name, DialectName::OpenAiChat | DialectName::OpenAiCompletions) {
        bytes.extend_from_slice(farebox_dialect::sse::DONE);
    }
    Some(bytes)
}

fn framed(name: DialectName, mut frame: Value) -> Vec<u8> {
    match name {
        DialectName::OllamaChat => format!("{frame}\n").into_bytes(),
        DialectName::BedrockConverse => {
            let event = frame.as_object_mut().and_then(|members| members.shift_remove("event")).unwrap_or_default();
            message(event.as_str().unwrap_or_default(), frame.to_string().as_bytes())
        }
        DialectName::AnthropicMessages | DialectName::OpenAiResponses | DialectName::CohereChat => {
            format!("event: {}\ndata: {frame}\n\n", frame["type"].as_str().unwrap_or_default()).into_bytes()
        }
        _ => format!("data: {frame}\n\n").into_bytes(),
    }
}

/// Amazon's event stream.
fn message(event: &str, payload: &[u8]) -> Vec<u8> {
    let size = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let mut headers = Vec::new();
    for (name, value) in [(":event-type", event), (":content-type", "application/json"), (":message-type", "event")] {
        headers.push(u8::try_from(name.len()).unwrap_or_default());
        headers.extend_from_slice(name.as_bytes());
        headers.push(7);
        headers.extend_from_slice(&size(value.len())[2..]);
        headers.extend_from_slice(value.as_bytes());
    }
    let mut out = size(16 + headers.len() + payload.len()).to_vec();
    out.extend(size(headers.len()));
    out.extend(crc32fast::hash(&out).to_be_bytes());
    out.extend(headers);
    out.extend_from_slice(payload);
    out.extend(crc32fast::hash(&out).to_be_bytes());
    out
}

/// A conversation of many turns; a prompt where there are no turns.
fn request(name: DialectName) -> Option<Vec<u8>> {
    const TURN: usize = 1_000;
    let words = "Some words, \"quoted\" and not.\n".repeat(TURN / 30);
    let turns = || {
        let role = |at: usize| if at.is_multiple_of(2) { "user" } else { "assistant" };
        let all = (0..REQUEST / TURN).map(|at| json!({"role": role(at), "content": words}));
        all.chain([json!({"role": "user", "content": "go on"})]).collect::<Vec<_>>()
    };
    let body = match name {
        DialectName::OpenAiChat => json!({"model": "m", "messages": turns()}),
        DialectName::AnthropicMessages => json!({"model": "m", "max_tokens": 100, "messages": turns()}),
        DialectName::OpenAiResponses => json!({"model": "m", "input": turns()}),
        DialectName::OpenAiCompletions => json!({"model": "m", "prompt": words.repeat(REQUEST / TURN)}),
        _ => return None,
    };
    Some(body.to_string().into_bytes())
}
