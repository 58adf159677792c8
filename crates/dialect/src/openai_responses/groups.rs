//! Groups of functions under one name (`type: namespace`), which no other dialect has: their functions stand among the
//! call's, each under a name of its own, by which they are told apart in what the model answers.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::{NAME, parse::function};
use crate::{
    canonical::{Call, Grouped, NativeTool, Tool},
    error::BadRequest,
    json::{Object, Path, RawJson},
    tool_names::Names,
};

/// The group of what stands in none: OpenAI's models call its functions by their names alone.
const NO_GROUP: &str = "functions";

/// The functions of a group, and what else is in it, beside the group itself. They are named by [`name`].
pub(super) fn unfold(raw: &RawValue, mut group: Object<'_>, at: Path<'_>, call: &mut Call) -> Result<(), BadRequest> {
    let group_name: String = group.required("name", at, "the group's name")?;
    let mut about: Option<String> = group.optional("description", at, "a string")?;
    let list: Vec<&RawValue> = group.optional("tools", at, "an array of tools")?.unwrap_or_default();
    let tools = at.member("tools");
    for (index, raw) in list.into_iter().enumerate() {
        let at = tools.item(index);
        let mut tool = Object::read(raw, at)?;
        let kind: String = tool.required("type", at, "the kind of the tool, such as `function`")?;
        if kind != "function" {
            call.native_tools.push(NativeTool { dialect: NAME, kind, raw: RawJson::from(raw), grouped: true });
            continue;
        }
        let tool = function(tool, at)?;
        // The model reads of the group where it begins.
        let description = match (about.take(), tool.description) {
            (Some(about), Some(own)) => Some(format!("{about}\n\n{own}")),
            (about, own) => about.or(own),
        };
        let grouped = Some(Grouped { group: group_name.clone(), name: tool.name.clone() });
        call.tools.push(Tool { description, grouped, ..tool });
    }
    call.tool_groups.push(RawJson::from(raw));
    Ok(())
}

/// Gives the functions of groups names that nothing else in the call has.
pub(super) fn name(tools: &mut [Tool]) {
    let plain = tools.iter().filter(|tool| tool.grouped.is_none());
    let mut names = Names::beside(plain.map(|tool| tool.name.as_str()));
    for tool in tools {
        if let Some(Grouped { group, name }) = &tool.grouped {
            tool.name = names.next(&joined(group, name));
        }
    }
}

fn joined(group: &str, name: &str) -> String {
    match group {
        NO_GROUP => name.to_owned(),
        _ if group.ends_with("__") => format!("{group}{name}"),
        _ => format!("{group}__{name}"),
    }
}

/// The name that a function is sent under, by its group and its own name.
pub(super) fn sent_as(tools: &[Tool]) -> HashMap<(&str, &str), &str> {
    let grouped = tools.iter().filter_map(|tool| Some((tool.grouped.as_ref()?, tool.name.as_str())));
    grouped.map(|(own, name)| ((own.group.as_str(), own.name.as_str()), name)).collect()
}

/// The function that a choice names: one of no group, where there is one and the choice names no group.
pub(super) fn chosen<'c>(tools: &'c [Tool], group: Option<&str>, name: &str) -> Option<&'c Tool> {
    let is_meant = |tool: &&Tool| match &tool.grouped {
        None => group.is_none() && tool.name == name,
        Some(own) => own.name == name && group.is_none_or(|group| group == own.group),
    };
    tools.iter().filter(is_meant).min_by_key(|tool| tool.grouped.is_some())
}

/// What the caller calls the functions that are sent under other names.
pub(super) struct Own<'c>(HashMap<&'c str, &'c Grouped>);

impl<'c> Own<'c> {
    pub(super) fn of(tools: &'c [Tool]) -> Own<'c> {
        Own(tools.iter().filter_map(|tool| Some((tool.name.as_str(), tool.grouped.as_ref()?))).collect())
    }

    /// The group of a function, and its name.
    pub(super) fn name(&self, sent: &'c str) -> (Option<&'c str>, &'c str) {
        let Some(own) = self.0.get(sent) else { return (None, sent) };
        (Some(own.group.as_str()).filter(|group| *group != NO_GROUP), &own.name)
    }
}
