//! The conversation: system text apart, roles in turns, results of tools as blocks of the user.

use serde::Serialize;

use super::types::NAME;
use crate::{
    canonical::{Call, Content, Media, Part, Reasoning, Role, Source, ToolCall, ToolResult},
    dialect::DialectName,
    error::EncodeError,
    json::RawJson,
    notes::{Notes, unsupported},
};

#[derive(Serialize)]
pub(super) struct WireMessage<'a> {
    role: &'static str,
    content: Vec<WireBlock<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum WireBlock<'a> {
    Known {
        #[serde(flatten)]
        known: Known<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<&'a RawJson>,
    },
    Raw(&'a RawJson),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Known<'a> {
    Text {
        text: &'a str,
    },
    Image {
        source: WireSource<'a>,
    },
    Document {
        source: WireSource<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: RawJson,
    },
    ToolResult {
        tool_use_id: &'a str,
        content: Vec<WireBlock<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        is_error: Option<bool>,
    },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum WireSource<'a> {
    Base64 { media_type: &'a str, data: &'a str },
    Url { url: &'a str },
    Text { media_type: &'static str, data: &'a str },
}

/// System blocks and turns. Messages of the same role in a row become one turn; in it the results of tools come
/// first, as the API wants them right behind the calls they answer.
pub(super) fn encode<'a>(
    call: &'a Call,
    notes: &mut Notes,
) -> Result<(Vec<WireBlock<'a>>, Vec<WireMessage<'a>>), EncodeError> {
    let mut system = Vec::new();
    let mut turns: Vec<WireMessage<'a>> = Vec::new();
    for message in &call.messages {
        let role = match message.role {
            Role::System | Role::Developer => {
                if !turns.is_empty() {
                    notes.say("a system message in the middle of the conversation was moved to its beginning");
                }
                blocks(&message.parts, &mut system, notes)?;
                continue;
            }
            Role::User | Role::Tool => "user",
            Role::Assistant => "assistant",
        };
        if message.name.is_some() && message.role != Role::Tool {
            notes.drop("`name` of a message")?;
        }
        let mut content = Vec::with_capacity(message.parts.len());
        blocks(&message.parts, &mut content, notes)?;
        match turns.last_mut() {
            _ if content.is_empty() => {}
            Some(turn) if turn.role == role => turn.content.extend(content),
            _ => turns.push(WireMessage { role, content }),
        }
    }
    for turn in &mut turns {
        turn.content.sort_by_key(|b| !matches!(b, WireBlock::Known { known: Known::ToolResult { .. }, .. }));
    }
    if turns.is_empty() {
        return Err(EncodeError::Invalid {
            field: "`messages`".to_owned(),
            problem: "beside system messages there must be at least one with content".to_owned(),
        });
    }
    Ok((system, turns))
}

fn blocks<'a>(parts: &'a [Part], out: &mut Vec<WireBlock<'a>>, notes: &mut Notes) -> Result<(), EncodeError> {
    for part in parts {
        out.extend(block(part, notes)?);
    }
    Ok(())
}

/// `None`: there is nothing to send. The API refuses empty text.
fn block<'a>(part: &'a Part, notes: &mut Notes) -> Result<Option<WireBlock<'a>>, EncodeError> {
    let known = match &part.content {
        Content::Text(text) | Content::Refusal(text) => {
            if text.is_empty() {
                return Ok(None);
            }
            Known::Text { text }
        }
        Content::Image(media) => Known::Image { source: source(media, "an image")? },
        Content::File(media) => Known::Document { source: source(media, "a document")?, title: media.name.as_deref() },
        Content::Audio(_) => return Err(unsupported(NAME, "audio")),
        Content::Reasoning(Reasoning { encrypted: Some(data), .. }) => Known::RedactedThinking { data },
        Content::Reasoning(Reasoning { text, signature: Some(signature), .. }) => {
            Known::Thinking { thinking: text, signature }
        }
        Content::Reasoning(_) => {
            notes.drop("reasoning of an earlier answer that bears no signature")?;
            return Ok(None);
        }
        Content::ToolCall(call) => tool_use(call)?,
        Content::ToolResult(result) => tool_result(result, notes)?,
        Content::Other { dialect: DialectName::AnthropicMessages, raw, .. } => return Ok(Some(WireBlock::Raw(raw))),
        Content::Other { dialect, kind, .. } => return Err(unsupported(NAME, format!("`{kind}` of {dialect}"))),
    };
    Ok(Some(WireBlock::Known { known, cache_control: part.extra.get("cache_control") }))
}

fn tool_use(call: &ToolCall) -> Result<Known<'_>, EncodeError> {
    let text = if call.arguments.trim().is_empty() { "{}" } else { call.arguments.trim() };
    let input = RawJson::new(text).filter(RawJson::is_object).ok_or_else(|| EncodeError::Invalid {
        field: format!("the arguments of tool call `{}`", call.id),
        problem: "they must be the text of one JSON object".to_owned(),
    })?;
    Ok(Known::ToolUse { id: &call.id, name: &call.name, input })
}

fn tool_result<'a>(result: &'a ToolResult, notes: &mut Notes) -> Result<Known<'a>, EncodeError> {
    let mut content = Vec::with_capacity(result.parts.len());
    blocks(&result.parts, &mut content, notes)?;
    Ok(Known::ToolResult { tool_use_id: &result.call_id, content, is_error: result.is_error.then_some(true) })
}

fn source<'a>(media: &'a Media, what: &str) -> Result<WireSource<'a>, EncodeError> {
    match &media.source {
        Source::Url(url) => Ok(WireSource::Url { url }),
        Source::Base64 { media_type, data } if media_type.starts_with("image/") || media_type == "application/pdf" => {
            Ok(WireSource::Base64 { media_type, data })
        }
        Source::Base64 { media_type, .. } => Err(unsupported(NAME, format!("{what} of type {media_type}"))),
        Source::Text(data) => Ok(WireSource::Text { media_type: "text/plain", data }),
        Source::Uploaded(_) => Err(unsupported(NAME, format!("{what} uploaded to another provider"))),
    }
}
