//! A whole answer.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    citations, error,
    types::{Block, NAME, Usage},
    usage,
};
use crate::{
    canonical::{Choice, Completion, Content, FinishReason, Part, Reasoning, ToolCall},
    error::DecodeError,
    json::{Object, RawJson},
};

fn corrupt(problem: impl ToString) -> DecodeError {
    DecodeError::Corrupt { dialect: NAME, problem: problem.to_string() }
}

pub(super) fn decode(body: &[u8]) -> Result<Completion, DecodeError> {
    let mut top: Object<'_> = serde_json::from_slice(body).map_err(corrupt)?;
    if let Some(error) = top.take("error") {
        return Err(DecodeError::Refused(Box::new(error::in_place(error.get()))));
    }
    let content: Vec<&RawValue> = member(&mut top, "content")?.ok_or_else(|| corrupt("it has no `content`"))?;
    let parts = content.into_iter().map(part).collect::<Result<Vec<_>, _>>()?;
    let wire: Usage = member(&mut top, "usage")?.unwrap_or_default();
    top.take("type");
    top.take("role");
    let choice = Choice {
        index: 0,
        parts,
        finish: member::<String>(&mut top, "stop_reason")?.map(stop_reason),
        stop_sequence: member(&mut top, "stop_sequence")?,
        ..Choice::default()
    };
    Ok(Completion {
        id: member(&mut top, "id")?.unwrap_or_default(),
        model: member(&mut top, "model")?.unwrap_or_default(),
        created: None,
        choices: vec![choice],
        usage: usage::normalise(&wire),
        service_tier: wire.service_tier,
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

fn part(raw: &RawValue) -> Result<Part, DecodeError> {
    let block: Block<'_> = serde_json::from_str(raw.get()).map_err(corrupt)?;
    let content = match block.kind.as_str() {
        "text" => Content::Text(block.text.unwrap_or_default()),
        "thinking" => Content::Reasoning(Reasoning {
            text: block.thinking.unwrap_or_default(),
            signature: block.signature.filter(|s| !s.is_empty()),
            origin: Some(NAME),
            ..Reasoning::default()
        }),
        "redacted_thinking" => Content::Reasoning(Reasoning {
            encrypted: Some(block.data.unwrap_or_default()),
            origin: Some(NAME),
            ..Reasoning::default()
        }),
        "tool_use" => Content::ToolCall(ToolCall {
            id: block.id.ok_or_else(|| corrupt("a tool call has no id"))?,
            name: block.name.ok_or_else(|| corrupt("a tool call has no name"))?,
            arguments: block.input.map_or("{}", RawValue::get).to_owned(),
        }),
        _ => {
            let (kind, raw) = (block.kind, RawJson::from(raw));
            return Ok(Part::from(Content::Other { dialect: NAME, kind, raw }));
        }
    };
    let citations = match block.citations {
        Some(raw) => citations::read(raw).ok_or_else(|| corrupt("`citations` is no list of citations"))?,
        None => Vec::new(),
    };
    let mut rest: Object<'_> = serde_json::from_str(raw.get()).map_err(corrupt)?;
    for known in ["type", "text", "thinking", "signature", "data", "id", "name", "input", "citations"] {
        rest.take(known);
    }
    Ok(Part { citations, ..Part::with_extra(content, rest.into_extra()) })
}

pub(super) fn stop_reason(word: String) -> FinishReason {
    match word.as_str() {
        "end_turn" => FinishReason::Stop,
        "stop_sequence" => FinishReason::StopSequence,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_use" => FinishReason::ToolCalls,
        "pause_turn" => FinishReason::Pause,
        "refusal" => FinishReason::Refusal,
        _ => FinishReason::Other(word),
    }
}
