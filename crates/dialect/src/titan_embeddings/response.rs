//! A whole answer.

use farebox_types::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::NAME;
use crate::{
    bedrock_converse::refusal_in_answer,
    canonical::{Embeddings, Vector},
    dialect::Head,
    error::DecodeError,
    json::RawJson,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(default, borrow)]
    embedding: Option<&'a RawValue>,
    /// Where another kind of number was asked for, the vector stands here only.
    #[serde(default, borrow)]
    embeddings_by_type: Option<ByType<'a>>,
    #[serde(default)]
    input_text_token_count: Option<u64>,
}

#[derive(Default, Deserialize)]
struct ByType<'a> {
    #[serde(default, borrow)]
    binary: Option<&'a RawValue>,
}

pub(super) fn decode(head: &Head, body: &[u8]) -> Result<Embeddings, DecodeError> {
    let corrupt = |problem: String| DecodeError::Corrupt { dialect: NAME, problem };
    let wire: Wire<'_> = serde_json::from_slice(body).map_err(|error| corrupt(error.to_string()))?;
    let Some(vector) = wire.embedding.or(wire.embeddings_by_type.unwrap_or_default().binary) else {
        let refusal = refusal_in_answer(body).ok_or_else(|| corrupt("it has no `embedding`".to_owned()))?;
        return Err(DecodeError::Refused(Box::new(refusal)));
    };
    if !vector.get().starts_with('[') {
        return Err(corrupt("`embedding` is no array".to_owned()));
    }
    let header = |name: &str| head.headers.get(name)?.to_str().ok();
    let counted = || header("x-amzn-bedrock-input-token-count")?.parse().ok();
    Ok(Embeddings {
        id: header("x-amzn-requestid").unwrap_or_default().to_owned(),
        model: String::new(),
        vectors: vec![Vector::Numbers(RawJson::from(vector))],
        usage: Usage { input: wire.input_text_token_count.or_else(counted), ..Usage::default() },
    })
}
