//! `chat.completion.chunk` objects, up to `[DONE]`.

use super::{
    response::finish_reason,
    types::{Chunk, ChunkChoice, NAME, ToolCall},
    usage,
};
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    canonical::{Delta, Event, FinishReason, PartId, PartKind},
    decoder::{Verdict, Wire},
    dialect::DialectName,
    framing::Frame,
    json::RawJson,
    openai_error,
};

/// More choices or tool calls than this in one answer are taken as a corrupt stream.
const MAX_OPEN: usize = 1024;

#[derive(Default)]
pub(super) struct Chunks {
    started: bool,
    parts: u32,
    /// Said in every chunk; told on once.
    tier: Option<String>,
    choices: Vec<Open>,
}

#[derive(Default)]
struct Open {
    index: u32,
    /// The part that text of this kind extends. Text, refusal and reasoning follow each other, tool calls stay open.
    prose: Option<(PartId, Prose)>,
    /// The wire's number of each tool call.
    tools: Vec<(u32, PartId)>,
    finish: Option<FinishReason>,
}

#[derive(Clone, Copy, PartialEq)]
enum Prose {
    Text,
    Refusal,
    Reasoning,
}

impl Chunks {
    fn next_id(&mut self) -> PartId {
        self.parts += 1;
        PartId(self.parts - 1)
    }

    fn choice(&mut self, index: u32) -> Option<usize> {
        if let Some(at) = self.choices.iter().position(|c| c.index == index) {
            return Some(at);
        }
        if self.choices.len() >= MAX_OPEN {
            return None;
        }
        self.choices.push(Open { index, ..Open::default() });
        Some(self.choices.len() - 1)
    }

    fn prose(&mut self, at: usize, kind: Prose, text: String, out: &mut Vec<Event>) {
        if text.is_empty() {
            return;
        }
        let id = match self.choices[at].prose {
            Some((id, open)) if open == kind => id,
            _ => {
                self.close_prose(at, out);
                let id = self.next_id();
                self.choices[at].prose = Some((id, kind));
                let part = match kind {
                    Prose::Text => PartKind::Text,
                    Prose::Refusal => PartKind::Refusal,
                    Prose::Reasoning => PartKind::Reasoning,
                };
                out.push(Event::PartStart { id, choice: self.choices[at].index, kind: part });
                id
            }
        };
        let delta = if kind == Prose::Reasoning { Delta::Reasoning(text) } else { Delta::Text(text) };
        out.push(Event::Delta { id, delta });
    }

    fn close_prose(&mut self, at: usize, out: &mut Vec<Event>) {
        if let Some((id, _)) = self.choices[at].prose.take() {
            out.push(Event::PartEnd { id });
        }
    }

    fn tool(&mut self, at: usize, call: ToolCall, out: &mut Vec<Event>) -> Result<(), String> {
        let function = call.function;
        let (name, arguments) = function.map(|f| (f.name, f.arguments)).unwrap_or_default();
        let known = match call.index {
            Some(index) => self.choices[at].tools.iter().find(|(i, _)| *i == index).map(|(_, id)| *id),
            // Servers that leave the number out send each call whole, with its id.
            None if call.id.is_none() => self.choices[at].tools.last().map(|(_, id)| *id),
            None => None,
        };
        let id = match known {
            Some(id) => id,
            None => {
                let (Some(call_id), Some(name)) = (call.id, name) else {
                    return Err("a tool call begins without id or name".to_owned());
                };
                if self.choices[at].tools.len() >= MAX_OPEN {
                    return Err("it has too many tool calls".to_owned());
                }
                self.close_prose(at, out);
                let id = self.next_id();
                let open = &mut self.choices[at];
                let number = open.tools.iter().map(|(i, _)| i.saturating_add(1)).max().unwrap_or(0);
                open.tools.push((call.index.unwrap_or(number), id));
                let kind = PartKind::ToolCall { id: call_id, name };
                out.push(Event::PartStart { id, choice: open.index, kind });
                id
            }
        };
        if let Some(piece) = arguments.filter(|piece| !piece.is_empty()) {
            out.push(Event::Delta { id, delta: Delta::Args(piece) });
        }
        Ok(())
    }

