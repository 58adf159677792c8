//! Requests of the dialects that callers may speak: understood, passed through with the documented edits only, and the
//! same in meaning when they are written anew.

use std::collections::BTreeSet;

use farebox_dialect::{Caller, Defaults, Passing, Provider, caller_dialect, provider_dialect, rewrite};
use http::HeaderMap;
use indexmap::IndexMap;
use serde_json::{Map, Value, json, value::RawValue};

use super::{Subject, answer, dialect};
use crate::{exchange::Exchange, family::Family};

/// What pass-through may change: the model's name, limits and temperature from the config, and what a stream is asked
/// for with.
const EDITED: [&str; 8] = [
    "model",
    "stream",
    "stream_options",
    "usage",
    "temperature",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
];

type Members = IndexMap<String, Box<RawValue>>;

pub(super) fn check(exchange: &Exchange, subject: &Subject) -> Vec<String> {
    // A provider's own no says nothing about what a caller may ask.
    let Some(body) = exchange.request.as_ref().and_then(|r| r.body.as_deref()).filter(|_| exchange.is_ok()) else {
        return Vec::new();
    };
    let name = match subject.family {
        Family::AnthropicCount => farebox_dialect::DialectName::AnthropicCountTokens,
        family => dialect(family),
    };
    let Some(caller) = caller_dialect(name) else { return Vec::new() };
    written(body, caller, exchange, subject).unwrap_or_else(|problem| vec![format!("the request: {problem}")])
}

fn written(body: &str, caller: Caller, exchange: &Exchange, subject: &Subject) -> Result<Vec<String>, String> {
    let mut faults = Vec::new();
    let (headers, bytes) = (HeaderMap::new(), body.as_bytes());
    let provider = provider_dialect(subject.dialect).ok_or("farebox has no encoder of it")?;
    let (mut target, no) = (answer::target(exchange, subject), |bad: farebox_dialect::BadRequest| bad.to_string());
    let named: Value = serde_json::from_str(body).map_err(|error| error.to_string())?;
    if let Some(model) = named["model"].as_str() {
        target.model = model.to_owned();
    }
    let cannot = |error: farebox_dialect::EncodeError| format!("it cannot be written anew: {error}");
    let (edits, encoded) = match (caller, provider) {
        (Caller::Generate(caller), Provider::Generate(dialect)) => {
            let call = caller.parse(&headers, bytes).map_err(no)?;
            let asked_stream = call.stream;
            let passing = Passing { call: &call, asked_stream, defaults: Defaults::default(), target: &target };
            (dialect.edits(&passing), dialect.encode(&call, &target).map_err(cannot)?)
        }
        (Caller::CountTokens(caller), Provider::Generate(dialect)) => {
            let call = caller.parse(&headers, bytes).map_err(no)?;
            let counting = dialect.counting().ok_or("farebox does not count with it")?;
            (Vec::new(), counting.encode(&call, &target).map_err(cannot)?)
        }
        (Caller::Embed(caller), Provider::Embed(dialect)) => {
            let call = caller.parse(&headers, bytes).map_err(no)?;
            (dialect.edits(&target), dialect.encode(&call, &target).map_err(cannot)?)
        }
        (Caller::Rerank(caller), Provider::Rerank(dialect)) => {
            let call = caller.parse(&headers, bytes).map_err(no)?;
            (dialect.edits(&target), dialect.encode(&call, &target).map_err(cannot)?)
        }
        _ => return Err("its two halves do not fit".to_owned()),
    };
    let passed = rewrite(bytes, &edits).map_err(|error| error.to_string())?;
    faults.extend(edited(body, &String::from_utf8_lossy(&passed)));
    let anew: Value = serde_json::from_slice(encoded.request.body()).map_err(|error| error.to_string())?;
    let (mut was, mut is) = (named, anew);
    normalise(&mut was, subject.family);
    normalise(&mut is, subject.family);
    differences("", &was, &is, &mut faults);
    Ok(faults)
}

/// Members whose bytes or place changed without being on the list.
fn edited(before: &str, after: &str) -> Vec<String> {
    let members = |text: &str| serde_json::from_str::<Members>(text);
    let (Ok(before), Ok(after)) = (members(before), members(after)) else {
        return vec!["the request passed through is no JSON object any more".to_owned()];
    };
    let kept = |members: &Members| -> Vec<(String, String)> {
        let kept = members.iter().filter(|(name, _)| !EDITED.contains(&name.as_str()));
        kept.map(|(name, raw)| (name.clone(), raw.get().to_owned())).collect()
    };
    let (before, after) = (kept(&before), kept(&after));
    if before == after {
        return Vec::new();
    }
    let names = |from: &[(String, String)], other: &[(String, String)]| -> BTreeSet<String> {
        from.iter().filter(|member| !other.contains(member)).map(|(name, _)| name.clone()).collect()
    };
    let changed: BTreeSet<String> = names(&before, &after).union(&names(&after, &before)).cloned().collect();
    vec![format!("pass-through changes {changed:?} of the request, or the order of its members")]
}

