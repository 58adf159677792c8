//! `message_start` … `message_stop`: <https://docs.anthropic.com/en/api/messages-streaming>.

use serde_json::value::RawValue;

use super::{
    citations, error,
    response::stop_reason,
    types::{Block, Delta as WireDelta, NAME, Start, StreamEvent, Usage},
    usage,
};
use crate::{
    canonical::{Delta, Event, Extra, FinishReason, PartId, PartKind},
    decoder::{Verdict, Wire},
    dialect::DialectName,
    framing::{Frame, event_stream},
    json::{RawJson, Strict},
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
    block: OpenBlock,
}

enum OpenBlock {
    Part {
        id: PartId,
        /// The deltas that fit it, besides signatures.
        deltas: &'static [&'static str],
        signature: String,
        /// A tool call's input as the block announced it; it counts only if no piece of input follows.
        input: Option<String>,
    },
    /// Only its own dialect understands it: it is handed on when it is whole.
    Held { kind: String, members: Extra, input: String },
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

    fn next_id(&mut self) -> PartId {
        let id = PartId(self.parts);
        self.parts += 1;
        id
    }

    fn begin(&mut self, index: u32, raw: &RawValue, out: &mut Vec<Event>) -> Step {
        if !self.started {
            return Err("a block begins before the message".to_owned());
        }
        if self.open.len() >= MAX_OPEN || self.open.iter().any(|open| open.index == index) {
            return Err(format!("block {index} begins again, or too many are open"));
        }
        let unreadable = |error: serde_json::Error| format!("a block cannot be read: {error}");
        let block: Block<'_> = serde_json::from_str(raw.get()).map_err(unreadable)?;
        let mut first = Vec::new();
        let mut input = None;
        let kind = match block.kind.as_str() {
            "text" => {
                first.extend(block.text.filter(|t| !t.is_empty()).map(Delta::Text));
                let cited = block.citations.and_then(citations::read).unwrap_or_default();
                first.extend(cited.into_iter().map(|citation| Delta::Citation(Box::new(citation))));
                PartKind::Text
            }
            "thinking" => {
                first.push(Delta::Origin { dialect: NAME, id: None });
                first.extend(block.thinking.filter(|t| !t.is_empty()).map(Delta::Reasoning));
                PartKind::Reasoning
            }
            "redacted_thinking" => {
                first.push(Delta::Origin { dialect: NAME, id: None });
                first.push(Delta::Encrypted(block.data.unwrap_or_default()));
                PartKind::Reasoning
            }
            "tool_use" => {
                input = Some(block.input.map_or("{}", |raw| raw.get()).to_owned());
                let (Some(id), Some(name)) = (block.id, block.name) else {
                    return Err("a tool call has no id or no name".to_owned());
                };
                PartKind::ToolCall { id, name }
            }
            _ => {
                let members = serde_json::from_str(raw.get()).map_err(unreadable)?;
                let block = OpenBlock::Held { kind: block.kind, members, input: String::new() };
                self.open.push(Open { index, block });
                return Ok(());
            }
        };
        let deltas: &[&str] = match kind {
            PartKind::Reasoning => &["thinking_delta"],
            PartKind::ToolCall { .. } => &["input_json_delta"],
            _ => &["text_delta", "citations_delta"],
        };
        let id = self.next_id();
        out.push(Event::PartStart { id, choice: 0, kind });
        out.extend(first.into_iter().map(|delta| Event::Delta { id, delta }));
        let block = OpenBlock::Part { id, deltas, signature: block.signature.unwrap_or_default(), input };
        self.open.push(Open { index, block });
        Ok(())
    }

    /// `Ok(Some(type))`: a delta of a type that has no meaning here.
    fn extend(&mut self, index: u32, raw: &RawValue, out: &mut Vec<Event>) -> Result<Option<String>, String> {
        let Some(open) = self.open.iter_mut().find(|open| open.index == index) else {
            return Err(format!("block {index} goes on without a beginning"));
        };
        let unreadable = |error: serde_json::Error| format!("a delta cannot be read: {error}");
        let delta: WireDelta<'_> = serde_json::from_str(raw.get()).map_err(unreadable)?;
        let kind = delta.kind.unwrap_or_default();
        let (id, deltas, signature, input) = match &mut open.block {
            OpenBlock::Part { id, deltas, signature, input } => (*id, *deltas, signature, input),
            OpenBlock::Held { members, input, .. } => {
                match delta.partial_json.filter(|_| kind == "input_json_delta") {
                    Some(piece) => input.push_str(&piece),
                    None => grow(members, serde_json::from_str(raw.get()).map_err(unreadable)?),
                }
                return Ok(None);
            }
        };
        let piece = match kind.as_str() {
            "text_delta" => delta.text.filter(|text| !text.is_empty()).map(Delta::Text),
            "thinking_delta" => delta.thinking.filter(|text| !text.is_empty()).map(Delta::Reasoning),
            "input_json_delta" => delta.partial_json.filter(|text| !text.is_empty()).map(Delta::Args),
            "citations_delta" => {
                let citation = delta.citation.and_then(citations::one).ok_or("a citation cannot be read")?;
                Some(Delta::Citation(Box::new(citation)))
            }
            "signature_delta" => {
                signature.push_str(&delta.signature.unwrap_or_default());
                None
            }
            _ => return Ok(Some(kind)),
        };
        if piece.is_some() && !deltas.contains(&kind.as_str()) {
            return Err(format!("block {index} is not of the kind of its `{kind}`"));
        }
        if matches!(piece, Some(Delta::Args(_))) {
            *input = None;
        }
        out.extend(piece.map(|delta| Event::Delta { id, delta }));
        Ok(None)
    }

    fn end(&mut self, index: u32, out: &mut Vec<Event>) -> Step {
        let Some(at) = self.open.iter().position(|open| open.index == index) else {
            return Err(format!("block {index} ends without a beginning"));
        };
        let open = self.open.remove(at);
        self.close(open.block, out);
        Ok(())
    }

    fn close(&mut self, block: OpenBlock, out: &mut Vec<Event>) {
        match block {
            OpenBlock::Part { id, signature, input, .. } => {
                if !signature.is_empty() {
                    out.push(Event::Delta { id, delta: Delta::Signature(signature) });
                }
                out.extend(input.map(|input| Event::Delta { id, delta: Delta::Args(input) }));
                out.push(Event::PartEnd { id });
            }
            OpenBlock::Held { kind, mut members, input } => {
                if let Some(input) = RawJson::new(input) {
                    members.insert("input".to_owned(), input);
                }
                let whole = serde_json::to_string(&members).ok().and_then(RawJson::new);
                let id = self.next_id();
                let raw = whole.expect("members that were read as JSON can be written as JSON");
                out.push(Event::PartStart { id, choice: 0, kind: PartKind::Other { dialect: NAME, kind, raw } });
                out.push(Event::PartEnd { id });
            }
        }
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
                return self.extend(index, event.delta.ok_or_else(missing)?, out);
            }
            "content_block_stop" => self.end(event.index.ok_or_else(missing)?, out)?,
            "message_delta" if !self.started => return Err("a message ends before it begins".to_owned()),
            "message_delta" => {
                self.usage(event.usage, out);
                let Some(raw) = event.delta else {
                    return Ok(None);
                };
                let Strict(delta): Strict<WireDelta<'_>> =
                    serde_json::from_str(raw.get()).map_err(|e| format!("a delta cannot be read: {e}"))?;
                if let Some(reason) = delta.stop_reason {
                    self.finish = Some((stop_reason(reason), delta.stop_sequence));
                }
            }
            "ping" => {}
            _ => return Ok(Some(event.kind)),
        }
        Ok(None)
    }
}