    fn piece(&mut self, piece: ChunkChoice, out: &mut Vec<Event>) -> Result<(), String> {
        let at = self.choice(piece.index).ok_or("it has too many choices")?;
        if let Some(delta) = piece.delta {
            let reasoning = delta.reasoning_content.filter(|t| !t.0.is_empty()).or(delta.reasoning);
            for (kind, text) in [
                (Prose::Reasoning, reasoning.map(|t| t.0)),
                (Prose::Text, delta.content.map(|t| t.0)),
                (Prose::Refusal, delta.refusal),
            ] {
                self.prose(at, kind, text.unwrap_or_default(), out);
            }
            for call in delta.tool_calls.unwrap_or_default() {
                self.tool(at, call, out)?;
            }
        }
        if let (Some(raw), Some((id, _))) = (piece.logprobs, self.choices[at].prose) {
            out.push(Event::Delta { id, delta: Delta::Logprobs(RawJson::from(&*raw)) });
        }
        if let Some(word) = piece.finish_reason.filter(|word| !word.is_empty()) {
            self.choices[at].finish = Some(finish_reason(word));
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
            return Verdict::Refused(openai_error::in_place(error.get()));
        }
        let Some(choices) = chunk.choices.or_else(|| chunk.usage.map(|_| Vec::new())) else {
            return Verdict::Unknown(frame.event.to_owned());
        };
        // Azure opens with a chunk about the prompt alone: no id, no choice.
        let id = chunk.id.unwrap_or_default();
        if !self.started && (!id.is_empty() || !choices.is_empty()) {
            self.started = true;
            let model = chunk.model.unwrap_or_default();
            out.push(Event::Started { id, model, created: chunk.created });
        }
        for piece in choices {
            if let Err(problem) = self.piece(piece, out) {
                return Verdict::Corrupt(problem);
            }
        }
        if chunk.service_tier.is_some() && chunk.service_tier != self.tier {
            self.tier.clone_from(&chunk.service_tier);
            out.extend(chunk.service_tier.map(Event::ServiceTier));
        }
        if let Some(wire) = chunk.usage {
            out.push(Event::Usage(usage::normalise(&wire)));
        }
        Verdict::Understood
    }

    fn is_terminal(&self, frame: Frame<'_>) -> bool {
        frame.data.trim_ascii() == b"[DONE]"
    }

    /// Everything of a choice ends here, not at its `finish_reason`: servers repeat that, and send pieces after it.
    fn complete(&mut self, out: &mut Vec<Event>) -> bool {
        for at in 0..self.choices.len() {
            self.close_prose(at, out);
            let tools = std::mem::take(&mut self.choices[at].tools);
            out.extend(tools.into_iter().map(|(_, id)| Event::PartEnd { id }));
        }
        let finished = !self.choices.is_empty() && self.choices.iter().all(|c| c.finish.is_some());
        if finished {
            out.extend(self.choices.iter_mut().filter_map(|c| {
                let reason = c.finish.take()?;
                Some(Event::Finish { choice: c.index, reason, stop_sequence: None })
            }));
        }
        finished
    }
}

/// The terminal mark and errors stay here; so does the chunk that only carries usage, where the caller did not ask for it
/// (<https://platform.openai.com/docs/api-reference/chat/create#chat-create-stream_options>).
pub(super) fn passes(frame: Frame<'_>, include_usage: bool) -> bool {
    let data = frame.data;
    data.trim_ascii() != b"[DONE]" && !is_error(data) && (include_usage || !is_usage_only(data))
}

fn is_error(data: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Failed {
        error: Option<IgnoredAny>,
    }
    // Most chunks do not even hold the word.
    data.windows(7).any(|window| window == b"\"error\"")
        && serde_json::from_slice::<Failed>(data).map_or(true, |frame| frame.error.is_some())
}

fn is_usage_only(data: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct UsageOnly {
        choices: Vec<IgnoredAny>,
        usage: Option<IgnoredAny>,
    }
    serde_json::from_slice::<UsageOnly>(data).is_ok_and(|chunk| chunk.choices.is_empty() && chunk.usage.is_some())
}
