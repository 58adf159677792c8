//! The wire types of answers. Every member may be missing.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::{
    dialect::DialectName,
    json::{object, objects},
};

pub(super) const NAME: DialectName = DialectName::Gemini;

/// A whole answer, or one piece of a streamed one: the form is the same.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Chunk<'a> {
    #[serde(borrow, default, deserialize_with = "objects")]
    pub(super) candidates: Option<Vec<Candidate<'a>>>,
    #[serde(default, deserialize_with = "object")]
    pub(super) prompt_feedback: Option<Feedback>,
    pub(super) usage_metadata: Option<Usage>,
    pub(super) model_version: Option<String>,
    pub(super) response_id: Option<String>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

impl Chunk<'_> {
    /// The prompt was refused: no candidate will come.
    pub(super) fn is_blocked(&self) -> bool {
        self.prompt_feedback.as_ref().is_some_and(|feedback| feedback.block_reason.is_some())
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Feedback {
    pub(super) block_reason: Option<Word>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate<'a> {
    pub(super) index: Option<u32>,
    #[serde(borrow)]
    pub(super) content: Option<Content<'a>>,
    pub(super) finish_reason: Option<Word>,
    #[serde(borrow)]
    pub(super) grounding_metadata: Option<Grounding<'a>>,
    #[serde(borrow)]
    pub(super) citation_metadata: Option<CitationMetadata<'a>>,
    #[serde(borrow)]
    pub(super) logprobs_result: Option<Logprobs<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Content<'a> {
    #[serde(borrow)]
    pub(super) parts: Option<Vec<&'a RawValue>>,
}

/// A part's members that have a meaning here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Part<'a> {
    pub(super) text: Option<String>,
    pub(super) thought: Option<bool>,
    pub(super) thought_signature: Option<String>,
    #[serde(borrow)]
    pub(super) function_call: Option<FunctionCall<'a>>,
    pub(super) inline_data: Option<Blob>,
    pub(super) file_data: Option<FileData>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FunctionCall<'a> {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    #[serde(borrow)]
    pub(super) args: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) partial_args: Option<Vec<PartialArg<'a>>>,
    pub(super) will_continue: Option<bool>,
}

impl FunctionCall<'_> {
    /// Not whole by itself: it begins, continues or ends a call.
    pub(super) fn is_piece(&self) -> bool {
        self.partial_args.is_some() || self.will_continue == Some(true) || (self.name.is_none() && self.args.is_none())
    }
}

/// A value for one place in a call's arguments; a text may be a piece of one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PartialArg<'a> {
    pub(super) json_path: Option<String>,
    pub(super) string_value: Option<String>,
    #[serde(borrow)]
    number_value: Option<&'a RawValue>,
    bool_value: Option<bool>,
    #[serde(default)]
    null_value: Option<String>,
}

impl PartialArg<'_> {
    /// A value that is no text, as JSON.
    pub(super) fn plain(&self) -> Option<&str> {
        let truth = self.bool_value.map(|value| if value { "true" } else { "false" });
        self.number_value.map(RawValue::get).or(truth).or(self.null_value.as_ref().map(|_| "null"))
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Blob {
    pub(super) mime_type: Option<String>,
    pub(super) data: Option<String>,
    pub(super) display_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FileData {
    pub(super) mime_type: Option<String>,
    pub(super) file_uri: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Grounding<'a> {
    pub(super) web_search_queries: Option<Vec<String>>,
    #[serde(borrow)]
    pub(super) grounding_chunks: Option<Vec<&'a RawValue>>,
    pub(super) grounding_supports: Option<Vec<Support>>,
}

/// Words of the answer, and the chunks (by place) that they lean on.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Support {
    pub(super) segment: Option<Segment>,
    pub(super) grounding_chunk_indices: Option<Vec<usize>>,
}

/// Offsets are bytes of UTF-8.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Segment {
    pub(super) start_index: Option<usize>,
    pub(super) end_index: Option<usize>,
    pub(super) text: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CitationMetadata<'a> {
    /// The Gemini API's name for it; Vertex says `citations`.
    #[serde(borrow, alias = "citations")]
    pub(super) citation_sources: Option<Vec<&'a RawValue>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Logprobs<'a> {
    #[serde(borrow)]
    pub(super) chosen_candidates: Option<Vec<Token<'a>>>,
    #[serde(borrow)]
    pub(super) top_candidates: Option<Vec<TopTokens<'a>>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct TopTokens<'a> {
    #[serde(borrow)]
    pub(super) candidates: Option<Vec<Token<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Token<'a> {
    #[serde(borrow)]
    pub(super) token: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) log_probability: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Usage {
    pub(super) prompt_token_count: Option<u64>,
    pub(super) cached_content_token_count: Option<u64>,
    pub(super) tool_use_prompt_token_count: Option<u64>,
    pub(super) candidates_token_count: Option<u64>,
    pub(super) thoughts_token_count: Option<u64>,
    pub(super) total_token_count: Option<u64>,
    #[serde(alias = "promptTokenDetails")]
    pub(super) prompt_tokens_details: Option<Vec<ModalityTokens>>,
    pub(super) cache_tokens_details: Option<Vec<ModalityTokens>>,
    pub(super) tool_use_prompt_tokens_details: Option<Vec<ModalityTokens>>,
    pub(super) candidates_tokens_details: Option<Vec<ModalityTokens>>,
    /// Gemini API: `standard`, `flex`, `priority`.
    pub(super) service_tier: Option<String>,
    /// Vertex: `ON_DEMAND`, `ON_DEMAND_FLEX`, `PROVISIONED_THROUGHPUT`, …
    pub(super) traffic_type: Option<Word>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModalityTokens {
    pub(super) modality: Option<Word>,
    pub(super) token_count: Option<u64>,
}

/// A word of an enumeration. JSON of protobuf may carry its number instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub(super) String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Word, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Name(String),
            Number(i64),
        }
        Ok(Word(match Either::deserialize(from)? {
            Either::Name(name) => name,
            Either::Number(number) => number.to_string(),
        }))
    }
}
