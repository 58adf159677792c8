//! Anthropic's messages, as they stand on the wire.

use std::fmt::Write as _;

use crate::{
    Finish, Refusal, Usage,
    body::Piece,
    reply::{Resolved, Writer, json, split},
};

pub(crate) const WRITER: Writer = Writer { whole, stream, refusal, corrupt: CORRUPT, error: ERROR };

const CORRUPT: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"inde\n\n";
const ERROR: &str = "event: error\n\
    data: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
/// The emulator's thinking is nobody's, and its signature says so.
pub(crate) const SIGNATURE: &str = "ZmFyZWJveC1lbXVsYXRvcg==";

fn finish(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::ToolUse => "tool_use",
        Finish::Refusal => "refusal",
    }
}

fn input_usage(u: &Usage) -> String {
    format!(
        "\"input_tokens\":{},\"cache_creation_input_tokens\":{},\"cache_read_input_tokens\":{}",
        u.input,
        u.cache_write_5m + u.cache_write_1h,
        u.cache_read
    )
}

/// What the provider searched, where it did.
fn searches(u: &Usage) -> String {
    match u.searches {
        0 => String::new(),
        searches => format!(",\"server_tool_use\":{{\"web_search_requests\":{searches}}}"),
    }
}

fn usage(u: &Usage, output: u64) -> String {
    format!(
        "{{{},\"cache_creation\":{{\"ephemeral_5m_input_tokens\":{},\"ephemeral_1h_input_tokens\":{}}},\
         \"output_tokens\":{output},\"service_tier\":\"standard\"{}}}",
        input_usage(u),
        u.cache_write_5m,
        u.cache_write_1h,
        searches(u)
    )
}

/// The provider's own call of its search, without its input, and what it found.
fn search_blocks(seq: u64, query: &str) -> [String; 2] {
    let id = format!("srvtoolu_emu{seq}");
    let title = json(&format!("What the emulator found for: {query}"));
    [
        format!("\"type\":\"server_tool_use\",\"id\":\"{id}\",\"name\":\"web_search\""),
        format!(
            "{{\"type\":\"web_search_tool_result\",\"tool_use_id\":\"{id}\",\"content\":[{{\"type\":\"web_search_result\",\
             \"url\":\"https://emulator.invalid/\",\"title\":{title},\"encrypted_content\":\"{SIGNATURE}\",\
             \"page_age\":null}}]}}"
        ),
    ]
}

fn whole(r: &Resolved) -> String {
    let mut blocks = Vec::new();
    if let Some(thinking) = &r.thinking {
        let thinking = json(thinking);
        blocks.push(format!("{{\"type\":\"thinking\",\"thinking\":{thinking},\"signature\":\"{SIGNATURE}\"}}"));
    }
    if let Some(query) = &r.search {
        let [call, found] = search_blocks(r.seq, query);
        blocks.extend([format!("{{{call},\"input\":{{\"query\":{}}}}}", json(query)), found]);
    }
    if !r.text.is_empty() {
        blocks.push(format!("{{\"type\":\"text\",\"text\":{}}}", json(&r.text)));
    }
    for call in &r.tool_calls {
        let (id, name, input) = (json(&call.id), json(&call.name), &call.arguments);
        blocks.push(format!("{{\"type\":\"tool_use\",\"id\":{id},\"name\":{name},\"input\":{input}}}"));
    }
    format!(
        "{{\"model\":{},\"id\":\"msg_emu{}\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[{}],\
         \"stop_reason\":\"{}\",\"stop_sequence\":null,\"usage\":{}}}",
        json(&r.model),
        r.seq,
        blocks.join(","),
        finish(r.finish),
        usage(&r.usage, r.usage.output)
    )
}

/// A content block of a stream: how it starts, and its deltas.
struct Block {
    start: String,
    deltas: Vec<String>,
}

