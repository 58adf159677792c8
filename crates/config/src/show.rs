//! The effective config as YAML, each value with its origin.

use serde::Serialize;
use serde_json::Value as Json;

use crate::{
    fault::{ConfigError, Origin},
    path::Path,
    tree::{Node, Scalar, Value},
};

pub(crate) fn show<T: Serialize>(value: &T, tree: &Node) -> Result<String, ConfigError> {
    let json = serde_json::to_value(value)
        .map_err(|error| ConfigError::one(Origin::Default, format!("it cannot be shown: {error}")))?;
    let mut printer = Printer { tree, out: String::new() };
    match &json {
        Json::Object(entries) if !entries.is_empty() => printer.block(&json, &Path::default(), 0),
        other => {
            printer.out.push_str(&flow(other));
            printer.out.push('\n');
        }
    }
    Ok(printer.out)
}

/// The origin of what stands at `path`. What lies inside of a short form comes from where the short form stands; what
/// nobody wrote is a default.
pub(crate) fn origin(tree: &Node, path: &Path) -> Origin {
    let mut node = tree;
    for step in &path.0 {
        match (node.child(step), &node.value) {
            (Some(child), _) => node = child,
            (None, Value::Scalar { .. }) if !node.is_null() => break,
            (None, _) => return Origin::Default,
        }
    }
    node.origin.clone()
}

struct Printer<'a> {
    tree: &'a Node,
    out: String,
}

impl Printer<'_> {
    fn block(&mut self, value: &Json, path: &Path, indent: usize) {
        match value {
            Json::Object(entries) => {
                for (key, value) in entries {
                    let lead = format!("{:indent$}{}:", "", text(key));
                    self.entry(&lead, value, &path.clone().key(key.clone()), indent + 2);
                }
            }
            Json::Array(items) => {
                for (i, value) in items.iter().enumerate() {
                    let lead = format!("{:indent$}-", "");
                    self.entry(&lead, value, &path.clone().index(i), indent + 2);
                }
            }
            _ => {}
        }
    }

    fn entry(&mut self, lead: &str, value: &Json, path: &Path, indent: usize) {
        let nested = match value {
            Json::Object(entries) => !entries.is_empty(),
            Json::Array(items) => items.iter().any(|item| item.is_object() || item.is_array()),
            _ => false,
        };
        self.out.push_str(lead);
        if nested {
            self.out.push('\n');
            self.block(value, path, indent);
            return;
        }
        let origin = origin(self.tree, path);
        self.out.push_str(&format!(" {}  # {origin}\n", flow(value)));
    }
}

/// On one line.
fn flow(value: &Json) -> String {
    match value {
        Json::Null => "null".into(),
        Json::Bool(given) => given.to_string(),
        Json::Number(given) => given.to_string(),
        Json::String(given) => text(given),
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(_) => "{}".into(),
    }
}

/// Plain where YAML reads the same text back, quoted otherwise.
fn text(given: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ' ');
    let is_plain = given.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
        && !given.ends_with([' ', ':'])
        && given.chars().all(|c| safe(c) || c == ':')
        && !given.contains(": ")
        && Scalar::of_plain(given) == Scalar::Text;
    if is_plain { given.to_owned() } else { Json::String(given.to_owned()).to_string() }
}
