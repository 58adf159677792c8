//! Anthropic's messages, at home and at those who host them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Meaning, Said, Tokens, arguments, buckets, items, no, one, string, take};

fn finish_of(word: &str) -> String {
    match word {
        "end_turn" => "stop",
        "stop_sequence" => "stop_sequence",
        "max_tokens" | "model_context_window_exceeded" => "length",
        "tool_use" => "tool_calls",
        "refusal" => "refusal",
        "pause_turn" => "pause",
        other => return format!("other: {other}"),
    }
    .to_owned()
}

pub(super) fn whole(body: &Value) -> Meaning {
    let mut said = Said { finish: body["stop_reason"].as_str().map(finish_of), ..Said::default() };
    for block in items(&body["content"]) {
        match block["type"].as_str() {
            Some("text") => said.text.push_str(&string(&block["text"])),
            Some("thinking") => said.reasoning.push_str(&string(&block["thinking"])),
            Some("tool_use") => {
                said.tools.push((string(&block["id"]), string(&block["name"]), block["input"].clone()));
            }
            _ => {}
        }
    }
    Meaning { choices: one(said), tokens: tokens(&body["usage"]), ..Meaning::default() }
}

#[derive(Default)]
struct Block {
    kind: String,
    text: String,
    id: String,
    name: String,
    /// What the block began with, and the pieces that came after.
    input: Value,
    pieces: String,
}

impl Block {
    fn begin(block: &Value) -> Block {
        Block {
            kind: string(&block["type"]),
            text: string(&block["text"]) + &string(&block["thinking"]),
            id: string(&block["id"]),
            name: string(&block["name"]),
            input: block["input"].clone(),
            pieces: String::new(),
        }
    }

    fn extend(&mut self, delta: &Value) {
        self.text.push_str(&string(&delta["text"]));
        self.text.push_str(&string(&delta["thinking"]));
        self.pieces.push_str(&string(&delta["partial_json"]));
    }
}

pub(super) fn stream<'a>(events: impl Iterator<Item = &'a Value>) -> Meaning {
    let mut meaning = Meaning::default();
    let mut blocks: BTreeMap<u64, Block> = BTreeMap::new();
    let mut usage = Map::new();
    let mut said = Said::default();
    let mut report = |more: &Value| {
        let more = more.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        usage.extend(more.map(|(name, value)| (name.clone(), value.clone())));
    };
    for event in events {
        let index = event["index"].as_u64().unwrap_or(0);
        match event["type"].as_str().unwrap_or_default() {
            "message_start" => report(&event["message"]["usage"]),
            "message_delta" => {
                report(&event["usage"]);
                said.finish = event["delta"]["stop_reason"].as_str().map(finish_of).or(said.finish);
            }
            "content_block_start" => {
                blocks.insert(index, Block::begin(&event["content_block"]));
            }
            "content_block_delta" => blocks.entry(index).or_default().extend(&event["delta"]),
            "message_stop" => {
                meaning.ended = true;
                break;
            }
            "error" => {
                meaning.error = Some(no(&event["error"]));
                break;
            }
            _ => {}
        }
    }
    for block in blocks.into_values() {
        match block.kind.as_str() {
            "text" => said.text.push_str(&block.text),
            "thinking" => said.reasoning.push_str(&block.text),
            "tool_use" => {
                let input = if block.pieces.is_empty() { block.input } else { arguments(&block.pieces) };
                said.tools.push((block.id, block.name, input));
            }
            _ => {}
        }
    }
    meaning.choices = one(said);
    meaning.tokens = tokens(&Value::Object(usage));
    meaning
}

/// Disjoint already, but for the thinking within the output and the cache writes of both lifetimes. Where the turn took
/// several samplings (compactions, advisors, fallbacks), what is billed is the sum of them all.
fn tokens(usage: &Value) -> Tokens {
    let mut tokens = sampling(usage);
    let mut sum = Tokens::new();
    for (bucket, more) in items(&usage["iterations"]).flat_map(sampling) {
        *sum.entry(bucket).or_default() += more;
    }
    for (bucket, sum) in sum {
        let so_far = tokens.entry(bucket).or_default();
        *so_far = sum.max(*so_far);
    }
    let thought = usage["output_tokens_details"]["thinking_tokens"].as_u64();
    let mut output = tokens.remove("output");
    take(&mut tokens, "reasoning", &mut output, thought);
    tokens.extend(output.map(|rest| ("output", rest)));
    tokens.extend(buckets([("searches", &usage["server_tool_use"]["web_search_requests"])]));
    tokens
}

fn sampling(usage: &Value) -> Tokens {
    let count = |value: &Value| value.as_u64();
    let mut tokens = buckets([("input", &usage["input_tokens"]), ("cache_read", &usage["cache_read_input_tokens"])]);
    let written = count(&usage["cache_creation_input_tokens"]);
    let hour = count(&usage["cache_creation"]["ephemeral_1h_input_tokens"]);
    let five = count(&usage["cache_creation"]["ephemeral_5m_input_tokens"]);
    let hour = hour.map(|hour| hour.min(written.unwrap_or(hour)));
    tokens.extend(written.map(|all| all - hour.unwrap_or(0)).or(five).map(|n| ("cache_write_5m", n)));
    tokens.extend(hour.map(|n| ("cache_write_1h", n)));
    tokens.extend(buckets([("output", &usage["output_tokens"])]));
    tokens
}
