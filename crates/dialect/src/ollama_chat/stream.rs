//! Lines with the next piece each; the last says `done`.

use farebox_types::Usage;

use super::{
    error,
    response::finish,
    types::{Line, NAME, ToolCall},
};
use crate::{
    canonical::{Delta, Event, FinishReason, PartId, PartKind},
    decoder::{Verdict, Wire},
    dialect::DialectName,
    framing::Frame,
    json::RawJson,
};

#[derive(Default)]
pub(super) struct Events {
    started: bool,
    parts: u32,
    calls: u32,
    /// A text or a thought (`true`) that may go on.
    open: Option<(PartId, bool)>,
    finish: Option<FinishReason>,
}

impl Events {
    pub(super) fn step(&mut self, line: Line<'_>, out: &mut Vec<Event>) {
        if !self.started {
            self.started = true;
            let model = line.model.unwrap_or_default();
            out.push(Event::Started { id: String::new(), model, created: None });
        }
        if let Some(message) = line.message {
            self.text(message.thinking, true, out);
            self.text(message.content, false, out);
            if let (Some(items), Some((id, false))) = (line.logprobs, self.open) {
                out.extend(logprobs(&items).map(|raw| Event::Delta { id, delta: Delta::Logprobs(raw) }));
            }
            for call in message.tool_calls.into_iter().flatten() {
                self.call(call, line.created_at.as_deref(), out);
            }
        }
        if line.done == Some(true) {
            let usage = Usage { input: line.prompt_eval_count, output: line.eval_count, ..Usage::default() };
            out.extend(usage.is_reported().then_some(Event::Usage(usage)));
            self.finish = Some(finish(line.done_reason, self.calls > 0));
        }
    }

    /// `false`: no line has said `done`.
    pub(super) fn close(&mut self, out: &mut Vec<Event>) -> bool {
        self.end(out);
        let finish = self.finish.take();
        let finished = finish.is_some();
        out.extend(finish.map(|reason| Event::Finish { choice: 0, reason, stop_sequence: None }));
        finished
    }

    fn text(&mut self, piece: Option<String>, thought: bool, out: &mut Vec<Event>) {
        let Some(piece) = piece.filter(|piece| !piece.is_empty()) else {
            return;
        };
        let id = match self.open {
            Some((id, kind)) if kind == thought => id,
            _ => {
                self.end(out);
                let id = self.start(if thought { PartKind::Reasoning } else { PartKind::Text }, out);
                let origin = Delta::Origin { dialect: NAME, id: None };
                out.extend(thought.then_some(Event::Delta { id, delta: origin }));
                self.open = Some((id, thought));
                id
            }
        };
        out.push(Event::Delta { id, delta: if thought { Delta::Reasoning(piece) } else { Delta::Text(piece) } });
    }

    fn call(&mut self, call: ToolCall<'_>, created_at: Option<&str>, out: &mut Vec<Event>) {
        self.end(out);
        let id = call.id.filter(|id| !id.is_empty()).unwrap_or_else(|| self.call_id(created_at));
        self.calls += 1;
        let arguments = call.function.arguments.map_or("{}", |raw| raw.get()).to_owned();
        let id = self.start(PartKind::ToolCall { id, name: call.function.name }, out);
        out.push(Event::Delta { id, delta: Delta::Args(arguments) });
        out.push(Event::PartEnd { id });
    }

    /// An id for a call that came without one: its place in this answer, and the line's time, so that it is another one
    /// in the next turn of the conversation.
    fn call_id(&self, created_at: Option<&str>) -> String {
        let time: String = created_at.unwrap_or_default().chars().filter(char::is_ascii_digit).take(24).collect();
        if time.is_empty() { format!("call_{}", self.calls) } else { format!("call_{time}_{}", self.calls) }
    }

    fn start(&mut self, kind: PartKind, out: &mut Vec<Event>) -> PartId {
        let id = PartId(self.parts);
        self.parts += 1;
        out.push(Event::PartStart { id, choice: 0, kind });
        id
    }

    fn end(&mut self, out: &mut Vec<Event>) {
        out.extend(self.open.take().map(|(id, _)| Event::PartEnd { id }));
    }
}

/// The items are OpenAI's own.
fn logprobs(items: &[RawJson]) -> Option<RawJson> {
    let items: Vec<&str> = items.iter().map(RawJson::as_str).collect();
    if items.is_empty() {
        None
    } else {
        RawJson::new(format!("{{\"content\":[{}],\"refusal\":null}}", items.join(",")))
    }
}

impl Wire for Events {
    const DIALECT: DialectName = NAME;
    const TERMINAL: &'static str = "`done`";
    const FINISH: &'static str = "`done_reason`";

    fn interpret(&mut self, frame: Frame<'_>, out: &mut Vec<Event>) -> Verdict {
        let mut line: Line<'_> = match serde_json::from_slice(frame.data) {
            Ok(line) => line,
            Err(error) => return Verdict::Corrupt(format!("a line cannot be read: {error}")),
        };
        if let Some(error) = line.error.take() {
            return Verdict::Refused(error::in_place(error.get()));
        }
        self.step(line, out);
        if self.finish.is_some() { Verdict::Terminal } else { Verdict::Understood }
    }

    fn is_terminal(&self, frame: Frame<'_>) -> bool {
        serde_json::from_slice::<Line<'_>>(frame.data).is_ok_and(|line| line.done == Some(true))
    }

    fn complete(&mut self, out: &mut Vec<Event>) -> bool {
        self.close(out)
    }
}
