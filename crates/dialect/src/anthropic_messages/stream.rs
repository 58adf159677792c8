//! `message_start` … `message_stop`.

use super::{
    error,
    response::stop_reason,
    types::{Block, Delta as WireDelta, NAME, Start, StreamEvent, Usage},
    usage,
};
use crate::{
    canonical::{Delta, Event, FinishReason, PartId, PartKind},
    decoder::{Verdict, Wire},
    dialect::DialectName,
    framing::Frame,
    json::RawJson,
};

/// More blocks open at once than this are taken as a corrupt stream.
const MAX_OPEN: usize = 256;

#[derive(Default)]
pub(super) struct Events {
    started: bool,
    parts: u32,
    open: Vec<Open>,
    usage: Usage,
    tier: Option<String>,
    finish: Option<(FinishReason, Option<String>)>,
}

struct Open {
    index: u32,
    id: PartId,
    signature: String,
    /// A tool call's input as the block announced it; it counts only if no piece of input follows.
    input: Option<String>,
}

type Step = Result<(), String>;

impl Events {
    fn start(&mut self, message: Start, out: &mut Vec<Event>) -> Step {
        if self.started {
            return Err("a second message begins".to_owned());
        }
        self.started = true;
        out.push(Event::Started { id: message.id, model: message.model, created: None });
        self.usage(message.usage, out);
        Ok(())
    }

    fn usage(&mut self, later: Option<Usage>, out: &mut Vec<Event>) {
        let Some(later) = later else { return };
        usage::replace(&mut self.usage, later);
        if self.usage.service_tier.is_some() && self.usage.service_tier != self.tier {
            self.tier.clone_from(&self.usage.service_tier);
            out.extend(self.tier.clone().map(Event::ServiceTier));
        }
        out.push(Event::Usage(usage::normalise(&self.usage)));
    }

    fn begin(&mut self, index: u32, raw: &serde_json::value::RawValue, out: &mut Vec<Event>) -> Step {
        if !self.started {
            return Err("a block begins before the message".to_owned());
        }
        if self.open.len() >= MAX_OPEN || self.open.iter().any(|open| open.index == index) {
            return Err(format!("block {index} begins again, or too many are open"));
        }
        let block: Block<'_> = serde_json::from_str(raw.get()).map_err(|e| format!("a block cannot be read: {e}"))?;
        let id = PartId(self.parts);
        self.parts += 1;
        let mut open = Open { index, id, signature: block.signature.unwrap_or_default(), input: None };
        let mut first = None;
        let kind = match block.kind.as_str() {
            "text" => {
                first = block.text.filter(|t| !t.is_empty()).map(Delta::Text);
                PartKind::Text
            }
            "thinking" => {
                first = block.thinking.filter(|t| !t.is_empty()).map(Delta::Reasoning);
                PartKind::Reasoning
            }
            "redacted_thinking" => {
                first = Some(Delta::Encrypted(block.data.unwrap_or_default()));
                PartKind::Reasoning
            }
            "tool_use" => {
                open.input = Some(block.input.map_or("{}", |raw| raw.get()).to_owned());
                let (Some(id), Some(name)) = (block.id, block.name) else {
                    return Err("a tool call has no id or no name".to_owned());
                };
                PartKind::ToolCall { id, name }
            }
            _ => {
                let raw = RawJson::from(raw);
                PartKind::Other { dialect: DialectName::AnthropicMessages, kind: block.kind, raw }
            }
        };
        let reasons = matches!(kind, PartKind::Reasoning);
        out.push(Event::PartStart { id, choice: 0, kind });
        out.extend(reasons.then_some(Event::Delta { id, delta: Delta::Origin { dialect: NAME, id: None } }));
        out.extend(first.map(|delta| Event::Delta { id, delta }));
        self.open.push(open);
        Ok(())
    }

