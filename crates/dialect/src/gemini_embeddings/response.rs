//! Vectors of one text, of several, or of Vertex's `predict`. Older models say nothing of tokens on the Gemini API.

use farebox_types::Usage;
use serde::Deserialize;

use super::NAME;
use crate::{
    canonical::{Embeddings, Vector},
    error::DecodeError,
    gemini::{types, usage},
    json::RawJson,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    embedding: Option<Values>,
    embeddings: Option<Vec<Values>>,
    predictions: Option<Vec<Prediction>>,
    usage_metadata: Option<types::Usage>,
}

#[derive(Deserialize)]
struct Values {
    values: RawJson,
    statistics: Option<Statistics>,
}

#[derive(Deserialize)]
struct Prediction {
    embeddings: Values,
}

#[derive(Deserialize)]
struct Statistics {
    token_count: Option<u64>,
}

pub(super) fn decode(body: &[u8]) -> Result<Embeddings, DecodeError> {
    let corrupt = |problem: String| DecodeError::Corrupt { dialect: NAME, problem };
    let wire: Wire = serde_json::from_slice(body).map_err(|error| corrupt(error.to_string()))?;
    let predicted = wire.predictions.map(|all| all.into_iter().map(|p| p.embeddings).collect());
    let Some(all) = wire.embedding.map(|one| vec![one]).or(wire.embeddings).or(predicted) else {
        return Err(corrupt("it has no `embedding`".to_owned()));
    };
    let counted = all.iter().map(|one: &Values| one.statistics.as_ref().and_then(|s| s.token_count));
    let counted: Option<u64> = counted.sum::<Option<u64>>().filter(|_| !all.is_empty());
    let vectors = all.into_iter().map(|one| match one.values.as_str().starts_with('[') {
        true => Ok(Vector::Numbers(one.values)),
        false => Err(corrupt("`values` is no array".to_owned())),
    });
    let vectors = vectors.collect::<Result<Vec<_>, _>>()?;
    let counted = Usage { input: counted, ..Usage::default() };
    let usage = wire.usage_metadata.as_ref().map_or(counted, usage::embedded);
    Ok(Embeddings { vectors, usage, ..Embeddings::default() })
}
