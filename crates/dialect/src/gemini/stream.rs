//! Every event is an answer of the same form: each candidate's next parts, and usage so far. There is no terminal event.

use serde_json::value::RawValue;

use super::{
    assembly::Assembly,
    error,
    grounding::Sources,
    response::{self, Piece},
    types::{Candidate as WireCandidate, Chunk, FunctionCall, NAME, Usage, Word},
    usage,
};
use crate::{
    canonical::{Delta, Event, FinishReason, PartId, PartKind},
    decoder::{Verdict, Wire},
    dialect::DialectName,
    framing::Frame,
};

/// More candidates than this are taken as a corrupt stream.
const MAX_CANDIDATES: usize = 64;
/// So much of an answer's id makes a tool call's id its own.
const ID_PREFIX: usize = 24;

#[derive(Default)]
pub(super) struct Events {
    /// The answer's id and model, once it has begun.
    started: Option<(String, String)>,
    parts: u32,
    calls: u32,
    candidates: Vec<Candidate>,
    usage: Usage,
    searches: Option<u64>,
    tier: Option<String>,
}

#[derive(Default)]
struct Candidate {
    index: u32,
    open: Option<Open>,
    /// A call that has not come to its end.
    assembly: Option<Assembly>,
    sources: Sources,
    called: bool,
    finish: Option<Word>,
    blocked: bool,
}

/// A text or a thought that may go on.
struct Open {
    id: PartId,
    thought: bool,
    text: String,
    /// A signature ends the part that it proves: what follows is another part.
    signed: bool,
}

type Step = Result<(), String>;

impl Events {
    pub(super) fn step(&mut self, chunk: Chunk<'_>, out: &mut Vec<Event>) -> Step {
        let blocked = chunk.is_blocked();
        if self.started.is_none() {
            let (id, model) = (chunk.response_id.unwrap_or_default(), chunk.model_version.unwrap_or_default());
            out.push(Event::Started { id: id.clone(), model: model.clone(), created: None });
            self.started = Some((id, model));
        }
        for wire in chunk.candidates.into_iter().flatten() {
            self.candidate(wire, out)?;
        }
        if blocked && self.candidates.is_empty() {
            self.candidates.push(Candidate { blocked: true, ..Candidate::default() });
        }
        if let Some(usage) = chunk.usage_metadata {
            self.usage(usage, out);
        }
        Ok(())
    }

    /// Every candidate has said why it finished, and there is one.
    pub(super) fn is_finished(&self) -> bool {
        !self.candidates.is_empty() && self.candidates.iter().all(|c| c.blocked || c.finish.is_some())
    }

    /// Closes what is open and says what was held back.
    pub(super) fn close(&mut self, out: &mut Vec<Event>) {
        (0..self.candidates.len()).for_each(|at| self.end_call(at, out));
        for mut candidate in std::mem::take(&mut self.candidates) {
            candidate.end(out);
            let reason = match candidate.finish {
                _ if candidate.blocked => FinishReason::ContentFilter,
                Some(word) => response::finish(word, candidate.called),
                None => continue,
            };
            out.push(Event::Finish { choice: candidate.index, reason, stop_sequence: None });
        }
    }

    fn usage(&mut self, later: Usage, out: &mut Vec<Event>) {
        self.usage = later;
        if let Some(tier) = usage::tier(&self.usage).filter(|tier| self.tier.as_ref() != Some(tier)) {
            out.push(Event::ServiceTier(tier.clone()));
            self.tier = Some(tier);
        }
        let normal = usage::normalise(&self.usage, self.searches);
        if normal.is_reported() {
            out.push(Event::Usage(normal));
        }
    }

