//! Functions, tools of Google's own, and which of them may be called.

use std::borrow::Cow;

use serde::Serialize;

use crate::{
    canonical::{Call, Tool, ToolChoice},
    error::EncodeError,
    json::RawJson,
    notes::Notes,
    rewrite::{Edit, rewrite},
};

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum WireTool<'a> {
    #[serde(rename_all = "camelCase")]
    Functions {
        function_declarations: Vec<Declaration<'a>>,
    },
    Raw(&'a RawJson),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Declaration<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    /// JSON Schema as it is. (`parameters` would take a subset of OpenAPI's.)
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters_json_schema: Option<Cow<'a, RawJson>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolConfig<'a> {
    function_calling_config: Calling<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Calling<'a> {
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_function_names: Option<[&'a str; 1]>,
}

pub(super) fn encode<'a>(
    call: &'a Call,
    notes: &mut Notes,
) -> Result<(Vec<WireTool<'a>>, Option<ToolConfig<'a>>), EncodeError> {
    let mut tools = Vec::new();
    if !call.tools.is_empty() {
        tools.push(WireTool::Functions { function_declarations: call.tools.iter().map(declaration).collect() });
    }
    tools.extend(notes.native_tools(call)?.into_iter().map(WireTool::Raw));
    if call.parallel_tool_calls == Some(false) && !call.tools.is_empty() {
        notes.drop("`parallel_tool_calls`")?;
    }
    Ok((tools, calling(call).map(|function_calling_config| ToolConfig { function_calling_config })))
}

fn declaration(tool: &Tool) -> Declaration<'_> {
    Declaration {
        name: &tool.name,
        description: tool.description.as_deref(),
        parameters_json_schema: tool.parameters.as_ref().map(schema),
    }
}

/// A schema without the word that names its own edition: Google's list of what it reads does not have it.
pub(super) fn schema(given: &RawJson) -> Cow<'_, RawJson> {
    let rewritten = || {
        let bytes = rewrite(given.as_str().as_bytes(), &[Edit::remove("$schema")]).ok()?;
        RawJson::new(String::from_utf8(bytes.into()).ok()?)
    };
    if !given.as_str().contains("$schema") {
        return Cow::Borrowed(given);
    }
    rewritten().map_or(Cow::Borrowed(given), Cow::Owned)
}

fn calling(call: &Call) -> Option<Calling<'_>> {
    if call.tools.is_empty() {
        return None;
    }
    // Arguments are held to their schema wherever a function must be called; by choice only in this mode.
    let strict = call.tools.iter().any(|tool| tool.strict == Some(true));
    let (mode, name) = match &call.tool_choice {
        None | Some(ToolChoice::Auto) if strict => ("VALIDATED", None),
        None => return None,
        Some(ToolChoice::Auto) => ("AUTO", None),
        Some(ToolChoice::None) => ("NONE", None),
        Some(ToolChoice::Required) => ("ANY", None),
        Some(ToolChoice::Named(name)) => ("ANY", Some([name.as_str()])),
    };
    Some(Calling { mode, allowed_function_names: name })
}
