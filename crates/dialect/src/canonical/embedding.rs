//! Texts into vectors: the call and its answer.

use farebox_types::Usage;

use super::call::{Extra, Part};
use crate::{dialect::DialectName, json::RawJson};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct EmbedCall {
    /// The model as the caller named it; empty where it named none.
    pub model: String,
    pub inputs: Vec<EmbedInput>,
    /// Length of the vectors.
    pub dimensions: Option<u64>,
    /// How the vectors are to be written; `None`: as numbers.
    pub encoding: Option<VectorEncoding>,
    pub purpose: Option<EmbedPurpose>,
    /// What happens to an input that is too long (Cohere's `truncate`: `NONE`, `START`, `END`).
    pub truncate: Option<String>,
    pub user: Option<String>,
    /// Whose words `extra` holds; `None`: nobody's.
    pub dialect: Option<DialectName>,
    pub extra: Extra,
}

#[derive(Clone, Debug, PartialEq)]
pub enum EmbedInput {
    Text(String),
    /// Token ids of the model's own tokenizer.
    Tokens(Vec<u32>),
    /// Texts and images that make one vector.
    Parts(Vec<Part>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VectorEncoding {
    /// JSON numbers.
    Float,
    /// 32-bit floats in little-endian order, in base64.
    Base64,
    /// Another kind of number (`int8`, `ubinary`, …).
    Other(String),
}

/// What the vectors are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EmbedPurpose {
    SearchDocument,
    SearchQuery,
    Classification,
    Clustering,
    Other(String),
}

impl EmbedPurpose {
    /// Cohere's word, which other APIs took over.
    pub fn as_str(&self) -> &str {
        match self {
            EmbedPurpose::SearchDocument => "search_document",
            EmbedPurpose::SearchQuery => "search_query",
            EmbedPurpose::Classification => "classification",
            EmbedPurpose::Clustering => "clustering",
            EmbedPurpose::Other(word) => word,
        }
    }
}

impl From<String> for EmbedPurpose {
    fn from(word: String) -> EmbedPurpose {
        match word.as_str() {
            "search_document" => EmbedPurpose::SearchDocument,
            "search_query" => EmbedPurpose::SearchQuery,
            "classification" => EmbedPurpose::Classification,
            "clustering" => EmbedPurpose::Clustering,
            _ => EmbedPurpose::Other(word),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embeddings {
    /// The provider's id of this answer; empty where it gives none.
    pub id: String,
    /// The model that answered, in the provider's words; empty where it does not say.
    pub model: String,
    /// One for each input, in the same order.
    pub vectors: Vec<Vector>,
    pub usage: Usage,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Vector {
    /// A JSON array of numbers, as the provider wrote it.
    Numbers(RawJson),
    /// 32-bit floats in little-endian order, in base64.
    Base64(String),
}
