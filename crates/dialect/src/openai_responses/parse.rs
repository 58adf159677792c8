//! A caller's request.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{NAME, groups, items, request::LOGPROBS};
use crate::{
    canonical::{
        Call, Effort, Extra, Message, NativeTool, ReasoningRequest, ResponseFormat, Role, Sampling, Tool, ToolChoice,
    },
    error::BadRequest,
    json::{Object, Path, RawJson},
    outline::{object_of, text_of},
};

type Result<T> = std::result::Result<T, BadRequest>;

pub(super) fn parse(body: &[u8]) -> Result<Call> {
    let mut top = object_of(text_of(body)?)?;
    let root = Path::Root;
    // farebox's own options; they are read where the call is routed.
    top.take("farebox");
    let mut call = Call {
        model: top.optional("model", root, "a string")?.unwrap_or_default(),
        parallel_tool_calls: top.optional("parallel_tool_calls", root, "true or false")?,
        max_output_tokens: top.optional("max_output_tokens", root, "a whole number of tokens")?,
        sampling: Sampling {
            temperature: top.optional("temperature", root, "a number")?,
            top_p: top.optional("top_p", root, "a number")?,
            ..Sampling::default()
        },
        top_logprobs: top.optional("top_logprobs", root, "a whole number")?,
        stream: top.optional("stream", root, "true or false")?.unwrap_or(false),
        // The answer's end carries it, asked for or not.
        include_usage: true,
        user: top.optional("user", root, "a string")?,
        metadata: top.take("metadata").map(RawJson::from),
        service_tier: top.optional("service_tier", root, "a string")?,
        dialect: Some(NAME),
        ..Call::default()
    };
    tools(&mut top, &mut call)?;
    call.messages = messages(&mut top, &call.tools)?;
    call.tool_choice = tool_choice(&mut top, &call.tools, &mut call.extra)?;
    call.response_format = text(&mut top, &mut call.extra)?;
    call.reasoning = reasoning(&mut top, &mut call.extra)?;
    call.logprobs = include(&mut top, &mut call.extra)?;
    call.extra.extend(top.into_extra());
    Ok(call)
}

fn messages(top: &mut Object<'_>, tools: &[Tool]) -> Result<Vec<Message>> {
    let root = Path::Root;
    let mut messages = Vec::new();
    if let Some(text) = top.optional::<String>("instructions", root, "a string")? {
        messages.push(Message::text(Role::System, text));
    }
    let raw: &RawValue = top.required("input", root, "a string or an array of items")?;
    items::read_input(raw, root.member("input"), &groups::sent_as(tools), &mut messages)?;
    Ok(messages)
}

fn tools(top: &mut Object<'_>, call: &mut Call) -> Result<()> {
    let root = Path::Root;
    let list: Vec<&RawValue> = top.optional("tools", root, "an array of tools")?.unwrap_or_default();
    let tools = root.member("tools");
    for (index, raw) in list.into_iter().enumerate() {
        let at = tools.item(index);
        let mut tool = Object::read(raw, at)?;
        let kind: String = tool.required("type", at, "the kind of the tool, such as `function`")?;
        match kind.as_str() {
            "function" => call.tools.push(function(tool, at)?),
            "namespace" => groups::unfold(raw, tool, at, call)?,
            _ => call.native_tools.push(NativeTool { dialect: NAME, kind, raw: RawJson::from(raw), grouped: false }),
        }
    }
    groups::name(&mut call.tools);
    Ok(())
}

pub(super) fn function(mut tool: Object<'_>, at: Path<'_>) -> Result<Tool> {
    Ok(Tool {
        name: tool.required("name", at, "the function's name")?,
        description: tool.optional("description", at, "a string")?,
        parameters: tool.take("parameters").map(RawJson::from),
        strict: tool.optional("strict", at, "true or false")?,
        extra: tool.into_extra(),
        ..Tool::default()
    })
}

