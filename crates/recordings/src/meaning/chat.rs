//! OpenAI's chat completions and what is compatible with them; the older completions.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Meaning, Said, Tokens, arguments, items, no, string, take};

/// Text, or a list of blocks of which those that have text count.
fn content(value: &Value) -> String {
    match value {
        Value::Array(blocks) => blocks.iter().map(|block| string(&block["text"])).collect(),
        other => string(other),
    }
}

/// What compatible servers say of the thinking: in details (OpenRouter, which repeats their text under a name), under one
/// of two names, or as blocks of the content (Mistral).
fn reasoning(message: &Value) -> String {
    let details = items(&message["reasoning_details"]);
    let details: String = details.map(|detail| string(&detail["text"]) + &string(&detail["summary"])).collect();
    let blocks: String = items(&message["content"]).map(|block| content(&block["thinking"])).collect();
    let named = ["reasoning_content", "reasoning"].into_iter().map(|name| content(&message[name]));
    [details].into_iter().chain(named).chain([blocks]).find(|text| !text.is_empty()).unwrap_or_default()
}

fn finish_of(word: &str) -> String {
    match word {
        "stop" | "length" | "tool_calls" | "content_filter" => word.to_owned(),
        "function_call" => "tool_calls".to_owned(),
        other => format!("other: {other}"),
    }
}

/// An error in place of an answer, or within a choice.
pub(super) fn broken(answer: &Value) -> Option<&Value> {
    let flat = (answer["object"] == "error" && answer["message"].is_string()).then_some(answer);
    let within = || items(&answer["choices"]).find_map(|choice| choice.get("error").filter(|error| !error.is_null()));
    answer.get("error").filter(|error| !error.is_null()).or(flat).or_else(within)
}

/// The text of a call's arguments: JSON in a string, or (Mistral) JSON itself.
fn written(function: &Value) -> String {
    match &function["arguments"] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The choices of a whole answer in OpenAI's form: a provider's, or farebox's.
pub fn choices(answer: &Value) -> BTreeMap<u64, Said> {
    let read = |choice: &Value| {
        let message = &choice["message"];
        let tools = items(&message["tool_calls"]).map(|call| (string(&call["id"]), &call["function"]));
        // What calls were before they had ids.
        let legacy = message.get("function_call").filter(|call| call.is_object()).map(|call| (String::new(), call));
        let tools = tools.chain(legacy).map(|(id, call)| (id, string(&call["name"]), arguments(&written(call))));
        let said = Said {
            text: content(&message["content"]),
            refusal: string(&message["refusal"]),
            reasoning: reasoning(message),
            tools: tools.collect(),
            finish: choice["finish_reason"].as_str().map(finish_of),
        };
        (choice["index"].as_u64().unwrap_or(0), said)
    };
    items(&answer["choices"]).map(read).collect()
}

#[derive(Default)]
struct Growing {
    said: Said,
    /// Number, id, name, arguments.
    tools: Vec<(u64, String, String, String)>,
}

impl Growing {
    /// A piece of a call. Some number all calls alike: another id is another call.
    fn call(&mut self, number: u64, id: String, function: &Value) {
        let same = |tool: &&mut (u64, String, String, String)| {
            tool.0 == number && (id.is_empty() || tool.1.is_empty() || tool.1 == id)
        };
        match self.tools.iter_mut().rev().find(same) {
            Some(tool) => tool.3.push_str(&written(function)),
            None => self.tools.push((number, id, string(&function["name"]), written(function))),
        }
    }
}

/// The choices that the chunks of a stream in OpenAI's form add up to: a provider's, or farebox's.
pub fn chunks<'a>(chunks: impl IntoIterator<Item = &'a Value>) -> BTreeMap<u64, Said> {
    let mut growing: BTreeMap<u64, Growing> = BTreeMap::new();
    for choice in chunks.into_iter().flat_map(|chunk| items(&chunk["choices"])) {
        let choice_so_far = growing.entry(choice["index"].as_u64().unwrap_or(0)).or_default();
        let delta = &choice["delta"];
        choice_so_far.said.text.push_str(&content(&delta["content"]));
        choice_so_far.said.refusal.push_str(&string(&delta["refusal"]));
        choice_so_far.said.reasoning.push_str(&reasoning(delta));
        for piece in items(&delta["tool_calls"]) {
            // Without a number: one with an id is a new call, one without belongs to the last.
            let id = string(&piece["id"]);
            let count = choice_so_far.tools.len() as u64;
            let number = piece["index"].as_u64().unwrap_or(if id.is_empty() { count.saturating_sub(1) } else { count });
            choice_so_far.call(number, id, &piece["function"]);
        }
        if delta["function_call"].is_object() {
            choice_so_far.call(0, String::new(), &delta["function_call"]);
        }
        if let Some(word) = choice["finish_reason"].as_str().filter(|word| !word.is_empty()) {
            choice_so_far.said.finish = Some(finish_of(word));
        }
    }
    let done = |(index, Growing { said, tools })| {
        let tools = tools.into_iter().map(|(_, id, name, text)| (id, name, arguments(&text))).collect();
        (index, Said { tools, ..said })
    };
    growing.into_iter().map(done).collect()
}

