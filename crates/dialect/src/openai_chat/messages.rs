//! The conversation: results of tools as messages of their own, media as parts.

use std::borrow::Cow;

use serde::Serialize;

use super::types::NAME;
use crate::{
    canonical::{Call, Content, Extra, Media, Message, Part, Role, Source, ToolCall, ToolResult},
    dialect::DialectName,
    error::EncodeError,
    json::RawJson,
    notes::{Notes, unsupported},
};

/// Tool messages follow each other without anything between them, right behind the calls they answer. Images in
/// results, which a tool message cannot hold, come behind the last of them as a user's message.
pub(super) fn encode<'a>(call: &'a Call, notes: &mut Notes) -> Result<Vec<WireMessage<'a>>, EncodeError> {
    let mut out = Vec::with_capacity(call.messages.len());
    let mut media: Vec<&'a Part> = Vec::new();
    for message in &call.messages {
        if message.role != Role::Tool {
            flush(&mut media, &mut out)?;
        }
        encode_message(message, &mut media, &mut out, notes)?;
    }
    flush(&mut media, &mut out)?;
    Ok(out)
}

fn flush<'a>(media: &mut Vec<&'a Part>, out: &mut Vec<WireMessage<'a>>) -> Result<(), EncodeError> {
    if media.is_empty() {
        return Ok(());
    }
    out.push(WireMessage {
        role: role(Role::User),
        content: content(media)?,
        refusal: None,
        name: None,
        tool_call_id: None,
        tool_calls: Vec::new(),
        extra: None,
    });
    media.clear();
    Ok(())
}

