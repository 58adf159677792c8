//! A model that does what it is told, so that a client of any kind can be led through what it can do by its prompt alone.
//!
//! In the last turn of the user or in a tool's result, in double square brackets:
//!
//! | order | what the model does |
//! |---|---|
//! | `[[call NAME JSON]]` | calls this tool, if it was offered; several orders: several calls. Without JSON: with what its schema asks for |
//! | `[[say TEXT]]` | answers exactly this |
//! | `[[wait MS]]` | begins so late |
//! | `[[slow MS PIECES]]` | takes so long between so many pieces |
//! | `[[silent MS PIECES]]` | says nothing for so long after so many pieces |
//! | `[[cut PIECES ID]]` | breaks a stream off after so many; with an id only the first that has it |
//! | `[[refuse STATUS TEXT]]` | the provider refuses |
//! | `[[once STATUS SECONDS ID]]` | it refuses the first request with this id, to be repeated after so long |
//!
//! Without an order it calls the tool that it must call, fills the schema that it must follow, tells what its tools said, or
//! what was said to it and how many images it sees. At Anthropic it searches by itself where it must use the provider's
//! search, or has no other tool.

use std::{collections::HashSet, time::Duration};

use serde_json::{Map, Value};

use crate::{
    Answer, Fault, Refusal, Reply, Script, ToolCall,
    asked::{Asked, Choice, Said, Tool},
};

const THOUGHT: &str = "The emulator thinks about what it was told.";
const TOLD: usize = 400;
/// A schema that refers to itself ends somewhere.
const DEEPEST: usize = 12;

/// The script of this one request. `spent` are the ids whose one refusal is over.
pub(crate) fn obey(asked: &Asked, seq: u64, spent: &mut HashSet<String>) -> Script {
    let mut script = Script::default();
    let thinking = asked.thinks.then(|| THOUGHT.to_owned());
    let mut reply = Reply { thinking, search: asked.search().map(str::to_owned), ..Reply::default() };
    let mut said = None;
    for order in orders(asked) {
        let (word, rest) = order.split_once(' ').unwrap_or((order, ""));
        match word {
            "call" => reply.tool_calls.extend(call(asked, rest, seq, reply.tool_calls.len())),
            "say" => said = Some(rest.to_owned()),
            "wait" => script.delay = Duration::from_millis(numbers(rest).0),
            "slow" => {
                let (pace, pieces) = numbers(rest);
                script = script.pace(Duration::from_millis(pace)).chunks(usize::try_from(pieces).unwrap_or(1));
            }
            "silent" => {
                let (silence, pieces) = numbers(rest);
                script = script.silent_after(usize::try_from(pieces).unwrap_or(1), Duration::from_millis(silence));
            }
            "cut" if asked.streams && (!rest.contains(' ') || spent.insert(rest.to_owned())) => {
                script.fault = Fault::CutAfter(usize::try_from(numbers(rest).0).unwrap_or(1));
            }
            "refuse" => return refuse(rest, None),
            "once" if spent.insert(rest.to_owned()) => {
                return refuse(rest, Some(Duration::from_secs(numbers(rest).1)));
            }
            _ => {}
        }
    }
    if reply.tool_calls.is_empty() {
        reply.tool_calls.extend(forced(asked, seq));
    }
    if !asked.parallel {
        reply.tool_calls.truncate(1);
    }
    reply.text = match (said, &asked.schema) {
        (Some(said), _) => said,
        (None, _) if !reply.tool_calls.is_empty() => String::new(),
        (None, Some(schema)) => instance(schema, schema, DEEPEST).to_string(),
        (None, None) => told(asked),
    };
    script.answer = Answer::Reply(reply);
    script
}

fn orders(asked: &Asked) -> impl Iterator<Item = &str> {
    let texts = asked.turn.iter().filter_map(|said| match said {
        Said::Text(text) | Said::Result(_, text) => Some(text.as_str()),
        _ => None,
    });
    texts.flat_map(|text| text.split("[[").skip(1).filter_map(|rest| Some(rest.split_once("]]")?.0)))
}

