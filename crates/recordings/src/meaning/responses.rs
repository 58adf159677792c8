//! OpenAI's responses.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Meaning, Said, Tokens, arguments, items, no, one, string, take};

pub(super) fn whole(body: &Value) -> Result<Meaning, String> {
    if matches!(body["status"].as_str(), Some("queued" | "in_progress")) {
        return Err("a response that is still being made: the answer is not there yet".to_owned());
    }
    let mut said = Said::default();
    for item in items(&body["output"]) {
        add(item, &mut said);
    }
    said.finish = finish_of(body, &said);
    let (tokens, total) = tokens(body, items(&body["output"]));
    Ok(Meaning { choices: one(said), tokens, total, error: failure(body), ..Meaning::default() })
}

fn failure(response: &Value) -> Option<super::No> {
    (response["status"] == "failed").then(|| no(&response["error"]))
}

/// A whole item of the output.
fn add(item: &Value, said: &mut Said) {
    match item["type"].as_str() {
        Some("message") => {
            for part in items(&item["content"]) {
                said.text.push_str(&string(&part["text"]));
                said.refusal.push_str(&string(&part["refusal"]));
            }
        }
        Some("reasoning") => {
            // Where there are both, they are the same thoughts.
            let thoughts =
                ["summary", "content"].into_iter().map(|name| items(&item[name]).map(|part| string(&part["text"])));
            let thoughts = thoughts.map(|texts| texts.collect::<String>());
            said.reasoning.push_str(&{ thoughts }.find(|text| !text.is_empty()).unwrap_or_default());
        }
        Some("function_call") => {
            let call = arguments(&string(&item["arguments"]));
            said.tools.push((string(&item["call_id"]), string(&item["name"]), call));
        }
        _ => {}
    }
}

fn finish_of(response: &Value, said: &Said) -> Option<String> {
    let word = match (response["status"].as_str()?, response["incomplete_details"]["reason"].as_str()) {
        ("completed", _) if said.tools.is_empty() => "stop",
        ("completed", _) => "tool_calls",
        ("incomplete", Some("max_output_tokens")) => "length",
        ("incomplete", Some("content_filter")) => "content_filter",
        ("incomplete", Some(other)) | (other, _) => return Some(format!("other: {other}")),
    };
    Some(word.to_owned())
}

/// An item as its pieces come in.
#[derive(Default)]
struct Growing {
    item: Value,
    text: String,
    refusal: String,
    reasoning: String,
    arguments: String,
}

impl Growing {
    /// Pieces where there were some, else what the item itself says at its end.
    fn finish(self, said: &mut Said) {
        let mut whole = Said::default();
        add(&self.item, &mut whole);
        let or = |pieces: String, whole: String| if pieces.is_empty() { whole } else { pieces };
        said.text.push_str(&or(self.text, whole.text));
        said.refusal.push_str(&or(self.refusal, whole.refusal));
        said.reasoning.push_str(&or(self.reasoning, whole.reasoning));
        said.tools.extend(whole.tools.into_iter().map(|(id, name, input)| {
            (id, name, if self.arguments.is_empty() { input } else { arguments(&self.arguments) })
        }));
    }
}

pub(super) fn stream<'a>(events: impl Iterator<Item = &'a Value>) -> Meaning {
    let mut meaning = Meaning::default();
    let mut growing: BTreeMap<u64, Growing> = BTreeMap::new();
    let mut last = None;
    for event in events {
        let kind = event["type"].as_str().unwrap_or_default();
        match kind {
            "response.completed" | "response.incomplete" | "response.failed" => {
                last = Some(&event["response"]);
                break;
            }
            "error" => {
                meaning.error = Some(no(event.get("error").filter(|error| error.is_object()).unwrap_or(event)));
                break;
            }
            _ => {}
        }
        let Some(index) = event["output_index"].as_u64() else { continue };
        let item = growing.entry(index).or_default();
        let piece = string(&event["delta"]);
        match kind {
            "response.output_item.added" => item.item = event["item"].clone(),
            // It is still the one that was announced.
            "response.output_item.done" if event["item"].is_object() => {
                let begun = std::mem::replace(&mut item.item, event["item"].clone());
                for name in ["call_id", "name"].into_iter().filter(|name| begun[*name].is_string()) {
                    item.item[name] = begun[name].clone();
                }
            }
            "response.output_text.delta" => item.text.push_str(&piece),
            "response.refusal.delta" => item.refusal.push_str(&piece),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                item.reasoning.push_str(&piece)
            }
            "response.function_call_arguments.delta" => item.arguments.push_str(&piece),
            _ => {}
        }
    }
    // An end without a way to it.
    let ended = last.filter(|_| growing.is_empty()).map(|response| items(&response["output"]));
    for (at, item) in ended.into_iter().flatten().enumerate() {
        growing.insert(at as u64, Growing { item: item.clone(), ..Growing::default() });
    }
    let mut said = Said::default();
    let made: Vec<Value> = growing.values().map(|growing| growing.item.clone()).collect();
    for item in growing.into_values() {
        item.finish(&mut said);
    }
    if let Some(response) = last {
        said.finish = finish_of(response, &said);
        (meaning.tokens, meaning.total) = tokens(response, made.iter());
        meaning.error = failure(response);
        meaning.ended = meaning.error.is_none();
    }
    meaning.choices = one(said);
    meaning
}

/// Totals, of which the details are shares. Searches are what the response says, or as many as it made: opening a page
/// is none.
fn tokens<'a>(response: &Value, items: impl Iterator<Item = &'a Value>) -> (Tokens, Option<u64>) {
    let mut tokens = Tokens::new();
    let usage = &response["usage"];
    let (prompt, answer) = (&usage["input_tokens_details"], &usage["output_tokens_details"]);
    let (mut input, mut output) = (usage["input_tokens"].as_u64(), usage["output_tokens"].as_u64());
    let long = prompt["cache_write_tokens_details"]["ttl_12h_tokens"].as_u64();
    let written = prompt["cache_write_tokens"].as_u64().map(|all| all.saturating_sub(long.unwrap_or(0)));
    take(&mut tokens, "cache_read", &mut input, prompt["cached_tokens"].as_u64());
    take(&mut tokens, "cache_write_1h", &mut input, long);
    take(&mut tokens, "cache_write_5m", &mut input, written);
    take(&mut tokens, "audio_input", &mut input, prompt["audio_tokens"].as_u64());
    take(&mut tokens, "image_input", &mut input, prompt["image_tokens"].as_u64());
    take(&mut tokens, "reasoning", &mut output, answer["reasoning_tokens"].as_u64());
    take(&mut tokens, "audio_output", &mut output, answer["audio_tokens"].as_u64());
    take(&mut tokens, "image_output", &mut output, answer["image_tokens"].as_u64());
    tokens.extend(input.map(|rest| ("input", rest)));
    tokens.extend(output.map(|rest| ("output", rest)));
    let is_search = |item: &&Value| {
        item["type"] == "web_search_call" && item["action"]["type"].as_str().is_none_or(|action| action == "search")
    };
    let made = items.filter(is_search).count() as u64;
    let said = response["tool_usage"]["web_search"]["num_requests"].as_u64().filter(|said| *said > 0);
    tokens.extend(said.or((made > 0).then_some(made)).map(|searches| ("searches", searches)));
    (tokens, usage["total_tokens"].as_u64())
}