/// A choice of a form that is not known here stays among the extra members, for a provider of the same dialect.
fn tool_choice(top: &mut Object<'_>, tools: &[Tool], extra: &mut Extra) -> Result<Option<ToolChoice>> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(rename = "type")]
        kind: String,
        name: String,
        namespace: Option<String>,
    }
    let Some(raw) = top.take("tool_choice") else {
        return Ok(None);
    };
    let choice = match raw.get() {
        "\"auto\"" => Some(ToolChoice::Auto),
        "\"none\"" => Some(ToolChoice::None),
        "\"required\"" => Some(ToolChoice::Required),
        other => {
            let named = serde_json::from_str::<Named>(other).ok().filter(|named| named.kind == "function");
            named.map(|named| {
                let tool = groups::chosen(tools, named.namespace.as_deref(), &named.name);
                ToolChoice::Named(tool.map_or(named.name, |tool| tool.name.clone()))
            })
        }
    };
    if choice.is_none() {
        if !raw.get().starts_with('{') {
            let problem = "must be `auto`, `none`, `required` or an object that names a function";
            return Err(BadRequest::field("tool_choice", problem));
        }
        extra.insert("tool_choice".to_owned(), RawJson::from(raw));
    }
    Ok(choice)
}

fn text(top: &mut Object<'_>, extra: &mut Extra) -> Result<Option<ResponseFormat>> {
    let root = Path::Root;
    let at = root.member("text");
    let Some(raw) = top.take("text") else {
        return Ok(None);
    };
    let mut text = Object::read(raw, at)?;
    let found = text.take("format").map(|raw| format(raw, at.member("format"))).transpose()?;
    keep("text", text, extra);
    Ok(found)
}

fn format(raw: &RawValue, at: Path<'_>) -> Result<ResponseFormat> {
    let mut format = Object::read(raw, at)?;
    let kind: String = format.required("type", at, "`text`, `json_object` or `json_schema`")?;
    match kind.as_str() {
        "text" => Ok(ResponseFormat::Text),
        "json_object" => Ok(ResponseFormat::JsonObject),
        "json_schema" => Ok(ResponseFormat::JsonSchema {
            name: format.required("name", at, "a string")?,
            description: format.optional("description", at, "a string")?,
            schema: format.take("schema").map(RawJson::from),
            strict: format.optional("strict", at, "true or false")?,
        }),
        _ => Err(BadRequest::field(at.member("type"), "must be `text`, `json_object` or `json_schema`")),
    }
}

fn reasoning(top: &mut Object<'_>, extra: &mut Extra) -> Result<Option<ReasoningRequest>> {
    let root = Path::Root;
    let at = root.member("reasoning");
    let Some(raw) = top.take("reasoning") else {
        return Ok(None);
    };
    let mut given = Object::read(raw, at)?;
    let effort: Option<String> = given.optional("effort", at, "a string such as `low`, `medium` or `high`")?;
    let summary = given.optional("summary", at, "`auto`, `concise` or `detailed`")?;
    keep("reasoning", given, extra);
    let effort = effort.as_deref().map(Effort::from);
    Ok((effort.is_some() || summary.is_some()).then(|| ReasoningRequest {
        effort,
        summary,
        ..ReasoningRequest::default()
    }))
}

/// What stands beside the known members of an object stays under the object's name.
fn keep(name: &str, rest: Object<'_>, extra: &mut Extra) {
    let rest = rest.into_extra();
    if !rest.is_empty()
        && let Some(raw) = serde_json::to_string(&rest).ok().and_then(RawJson::new)
    {
        extra.insert(name.to_owned(), raw);
    }
}

/// The list stays as it is, for a provider of the same dialect; log probabilities other dialects know as well.
fn include(top: &mut Object<'_>, extra: &mut Extra) -> Result<Option<bool>> {
    let Some(raw) = top.take("include") else {
        return Ok(None);
    };
    let names: Vec<String> = crate::json::read(raw, Path::Root.member("include"), "an array of strings")?;
    if !names.is_empty() {
        extra.insert("include".to_owned(), RawJson::from(raw));
    }
    Ok(names.iter().any(|name| name == LOGPROBS).then_some(true))
}
