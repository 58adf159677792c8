//! A whole answer.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    types::{Message, NAME, Usage},
    usage,
};
use crate::{
    canonical::{Choice, Completion, Content, FinishReason, Part, Reasoning, ToolCall},
    error::DecodeError,
    json::{Object, RawJson},
    openai_error,
};

fn corrupt(problem: impl ToString) -> DecodeError {
    DecodeError::Corrupt { dialect: NAME, problem: problem.to_string() }
}

pub(super) fn decode(body: &[u8]) -> Result<Completion, DecodeError> {
    let mut top: Object<'_> = serde_json::from_slice(body).map_err(corrupt)?;
    if let Some(error) = top.take("error") {
        return Err(DecodeError::Refused(Box::new(openai_error::in_place(error.get()))));
    }
    let choices: Vec<&RawValue> = member(&mut top, "choices")?.ok_or_else(|| corrupt("it has no `choices`"))?;
    let choices = choices.into_iter().map(choice).collect::<Result<Vec<_>, _>>()?;
    let usage: Option<Usage> = member(&mut top, "usage")?;
    top.take("object");
    Ok(Completion {
        id: member(&mut top, "id")?.unwrap_or_default(),
        model: member(&mut top, "model")?.unwrap_or_default(),
        created: member(&mut top, "created")?,
        choices,
        usage: usage.as_ref().map(usage::normalise).unwrap_or_default(),
        service_tier: member(&mut top, "service_tier")?,
        reported_cost: None,
        extra: top.into_extra(),
    })
}

fn member<'a, T: Deserialize<'a>>(object: &mut Object<'a>, name: &str) -> Result<Option<T>, DecodeError> {
    let Some(raw) = object.take(name) else {
        return Ok(None);
    };
    serde_json::from_str(raw.get()).map(Some).map_err(|e| corrupt(format!("`{name}`: {e}")))
}

fn choice(raw: &RawValue) -> Result<Choice, DecodeError> {
    let mut object: Object<'_> = serde_json::from_str(raw.get()).map_err(corrupt)?;
    let raw: &RawValue = object.take("message").ok_or_else(|| corrupt("a choice has no `message`"))?;
    let message: Message = serde_json::from_str(raw.get()).map_err(corrupt)?;
    let mut rest: Object<'_> = serde_json::from_str(raw.get()).map_err(corrupt)?;
    for known in ["role", "content", "refusal", "reasoning_content", "reasoning", "tool_calls"] {
        rest.take(known);
    }
    Ok(Choice {
        index: member(&mut object, "index")?.unwrap_or_default(),
        parts: parts(message),
        finish: member::<String>(&mut object, "finish_reason")?.map(finish_reason),
        stop_sequence: None,
        logprobs: object.take("logprobs").map(RawJson::from),
        extra: rest.into_extra(),
    })
}

fn parts(message: Message) -> Vec<Part> {
    let mut parts = Vec::with_capacity(1);
    let reasoning =
        [message.reasoning_content, message.reasoning].into_iter().flatten().find(|text| !text.0.is_empty());
    if let Some(text) = reasoning {
        parts.push(Part::from(Content::Reasoning(Reasoning { text: text.0, ..Reasoning::default() })));
    }
    if let Some(text) = message.content.filter(|text| !text.0.is_empty()) {
        parts.push(Part::text(text.0));
    }
    if let Some(text) = message.refusal.filter(|text| !text.is_empty()) {
        parts.push(Part::from(Content::Refusal(text)));
    }
    for call in message.tool_calls.unwrap_or_default() {
        let (name, arguments) = call.function.map(|f| (f.name, f.arguments)).unwrap_or_default();
        parts.push(Part::from(Content::ToolCall(ToolCall {
            id: call.id.unwrap_or_default(),
            name: name.unwrap_or_default(),
            arguments: arguments.unwrap_or_default(),
        })));
    }
    parts
}

pub(super) fn finish_reason(word: String) -> FinishReason {
    match word.as_str() {
        "stop" => FinishReason::Stop,
        "length" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        "content_filter" => FinishReason::ContentFilter,
        _ => FinishReason::Other(word),
    }
}
