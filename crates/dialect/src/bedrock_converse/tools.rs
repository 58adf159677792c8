//! `toolConfig`. The API has no word for tools that must not be called, and refuses tool calls in the conversation of
//! which no tool is declared.

use serde::Serialize;

use super::{messages::CachePoint, types::Family};
use crate::{
    canonical::{Call, Content, Schema, Tool, ToolChoice},
    dialect::{Quirk, Target},
    error::EncodeError,
    json::RawJson,
    notes::Notes,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolConfig<'a> {
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<WireChoice<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum WireTool<'a> {
    ToolSpec(ToolSpec<'a>),
    CachePoint(CachePoint),
    #[serde(untagged)]
    Raw(&'a RawJson),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolSpec<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: InputSchema<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
struct InputSchema<'a> {
    json: Schema<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum WireChoice<'a> {
    Auto {},
    Any {},
    Tool { name: &'a str },
}

pub(super) fn encode<'a>(
    call: &'a Call,
    target: &Target,
    notes: &mut Notes,
) -> Result<Option<ToolConfig<'a>>, EncodeError> {
    let history = named_in_history(call);
    if call.tool_choice == Some(ToolChoice::None) && history.is_empty() {
        return Ok(None);
    }
    let mut tools = Vec::with_capacity(call.tools.len());
    // Models without structured output have no strict tools either.
    let lenient = target.has(Quirk::JsonByTool);
    if lenient && call.tools.iter().any(|tool| tool.strict == Some(true)) {
        notes.drop("`strict` of a tool")?;
    }
    for tool in &call.tools {
        let strict = tool.strict.filter(|_| !lenient);
        tools.push(WireTool::ToolSpec(ToolSpec { strict, ..spec(tool) }));
        tools.extend(
            tool.cache.and_then(|mark| CachePoint::in_tools(mark, Family::of(target))).map(WireTool::CachePoint),
        );
    }
    tools.extend(notes.native_tools(call)?.into_iter().map(WireTool::Raw));
    if tools.is_empty() {
        if history.is_empty() {
            return Ok(None);
        }
        notes.say("the tools that the conversation calls were declared again: the API wants them");
        tools.extend(history.into_iter().map(|name| WireTool::ToolSpec(bare(name))));
        return Ok(Some(ToolConfig { tools, tool_choice: None }));
    }
    if call.parallel_tool_calls == Some(false) {
        notes.drop("`parallel_tool_calls`")?;
    }
    let tool_choice = match &call.tool_choice {
        None => None,
        Some(ToolChoice::Auto) => Some(WireChoice::Auto {}),
        Some(ToolChoice::Required) => Some(WireChoice::Any {}),
        Some(ToolChoice::Named(name)) => Some(WireChoice::Tool { name }),
        Some(ToolChoice::None) => {
            notes.drop("`tool_choice` none in a conversation with tool calls")?;
            None
        }
    };
    Ok(Some(ToolConfig { tools, tool_choice }))
}

fn spec(tool: &Tool) -> ToolSpec<'_> {
    ToolSpec {
        description: tool.description.as_deref().filter(|text| !text.is_empty()),
        input_schema: InputSchema { json: tool.schema() },
        ..bare(&tool.name)
    }
}

fn bare(name: &str) -> ToolSpec<'_> {
    ToolSpec { name, description: None, input_schema: InputSchema { json: Schema::EMPTY }, strict: None }
}

fn named_in_history(call: &Call) -> Vec<&str> {
    let mut names = Vec::new();
    for part in call.messages.iter().flat_map(|message| &message.parts) {
        if let Content::ToolCall(call) = &part.content
            && !names.contains(&call.name.as_str())
        {
            names.push(call.name.as_str());
        }
    }
    names
}
