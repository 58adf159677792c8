//! A call towards a provider.

use bytes::Bytes;
use http::{Method, header::CONTENT_TYPE};
use serde::Serialize;

use super::{
    messages::{self, WireBlock, WireMessage},
    thinking,
    types::NAME,
};
use crate::{
    canonical::{Call, ResponseFormat, Tool, ToolChoice},
    dialect::{DialectName, Encoded, Target},
    error::EncodeError,
    json::RawJson,
    notes::{Notes, unsupported},
};

const PATH: &str = "/v1/messages";
const VERSION: &str = "2023-06-01";

pub(super) fn around(target: &Target, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
    http::Request::builder()
        .method(Method::POST)
        .uri(target.path.as_deref().unwrap_or(PATH))
        .header(CONTENT_TYPE, "application/json")
        .header("anthropic-version", VERSION)
        .body(body)
        .map_err(|error| EncodeError::Write(error.to_string()))
}

pub(super) fn encode(call: &Call, target: &Target) -> Result<Encoded, EncodeError> {
    let mut notes = Notes::new(NAME, target);
    if call.n.is_some_and(|n| n > 1) {
        return Err(unsupported(NAME, "more than one answer to a call (`n`)"));
    }
    drop_unknown(call, &mut notes)?;
    let thinking = thinking::plan(call, target);
    if let Some(reason) = thinking.dropped {
        notes.drop(&format!("reasoning, because {reason},"))?;
    }
    let (system, messages) = messages::encode(call, &mut notes)?;
    let thinks = thinking.budget.is_some();
    let (tools, tool_choice) = tools(call)?;
    let wire = WireCall {
        model: &target.model,
        max_tokens: thinking.max_tokens,
        system,
        messages,
        tools,
        tool_choice,
        output_config: output_config(call, &mut notes)?,
        thinking: thinking.budget.map(|budget_tokens| WireThinking { kind: "enabled", budget_tokens }),
        temperature: temperature(call, thinks, &mut notes)?,
        top_p: top_p(call, thinks, &mut notes)?,
        top_k: top_k(call, thinks, &mut notes)?,
        stop_sequences: &call.stop,
        stream: call.stream.then_some(true),
        metadata: call.user.as_deref().map(|user_id| Metadata { user_id }),
    };
    let body = serde_json::to_vec(&wire).map_err(|error| EncodeError::Write(error.to_string()))?;
    Ok(Encoded { request: around(target, Bytes::from(body))?, warnings: notes.into_warnings() })
}

fn drop_unknown(call: &Call, notes: &mut Notes) -> Result<(), EncodeError> {
    let sampling = &call.sampling;
    for (given, name) in [
        (sampling.seed.is_some(), "`seed`"),
        (sampling.frequency_penalty.is_some_and(|p| p != 0.0), "`frequency_penalty`"),
        (sampling.presence_penalty.is_some_and(|p| p != 0.0), "`presence_penalty`"),
        (call.logprobs == Some(true), "`logprobs`"),
        (call.metadata.is_some(), "`metadata`"),
        (call.service_tier.as_deref().is_some_and(|tier| tier != "auto" && tier != "default"), "`service_tier`"),
        (call.tools.iter().any(|t| t.strict == Some(true)), "`strict` of a tool"),
    ] {
        if given {
            notes.drop(name)?;
        }
    }
    for name in call.extra.keys() {
        notes.drop(&format!("`{name}`"))?;
    }
    Ok(())
}

fn temperature(call: &Call, thinks: bool, notes: &mut Notes) -> Result<Option<f64>, EncodeError> {
    let Some(given) = call.sampling.temperature else {
        return Ok(None);
    };
    if thinks {
        if given != 1.0 {
            notes.drop("`temperature` beside reasoning")?;
        }
        return Ok(None);
    }
    if given > 1.0 {
        notes.say(format!("`temperature` {given} was lowered to 1, the most that {NAME} takes"));
    }
    Ok(Some(given.min(1.0)))
}

