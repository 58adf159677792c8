//! `response.created` … `response.completed`: <https://platform.openai.com/docs/api-reference/responses-streaming>.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    NAME,
    response::{self, Answer, Piece},
};
use crate::{
    canonical::{Content, Delta, Event, FinishReason, PartId, PartKind},
    decoder::{Verdict, Wire},
    dialect::DialectName,
    framing::Frame,
    json::{RawJson, Strict},
    openai_error as error,
};

/// More items or parts in one answer than this are taken as a corrupt stream.
const MAX_OPEN: usize = 4096;

#[derive(Default)]
pub(super) struct Events {
    started: bool,
    parts: u32,
    items: Vec<Item>,
    calls_tools: bool,
    searches: u64,
    finish: Option<FinishReason>,
}

/// An output item. Servers that skip its pieces send it whole at its end, or at the end of the answer.
struct Item {
    index: u64,
    id: Option<String>,
    settled: bool,
    slots: Vec<Slot>,
}

/// A part of ours within an item.
struct Slot {
    content: u64,
    id: PartId,
    says: Says,
    said: bool,
    cited: usize,
    /// Which of the two forms of reasoning is told on, and the number of its paragraph.
    thought: Option<(bool, u64)>,
}

/// What the pieces of a part are. A server that sends others into it has mixed up its numbers.
#[derive(Clone, Copy, PartialEq)]
enum Says {
    Words,
    Thoughts,
    Arguments,
    Nothing,
}

impl Says {
    fn of(content: &Content) -> Says {
        match content {
            Content::Reasoning(_) => Says::Thoughts,
            Content::ToolCall(_) => Says::Arguments,
            Content::Other { .. } => Says::Nothing,
            _ => Says::Words,
        }
    }
}

#[derive(Deserialize)]
struct StreamEvent<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    output_index: Option<u64>,
    content_index: Option<u64>,
    summary_index: Option<u64>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    item: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    annotation: Option<&'a RawValue>,
    #[serde(borrow)]
    logprobs: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

type Step = Result<(), String>;

impl Events {
    fn start(&mut self, answer: Option<&Answer<'_>>, out: &mut Vec<Event>) {
        if self.started {
            return;
        }
        self.started = true;
        let id = answer.and_then(|answer| answer.id.clone()).unwrap_or_default();
        let model = answer.and_then(|answer| answer.model.clone()).unwrap_or_default();
        out.push(Event::Started { id, model, created: answer.and_then(Answer::created) });
    }

    /// The latest item with this number; a new one where there is none that is still open.
    fn item(&mut self, index: u64) -> Result<usize, String> {
        if let Some(at) = self.items.iter().rposition(|item| item.index == index && !item.settled) {
            return Ok(at);
        }
        if self.items.len() >= MAX_OPEN {
            return Err("it has too many items".to_owned());
        }
        self.items.push(Item { index, id: None, settled: false, slots: Vec::new() });
        Ok(self.items.len() - 1)
    }

    fn open(&mut self, at: usize, content: u64, kind: PartKind, out: &mut Vec<Event>) -> Result<usize, String> {
        if self.items[at].slots.len() >= MAX_OPEN {
            return Err("an item has too many parts".to_owned());
        }
        let id = PartId(self.parts);
        self.parts += 1;
        self.calls_tools |= matches!(kind, PartKind::ToolCall { .. });
        let says = match kind {
            PartKind::Text | PartKind::Refusal => Says::Words,
            PartKind::Reasoning => Says::Thoughts,
            PartKind::ToolCall { .. } => Says::Arguments,
            PartKind::Media(_) | PartKind::Other { .. } => Says::Nothing,
        };
        out.push(Event::PartStart { id, choice: 0, kind });
        let slots = &mut self.items[at].slots;
        slots.push(Slot { content, id, says, said: false, cited: 0, thought: None });
        Ok(slots.len() - 1)
    }

    fn slot(&self, at: usize, content: u64, says: Says) -> Result<Option<usize>, String> {
        let item = &self.items[at];
        let found = item.slots.iter().position(|slot| slot.content == content);
        match found {
            Some(slot) if item.slots[slot].says != says => Err(format!("item {} is two things at once", item.index)),
            found => Ok(found),
        }
    }