    fn candidate(&mut self, wire: WireCandidate<'_>, out: &mut Vec<Event>) -> Step {
        let index = wire.index.unwrap_or(0);
        let at = match self.candidates.iter().position(|c| c.index == index) {
            Some(at) => at,
            None if self.candidates.len() >= MAX_CANDIDATES => return Err("it has too many candidates".to_owned()),
            None => {
                self.candidates.push(Candidate { index, ..Candidate::default() });
                self.candidates.len() - 1
            }
        };
        for raw in wire.content.and_then(|content| content.parts).into_iter().flatten() {
            self.part(at, raw, out)?;
        }
        let candidate = &mut self.candidates[at];
        if let (Some(logprobs), Some(open)) = (wire.logprobs_result, &candidate.open) {
            out.extend(
                response::logprobs(logprobs).map(|raw| Event::Delta { id: open.id, delta: Delta::Logprobs(raw) }),
            );
        }
        if let Some(citations) = wire.citation_metadata {
            candidate.sources.cite(citations);
        }
        if wire.finish_reason.is_some() {
            candidate.finish = wire.finish_reason;
        }
        if let Some(mut grounding) = wire.grounding_metadata {
            if let Some(queries) = grounding.web_search_queries.take() {
                let model = self.started.as_ref().map_or("", |(_, model)| model);
                self.searches = Some(usage::searches(model, &queries));
            }
            candidate.sources.ground(grounding);
        }
        Ok(())
    }

    fn part(&mut self, at: usize, raw: &RawValue, out: &mut Vec<Event>) -> Step {
        let (piece, signature) = response::piece(raw)?;
        let kind = match piece {
            Piece::Text { text, thought } => {
                self.text(at, text, thought, signature, out);
                return Ok(());
            }
            Piece::OfCall(call) => return self.piece_of_call(at, &call, signature, out),
            Piece::Call { id, name, arguments } => {
                self.end_call(at, out);
                self.call(at, (id, name, arguments), signature, out);
                return Ok(());
            }
            Piece::Media(content) => PartKind::Media(Box::new(content)),
            Piece::Other { kind, raw } => PartKind::Other { dialect: NAME, kind, raw },
        };
        self.end_call(at, out);
        self.whole(at, kind, None, signature, out);
        Ok(())
    }

    /// A part that comes in one piece.
    fn whole(
        &mut self,
        at: usize,
        kind: PartKind,
        args: Option<Delta>,
        signature: Option<String>,
        out: &mut Vec<Event>,
    ) {
        self.candidates[at].end(out);
        let id = self.next_id();
        out.push(Event::PartStart { id, choice: self.candidates[at].index, kind });
        let deltas = args.into_iter().chain(signature.map(Delta::Signature));
        out.extend(deltas.map(|delta| Event::Delta { id, delta }));
        out.push(Event::PartEnd { id });
    }

    fn call(
        &mut self,
        at: usize,
        (id, name, arguments): (Option<String>, String, String),
        signature: Option<String>,
        out: &mut Vec<Event>,
    ) {
        let id = id.unwrap_or_else(|| self.call_id());
        self.calls += 1;
        self.candidates[at].called = true;
        self.whole(at, PartKind::ToolCall { id, name }, Some(Delta::Args(arguments)), signature, out);
    }

    /// A call is handed on once it is whole: its pieces name places in its arguments, which no other dialect can say.
    fn piece_of_call(
        &mut self,
        at: usize,
        call: &FunctionCall<'_>,
        signature: Option<String>,
        out: &mut Vec<Event>,
    ) -> Step {
        if let Some(begun) = Assembly::new(call, signature) {
            self.end_call(at, out);
            self.candidates[at].assembly = Some(begun);
        }
        let Some(assembly) = &mut self.candidates[at].assembly else {
            return Err("a function call goes on that has not begun".to_owned());
        };
        for piece in call.partial_args.iter().flatten() {
            assembly.take(piece)?;
        }
        if call.will_continue != Some(true) {
            self.end_call(at, out);
        }
        Ok(())
    }

