//! The conversation: results of tools as messages of their own, a plan beside the calls that it led to.

use std::borrow::Cow;

use serde::Serialize;

use super::NAME;
use crate::{
    canonical::{Call, Content, Media, Message, Part, Reasoning, Role, Source, ToolResult},
    cohere::image_url,
    error::EncodeError,
    json::RawJson,
    notes::Notes,
};

/// Images in results, which a tool message cannot hold, come behind the last result as a user's message.
pub(super) fn encode<'a>(call: &'a Call, notes: &mut Notes) -> Result<Vec<WireMessage<'a>>, EncodeError> {
    let mut out = Vec::with_capacity(call.messages.len());
    let mut media: Vec<&'a Part> = Vec::new();
    for message in &call.messages {
        if message.name.is_some() {
            notes.drop("the `name` of a message")?;
        }
        let mut spoken: Vec<&'a Part> = Vec::with_capacity(message.parts.len());
        for part in &message.parts {
            match &part.content {
                Content::ToolResult(result) => out.push(tool_message(result, &mut media, notes)?),
                _ => spoken.push(part),
            }
        }
        if message.role == Role::Tool {
            media.extend(spoken);
        } else if !spoken.is_empty() || message.parts.is_empty() {
            flush(&mut media, &mut out, notes)?;
            out.push(match message.role {
                Role::Assistant => assistant_message(&spoken, notes)?,
                _ => plain_message(message, &spoken, notes)?,
            });
        }
    }
    flush(&mut media, &mut out, notes)?;
    Ok(out)
}

#[derive(Default, Serialize)]
pub(super) struct WireMessage<'a> {
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_plan: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<WireToolCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<WireContent<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    citations: Vec<&'a RawJson>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WireContent<'a> {
    Text(&'a str),
    Blocks(Vec<WireBlock<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireBlock<'a> {
    Text { text: &'a str },
    Thinking { thinking: &'a str },
    ImageUrl { image_url: ImageUrl<'a> },
}

#[derive(Serialize)]
struct ImageUrl<'a> {
    url: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

#[derive(Serialize)]
struct WireToolCall<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    function: WireFunction<'a>,
}

#[derive(Serialize)]
struct WireFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

fn flush<'a>(media: &mut Vec<&'a Part>, out: &mut Vec<WireMessage<'a>>, notes: &Notes) -> Result<(), EncodeError> {
    if !media.is_empty() {
        let blocks = media.drain(..).map(|part| block(part, notes)).collect::<Result<_, _>>()?;
        out.push(WireMessage { role: "user", content: content(blocks), ..WireMessage::default() });
    }
    Ok(())
}

fn tool_message<'a>(
    result: &'a ToolResult,
    media: &mut Vec<&'a Part>,
    notes: &Notes,
) -> Result<WireMessage<'a>, EncodeError> {
    let (images, words): (Vec<&Part>, Vec<&Part>) =
        result.parts.iter().partition(|part| matches!(part.content, Content::Image(_)));
    media.extend(images);
    let blocks = words.into_iter().map(|part| block(part, notes)).collect::<Result<_, _>>()?;
    Ok(WireMessage {
        role: "tool",
        tool_call_id: Some(&result.call_id),
        content: content(blocks).or(Some(WireContent::Text(""))),
        ..WireMessage::default()
    })
}

fn plain_message<'a>(message: &Message, parts: &[&'a Part], notes: &Notes) -> Result<WireMessage<'a>, EncodeError> {
    let blocks = parts.iter().map(|part| block(part, notes)).collect::<Result<_, _>>()?;
    Ok(WireMessage {
        role: if message.role == Role::User { "user" } else { "system" },
        content: content(blocks).or(Some(WireContent::Text(""))),
        ..WireMessage::default()
    })
}

/// Reasoning that led to calls of tools is their plan, wherever it was thought; other reasoning stands in its own blocks.
fn assistant_message<'a>(parts: &[&'a Part], notes: &mut Notes) -> Result<WireMessage<'a>, EncodeError> {
    let mut blocks = Vec::with_capacity(parts.len());
    let mut tool_calls = Vec::new();
    let mut thoughts = Vec::new();
    let mut citations = Vec::new();
    let calls_tools = parts.iter().any(|part| matches!(part.content, Content::ToolCall(_)));
    for part in parts {
        match &part.content {
            Content::ToolCall(call) => tool_calls.push(WireToolCall {
                id: &call.id,
                kind: "function",
                function: WireFunction {
                    name: &call.name,
                    arguments: if call.arguments.is_empty() { "{}" } else { &call.arguments },
                },
            }),
            Content::Reasoning(Reasoning { text, .. }) if text.is_empty() => {
                notes.drop("reasoning that only its own provider can read")?;
            }
            Content::Reasoning(Reasoning { text, .. }) if calls_tools => thoughts.push(text.as_str()),
            Content::Reasoning(Reasoning { text, .. }) => blocks.push(WireBlock::Thinking { thinking: text }),
            _ => blocks.push(block(part, notes)?),
        }
        let own =
            part.citations.iter().filter_map(|citation| citation.raw.as_ref().filter(|(whose, _)| *whose == NAME));
        citations.extend(own.map(|(_, raw)| raw));
    }
    let needs_words = tool_calls.is_empty();
    Ok(WireMessage {
        role: "assistant",
        tool_plan: (!thoughts.is_empty()).then(|| thoughts.join("\n\n")),
        tool_calls,
        content: content(blocks).or(needs_words.then_some(WireContent::Text(""))),
        citations,
        ..WireMessage::default()
    })
}

/// One plain text is a string.
fn content(blocks: Vec<WireBlock<'_>>) -> Option<WireContent<'_>> {
    match blocks.as_slice() {
        [] => None,
        [WireBlock::Text { text }] => Some(WireContent::Text(text)),
        _ => Some(WireContent::Blocks(blocks)),
    }
}

fn block<'a>(part: &'a Part, notes: &Notes) -> Result<WireBlock<'a>, EncodeError> {
    match &part.content {
        Content::Text(text) | Content::Refusal(text) | Content::File(Media { source: Source::Text(text), .. }) => {
            Ok(WireBlock::Text { text })
        }
        Content::Image(media) => {
            let image_url = ImageUrl { url: image_url(media, notes)?, detail: media.detail.as_deref() };
            Ok(WireBlock::ImageUrl { image_url })
        }
        Content::File(_) => Err(notes.unsupported("a document that is not plain text")),
        Content::Audio(_) => Err(notes.unsupported("audio")),
        Content::Other { dialect, kind, .. } => Err(notes.unsupported(format!("`{kind}` of {dialect}"))),
        Content::ToolCall(_) | Content::ToolResult(_) | Content::Reasoning(_) => {
            Err(notes.unsupported("a tool call or reasoning inside the result of a tool"))
        }
    }
}