/// What may be written in two ways, in one of them: a text as one block, one stop word as a list of it, the limit by its
/// newer name, defaults as nothing, tools by their names; and without what pass-through edits.
fn normalise(body: &mut Value, family: Family) {
    tidy(body);
    let Some(top) = body.as_object_mut() else { return };
    for name in ["stream", "stream_options", "usage", "model"] {
        top.remove(name);
    }
    if family == Family::Chat {
        if let Some(limit) = top.remove("max_tokens") {
            top.entry("max_completion_tokens").or_insert(limit);
        }
        // Mistral's older word.
        if top.get("tool_choice").is_some_and(|choice| choice == "any") {
            top.insert("tool_choice".to_owned(), Value::from("required"));
        }
    }
    if family == Family::Responses {
        turns(top);
    }
    for name in ["stop", "input", "prompt"] {
        if let Some(one) = top.get_mut(name).filter(|value| value.is_string()) {
            *one = Value::from(vec![one.take()]);
        }
    }
    if let Some(tools) = top.get_mut("tools").and_then(Value::as_array_mut) {
        tools.sort_by_key(|tool| {
            let name = [&tool["name"], &tool["function"]["name"], &tool["type"]].into_iter().find_map(Value::as_str);
            name.map(str::to_owned)
        });
    }
}

/// The input of a response: instructions are its first turn, a text is the user's, turns of one role in a row are one,
/// and neither kinds of texts nor ids of messages matter; thoughts are one text, in the summary or beside it.
fn turns(top: &mut Map<String, Value>) {
    let text = |text: Value| json!({ "type": "text", "text": text });
    let turn = |role: &str, words: Value| json!({ "role": role, "content": [text(words)] });
    let mut given = match top.shift_remove("input") {
        Some(Value::Array(items)) => items,
        Some(words) => vec![turn("user", words)],
        None => Vec::new(),
    };
    if let Some(words) = top.shift_remove("instructions") {
        given.insert(0, turn("system", words));
    }
    let mut items: Vec<Value> = Vec::new();
    for mut item in given {
        if let Some(words) = item.as_str() {
            item = turn("user", Value::from(words));
        }
        if item["type"] == "reasoning" {
            let words =
                |name: &str| item[name].as_array().into_iter().flatten().filter_map(|part| part["text"].as_str());
            let (summary, content): (Vec<_>, Vec<_>) = (words("summary").collect(), words("content").collect());
            let thoughts = if summary.is_empty() { content } else { summary }.join("\n\n");
            item["summary"] = Value::from(thoughts);
            item.as_object_mut().map(|item| item.shift_remove("content"));
        }
        let Some(role) = item["role"].as_str().map(str::to_owned) else {
            items.push(item);
            continue;
        };
        let mut content = item["content"].as_array().cloned().unwrap_or_default();
        for part in content.iter_mut().filter(|part| part["text"].is_string()) {
            *part = text(part["text"].clone());
        }
        match items.last_mut().filter(|last| last["role"] == *role).and_then(|last| last["content"].as_array_mut()) {
            Some(last) => last.extend(content),
            None => items.push(json!({ "role": role, "content": content })),
        }
    }
    top.insert("input".to_owned(), Value::Array(items));
}

/// What means the same when it is not there.
const DEFAULTS: [(&str, &str); 6] = [
    // Mistral's tools do not say that they are functions, Anthropic's that they are the caller's.
    ("type", "\"function\""),
    ("type", "\"custom\""),
    ("is_error", "false"),
    ("ttl", "\"5m\""),
    ("description", "\"\""),
    ("temperature", "1"),
];

/// Whole numbers by one spelling, nothing that is empty or a default, texts as blocks.
fn tidy(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(whole) = number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 9e15) {
                *value = Value::from(whole as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(members) => {
            members.values_mut().for_each(tidy);
            let default = |name: &str, value: &Value| {
                let written = value.to_string();
                DEFAULTS.iter().any(|(other, default)| name == *other && written == *default)
            };
            members.retain(|name, value| {
                !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty()) && !default(name, value)
            });
            for name in ["content", "system"] {
                if let Some(text) = members.get_mut(name).filter(|value| value.is_string()) {
                    *text = json!([{ "type": "text", "text": text.take() }]);
                }
            }
        }
        _ => {}
    }
}

fn differences(at: &str, was: &Value, is: &Value, faults: &mut Vec<String>) {
    if was == is || faults.len() > 8 {
        return;
    }
    match (was, is) {
        (Value::Object(left), Value::Object(right)) => {
            let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            for name in names {
                let of = |members: &Map<String, Value>| members.get(name).cloned().unwrap_or_default();
                differences(&format!("{at}.{name}"), &of(left), &of(right), faults);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                differences(&format!("{at}[{index}]"), left, right, faults);
            }
        }
        _ => {
            let short = |value: &Value| value.to_string().chars().take(160).collect::<String>();
            faults.push(format!("the request written anew has {} at `{at}` instead of {}", short(is), short(was)));
        }
    }
}
