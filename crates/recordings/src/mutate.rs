//! Small changes of an answer that change what it says: each must make the check fail.

use std::{collections::BTreeMap, io, path::Path};

use serde_json::Value;

use crate::{
    carried::{self, Carried},
    check::Subject,
    exchange::{self, Body, Exchange},
    meaning::{self, Meaning, Said},
    wire::Frame,
};

/// Mutants of one kind from one exchange, and places in it that are tried for them.
const EACH: usize = 3;
const TRIED: usize = 240;

/// Members that only repeat, or point to, what others say: which part a piece belongs to, what all of it adds up to, the
/// state that an event's type names.
const REPEATED: [&str; 6] = ["index", "output_index", "content_index", "total_tokens", "totalTokenCount", "status"];

/// A changed answer.
pub struct Mutant {
    /// What was changed, such as `text` or `input`.
    pub kind: &'static str,
    pub path: String,
    pub exchange: Exchange,
}

/// Changes single values in the raw answer. Only those that change its meaning are mutants; the meaning that counts is
/// still that of `exchange`.
pub fn mutants(exchange: &Exchange, subject: &Subject) -> Vec<Mutant> {
    let Ok(carried) = carried::read(exchange, subject.family, subject.host) else { return Vec::new() };
    let payloads: Vec<Value> = match &carried {
        Carried::Whole(whole) => vec![whole.clone()],
        Carried::Stream(frames) => frames.iter().map(|f| serde_json::from_str(&f.data).unwrap_or_default()).collect(),
    };
    let mut changes = Vec::new();
    for (at, payload) in payloads.iter().enumerate() {
        let mut paths = Vec::new();
        leaves(payload, &mut Vec::new(), &mut paths);
        paths.retain(|path: &Vec<String>| path.last().is_none_or(|name| !REPEATED.contains(&name.as_str())));
        changes.extend(paths.into_iter().map(|path| (at, path)));
    }
    // From both ends: text stands at the beginning, finish and usage at the end of most streams.
    let stride = (changes.len() / TRIED).max(1);
    let tail = changes.len().saturating_sub(TRIED / 2);
    let tried = changes.iter().enumerate().filter(|(n, _)| n % stride == 0 || *n >= tail).map(|(_, change)| change);
    let mut found: Vec<Mutant> = Vec::new();
    for (at, path) in tried {
        for change in [Change::Other, Change::Gone] {
            let mut payload = payloads[*at].clone();
            if !change.apply(&mut payload, path) {
                continue;
            }
            let exchange = with(exchange, subject, &carried, *at, &payload);
            let Ok(now) = meaning::read(&exchange, subject.family, subject.host) else { continue };
            let Some(kind) = changed(&subject.meaning, &now) else { continue };
            if found.iter().filter(|mutant| mutant.kind == kind).count() < EACH {
                found.push(Mutant { kind, path: format!("{at}: {}", path.join(".")), exchange });
            }
        }
    }
    found
}

#[derive(Clone, Copy)]
enum Change {
    Other,
    Gone,
}

impl Change {
    /// `false`: nothing was changed.
    fn apply(self, payload: &mut Value, path: &[String]) -> bool {
        let Some((last, outer)) = path.split_last() else { return false };
        let Some(outer) = outer.iter().try_fold(payload, |value, step| match value {
            Value::Array(items) => items.get_mut(step.parse::<usize>().ok()?),
            other => other.get_mut(step),
        }) else {
            return false;
        };
        match (self, outer) {
            (Change::Gone, Value::Object(members)) => members.shift_remove(last).is_some_and(|old| old.is_string()),
            (Change::Other, Value::Object(members)) => members.get_mut(last).is_some_and(other),
            (Change::Other, Value::Array(items)) => {
                last.parse().ok().and_then(|at: usize| items.get_mut(at)).is_some_and(other)
            }
            _ => false,
        }
    }
}

/// Another value of the same kind. Usage grows rather than shrinks: it stays above its own details.
fn other(value: &mut Value) -> bool {
    *value = match &*value {
        Value::String(text) => {
            let mut letters = text.char_indices().filter(|(_, letter)| letter.is_alphanumeric());
            let Some((at, letter)) = letters.next_back() else { return false };
            let swapped = if letter == 'x' { "y" } else { "x" };
            Value::from(format!("{}{swapped}{}", &text[..at], &text[at + letter.len_utf8()..]))
        }
        Value::Number(number) if number.is_u64() => Value::from(number.as_u64().unwrap_or(0).saturating_add(7)),
        Value::Number(number) => Value::from(number.as_f64().unwrap_or(0.0) + 0.5),
        _ => return false,
    };
    true
}

