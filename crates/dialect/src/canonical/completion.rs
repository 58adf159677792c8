//! A whole answer, and a provider's no.

use std::time::Duration;

use farebox_types::{ErrorKind, Fault, Money, Usage};

use super::call::{Content, Extra, Part};
use crate::json::RawJson;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completion {
    /// The provider's id of this answer.
    pub id: String,
    /// The model that answered, in the provider's words.
    pub model: String,
    /// Unix seconds, where the provider says when.
    pub created: Option<i64>,
    /// One, unless the call asked for more.
    pub choices: Vec<Choice>,
    pub usage: Usage,
    pub service_tier: Option<String>,
    /// What the provider itself says it charges (OpenRouter, Perplexity).
    pub reported_cost: Option<Money>,
    pub extra: Extra,
}

impl Completion {
    /// Text of the first choice, all its text parts in a row.
    pub fn text(&self) -> String {
        let parts = self.choices.first().map(|c| c.parts.as_slice()).unwrap_or_default();
        parts.iter().filter_map(|p| if let Content::Text(t) = &p.content { Some(t.as_str()) } else { None }).collect()
    }

    /// Why the first choice ended.
    pub fn finish(&self) -> Option<&FinishReason> {
        self.choices.first().and_then(|c| c.finish.as_ref())
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    pub index: u32,
    pub parts: Vec<Part>,
    /// `None`: the provider did not say.
    pub finish: Option<FinishReason>,
    /// Which of the caller's stop sequences ended it, where the provider says which.
    pub stop_sequence: Option<String>,
    pub logprobs: Option<RawJson>,
    /// Members of the message that farebox has no word for (OpenAI's `annotations`, `audio`).
    pub extra: Extra,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishReason {
    Stop,
    /// One of the caller's stop sequences came up.
    StopSequence,
    /// The output limit, or the end of the context window.
    Length,
    ToolCalls,
    ContentFilter,
    /// The model declined.
    Refusal,
    /// The provider paused a long turn: the answer so far, sent back, goes on.
    Pause,
    Other(String),
}

/// A provider's no, in our words, with its own beside.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub kind: ErrorKind,
    /// The provider's sentence, or ours where it sent none.
    pub message: String,
    pub retry_after: Option<Duration>,
    /// HTTP status; `None` when the no came in the middle of a stream.
    pub status: Option<u16>,
    /// The provider's own machine-readable word (`rate_limit_exceeded`, `overloaded_error`).
    pub code: Option<String>,
    /// The field the provider complains about.
    pub param: Option<String>,
    /// The provider's body, cut at [`Refusal::MAX_RAW`] bytes.
    pub raw: String,
}

impl Refusal {
    pub const MAX_RAW: usize = 8 * 1024;

    /// The body as text, cut at a character's edge.
    pub fn bounded(body: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(&body[..body.len().min(Self::MAX_RAW)]).into_owned();
        while text.len() > Self::MAX_RAW {
            text.pop();
        }
        text
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Fault {
        Fault {
            kind: refusal.kind,
            message: refusal.message,
            retry_after: refusal.retry_after,
            provider_status: refusal.status,
            provider_body: (!refusal.raw.is_empty()).then_some(refusal.raw),
        }
    }
}
