//! Chunks up to `[DONE]`, in both directions.

use bytes::Bytes;
use farebox_types::Usage;
use serde::{Deserialize, de::IgnoredAny};

use super::{
    NAME,
    answer::{Rendered, RenderedChoice, Wire as Chunk, WireChoice, bytes, finish_reason, finish_word, rendered_usage},
};
use crate::{
    canonical::{Delta, Event, FinishReason, PartId, PartKind},
    decoder::{Verdict, Wire},
    dialect::{DialectName, Stamp, StreamEncoder},
    framing::Frame,
    openai_error as error,
    openai_responses::usage,
};

/// More choices in one answer than this are taken as a corrupt stream.
const MAX_OPEN: usize = 1024;

#[derive(Default)]
pub(super) struct Chunks {
    started: bool,
    parts: u32,
    choices: Vec<Open>,
}

struct Open {
    index: u32,
    part: Option<PartId>,
    finish: Option<FinishReason>,
}

impl Chunks {
    fn piece(&mut self, piece: WireChoice, out: &mut Vec<Event>) -> Result<(), String> {
        let at = match self.choices.iter().position(|open| open.index == piece.index) {
            Some(at) => at,
            None if self.choices.len() >= MAX_OPEN => return Err("it has too many choices".to_owned()),
            None => {
                self.choices.push(Open { index: piece.index, part: None, finish: None });
                self.choices.len() - 1
            }
        };
        let open = &mut self.choices[at];
        if let Some(text) = piece.text.filter(|text| !text.is_empty()) {
            let id = *open.part.get_or_insert_with(|| {
                let id = PartId(self.parts);
                self.parts += 1;
                out.push(Event::PartStart { id, choice: piece.index, kind: PartKind::Text });
                id
            });
            out.push(Event::Delta { id, delta: Delta::Text(text) });
        }
        if let (Some(raw), Some(id)) = (piece.logprobs, open.part) {
            out.push(Event::Delta { id, delta: Delta::Logprobs(raw) });
        }
        if let Some(word) = piece.finish_reason.filter(|word| !word.is_empty()) {
            open.finish = Some(finish_reason(word));
        }
        Ok(())
    }
}

impl Wire for Chunks {
    const DIALECT: DialectName = NAME;
    const TERMINAL: &'static str = "`[DONE]`";
    const FINISH: &'static str = "`finish_reason`";

    fn interpret(&mut self, frame: Frame<'_>, out: &mut Vec<Event>) -> Verdict {
        if self.is_terminal(frame) {
            return Verdict::Terminal;
        }
        let chunk: Chunk<'_> = match serde_json::from_slice(frame.data) {
            Ok(chunk) => chunk,
            Err(error) => return Verdict::Corrupt(format!("a chunk cannot be read: {error}")),
        };
        if let Some(error) = chunk.error {
            return Verdict::Refused(error::in_place(error.get()));
        }
        let Some(choices) = chunk.choices.or_else(|| chunk.usage.map(|_| Vec::new())) else {
            return Verdict::Unknown(frame.event.to_owned());
        };
        if !std::mem::replace(&mut self.started, true) {
            let (id, model) = (chunk.id.unwrap_or_default(), chunk.model.unwrap_or_default());
            out.push(Event::Started { id, model, created: chunk.created });
        }
        for piece in choices {
            if let Err(problem) = self.piece(piece, out) {
                return Verdict::Corrupt(problem);
            }
        }
        out.extend(chunk.usage.as_ref().map(|wire| Event::Usage(usage::normalise(wire))));
        Verdict::Understood
    }

    fn is_terminal(&self, frame: Frame<'_>) -> bool {
        frame.data.trim_ascii() == b"[DONE]"
    }

    fn complete(&mut self, out: &mut Vec<Event>) -> bool {
        out.extend(self.choices.iter_mut().filter_map(|open| Some(Event::PartEnd { id: open.part.take()? })));
        let finished = !self.choices.is_empty() && self.choices.iter().all(|open| open.finish.is_some());
        if finished {
            out.extend(self.choices.iter_mut().filter_map(|open| {
                let reason = open.finish.take()?;
                Some(Event::Finish { choice: open.index, reason, stop_sequence: None })
            }));
        }
        finished
    }
}

/// The terminal mark stays here; so does the chunk that only carries usage, where the caller did not ask for it.
pub(super) fn passes(frame: Frame<'_>, include_usage: bool) -> bool {
    #[derive(Deserialize)]
    struct Parts {
        choices: Option<Vec<IgnoredAny>>,
        usage: Option<IgnoredAny>,
    }
    let is_usage_only = || {
        serde_json::from_slice::<Parts>(frame.data)
            .is_ok_and(|chunk| chunk.choices.is_none_or(|choices| choices.is_empty()) && chunk.usage.is_some())
    };
    frame.data.trim_ascii() != b"[DONE]" && (include_usage || !is_usage_only())
}

/// One stream towards a caller.
pub(super) struct Render {
    stamp: Stamp,
    include_usage: bool,
    model: String,
    usage: Usage,
    /// Parts that are text, and whose.
    open: Vec<(PartId, u32)>,
}

impl Render {
    pub(super) fn new(include_usage: bool, stamp: Stamp) -> Render {
        let model = stamp.model.clone().unwrap_or_default();
        Render { stamp, include_usage, model, usage: Usage::default(), open: Vec::new() }
    }

    fn write(&self, choice: Option<RenderedChoice<'_>>) -> Bytes {
        let last = choice.is_none();
        bytes(&Rendered {
            id: &self.stamp.id,
            object: "text_completion",
            created: self.stamp.created,
            model: &self.model,
            choices: choice.into_iter().collect(),
            usage: self.include_usage.then(|| rendered_usage(&self.usage).filter(|_| last)),
        })
    }

    fn piece(&self, id: PartId, delta: &Delta) -> Option<Bytes> {
        let (_, index) = *self.open.iter().find(|(open, _)| *open == id)?;
        let (text, logprobs) = match delta {
            Delta::Text(text) => (text.as_str(), None),
            Delta::Logprobs(raw) => ("", Some(raw)),
            _ => return None,
        };
        Some(self.write(Some(RenderedChoice { text, index, logprobs, finish_reason: None })))
    }
}

impl StreamEncoder for Render {
    fn name(&self) -> DialectName {
        NAME
    }

    fn encode(&mut self, event: &Event, out: &mut Vec<Bytes>) {
        match event {
            Event::Started { model, .. } if self.stamp.model.is_none() => self.model.clone_from(model),
            Event::PartStart { id, choice, kind: PartKind::Text | PartKind::Refusal } => {
                self.open.push((*id, *choice));
            }
            Event::Delta { id, delta } => out.extend(self.piece(*id, delta)),
            Event::PartEnd { id } => self.open.retain(|(open, _)| open != id),
            Event::Usage(usage) => self.usage = *usage,
            Event::Finish { choice, reason, .. } => {
                let finish_reason = Some(finish_word(reason));
                out.push(self.write(Some(RenderedChoice { text: "", index: *choice, logprobs: None, finish_reason })));
            }
            // An error is the caller's final message, which whoever runs the stream renders.
            _ => {}
        }
    }

    fn finish(&mut self, out: &mut Vec<Bytes>) {
        if self.include_usage {
            out.push(self.write(None));
        }
    }
}
