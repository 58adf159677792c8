//! JSON text with one value changed.

use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::Value;

/// Stands in a value's place until the text is written: what comes there need not be JSON that a `Value` can hold.
const PLACE: &str = "\u{1}fuzz\u{1}";

/// Each is of a type, a size or a spelling that somebody did not think of.
const VALUES: [&str; 38] = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-1",
    "1",
    "0.5",
    "1.0",
    "1e2",
    "1e400",
    "-1e400",
    "4294967296",
    "2147483648",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999999999999999",
    "1e-400",
    "\"\"",
    "\" \"",
    "\"0\"",
    "\"\\u0000\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud83d\"",
    "\"a\\u0062\\\"c\\\\\"",
    "\"\u{2028}é\u{fe0f}\"",
    "\"data: \\n\\nevent: x\"",
    "\"[DONE]\"",
    "[]",
    "{}",
    "[null]",
    "[[]]",
    "[{}]",
    "{\"\":null}",
    "{\"type\":\"text\",\"text\":\"x\"}",
    "{\"type\":null}",
    "[1,\"a\",{}]",
];

/// Words that mean something somewhere.
const WORDS: [&str; 24] = [
    "text",
    "stop",
    "error",
    "message_stop",
    "tool_use",
    "thinking",
    "reasoning",
    "refusal",
    "content",
    "delta",
    "usage",
    "tool_calls",
    "function",
    "image",
    "redacted_thinking",
    "length",
    "completed",
    "in_progress",
    "type",
    "index",
    "id",
    "max_tokens",
    "end_turn",
    "STOP",
];

pub(crate) fn change(text: &[u8], rng: &mut StdRng) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(text).ok()?;
    let nodes = count(&value);
    let donor = nth(&mut value, &mut rng.random_range(0..nodes))?.clone();
    let node = nth(&mut value, &mut rng.random_range(0..nodes))?;
    let mut raw = VALUES.choose(rng).copied().unwrap_or("null").to_owned();
    match rng.random_range(0..12) {
        0 => *node = donor,
        1 | 2 => members(node, rng),
        3 => raw = deep(rng),
        4 if node.is_string() => raw = escaped(node.as_str().unwrap_or_default()),
        5 => raw = Value::from(WORDS.choose(rng).copied().unwrap_or_default()).to_string(),
        6 if node.is_number() => raw = rng.random_range(0..10_u64).to_string(),
        7 => raw = retyped(node),
        8 if node.is_object() => raw = doubled(node, rng),
        9 => raw = format!("\"{}\"", "x".repeat(rng.random_range(0..4_000))),
        _ => {}
    }
    // The first two have made their change.
    if nodes > 1 && count(&value) != nodes || raw.is_empty() {
        return Some(value.to_string().into());
    }
    *nth(&mut value, &mut rng.random_range(0..nodes))? = Value::from(PLACE);
    let place = Value::from(PLACE).to_string();
    Some(value.to_string().replace(&place, &raw).into())
}

/// Takes a member out, puts one in, gives it another name or place.
fn members(node: &mut Value, rng: &mut StdRng) {
    match node {
        Value::Object(members) if !members.is_empty() => {
            let at = rng.random_range(0..members.len());
            let Some(key) = members.keys().nth(at).cloned() else { return };
            let value = members.shift_remove(&key).unwrap_or_default();
            if rng.random() {
                members.insert(WORDS.choose(rng).copied().unwrap_or("").to_owned(), value);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let at = rng.random_range(0..items.len());
            let item = items.remove(at);
            for _ in 0..rng.random_range(0..4) {
                items.push(item.clone());
            }
        }
        other => *other = Value::Array(vec![other.take(), Value::Null]),
    }
}

fn deep(rng: &mut StdRng) -> String {
    let depth = [3, 60, 127, 128, 200, 5_000].choose(rng).copied().unwrap_or(3);
    let (open, close) = if rng.random() { ("[", "]") } else { ("{\"a\":", "}") };
    format!("{}1{}", open.repeat(depth), close.repeat(depth))
}

/// The same text, all in `\u` escapes.
fn escaped(text: &str) -> String {
    let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    format!("\"{units}\"")
}

fn retyped(node: &Value) -> String {
    match node {
        Value::String(text) => format!("[{}]", Value::from(text.as_str())),
        Value::Number(number) => format!("\"{number}\""),
        Value::Array(items) => items.first().cloned().unwrap_or_default().to_string(),
        Value::Object(_) => format!("[{node}]"),
        other => format!("{{\"value\":{other}}}"),
    }
}

/// An object that has one of its members twice.
fn doubled(node: &Value, rng: &mut StdRng) -> String {
    let text = node.to_string();
    let key = node.as_object().and_then(|o| o.keys().nth(rng.random_range(0..o.len().max(1)))).cloned();
    let key = Value::from(key.unwrap_or_default());
    let value = VALUES.choose(rng).copied().unwrap_or("null");
    let comma = if text == "{}" { "" } else { "," };
    format!("{}{comma}{key}:{value}}}", &text[..text.len() - 1])
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

fn nth<'a>(value: &'a mut Value, n: &mut usize) -> Option<&'a mut Value> {
    if *n == 0 {
        return Some(value);
    }
    *n -= 1;
    let size = count(value) - 1;
    if *n >= size {
        *n -= size;
        return None;
    }
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, n)),
        Value::Object(members) => members.values_mut().find_map(|member| nth(member, n)),
        _ => None,
    }
}
