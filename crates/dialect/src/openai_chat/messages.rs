//! The conversation: results of tools as messages of their own, media as parts.

use std::borrow::Cow;

use serde::Serialize;

use super::{
    details::{self, Detail},
    render::{ExtraContent, Image},
    types::NAME,
};
use crate::{
    canonical::{CacheMark, Call, Content, Extra, Media, Message, Part, Reasoning, Role, Source, ToolCall, ToolResult},
    dialect::{Quirk, Target},
    error::EncodeError,
    json::RawJson,
    notes::{Notes, unsupported},
};

/// Tool messages follow each other without anything between them, right behind the calls they answer. Images in
/// results, which a tool message cannot hold, come behind the last of them as a user's message.
pub(super) fn encode<'a>(
    call: &'a Call,
    target: &Target,
    notes: &mut Notes,
) -> Result<Vec<WireMessage<'a>>, EncodeError> {
    let writer = Writer { target, own: call.dialect == Some(NAME) };
    let mut out = Vec::with_capacity(call.messages.len());
    let mut media: Vec<&'a Part> = Vec::new();
    for message in &call.messages {
        if message.role != Role::Tool {
            writer.flush(&mut media, &mut out, notes)?;
        }
        writer.message(message, &mut media, &mut out, notes)?;
    }
    writer.flush(&mut media, &mut out, notes)?;
    Ok(out)
}

#[derive(Default, Serialize)]
pub(super) struct WireMessage<'a> {
    role: &'static str,
    content: Option<WireContent<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasoning_details: Vec<Detail>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<Image<'a>>,
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
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<WireMark>,
        #[serde(flatten, skip_serializing_if = "Option::is_none")]
        extra: Option<&'a Extra>,
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
        #[serde(skip_serializing_if = "Option::is_none")]
        extra_content: Option<ExtraContent<'a>>,
        #[serde(flatten, skip_serializing_if = "Option::is_none")]
        extra: Option<&'a Extra>,
    },
    Raw(&'a RawJson),
}

#[derive(Serialize)]
struct WireFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

/// Anthropic's mark, as OpenRouter and DashScope take it.
#[derive(Serialize)]
pub(super) struct WireMark {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'static str>,
}

/// A cache mark for a target that takes it. Elsewhere the prompt is cached, or not, without being asked.
pub(super) fn mark(cache: Option<CacheMark>, target: &Target, notes: &mut Notes) -> Option<WireMark> {
    let cache = cache?;
    if !target.has(Quirk::CacheControl) {
        notes.say("the cache marks were left out: this provider caches prompts by itself, if at all");
        return None;
    }
    Some(WireMark { kind: "ephemeral", ttl: (cache == CacheMark::Long).then_some("1h") })
}

/// Members that farebox has no word for: the caller's own words reach a provider of the same dialect only.
pub(super) fn own<'a>(extra: &'a Extra, own: bool, notes: &mut Notes) -> Result<Option<&'a Extra>, EncodeError> {
    if own {
        return Ok(Some(extra));
    }
    extra.keys().try_for_each(|name| notes.drop(&format!("`{name}`")))?;
    Ok(None)
}

struct Writer<'t> {
    target: &'t Target,
    /// The call's extra members are of this dialect.
    own: bool,
}

