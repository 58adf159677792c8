//! A call towards a provider.

use bytes::Bytes;
use http::{Method, header::CONTENT_TYPE};
use serde::Serialize;

use super::{
    NAME,
    groups::Own,
    input::{self, WireItem},
};
use crate::{
    canonical::{Call, Content, Extra, Part, ReasoningRequest, ResponseFormat, Tool, ToolChoice},
    dialect::{Encoded, Passing, Quirk, Target},
    error::EncodeError,
    json::RawJson,
    notes::{Notes, unsupported},
    rewrite::Edit,
};

const PATH: &str = "/responses";
/// What a provider must be asked for to send it.
pub(super) const LOGPROBS: &str = "message.output_text.logprobs";
const SEALED_REASONING: &str = "reasoning.encrypted_content";
const NO_PARAMETERS: &str = r#"{"type":"object","properties":{}}"#;

pub(super) fn around(target: &Target, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
    http::Request::builder()
        .method(Method::POST)
        .uri(target.path.as_deref().unwrap_or(PATH))
        .header(CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|error| EncodeError::Write(error.to_string()))
}

/// Model name, output limit and temperature from the config where the caller gave none, the stream flag; and, where
/// another provider's reasoning stands in the conversation, the input without it: this one would refuse it.
pub(super) fn edits(passing: &Passing<'_>) -> Vec<Edit<'static>> {
    let Passing { call, asked_stream, defaults, target } = passing;
    let mut edits = vec![Edit::string("model", &target.model)];
    edits.extend(passing.limits(&["max_output_tokens"]));
    match defaults.temperature {
        // Reasoning models take none, from nobody.
        _ if target.has(Quirk::NoSampling) => edits.extend(["temperature", "top_p"].map(Edit::remove)),
        Some(temperature) => edits.push(Edit::default("temperature", temperature.to_string())),
        None => {}
    }
    if call.stream {
        edits.push(Edit::set("stream", "true"));
    } else if *asked_stream {
        edits.push(Edit::set("stream", "false"));
        edits.push(Edit::remove("stream_options"));
    }
    if call.messages.iter().flat_map(|message| &message.parts).any(is_foreign) {
        let own = Target { unsupported: crate::dialect::OnUnsupported::Drop, ..(*target).clone() };
        let mut notes = Notes::new(NAME, &own);
        let encoded = input::encode(call, &own, &mut notes).ok();
        if let Some((instructions, items)) = encoded
            && let Ok(items) = serde_json::to_string(&items)
        {
            edits.extend(instructions.map(|text| Edit::string("instructions", text)));
            edits.push(Edit::set("input", items));
        }
    }
    edits
}

fn is_foreign(part: &Part) -> bool {
    part.signature.is_some() || matches!(&part.content, Content::Reasoning(reasoning) if reasoning.origin != Some(NAME))
}

pub(super) fn encode(call: &Call, target: &Target) -> Result<Encoded, EncodeError> {
    let mut notes = Notes::new(NAME, target);
    if call.n.is_some_and(|n| n > 1) {
        return Err(unsupported(NAME, "more than one answer to a call (`n`)"));
    }
    drop_unknown(call, &mut notes)?;
    let own = call.dialect == Some(NAME);
    let (instructions, input) = input::encode(call, target, &mut notes)?;
    let mut extra = if own { call.extra.clone() } else { Extra::new() };
    let no_sampling = target.has(Quirk::NoSampling);
    if no_sampling && (call.sampling.temperature.is_some() || call.sampling.top_p.is_some()) {
        notes.drop("`temperature` or `top_p`, which this model does not take,")?;
    }
    notes.native_tools(call)?;
    let tools = own_tools(call);
    // In this dialect tools may stand among the items, too.
    let callable = own || !tools.is_empty();
    let wire = WireCall {
        model: &target.model,
        instructions,
        input,
        tools,
        tool_choice: call.tool_choice.as_ref().filter(|_| callable).map(|choice| WireChoice::of(choice, &call.tools)),
        parallel_tool_calls: call.parallel_tool_calls.filter(|_| callable),
        text: Group::new(
            call.response_format.as_ref().map(|f| Text { format: WireFormat::from(f) }),
            &mut extra,
            "text",
        ),
        reasoning: Group::new(reasoning(call, &mut notes), &mut extra, "reasoning"),
        include: include(call, own, &mut extra),
        max_output_tokens: call.max_output_tokens,
        temperature: call.sampling.temperature.filter(|_| !no_sampling),
        top_p: call.sampling.top_p.filter(|_| !no_sampling),
        top_logprobs: call.top_logprobs,
        stream: call.stream.then_some(true),
        store: (!own).then_some(false),
        user: notes.user(call)?,
        metadata: call.metadata.as_ref(),
        service_tier: notes.service_tier(call)?,
        extra,
    };
    let body = serde_json::to_vec(&wire).map_err(|error| EncodeError::Write(error.to_string()))?;
    Ok(Encoded { request: around(target, Bytes::from(body))?, warnings: notes.into_warnings() })
}

fn drop_unknown(call: &Call, notes: &mut Notes) -> Result<(), EncodeError> {
    let sampling = &call.sampling;
    for (given, name) in [
        (!call.stop.is_empty(), "`stop`"),
        (sampling.top_k.is_some(), "`top_k`"),
        (sampling.seed.is_some(), "`seed`"),
        (sampling.frequency_penalty.is_some_and(|p| p != 0.0), "`frequency_penalty`"),
        (sampling.presence_penalty.is_some_and(|p| p != 0.0), "`presence_penalty`"),
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

fn reasoning<'a>(call: &'a Call, notes: &mut Notes) -> Option<WireReasoning<'a>> {
    let ReasoningRequest { effort, budget_tokens, summary, .. } = call.reasoning.as_ref()?;
    let nearest = budget_tokens.filter(|_| effort.is_none()).map(|budget| notes.nearest(budget));
    let summary = summary.as_deref().filter(|word| *word != "none");
    let wire = WireReasoning { effort: effort.clone().or(nearest).map(|effort| effort.as_str().to_owned()), summary };
    (wire.effort.is_some() || wire.summary.is_some()).then_some(wire)
}

/// What the caller asks for, and what is needed to carry the answer on.
fn include(call: &Call, own: bool, extra: &mut Extra) -> Vec<String> {
    let asked = extra.shift_remove("include");
    let mut include: Vec<String> = asked.and_then(|raw| serde_json::from_str(raw.as_str()).ok()).unwrap_or_default();
    let logprobs = call.logprobs == Some(true) || call.top_logprobs.is_some_and(|n| n > 0);
    for (wanted, name) in [(logprobs, LOGPROBS), (!own, SEALED_REASONING)] {
        if wanted && !include.iter().any(|known| known == name) {
            include.push(name.to_owned());
        }
    }
    include
}

#[derive(Serialize)]
struct WireCall<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<&'a str>,
    input: Vec<WireItem<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<WireChoice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Group<Text<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Group<WireReasoning<'a>>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    include: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'a str>,
    #[serde(flatten)]
    extra: Extra,
}

