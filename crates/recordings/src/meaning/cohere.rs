//! Cohere's second chat API, and its reranking.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Meaning, No, Said, Tokens, arguments, buckets, items, one, string};

fn finish_of(word: &str) -> String {
    match word {
        "COMPLETE" => "stop",
        "STOP_SEQUENCE" => "stop_sequence",
        "MAX_TOKENS" => "length",
        "TOOL_CALL" => "tool_calls",
        "ERROR_TOXIC" => "content_filter",
        other => return format!("other: {other}"),
    }
    .to_owned()
}

/// What the model says of how it will use its tools (`tool_plan`) is thinking.
pub(super) fn whole(body: &Value) -> Meaning {
    let message = &body["message"];
    let mut said = Said { finish: body["finish_reason"].as_str().map(finish_of), ..Said::default() };
    said.reasoning.push_str(&string(&message["tool_plan"]));
    for block in items(&message["content"]) {
        said.text.push_str(&string(&block["text"]));
        said.reasoning.push_str(&string(&block["thinking"]));
    }
    for call in items(&message["tool_calls"]) {
        let function = &call["function"];
        said.tools.push((string(&call["id"]), string(&function["name"]), arguments(&string(&function["arguments"]))));
    }
    let (tokens, total) = tokens(&body["usage"]);
    if let Some(no) = broken(body) {
        // What was used until then is billed.
        return Meaning { error: Some(no), tokens, total, ..Meaning::default() };
    }
    Meaning { choices: one(said), tokens, total, ..Meaning::default() }
}

/// An answer that ends with these words is none.
fn broken(end: &Value) -> Option<No> {
    let word = end["finish_reason"].as_str().filter(|word| ["ERROR", "TIMEOUT"].contains(word));
    let said = end["error"].as_str();
    (word.is_some() || said.is_some())
        .then(|| No { message: said.unwrap_or_default().to_owned(), code: word.map(str::to_owned) })
}

pub(super) fn stream<'a>(events: impl Iterator<Item = &'a Value>) -> Meaning {
    let mut meaning = Meaning::default();
    let mut said = Said::default();
    let mut calls: BTreeMap<u64, (String, String, String)> = BTreeMap::new();
    for event in events {
        let delta = &event["delta"];
        let (message, index) = (&delta["message"], event["index"].as_u64().unwrap_or(0));
        match event["type"].as_str().unwrap_or_default() {
            "tool-plan-delta" => said.reasoning.push_str(&string(&message["tool_plan"])),
            "content-start" | "content-delta" => {
                said.text.push_str(&string(&message["content"]["text"]));
                said.reasoning.push_str(&string(&message["content"]["thinking"]));
            }
            "tool-call-start" | "tool-call-delta" => {
                let (call, so_far) = (&message["tool_calls"], calls.entry(index).or_default());
                so_far.0.push_str(&string(&call["id"]));
                so_far.1.push_str(&string(&call["function"]["name"]));
                so_far.2.push_str(&string(&call["function"]["arguments"]));
            }
            "message-end" => {
                said.finish = delta["finish_reason"].as_str().map(finish_of);
                (meaning.tokens, meaning.total) = tokens(&delta["usage"]);
                meaning.ended = true;
                meaning.error = broken(delta);
                break;
            }
            _ => {}
        }
    }
    said.tools = calls.into_values().map(|(id, name, input)| (id, name, arguments(&input))).collect();
    meaning.choices = one(said);
    meaning
}

/// What is billed is what counts; `tokens` includes Cohere's own preamble, and its cache with it.
fn tokens(usage: &Value) -> (Tokens, Option<u64>) {
    let billed = Some(&usage["billed_units"]).filter(|billed| billed["input_tokens"].is_u64());
    let counts = billed.unwrap_or(&usage["tokens"]);
    let tokens = buckets([
        ("input", &counts["input_tokens"]),
        ("output", &counts["output_tokens"]),
        ("searches", &usage["billed_units"]["search_units"]),
    ]);
    let total = billed.map(|_| ["input", "output"].iter().filter_map(|bucket| tokens.get(bucket)).sum());
    (tokens, total)
}

pub(super) fn ranking(body: &Value) -> Meaning {
    let ranked = items(&body["results"]);
    let ranked = ranked.map(|one| (one["index"].as_u64().unwrap_or(0), one["relevance_score"].clone()));
    let billed = &body["meta"]["billed_units"];
    // Compatible servers count tokens in the place of units.
    let tokens = [&billed["input_tokens"], &body["usage"]["total_tokens"]].into_iter().find(|count| !count.is_null());
    let tokens = buckets([("searches", &billed["search_units"]), ("input", tokens.unwrap_or(&Value::Null))]);
    Meaning { ranking: ranked.collect(), tokens, ..Meaning::default() }
}
