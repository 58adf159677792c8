//! A call towards a provider.

use bytes::Bytes;
use serde::Serialize;

use super::{
    messages::{self, WireMessage},
    types::NAME,
};
use crate::{
    canonical::{Call, Effort, Extra, ReasoningRequest, ResponseFormat, Schema, Tool, ToolChoice},
    dialect::{Encoded, Target},
    error::EncodeError,
    json::RawJson,
    notes::{Notes, unsupported},
};

pub(super) const PATH: &str = "/api/chat";

#[derive(Serialize)]
struct WireCall<'a> {
    model: &'a str,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Format<'a>>,
    #[serde(skip_serializing_if = "Options::is_empty")]
    options: Options<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    think: Option<Think>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u32>,
    /// The API streams where nothing is said.
    stream: bool,
    /// `keep_alive` and the like.
    #[serde(flatten)]
    extra: Option<&'a Extra>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Format<'a> {
    Word(&'static str),
    Schema(&'a RawJson),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Think {
    Switch(bool),
    Level(&'static str),
}

#[derive(Serialize)]
struct Options<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_predict: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
}

impl<'a> Options<'a> {
    fn of(call: &'a Call) -> Options<'a> {
        let sampling = &call.sampling;
        Options {
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            top_k: sampling.top_k,
            seed: sampling.seed,
            num_predict: call.max_output_tokens,
            frequency_penalty: sampling.frequency_penalty,
            presence_penalty: sampling.presence_penalty,
            stop: &call.stop,
        }
    }

    fn is_empty(&self) -> bool {
        let floats = [self.temperature, self.top_p, self.frequency_penalty, self.presence_penalty];
        let numbers = self.top_k.is_none() && self.seed.is_none() && self.num_predict.is_none();
        numbers && floats.iter().all(Option::is_none) && self.stop.is_empty()
    }
}

#[derive(Serialize)]
struct WireTool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: WireFunction<'a>,
}

#[derive(Serialize)]
struct WireFunction<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    parameters: Schema<'a>,
}

pub(super) fn encode(call: &Call, target: &Target) -> Result<Encoded, EncodeError> {
    let mut notes = Notes::new(NAME, target);
    if call.n.is_some_and(|n| n > 1) {
        return Err(unsupported(NAME, "more than one answer to a call (`n`)"));
    }
    drop_unknown(call, &mut notes)?;
    let wire = WireCall {
        model: &target.model,
        messages: messages::encode(call, &mut notes)?,
        tools: tools(call, &mut notes)?,
        format: match &call.response_format {
            Some(ResponseFormat::JsonSchema { schema: Some(schema), .. }) => Some(Format::Schema(schema)),
            Some(ResponseFormat::JsonObject | ResponseFormat::JsonSchema { .. }) => Some(Format::Word("json")),
            Some(ResponseFormat::Text) | None => None,
        },
        options: Options::of(call),
        think: call.reasoning.as_ref().map_or(Ok(None), |asked| think(asked, target, &mut notes))?,
        logprobs: call.logprobs.filter(|wanted| *wanted),
        top_logprobs: call.top_logprobs.filter(|_| call.logprobs == Some(true)),
        stream: call.stream,
        extra: (call.dialect == Some(NAME)).then_some(&call.extra),
    };
    let body = serde_json::to_vec(&wire).map_err(|error| EncodeError::Write(error.to_string()))?;
    Ok(Encoded { request: target.post(PATH, Bytes::from(body))?, warnings: notes.into_warnings() })
}

fn drop_unknown(call: &Call, notes: &mut Notes) -> Result<(), EncodeError> {
    for (given, name) in [
        (call.user.is_some(), "`user`"),
        (call.metadata.is_some(), "`metadata`"),
        (call.service_tier.as_deref().is_some_and(|tier| tier != "auto" && tier != "default"), "`service_tier`"),
        (call.parallel_tool_calls == Some(false) && !call.tools.is_empty(), "`parallel_tool_calls`"),
        (call.tools.iter().any(|t| t.strict == Some(true)), "`strict` of a tool"),
    ] {
        if given {
            notes.drop(name)?;
        }
    }
    if call.dialect != Some(NAME) {
        for name in call.extra.keys() {
            notes.drop(&format!("`{name}`"))?;
        }
    }
    Ok(())
}

/// A model that may call no tool is shown none; that it must call one cannot be said.
fn tools<'a>(call: &'a Call, notes: &mut Notes) -> Result<Vec<WireTool<'a>>, EncodeError> {
    notes.native_tools(call)?;
    match call.tool_choice {
        Some(ToolChoice::None) => return Ok(Vec::new()),
        Some(ToolChoice::Required | ToolChoice::Named(_)) => notes.drop("`tool_choice`")?,
        Some(ToolChoice::Auto) | None => {}
    }
    Ok(call.tools.iter().map(tool).collect())
}

fn tool(tool: &Tool) -> WireTool<'_> {
    let function =
        WireFunction { name: &tool.name, description: tool.description.as_deref(), parameters: tool.schema() };
    WireTool { kind: "function", function }
}

/// On or off; only gpt-oss takes a level (and cannot be turned off).
fn think(asked: &ReasoningRequest, target: &Target, notes: &mut Notes) -> Result<Option<Think>, EncodeError> {
    if asked.budget_tokens.is_some_and(|tokens| tokens > 0) {
        notes.drop("the reasoning budget in tokens")?;
    }
    let levels = target.model.contains("gpt-oss");
    Ok(match &asked.effort {
        Some(Effort::None) => Some(Think::Switch(false)),
        Some(Effort::Minimal | Effort::Low) if levels => Some(Think::Level("low")),
        Some(Effort::Medium) if levels => Some(Think::Level("medium")),
        Some(Effort::High | Effort::XHigh | Effort::Max) if levels => Some(Think::Level("high")),
        Some(_) => Some(Think::Switch(true)),
        None => match asked.budget_tokens {
            Some(tokens) => Some(Think::Switch(tokens > 0)),
            None => asked.adaptive.then_some(Think::Switch(true)),
        },
    })
}
