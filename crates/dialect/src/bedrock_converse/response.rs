//! A whole answer.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    error, types,
    types::{Block, Cited, Image, NAME, Reasoning as WireReasoning, ServiceTier, ToolUse, joined},
    usage,
};
use crate::{
    canonical::{Choice, Citation, Completion, Content, FinishReason, Part, Reasoning, Source, ToolCall},
    dialect::Head,
    error::DecodeError,
    json::{Object, RawJson},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(default, borrow)]
    output: Option<Output<'a>>,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    usage: Option<usage::Wire>,
    #[serde(default)]
    service_tier: Option<ServiceTier>,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    message: Message<'a>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(default, borrow)]
    content: Option<Vec<&'a RawValue>>,
}

/// The answer says neither its model nor its own id; the request's id stands in a header.
pub(super) fn decode(head: &Head, body: &[u8]) -> Result<Completion, DecodeError> {
    let corrupt = |problem: String| DecodeError::Corrupt { dialect: NAME, problem };
    let wire: Wire<'_> = serde_json::from_slice(body).map_err(|error| corrupt(error.to_string()))?;
    let Some(output) = wire.output else {
        let refusal = error::in_answer(body).ok_or_else(|| corrupt("it has no `output`".to_owned()))?;
        return Err(DecodeError::Refused(Box::new(refusal)));
    };
    let mut parts = Vec::new();
    for raw in output.message.content.unwrap_or_default() {
        parts.extend(part(raw).map_err(|problem| corrupt(format!("a block cannot be read: {problem}")))?);
    }
    let id = head.headers.get("x-amzn-requestid").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let finish = wire.stop_reason.map(stop_reason);
    Ok(Completion {
        id: id.to_owned(),
        choices: vec![Choice { parts, finish, ..Choice::default() }],
        usage: wire.usage.map(|usage| usage::normalise(&usage)).unwrap_or_default(),
        service_tier: wire.service_tier.and_then(|tier| tier.kind),
        ..Completion::default()
    })
}

pub(super) fn stop_reason(word: String) -> FinishReason {
    match word.as_str() {
        "end_turn" => FinishReason::Stop,
        "stop_sequence" => FinishReason::StopSequence,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_use" => FinishReason::ToolCalls,
        "guardrail_intervened" | "content_filtered" => FinishReason::ContentFilter,
        "refusal" => FinishReason::Refusal,
        _ => FinishReason::Other(word),
    }
}

/// `None`: an empty text.
fn part(raw: &RawValue) -> serde_json::Result<Option<Part>> {
    let block: Block<'_> = serde_json::from_str(raw.get())?;
    if let Some(text) = block.text {
        return Ok((!text.is_empty()).then(|| Part::text(text)));
    }
    if let Some(cited) = block.citations_content {
        return Ok(Some(cited_text(cited)));
    }
    Ok(Some(Part::from(match block {
        Block { tool_use: Some(call), .. } if !call.is_the_providers() => tool_call(call),
        Block { reasoning_content: Some(reasoning), .. } => Content::Reasoning(self::reasoning(reasoning)),
        Block { image: Some(Image { format, source: types::ImageSource { bytes: Some(data) } }), .. } => {
            image(&format, data)
        }
        _ => {
            let members: Object<'_> = serde_json::from_str(raw.get())?;
            let kind = members.keys().next().unwrap_or_default().to_owned();
            Content::Other { dialect: NAME, kind, raw: RawJson::from(raw) }
        }
    })))
}

fn tool_call(call: ToolUse<'_>) -> Content {
    let arguments = call.input.map_or("{}", RawValue::get).to_owned();
    Content::ToolCall(ToolCall { id: call.tool_use_id, name: call.name, arguments })
}

pub(super) fn image(format: &str, data: String) -> Content {
    Content::Image(Source::Base64 { media_type: format!("image/{format}"), data }.into())
}

fn reasoning(wire: WireReasoning) -> Reasoning {
    let text = wire.reasoning_text.unwrap_or_default();
    Reasoning {
        text: text.text.unwrap_or_default(),
        signature: text.signature,
        encrypted: wire.redacted_content,
        id: None,
        origin: Some(NAME),
    }
}

fn cited_text(cited: Cited<'_>) -> Part {
    let text = joined(cited.content);
    let length = text.chars().count();
    let citations = cited.citations.unwrap_or_default().into_iter().map(|raw| citation(raw, length)).collect();
    Part { citations, ..Part::text(text) }
}

/// A citation holds for the whole text of its block, `length` characters. What cannot be read of it stays in `raw`.
pub(super) fn citation(raw: &RawValue, length: usize) -> Citation {
    let wire: types::Citation = serde_json::from_str(raw.get()).unwrap_or_default();
    let is_url = |source: &String| source.starts_with("https://") || source.starts_with("http://");
    let web = wire.location.and_then(|location| location.web).and_then(|web| web.url);
    Citation {
        url: web.or(wire.source.filter(is_url)),
        title: wire.title,
        quote: Some(joined(wire.source_content)).filter(|quote| !quote.is_empty()),
        start: Some(0),
        end: u64::try_from(length).ok(),
        raw: Some((NAME, RawJson::from(raw))),
    }
}
