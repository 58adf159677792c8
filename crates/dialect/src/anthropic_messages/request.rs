//! A call towards a provider.

use std::collections::HashSet;

use bytes::Bytes;
use serde::Serialize;

use super::{
    hosting,
    messages::{self, Cache, WireBlock, WireMessage},
    thinking::{self, Mode},
    types::NAME,
};
use crate::{
    canonical::{Call, Extra, ResponseFormat, Schema, Tool, ToolChoice},
    dialect::{Encoded, Hosting, Quirk, Target},
    error::EncodeError,
    json::RawJson,
    notes::{Notes, unsupported},
};

pub(super) fn around(target: &Target, stream: bool, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
    hosting::post(target, &hosting::path(target, stream), body)
}

pub(super) fn encode(call: &Call, target: &Target) -> Result<Encoded, EncodeError> {
    let mut notes = Notes::new(NAME, target);
    let wire = wire(call, target, &mut notes)?;
    let body = serde_json::to_vec(&wire).map_err(|error| EncodeError::Write(error.to_string()))?;
    let mut request = around(target, call.stream, Bytes::from(body))?;
    request.headers_mut().extend(hosting::headers(call, target.hosting));
    Ok(Encoded { request, warnings: notes.into_warnings() })
}

pub(super) fn wire<'a>(call: &'a Call, target: &'a Target, notes: &mut Notes) -> Result<WireCall<'a>, EncodeError> {
    if call.n.is_some_and(|n| n > 1) {
        return Err(unsupported(NAME, "more than one answer to a call (`n`)"));
    }
    let own = call.dialect == Some(NAME);
    drop_unknown(call, target, own, notes)?;
    let thinking = thinking::plan(call, target, target.default_max_output_tokens);
    if let Some(reason) = thinking.dropped {
        notes.drop(&format!("reasoning, because {reason},"))?;
    }
    let (system, messages) = messages::encode(call, notes)?;
    let thinks = thinking.thinks();
    let (tools, tool_choice) = tools(call, target, notes)?;
    let mut extra: Vec<(&str, &RawJson)> = Vec::new();
    if own {
        extra.extend(call.extra.iter().filter(|(name, _)| *name != "output_config").map(|(n, raw)| (n.as_str(), raw)));
    }
    let kept = |name: &str| own && call.extra.contains_key(name);
    Ok(WireCall {
        model: (target.hosting == Hosting::Own).then_some(target.model.as_str()),
        anthropic_version: hosting::version(target.hosting),
        anthropic_beta: hosting::betas_in_body(call, target.hosting),
        max_tokens: Some(thinking.max_tokens),
        system,
        messages,
        tools,
        tool_choice: tool_choice.filter(|_| !kept("tool_choice")),
        output_config: output_config(call, thinking.effort, own, notes)?,
        thinking: thinking.mode,
        temperature: temperature(call, target, thinks, notes)?,
        top_p: top_p(call, target, thinks, notes)?,
        top_k: top_k(call, target, thinks, notes)?,
        stop_sequences: &call.stop,
        stream: (call.stream && target.hosting != Hosting::Bedrock).then_some(true),
        service_tier: call.service_tier.as_deref().filter(|_| own),
        metadata: call.user.as_deref().filter(|_| !kept("metadata")).map(|user_id| Metadata { user_id }),
        extra: extra.into_iter().collect(),
    })
}

fn drop_unknown(call: &Call, target: &Target, own: bool, notes: &mut Notes) -> Result<(), EncodeError> {
    let sampling = &call.sampling;
    let foreign_tier = call.service_tier.as_deref().is_some_and(|tier| tier != "auto" && tier != "default");
    for (given, name) in [
        (sampling.seed.is_some(), "`seed`"),
        (sampling.frequency_penalty.is_some_and(|p| p != 0.0), "`frequency_penalty`"),
        (sampling.presence_penalty.is_some_and(|p| p != 0.0), "`presence_penalty`"),
        (call.logprobs == Some(true), "`logprobs`"),
        (call.metadata.is_some(), "`metadata`"),
        (foreign_tier && !own, "`service_tier`"),
        (target.has(Quirk::JsonByTool) && call.tools.iter().any(|t| t.strict == Some(true)), "`strict` of a tool"),
    ] {
        if given {
            notes.drop(name)?;
        }
    }
    if !own {
        for name in call.extra.keys() {
            notes.drop(&format!("`{name}`"))?;
        }
    }
    Ok(())
}

