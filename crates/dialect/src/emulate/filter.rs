//! The way back of a streamed answer.

use std::collections::HashMap;

use super::finish;
use crate::canonical::{Delta, Event, PartId, PartKind};

/// Turns the call of the tool into text, event by event.
///
/// Text that comes before the call is chatter, but only the call tells: from its first text on, a choice is held back,
/// until the call comes (its text is dropped) or the choice ends (its text is the answer). Parts are numbered anew.
#[derive(Debug)]
pub struct Filter {
    tool: String,
    next: u32,
    parts: HashMap<PartId, (u32, Route)>,
    choices: HashMap<u32, Held>,
}

/// Where the events of a part go.
#[derive(Clone, Copy, Debug)]
enum Route {
    /// On, under this id.
    Live(PartId),
    /// Into the choice's queue.
    Held,
    /// On, as the text of the answer. `empty`: nothing of it has come yet.
    Answer {
        id: PartId,
        empty: bool,
    },
    Dropped,
}

#[derive(Debug, Default)]
struct Held {
    queue: Vec<Event>,
    answered: bool,
    /// Calls of other tools.
    others: bool,
}

impl Filter {
    pub(super) fn new(tool: String) -> Filter {
        Filter { tool, next: 0, parts: HashMap::new(), choices: HashMap::new() }
    }

    pub fn push(&mut self, event: Event, out: &mut Vec<Event>) {
        match event {
            Event::PartStart { id, choice, kind } => self.start(id, choice, kind, out),
            Event::Delta { id, delta } => self.delta(id, delta, out),
            Event::PartEnd { id } => self.end(id, out),
            Event::Finish { choice, reason, stop_sequence } => {
                self.release(choice, false, out);
                let held = self.choices.remove(&choice).unwrap_or_default();
                let reason = if held.answered { finish(reason, held.others) } else { reason };
                out.push(Event::Finish { choice, reason, stop_sequence });
            }
            other => out.push(other),
        }
    }

    fn start(&mut self, id: PartId, choice: u32, kind: PartKind, out: &mut Vec<Event>) {
        let ours = matches!(&kind, PartKind::ToolCall { name, .. } if *name == self.tool);
        let held = self.choices.entry(choice).or_default();
        if ours && !held.answered {
            held.answered = true;
            self.release(choice, true, out);
            let answer = self.next_id();
            self.parts.insert(id, (choice, Route::Answer { id: answer, empty: true }));
            out.push(Event::PartStart { id: answer, choice, kind: PartKind::Text });
            return;
        }
        let text = kind == PartKind::Text;
        if ours || (text && held.answered) {
            self.parts.insert(id, (choice, Route::Dropped));
            return;
        }
        held.others |= matches!(kind, PartKind::ToolCall { .. });
        if text || !held.queue.is_empty() {
            held.queue.push(Event::PartStart { id, choice, kind });
            self.parts.insert(id, (choice, Route::Held));
        } else {
            self.begin(id, choice, kind, out);
        }
    }

    fn delta(&mut self, id: PartId, delta: Delta, out: &mut Vec<Event>) {
        let Some((choice, route)) = self.parts.get_mut(&id) else { return };
        match (route, delta) {
            (Route::Live(id), delta) => out.push(Event::Delta { id: *id, delta }),
            (Route::Held, delta) => {
                let held = self.choices.entry(*choice).or_default();
                held.queue.push(Event::Delta { id, delta });
            }
            (Route::Answer { id, empty }, Delta::Args(json)) => {
                *empty &= json.is_empty();
                out.push(Event::Delta { id: *id, delta: Delta::Text(json) });
            }
            (Route::Answer { .. } | Route::Dropped, _) => {}
        }
    }

    fn end(&mut self, id: PartId, out: &mut Vec<Event>) {
        let Some((choice, route)) = self.parts.get(&id).copied() else { return };
        match route {
            Route::Live(id) => out.push(Event::PartEnd { id }),
            Route::Held => self.choices.entry(choice).or_default().queue.push(Event::PartEnd { id }),
            Route::Answer { id, empty } => {
                if empty {
                    out.push(Event::Delta { id, delta: Delta::Text(super::json_of("").to_owned()) });
                }
                out.push(Event::PartEnd { id });
            }
            Route::Dropped => {}
        }
    }

    /// Hands on what was held back of a choice, with or without its text.
    fn release(&mut self, choice: u32, without_text: bool, out: &mut Vec<Event>) {
        let queue = self.choices.get_mut(&choice).map(|held| std::mem::take(&mut held.queue)).unwrap_or_default();
        for event in queue {
            match event {
                Event::PartStart { id, kind: PartKind::Text, .. } if without_text => {
                    self.parts.insert(id, (choice, Route::Dropped));
                }
                Event::PartStart { id, choice, kind } => self.begin(id, choice, kind, out),
                Event::Delta { id, delta } => self.delta(id, delta, out),
                Event::PartEnd { id } => self.end(id, out),
                _ => {}
            }
        }
    }

    fn begin(&mut self, id: PartId, choice: u32, kind: PartKind, out: &mut Vec<Event>) {
        let live = self.next_id();
        self.parts.insert(id, (choice, Route::Live(live)));
        out.push(Event::PartStart { id: live, choice, kind });
    }

    fn next_id(&mut self) -> PartId {
        self.next += 1;
        PartId(self.next - 1)
    }
}
