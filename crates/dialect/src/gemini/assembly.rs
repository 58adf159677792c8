//! A function call that comes in pieces, as Vertex streams it where it is asked to
//! (<https://cloud.google.com/vertex-ai/generative-ai/docs/multimodal/function-calling>): its name first, then values for
//! places in its arguments; texts go on where they were. Its arguments are whole once it does not continue.

use std::fmt::Write as _;

use super::types::{FunctionCall, PartialArg};

/// Values nested deeper than this are taken as corrupt; so are lists that leave out places.
const MAX_DEPTH: usize = 64;

pub(super) struct Assembly {
    pub(super) id: Option<String>,
    pub(super) name: String,
    pub(super) signature: Option<String>,
    arguments: Node,
}

/// A value that is being put together. Names stand in the order in which they came, numbers as they are written.
enum Node {
    Object(Vec<(String, Node)>),
    List(Vec<Node>),
    Text(String),
    /// JSON as it is.
    Plain(String),
}

impl Assembly {
    pub(super) fn new(call: &FunctionCall<'_>, signature: Option<String>) -> Option<Assembly> {
        let name = call.name.clone()?;
        let id = call.id.clone().filter(|id| !id.is_empty());
        Some(Assembly { id, name, signature, arguments: Node::Object(Vec::new()) })
    }

    /// Puts a value into its place.
    pub(super) fn take(&mut self, piece: &PartialArg<'_>) -> Result<(), String> {
        let place = piece.json_path.as_deref().unwrap_or_default();
        let wrong = || format!("`{}` is no place for an argument", place.chars().take(80).collect::<String>());
        let steps = steps(place).ok_or_else(wrong)?;
        let node = steps.into_iter().try_fold(&mut self.arguments, Node::step).ok_or_else(wrong)?;
        match (&piece.string_value, piece.plain(), &mut *node) {
            (Some(more), _, Node::Text(text)) => text.push_str(more),
            (Some(text), ..) => *node = Node::Text(text.clone()),
            (None, Some(plain), _) => *node = Node::Plain(plain.to_owned()),
            (None, None, _) => {}
        }
        Ok(())
    }

    /// The arguments so far, as JSON.
    pub(super) fn arguments(&self) -> String {
        let mut out = String::new();
        self.arguments.write(&mut out);
        out
    }
}

enum Step {
    Member(String),
    Item(usize),
}

/// `$.a[0].b`, taken apart.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if steps.len() >= MAX_DEPTH {
            return None;
        }
        if let Some(member) = rest.strip_prefix('.') {
            let end = member.find(['.', '[']).unwrap_or(member.len());
            steps.push(Step::Member(member.get(..end).filter(|name| !name.is_empty())?.to_owned()));
            rest = &member[end..];
        } else {
            let (inside, after) = rest.strip_prefix('[')?.split_once(']')?;
            let quoted = |mark: char| inside.strip_prefix(mark).and_then(|text| text.strip_suffix(mark));
            steps.push(match quoted('\'').or_else(|| quoted('"')) {
                Some(name) => Step::Member(name.to_owned()),
                None => Step::Item(inside.parse().ok()?),
            });
            rest = after;
        }
    }
    Some(steps)
}

impl Node {
    const NOTHING: Node = Node::Plain(String::new());

    /// What stands in this place, made where nothing does.
    fn step(&mut self, step: Step) -> Option<&mut Node> {
        if matches!(self, Node::Plain(text) if text.is_empty()) {
            *self = match step {
                Step::Member(_) => Node::Object(Vec::new()),
                Step::Item(_) => Node::List(Vec::new()),
            };
        }
        match (self, step) {
            (Node::Object(members), Step::Member(name)) => {
                let at = members.iter().position(|(other, _)| *other == name).unwrap_or_else(|| {
                    members.push((name, Node::NOTHING));
                    members.len() - 1
                });
                members.get_mut(at).map(|(_, node)| node)
            }
            (Node::List(items), Step::Item(at)) => {
                if at == items.len() {
                    items.push(Node::NOTHING);
                }
                items.get_mut(at)
            }
            _ => None,
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Node::Object(members) => {
                out.push('{');
                for (at, (name, node)) in members.iter().enumerate() {
                    // Writing to a string does not fail.
                    let _ = write!(out, "{}{}:", if at > 0 { "," } else { "" }, serde_json::Value::from(name.as_str()));
                    node.write(out);
                }
                out.push('}');
            }
            Node::List(items) => {
                out.push('[');
                for (at, node) in items.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    node.write(out);
                }
                out.push(']');
            }
            Node::Text(text) => out.push_str(&serde_json::Value::from(text.as_str()).to_string()),
            Node::Plain(text) => out.push_str(if text.is_empty() { "null" } else { text }),
        }
    }
}