fn leaves(value: &Value, path: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
    let mut inner = |name: String, value: &Value| {
        path.push(name);
        leaves(value, path, out);
        path.pop();
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| inner(name.clone(), value)),
        Value::Array(items) => items.iter().enumerate().for_each(|(at, value)| inner(at.to_string(), value)),
        Value::String(_) | Value::Number(_) => out.push(path.clone()),
        _ => {}
    }
}

fn with(exchange: &Exchange, subject: &Subject, carried: &Carried, at: usize, payload: &Value) -> Exchange {
    match carried {
        Carried::Whole(_) => Exchange { body: Body::Json(payload.to_string()), ..exchange.clone() },
        Carried::Stream(frames) => {
            let mut frames = frames.clone();
            frames[at] = Frame { data: payload.to_string(), ..frames[at].clone() };
            carried::with_frames(exchange, &frames, subject.family, subject.host)
        }
    }
}

/// What the mutant says that the original does not. Of an answer that broke off only what was said until then counts; the
/// provider's own total alone is no part of the answer.
fn changed(was: &Meaning, is: &Meaning) -> Option<&'static str> {
    if was.error != is.error {
        // An error that has lost its name may still be known by what it says.
        let (Some(was), Some(is)) = (&was.error, &is.error) else { return None };
        return (was.message != is.message).then_some("error");
    }
    let whole = was.ended && was.error.is_none();
    if whole && (was.ended != is.ended || was.choices.len() != is.choices.len()) {
        return Some("end");
    }
    let nothing = Said::default();
    for (index, was) in &was.choices {
        let is = is.choices.get(index).unwrap_or(&nothing);
        let kinds = [
            ("text", was.text != is.text),
            ("refusal", was.refusal != is.refusal),
            ("reasoning", was.reasoning != is.reasoning),
            ("tool call", whole && was.tools != is.tools),
            ("finish", whole && was.finish != is.finish),
        ];
        if let Some((kind, _)) = kinds.into_iter().find(|(_, differs)| *differs) {
            return Some(kind);
        }
    }
    let rest = [
        ("vectors", was.vectors != is.vectors),
        ("ranking", was.ranking != is.ranking),
        ("count", was.counted != is.counted),
        ("usage", was.tokens != is.tokens),
    ];
    rest.into_iter().find(|(_, differs)| *differs).map(|(kind, _)| kind)
}

/// How many mutants of a directory's exchanges show.
#[derive(Default)]
pub struct Caught {
    kinds: BTreeMap<&'static str, (usize, usize)>,
    missed: Vec<String>,
    left_out: usize,
}

impl Caught {
    pub fn of(root: &Path) -> io::Result<Caught> {
        let mut caught = Caught::default();
        for file in exchange::files(root)? {
            let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
            match Exchange::load(&file) {
                Ok(exchange) => caught.add(&name, &exchange),
                Err(_) => caught.left_out += 1,
            }
        }
        Ok(caught)
    }

    /// An exchange that does not match as it is says nothing about its mutants.
    fn add(&mut self, name: &str, exchange: &Exchange) {
        let subject = Subject::new(exchange).ok().filter(|subject| subject.is_there());
        let Some(subject) = subject.filter(|subject| subject.against(exchange).is_empty()) else {
            self.left_out += 1;
            return;
        };
        for mutant in mutants(exchange, &subject) {
            let (caught, all) = self.kinds.entry(mutant.kind).or_default();
            *all += 1;
            if subject.against(&mutant.exchange).is_empty() {
                self.missed.push(format!("{name}: a changed {} is not seen: {}", mutant.kind, mutant.path));
            } else {
                *caught += 1;
            }
        }
    }

    pub fn all(&self) -> bool {
        self.missed.is_empty() && !self.kinds.is_empty()
    }

    /// Of which kinds there were mutants.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.kinds.keys().copied()
    }

    pub fn missed(&self) -> &[String] {
        &self.missed
    }

    pub fn write(&self, out: &mut impl io::Write) -> io::Result<()> {
        for missed in &self.missed {
            writeln!(out, "{missed}")?;
        }
        for (kind, (caught, all)) in &self.kinds {
            writeln!(out, "{kind:12} {caught} of {all}")?;
        }
        writeln!(out, "{} exchanges left out: not supported, or not matching as they are", self.left_out)?;
        let (caught, all) = self.kinds.values().fold((0, 0), |sum, kind| (sum.0 + kind.0, sum.1 + kind.1));
        writeln!(out, "{caught} of {all}")
    }
}
