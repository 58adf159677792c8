//! A call towards a provider.

use bytes::Bytes;
use http::{Method, header::CONTENT_TYPE};
use serde::Serialize;

use super::{
    messages::{self, WireMark, WireMessage},
    thinking::{self, Thinking},
    types::NAME,
};
use crate::{
    canonical::{Call, Extra, ResponseFormat, Role, Sampling, ToolChoice},
    dialect::{Encoded, OnUnsupported, Passing, Quirk, Target},
    error::EncodeError,
    json::RawJson,
    notes::Notes,
    rewrite::Edit,
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

/// Model name, output limit and temperature from the config where the caller gave none, the usage flag of a stream, the
/// stream flag of what is not streamed; and what the target is known to refuse or to call otherwise ([`Quirk`]).
pub(super) fn edits(passing: &Passing<'_>) -> Vec<Edit<'static>> {
    let Passing { call, asked_stream, defaults, target } = passing;
    let mut edits = vec![Edit::string("model", &target.model)];
    if !target.has(Quirk::MaxTokens) {
        edits.extend(passing.limits(&["max_completion_tokens", "max_tokens"]));
    } else if let Some(limit) = defaults.limit(call.max_output_tokens) {
        edits.push(Edit::set("max_tokens", limit.to_string()));
        edits.push(Edit::remove("max_completion_tokens"));
    }
    edits.extend(sampling_edits(call, defaults.temperature, target));
    if call.stream {
        edits.push(Edit::set("stream", "true"));
        if !target.has(Quirk::NoStreamOptions) {
            edits.push(Edit::set_in("stream_options", "include_usage", "true"));
        } else {
            edits.push(Edit::remove("stream_options"));
        }
    } else if *asked_stream {
        edits.push(Edit::set("stream", "false"));
        edits.push(Edit::remove("stream_options"));
    }
    if target.has(Quirk::AsksForCost) {
        edits.push(Edit::set_in("usage", "include", "true"));
    }
    edits.extend(thinking::edits(call, target));
    edits.extend(role_edit(call, target));
    edits
}

fn sampling_edits(call: &Call, default: Option<f64>, target: &Target) -> Vec<Edit<'static>> {
    let mut notes = Notes::new(NAME, &Target { unsupported: OnUnsupported::Drop, ..target.clone() });
    let mut wanted = call.sampling;
    wanted.temperature = wanted.temperature.or(default);
    let Ok(sent) = sampling(&wanted, target, &mut notes) else { return Vec::new() };
    let mut edits = Vec::new();
    for (name, given, sent) in [
        ("temperature", call.sampling.temperature, sent.temperature),
        ("top_p", call.sampling.top_p, sent.top_p),
        ("frequency_penalty", call.sampling.frequency_penalty, sent.frequency_penalty),
        ("presence_penalty", call.sampling.presence_penalty, sent.presence_penalty),
    ] {
        match (given, sent) {
            (Some(_), None) => edits.push(Edit::remove(name)),
            (None, Some(value)) => edits.push(Edit::default(name, value.to_string())),
            _ => {}
        }
    }
    edits
}

/// A role cannot be edited in place: the messages are written anew, by their meaning, where one of them has it.
fn role_edit(call: &Call, target: &Target) -> Option<Edit<'static>> {
    let developer = call.messages.iter().any(|message| message.role == Role::Developer);
    if !developer || !target.has(Quirk::NoDeveloper) {
        return None;
    }
    let mut notes = Notes::new(NAME, &Target { unsupported: OnUnsupported::Drop, ..target.clone() });
    let messages = messages::encode(call, target, &mut notes).ok()?;
    Some(Edit::set("messages", serde_json::to_string(&messages).ok()?))
}

