//! The conversation: text, images and calls of a message each in a member of their own.

use std::collections::HashMap;

use serde::Serialize;

use super::types::NAME;
use crate::{
    canonical::{Call, Content, Message, Part, Role, Source, ToolCall, ToolResult},
    error::EncodeError,
    json::RawJson,
    notes::{Notes, unsupported},
};

#[derive(Serialize, Default)]
pub(super) struct WireMessage<'a> {
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    thinking: String,
    /// Base64, without a media type.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<WireCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

#[derive(Serialize)]
struct WireCall<'a> {
    id: &'a str,
    function: WireFunction<'a>,
}

#[derive(Serialize)]
struct WireFunction<'a> {
    name: &'a str,
    arguments: RawJson,
}

pub(super) fn encode<'a>(call: &'a Call, notes: &mut Notes) -> Result<Vec<WireMessage<'a>>, EncodeError> {
    let mut called = HashMap::new();
    let mut out = Vec::with_capacity(call.messages.len());
    for message in &call.messages {
        if message.name.is_some() && message.role != Role::Tool {
            notes.drop("`name` of a message")?;
        }
        encode_message(message, &mut called, &mut out, notes)?;
    }
    if out.is_empty() {
        return Err(EncodeError::Invalid {
            field: "`messages`".to_owned(),
            problem: "there must be at least one with content".to_owned(),
        });
    }
    Ok(out)
}

fn encode_message<'a>(
    message: &'a Message,
    called: &mut HashMap<&'a str, &'a str>,
    out: &mut Vec<WireMessage<'a>>,
    notes: &mut Notes,
) -> Result<(), EncodeError> {
    let role = match message.role {
        Role::System | Role::Developer => "system",
        Role::User | Role::Tool => "user",
        Role::Assistant => "assistant",
    };
    let mut wire = WireMessage { role, ..WireMessage::default() };
    let mut said = false;
    for part in &message.parts {
        match &part.content {
            Content::ToolResult(result) => {
                let tool_name = called.get(result.call_id.as_str()).copied().or(message.name.as_deref());
                out.push(tool_result(result, tool_name, notes)?);
                continue;
            }
            Content::ToolCall(call) => {
                called.insert(&call.id, &call.name);
                wire.tool_calls.push(tool_call(call)?);
            }
            _ => add(part, &mut wire, notes)?,
        }
        said = true;
    }
    out.extend(said.then_some(wire));
    Ok(())
}

fn add<'a>(part: &'a Part, wire: &mut WireMessage<'a>, notes: &mut Notes) -> Result<(), EncodeError> {
    match &part.content {
        Content::Text(text) | Content::Refusal(text) => paragraph(&mut wire.content, text),
        Content::Image(media) => match &media.source {
            Source::Base64 { data, .. } => {
                notes.no_detail(media);
                wire.images.push(data);
            }
            _ => return Err(unsupported(NAME, "an image by address")),
        },
        Content::File(media) => match &media.source {
            Source::Text(text) => paragraph(&mut wire.content, text),
            _ => return Err(unsupported(NAME, "a document")),
        },
        Content::Reasoning(reasoning) if reasoning.origin.is_none_or(|origin| origin == NAME) => {
            paragraph(&mut wire.thinking, &reasoning.text);
        }
        Content::Reasoning(_) => notes.drop("reasoning of another model's answer")?,
        Content::Audio(_) => return Err(unsupported(NAME, "audio")),
        Content::Other { dialect, kind, .. } => return Err(unsupported(NAME, format!("`{kind}` of {dialect}"))),
        Content::ToolCall(_) | Content::ToolResult(_) => {
            return Err(unsupported(NAME, "a call within a tool's result"));
        }
    }
    Ok(())
}

/// A message holds one text: its pieces stand below each other.
fn paragraph(text: &mut String, more: &str) {
    if !text.is_empty() && !more.is_empty() {
        text.push_str("\n\n");
    }
    text.push_str(more);
}

fn tool_call(call: &ToolCall) -> Result<WireCall<'_>, EncodeError> {
    Ok(WireCall { id: &call.id, function: WireFunction { name: &call.name, arguments: call.object()? } })
}

fn tool_result<'a>(
    result: &'a ToolResult,
    tool_name: Option<&'a str>,
    notes: &mut Notes,
) -> Result<WireMessage<'a>, EncodeError> {
    let tool_call_id = Some(result.call_id.as_str());
    let mut wire = WireMessage { role: "tool", tool_name, tool_call_id, ..WireMessage::default() };
    result.parts.iter().try_for_each(|part| add(part, &mut wire, notes))?;
    Ok(wire)
}