fn numbers(text: &str) -> (u64, u64) {
    let mut numbers = text.split(' ').map(|word| word.parse().unwrap_or(1));
    (numbers.next().unwrap_or(1), numbers.next().unwrap_or(1))
}

fn refuse(order: &str, retry_after: Option<Duration>) -> Script {
    let (status, message) = order.split_once(' ').unwrap_or((order, ""));
    let message = if retry_after.is_some() { "Rate limit reached for requests" } else { message };
    let status = status.parse().unwrap_or(400);
    let refusal = Refusal { status, message: message.to_owned(), retry_after, body: None };
    Script { answer: Answer::Refuse(refusal), ..Script::default() }
}

fn call(asked: &Asked, order: &str, seq: u64, number: usize) -> Option<ToolCall> {
    let (name, arguments) = order.split_once(' ').unwrap_or((order, ""));
    let tool = asked.tools.iter().find(|tool| tool.name == name).filter(|_| asked.choice != Choice::None)?;
    Some(tool_call(tool, Some(arguments).filter(|a| !a.is_empty()), seq, number))
}

fn forced(asked: &Asked, seq: u64) -> Option<ToolCall> {
    let tool = match &asked.choice {
        Choice::Any => asked.tools.first(),
        Choice::Named(name) => asked.tools.iter().find(|tool| tool.name == *name),
        Choice::Free | Choice::None => None,
    };
    tool.map(|tool| tool_call(tool, None, seq, 0))
}

fn tool_call(tool: &Tool, arguments: Option<&str>, seq: u64, number: usize) -> ToolCall {
    let arguments = arguments.map_or_else(|| instance(&tool.schema, &tool.schema, DEEPEST).to_string(), str::to_owned);
    ToolCall { id: format!("call_emu{seq}_{number}"), name: tool.name.clone(), arguments }
}

fn told(asked: &Asked) -> String {
    let mut results = Vec::new();
    let mut text = "";
    let mut images = Vec::new();
    for said in &asked.turn {
        match said {
            Said::Result(_, result) => results.push(result.as_str()),
            Said::Text(words) => text = words,
            Said::Image(image) => images.push(image.as_str()),
            Said::Call(_) | Said::Model => {}
        }
    }
    let mut told = match results.as_slice() {
        [] => format!("You said: {}", text.chars().take(TOLD).collect::<String>()),
        results => format!("The tools said: {}", results.join(" | ").chars().take(TOLD).collect::<String>()),
    };
    if !images.is_empty() {
        told.push_str(&format!(" I see {} ({}).", images.len(), images.join(", ")));
    }
    if let Some(id) = &asked.follows {
        told.push_str(&format!(" This follows {id}."));
    }
    told
}

/// A value that a JSON schema allows, with every property that it names.
fn instance(root: &Value, schema: &Value, deepest: usize) -> Value {
    if deepest == 0 {
        return Value::Null;
    }
    let within = |schema: &Value| instance(root, schema, deepest - 1);
    if let Some(path) = schema["$ref"].as_str().and_then(|at| at.strip_prefix('#')) {
        return root.pointer(path).map_or(Value::Null, within);
    }
    let given = [&schema["const"], &schema["enum"][0]].into_iter().find(|value| !value.is_null());
    if let Some(given) = given {
        return given.clone();
    }
    for name in ["anyOf", "oneOf", "allOf"] {
        let mut choices = schema[name].as_array().into_iter().flatten();
        if let Some(choice) = choices.find(|choice| choice["type"] != "null") {
            return within(choice);
        }
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
        kind => kind.as_str(),
    };
    match kind.unwrap_or("object").to_ascii_lowercase().as_str() {
        "string" => "text".into(),
        "integer" => schema["minimum"].as_i64().unwrap_or(1).into(),
        "number" => schema["minimum"].as_f64().unwrap_or(1.5).into(),
        "boolean" => true.into(),
        "array" => Value::Array(vec![within(&schema["items"])]),
        "null" => Value::Null,
        _ => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            Value::Object(properties.map(|(name, of)| (name.clone(), within(of))).collect::<Map<_, _>>())
        }
    }
}
