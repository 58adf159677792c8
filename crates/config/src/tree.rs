//! A config as a tree in which every value knows where it comes from.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle};

use crate::{
    fault::{Origin, PlacedFault},
    path::{Path, Step},
};

/// Bounds what a file may grow to when its aliases are expanded.
const MAX_NODES: usize = 100_000;

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
    /// Found faulty: left out, so that the rest can be checked.
    pub(crate) removed: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// As written, with what YAML takes it for.
    Scalar {
        text: String,
        kind: Scalar,
    },
    Seq(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_origin: Origin,
    pub(crate) node: Node,
}

/// The core schema of YAML 1.2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text,
}

impl Scalar {
    pub(crate) fn of_plain(text: &str) -> Scalar {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
            "true" | "True" | "TRUE" => return Scalar::Bool(true),
            "false" | "False" | "FALSE" => return Scalar::Bool(false),
            _ => {}
        }
        let radix = |prefix, radix| u64::from_str_radix(text.strip_prefix(prefix)?, radix).ok();
        if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)) {
            return Scalar::Unsigned(number);
        }
        if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
            return Scalar::Text;
        }
        if let Ok(number) = text.parse() {
            return Scalar::Unsigned(number);
        }
        if let Ok(number) = text.parse() {
            return Scalar::Signed(number);
        }
        let numeric = |b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        match text.parse() {
            Ok(number) if text.bytes().all(numeric) => Scalar::Float(number),
            _ => Scalar::Text,
        }
    }
}

impl Node {
    pub(crate) fn new(value: Value, origin: Origin) -> Node {
        Node { value, origin, removed: false }
    }

    pub(crate) fn empty_map(origin: Origin) -> Node {
        Node::new(Value::Map(Vec::new()), origin)
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Value::Scalar { kind: Scalar::Null, .. })
    }

    pub(crate) fn child(&self, step: &Step) -> Option<&Node> {
        match (&self.value, step) {
            (Value::Map(entries), Step::Key(key)) => entries.iter().find(|e| e.key == *key).map(|e| &e.node),
            (Value::Seq(items), Step::Index(index)) => items.get(*index),
            _ => None,
        }
    }

    pub(crate) fn child_mut(&mut self, step: &Step) -> Option<&mut Node> {
        match (&mut self.value, step) {
            (Value::Map(entries), Step::Key(key)) => entries.iter_mut().find(|e| e.key == *key).map(|e| &mut e.node),
            (Value::Seq(items), Step::Index(index)) => items.get_mut(*index),
            _ => None,
        }
    }

    pub(crate) fn at_mut(&mut self, path: &Path) -> Option<&mut Node> {
        path.0.iter().try_fold(self, |node, step| node.child_mut(step))
    }

    /// The origin of what stands at `path`, or of the nearest thing around it.
    pub(crate) fn origin_of(&self, path: &Path) -> Origin {
        let mut node = self;
        for step in &path.0 {
            match node.child(step) {
                Some(child) => node = child,
                None => break,
            }
        }
        node.origin.clone()
    }

    /// The origin of the key at `path`, for faults that are about the key itself.
    pub(crate) fn key_origin_of(&self, path: &Path) -> Option<Origin> {
        let (last, parents) = path.0.split_last()?;
        let parent = parents.iter().try_fold(self, |node, step| node.child(step))?;
        match (&parent.value, last) {
            (Value::Map(entries), Step::Key(key)) => {
                entries.iter().find(|e| e.key == *key).map(|e| e.key_origin.clone())
            }
            _ => None,
        }
    }
}

/// Reads one YAML document. An empty one is an empty map.
pub(crate) fn parse(name: &str, text: &str) -> Result<Node, Vec<PlacedFault>> {
    let mut reader = Reader {
        name,
        stack: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        root: None,
        documents: 0,
        faults: Vec::new(),
    };
    for next in Parser::new_from_str(text) {
        let (event, span) = match next {
            Ok(next) => next,
            Err(error) => {
                let place = reader.place(*error.marker());
                reader.fault(place, format!("this is not valid YAML: {}", error.info()));
                break;
            }
        };
        reader.event(event, span.start);
        if reader.nodes > MAX_NODES {
            let place = reader.place(span.start);
            reader.fault(place, format!("the file holds more than {MAX_NODES} values"));
            break;
        }
    }
    let start = Origin::File { name: name.to_owned(), line: 1, column: 1 };
    match reader.faults {
        faults if !faults.is_empty() => Err(faults),
        _ => Ok(reader.root.filter(|root| !root.is_null()).unwrap_or_else(|| Node::empty_map(start))),
    }
}

struct Reader<'a> {
    name: &'a str,
    stack: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
    documents: usize,
    faults: Vec<PlacedFault>,
}

/// A collection that has not ended yet.
struct Open {
    node: Node,
    anchor: usize,
    key: Option<(String, Origin)>,
}

impl Reader<'_> {
    fn place(&self, mark: Marker) -> Origin {
        Origin::File { name: self.name.to_owned(), line: mark.line(), column: mark.col() + 1 }
    }

    fn fault(&mut self, origin: Origin, message: String) {
        self.faults.push(PlacedFault { origin, path: Path::default(), message });
    }

    fn event(&mut self, event: Event<'_>, at: Marker) {
        let origin = self.place(at);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.fault(origin, "a config is one YAML document, this is a second one".into());
                }
            }
            Event::Scalar(text, style, anchor, _) => {
                let kind = match style {
                    ScalarStyle::Plain => Scalar::of_plain(&text),
                    _ => Scalar::Text,
                };
                let text = text.into_owned();
                self.add(Node::new(Value::Scalar { text, kind }, origin), anchor);
            }
            Event::SequenceStart(_, anchor, _) => self.open(Value::Seq(Vec::new()), origin, anchor),
            Event::MappingStart(_, anchor, _) => self.open(Value::Map(Vec::new()), origin, anchor),
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.stack.pop() {
                    self.add(open.node, open.anchor);
                }
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => {
                    self.nodes += size(&node);
                    self.add(node, 0);
                }
                None => self.fault(origin, "an alias may not stand inside what it refers to".into()),
            },
            _ => {}
        }
    }

    fn open(&mut self, value: Value, origin: Origin, anchor: usize) {
        self.stack.push(Open { node: Node::new(value, origin), anchor, key: None });
    }

    fn add(&mut self, node: Node, anchor: usize) {
        self.nodes += 1;
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.stack.last_mut() else {
            self.root.get_or_insert(node);
            return;
        };
        let entries = match &mut open.node.value {
            Value::Seq(items) => return items.push(node),
            Value::Map(entries) => entries,
            Value::Scalar { .. } => return,
        };
        let Some((key, key_origin)) = open.key.take() else {
            match node.value {
                Value::Scalar { text, .. } => open.key = Some((text, node.origin)),
                _ => {
                    open.key = Some((String::new(), node.origin.clone()));
                    self.fault(node.origin, "a key must be a plain word, not a list or a map".into());
                }
            }
            return;
        };
        if let Some(first) = entries.iter().find(|e| e.key == key) {
            let message = format!("`{key}` stands here a second time, the first is at {}", first.key_origin);
            self.fault(key_origin, message);
            return;
        }
        entries.push(Entry { key, key_origin, node });
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::Scalar { .. } => 1,
        Value::Seq(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|e| size(&e.node)).sum::<usize>(),
    }
}