    /// `Ok(Some(type))`: a delta of a type that has no meaning here.
    fn extend(&mut self, index: u32, delta: WireDelta, out: &mut Vec<Event>) -> Result<Option<String>, String> {
        let Some(open) = self.open.iter_mut().find(|open| open.index == index) else {
            return Err(format!("block {index} goes on without a beginning"));
        };
        let kind = delta.kind.unwrap_or_default();
        let piece = match kind.as_str() {
            "text_delta" => delta.text.map(Delta::Text),
            "thinking_delta" => delta.thinking.map(Delta::Reasoning),
            "input_json_delta" => delta.partial_json.map(Delta::Args),
            "signature_delta" => {
                open.signature.push_str(&delta.signature.unwrap_or_default());
                None
            }
            _ => return Ok(Some(kind)),
        };
        match piece {
            Some(Delta::Text(text) | Delta::Reasoning(text) | Delta::Args(text)) if text.is_empty() => {}
            Some(piece) => {
                if matches!(piece, Delta::Args(_)) {
                    open.input = None;
                }
                out.push(Event::Delta { id: open.id, delta: piece });
            }
            None => {}
        }
        Ok(None)
    }

    fn end(&mut self, index: u32, out: &mut Vec<Event>) -> Step {
        let Some(at) = self.open.iter().position(|open| open.index == index) else {
            return Err(format!("block {index} ends without a beginning"));
        };
        let open = self.open.remove(at);
        close(open, out);
        Ok(())
    }

    fn step(&mut self, event: StreamEvent<'_>, out: &mut Vec<Event>) -> Result<Option<String>, String> {
        let missing = || format!("`{}` lacks a member", event.kind);
        match event.kind.as_str() {
            "message_start" => self.start(event.message.ok_or_else(missing)?, out)?,
            "content_block_start" => {
                let index = event.index.ok_or_else(missing)?;
                self.begin(index, event.content_block.ok_or_else(missing)?, out)?;
            }
            "content_block_delta" => {
                let index = event.index.ok_or_else(missing)?;
                let Some(delta) = event.delta else {
                    return Err(missing());
                };
                return self.extend(index, delta, out);
            }
            "content_block_stop" => self.end(event.index.ok_or_else(missing)?, out)?,
            "message_delta" => {
                self.usage(event.usage, out);
                let delta = event.delta.and_then(|d| d.stop_reason.map(|reason| (reason, d.stop_sequence)));
                if let Some((reason, sequence)) = delta {
                    self.finish = Some((stop_reason(reason), sequence));
                }
            }
            "ping" => {}
            _ => return Ok(Some(event.kind)),
        }
        Ok(None)
    }
}

fn close(open: Open, out: &mut Vec<Event>) {
    let id = open.id;
    if !open.signature.is_empty() {
        out.push(Event::Delta { id, delta: Delta::Signature(open.signature) });
    }
    out.extend(open.input.map(|input| Event::Delta { id, delta: Delta::Args(input) }));
    out.push(Event::PartEnd { id });
}

fn read(data: &[u8]) -> serde_json::Result<StreamEvent<'_>> {
    serde_json::from_slice(data)
}

impl Wire for Events {
    const DIALECT: DialectName = NAME;
    const TERMINAL: &'static str = "`message_stop`";
    const FINISH: &'static str = "`stop_reason`";

    fn interpret(&mut self, frame: Frame<'_>, out: &mut Vec<Event>) -> Verdict {
        let event = match read(frame.data) {
            Ok(event) => event,
            Err(error) => return Verdict::Corrupt(format!("an event cannot be read: {error}")),
        };
        match event.kind.as_str() {
            "message_stop" => return Verdict::Terminal,
            "error" => return Verdict::Refused(error::in_place(event.error.map_or("{}", |raw| raw.get()))),
            _ => {}
        }
        match self.step(event, out) {
            Ok(None) => Verdict::Understood,
            Ok(Some(kind)) => Verdict::Unknown(kind),
            Err(problem) => Verdict::Corrupt(problem),
        }
    }

    fn is_terminal(&self, frame: Frame<'_>) -> bool {
        read(frame.data).is_ok_and(|event| event.kind == "message_stop")
    }

    fn complete(&mut self, out: &mut Vec<Event>) -> bool {
        for open in std::mem::take(&mut self.open) {
            close(open, out);
        }
        let finish = self.finish.take();
        let finished = finish.is_some();
        out.extend(finish.map(|(reason, stop_sequence)| Event::Finish { choice: 0, reason, stop_sequence }));
        finished
    }
}
