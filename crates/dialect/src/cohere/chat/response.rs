//! A whole answer.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    NAME, citation,
    logprobs::{self, Item},
};
use crate::{
    canonical::{Choice, Completion, Content, Extra, FinishReason, Part, Reasoning, Refusal, ToolCall},
    cohere::{billing::Metered, error},
    error::DecodeError,
    openai_error,
};

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(default, borrow)]
    message: Option<&'a RawValue>,
    #[serde(default, borrow)]
    error: Option<&'a RawValue>,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    usage: Option<Metered>,
    #[serde(default)]
    logprobs: Option<Vec<Item>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(default)]
    tool_plan: Option<String>,
    #[serde(default)]
    content: Option<Vec<Block>>,
    #[serde(default)]
    tool_calls: Option<Vec<WireToolCall>>,
    #[serde(default, borrow)]
    citations: Option<Vec<&'a RawValue>>,
}

/// A piece of content, whole or as a stream begins or extends it.
#[derive(Deserialize)]
pub(super) struct Block {
    #[serde(default, rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) text: Option<String>,
    #[serde(default)]
    pub(super) thinking: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct WireToolCall {
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) function: Option<WireFunction>,
}

#[derive(Deserialize)]
pub(super) struct WireFunction {
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) arguments: Option<String>,
}

pub(super) fn decode(body: &[u8]) -> Result<Completion, DecodeError> {
    let answer: Answer<'_> = serde_json::from_slice(body).map_err(corrupt)?;
    if let Some(error) = answer.error {
        return Err(refused(openai_error::in_place(error.get())));
    }
    let message = answer.message.ok_or_else(|| corrupt("it has no `message`"))?.get();
    if let Ok(said) = serde_json::from_str::<String>(message) {
        return Err(refused(error::broken_off("ERROR", Some(said), body)));
    }
    let finish = answer.finish_reason.map(finish_reason).transpose();
    let used = answer.usage.as_ref().map(|metered| metered.usage());
    let finish = finish.map_err(|word| DecodeError::refused(error::broken_off(&word, None, body), used))?;
    Ok(Completion {
        id: answer.id.unwrap_or_default(),
        // The API does not say which model answered.
        model: String::new(),
        created: None,
        choices: vec![Choice {
            index: 0,
            parts: parts(serde_json::from_str(message).map_err(corrupt)?)?,
            finish,
            stop_sequence: None,
            logprobs: answer.logprobs.as_deref().and_then(logprobs::told),
            extra: Extra::new(),
        }],
        usage: answer.usage.map(|metered| metered.usage()).unwrap_or_default(),
        ..Completion::default()
    })
}

/// The plan is what the model thought about its tools: reasoning, as models that think in blocks of their own write it.
fn parts(message: Message<'_>) -> Result<Vec<Part>, DecodeError> {
    let mut parts = Vec::with_capacity(1);
    if let Some(plan) = message.tool_plan.filter(|plan| !plan.is_empty()) {
        parts.push(thought(plan));
    }
    let first = parts.len();
    for block in message.content.unwrap_or_default() {
        match (block.kind.as_deref(), block.thinking, block.text) {
            (Some("thinking"), thinking, _) => parts.push(thought(thinking.unwrap_or_default())),
            // A block of a kind that came later stands here without words, so that the others keep their places.
            (_, _, text) => parts.push(Part::text(text.unwrap_or_default())),
        }
    }
    for raw in message.citations.unwrap_or_default() {
        let cited = citation::read(raw).map_err(corrupt)?;
        let text = |part: &&mut Part| matches!(part.content, Content::Text(_));
        let part = match cited.content_index {
            Some(index) => parts.get_mut(first.saturating_add(index)).filter(text),
            None => parts.iter_mut().rfind(text),
        };
        if let Some(part) = part.filter(|_| cited.in_text) {
            part.citations.push(cited.citation);
        }
    }
    parts.retain(|part| !matches!(&part.content, Content::Text(text) if text.is_empty()));
    for call in message.tool_calls.unwrap_or_default() {
        let (name, arguments) = call.function.map(|f| (f.name, f.arguments)).unwrap_or_default();
        parts.push(Part::from(Content::ToolCall(ToolCall {
            id: call.id.unwrap_or_default(),
            name: name.unwrap_or_default(),
            arguments: arguments.filter(|given| !is_nothing(given)).unwrap_or_else(|| NO_ARGUMENTS.to_owned()),
        })));
    }
    Ok(parts)
}

pub(super) const NO_ARGUMENTS: &str = "{}";

/// Some models write `null`, or nothing at all, where a call takes no arguments; everybody else expects an object.
pub(super) fn is_nothing(arguments: &str) -> bool {
    matches!(arguments, "" | "null")
}

fn thought(text: String) -> Part {
    Part::from(Content::Reasoning(Reasoning { text, ..Reasoning::default() }))
}

/// `Err`: the word by which the provider broke the answer off.
pub(super) fn finish_reason(word: String) -> Result<FinishReason, String> {
    match word.as_str() {
        "COMPLETE" => Ok(FinishReason::Stop),
        "STOP_SEQUENCE" => Ok(FinishReason::StopSequence),
        "MAX_TOKENS" => Ok(FinishReason::Length),
        "TOOL_CALL" => Ok(FinishReason::ToolCalls),
        "ERROR" | "TIMEOUT" => Err(word),
        _ => Ok(FinishReason::Other(word)),
    }
}

fn refused(refusal: Refusal) -> DecodeError {
    DecodeError::Refused(Box::new(refusal))
}

fn corrupt(problem: impl ToString) -> DecodeError {
    DecodeError::Corrupt { dialect: NAME, problem: problem.to_string() }
}