pub(super) fn whole(body: &Value) -> Meaning {
    let (tokens, total) = tokens(&body["usage"]);
    Meaning { choices: choices(body), tokens, total, ..Meaning::default() }
}

pub(super) fn stream<'a>(events: impl Iterator<Item = &'a Value>, done: bool) -> Meaning {
    folded(events, done, chunks)
}

/// Usage, error and end are the same in both streams; how choices grow is not.
fn folded<'a>(
    events: impl Iterator<Item = &'a Value>,
    done: bool,
    grow: fn(Vec<&'a Value>) -> BTreeMap<u64, Said>,
) -> Meaning {
    let mut meaning = Meaning { ended: done, ..Meaning::default() };
    let mut chunks = Vec::new();
    for chunk in events {
        if let Some(error) = broken(chunk) {
            meaning.error = Some(no(error));
            break;
        }
        // Groq says it in an object of its own.
        let usage = [&chunk["usage"], &chunk["x_groq"]["usage"]].into_iter().find(|usage| usage.is_object());
        if let Some(usage) = usage {
            (meaning.tokens, meaning.total) = tokens(usage);
        }
        chunks.push(chunk);
    }
    meaning.choices = grow(chunks);
    meaning
}

pub(super) fn completion(body: &Value) -> Meaning {
    let (tokens, total) = tokens(&body["usage"]);
    Meaning { choices: texts(vec![body]), tokens, total, ..Meaning::default() }
}

pub(super) fn completion_stream<'a>(events: impl Iterator<Item = &'a Value>, done: bool) -> Meaning {
    folded(events, done, texts)
}

fn texts(chunks: Vec<&Value>) -> BTreeMap<u64, Said> {
    let mut said: BTreeMap<u64, Said> = BTreeMap::new();
    for choice in chunks.into_iter().flat_map(|chunk| items(&chunk["choices"])) {
        let so_far = said.entry(choice["index"].as_u64().unwrap_or(0)).or_default();
        so_far.text.push_str(&string(&choice["text"]));
        so_far.finish = choice["finish_reason"].as_str().map(finish_of).or(so_far.finish.take());
    }
    said
}

/// Totals, of which the details are shares.
pub(super) fn tokens(usage: &Value) -> (Tokens, Option<u64>) {
    let mut tokens = Tokens::new();
    let count = |value: &Value| value.as_u64();
    let (prompt, completion) = (&usage["prompt_tokens_details"], &usage["completion_tokens_details"]);
    let mut input = count(&usage["prompt_tokens"]);
    let mut output = count(&usage["completion_tokens"]);
    let mut total = count(&usage["total_tokens"]);
    // Perplexity's sources are read beside the prompt, and its thoughts stand beside everything, outside of the total.
    let read = count(&usage["citation_tokens"]);
    let beside_all = count(&usage["reasoning_tokens"]).filter(|_| completion.is_null());
    // Some say what was cached beside the totals instead of in their details.
    let beside = ["cached_tokens", "prompt_cache_hit_tokens", "num_cached_tokens"];
    let cached = count(&prompt["cached_tokens"]).or_else(|| beside.iter().find_map(|name| count(&usage[*name])));
    let mut reasoning = count(&completion["reasoning_tokens"]);
    if let (Some(beside), Some(said)) = (beside_all, output) {
        reasoning = Some(beside);
        output = Some(said + beside);
        total = total.map(|total| total + beside);
    } else if let (Some(total), Some(input), Some(said)) = (total, input, output) {
        // Tokens that stand in neither part, but in the total, were thought.
        let unnamed = total.saturating_sub(input + said);
        if unnamed > 0 && reasoning.is_none_or(|reasoning| reasoning == 0 || reasoning == unnamed) {
            reasoning = Some(unnamed);
            output = Some(said + unnamed);
        }
    }
    input = input.map(|input| input + read.unwrap_or(0));
    total = total.map(|total| total + read.unwrap_or(0));
    take(&mut tokens, "cache_read", &mut input, cached);
    take(&mut tokens, "cache_write_5m", &mut input, count(&prompt["cache_write_tokens"]));
    take(&mut tokens, "audio_input", &mut input, count(&prompt["audio_tokens"]));
    take(&mut tokens, "image_input", &mut input, count(&prompt["image_tokens"]));
    take(&mut tokens, "reasoning", &mut output, reasoning);
    take(&mut tokens, "audio_output", &mut output, count(&completion["audio_tokens"]));
    take(&mut tokens, "image_output", &mut output, count(&completion["image_tokens"]));
    tokens.extend(input.map(|rest| ("input", rest)));
    tokens.extend(output.map(|rest| ("output", rest)));
    // OpenRouter's searches, Perplexity's, and what xAI calls sources.
    let searches = ["server_tool_use_details", "server_tool_use"].map(|name| &usage[name]["web_search_requests"]);
    let searches = searches.into_iter().chain([&usage["num_search_queries"], &usage["num_sources_used"]]);
    tokens.extend({ searches }.find_map(Value::as_u64).map(|searches| ("searches", searches)));
    (tokens, total)
}
