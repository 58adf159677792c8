//! Names of tools that every provider takes. Callers' own may be longer, or hold other characters: what comes from MCP
//! servers does. Such a tool is sent under another name, and what the model calls by it comes back under its own.

use std::collections::{HashMap, HashSet};

use crate::canonical::{Call, Completion, Content, Event, Message, PartKind, Role, ToolChoice};

/// <https://platform.openai.com/docs/api-reference/chat/create#chat-create-tools>; none takes less.
const LONGEST: usize = 64;

/// The tools of one call that are sent under other names.
pub(crate) struct Renamed {
    sent: HashMap<String, String>,
    own: HashMap<String, String>,
}

impl Renamed {
    /// `None`: all names are sent as they are.
    pub(crate) fn of(call: &Call) -> Option<Renamed> {
        let called = call.messages.iter().flat_map(|message| &message.parts).filter_map(|part| match &part.content {
            Content::ToolCall(call) => Some(call.name.as_str()),
            _ => None,
        });
        let (fit, odd): (Vec<&str>, Vec<&str>) =
            call.tools.iter().map(|tool| tool.name.as_str()).chain(called).partition(|name| fits(name));
        if odd.is_empty() {
            return None;
        }
        let mut names = Names::beside(fit);
        let (mut sent, mut own) = (HashMap::new(), HashMap::new());
        for name in odd {
            if !sent.contains_key(name) {
                let other = names.next(name);
                own.insert(other.clone(), name.to_owned());
                sent.insert(name.to_owned(), other);
            }
        }
        Some(Renamed { sent, own })
    }

    /// The call as it is sent.
    pub(crate) fn apply(&self, call: &Call) -> Call {
        let mut call = call.clone();
        call.tools.iter_mut().for_each(|tool| self.send(&mut tool.name));
        if let Some(ToolChoice::Named(name)) = &mut call.tool_choice {
            self.send(name);
        }
        for Message { role, name, parts, .. } in &mut call.messages {
            name.iter_mut().filter(|_| *role == Role::Tool).for_each(|name| self.send(name));
            for part in parts {
                if let Content::ToolCall(call) = &mut part.content {
                    self.send(&mut call.name);
                }
            }
        }
        call
    }

    fn send(&self, name: &mut String) {
        if let Some(sent) = self.sent.get(name) {
            name.clone_from(sent);
        }
    }

    /// A whole answer in the caller's names.
    pub(crate) fn restore(&self, completion: &mut Completion) {
        for part in completion.choices.iter_mut().flat_map(|choice| &mut choice.parts) {
            if let Content::ToolCall(call) = &mut part.content {
                self.give_back(&mut call.name);
            }
        }
    }

    /// A streamed one.
    pub(crate) fn restore_event(&self, event: &mut Event) {
        if let Event::PartStart { kind: PartKind::ToolCall { name, .. }, .. } = event {
            self.give_back(name);
        }
    }

    fn give_back(&self, name: &mut String) {
        if let Some(own) = self.own.get(name) {
            name.clone_from(own);
        }
    }
}

fn fits(name: &str) -> bool {
    name.len() <= LONGEST && name.chars().all(is_taken)
}

fn is_taken(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// Makes names that are taken everywhere, each another one.
#[derive(Default)]
pub(crate) struct Names {
    given: HashSet<String>,
    /// By the ends of names: however many are alike, each number is tried once.
    numbers: HashMap<String, usize>,
}

impl Names {
    /// Beside those that are there already.
    pub(crate) fn beside<'a>(given: impl IntoIterator<Item = &'a str>) -> Names {
        Names { given: given.into_iter().map(str::to_owned).collect(), numbers: HashMap::new() }
    }

    /// The one that is nearest to the one that is wanted.
    pub(crate) fn next(&mut self, wanted: &str) -> String {
        const DIGITS: usize = 8;
        let wanted: String = wanted.chars().map(|c| if is_taken(c) { c } else { '_' }).collect();
        let mut free = cut(&wanted, LONGEST);
        while self.given.contains(&free) {
            let number = self.numbers.entry(cut(&wanted, LONGEST - DIGITS)).or_insert(1);
            *number += 1;
            let number = format!("_{number}");
            free = format!("{}{number}", cut(&wanted, LONGEST - number.len()));
        }
        self.given.insert(free.clone());
        free
    }
}

/// The end says which tool it is; the beginning is its server's or its group's. Gemini wants no digit in front.
fn cut(name: &str, longest: usize) -> String {
    let end = &name[name.len().saturating_sub(longest)..];
    match end.as_bytes().first() {
        Some(first) if first.is_ascii_alphabetic() || *first == b'_' => end.to_owned(),
        _ => format!("_{}", &name[name.len().saturating_sub(longest - 1)..]),
    }
}