    /// An item begins. What is made in one piece (searches and the like) is told on once it is whole.
    fn begin(&mut self, index: u64, raw: &RawValue, out: &mut Vec<Event>) -> Step {
        #[derive(Deserialize)]
        struct Head {
            #[serde(rename = "type")]
            kind: String,
            id: Option<String>,
            call_id: Option<String>,
            name: Option<String>,
        }
        let head: Head = serde_json::from_str(raw.get()).map_err(|e| format!("an item cannot be read: {e}"))?;
        let at = self.item(index)?;
        if !self.items[at].slots.is_empty() {
            return Err(format!("item {index} begins again"));
        }
        match (head.kind.as_str(), head.call_id, head.name) {
            ("reasoning", ..) => {
                self.reason(at, head.id, out)?;
            }
            ("function_call", Some(id), Some(name)) => {
                self.open(at, 0, PartKind::ToolCall { id, name }, out)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn reason(&mut self, at: usize, item: Option<String>, out: &mut Vec<Event>) -> Result<usize, String> {
        let slot = self.open(at, 0, PartKind::Reasoning, out)?;
        let id = self.items[at].slots[slot].id;
        out.push(Event::Delta { id, delta: Delta::Origin { dialect: NAME, id: item } });
        Ok(slot)
    }

    fn say(&mut self, event: &StreamEvent<'_>, kind: PartKind, out: &mut Vec<Event>) -> Step {
        let (text, logprobs) = (words(event.delta)?, probabilities(event.logprobs));
        if text.is_empty() && logprobs.is_empty() {
            return Ok(());
        }
        let at = self.item(event.output_index.unwrap_or_default())?;
        let content = event.content_index.unwrap_or_default();
        let slot = match self.slot(at, content, Says::Words)? {
            Some(slot) => slot,
            None => self.open(at, content, kind, out)?,
        };
        let slot = &mut self.items[at].slots[slot];
        slot.said = true;
        if !text.is_empty() {
            out.push(Event::Delta { id: slot.id, delta: Delta::Text(text) });
        }
        let id = slot.id;
        out.extend(response::logprobs(&logprobs).map(|raw| Event::Delta { id, delta: Delta::Logprobs(raw) }));
        Ok(())
    }

    fn argue(&mut self, event: &StreamEvent<'_>, out: &mut Vec<Event>) -> Step {
        let (index, text) = (event.output_index.unwrap_or_default(), words(event.delta)?);
        let at = self.item(index)?;
        let Some(slot) = self.items[at].slots.first_mut().filter(|slot| slot.says == Says::Arguments) else {
            return Err(format!("the arguments of item {index} come without its beginning"));
        };
        if !text.is_empty() {
            slot.said = true;
            out.push(Event::Delta { id: slot.id, delta: Delta::Args(text) });
        }
        Ok(())
    }

    /// Of thoughts that come in both forms, the first form counts. Paragraphs are parted as in a whole answer.
    fn think(&mut self, event: &StreamEvent<'_>, summary: bool, out: &mut Vec<Event>) -> Step {
        let text = words(event.delta)?;
        let at = self.item(event.output_index.unwrap_or_default())?;
        let slot = match self.slot(at, 0, Says::Thoughts)? {
            Some(slot) => slot,
            None => self.reason(at, None, out)?,
        };
        let slot = &mut self.items[at].slots[slot];
        let paragraph = if summary { event.summary_index } else { event.content_index }.unwrap_or_default();
        let parted = match slot.thought {
            Some((form, _)) if form != summary => return Ok(()),
            Some((_, last)) => last != paragraph,
            None => false,
        };
        slot.thought = Some((summary, paragraph));
        if text.is_empty() {
            return Ok(());
        }
        slot.said = true;
        let text = if parted { format!("\n\n{text}") } else { text };
        out.push(Event::Delta { id: slot.id, delta: Delta::Reasoning(text) });
        Ok(())
    }

    fn cite(&mut self, event: &StreamEvent<'_>, out: &mut Vec<Event>) -> Step {
        let at = self.item(event.output_index.unwrap_or_default())?;
        // An annotation before its text comes again with the whole item.
        let slot = self.slot(at, event.content_index.unwrap_or_default(), Says::Words)?;
        if let (Some(raw), Some(slot)) = (event.annotation, slot) {
            let slot = &mut self.items[at].slots[slot];
            slot.cited += 1;
            out.push(Event::Delta { id: slot.id, delta: Delta::Citation(Box::new(response::citation(raw))) });
        }
        Ok(())
    }

    /// An item is whole: what has not been said of it yet, and its end.
    fn settle(&mut self, index: u64, raw: &RawValue, out: &mut Vec<Event>) -> Step {
        let pieces = response::pieces(raw)?;
        let at = self.item(index)?;
        self.items[at].id = item_id(raw);
        for (content, piece) in (0..).zip(pieces) {
            let slot = match self.slot(at, content, Says::of(&piece.part.content))? {
                Some(slot) => slot,
                None if response::is_empty(&piece) => continue,
                None => self.announce(at, content, &piece, out)?,
            };
            self.complete_piece(at, slot, piece, out);
        }
        self.close(at, out);
        Ok(())
    }

    fn announce(&mut self, at: usize, content: u64, piece: &Piece, out: &mut Vec<Event>) -> Result<usize, String> {
        let kind = match &piece.part.content {
            Content::Refusal(_) => PartKind::Refusal,
            Content::Reasoning(reasoning) => return self.reason(at, reasoning.id.clone(), out),
            Content::ToolCall(call) => PartKind::ToolCall { id: call.id.clone(), name: call.name.clone() },
            Content::Other { dialect, kind, raw } => {
                self.searches += u64::from(response::is_search(&piece.part));
                PartKind::Other { dialect: *dialect, kind: kind.clone(), raw: raw.clone() }
            }
            _ => PartKind::Text,
        };
        self.open(at, content, kind, out)
    }

    fn complete_piece(&mut self, at: usize, slot: usize, piece: Piece, out: &mut Vec<Event>) {
        let slot = &self.items[at].slots[slot];
        let mut push = |delta| out.push(Event::Delta { id: slot.id, delta });
        match piece.part.content {
            Content::Text(text) | Content::Refusal(text) if !slot.said => {
                push(Delta::Text(text));
                response::logprobs(&piece.logprobs).map(Delta::Logprobs).into_iter().for_each(&mut push);
            }
            Content::ToolCall(call) if !slot.said && !call.arguments.is_empty() => push(Delta::Args(call.arguments)),
            Content::Reasoning(reasoning) => {
                if !slot.said && !reasoning.text.is_empty() {
                    push(Delta::Reasoning(reasoning.text));
                }
                reasoning.encrypted.map(Delta::Encrypted).into_iter().for_each(&mut push);
            }
            _ => {}
        }
        let missed = piece.part.citations.into_iter().skip(slot.cited);
        missed.for_each(|citation| push(Delta::Citation(Box::new(citation))));
    }

    fn close(&mut self, at: usize, out: &mut Vec<Event>) {
        self.items[at].settled = true;
        out.extend(self.items[at].slots.drain(..).map(|slot| Event::PartEnd { id: slot.id }));
    }

    fn end(&mut self, answer: &Answer<'_>, out: &mut Vec<Event>) -> Step {
        // Some items never had an end of their own. The numbers of the others need not be their places here.
        for (index, raw) in (0..).zip(answer.output.iter().flatten()) {
            let id = item_id(raw);
            let known = |item: &Item| item.settled && (item.index == index || (id.is_some() && item.id == id));
            if !self.items.iter().any(known) {
                self.settle(index, raw, out)?;
            }
        }
        out.extend(answer.service_tier.clone().map(Event::ServiceTier));
        out.extend(answer.usage(self.searches).map(Event::Usage));
        self.finish = answer.finish(self.calls_tools);
        Ok(())
    }

    /// `false`: an event that has no meaning here.
    fn step(&mut self, event: &StreamEvent<'_>, kind: &str, out: &mut Vec<Event>) -> Result<bool, String> {
        if !known(kind) {
            return Ok(false);
        }
        self.start(None, out);
        let item = || event.item.ok_or_else(|| format!("`{kind}` has no item"));
        let index = event.output_index.unwrap_or_default();
        match kind {
            "response.output_item.added" => self.begin(index, item()?, out)?,
            "response.output_item.done" => self.settle(index, item()?, out)?,
            "response.output_text.delta" => self.say(event, PartKind::Text, out)?,
            "response.output_text.annotation.added" => self.cite(event, out)?,
            "response.refusal.delta" => self.say(event, PartKind::Refusal, out)?,
            "response.function_call_arguments.delta" => self.argue(event, out)?,
            "response.reasoning_summary_text.delta" => self.think(event, true, out)?,
            "response.reasoning_text.delta" => self.think(event, false, out)?,
            _ => {}
        }
        Ok(true)
    }
}

fn item_id(raw: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Head {
        id: Option<String>,
    }
    serde_json::from_str::<Head>(raw.get()).ok()?.id
}

fn words(delta: Option<&RawValue>) -> Result<String, String> {
    let Some(raw) = delta else { return Ok(String::new()) };
    serde_json::from_str(raw.get()).map_err(|_| "a delta is no text".to_owned())
}

fn probabilities(raw: Option<&RawValue>) -> Vec<RawJson> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}

/// The subjects of events. Most of them announce, repeat or count the progress of what comes whole with its item.
const SUBJECTS: [&str; 18] = [
    "output_item",
    "content_part",
    "output_text",
    "refusal",
    "function_call_arguments",
    "reasoning_summary_part",
    "reasoning_summary_text",
    "reasoning_text",
    "file_search_call",
    "web_search_call",
    "image_generation_call",
    "code_interpreter_call",
    "code_interpreter_call_code",
    "custom_tool_call_input",
    "apply_patch_call_operation_diff",
    "mcp_call",
    "mcp_call_arguments",
    "mcp_list_tools",
];

fn known(kind: &str) -> bool {
    let subject = kind.strip_prefix("response.").and_then(|rest| rest.split_once('.'));
    subject.is_some_and(|(subject, _)| SUBJECTS.contains(&subject))
}

fn read(data: &[u8]) -> serde_json::Result<StreamEvent<'_>> {
    serde_json::from_slice(data)
}

fn ends(kind: &str) -> bool {
    matches!(kind, "response.completed" | "response.incomplete" | "response.cancelled")
}

impl Wire for Events {
    const DIALECT: DialectName = NAME;
    const TERMINAL: &'static str = "`response.completed`";
    const FINISH: &'static str = "`status`";

