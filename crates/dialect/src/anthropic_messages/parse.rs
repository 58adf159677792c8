//! A caller's request.

use http::HeaderMap;
use serde_json::value::RawValue;

use super::{
    blocks::{self, Result, mark},
    types::NAME,
};
use crate::{
    canonical::{
        Call, Content, Effort, Extra, Message, NativeTool, Part, ReasoningRequest, ResponseFormat, Role, Sampling,
        Tool, ToolChoice,
    },
    error::BadRequest,
    json::{Object, Path, RawJson},
    outline::{object_of, text_of},
};

/// Of messages and of token counts alike. A call without `max_tokens` gets the one that stands in for it later.
pub(super) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Call> {
    let mut top = object_of(text_of(body)?)?;
    let root = Path::Root;
    // farebox's own options; they are read where the call is routed.
    top.take("farebox");
    let mut call = Call {
        model: top.optional("model", root, "a string")?.unwrap_or_default(),
        messages: messages(&mut top)?,
        max_output_tokens: top.optional("max_tokens", root, "a whole number of tokens")?,
        sampling: Sampling {
            temperature: top.optional("temperature", root, "a number")?,
            top_p: top.optional("top_p", root, "a number")?,
            top_k: top.optional("top_k", root, "a whole number")?,
            ..Sampling::default()
        },
        stop: top.optional("stop_sequences", root, "an array of strings")?.unwrap_or_default(),
        stream: top.optional("stream", root, "true or false")?.unwrap_or(false),
        include_usage: true,
        service_tier: top.optional("service_tier", root, "a string")?,
        betas: betas(headers),
        dialect: Some(NAME),
        ..Call::default()
    };
    tools(&mut top, &mut call)?;
    let mut rest = Extra::new();
    tool_choice(&mut top, &mut call, &mut rest)?;
    thinking(&mut top, &mut call, &mut rest)?;
    output_config(&mut top, &mut call, &mut rest)?;
    metadata(&mut top, &mut call, &mut rest)?;
    call.extra = top.into_extra();
    call.extra.extend(rest);
    Ok(call)
}

/// <https://docs.anthropic.com/en/api/beta-headers>
fn betas(headers: &HeaderMap) -> Vec<String> {
    let lists = headers.get_all("anthropic-beta").into_iter().filter_map(|list| list.to_str().ok());
    let names = lists.flat_map(|list| list.split(',')).map(str::trim).filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

fn messages(top: &mut Object<'_>) -> Result<Vec<Message>> {
    let root = Path::Root;
    let mut out = Vec::new();
    if let Some(raw) = top.take("system") {
        let mut parts = blocks::content(raw, root.member("system"))?;
        unattributed(&mut parts);
        out.extend((!parts.is_empty()).then(|| Message::new(Role::System, parts)));
    }
    let list: Vec<&RawValue> = top.required("messages", root, "an array of messages")?;
    let messages = root.member("messages");
    for (index, raw) in list.into_iter().enumerate() {
        message(raw, messages.item(index), &mut out)?;
    }
    Ok(out)
}

/// Leaves out what Claude Code says to Anthropic's billing in the first line of its system text. It is no word to a model,
/// and it differs from call to call: at other providers no prompt would be found in the cache again.
fn unattributed(parts: &mut Vec<Part>) {
    const MARK: &str = "x-anthropic-billing-header:";
    let Some(Content::Text(text)) = parts.first_mut().map(|part| &mut part.content) else { return };
    if !text.starts_with(MARK) {
        return;
    }
    match text.split_once('\n').map(|(_, rest)| rest.to_owned()).filter(|rest| !rest.trim().is_empty()) {
        Some(rest) => *text = rest,
        None => drop(parts.remove(0)),
    }
}

/// Results of tools become a message of their own, before what else stands in the same turn.
fn message(raw: &RawValue, at: Path<'_>, out: &mut Vec<Message>) -> Result<()> {
    let mut object = Object::read(raw, at)?;
    let word: String = object.required("role", at, "`user`, `assistant` or `system`")?;
    let role = match word.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => return Err(BadRequest::field(at.member("role"), "must be `user`, `assistant` or `system`")),
    };
    let at_content = at.member("content");
    let raw = object.take("content").ok_or_else(|| {
        BadRequest::field(at_content, "is missing: it must be a string or an array of content blocks")
    })?;
    let (results, parts): (Vec<Part>, Vec<Part>) = blocks::content(raw, at_content)?
        .into_iter()
        .partition(|part| role == Role::User && matches!(part.content, Content::ToolResult(_)));
    let only_results = parts.is_empty() && !results.is_empty();
    if !results.is_empty() {
        out.push(Message::new(Role::Tool, results));
    }
    if !only_results {
        out.push(Message { role, name: None, parts, extra: object.into_extra() });
    }
    Ok(())
}