#[derive(Serialize)]
pub(super) struct WireMessage<'a> {
    role: &'static str,
    content: Option<WireContent<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<WireToolCall<'a>>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    extra: Option<&'a Extra>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WireContent<'a> {
    Text(&'a str),
    Parts(Vec<WirePart<'a>>),
}

#[derive(Serialize)]
#[serde(untagged)]
enum WirePart<'a> {
    Known {
        #[serde(flatten)]
        part: KnownPart<'a>,
        #[serde(flatten)]
        extra: &'a Extra,
    },
    Raw(&'a RawJson),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum KnownPart<'a> {
    Text { text: &'a str },
    Refusal { refusal: &'a str },
    ImageUrl { image_url: ImageUrl<'a> },
    InputAudio { input_audio: InputAudio<'a> },
    File { file: File<'a> },
}

#[derive(Serialize)]
struct ImageUrl<'a> {
    url: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

#[derive(Serialize)]
struct InputAudio<'a> {
    data: &'a str,
    format: &'a str,
}

#[derive(Serialize)]
struct File<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WireToolCall<'a> {
    Function {
        id: &'a str,
        #[serde(rename = "type")]
        kind: &'static str,
        function: WireFunction<'a>,
        #[serde(flatten)]
        extra: &'a Extra,
    },
    Raw(&'a RawJson),
}

#[derive(Serialize)]
struct WireFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

fn role(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::Developer => "developer",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

fn encode_message<'a>(
    message: &'a Message,
    media: &mut Vec<&'a Part>,
    out: &mut Vec<WireMessage<'a>>,
    notes: &mut Notes,
) -> Result<(), EncodeError> {
    let mut rest: Vec<&'a Part> = Vec::with_capacity(message.parts.len());
    let mut results = 0;
    for part in &message.parts {
        let Content::ToolResult(result) = &part.content else {
            rest.push(part);
            continue;
        };
        results += 1;
        let (text, other): (Vec<&Part>, Vec<&Part>) =
            result.parts.iter().partition(|p| matches!(p.content, Content::Text(_)));
        let whole = (message.role == Role::Tool).then_some(message);
        out.push(tool_message(result, &text, whole)?);
        media.extend(other);
    }
    if message.role == Role::Tool {
        media.extend(rest);
        return Ok(());
    }
    if rest.is_empty() && results > 0 {
        return Ok(());
    }
    flush(media, out)?;
    out.push(plain_message(message, &rest, notes)?);
    Ok(())
}

fn tool_message<'a>(
    result: &'a ToolResult,
    text: &[&'a Part],
    whole: Option<&'a Message>,
) -> Result<WireMessage<'a>, EncodeError> {
    Ok(WireMessage {
        role: role(Role::Tool),
        content: Some(content(text)?.unwrap_or(WireContent::Text(""))),
        refusal: None,
        name: whole.and_then(|message| message.name.as_deref()),
        tool_call_id: Some(&result.call_id),
        tool_calls: Vec::new(),
        extra: whole.map(|message| &message.extra),
    })
}

fn plain_message<'a>(
    message: &'a Message,
    parts: &[&'a Part],
    notes: &mut Notes,
) -> Result<WireMessage<'a>, EncodeError> {
    let mut calls = Vec::new();
    let mut refusal = None;
    let mut spoken: Vec<&'a Part> = Vec::with_capacity(parts.len());
    for part in parts {
        match &part.content {
            Content::ToolCall(ToolCall { id, name, arguments }) => calls.push(WireToolCall::Function {
                id,
                kind: "function",
                function: WireFunction { name, arguments: if arguments.is_empty() { "{}" } else { arguments } },
                extra: &part.extra,
            }),
            Content::Other { dialect: DialectName::OpenAiChat, kind, raw } if kind.starts_with("tool_call:") => {
                calls.push(WireToolCall::Raw(raw));
            }
            Content::Refusal(text) if message.role == Role::Assistant && part.extra.is_empty() => {
                refusal = Some(text.as_str())
            }
            Content::Reasoning(_) => notes.drop("the reasoning of an earlier answer")?,
            _ => spoken.push(part),
        }
    }
    let spoken = content(&spoken)?;
    let needs_text = message.role != Role::Assistant || (calls.is_empty() && refusal.is_none());
    Ok(WireMessage {
        role: role(message.role),
        content: spoken.or(needs_text.then_some(WireContent::Text(""))),
        refusal,
        name: message.name.as_deref(),
        tool_call_id: None,
        tool_calls: calls,
        extra: Some(&message.extra),
    })
}

/// One plain text stays a string, as callers write it; anything else is a list of parts.
fn content<'a>(parts: &[&'a Part]) -> Result<Option<WireContent<'a>>, EncodeError> {
    match parts {
        [] => Ok(None),
        [Part { content: Content::Text(text), extra, .. }] if extra.is_empty() => Ok(Some(WireContent::Text(text))),
        parts => {
            let parts = parts.iter().map(|part| wire_part(part)).collect::<Result<Vec<_>, _>>()?;
            Ok(Some(WireContent::Parts(parts)))
        }
    }
}

fn wire_part(part: &Part) -> Result<WirePart<'_>, EncodeError> {
    let known = match &part.content {
        Content::Text(text) => KnownPart::Text { text },
        Content::Refusal(refusal) => KnownPart::Refusal { refusal },
        Content::Image(media) => KnownPart::ImageUrl { image_url: image(media)? },
        Content::Audio(media) => KnownPart::InputAudio { input_audio: audio(media)? },
        Content::File(Media { source: Source::Text(text), .. }) => KnownPart::Text { text },
        Content::File(media) => KnownPart::File { file: file(media)? },
        Content::Other { dialect: DialectName::OpenAiChat, raw, .. } => return Ok(WirePart::Raw(raw)),
        Content::Other { dialect, kind, .. } => return Err(unsupported(NAME, format!("`{kind}` of {dialect}"))),
        Content::ToolCall(_) | Content::ToolResult(_) | Content::Reasoning(_) => {
            return Err(unsupported(NAME, "a tool call or reasoning inside the result of a tool"));
        }
    };
    Ok(WirePart::Known { part: known, extra: &part.extra })
}

fn image(media: &Media) -> Result<ImageUrl<'_>, EncodeError> {
    let url = media.source.url().ok_or_else(|| unsupported(NAME, "an uploaded image"))?;
    Ok(ImageUrl { url, detail: media.detail.as_deref() })
}

fn audio(media: &Media) -> Result<InputAudio<'_>, EncodeError> {
    match &media.source {
        Source::Base64 { media_type, data } => {
            Ok(InputAudio { data, format: media_type.strip_prefix("audio/").unwrap_or(media_type) })
        }
        _ => Err(unsupported(NAME, "audio that is not sent along as base64")),
    }
}

fn file(media: &Media) -> Result<File<'_>, EncodeError> {
    let (file_id, file_data) = match &media.source {
        Source::Uploaded(id) => (Some(id.as_str()), None),
        Source::Base64 { media_type, data } => (None, Some(format!("data:{media_type};base64,{data}"))),
        Source::Url(url) if !url.contains("://") => (None, Some(url.clone())),
        Source::Url(_) | Source::Text(_) => return Err(unsupported(NAME, "a document by its URL")),
    };
    Ok(File { file_id, file_data, filename: media.name.as_deref() })
}
