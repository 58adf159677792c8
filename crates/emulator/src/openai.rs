//! OpenAI's chat completions, as they stand on the wire.

use std::fmt::Write as _;

use crate::{
    Finish, Refusal, Usage,
    body::Piece,
    reply::{Resolved, Writer, json, split},
};

pub(crate) const WRITER: Writer = Writer { whole, stream, refusal, corrupt: CORRUPT, error: ERROR };

const CORRUPT: &str = "data: {\"id\":\"chatcmpl-emu\",\"object\":\"chat.comp\n\n";
const ERROR: &str = "data: {\"error\":{\"message\":\"The server had an error while processing your request. \
    Sorry about that!\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n";

fn finish(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::ToolUse => "tool_calls",
        Finish::Refusal => "content_filter",
    }
}

fn usage(usage: &Usage) -> String {
    let (prompt, output) = (usage.prompt(), usage.output);
    format!(
        "{{\"prompt_tokens\":{prompt},\"completion_tokens\":{output},\"total_tokens\":{},\
         \"prompt_tokens_details\":{{\"cached_tokens\":{},\"audio_tokens\":0}},\
         \"completion_tokens_details\":{{\"reasoning_tokens\":{},\"audio_tokens\":0,\
         \"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}}}",
        prompt + output,
        usage.cache_read,
        usage.reasoning
    )
}

fn whole(r: &Resolved) -> String {
    let mut tools = String::new();
    for call in &r.tool_calls {
        let lead = if tools.is_empty() { ",\"tool_calls\":[" } else { "," };
        let (id, name, arguments) = (json(&call.id), json(&call.name), json(&call.arguments));
        let function = format!("{{\"name\":{name},\"arguments\":{arguments}}}");
        let _ = write!(tools, "{lead}{{\"id\":{id},\"type\":\"function\",\"function\":{function}}}");
    }
    if !tools.is_empty() {
        tools.push(']');
    }
    let content = if r.text.is_empty() && !r.tool_calls.is_empty() { "null".to_owned() } else { json(&r.text) };
    format!(
        "{{\"id\":\"chatcmpl-emu{}\",\"object\":\"chat.completion\",\"created\":{},\"model\":{},\"choices\":\
         [{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":{content}{tools},\"refusal\":null,\
         \"annotations\":[]}},\"logprobs\":null,\"finish_reason\":\"{}\"}}],\"usage\":{},\
         \"service_tier\":\"default\",\"system_fingerprint\":\"fp_emulator\"}}",
        r.seq,
        r.created,
        json(&r.model),
        finish(r.finish),
        usage(&r.usage)
    )
}

fn stream(r: &Resolved) -> (Vec<Piece>, usize) {
    let head = format!(
        "data: {{\"id\":\"chatcmpl-emu{}\",\"object\":\"chat.completion.chunk\",\"created\":{},\"model\":{},\
         \"service_tier\":\"default\",\"system_fingerprint\":\"fp_emulator\",\"choices\":[",
        r.seq,
        r.created,
        json(&r.model)
    );
    let no_usage = if r.include_usage { ",\"usage\":null" } else { "" };
    let event = |delta: &str, finish: &str| {
        format!("{head}{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}]{no_usage}}}\n\n")
    };
    let mut deltas = Vec::new();
    for piece in split(&r.text, r.chunks) {
        deltas.push(format!("{{\"content\":{}}}", json(piece)));
    }
    for (index, call) in r.tool_calls.iter().enumerate() {
        let (id, name) = (json(&call.id), json(&call.name));
        deltas.push(format!(
            "{{\"tool_calls\":[{{\"index\":{index},\"id\":{id},\"type\":\"function\",\
             \"function\":{{\"name\":{name},\"arguments\":\"\"}}}}]}}"
        ));
        for piece in split(&call.arguments, r.chunks) {
            let piece = json(piece);
            deltas.push(format!("{{\"tool_calls\":[{{\"index\":{index},\"function\":{{\"arguments\":{piece}}}}}]}}"));
        }
    }
    let content = if r.text.is_empty() && !r.tool_calls.is_empty() { "null" } else { "\"\"" };
    let first = format!("{{\"role\":\"assistant\",\"content\":{content},\"refusal\":null}}");
    let mut pieces = vec![Piece::free(event(&first, "null"))];
    let count = deltas.len() as u64;
    for (i, delta) in deltas.into_iter().enumerate() {
        pieces.push(Piece::billed(event(&delta, "null"), r.produced(i as u64 + 1, count)));
    }
    let all = r.usage.output;
    pieces.push(Piece::billed(event("{}", &format!("\"{}\"", finish(r.finish))), all));
    if r.include_usage {
        pieces.push(Piece::billed(format!("{head}],\"usage\":{}}}\n\n", usage(&r.usage)), all));
    }
    pieces.push(Piece::billed("data: [DONE]\n\n", all));
    (pieces, if r.include_usage { 3 } else { 2 })
}

fn refusal(refusal: &Refusal, _request_id: &str) -> String {
    let (kind, code) = match refusal.status {
        400 => ("invalid_request_error", "null"),
        401 => ("invalid_request_error", "\"invalid_api_key\""),
        403 => ("insufficient_permissions", "null"),
        404 => ("invalid_request_error", "\"model_not_found\""),
        429 => ("requests", "\"rate_limit_exceeded\""),
        _ => ("server_error", "null"),
    };
    let message = json(&refusal.message);
    format!(
        "{{\n  \"error\": {{\n    \"message\": {message},\n    \"type\": \"{kind}\",\n    \"param\": null,\n    \
         \"code\": {code}\n  }}\n}}\n"
    )
}
