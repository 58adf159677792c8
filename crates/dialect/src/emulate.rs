//! JSON modes for providers that have none: the model answers by calling a tool whose arguments are the answer, and the
//! call becomes text again on the way back. Above all dialects: it sees canonical calls, answers and events only.
//!
//! | what the call says | what is sent |
//! |---|---|
//! | neither tools nor thinking | the tool, forced |
//! | tools of its own, or thinking (no provider takes a forced tool beside it) | the tool, and an instruction to answer by it |
//! | tools of its own and `tool_choice: none` | the tool, forced; while thinking, an instruction with the schema |
//! | a tool of its own is forced | no tool more: what comes is that call, not text |
//!
//! A model that was free to choose may answer in plain text all the same: then that is the answer.

mod filter;

pub use self::filter::Filter;
use crate::{
    canonical::{
        Call, Choice, Completion, Content, Effort, FinishReason, Message, Part, ResponseFormat, Role, Tool, ToolChoice,
    },
    dialect::{Quirk, Target, Warning},
    json::RawJson,
};

/// What stands in for a JSON mode.
#[derive(Clone, Debug, PartialEq)]
pub struct Emulation {
    tool: Tool,
    way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Forced,
    Offered,
    Instructed,
    Nothing,
}

/// How to emulate the format that the call asks for; `None`: it asks for none, or the target has it.
pub fn emulation(call: &Call, target: &Target) -> Option<Emulation> {
    let (name, description, schema) = match call.response_format.as_ref()? {
        ResponseFormat::Text => return None,
        ResponseFormat::JsonObject if target.has(Quirk::JsonByTool) => (None, None, None),
        ResponseFormat::JsonSchema { name, description, schema, .. }
            if target.has(Quirk::JsonByTool) || target.has(Quirk::SchemaByTool) =>
        {
            (Some(name.as_str()), description.as_deref(), schema.clone())
        }
        _ => return None,
    };
    let tool = Tool {
        name: tool_name(call, name),
        description: Some(describe(description)),
        parameters: schema.or_else(|| RawJson::new("{\"type\":\"object\"}")),
        ..Tool::default()
    };
    Some(Emulation { tool, way: way(call) })
}

fn way(call: &Call) -> Way {
    let thinking = call
        .reasoning
        .as_ref()
        .is_some_and(|asked| asked.effort != Some(Effort::None) && asked.budget_tokens != Some(0));
    let tools = !call.tools.is_empty() || !call.native_tools.is_empty();
    match call.tool_choice {
        Some(ToolChoice::Required | ToolChoice::Named(_)) if tools => Way::Nothing,
        Some(ToolChoice::None) if tools && thinking => Way::Instructed,
        Some(ToolChoice::None) if tools => Way::Forced,
        _ if tools || thinking => Way::Offered,
        _ => Way::Forced,
    }
}

/// The schema's own name tells the model what it writes; it may not be that of another tool, nor hold what no provider
/// takes in a name.
fn tool_name(call: &Call, name: Option<&str>) -> String {
    const MAX: usize = 60;
    let fits = |name: &&str| {
        (1..=MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    let mut name = name.filter(fits).unwrap_or("json_answer").to_owned();
    while call.tools.iter().any(|tool| tool.name == name) {
        name.push('_');
    }
    name
}

fn describe(description: Option<&str>) -> String {
    let own = "Gives the final answer to the user. Its arguments are the answer.";
    description.map_or_else(|| own.to_owned(), |description| format!("{own} {description}"))
}

impl Emulation {
    /// The call as it is sent instead.
    pub fn apply(&self, call: &mut Call) {
        call.response_format = None;
        match self.way {
            Way::Forced => {
                call.tools.push(self.tool.clone());
                call.tool_choice = Some(ToolChoice::Named(self.tool.name.clone()));
            }
            Way::Offered => {
                let name = &self.tool.name;
                instruct(
                    call,
                    format!("Give your final answer by calling the tool `{name}`, once, and write no text."),
                );
                call.tools.push(self.tool.clone());
            }
            Way::Instructed => {
                let schema = self.tool.parameters.as_ref().map_or("{}", RawJson::as_str);
                instruct(
                    call,
                    format!("Answer with one JSON value that fits this JSON Schema, and nothing else: {schema}"),
                );
            }
            Way::Nothing => {}
        }
    }

    /// What the caller should know.
    pub fn warning(&self) -> Warning {
        Warning(match self.way {
            Way::Forced => "the JSON format was emulated by a tool that the model had to call".to_owned(),
            Way::Offered => "the JSON format was emulated by a tool that the model was told to call; it may answer in \
                             plain text all the same"
                .to_owned(),
            Way::Instructed => {
                "the JSON format was emulated by an instruction, which the model may not follow".to_owned()
            }
            Way::Nothing => "the JSON format was left out: the call forces a tool, so no text is expected".to_owned(),
        })
    }

    /// A whole answer, as if the provider had the format.
    pub fn restore(&self, completion: &mut Completion) {
        completion.choices.iter_mut().for_each(|choice| restore(choice, &self.tool.name));
    }

    /// A streamed answer, as if the provider had the format.
    pub fn filter(&self) -> Filter {
        Filter::new(self.tool.name.clone())
    }
}

/// Behind the instructions that stand at the start.
fn instruct(call: &mut Call, text: String) {
    let instructions = |message: &&Message| matches!(message.role, Role::System | Role::Developer);
    let at = call.messages.iter().take_while(instructions).count();
    call.messages.insert(at, Message::text(Role::System, text));
}

/// The first call of the tool becomes the answer's text. Text around it is chatter, and further calls of it would spoil
/// the JSON: both are left out.
fn restore(choice: &mut Choice, tool: &str) {
    let ours = |part: &Part| matches!(&part.content, Content::ToolCall(call) if call.name == tool);
    let Some(at) = choice.parts.iter().position(ours) else { return };
    let parts = std::mem::take(&mut choice.parts).into_iter().enumerate();
    choice.parts = parts
        .filter_map(|(place, part)| match &part.content {
            Content::ToolCall(call) if place == at => Some(Part::text(json_of(&call.arguments))),
            Content::Text(_) => None,
            _ if ours(&part) => None,
            _ => Some(part),
        })
        .collect();
    choice.logprobs = None;
    let others = choice.parts.iter().any(|part| matches!(part.content, Content::ToolCall(_)));
    choice.finish = choice.finish.take().map(|reason| finish(reason, others));
}

/// No arguments are an empty object.
fn json_of(arguments: &str) -> &str {
    if arguments.is_empty() { "{}" } else { arguments }
}

/// The call was the answer; only calls of other tools are waiting for the caller.
fn finish(reason: FinishReason, others: bool) -> FinishReason {
    if reason == FinishReason::ToolCalls && !others { FinishReason::Stop } else { reason }
}
