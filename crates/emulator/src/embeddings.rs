//! Vectors: the same text has the same one, whoever asks.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::request::tokens;

const DIMENSIONS: usize = 8;

/// What an embeddings request is answered with, and its prompt's tokens.
pub(crate) fn openai(body: &[u8]) -> Result<(Value, u64), String> {
    let body: Value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    let inputs = match &body["input"] {
        text @ Value::String(_) => vec![text],
        Value::Array(of) if of.first().is_some_and(Value::is_number) => vec![&body["input"]],
        Value::Array(many) => many.iter().collect(),
        _ => return Err("'input' is required".to_owned()),
    };
    let size = dimensions(&body["dimensions"]);
    let is_packed = body["encoding_format"] == "base64";
    let row = |(index, input): (usize, &&Value)| {
        let vector = vector(&text(input), size);
        let embedding = if is_packed { packed(&vector).into() } else { json!(vector) };
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    };
    let data: Vec<Value> = inputs.iter().enumerate().map(row).collect();
    let used = tokens(inputs.iter().map(|input| text(input).len()).sum()).max(1);
    let usage = json!({ "prompt_tokens": used, "total_tokens": used });
    Ok((json!({ "object": "list", "data": data, "model": body["model"], "usage": usage }), used))
}

/// One by `embedContent`, many by `batchEmbedContents`.
pub(crate) fn gemini(body: &[u8]) -> Result<(Value, u64), String> {
    let body: Value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    let of = |request: &Value| {
        let text = request["content"]["parts"][0]["text"].as_str().unwrap_or_default().to_owned();
        let values = vector(&text, dimensions(&request["outputDimensionality"]));
        (json!({ "values": values }), tokens(text.len()))
    };
    Ok(match body["requests"].as_array() {
        Some(requests) => {
            let (vectors, used): (Vec<Value>, Vec<u64>) = requests.iter().map(of).unzip();
            (json!({ "embeddings": vectors }), used.iter().sum::<u64>().max(1))
        }
        None => {
            let (vector, used) = of(&body);
            (json!({ "embedding": vector }), used.max(1))
        }
    })
}

fn dimensions(asked: &Value) -> usize {
    asked.as_u64().and_then(|size| usize::try_from(size).ok()).unwrap_or(DIMENSIONS).clamp(1, 4096)
}

fn text(input: &Value) -> String {
    input.as_str().map_or_else(|| input.to_string(), str::to_owned)
}

/// Eighths between -1 and 1, which a `f32` and JSON both hold exactly.
fn vector(text: &str, size: usize) -> Vec<f32> {
    let mut state = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let eighths = u8::try_from(state >> 28).unwrap_or(0);
        f32::from(eighths) / 8.0 - 1.0
    };
    (0..size).map(|_| next()).collect()
}

fn packed(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}