fn temperature(call: &Call, target: &Target, thinks: bool, notes: &mut Notes) -> Result<Option<f64>, EncodeError> {
    let Some(given) = call.sampling.temperature else {
        return Ok(None);
    };
    if target.has(Quirk::NoSampling) {
        notes.drop("`temperature`")?;
        return Ok(None);
    }
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

fn top_p(call: &Call, target: &Target, thinks: bool, notes: &mut Notes) -> Result<Option<f64>, EncodeError> {
    let Some(given) = call.sampling.top_p else {
        return Ok(None);
    };
    let obstacle = if target.has(Quirk::NoSampling) {
        "`top_p`"
    } else if target.has(Quirk::OneSampling) && call.sampling.temperature.is_some() {
        "`top_p` beside `temperature`"
    } else if thinks && given < 0.95 {
        "`top_p` below 0.95 beside reasoning"
    } else {
        return Ok(Some(given));
    };
    notes.drop(obstacle)?;
    Ok(None)
}

fn top_k(call: &Call, target: &Target, thinks: bool, notes: &mut Notes) -> Result<Option<u64>, EncodeError> {
    if call.sampling.top_k.is_some() && (thinks || target.has(Quirk::NoSampling)) {
        notes.drop(if thinks { "`top_k` beside reasoning" } else { "`top_k`" })?;
        return Ok(None);
    }
    Ok(call.sampling.top_k)
}

#[derive(Serialize)]
pub(super) struct WireCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anthropic_version: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    anthropic_beta: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
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
    thinking: Option<Mode>,
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
    service_tier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
    #[serde(flatten)]
    extra: indexmap::IndexMap<&'a str, &'a RawJson>,
}

impl<'a> WireCall<'a> {
    /// Leaves out what a count of tokens does not take. Every hoster wants the model in the body then.
    pub(super) fn only_counted(&mut self, model: &'a str) {
        const COUNTED: [&str; 6] =
            ["cache_control", "context_management", "mcp_servers", "output_config", "thinking", "tool_choice"];
        self.model = Some(model);
        self.max_tokens = None;
        (self.temperature, self.top_p, self.top_k) = (None, None, None);
        self.stop_sequences = &[];
        self.stream = None;
        self.service_tier = None;
        self.metadata = None;
        let counted = HashSet::from(COUNTED);
        self.extra.retain(|name, _| counted.contains(name));
    }
}

#[derive(Serialize)]
struct Metadata<'a> {
    user_id: &'a str,
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
        strict: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Cache>,
        #[serde(flatten)]
        extra: Option<&'a Extra>,
    },
    Raw(&'a RawJson),
}

#[derive(Serialize)]
struct WireChoice<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_parallel_tool_use: Option<bool>,
}

type Tools<'a> = (Vec<WireTool<'a>>, Option<WireChoice<'a>>);

fn tools<'a>(call: &'a Call, target: &Target, notes: &mut Notes) -> Result<Tools<'a>, EncodeError> {
    let own = call.dialect == Some(NAME);
    let mut tools: Vec<WireTool<'_>> = call.tools.iter().map(|given| tool(given, target, own)).collect();
    tools.extend(notes.native_tools(call)?.into_iter().map(WireTool::Raw));
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

fn tool<'a>(tool: &'a Tool, target: &Target, own: bool) -> WireTool<'a> {
    WireTool::Function {
        name: &tool.name,
        description: tool.description.as_deref(),
        input_schema: tool.schema(),
        // Models without structured output have no strict tools either; a tool without arguments has nothing to check.
        strict: tool.strict.filter(|strict| *strict && tool.parameters.is_some() && !target.has(Quirk::JsonByTool)),
        cache_control: tool.cache.map(Cache::from),
        extra: own.then_some(&tool.extra),
    }
}

#[derive(Serialize)]
struct OutputConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<OutputFormat<'a>>,
    #[serde(flatten)]
    extra: Extra,
}

#[derive(Serialize)]
struct OutputFormat<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    schema: &'a RawJson,
}

fn output_config<'a>(
    call: &'a Call,
    effort: Option<&'a str>,
    own: bool,
    notes: &mut Notes,
) -> Result<Option<OutputConfig<'a>>, EncodeError> {
    let format = match &call.response_format {
        Some(ResponseFormat::JsonSchema { schema: Some(schema), .. }) => {
            Some(OutputFormat { kind: "json_schema", schema })
        }
        Some(ResponseFormat::JsonObject | ResponseFormat::JsonSchema { .. }) => {
            notes.drop("`response_format` without a schema")?;
            None
        }
        Some(ResponseFormat::Text) | None => None,
    };
    let rest = call.extra.get("output_config").filter(|_| own);
    let extra: Extra = rest.and_then(|raw| serde_json::from_str(raw.as_str()).ok()).unwrap_or_default();
    let empty = effort.is_none() && format.is_none() && extra.is_empty();
    Ok((!empty).then_some(OutputConfig { effort, format, extra }))
}