fn tools(top: &mut Object<'_>, call: &mut Call) -> Result<()> {
    let root = Path::Root;
    let list: Vec<&RawValue> = top.optional("tools", root, "an array of tools")?.unwrap_or_default();
    let tools = root.member("tools");
    for (index, raw) in list.into_iter().enumerate() {
        let at = tools.item(index);
        let mut tool = Object::read(raw, at)?;
        let kind = tool.optional("type", at, "a string")?.unwrap_or_else(|| "custom".to_owned());
        if kind != "custom" {
            call.native_tools.push(NativeTool { dialect: NAME, kind, raw: RawJson::from(raw), grouped: false });
            continue;
        }
        call.tools.push(Tool {
            name: tool.required("name", at, "the tool's name")?,
            description: tool.optional("description", at, "a string")?,
            parameters: tool.take("input_schema").map(RawJson::from),
            strict: tool.optional("strict", at, "true or false")?,
            cache: mark(&mut tool, at)?,
            extra: tool.into_extra(),
            ..Tool::default()
        });
    }
    Ok(())
}

/// A choice of a kind that is not known here stays among the extra members, for a provider of the same dialect.
fn tool_choice(top: &mut Object<'_>, call: &mut Call, rest: &mut Extra) -> Result<()> {
    let Some(raw) = top.take("tool_choice") else {
        return Ok(());
    };
    let root = Path::Root;
    let at = root.member("tool_choice");
    let mut choice = Object::read(raw, at)?;
    let kind: String = choice.required("type", at, "`auto`, `any`, `tool` or `none`")?;
    call.tool_choice = match kind.as_str() {
        "auto" => Some(ToolChoice::Auto),
        "any" => Some(ToolChoice::Required),
        "none" => Some(ToolChoice::None),
        "tool" => Some(ToolChoice::Named(choice.required("name", at, "the tool's name")?)),
        _ => {
            rest.insert("tool_choice".to_owned(), RawJson::from(raw));
            None
        }
    };
    let serial: Option<bool> = choice.optional("disable_parallel_tool_use", at, "true or false")?;
    call.parallel_tool_calls = serial.map(|serial| !serial);
    Ok(())
}

fn thinking(top: &mut Object<'_>, call: &mut Call, rest: &mut Extra) -> Result<()> {
    let Some(raw) = top.take("thinking") else {
        return Ok(());
    };
    let root = Path::Root;
    let at = root.member("thinking");
    let mut thinking = Object::read(raw, at)?;
    let kind: String = thinking.required("type", at, "`enabled`, `adaptive` or `disabled`")?;
    let mut asked = ReasoningRequest::default();
    match kind.as_str() {
        "enabled" => asked.budget_tokens = Some(thinking.required("budget_tokens", at, "a whole number of tokens")?),
        "adaptive" => asked.adaptive = true,
        "disabled" => asked.effort = Some(Effort::None),
        _ => {
            rest.insert("thinking".to_owned(), RawJson::from(raw));
            return Ok(());
        }
    }
    asked.summary = thinking.optional::<String>("display", at, "a string")?.map(|word| match word.as_str() {
        "omitted" => "none".to_owned(),
        // `summarized`, `updates`: ways of showing it that no other dialect tells apart.
        _ => "auto".to_owned(),
    });
    call.reasoning = Some(asked);
    Ok(())
}

/// `output_config`, or the older `output_format`. What of it has no word here stays among the extra members.
fn output_config(top: &mut Object<'_>, call: &mut Call, rest: &mut Extra) -> Result<()> {
    let root = Path::Root;
    if let Some(raw) = top.take("output_format") {
        call.response_format = Some(format(raw, root.member("output_format"))?);
    }
    let Some(raw) = top.take("output_config") else {
        return Ok(());
    };
    let at = root.member("output_config");
    let mut config = Object::read(raw, at)?;
    if let Some(raw) = config.take("format") {
        call.response_format = Some(format(raw, at.member("format"))?);
    }
    let mut left = Extra::new();
    if let Some(raw) = config.take("effort") {
        let word: String = crate::json::read(raw, at.member("effort"), "a string")?;
        let asked = call.reasoning.get_or_insert_default();
        if asked.effort.is_none() {
            asked.effort = Some(Effort::from(word.as_str()));
        } else {
            // Thinking is off; here effort says how much is written, too.
            left.insert("effort".to_owned(), RawJson::from(raw));
        }
    }
    left.extend(config.into_extra());
    if !left.is_empty() {
        rest.extend(
            serde_json::to_string(&left).ok().and_then(RawJson::new).map(|raw| ("output_config".to_owned(), raw)),
        );
    }
    Ok(())
}

fn format(raw: &RawValue, at: Path<'_>) -> Result<ResponseFormat> {
    let mut format = Object::read(raw, at)?;
    let kind: String = format.required("type", at, "`json_schema`")?;
    if kind != "json_schema" {
        return Err(BadRequest::field(at.member("type"), "must be `json_schema`"));
    }
    let at_schema = at.member("schema");
    let schema =
        format.take("schema").ok_or_else(|| BadRequest::field(at_schema, "is missing: it must be a schema"))?;
    Ok(ResponseFormat::JsonSchema {
        // Other dialects want a name.
        name: "output".to_owned(),
        description: None,
        schema: Some(RawJson::from(schema)),
        strict: None,
    })
}

fn metadata(top: &mut Object<'_>, call: &mut Call, rest: &mut Extra) -> Result<()> {
    let Some(raw) = top.take("metadata") else {
        return Ok(());
    };
    let root = Path::Root;
    let at = root.member("metadata");
    let mut metadata = Object::read(raw, at)?;
    call.user = metadata.optional("user_id", at, "a string")?;
    if !metadata.into_extra().is_empty() {
        rest.insert("metadata".to_owned(), RawJson::from(raw));
    }
    Ok(())
}
