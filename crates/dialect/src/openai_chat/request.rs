//! A call towards a provider.

use std::borrow::Cow;

use bytes::Bytes;
use http::{Method, header::CONTENT_TYPE};
use serde::Serialize;

use super::types::NAME;
use crate::{
    canonical::{
        Call, Content, Extra, Media, Message, Part, ResponseFormat, Role, Source, Tool, ToolCall, ToolChoice,
        ToolResult,
    },
    dialect::{DialectName, Encoded, OnUnsupported, Quirk, Target, Warning},
    error::EncodeError,
    json::RawJson,
};

const PATH: &str = "/chat/completions";

pub(super) fn around(target: &Target, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
    http::Request::builder()
        .method(Method::POST)
        .uri(target.path.as_deref().unwrap_or(PATH))
        .header(CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|error| EncodeError::Write(error.to_string()))
}

pub(super) fn encode(call: &Call, target: &Target) -> Result<Encoded, EncodeError> {
    let mut drops = Drops { policy: target.unsupported, warnings: Vec::new() };
    let mut messages = Vec::with_capacity(call.messages.len());
    for message in &call.messages {
        encode_message(message, &mut messages, &mut drops)?;
    }
    let (max_tokens, max_completion_tokens) = match target.has(Quirk::MaxTokens) {
        true => (call.max_output_tokens, None),
        false => (None, call.max_output_tokens),
    };
    if call.reasoning.as_ref().is_some_and(|r| r.effort.is_none() && r.budget_tokens.is_some()) {
        drops.note("the reasoning budget in tokens")?;
    }
    let wire = WireCall {
        model: &target.model,
        messages,
        tools: tools(call)?,
        tool_choice: call.tool_choice.as_ref().map(WireChoice::from),
        parallel_tool_calls: call.parallel_tool_calls,
        response_format: call.response_format.as_ref().map(WireFormat::from),
        max_tokens,
        max_completion_tokens,
        temperature: call.sampling.temperature,
        top_p: call.sampling.top_p,
        top_k: call.sampling.top_k,
        seed: call.sampling.seed,
        frequency_penalty: call.sampling.frequency_penalty,
        presence_penalty: call.sampling.presence_penalty,
        stop: &call.stop,
        n: call.n,
        logprobs: call.logprobs,
        top_logprobs: call.top_logprobs,
        reasoning_effort: call.reasoning.as_ref().and_then(|r| r.effort.as_ref()).map(|e| e.as_str()),
        stream: call.stream.then_some(true),
        // Usage is asked for whether the caller did or not: what a stream cost must be known.
        stream_options: (call.stream && !target.has(Quirk::NoStreamOptions))
            .then_some(StreamOptions { include_usage: true }),
        user: call.user.as_deref(),
        metadata: call.metadata.as_ref(),
        service_tier: call.service_tier.as_deref(),
        extra: &call.extra,
    };
    let body = serde_json::to_vec(&wire).map_err(|error| EncodeError::Write(error.to_string()))?;
    Ok(Encoded { request: around(target, Bytes::from(body))?, warnings: drops.warnings })
}

struct Drops {
    policy: OnUnsupported,
    warnings: Vec<Warning>,
}

impl Drops {
    fn note(&mut self, what: &str) -> Result<(), EncodeError> {
        if self.policy == OnUnsupported::Refuse {
            return Err(unsupported(what));
        }
        let warning = Warning(format!("{what} was left out: {NAME} has no place for it"));
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
        Ok(())
    }
}

fn unsupported(what: impl Into<String>) -> EncodeError {
    EncodeError::Unsupported { dialect: NAME, what: what.into() }
}

#[derive(Serialize)]
struct WireCall<'a> {
    model: &'a str,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<WireChoice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<WireFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'a str>,
    #[serde(flatten)]
    extra: &'a Extra,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct WireMessage<'a> {
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

#[derive(Serialize)]
#[serde(untagged)]
enum WireTool<'a> {
    Function {
        #[serde(rename = "type")]
        kind: &'static str,
        function: WireToolFunction<'a>,
        #[serde(flatten)]
        extra: &'a Extra,
    },
    Raw(&'a RawJson),
}

#[derive(Serialize)]
struct WireToolFunction<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WireChoice<'a> {
    Word(&'static str),
    Function {
        #[serde(rename = "type")]
        kind: &'static str,
        function: Name<'a>,
    },
}

#[derive(Serialize)]
struct Name<'a> {
    name: &'a str,
}