    /// A call that has come to its end, by its own word or because something else follows.
    fn end_call(&mut self, at: usize, out: &mut Vec<Event>) {
        if let Some(assembly) = self.candidates[at].assembly.take() {
            let arguments = assembly.arguments();
            self.call(at, (assembly.id, assembly.name, arguments), assembly.signature, out);
        }
    }

    fn text(&mut self, at: usize, text: String, thought: bool, signature: Option<String>, out: &mut Vec<Event>) {
        if text.is_empty() && signature.is_none() {
            return;
        }
        self.end_call(at, out);
        let goes_on = self.candidates[at].open.as_ref().is_some_and(|open| open.thought == thought && !open.signed);
        if !goes_on {
            self.candidates[at].end(out);
            let id = self.next_id();
            let (choice, kind) =
                (self.candidates[at].index, if thought { PartKind::Reasoning } else { PartKind::Text });
            out.push(Event::PartStart { id, choice, kind });
            out.extend(thought.then_some(Event::Delta { id, delta: Delta::Origin { dialect: NAME, id: None } }));
            self.candidates[at].open = Some(Open { id, thought, text: String::new(), signed: false });
        }
        if let Some(open) = &mut self.candidates[at].open {
            open.text.push_str(&text);
            open.signed = signature.is_some();
            let delta = if thought { Delta::Reasoning } else { Delta::Text };
            let text = Some(text).filter(|text| !text.is_empty()).map(delta);
            let deltas = text.into_iter().chain(signature.map(Delta::Signature));
            out.extend(deltas.map(|delta| Event::Delta { id: open.id, delta }));
        }
    }

    /// An id for a call that came without one: its place in this answer, and the answer's own id, so that it is
    /// another one in the next turn of the conversation.
    fn call_id(&self) -> String {
        let answer = self.started.as_ref().map_or("", |(id, _)| id);
        let own: String =
            answer.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).take(ID_PREFIX).collect();
        if own.is_empty() { format!("call_{}", self.calls) } else { format!("call_{own}_{}", self.calls) }
    }

    fn next_id(&mut self) -> PartId {
        let id = PartId(self.parts);
        self.parts += 1;
        id
    }
}

impl Candidate {
    fn end(&mut self, out: &mut Vec<Event>) {
        let Some(Open { id, thought, text, .. }) = self.open.take() else {
            return;
        };
        if !thought {
            let citations = self.sources.take(&text).into_iter();
            out.extend(citations.map(|c| Event::Delta { id, delta: Delta::Citation(Box::new(c)) }));
        }
        out.push(Event::PartEnd { id });
    }
}

impl Wire for Events {
    const DIALECT: DialectName = NAME;
    const TERMINAL: &'static str = "`finishReason`";
    const FINISH: &'static str = "`finishReason`";

    fn interpret(&mut self, frame: Frame<'_>, out: &mut Vec<Event>) -> Verdict {
        let mut chunk: Chunk<'_> = match serde_json::from_slice(frame.data) {
            Ok(chunk) => chunk,
            Err(error) => return Verdict::Corrupt(format!("an event cannot be read: {error}")),
        };
        if let Some(error) = chunk.error.take() {
            return Verdict::Refused(error::in_place(error.get()));
        }
        match self.step(chunk, out) {
            Ok(()) => Verdict::Understood,
            Err(problem) => Verdict::Corrupt(problem),
        }
    }

    /// The last event may lack its closing mark.
    fn is_terminal(&self, frame: Frame<'_>) -> bool {
        serde_json::from_slice::<Chunk<'_>>(frame.data).is_ok_and(|chunk| {
            chunk.is_blocked() || chunk.candidates.iter().flatten().any(|c| c.finish_reason.is_some())
        })
    }

    fn ends_here(&self) -> bool {
        self.is_finished()
    }

    fn complete(&mut self, out: &mut Vec<Event>) -> bool {
        let finished = self.is_finished();
        self.close(out);
        finished
    }
}