fn top_p(call: &Call, thinks: bool, notes: &mut Notes) -> Result<Option<f64>, EncodeError> {
    if thinks && call.sampling.top_p.is_some_and(|p| p < 0.95) {
        notes.drop("`top_p` below 0.95 beside reasoning")?;
        return Ok(None);
    }
    Ok(call.sampling.top_p)
}

fn top_k(call: &Call, thinks: bool, notes: &mut Notes) -> Result<Option<u64>, EncodeError> {
    if thinks && call.sampling.top_k.is_some() {
        notes.drop("`top_k` beside reasoning")?;
        return Ok(None);
    }
    Ok(call.sampling.top_k)
}

#[derive(Serialize)]
struct WireCall<'a> {
    model: &'a str,
    max_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<WireBlock<'a>>,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<WireChoice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<WireThinking>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    user_id: &'a str,
}

#[derive(Serialize)]
struct WireThinking {
    #[serde(rename = "type")]
    kind: &'static str,
    budget_tokens: u64,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WireTool<'a> {
    Function {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        input_schema: Schema<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<&'a RawJson>,
    },
    Raw(&'a RawJson),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Schema<'a> {
    Given(&'a RawJson),
    /// A function without parameters: the API wants a schema all the same.
    Empty {
        #[serde(rename = "type")]
        kind: &'static str,
        properties: Nothing,
    },
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct WireChoice<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_parallel_tool_use: Option<bool>,
}

fn tools(call: &Call) -> Result<(Vec<WireTool<'_>>, Option<WireChoice<'_>>), EncodeError> {
    let mut tools: Vec<WireTool<'_>> = call.tools.iter().map(tool).collect();
    for native in &call.native_tools {
        if native.dialect != DialectName::AnthropicMessages {
            return Err(unsupported(NAME, format!("the tool `{}` of {}", native.kind, native.dialect)));
        }
        tools.push(WireTool::Raw(&native.raw));
    }
    if tools.is_empty() {
        return Ok((tools, None));
    }
    let serial = (call.parallel_tool_calls == Some(false)).then_some(true);
    let (kind, name) = match &call.tool_choice {
        None if serial.is_none() => return Ok((tools, None)),
        None | Some(ToolChoice::Auto) => ("auto", None),
        Some(ToolChoice::None) => ("none", None),
        Some(ToolChoice::Required) => ("any", None),
        Some(ToolChoice::Named(name)) => ("tool", Some(name.as_str())),
    };
    let disable_parallel_tool_use = serial.filter(|_| kind != "none");
    Ok((tools, Some(WireChoice { kind, name, disable_parallel_tool_use })))
}

fn tool(tool: &Tool) -> WireTool<'_> {
    WireTool::Function {
        name: &tool.name,
        description: tool.description.as_deref(),
        input_schema: tool
            .parameters
            .as_ref()
            .map_or(Schema::Empty { kind: "object", properties: Nothing {} }, Schema::Given),
        cache_control: tool.extra.get("cache_control"),
    }
}

#[derive(Serialize)]
struct OutputConfig<'a> {
    format: OutputFormat<'a>,
}

#[derive(Serialize)]
struct OutputFormat<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    schema: &'a RawJson,
}

fn output_config<'a>(call: &'a Call, notes: &mut Notes) -> Result<Option<OutputConfig<'a>>, EncodeError> {
    match &call.response_format {
        Some(ResponseFormat::JsonSchema { schema: Some(schema), .. }) => {
            Ok(Some(OutputConfig { format: OutputFormat { kind: "json_schema", schema } }))
        }
        Some(ResponseFormat::JsonObject | ResponseFormat::JsonSchema { .. }) => {
            notes.drop("`response_format` without a schema")?;
            Ok(None)
        }
        Some(ResponseFormat::Text) | None => Ok(None),
    }
}