fn blocks(r: &Resolved) -> Vec<Block> {
    let mut blocks = Vec::new();
    if let Some(thinking) = &r.thinking {
        let mut deltas: Vec<String> = split(thinking, r.chunks)
            .map(|t| format!("{{\"type\":\"thinking_delta\",\"thinking\":{}}}", json(t)))
            .collect();
        deltas.push(format!("{{\"type\":\"signature_delta\",\"signature\":\"{SIGNATURE}\"}}"));
        let start = "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}".to_owned();
        blocks.push(Block { start, deltas });
    }
    if let Some(query) = &r.search {
        let [call, found] = search_blocks(r.seq, query);
        let input = format!("{{\"query\":{}}}", json(query));
        let input = format!("{{\"type\":\"input_json_delta\",\"partial_json\":{}}}", json(&input));
        blocks.push(Block { start: format!("{{{call},\"input\":{{}}}}"), deltas: vec![input] });
        blocks.push(Block { start: found, deltas: Vec::new() });
    }
    if !r.text.is_empty() {
        let deltas =
            split(&r.text, r.chunks).map(|t| format!("{{\"type\":\"text_delta\",\"text\":{}}}", json(t))).collect();
        blocks.push(Block { start: "{\"type\":\"text\",\"text\":\"\"}".into(), deltas });
    }
    for call in &r.tool_calls {
        let (id, name) = (json(&call.id), json(&call.name));
        let start = format!("{{\"type\":\"tool_use\",\"id\":{id},\"name\":{name},\"input\":{{}}}}");
        let pieces = std::iter::once("").chain(split(&call.arguments, r.chunks));
        let deltas =
            pieces.map(|p| format!("{{\"type\":\"input_json_delta\",\"partial_json\":{}}}", json(p))).collect();
        blocks.push(Block { start, deltas });
    }
    blocks
}

fn stream(r: &Resolved) -> (Vec<Piece>, usize) {
    let started = r.usage.output.min(1);
    let mut pieces = vec![Piece::billed(
        format!(
            "event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"model\":{},\
             \"id\":\"msg_emu{}\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\
             \"stop_reason\":null,\"stop_sequence\":null,\"usage\":{}}}}}\n\n",
            json(&r.model),
            r.seq,
            usage(&r.usage, started)
        ),
        started,
    )];
    let blocks = blocks(r);
    let count = blocks.iter().map(|b| b.deltas.len() as u64).sum();
    let mut done = 0;
    for (index, block) in blocks.into_iter().enumerate() {
        let mut text = format!(
            "event: content_block_start\ndata: {{\"type\":\"content_block_start\",\"index\":{index},\
             \"content_block\":{}}}\n\n",
            block.start
        );
        if index == 0 {
            text.push_str("event: ping\ndata: {\"type\": \"ping\"}\n\n");
        }
        pieces.push(Piece::billed(text, r.produced(done, count).max(started)));
        for delta in block.deltas {
            done += 1;
            let mut text = String::with_capacity(delta.len() + 96);
            let _ = write!(
                text,
                "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{index},\
                 \"delta\":{delta}}}\n\n"
            );
            pieces.push(Piece::billed(text, r.produced(done, count).max(started)));
        }
        let stop =
            format!("event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":{index}}}\n\n");
        pieces.push(Piece::billed(stop, r.produced(done, count).max(started)));
    }
    let all = r.usage.output;
    pieces.push(Piece::billed(
        format!(
            "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"{}\",\
             \"stop_sequence\":null}},\"usage\":{{{},\"output_tokens\":{all}{}}}}}\n\n",
            finish(r.finish),
            input_usage(&r.usage),
            searches(&r.usage)
        ),
        all,
    ));
    pieces.push(Piece::billed("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n", all));
    (pieces, 2)
}

fn refusal(refusal: &Refusal, request_id: &str) -> String {
    let kind = match refusal.status {
        400 | 422 => "invalid_request_error",
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        408 | 504 => "timeout_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    let message = json(&refusal.message);
    format!(
        "{{\"type\":\"error\",\"error\":{{\"type\":\"{kind}\",\"message\":{message}}},\
         \"request_id\":\"{request_id}\"}}"
    )
}
