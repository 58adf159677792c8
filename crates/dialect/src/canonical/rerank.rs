//! Documents in the order of their worth to a query: the call and its answer.

use farebox_types::Usage;

use super::call::Extra;
use crate::{dialect::DialectName, json::RawJson};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct RerankCall {
    /// The model as the caller named it; empty where it named none.
    pub model: String,
    pub query: String,
    pub documents: Vec<RerankDocument>,
    /// At most so many results.
    pub top_n: Option<u64>,
    pub return_documents: Option<bool>,
    pub max_tokens_per_document: Option<u64>,
    /// Whose words `extra` holds; `None`: nobody's.
    pub dialect: Option<DialectName>,
    pub extra: Extra,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RerankDocument {
    Text(String),
    /// An object with fields, as the caller wrote it.
    Fields(RawJson),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranking {
    /// The provider's id of this answer; empty where it gives none.
    pub id: String,
    /// The model that answered, in the provider's words; empty where it does not say.
    pub model: String,
    /// Best first.
    pub results: Vec<Ranked>,
    pub usage: Usage,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// Which of the call's documents.
    pub index: u64,
    /// The number as the provider wrote it.
    pub score: RawJson,
    /// The document, where the provider sent it back.
    pub document: Option<RawJson>,
}
