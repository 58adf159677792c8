//! An answer, in both directions.

use bytes::Bytes;
use farebox_types::Usage;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{NAME, vector};
use crate::{
    canonical::{EmbedCall, Embeddings, Vector},
    dialect::Stamp,
    error::DecodeError,
    json::RawJson,
    openai_error,
    rewrite::{Edit, rewrite},
};

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default, borrow)]
    data: Option<Vec<Item<'a>>>,
    #[serde(default)]
    usage: Option<Tokens>,
    #[serde(default, borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(default)]
    index: Option<usize>,
    #[serde(borrow)]
    embedding: &'a RawValue,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
struct Tokens {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    total_tokens: Option<u64>,
}

pub(super) fn decode(body: &[u8]) -> Result<Embeddings, DecodeError> {
    let answer: Answer<'_> = serde_json::from_slice(body).map_err(corrupt)?;
    if let Some(error) = answer.error {
        return Err(DecodeError::Refused(Box::new(openai_error::in_place(error.get()))));
    }
    let mut items = answer.data.ok_or_else(|| corrupt("it has no `data`"))?;
    // The order is the one of the inputs; servers that leave the number out keep it.
    if items.iter().all(|item| item.index.is_some()) {
        items.sort_by_key(|item| item.index);
    }
    Ok(Embeddings {
        id: answer.id.unwrap_or_default(),
        model: answer.model.unwrap_or_default(),
        vectors: items.iter().map(|item| vector_of(item.embedding)).collect::<Result<_, _>>()?,
        usage: answer.usage.map(usage).unwrap_or_default(),
    })
}

fn vector_of(raw: &RawValue) -> Result<Vector, DecodeError> {
    match raw.get().as_bytes().first() {
        Some(b'[') => Ok(Vector::Numbers(RawJson::from(raw))),
        Some(b'"') => Ok(Vector::Base64(serde_json::from_str(raw.get()).map_err(corrupt)?)),
        _ => Err(corrupt("an `embedding` is neither an array nor base64")),
    }
}

/// All tokens are input. Some servers only give the total.
fn usage(tokens: Tokens) -> Usage {
    Usage { input: tokens.total_tokens.max(tokens.prompt_tokens), ..Usage::default() }
}

fn corrupt(problem: impl ToString) -> DecodeError {
    DecodeError::Corrupt { dialect: NAME, problem: problem.to_string() }
}

#[derive(Serialize)]
struct Rendered<'a> {
    object: &'static str,
    data: Vec<RenderedItem>,
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Tokens>,
}

#[derive(Serialize)]
struct RenderedItem {
    object: &'static str,
    index: usize,
    embedding: vector::Written,
}

pub(super) fn render(call: &EmbedCall, answer: &Embeddings, stamp: &Stamp) -> Result<Bytes, DecodeError> {
    let data = answer.vectors.iter().enumerate().map(|(index, given)| {
        let embedding = vector::write(given, call.encoding.as_ref())
            .ok_or_else(|| corrupt("a vector holds something else than 32-bit numbers"))?;
        Ok(RenderedItem { object: "embedding", index, embedding })
    });
    let total = answer.usage.total();
    let rendered = Rendered {
        object: "list",
        data: data.collect::<Result<_, DecodeError>>()?,
        model: stamp.model.as_deref().unwrap_or(&answer.model),
        usage: answer.usage.is_reported().then_some(Tokens { prompt_tokens: Some(total), total_tokens: Some(total) }),
    };
    serde_json::to_vec(&rendered).map(Bytes::from).map_err(corrupt)
}

pub(super) fn counted(answer: Bytes, input: u64) -> Bytes {
    let tokens = Tokens { prompt_tokens: Some(input), total_tokens: Some(input) };
    let usage = serde_json::to_string(&tokens).expect("numbers can always be written");
    rewrite(&answer, &[Edit::default("usage", usage)]).unwrap_or(answer)
}