/// A member that is an object: what is known of it, and what the caller wrote beside that.
#[derive(Serialize)]
pub(super) struct Group<T> {
    #[serde(flatten)]
    known: Option<T>,
    #[serde(flatten)]
    rest: Extra,
}

impl<T> Group<T> {
    fn new(known: Option<T>, extra: &mut Extra, name: &str) -> Option<Group<T>> {
        let rest: Extra =
            extra.shift_remove(name).and_then(|raw| serde_json::from_str(raw.as_str()).ok()).unwrap_or_default();
        (known.is_some() || !rest.is_empty()).then_some(Group { known, rest })
    }
}

#[derive(Serialize)]
struct WireReasoning<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'a str>,
}

#[derive(Serialize)]
struct Text<'a> {
    format: WireFormat<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum WireFormat<'a> {
    Text,
    JsonObject,
    JsonSchema {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        schema: Option<&'a RawJson>,
        #[serde(skip_serializing_if = "Option::is_none")]
        strict: Option<bool>,
    },
}

impl<'a> From<&'a ResponseFormat> for WireFormat<'a> {
    fn from(format: &'a ResponseFormat) -> WireFormat<'a> {
        match format {
            ResponseFormat::Text => WireFormat::Text,
            ResponseFormat::JsonObject => WireFormat::JsonObject,
            ResponseFormat::JsonSchema { name, description, schema, strict } => WireFormat::JsonSchema {
                name,
                description: description.as_deref(),
                schema: schema.as_ref(),
                strict: *strict,
            },
        }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum WireTool<'a> {
    Function {
        #[serde(rename = "type")]
        kind: &'static str,
        name: &'a str,
        description: Option<&'a str>,
        parameters: RawJson,
        strict: Option<bool>,
        #[serde(flatten, skip_serializing_if = "Option::is_none")]
        extra: Option<&'a Extra>,
    },
    Raw(&'a RawJson),
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum WireChoice<'a> {
    Word(&'static str),
    Function {
        #[serde(rename = "type")]
        kind: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'a str>,
        name: &'a str,
    },
}

impl<'a> WireChoice<'a> {
    pub(super) fn of(choice: &'a ToolChoice, tools: &'a [Tool]) -> WireChoice<'a> {
        match choice {
            ToolChoice::Auto => WireChoice::Word("auto"),
            ToolChoice::None => WireChoice::Word("none"),
            ToolChoice::Required => WireChoice::Word("required"),
            ToolChoice::Named(name) => {
                let (namespace, name) = Own::of(tools).name(name);
                WireChoice::Function { kind: "function", namespace, name }
            }
        }
    }
}

/// The tools that this dialect can say.
pub(super) fn own_tools(call: &Call) -> Vec<WireTool<'_>> {
    let own = call.dialect == Some(NAME);
    let functions = call.tools.iter().filter(|tool| tool.grouped.is_none()).map(|tool| function_tool(tool, own));
    let native = call.native_tools.iter().filter(|tool| tool.dialect == NAME && !tool.grouped).map(|tool| &tool.raw);
    functions.chain(call.tool_groups.iter().chain(native).map(WireTool::Raw)).collect()
}

/// Schemas are strict here unless it is said that they are not; in all other dialects it is the other way round.
fn function_tool(tool: &Tool, own: bool) -> WireTool<'_> {
    let nothing = || RawJson::new(NO_PARAMETERS).expect("it is valid JSON");
    WireTool::Function {
        kind: "function",
        name: &tool.name,
        description: tool.description.as_deref(),
        parameters: tool.parameters.clone().unwrap_or_else(nothing),
        strict: if own { tool.strict } else { Some(tool.strict.unwrap_or(false)) },
        extra: own.then_some(&tool.extra),
    }
}