impl<'a> From<&'a ToolChoice> for WireChoice<'a> {
    fn from(choice: &'a ToolChoice) -> WireChoice<'a> {
        match choice {
            ToolChoice::Auto => WireChoice::Word("auto"),
            ToolChoice::None => WireChoice::Word("none"),
            ToolChoice::Required => WireChoice::Word("required"),
            ToolChoice::Named(name) => WireChoice::Function { kind: "function", function: Name { name } },
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireFormat<'a> {
    Text,
    JsonObject,
    JsonSchema { json_schema: WireSchema<'a> },
}

#[derive(Serialize)]
struct WireSchema<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<&'a RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

impl<'a> From<&'a ResponseFormat> for WireFormat<'a> {
    fn from(format: &'a ResponseFormat) -> WireFormat<'a> {
        match format {
            ResponseFormat::Text => WireFormat::Text,
            ResponseFormat::JsonObject => WireFormat::JsonObject,
            ResponseFormat::JsonSchema { name, description, schema, strict } => WireFormat::JsonSchema {
                json_schema: WireSchema {
                    name,
                    description: description.as_deref(),
                    schema: schema.as_ref(),
                    strict: *strict,
                },
            },
        }
    }
}

fn tools(call: &Call) -> Result<Vec<WireTool<'_>>, EncodeError> {
    let mut tools: Vec<WireTool<'_>> = call.tools.iter().map(function_tool).collect();
    for tool in &call.native_tools {
        if tool.dialect != DialectName::OpenAiChat {
            return Err(unsupported(format!("the tool `{}` of {}", tool.kind, tool.dialect)));
        }
        tools.push(WireTool::Raw(&tool.raw));
    }
    Ok(tools)
}

fn function_tool(tool: &Tool) -> WireTool<'_> {
    WireTool::Function {
        kind: "function",
        function: WireToolFunction {
            name: &tool.name,
            description: tool.description.as_deref(),
            parameters: tool.parameters.as_ref(),
            strict: tool.strict,
        },
        extra: &tool.extra,
    }
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

/// Results of tools are messages of their own and come first; images in them, which a tool message cannot hold,
/// follow as a user's.
fn encode_message<'a>(
    message: &'a Message,
    out: &mut Vec<WireMessage<'a>>,
    drops: &mut Drops,
) -> Result<(), EncodeError> {
    let mut rest: Vec<&'a Part> = Vec::with_capacity(message.parts.len());
    let mut results = 0;
    for part in &message.parts {
        match &part.content {
            Content::ToolResult(result) => {
                results += 1;
                let (text, media): (Vec<&Part>, Vec<&Part>) =
                    result.parts.iter().partition(|p| matches!(p.content, Content::Text(_)));
                let whole = (message.role == Role::Tool).then_some(message);
                out.push(tool_message(result, &text, whole)?);
                rest.extend(media);
            }
            _ => rest.push(part),
        }
    }
    if rest.is_empty() && results > 0 {
        return Ok(());
    }
    let role = if message.role == Role::Tool { Role::User } else { message.role };
    out.push(plain_message(role, message, &rest, drops)?);
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
    as_role: Role,
    message: &'a Message,
    parts: &[&'a Part],
    drops: &mut Drops,
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
            Content::Refusal(text) if as_role == Role::Assistant && part.extra.is_empty() => {
                refusal = Some(text.as_str())
            }
            Content::Reasoning(_) => drops.note("the reasoning of an earlier answer")?,
            _ => spoken.push(part),
        }
    }
    let spoken = content(&spoken)?;
    let needs_text = as_role != Role::Assistant || (calls.is_empty() && refusal.is_none());
    Ok(WireMessage {
        role: role(as_role),
        content: spoken.or(needs_text.then_some(WireContent::Text(""))),
        refusal,
        name: message.name.as_deref(),
        tool_call_id: None,
        tool_calls: calls,
        extra: (message.role != Role::Tool).then_some(&message.extra),
    })
}

/// One plain text stays a string, as callers write it; anything else is a list of parts.
fn content<'a>(parts: &[&'a Part]) -> Result<Option<WireContent<'a>>, EncodeError> {
    match parts {
        [] => Ok(None),
        [Part { content: Content::Text(text), extra }] if extra.is_empty() => Ok(Some(WireContent::Text(text))),
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
        Content::Other { dialect, kind, .. } => return Err(unsupported(format!("`{kind}` of {dialect}"))),
        Content::ToolCall(_) | Content::ToolResult(_) | Content::Reasoning(_) => {
            return Err(unsupported("a tool call or reasoning inside the result of a tool"));
        }
    };
    Ok(WirePart::Known { part: known, extra: &part.extra })
}

fn image(media: &Media) -> Result<ImageUrl<'_>, EncodeError> {
    let url = match &media.source {
        Source::Url(url) => Cow::Borrowed(url.as_str()),
        Source::Base64 { media_type, data } => Cow::Owned(format!("data:{media_type};base64,{data}")),
        Source::Text(_) | Source::Uploaded(_) => return Err(unsupported("an uploaded image")),
    };
    Ok(ImageUrl { url, detail: media.detail.as_deref() })
}

fn audio(media: &Media) -> Result<InputAudio<'_>, EncodeError> {
    match &media.source {
        Source::Base64 { media_type, data } => {
            Ok(InputAudio { data, format: media_type.strip_prefix("audio/").unwrap_or(media_type) })
        }
        _ => Err(unsupported("audio that is not sent along as base64")),
    }
}

fn file(media: &Media) -> Result<File<'_>, EncodeError> {
    let (file_id, file_data) = match &media.source {
        Source::Uploaded(id) => (Some(id.as_str()), None),
        Source::Base64 { media_type, data } => (None, Some(format!("data:{media_type};base64,{data}"))),
        Source::Url(url) if !url.contains("://") => (None, Some(url.clone())),
        Source::Url(_) | Source::Text(_) => return Err(unsupported("a document by its URL")),
    };
    Ok(File { file_id, file_data, filename: media.name.as_deref() })
}
