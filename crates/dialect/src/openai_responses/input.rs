//! The conversation as a row of items: what an assistant says, thinks and calls, and the results of its tools, stand
//! beside each other.

use std::borrow::Cow;

use serde::Serialize;

use super::{NAME, groups::Own};
use crate::{
    canonical::{Call, Content, Extra, Media, Message, Part, Reasoning, Role, Source, ToolCall, ToolResult},
    dialect::{Quirk, Target},
    error::EncodeError,
    json::RawJson,
    notes::{Notes, unsupported},
};

/// What begins the kind of content that is a part of a message, where it is told from an item by nothing else.
pub(super) const PART: &str = "part:";

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum WireItem<'a> {
    Message {
        role: &'static str,
        content: WireContent<'a>,
        #[serde(flatten, skip_serializing_if = "Option::is_none")]
        extra: Option<&'a Extra>,
    },
    Reasoning {
        #[serde(rename = "type")]
        kind: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        summary: Vec<WirePart<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        encrypted_content: Option<&'a str>,
    },
    Call {
        #[serde(rename = "type")]
        kind: &'static str,
        call_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'a str>,
        name: &'a str,
        arguments: &'a str,
        #[serde(flatten, skip_serializing_if = "Option::is_none")]
        extra: Option<&'a Extra>,
    },
    Result {
        #[serde(rename = "type")]
        kind: &'static str,
        call_id: &'a str,
        output: WireContent<'a>,
        #[serde(flatten, skip_serializing_if = "Option::is_none")]
        extra: Option<&'a Extra>,
    },
    Raw(&'a RawJson),
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum WireContent<'a> {
    Text(&'a str),
    Parts(Vec<WirePart<'a>>),
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum WirePart<'a> {
    Known {
        #[serde(flatten)]
        part: KnownPart<'a>,
        #[serde(flatten, skip_serializing_if = "Option::is_none")]
        extra: Option<&'a Extra>,
    },
    Raw(&'a RawJson),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum KnownPart<'a> {
    InputText {
        text: &'a str,
    },
    OutputText {
        text: &'a str,
    },
    SummaryText {
        text: &'a str,
    },
    Refusal {
        refusal: &'a str,
    },
    InputImage {
        #[serde(skip_serializing_if = "Option::is_none")]
        image_url: Option<Cow<'a, str>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_id: Option<&'a str>,
        detail: &'a str,
    },
    InputFile {
        #[serde(skip_serializing_if = "Option::is_none")]
        file_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_url: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_data: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        filename: Option<&'a str>,
    },
}

/// `instructions`, where the conversation begins with plain words of the system, and the items of the rest.
pub(super) fn encode<'a>(
    call: &'a Call,
    target: &Target,
    notes: &mut Notes,
) -> Result<(Option<&'a str>, Vec<WireItem<'a>>), EncodeError> {
    let (instructions, rest) = match call.messages.split_first() {
        Some((first, rest)) => match instructions(first) {
            Some(text) => (Some(text), rest),
            None => (None, call.messages.as_slice()),
        },
        None => (None, call.messages.as_slice()),
    };
    let own = call.dialect == Some(NAME);
    let mut items = Items { own, names: Own::of(&call.tools), target, notes, out: Vec::with_capacity(rest.len()) };
    for message in rest {
        items.message(message)?;
    }
    Ok((instructions, items.out))
}

fn instructions(message: &Message) -> Option<&str> {
    match (message.role, message.parts.as_slice()) {
        (Role::System, [Part { content: Content::Text(text), extra, .. }]) => {
            (extra.is_empty() && message.extra.is_empty()).then_some(text.as_str())
        }
        _ => None,
    }
}

struct Items<'a, 'n> {
    /// The extra members are in words of this dialect.
    own: bool,
    names: Own<'a>,
    target: &'n Target,
    notes: &'n mut Notes,
    out: Vec<WireItem<'a>>,
}

impl<'a> Items<'a, '_> {
    fn message(&mut self, message: &'a Message) -> Result<(), EncodeError> {
        if message.name.is_some() {
            self.notes.drop("`name` of a message")?;
        }
        let mut spoken: Vec<&'a Part> = Vec::with_capacity(message.parts.len());
        for part in &message.parts {
            let item = match &part.content {
                Content::ToolCall(call) => self.call(call, part),
                Content::ToolResult(result) => self.result(result, part)?,
                Content::Reasoning(reasoning) => match self.reasoning(reasoning)? {
                    Some(item) => item,
                    None => continue,
                },
                Content::Other { dialect, kind, raw } if *dialect == NAME && !kind.starts_with(PART) => {
                    WireItem::Raw(raw)
                }
                _ => {
                    spoken.push(part);
                    continue;
                }
            };
            self.speak(message, &mut spoken)?;
            self.out.push(item);
        }
        self.speak(message, &mut spoken)
    }

    fn speak(&mut self, message: &'a Message, spoken: &mut Vec<&'a Part>) -> Result<(), EncodeError> {
        if spoken.is_empty() {
            return Ok(());
        }
        let content = self.content(std::mem::take(spoken), message.role == Role::Assistant)?;
        let role = match message.role {
            Role::System => "system",
            Role::Developer if self.target.has(Quirk::NoDeveloper) => "system",
            Role::Developer => "developer",
            Role::User | Role::Tool => "user",
            Role::Assistant => "assistant",
        };
        self.out.push(WireItem::Message { role, content, extra: self.extra(&message.extra) });
        Ok(())
    }

    fn extra(&self, extra: &'a Extra) -> Option<&'a Extra> {
        (self.own && !extra.is_empty()).then_some(extra)
    }

    fn call(&self, call: &'a ToolCall, part: &'a Part) -> WireItem<'a> {
        let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
        let extra = self.extra(&part.extra);
        let (namespace, name) = self.names.name(&call.name);
        WireItem::Call { kind: "function_call", call_id: &call.id, namespace, name, arguments, extra }
    }

    fn result(&mut self, result: &'a ToolResult, part: &'a Part) -> Result<WireItem<'a>, EncodeError> {
        if result.is_error {
            self.notes.say(format!("{NAME} has no mark for a tool that failed: its result is sent like any other"));
        }
        let output = match result.parts.is_empty() {
            true => WireContent::Text(""),
            false => self.content(result.parts.iter().collect(), false)?,
        };
        let extra = self.extra(&part.extra);
        Ok(WireItem::Result { kind: "function_call_output", call_id: &result.call_id, output, extra })
    }

    /// Only what a provider of this dialect has sealed can go back: nothing is stored there under its id.
    fn reasoning(&mut self, reasoning: &'a Reasoning) -> Result<Option<WireItem<'a>>, EncodeError> {
        if reasoning.origin != Some(NAME) || (reasoning.encrypted.is_none() && !self.own) {
            self.notes.drop("the reasoning of an earlier answer")?;
            return Ok(None);
        }
        let text = (!reasoning.text.is_empty()).then_some(reasoning.text.as_str());
        let summary = text.map(|text| WirePart::Known { part: KnownPart::SummaryText { text }, extra: None });
        Ok(Some(WireItem::Reasoning {
            kind: "reasoning",
            id: reasoning.id.as_deref(),
            summary: summary.into_iter().collect(),
            encrypted_content: reasoning.encrypted.as_deref(),
        }))
    }

    /// One plain text stays a string, as callers write it.
    fn content(&self, parts: Vec<&'a Part>, assistant: bool) -> Result<WireContent<'a>, EncodeError> {
        if let [Part { content: Content::Text(text), extra, .. }] = parts.as_slice()
            && self.extra(extra).is_none()
        {
            return Ok(WireContent::Text(text));
        }
        let parts = parts.into_iter().map(|part| self.part(part, assistant)).collect::<Result<Vec<_>, _>>()?;
        Ok(WireContent::Parts(parts))
    }

    fn part(&self, part: &'a Part, assistant: bool) -> Result<WirePart<'a>, EncodeError> {
        let known = match &part.content {
            Content::Text(text) if assistant => KnownPart::OutputText { text },
            Content::Text(text) => KnownPart::InputText { text },
            Content::Refusal(refusal) => KnownPart::Refusal { refusal },
            Content::Image(_) | Content::File(_) if assistant => {
                return Err(unsupported(NAME, "an image or a document in an answer of the model"));
            }
            Content::Image(media) => image(media)?,
            Content::File(Media { source: Source::Text(text), .. }) => KnownPart::InputText { text },
            Content::File(media) => file(media),
            Content::Audio(_) => return Err(unsupported(NAME, "audio")),
            Content::Other { dialect, raw, .. } if *dialect == NAME => return Ok(WirePart::Raw(raw)),
            Content::Other { dialect, kind, .. } => return Err(unsupported(NAME, format!("`{kind}` of {dialect}"))),
            Content::ToolCall(_) | Content::ToolResult(_) | Content::Reasoning(_) => {
                return Err(unsupported(NAME, "a tool call or reasoning inside the result of a tool"));
            }
        };
        Ok(WirePart::Known { part: known, extra: self.extra(&part.extra) })
    }
}

fn image(media: &Media) -> Result<KnownPart<'_>, EncodeError> {
    let (image_url, file_id) = match &media.source {
        Source::Url(url) => (Some(Cow::Borrowed(url.as_str())), None),
        Source::Base64 { media_type, data } => (Some(Cow::Owned(data_url(media_type, data))), None),
        Source::Uploaded(id) => (None, Some(id.as_str())),
        Source::Text(_) => return Err(unsupported(NAME, "an image that is text")),
    };
    Ok(KnownPart::InputImage { image_url, file_id, detail: media.detail.as_deref().unwrap_or("auto") })
}

fn file(media: &Media) -> KnownPart<'_> {
    let (mut file_id, mut file_url, mut file_data, mut filename) = (None, None, None, media.name.as_deref());
    match &media.source {
        Source::Uploaded(id) => file_id = Some(id.as_str()),
        Source::Url(url) | Source::Text(url) => file_url = Some(url.as_str()),
        Source::Base64 { media_type, data } => {
            file_data = Some(data_url(media_type, data));
            // Bytes must bear a name.
            filename = filename.or(Some(if media_type == "application/pdf" { "document.pdf" } else { "document" }));
        }
    }
    KnownPart::InputFile { file_id, file_url, file_data, filename }
}

fn data_url(media_type: &str, data: &str) -> String {
    format!("data:{media_type};base64,{data}")
}