/// What is left of the sampling parameters for this target.
fn sampling(wanted: &Sampling, target: &Target, notes: &mut Notes) -> Result<Sampling, EncodeError> {
    let mut sent = *wanted;
    if target.has(Quirk::NoSampling) {
        for (name, value) in [
            ("temperature", &mut sent.temperature),
            ("top_p", &mut sent.top_p),
            ("frequency_penalty", &mut sent.frequency_penalty),
            ("presence_penalty", &mut sent.presence_penalty),
        ] {
            if value.take().is_some() {
                notes.drop(&format!("`{name}`"))?;
            }
        }
    }
    if target.has(Quirk::OneSampling) && sent.temperature.is_some() && sent.top_p.take().is_some() {
        notes.drop("`top_p` beside `temperature`")?;
    }
    Ok(sent)
}

pub(super) fn encode(call: &Call, target: &Target) -> Result<Encoded, EncodeError> {
    let mut notes = Notes::new(NAME, target);
    let messages = messages::encode(call, target, &mut notes)?;
    let (max_tokens, max_completion_tokens) = match target.has(Quirk::MaxTokens) {
        true => (call.max_output_tokens, None),
        false => (None, call.max_output_tokens),
    };
    let sampling = sampling(&call.sampling, target, &mut notes)?;
    let tools = tools(call, target, &mut notes)?;
    let callable = !tools.is_empty();
    let wire = WireCall {
        model: &target.model,
        messages,
        tools,
        tool_choice: call.tool_choice.as_ref().filter(|_| callable).map(WireChoice::from),
        parallel_tool_calls: call.parallel_tool_calls.filter(|_| callable),
        response_format: call.response_format.as_ref().map(WireFormat::from),
        max_tokens,
        max_completion_tokens,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        seed: sampling.seed,
        frequency_penalty: sampling.frequency_penalty,
        presence_penalty: sampling.presence_penalty,
        stop: &call.stop,
        n: call.n,
        logprobs: call.logprobs,
        top_logprobs: call.top_logprobs,
        thinking: thinking::plan(call, target, &mut notes),
        stream: call.stream.then_some(true),
        // Usage is asked for whether the caller did or not: what a stream cost must be known.
        stream_options: (call.stream && !target.has(Quirk::NoStreamOptions))
            .then_some(StreamOptions { include_usage: true }),
        usage: (target.has(Quirk::AsksForCost) && !call.extra.contains_key("usage"))
            .then_some(AskForCost { include: true }),
        user: notes.user(call)?,
        metadata: call.metadata.as_ref(),
        service_tier: notes.service_tier(call)?,
        extra: messages::own(&call.extra, call.dialect == Some(NAME), &mut notes)?,
    };
    let body = serde_json::to_vec(&wire).map_err(|error| EncodeError::Write(error.to_string()))?;
    Ok(Encoded { request: around(target, Bytes::from(body))?, warnings: notes.into_warnings() })
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
    #[serde(flatten)]
    thinking: Thinking,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<AskForCost>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'a str>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    extra: Option<&'a Extra>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

/// <https://openrouter.ai/docs/guides/guides/usage-accounting>
#[derive(Serialize)]
struct AskForCost {
    include: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WireTool<'a> {
    Function {
        #[serde(rename = "type")]
        kind: &'static str,
        function: WireToolFunction<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<WireMark>,
        #[serde(flatten, skip_serializing_if = "Option::is_none")]
        extra: Option<&'a Extra>,
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

fn tools<'a>(call: &'a Call, target: &Target, notes: &mut Notes) -> Result<Vec<WireTool<'a>>, EncodeError> {
    let mut tools = Vec::with_capacity(call.tools.len() + call.native_tools.len());
    for tool in &call.tools {
        tools.push(WireTool::Function {
            kind: "function",
            function: WireToolFunction {
                name: &tool.name,
                description: tool.description.as_deref(),
                parameters: tool.parameters.as_ref(),
                strict: tool.strict,
            },
            cache_control: messages::mark(tool.cache, target, notes),
            extra: messages::own(&tool.extra, call.dialect == Some(NAME), notes)?,
        });
    }
    tools.extend(notes.native_tools(call)?.into_iter().map(WireTool::Raw));
    Ok(tools)
}
