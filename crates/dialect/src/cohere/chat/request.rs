//! A call towards Cohere.

use bytes::Bytes;
use serde::Serialize;

use super::{
    NAME,
    messages::{self, WireMessage},
};
use crate::{
    canonical::{Call, Effort, Extra, ReasoningRequest, ResponseFormat, Schema, Tool, ToolChoice},
    dialect::{Encoded, Target},
    error::EncodeError,
    json::RawJson,
    notes::Notes,
};

pub(super) const PATH: &str = "/v2/chat";

/// The most and the least that `p` may be.
const MAX_P: f64 = 0.99;
const MIN_P: f64 = 0.01;

pub(super) fn encode(call: &Call, target: &Target) -> Result<Encoded, EncodeError> {
    let mut notes = Notes::new(NAME, target);
    if call.n.is_some_and(|n| n > 1) {
        return Err(notes.unsupported("more than one answer to a call (`n`)"));
    }
    drop_unknown(call, &mut notes)?;
    let (tools, tool_choice) = tools(call, &mut notes)?;
    let wire = WireCall {
        stream: call.stream,
        model: &target.model,
        messages: messages::encode(call, &mut notes)?,
        strict_tools: strict_tools(&tools, &mut notes),
        tools: tools.into_iter().map(wire_tool).collect(),
        tool_choice,
        response_format: call.response_format.as_ref().and_then(response_format),
        max_tokens: call.max_output_tokens,
        stop_sequences: &call.stop,
        temperature: call.sampling.temperature,
        seed: call.sampling.seed,
        frequency_penalty: call.sampling.frequency_penalty,
        presence_penalty: call.sampling.presence_penalty,
        k: call.sampling.top_k,
        p: call.sampling.top_p.map(|given| p(given, &mut notes)),
        logprobs: call.logprobs.filter(|wanted| *wanted),
        thinking: call.reasoning.as_ref().and_then(thinking),
        extra: (call.dialect == Some(NAME)).then_some(&call.extra),
    };
    let body = serde_json::to_vec(&wire).map_err(|error| EncodeError::Write(error.to_string()))?;
    Ok(Encoded { request: target.post(PATH, Bytes::from(body))?, warnings: notes.into_warnings() })
}

fn drop_unknown(call: &Call, notes: &mut Notes) -> Result<(), EncodeError> {
    for (given, name) in [
        (call.top_logprobs.is_some_and(|n| n > 0), "`top_logprobs`"),
        (call.parallel_tool_calls == Some(false), "`parallel_tool_calls`"),
        (call.user.is_some(), "`user`"),
        (call.metadata.is_some(), "`metadata`"),
        (call.service_tier.as_deref().is_some_and(|tier| tier != "auto" && tier != "default"), "`service_tier`"),
    ] {
        if given {
            notes.drop(name)?;
        }
    }
    for name in call.extra.keys().filter(|_| call.dialect != Some(NAME)) {
        notes.drop(&format!("`{name}`"))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct WireCall<'a> {
    stream: bool,
    model: &'a str,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict_tools: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<WireFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    k: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<WireThinking>,
    /// `documents`, `citation_options`, `safety_mode`, `priority`.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    extra: Option<&'a Extra>,
}

fn p(given: f64, notes: &mut Notes) -> f64 {
    let taken = given.clamp(MIN_P, MAX_P);
    if taken < given - 0.01 || taken > given {
        notes.say(format!("`top_p` {given} was sent as {taken}: {NAME} takes {MIN_P} to {MAX_P}"));
    }
    taken
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

fn wire_tool(tool: &Tool) -> WireTool<'_> {
    WireTool {
        kind: "function",
        function: WireFunction {
            name: &tool.name,
            description: tool.description.as_deref(),
            parameters: tool.schema(),
        },
    }
}

/// There is no word for one tool that must be called: it is the only one offered, and a call is required.
fn tools<'a>(call: &'a Call, notes: &mut Notes) -> Result<(Vec<&'a Tool>, Option<&'static str>), EncodeError> {
    notes.native_tools(call)?;
    let mut tools: Vec<&Tool> = call.tools.iter().collect();
    let choice = match &call.tool_choice {
        None | Some(ToolChoice::Auto) => None,
        Some(ToolChoice::None) => Some("NONE"),
        Some(ToolChoice::Required) => Some("REQUIRED"),
        Some(ToolChoice::Named(name)) => {
            tools.retain(|tool| tool.name == *name);
            if tools.is_empty() {
                return Err(notes.unsupported(format!("the choice of `{name}`, which is none of the call's tools")));
            }
            Some("REQUIRED")
        }
    };
    let choice = choice.filter(|_| !tools.is_empty());
    Ok((tools, choice))
}

/// The word is one for all tools.
fn strict_tools(tools: &[&Tool], notes: &mut Notes) -> Option<bool> {
    let strict = tools.iter().filter(|tool| tool.strict == Some(true)).count();
    if strict > 0 && strict < tools.len() {
        notes.say("`strict` of one tool holds for all of them");
    }
    (strict > 0).then_some(true)
}

#[derive(Serialize)]
struct WireFormat<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    json_schema: Option<&'a RawJson>,
}

fn response_format(format: &ResponseFormat) -> Option<WireFormat<'_>> {
    let json_schema = match format {
        ResponseFormat::Text => return None,
        ResponseFormat::JsonObject => None,
        ResponseFormat::JsonSchema { schema, .. } => schema.as_ref(),
    };
    Some(WireFormat { kind: "json_object", json_schema })
}

#[derive(Serialize)]
struct WireThinking {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_budget: Option<u64>,
}

/// How hard to think is a budget here; without one the model thinks as long as it likes, which is what those want who ask
/// for much.
fn thinking(asked: &ReasoningRequest) -> Option<WireThinking> {
    let token_budget = match (asked.budget_tokens, &asked.effort) {
        (Some(0), _) | (None, Some(Effort::None)) => {
            return Some(WireThinking { kind: "disabled", token_budget: None });
        }
        (Some(budget), _) => Some(budget),
        (None, Some(effort @ (Effort::Minimal | Effort::Low | Effort::Medium))) => effort.budget(),
        (None, Some(Effort::High | Effort::XHigh | Effort::Max | Effort::Other(_))) => None,
        (None, None) if asked.adaptive => None,
        (None, None) => return None,
    };
    Some(WireThinking { kind: "enabled", token_budget })
}
