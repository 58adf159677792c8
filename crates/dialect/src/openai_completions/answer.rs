//! `text_completion` objects: whole answers in both directions, and what chunks share with them.

use bytes::Bytes;
use farebox_types::Usage;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::NAME;
use crate::{
    canonical::{Choice, Completion, Content, FinishReason, Part},
    dialect::Stamp,
    error::DecodeError,
    json::{RawJson, objects},
    openai_error as error,
    openai_responses::usage,
};

/// A whole answer or a chunk of one: they differ in nothing.
#[derive(Deserialize)]
pub(super) struct Wire<'a> {
    pub(super) id: Option<String>,
    pub(super) model: Option<String>,
    pub(super) created: Option<i64>,
    #[serde(default, deserialize_with = "objects")]
    pub(super) choices: Option<Vec<WireChoice>>,
    pub(super) usage: Option<usage::Wire>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct WireChoice {
    #[serde(default)]
    pub(super) index: u32,
    pub(super) text: Option<String>,
    pub(super) logprobs: Option<RawJson>,
    pub(super) finish_reason: Option<String>,
}

fn corrupt(problem: impl ToString) -> DecodeError {
    DecodeError::Corrupt { dialect: NAME, problem: problem.to_string() }
}

pub(super) fn decode(body: &[u8]) -> Result<Completion, DecodeError> {
    let wire: Wire<'_> = serde_json::from_slice(body).map_err(corrupt)?;
    if let Some(error) = wire.error {
        return Err(DecodeError::Refused(Box::new(error::in_place(error.get()))));
    }
    let choices = wire.choices.ok_or_else(|| corrupt("it has no `choices`"))?;
    Ok(Completion {
        id: wire.id.unwrap_or_default(),
        model: wire.model.unwrap_or_default(),
        created: wire.created,
        choices: choices.into_iter().map(choice).collect(),
        usage: wire.usage.as_ref().map(usage::normalise).unwrap_or_default(),
        ..Completion::default()
    })
}

fn choice(wire: WireChoice) -> Choice {
    let text = wire.text.filter(|text| !text.is_empty());
    Choice {
        index: wire.index,
        parts: text.map(Part::text).into_iter().collect(),
        finish: wire.finish_reason.filter(|word| !word.is_empty()).map(finish_reason),
        logprobs: wire.logprobs,
        ..Choice::default()
    }
}

pub(super) fn finish_reason(word: String) -> FinishReason {
    match word.as_str() {
        "stop" => FinishReason::Stop,
        "length" => FinishReason::Length,
        "content_filter" => FinishReason::ContentFilter,
        _ => FinishReason::Other(word),
    }
}

pub(super) fn finish_word(reason: &FinishReason) -> &str {
    match reason {
        FinishReason::Stop | FinishReason::StopSequence | FinishReason::ToolCalls => "stop",
        FinishReason::Length | FinishReason::Pause => "length",
        FinishReason::ContentFilter | FinishReason::Refusal => "content_filter",
        FinishReason::Other(word) => word,
    }
}

#[derive(Serialize)]
pub(super) struct Rendered<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) created: i64,
    pub(super) model: &'a str,
    pub(super) choices: Vec<RenderedChoice<'a>>,
    /// In a chunk that is not the last, `null` where usage was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Option<RenderedUsage>>,
}

#[derive(Serialize)]
pub(super) struct RenderedChoice<'a> {
    pub(super) text: &'a str,
    pub(super) index: u32,
    pub(super) logprobs: Option<&'a RawJson>,
    pub(super) finish_reason: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct RenderedUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Serialize)]
struct PromptDetails {
    cached_tokens: u64,
}

#[derive(Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
}

pub(super) fn rendered_usage(usage: &Usage) -> Option<RenderedUsage> {
    usage.is_reported().then(|| RenderedUsage {
        prompt_tokens: usage.total_input(),
        completion_tokens: usage.total_output(),
        total_tokens: usage.total(),
        prompt_tokens_details: usage.cache_read.map(|cached_tokens| PromptDetails { cached_tokens }),
        completion_tokens_details: usage.reasoning.map(|reasoning_tokens| CompletionDetails { reasoning_tokens }),
    })
}

pub(super) fn bytes(value: &impl Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(value).expect("strings, numbers and checked JSON can always be written"))
}

pub(super) fn whole(completion: &Completion, stamp: &Stamp) -> Bytes {
    let texts: Vec<String> = completion.choices.iter().map(text).collect();
    let choices = completion.choices.iter().zip(&texts).map(|(choice, text)| RenderedChoice {
        text,
        index: choice.index,
        logprobs: choice.logprobs.as_ref(),
        finish_reason: choice.finish.as_ref().map(finish_word),
    });
    bytes(&Rendered {
        id: &stamp.id,
        object: "text_completion",
        created: stamp.created,
        model: stamp.model.as_deref().unwrap_or(&completion.model),
        choices: choices.collect(),
        usage: rendered_usage(&completion.usage).map(Some),
    })
}

/// A refusal is an answer like any other here; reasoning has no place.
fn text(choice: &Choice) -> String {
    let texts = choice.parts.iter().filter_map(|part| match &part.content {
        Content::Text(text) | Content::Refusal(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}