    fn interpret(&mut self, frame: Frame<'_>, out: &mut Vec<Event>) -> Verdict {
        if frame.data.trim_ascii() == b"[DONE]" {
            return Verdict::Understood;
        }
        let event = match read(frame.data) {
            Ok(event) => event,
            Err(error) => return Verdict::Corrupt(format!("an event cannot be read: {error}")),
        };
        let kind = event.kind.as_deref().unwrap_or_default();
        if kind == "error" || (kind.is_empty() && event.error.is_some()) {
            let flat = std::str::from_utf8(frame.data).unwrap_or("{}");
            return Verdict::Refused(error::in_place(event.error.map_or(flat, RawValue::get)));
        }
        let answer = match event.response.map(|raw| serde_json::from_str::<Strict<Answer<'_>>>(raw.get())).transpose() {
            Ok(answer) => answer.map(|Strict(answer)| answer),
            Err(error) => return Verdict::Corrupt(format!("the response cannot be read: {error}")),
        };
        let Some(mut answer) = answer else {
            return match self.step(&event, kind, out) {
                Ok(true) => Verdict::Understood,
                Ok(false) => Verdict::Unknown(kind.to_owned()),
                Err(problem) => Verdict::Corrupt(problem),
            };
        };
        self.start(Some(&answer), out);
        if kind == "response.failed" || answer.failed() {
            out.extend(answer.usage(self.searches).map(Event::Usage));
            return Verdict::Refused(error::in_place(answer.error.map_or("{}", RawValue::get)));
        }
        if !ends(kind) {
            return Verdict::Understood;
        }
        if answer.status.is_none() {
            answer.status = kind.strip_prefix("response.").map(str::to_owned);
        }
        match self.end(&answer, out) {
            Ok(()) => Verdict::Terminal,
            Err(problem) => Verdict::Corrupt(problem),
        }
    }

    fn is_terminal(&self, frame: Frame<'_>) -> bool {
        read(frame.data).is_ok_and(|event| event.kind.is_some_and(|kind| ends(&kind)))
    }

    fn complete(&mut self, out: &mut Vec<Event>) -> bool {
        for at in 0..self.items.len() {
            self.close(at, out);
        }
        let finish = self.finish.take();
        let finished = finish.is_some();
        out.extend(finish.map(|reason| Event::Finish { choice: 0, reason, stop_sequence: None }));
        finished
    }
}

/// Errors stay here, and the mark that some servers end with as in older dialects.
pub(super) fn passes(frame: Frame<'_>) -> bool {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "type")]
        kind: Option<String>,
    }
    let Ok(Kind { kind }) = serde_json::from_slice(frame.data) else {
        return false;
    };
    kind.is_some_and(|kind| !matches!(kind.as_str(), "error" | "response.failed"))
}
