//! A whole answer.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    citations, stream,
    types::{Message, NAME},
    usage,
};
use crate::{
    canonical::{Choice, Citation, Completion, Content, FinishReason},
    error::DecodeError,
    json::{Object, RawJson},
    openai_error,
};

fn corrupt(problem: impl ToString) -> DecodeError {
    DecodeError::Corrupt { dialect: NAME, problem: problem.to_string() }
}

fn refused(error: &str) -> DecodeError {
    DecodeError::Refused(Box::new(openai_error::in_place(error)))
}

pub(super) fn decode(body: &[u8]) -> Result<Completion, DecodeError> {
    let mut top: Object<'_> = serde_json::from_slice(body).map_err(corrupt)?;
    if let Some(error) = top.take("error") {
        return Err(refused(error.get()));
    }
    if top.take("object").is_some_and(|object| object.get() == "\"error\"") {
        return Err(refused(&String::from_utf8_lossy(body)));
    }
    let id: String = member(&mut top, "id")?.unwrap_or_default();
    let choices: Vec<&RawValue> = member(&mut top, "choices")?.ok_or_else(|| corrupt("it has no `choices`"))?;
    let mut choices = choices.into_iter().map(|raw| choice(&id, raw)).collect::<Result<Vec<_>, _>>()?;
    let usage: Option<usage::Wire> = member(&mut top, "usage")?;
    let mut listed = |name: &str| top.take(name).map(RawValue::get).unwrap_or("null").to_owned();
    let results = serde_json::from_str(&listed("search_results")).unwrap_or_default();
    let addresses = serde_json::from_str(&listed("citations")).unwrap_or_default();
    cite(&mut choices, citations::sources(results, addresses));
    Ok(Completion {
        id,
        model: member(&mut top, "model")?.unwrap_or_default(),
        created: member(&mut top, "created")?,
        choices,
        usage: usage.as_ref().map(usage::normalise).unwrap_or_default(),
        service_tier: member(&mut top, "service_tier")?,
        reported_cost: usage.as_ref().and_then(usage::cost),
        extra: top.into_extra(),
    })
}

/// Sources that are listed beside the answer belong to its text.
fn cite(choices: &mut [Choice], sources: Vec<Citation>) {
    let mut parts = choices.iter_mut().flat_map(|choice| &mut choice.parts);
    if let Some(text) = parts.find(|part| matches!(part.content, Content::Text(_))) {
        text.citations.extend(sources);
    }
}

fn member<'a, T: Deserialize<'a>>(object: &mut Object<'a>, name: &str) -> Result<Option<T>, DecodeError> {
    let Some(raw) = object.take(name) else {
        return Ok(None);
    };
    serde_json::from_str(raw.get()).map(Some).map_err(|e| corrupt(format!("`{name}`: {e}")))
}

fn choice(answer: &str, raw: &RawValue) -> Result<Choice, DecodeError> {
    let mut object: Object<'_> = serde_json::from_str(raw.get()).map_err(corrupt)?;
    if let Some(error) = object.take("error") {
        return Err(refused(error.get()));
    }
    let raw: &RawValue = object.take("message").ok_or_else(|| corrupt("a choice has no `message`"))?;
    let message: Message = serde_json::from_str(raw.get()).map_err(corrupt)?;
    let mut rest: Object<'_> = serde_json::from_str(raw.get()).map_err(corrupt)?;
    for known in Message::MEMBERS {
        rest.take(known);
    }
    let finish = member::<String>(&mut object, "finish_reason")?.filter(|word| !word.is_empty());
    Ok(Choice {
        index: member(&mut object, "index")?.unwrap_or_default(),
        parts: stream::parts(answer, message).map_err(corrupt)?,
        finish: finish.map(finish_reason),
        stop_sequence: None,
        logprobs: object.take("logprobs").map(RawJson::from),
        extra: rest.into_extra(),
    })
}

/// OpenAI's words, and what compatible servers say in their place: Together's `eos`, Hugging Face's `eos_token`,
/// Mistral's `model_length`, Z.ai's `sensitive`.
pub(super) fn finish_reason(word: String) -> FinishReason {
    match word.as_str() {
        "stop" | "eos" | "eos_token" => FinishReason::Stop,
        "length" | "model_length" | "max_tokens" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        "content_filter" | "sensitive" => FinishReason::ContentFilter,
        _ => FinishReason::Other(word),
    }
}
