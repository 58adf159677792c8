//! What the environment and the flags lay over the file.

use crate::{
    fault::{Origin, PlacedFault},
    path::{Path, Step},
    tree::{Entry, Node, Scalar, Value, parse},
};

pub(crate) fn sections(root: &Node) -> impl Iterator<Item = &str> {
    let entries = if let Value::Map(entries) = &root.value { entries.as_slice() } else { &[] };
    entries.iter().map(|entry| entry.key.as_str())
}

/// Puts sections of `given` where those of `root` were.
pub(crate) fn replace(root: &mut Node, given: Node, sections: &[String]) -> Result<(), PlacedFault> {
    let replaced = |entry: &Entry| sections.contains(&entry.key);
    let Value::Map(given) = given.value else {
        let message = "expected a map of sections".to_owned();
        return Err(PlacedFault { origin: given.origin, path: Path::default(), message });
    };
    // A file that is no map is a fault that is found where it is read.
    if let Value::Map(entries) = &mut root.value {
        entries.retain(|entry| !replaced(entry));
        entries.extend(given.into_iter().filter(replaced));
    }
    Ok(())
}

/// Whether Kubernetes, not a person, set this variable: a service called `farebox` or `farebox-…` makes it set
/// `FAREBOX_SERVICE_HOST`, `FAREBOX_PORT`, `FAREBOX_PORT_4000_TCP` and the like in every container.
pub(crate) fn is_service_link(rest: &str, value: &str) -> bool {
    if rest.contains("__") {
        return false;
    }
    let numbered_port =
        rest.match_indices("PORT_").any(|(at, word)| rest[at + word.len()..].starts_with(|c: char| c.is_ascii_digit()));
    let address = value.starts_with("tcp://") || value.starts_with("udp://");
    rest.contains("SERVICE_HOST")
        || rest.contains("SERVICE_PORT")
        || numbered_port
        || (rest.ends_with("PORT") && address)
}

/// `LISTEN__HTTP` as the steps into the config; a key that is there already wins over the spelling (`AZURE_EU` finds
/// `azure-eu`).
pub(crate) fn set_from_environment(root: &mut Node, name: &str, rest: &str, value: &str) -> Result<(), PlacedFault> {
    let words: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
    set(root, &words, parse_value(value), &Origin::Environment(name.to_owned()))
}

pub(crate) fn set_from_flag(root: &mut Node, path: &str, value: &str) -> Result<(), PlacedFault> {
    let words: Vec<String> = Path::parse(path)
        .0
        .into_iter()
        .map(|step| match step {
            Step::Key(key) => key,
            Step::Index(index) => index.to_string(),
        })
        .collect();
    set(root, &words, parse_value(value), &Origin::Flag(path.to_owned()))
}

/// A scalar as YAML reads it, or a list or map in brackets.
fn parse_value(text: &str) -> Value {
    if text.starts_with(['[', '{', '"', '\''])
        && let Ok(node) = parse("", text)
    {
        return node.value;
    }
    Value::Scalar { kind: Scalar::of_plain(text), text: text.to_owned() }
}

fn set(root: &mut Node, words: &[String], value: Value, origin: &Origin) -> Result<(), PlacedFault> {
    let mut path = Path::default();
    let mut node = root;
    for word in words {
        if word.is_empty() {
            return Err(PlacedFault {
                origin: origin.clone(),
                path,
                message: "the name has an empty level: levels are separated by exactly two underscores".into(),
            });
        }
        if node.is_null() {
            *node = Node::empty_map(origin.clone());
        }
        node = match &mut node.value {
            Value::Map(entries) => {
                let exact = entries.iter().position(|e| e.key == *word);
                let at = exact.or_else(|| entries.iter().position(|e| same_word(&e.key, word)));
                let at = at.unwrap_or_else(|| {
                    entries.push(Entry {
                        key: word.clone(),
                        key_origin: origin.clone(),
                        node: Node::empty_map(origin.clone()),
                    });
                    entries.len() - 1
                });
                path = path.key(entries[at].key.clone());
                &mut entries[at].node
            }
            Value::Seq(items) => {
                let index = word.parse().ok().filter(|index| *index <= items.len());
                let Some(index) = index else {
                    return Err(PlacedFault {
                        origin: origin.clone(),
                        message: format!("`{word}` is no place in a list of {}", items.len()),
                        path,
                    });
                };
                if index == items.len() {
                    items.push(Node::empty_map(origin.clone()));
                }
                path = path.index(index);
                &mut items[index]
            }
            Value::Scalar { .. } => {
                return Err(PlacedFault {
                    message: format!(
                        "cannot set `{word}` below it: it is a single value, set at {}; write it as a map there",
                        node.origin
                    ),
                    origin: origin.clone(),
                    path,
                });
            }
        };
    }
    *node = Node::new(value, origin.clone());
    inherit(node, origin);
    Ok(())
}

/// The parts of a bracketed value come from where the whole comes from.
fn inherit(node: &mut Node, origin: &Origin) {
    node.origin = origin.clone();
    match &mut node.value {
        Value::Scalar { .. } => {}
        Value::Seq(items) => items.iter_mut().for_each(|item| inherit(item, origin)),
        Value::Map(entries) => {
            for entry in entries {
                entry.key_origin = origin.clone();
                inherit(&mut entry.node, origin);
            }
        }
    }
}

/// Environment variables cannot spell capitals and hyphens.
fn same_word(key: &str, word: &str) -> bool {
    key.to_lowercase().replace(['-', '.'], "_") == word.to_lowercase().replace(['-', '.'], "_")
}
