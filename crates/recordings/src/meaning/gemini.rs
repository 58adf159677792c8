//! Gemini's generateContent, at Google's two doors.

use serde_json::{Map, Value};

use super::{Meaning, Said, Tokens, items, no, one, string, take};

/// Words, or the numbers that stand for them (`enum-encoding=int`).
fn word(value: &Value, words: &[&str]) -> Option<String> {
    let number = || value.as_u64().map(|n| words.get(n as usize).copied().unwrap_or("unknown").to_owned());
    value.as_str().map(str::to_owned).or_else(number)
}

const FINISHES: [&str; 6] = ["FINISH_REASON_UNSPECIFIED", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER"];
const MODALITIES: [&str; 6] = ["MODALITY_UNSPECIFIED", "TEXT", "IMAGE", "VIDEO", "AUDIO", "DOCUMENT"];

fn finish_of(word: &str) -> String {
    match word {
        "STOP" => "stop",
        "MAX_TOKENS" => "length",
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "LANGUAGE"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => "content_filter",
        other => return format!("other: {other}"),
    }
    .to_owned()
}

pub(super) fn whole(body: &Value) -> Meaning {
    stream([body].into_iter())
}

pub(super) fn stream<'a>(chunks: impl Iterator<Item = &'a Value>) -> Meaning {
    let mut meaning = Meaning::default();
    let (mut model, mut queries) = (String::new(), 0);
    for chunk in chunks {
        if let Some(said) = chunk["modelVersion"].as_str() {
            said.clone_into(&mut model);
        }
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            meaning.error = Some(no(error));
            break;
        }
        for candidate in items(&chunk["candidates"]) {
            let said = meaning.choices.entry(candidate["index"].as_u64().unwrap_or(0)).or_default();
            let asked = items(&candidate["groundingMetadata"]["webSearchQueries"]).filter(|query| *query != "");
            queries += asked.count() as u64;
            for part in items(&candidate["content"]["parts"]) {
                add(part, said);
            }
            if let Some(word) = word(&candidate["finishReason"], &FINISHES) {
                said.finish = Some(finish_of(&word));
            }
        }
        if chunk["promptFeedback"]["blockReason"].as_str().is_some() {
            meaning.choices = one(Said { finish: Some("content_filter".to_owned()), ..Said::default() });
        }
        if chunk["usageMetadata"].is_object() {
            meaning.total = chunk["usageMetadata"]["totalTokenCount"].as_u64();
            meaning.tokens = tokens(&chunk["usageMetadata"]);
        }
    }
    if queries > 0 {
        meaning.tokens.insert("searches", searches(&model, queries));
    }
    for said in meaning.choices.values_mut() {
        // There is no word of its own for it.
        if !said.tools.is_empty() && said.finish.as_deref() == Some("stop") {
            said.finish = Some("tool_calls".to_owned());
        }
    }
    meaning.ended = meaning.error.is_none() && !meaning.choices.is_empty();
    meaning
}

fn add(part: &Value, said: &mut Said) {
    let text = string(&part["text"]);
    if part["thought"] == true {
        said.reasoning.push_str(&text);
    } else {
        said.text.push_str(&text);
    }
    let Some(call) = part.get("functionCall") else { return };
    if let Some(name) = call["name"].as_str().filter(|name| !name.is_empty()) {
        let input = call.get("args").filter(|args| !args.is_null()).cloned();
        said.tools.push((string(&call["id"]), name.to_owned(), input.unwrap_or(Value::Object(Map::new()))));
    }
    // A call in pieces: each says where in the arguments it stands.
    let Some((_, _, input)) = said.tools.last_mut() else { return };
    for piece in items(&call["partialArgs"]) {
        if let Some(place) = place(input, piece["jsonPath"].as_str().unwrap_or_default()) {
            match (place, &piece["stringValue"]) {
                (Value::String(so_far), Value::String(more)) => so_far.push_str(more),
                (place, _) => {
                    let values =
                        ["stringValue", "numberValue", "boolValue"].into_iter().find_map(|kind| piece.get(kind));
                    *place = values.cloned().unwrap_or_default();
                }
            }
        }
    }
}

/// The place that a path like `$.items[0].name` leads to; made where it is not there.
fn place<'a>(input: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    let steps = path.strip_prefix('$')?.split(['.', '[', ']', '\'', '"']).filter(|step| !step.is_empty());
    steps.into_iter().try_fold(input, |value, step| match step.parse::<usize>() {
        Ok(at) => {
            if !value.is_array() {
                *value = Value::Array(Vec::new());
            }
            let items = value.as_array_mut()?;
            while items.len() <= at && at < 1000 {
                items.push(Value::Null);
            }
            items.get_mut(at)
        }
        Err(_) => {
            if !value.is_object() {
                *value = Value::Object(Map::new());
            }
            Some(value.as_object_mut()?.entry(step).or_insert(Value::Null))
        }
    })
}

fn modality(details: &Value, name: &str) -> Option<u64> {
    let of_it = items(details).filter(|detail| word(&detail["modality"], &MODALITIES).as_deref() == Some(name));
    let counts: Vec<u64> = of_it.filter_map(|detail| detail["tokenCount"].as_u64()).collect();
    (!counts.is_empty()).then(|| counts.iter().sum())
}

/// The prompt includes what was cached; the results of built-in tools and the thoughts stand beside it and the answer.
/// Details by modality are shares of their totals; only audio, and images that were made, cost something else than text.
/// What the total has and no part does is output.
fn tokens(usage: &Value) -> Tokens {
    let mut tokens = Tokens::new();
    let count = |name: &str| usage[name].as_u64();
    let (prompt, cached) = (&usage["promptTokensDetails"], &usage["cacheTokensDetails"]);
    let (mut from_cache, mut tools) = (count("cachedContentTokenCount"), count("toolUsePromptTokenCount"));
    let mut input = count("promptTokenCount").map(|input| input.saturating_sub(from_cache.unwrap_or(0)));
    let fresh = modality(prompt, "AUDIO").map(|all| all.saturating_sub(modality(cached, "AUDIO").unwrap_or(0)));
    take(&mut tokens, "audio_input", &mut input, fresh);
    take(&mut tokens, "audio_input", &mut tools, modality(&usage["toolUsePromptTokensDetails"], "AUDIO"));
    take(&mut tokens, "cache_read_audio", &mut from_cache, modality(cached, "AUDIO"));
    tokens.extend(from_cache.map(|rest| ("cache_read", rest)));
    if input.is_some() || tools.is_some() {
        tokens.insert("input", input.unwrap_or(0) + tools.unwrap_or(0));
    }
    let answer = &usage["candidatesTokensDetails"];
    let mut output = count("candidatesTokenCount");
    take(&mut tokens, "audio_output", &mut output, modality(answer, "AUDIO"));
    take(&mut tokens, "image_output", &mut output, modality(answer, "IMAGE"));
    tokens.extend(output.map(|rest| ("output", rest)));
    tokens.extend(count("thoughtsTokenCount").map(|thoughts| ("reasoning", thoughts)));
    let unnamed = count("totalTokenCount").unwrap_or(0).saturating_sub(tokens.values().sum());
    if unnamed > 0 {
        *tokens.entry("output").or_default() += unnamed;
    }
    tokens
}

/// Since the third generation each query is billed, before it each answer for which there was one.
fn searches(model: &str, queries: u64) -> u64 {
    let older = ["gemini-1", "gemini-2"].iter().any(|older| model.contains(older));
    if older { queries.min(1) } else { queries }
}
