//! The wire types of answers. Every member may be missing.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{dialect::DialectName, json::RawJson};

pub(super) const NAME: DialectName = DialectName::OllamaChat;

/// A whole answer, or one line of a streamed one: the form is the same.
#[derive(Debug, Deserialize)]
pub(super) struct Line<'a> {
    pub(super) model: Option<String>,
    /// RFC 3339; each line has its own.
    pub(super) created_at: Option<String>,
    #[serde(borrow)]
    pub(super) message: Option<Message<'a>>,
    pub(super) done: Option<bool>,
    pub(super) done_reason: Option<String>,
    pub(super) prompt_eval_count: Option<u64>,
    pub(super) eval_count: Option<u64>,
    pub(super) logprobs: Option<Vec<RawJson>>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Message<'a> {
    pub(super) content: Option<String>,
    pub(super) thinking: Option<String>,
    #[serde(borrow)]
    pub(super) tool_calls: Option<Vec<ToolCall<'a>>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ToolCall<'a> {
    pub(super) id: Option<String>,
    #[serde(borrow)]
    pub(super) function: Function<'a>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Function<'a> {
    pub(super) name: String,
    #[serde(borrow)]
    pub(super) arguments: Option<&'a RawValue>,
}