/// A delta of a block that is held: its texts go on, its other members replace.
fn grow(members: &mut Extra, delta: Extra) {
    let text = |raw: &RawJson| serde_json::from_str::<String>(raw.as_str()).ok();
    for (name, more) in delta.into_iter().filter(|(name, _)| name != "type") {
        let longer = members.get(&name).and_then(text).zip(text(&more)).map(|(known, more)| known + &more);
        let longer = longer.and_then(|text| RawJson::new(serde_json::Value::from(text).to_string()));
        members.insert(name, longer.unwrap_or(more));
    }
}

fn read(data: &[u8]) -> serde_json::Result<StreamEvent<'_>> {
    serde_json::from_slice(data)
}

impl Wire for Events {
    const DIALECT: DialectName = NAME;
    const TERMINAL: &'static str = "`message_stop`";
    const FINISH: &'static str = "`stop_reason`";

    fn interpret(&mut self, frame: Frame<'_>, out: &mut Vec<Event>) -> Verdict {
        if let Some(name) = event_stream::exception(&frame) {
            return Verdict::Refused(error::exception(name, frame.data));
        }
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
            self.close(open.block, out);
        }
        let finish = self.finish.take();
        let finished = finish.is_some();
        out.extend(finish.map(|(reason, stop_sequence)| Event::Finish { choice: 0, reason, stop_sequence }));
        finished
    }
}
