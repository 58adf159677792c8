//! A call towards a provider.

use bytes::Bytes;
use http::{Method, header::CONTENT_TYPE};
use serde::Serialize;

use super::{
    messages::{self, WireMessage},
    types::NAME,
};
use crate::{
    canonical::{Call, Extra, ResponseFormat, Tool, ToolChoice},
    dialect::{DialectName, Encoded, Passing, Quirk, Target},
    error::EncodeError,
    json::RawJson,
    notes::{Notes, unsupported},
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
/// stream flag of what is not streamed.
pub(super) fn edits(passing: &Passing<'_>) -> Vec<Edit<'static>> {
    let Passing { call, asked_stream, defaults, target } = passing;
    let mut edits = vec![Edit::string("model", &target.model)];
    if let (Some(limit), None) = (defaults.max_output_tokens, call.max_output_tokens) {
        let name = if target.has(Quirk::MaxTokens) { "max_tokens" } else { "max_completion_tokens" };
        edits.push(Edit::set(name, limit.to_string()));
    }
    if let Some(temperature) = defaults.temperature {
        edits.push(Edit::default("temperature", temperature.to_string()));
    }
    if call.stream {
        edits.push(Edit::set("stream", "true"));
        if !target.has(Quirk::NoStreamOptions) {
            edits.push(Edit::set_in("stream_options", "include_usage", "true"));
        }
    } else if *asked_stream {
        edits.push(Edit::set("stream", "false"));
        edits.push(Edit::remove("stream_options"));
    }
    edits
}

pub(super) fn encode(call: &Call, target: &Target) -> Result<Encoded, EncodeError> {
    let mut notes = Notes::new(NAME, target);
    let messages = messages::encode(call, &mut notes)?;
    let (max_tokens, max_completion_tokens) = match target.has(Quirk::MaxTokens) {
        true => (call.max_output_tokens, None),
        false => (None, call.max_output_tokens),
    };
    if call.reasoning.as_ref().is_some_and(|r| r.effort.is_none() && r.budget_tokens.is_some()) {
        notes.drop("the reasoning budget in tokens")?;
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
            return Err(unsupported(NAME, format!("the tool `{}` of {}", tool.kind, tool.dialect)));
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
