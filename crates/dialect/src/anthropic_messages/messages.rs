//! The conversation: system text apart, roles in turns, results of tools as blocks of the user.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;

use super::{
    citations::{self, Written},
    types::NAME,
};
use crate::{
    canonical::{
        CacheMark, Call, Content, Extra, Media, Part, Reasoning, Role, Source, ToolCall, ToolResult, plain_id,
    },
    error::EncodeError,
    json::RawJson,
    notes::{Notes, unsupported},
};

#[derive(Serialize)]
pub(super) struct WireMessage<'a> {
    role: &'static str,
    content: Vec<WireBlock<'a>>,
    #[serde(flatten)]
    extra: Option<&'a Extra>,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum WireBlock<'a> {
    Known {
        #[serde(flatten)]
        known: Known<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Cache>,
        #[serde(flatten)]
        extra: Option<&'a Extra>,
    },
    Raw(&'a RawJson),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Known<'a> {
    Text {
        text: &'a str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        citations: Vec<Written<'a>>,
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
        id: Cow<'a, str>,
        name: &'a str,
        input: RawJson,
    },
    ToolResult {
        tool_use_id: Cow<'a, str>,
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
    Text { media_type: &'static str, data: Cow<'a, str> },
    File { file_id: &'a str },
}

/// <https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching>
#[derive(Serialize)]
pub(super) struct Cache {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'static str>,
}

impl From<CacheMark> for Cache {
    fn from(mark: CacheMark) -> Cache {
        Cache { kind: "ephemeral", ttl: (mark == CacheMark::Long).then_some("1h") }
    }
}

type Conversation<'a> = (Vec<WireBlock<'a>>, Vec<WireMessage<'a>>);

/// System blocks and turns. Messages of the same role in a row become one turn; in it the results of tools come
/// first, as the API wants them right behind the calls they answer.
///
/// Newer models read system messages between the turns, others refuse them: they stay there for a caller of this
/// dialect, which knows its model.
pub(super) fn encode<'a>(call: &'a Call, notes: &mut Notes) -> Result<Conversation<'a>, EncodeError> {
    let own = call.dialect == Some(NAME);
    let mut system = Vec::new();
    let mut turns: Vec<WireMessage<'a>> = Vec::new();
    for message in &call.messages {
        let role = match message.role {
            Role::System | Role::Developer if own && !turns.is_empty() => "system",
            Role::System | Role::Developer => {
                if !turns.is_empty() {
                    notes.say("a system message in the middle of the conversation was moved to its beginning");
                }
                blocks(&message.parts, own, &mut system, notes)?;
                continue;
            }
            Role::User | Role::Tool => "user",
            Role::Assistant => "assistant",
        };
        if message.name.is_some() && message.role != Role::Tool {
            notes.drop("`name` of a message")?;
        }
        let mut content = Vec::with_capacity(message.parts.len());
        blocks(&message.parts, own, &mut content, notes)?;
        match turns.last_mut() {
            _ if content.is_empty() => {}
            Some(turn) if turn.role == role => turn.content.extend(content),
            _ => turns.push(WireMessage { role, content, extra: own.then_some(&message.extra) }),
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

fn blocks<'a>(
    parts: &'a [Part],
    own: bool,
    out: &mut Vec<WireBlock<'a>>,
    notes: &mut Notes,
) -> Result<(), EncodeError> {
    for part in parts {
        out.extend(block(part, own, notes)?);
    }
    Ok(())
}

/// `None`: there is nothing to send. The API refuses text without a visible character.
fn block<'a>(part: &'a Part, own: bool, notes: &mut Notes) -> Result<Option<WireBlock<'a>>, EncodeError> {
    let known = match &part.content {
        Content::Text(text) | Content::Refusal(text) => {
            if text.trim().is_empty() {
                return Ok(None);
            }
            let citations: Vec<_> = part.citations.iter().filter_map(citations::own).collect();
            if citations.len() < part.citations.len() {
                notes.drop("what an earlier answer of another provider leaned on")?;
            }
            Known::Text { text, citations }
        }
        Content::Image(media) => {
            notes.no_detail(media);
            Known::Image { source: source(media, own, "an image")? }
        }
        Content::File(media) => {
            Known::Document { source: source(media, own, "a document")?, title: media.name.as_deref() }
        }
        Content::Audio(_) => return Err(unsupported(NAME, "audio")),
        Content::Reasoning(reasoning) => match thought(reasoning, notes)? {
            Some(known) => known,
            None => return Ok(None),
        },
        Content::ToolCall(call) => tool_use(call)?,
        Content::ToolResult(result) => tool_result(result, own, notes)?,
        Content::Other { dialect: NAME, raw, .. } => return Ok(Some(WireBlock::Raw(raw))),
        Content::Other { dialect, kind, .. } => return Err(unsupported(NAME, format!("`{kind}` of {dialect}"))),
    };
    let cache_control = part.cache.map(Cache::from);
    Ok(Some(WireBlock::Known { known, cache_control, extra: own.then_some(&part.extra) }))
}

fn thought<'a>(reasoning: &'a Reasoning, notes: &mut Notes) -> Result<Option<Known<'a>>, EncodeError> {
    if reasoning.origin.is_some_and(|origin| origin != NAME) {
        notes.drop("reasoning of an earlier answer by another provider")?;
        return Ok(None);
    }
    match reasoning {
        Reasoning { encrypted: Some(data), .. } => Ok(Some(Known::RedactedThinking { data })),
        Reasoning { text, signature: Some(signature), .. } => Ok(Some(Known::Thinking { thinking: text, signature })),
        _ => {
            notes.drop("reasoning of an earlier answer that bears no signature")?;
            Ok(None)
        }
    }
}

fn tool_use(call: &ToolCall) -> Result<Known<'_>, EncodeError> {
    Ok(Known::ToolUse { id: plain_id(&call.id), name: &call.name, input: call.object()? })
}

fn tool_result<'a>(result: &'a ToolResult, own: bool, notes: &mut Notes) -> Result<Known<'a>, EncodeError> {
    let mut content = Vec::with_capacity(result.parts.len());
    blocks(&result.parts, own, &mut content, notes)?;
    let is_error = result.is_error.then_some(true);
    Ok(Known::ToolResult { tool_use_id: plain_id(&result.call_id), content, is_error })
}

/// An upload is known to the provider of its own dialect only.
fn source<'a>(media: &'a Media, own: bool, what: &str) -> Result<WireSource<'a>, EncodeError> {
    match &media.source {
        Source::Url(url) => Ok(WireSource::Url { url }),
        Source::Base64 { media_type, data } if media_type.starts_with("image/") || media_type == "application/pdf" => {
            Ok(WireSource::Base64 { media_type, data })
        }
        Source::Base64 { media_type, data } => {
            let text = media_type.starts_with("text/").then(|| STANDARD.decode(data).ok()).flatten();
            let text = text.and_then(|bytes| String::from_utf8(bytes).ok());
            let text = text.ok_or_else(|| unsupported(NAME, format!("{what} of type {media_type}")))?;
            Ok(WireSource::Text { media_type: "text/plain", data: Cow::Owned(text) })
        }
        Source::Text(data) => Ok(WireSource::Text { media_type: "text/plain", data: Cow::Borrowed(data) }),
        Source::Uploaded(file_id) if own => Ok(WireSource::File { file_id }),
        Source::Uploaded(_) => Err(unsupported(NAME, format!("{what} uploaded to another provider"))),
    }
}
