//! `generationConfig`: how the answer is made, and how long the model thinks.

use std::borrow::Cow;

use serde::Serialize;

use super::{model::Generation, tools, types::NAME};
use crate::{
    canonical::{Call, Effort, ReasoningRequest, ResponseFormat},
    dialect::Target,
    error::EncodeError,
    json::RawJson,
    notes::{Notes, unsupported},
};

#[derive(Default, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(super) struct Config<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json_schema: Option<Cow<'a, RawJson>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<Thinking>,
}

impl Config<'_> {
    /// Nothing is asked for: the member can be left out.
    pub(super) fn is_empty(&self) -> bool {
        *self == Config::default()
    }
}

pub(super) fn encode<'a>(call: &'a Call, target: &Target, notes: &mut Notes) -> Result<Config<'a>, EncodeError> {
    let (response_mime_type, response_json_schema) = match &call.response_format {
        Some(ResponseFormat::JsonSchema { schema, .. }) => {
            (Some("application/json"), schema.as_ref().map(tools::schema))
        }
        Some(ResponseFormat::JsonObject) => (Some("application/json"), None),
        Some(ResponseFormat::Text) | None => (None, None),
    };
    if call.sampling.seed.is_some_and(|seed| i32::try_from(seed).is_err()) {
        return Err(unsupported(NAME, "a `seed` of more than 32 bits"));
    }
    Ok(Config {
        temperature: call.sampling.temperature,
        top_p: call.sampling.top_p,
        top_k: call.sampling.top_k,
        seed: call.sampling.seed,
        stop_sequences: &call.stop,
        candidate_count: call.n.filter(|n| *n != 1),
        max_output_tokens: call.max_output_tokens,
        frequency_penalty: call.sampling.frequency_penalty,
        presence_penalty: call.sampling.presence_penalty,
        response_logprobs: call.logprobs.filter(|wanted| *wanted),
        logprobs: call.top_logprobs.filter(|_| call.logprobs == Some(true)),
        response_mime_type,
        response_json_schema,
        thinking_config: call.reasoning.as_ref().map_or(Ok(None), |asked| thinking(asked, target, notes))?,
    })
}

/// <https://ai.google.dev/gemini-api/docs/thinking>: a budget in tokens up to 2.5, a level since 3; never both.
#[derive(Default, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Thinking {
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_budget: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_level: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    include_thoughts: Option<bool>,
}

/// The model decides.
const DYNAMIC: i64 = -1;

fn thinking(asked: &ReasoningRequest, target: &Target, notes: &mut Notes) -> Result<Option<Thinking>, EncodeError> {
    if *asked == ReasoningRequest::default() {
        return Ok(None);
    }
    let generation = Generation::of(&target.model);
    if generation.is_some_and(|generation| generation < Generation::TWO_FIVE) {
        notes.drop("reasoning, because this model does not think,")?;
        return Ok(None);
    }
    let mut wire = Thinking::default();
    if let Some(tokens) = asked.budget_tokens {
        let most = most(&target.model);
        if tokens > most {
            notes.say(format!("a reasoning budget of {tokens} tokens became {most}, the most that this model takes"));
        }
        wire.thinking_budget = i64::try_from(tokens.min(most)).ok();
    } else if generation == Some(Generation::TWO_FIVE) {
        wire.thinking_budget = match &asked.effort {
            Some(effort) => budget(effort, &target.model, notes)?,
            None => asked.adaptive.then_some(DYNAMIC),
        };
    } else if let Some(effort) = &asked.effort {
        wire.thinking_level = level(effort, &target.model, notes)?;
    }
    let thinks = wire.thinking_budget != Some(0) && asked.effort != Some(Effort::None);
    let shown = asked.summary.as_deref() != Some("none");
    wire.include_thoughts = (thinks && shown).then_some(true);
    Ok(Some(wire).filter(|wire| *wire != Thinking::default()))
}

/// The highest budgets. Pro cannot do without one.
const FLASH_MAX: u64 = 24_576;
const PRO_MAX: u64 = 32_768;

fn most(model: &str) -> u64 {
    if model.contains("pro") { PRO_MAX } else { FLASH_MAX }
}

fn budget(effort: &Effort, model: &str, notes: &mut Notes) -> Result<Option<i64>, EncodeError> {
    let pro = model.contains("pro");
    if pro && *effort == Effort::None {
        notes.say("reasoning was set to its least of 128 tokens: this model cannot do without");
        return Ok(Some(128));
    }
    let Some(tokens) = effort.budget() else { return unknown(effort.as_str(), notes).map(|()| None) };
    Ok(i64::try_from(tokens.min(most(model))).ok())
}

fn level(effort: &Effort, model: &str, notes: &mut Notes) -> Result<Option<&'static str>, EncodeError> {
    Ok(Some(match effort {
        Effort::None | Effort::Minimal if model.contains("pro") => {
            notes.say("reasoning was set to `low`, the least that this model takes");
            "low"
        }
        Effort::None => {
            notes.say("reasoning was set to `minimal`: this model cannot do without");
            "minimal"
        }
        Effort::Minimal => "minimal",
        Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High | Effort::XHigh | Effort::Max => "high",
        Effort::Other(word) => return unknown(word, notes).map(|()| None),
    }))
}

fn unknown(word: &str, notes: &mut Notes) -> Result<(), EncodeError> {
    notes.drop(&format!("the reasoning effort `{word}`"))
}