impl Writer<'_> {
    fn role(&self, role: Role) -> &'static str {
        match role {
            Role::System => "system",
            Role::Developer if self.target.has(Quirk::NoDeveloper) => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }

    fn flush<'a>(
        &self,
        media: &mut Vec<&'a Part>,
        out: &mut Vec<WireMessage<'a>>,
        notes: &mut Notes,
    ) -> Result<(), EncodeError> {
        if media.is_empty() {
            return Ok(());
        }
        let content = self.content(media, notes)?;
        out.push(WireMessage { role: self.role(Role::User), content, ..WireMessage::default() });
        media.clear();
        Ok(())
    }

    fn message<'a>(
        &self,
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
            out.push(self.tool_message(result, &text, whole, notes)?);
            media.extend(other);
        }
        if message.role == Role::Tool {
            media.extend(rest);
            return Ok(());
        }
        if rest.is_empty() && results > 0 {
            return Ok(());
        }
        self.flush(media, out, notes)?;
        out.push(self.plain_message(message, &rest, notes)?);
        Ok(())
    }

    fn tool_message<'a>(
        &self,
        result: &'a ToolResult,
        text: &[&'a Part],
        whole: Option<&'a Message>,
        notes: &mut Notes,
    ) -> Result<WireMessage<'a>, EncodeError> {
        if result.is_error {
            notes.say(format!("that a tool failed is not said: {NAME} has no place for it beside the result"));
        }
        Ok(WireMessage {
            role: self.role(Role::Tool),
            content: Some(self.content(text, notes)?.unwrap_or(WireContent::Text(""))),
            name: whole.and_then(|message| message.name.as_deref()),
            tool_call_id: Some(&result.call_id),
            extra: whole.map(|message| own(&message.extra, self.own, notes)).transpose()?.flatten(),
            ..WireMessage::default()
        })
    }

    fn plain_message<'a>(
        &self,
        message: &'a Message,
        parts: &[&'a Part],
        notes: &mut Notes,
    ) -> Result<WireMessage<'a>, EncodeError> {
        let mut wire = WireMessage {
            role: self.role(message.role),
            name: message.name.as_deref(),
            extra: own(&message.extra, self.own, notes)?,
            ..WireMessage::default()
        };
        let assistant = message.role == Role::Assistant;
        let mut spoken: Vec<&'a Part> = Vec::with_capacity(parts.len());
        let mut thoughts: Vec<&'a Reasoning> = Vec::new();
        for part in parts {
            match &part.content {
                Content::ToolCall(call) => wire.tool_calls.push(self.tool_call(call, part, notes)?),
                Content::Other { dialect: NAME, kind, raw } if kind.starts_with("tool_call:") => {
                    wire.tool_calls.push(WireToolCall::Raw(raw));
                }
                Content::Refusal(text) if assistant && part.extra.is_empty() => wire.refusal = Some(text.as_str()),
                Content::Reasoning(reasoning) => thoughts.push(reasoning),
                Content::Image(media) if assistant => match Image::of(media) {
                    Some(image) if self.target.has(Quirk::ReasoningObject) => wire.images.push(image),
                    _ => notes.drop("an image in an earlier answer")?,
                },
                _ => spoken.push(part),
            }
        }
        self.think(&thoughts, &mut wire, notes)?;
        let needs_text = !assistant || (wire.tool_calls.is_empty() && wire.refusal.is_none());
        wire.content = self.content(&spoken, notes)?.or(needs_text.then_some(WireContent::Text("")));
        Ok(wire)
    }

    fn tool_call<'a>(
        &self,
        call: &'a ToolCall,
        part: &'a Part,
        notes: &mut Notes,
    ) -> Result<WireToolCall<'a>, EncodeError> {
        let ToolCall { id, name, arguments } = call;
        Ok(WireToolCall::Function {
            id,
            kind: "function",
            function: WireFunction { name, arguments: if arguments.is_empty() { "{}" } else { arguments } },
            // Gemini's proof is for Gemini only, whoever hosts it.
            extra_content: part
                .signature
                .as_deref()
                .filter(|_| self.target.model.contains("gemini"))
                .map(ExtraContent::of),
            extra: own(&part.extra, self.own, notes)?,
        })
    }

    /// The reasoning of earlier answers goes back to servers that take it: OpenRouter with its proofs, those with a
    /// thinking switch as the text they wrote (<https://api-docs.deepseek.com/guides/thinking_mode>).
    fn think(&self, thoughts: &[&Reasoning], wire: &mut WireMessage<'_>, notes: &mut Notes) -> Result<(), EncodeError> {
        if thoughts.is_empty() {
            return Ok(());
        }
        let text: String = thoughts.iter().map(|thought| thought.text.as_str()).collect();
        let text = Some(text).filter(|text| !text.is_empty());
        if self.target.has(Quirk::ReasoningObject) {
            wire.reasoning_details = details::of(thoughts.iter().copied().filter(|thought| details::is_known(thought)));
            wire.reasoning = text;
        } else if self.target.has(Quirk::ThinkingSwitch) || self.target.has(Quirk::EnableThinking) {
            wire.reasoning_content = text;
        } else if self.target.has(Quirk::TakesReasoning) {
            wire.reasoning = text;
        }
        if wire.reasoning.is_none() && wire.reasoning_content.is_none() && wire.reasoning_details.is_empty() {
            notes.drop("the reasoning of an earlier answer")?;
        }
        Ok(())
    }

    /// One plain text stays a string, as callers write it; anything else is a list of parts.
    fn content<'a>(&self, parts: &[&'a Part], notes: &mut Notes) -> Result<Option<WireContent<'a>>, EncodeError> {
        let mut wire = parts.iter().map(|part| self.part(part, notes)).collect::<Result<Vec<_>, _>>()?;
        match wire.as_mut_slice() {
            [] => Ok(None),
            [WirePart::Known { part: KnownPart::Text { text }, cache_control: None, extra }]
                if extra.is_none_or(Extra::is_empty) =>
            {
                Ok(Some(WireContent::Text(text)))
            }
            _ => Ok(Some(WireContent::Parts(wire))),
        }
    }

    fn part<'a>(&self, part: &'a Part, notes: &mut Notes) -> Result<WirePart<'a>, EncodeError> {
        let known = match &part.content {
            Content::Text(text) => KnownPart::Text { text },
            Content::Refusal(refusal) => KnownPart::Refusal { refusal },
            Content::Image(media) => KnownPart::ImageUrl { image_url: image(media)? },
            Content::Audio(media) => KnownPart::InputAudio { input_audio: audio(media)? },
            Content::File(Media { source: Source::Text(text), .. }) => KnownPart::Text { text },
            Content::File(media) => KnownPart::File { file: file(media)? },
            Content::Other { dialect: NAME, raw, .. } => return Ok(WirePart::Raw(raw)),
            Content::Other { dialect, kind, .. } => return Err(unsupported(NAME, format!("`{kind}` of {dialect}"))),
            Content::ToolCall(_) | Content::ToolResult(_) | Content::Reasoning(_) => {
                return Err(unsupported(NAME, "a tool call or reasoning inside the result of a tool"));
            }
        };
        let cache_control = mark(part.cache, self.target, notes);
        Ok(WirePart::Known { part: known, cache_control, extra: own(&part.extra, self.own, notes)? })
    }
}

fn image(media: &Media) -> Result<ImageUrl<'_>, EncodeError> {
    let url = media.source.url().ok_or_else(|| unsupported(NAME, "an uploaded image"))?;
    Ok(ImageUrl { url, detail: media.detail.as_deref() })
}

fn audio(media: &Media) -> Result<InputAudio<'_>, EncodeError> {
    match &media.source {
        Source::Base64 { media_type, data } => {
            let format = match media_type.strip_prefix("audio/").unwrap_or(media_type) {
                "mpeg" => "mp3",
                "x-wav" | "wave" | "vnd.wave" => "wav",
                format => format,
            };
            Ok(InputAudio { data, format })
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
