//! Bedrock's Converse; and Ollama's chat, which is as small.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Meaning, No, Said, Tokens, arguments, buckets, items, no, one, string};

fn finish_of(word: &str) -> String {
    match word {
        "end_turn" => "stop",
        "stop_sequence" => "stop_sequence",
        "max_tokens" | "model_context_window_exceeded" => "length",
        "tool_use" => "tool_calls",
        "guardrail_intervened" | "content_filtered" => "content_filter",
        other => return format!("other: {other}"),
    }
    .to_owned()
}

pub(super) fn whole(body: &Value) -> Meaning {
    let mut said = Said { finish: body["stopReason"].as_str().map(finish_of), ..Said::default() };
    for block in items(&body["output"]["message"]["content"]) {
        said.text.push_str(&string(&block["text"]));
        said.reasoning.push_str(&string(&block["reasoningContent"]["reasoningText"]["text"]));
        for cited in items(&block["citationsContent"]["content"]) {
            said.text.push_str(&string(&cited["text"]));
        }
        if let Some(call) = block.get("toolUse").filter(|call| call["type"] != "server_tool_use") {
            said.tools.push((string(&call["toolUseId"]), string(&call["name"]), call["input"].clone()));
        }
    }
    let (tokens, total) = tokens(&body["usage"]);
    Meaning { choices: one(said), tokens, total, ..Meaning::default() }
}

pub(super) fn stream(events: &[(&str, Value)]) -> Meaning {
    let mut meaning = Meaning::default();
    let mut said = Said::default();
    let mut calls: BTreeMap<u64, (String, String, String)> = BTreeMap::new();
    for (name, event) in events {
        let index = event["contentBlockIndex"].as_u64().unwrap_or(0);
        match *name {
            "contentBlockStart" => {
                if let Some(call) = event["start"].get("toolUse").filter(|call| call["type"] != "server_tool_use") {
                    calls.insert(index, (string(&call["toolUseId"]), string(&call["name"]), String::new()));
                }
            }
            "contentBlockDelta" => {
                let delta = &event["delta"];
                said.text.push_str(&string(&delta["text"]));
                said.reasoning.push_str(&string(&delta["reasoningContent"]["text"]));
                if let Some(call) = calls.get_mut(&index) {
                    call.2.push_str(&string(&delta["toolUse"]["input"]));
                }
            }
            "messageStop" => {
                said.finish = event["stopReason"].as_str().map(finish_of);
            }
            // What was used comes last.
            "metadata" => {
                (meaning.tokens, meaning.total) = tokens(&event["usage"]);
                meaning.ended = true;
            }
            exception if exception.ends_with("Exception") => {
                meaning.error = Some(No { code: Some(exception.to_owned()), ..no(event) });
                meaning.ended = false;
                break;
            }
            _ => {}
        }
    }
    said.tools = calls.into_values().map(|(id, name, input)| (id, name, arguments(&input))).collect();
    meaning.choices = one(said);
    meaning
}

/// Disjoint already; the details say for how long was written.
fn tokens(usage: &Value) -> (Tokens, Option<u64>) {
    let mut tokens = buckets([
        ("input", &usage["inputTokens"]),
        ("output", &usage["outputTokens"]),
        ("cache_read", &usage["cacheReadInputTokens"]),
        ("cache_write_5m", &usage["cacheWriteInputTokens"]),
    ]);
    let hours = items(&usage["cacheDetails"]).filter(|detail| detail["ttl"] == "1h");
    let hours: u64 = hours.filter_map(|detail| detail["inputTokens"].as_u64()).sum();
    if let Some(written) = tokens.get_mut("cache_write_5m").filter(|_| hours > 0) {
        let hours = hours.min(*written);
        *written -= hours;
        tokens.insert("cache_write_1h", hours);
    }
    (tokens, usage["totalTokens"].as_u64())
}

pub(super) fn ollama(body: &Value) -> Meaning {
    ollama_stream([body].into_iter())
}

pub(super) fn ollama_stream<'a>(chunks: impl Iterator<Item = &'a Value>) -> Meaning {
    let mut meaning = Meaning::default();
    let mut said = Said::default();
    for chunk in chunks {
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            meaning.error = Some(no(error));
            break;
        }
        let message = &chunk["message"];
        said.text.push_str(&string(&message["content"]));
        said.reasoning.push_str(&string(&message["thinking"]));
        for call in items(&message["tool_calls"]) {
            let function = &call["function"];
            said.tools.push((string(&call["id"]), string(&function["name"]), function["arguments"].clone()));
        }
        if chunk["done"] == true {
            meaning.ended = true;
            meaning.tokens = buckets([("input", &chunk["prompt_eval_count"]), ("output", &chunk["eval_count"])]);
            said.finish = chunk["done_reason"].as_str().map(|word| match word {
                "stop" if !said.tools.is_empty() => "tool_calls".to_owned(),
                "stop" | "length" => word.to_owned(),
                other => format!("other: {other}"),
            });
            break;
        }
    }
    meaning.choices = one(said);
    meaning
}
