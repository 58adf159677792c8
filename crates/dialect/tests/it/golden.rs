//! Golden files that a person can read: JSON in as few lines as fit.

use std::fmt::Write as _;

use serde_json::Value;

const WIDTH: usize = 116;

/// A value on one line if it fits, else one line for each member or item. `used`: how much of the line is taken.
fn value(given: &Value, indent: usize, used: usize, out: &mut String) {
    let line = given.to_string();
    let (open, close, items): (_, _, Vec<(String, &Value)>) = match given {
        Value::Object(members) if used + line.len() > WIDTH => {
            ('{', '}', members.iter().map(|(key, item)| (format!("{}: ", Value::from(key.as_str())), item)).collect())
        }
        Value::Array(items) if used + line.len() > WIDTH => {
            ('[', ']', items.iter().map(|item| (String::new(), item)).collect())
        }
        _ => return out.push_str(&line),
    };
    out.push(open);
    let inner = indent + 2;
    for (at, (key, item)) in items.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        write!(out, "{comma}\n{:inner$}{key}", "").unwrap();
        value(item, inner, inner + key.len() + 1, out);
    }
    write!(out, "\n{:indent$}{close}", "").unwrap();
}

pub(crate) fn json(given: &Value) -> String {
    let mut out = String::new();
    value(given, 0, 0, &mut out);
    out
}

/// Sections with the same words under one heading.
pub(crate) fn sections(all: Vec<(String, String)>) -> String {
    let mut told: Vec<(String, String)> = Vec::new();
    for (title, text) in all {
        match told.iter_mut().find(|(_, known)| *known == text) {
            Some((titles, _)) => write!(titles, "; {title}").unwrap(),
            None => told.push((title, text)),
        }
    }
    told.into_iter().map(|(titles, text)| format!("## {titles}\n{}\n\n", text.trim_end())).collect()
}

/// One file, in a folder beside the other snapshots.
pub(crate) fn compare(folder: &str, name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(format!("snapshots/{folder}"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}
