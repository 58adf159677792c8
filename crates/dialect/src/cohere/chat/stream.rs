//! `message-start` … `message-end`. The `[DONE]` that follows says nothing more.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    NAME, citation,
    logprobs::{self, Item},
    response::{Block, NO_ARGUMENTS, WireToolCall, finish_reason, is_nothing},
};
use crate::{
    canonical::{Delta, Event, FinishReason, PartId, PartKind},
    cohere::{billing::Metered, error},
    decoder::{Verdict, Wire},
    dialect::DialectName,
    framing::Frame,
    json::Strict,
};

/// More tool calls open at once than this are taken as a corrupt stream.
const MAX_OPEN: usize = 256;

#[derive(Deserialize)]
struct StreamEvent<'a> {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    index: Option<u32>,
    #[serde(default, borrow)]
    delta: Option<&'a RawValue>,
    #[serde(default)]
    logprobs: Option<Item>,
    /// What an error consists of, here as in an answer with a status of failure.
    #[serde(default)]
    message: Option<String>,
}

/// Around what an event of a part says.
#[derive(Deserialize)]
struct Said<T> {
    message: T,
}

#[derive(Deserialize)]
struct Piece {
    content: Block,
}

#[derive(Deserialize)]
struct Plan {
    tool_plan: String,
}

#[derive(Deserialize)]
struct Call {
    tool_calls: WireToolCall,
}

#[derive(Deserialize)]
struct Cites<'a> {
    #[serde(borrow)]
    citations: &'a RawValue,
}

#[derive(Deserialize)]
struct End {
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    usage: Option<Metered>,
}

#[derive(Default)]
pub(super) struct Events {
    started: bool,
    parts: u32,
    prose: Option<Open>,
    tools: Vec<Tool>,
    finish: Option<FinishReason>,
}

#[derive(Clone, Copy, PartialEq)]
enum Prose {
    Text,
    Thinking,
    Plan,
    /// Content of a kind that came later: nothing is told of it.
    Unknown,
}

struct Open {
    id: PartId,
    kind: Prose,
    index: Option<u32>,
}

struct Tool {
    index: u32,
    id: PartId,
    has_arguments: bool,
}

/// `Ok(false)`: an event without a meaning here.
type Step = Result<bool, String>;

impl Events {
    fn next_id(&mut self) -> PartId {
        self.parts += 1;
        PartId(self.parts - 1)
    }

    /// Text stays open behind its `content-end`, because its citations may still come.
    fn close_prose(&mut self, out: &mut Vec<Event>) {
        let open = self.prose.take().filter(|open| open.kind != Prose::Unknown);
        out.extend(open.map(|open| Event::PartEnd { id: open.id }));
    }

    fn open_prose(&mut self, kind: Prose, index: Option<u32>, out: &mut Vec<Event>) {
        self.close_prose(out);
        let part = match kind {
            Prose::Text => PartKind::Text,
            Prose::Thinking | Prose::Plan => PartKind::Reasoning,
            Prose::Unknown => {
                self.prose = Some(Open { id: PartId(u32::MAX), kind, index });
                return;
            }
        };
        let id = self.next_id();
        out.push(Event::PartStart { id, choice: 0, kind: part });
        self.prose = Some(Open { id, kind, index });
    }

    fn extend(&self, text: Option<String>, out: &mut Vec<Event>) {
        let (Some(open), Some(text)) = (&self.prose, text.filter(|text| !text.is_empty())) else {
            return;
        };
        let delta = match open.kind {
            Prose::Text => Delta::Text(text),
            Prose::Thinking | Prose::Plan => Delta::Reasoning(text),
            Prose::Unknown => return,
        };
        out.push(Event::Delta { id: open.id, delta });
    }

    fn begin_content(&mut self, index: Option<u32>, block: Block, out: &mut Vec<Event>) -> Step {
        let kind = match block.kind.as_deref() {
            Some("text") | None => Prose::Text,
            Some("thinking") => Prose::Thinking,
            Some(_) => Prose::Unknown,
        };
        self.open_prose(kind, index, out);
        self.extend(block.text.or(block.thinking), out);
        Ok(kind != Prose::Unknown)
    }

    fn extend_content(&mut self, event: &StreamEvent<'_>, block: Block, out: &mut Vec<Event>) -> Step {
        if self.prose.as_ref().is_none_or(|open| open.kind == Prose::Plan || open.index != event.index) {
            return Err("content goes on without a beginning".to_owned());
        }
        self.extend(block.text.or(block.thinking), out);
        if let (Some(Open { id, kind: Prose::Text, .. }), Some(item)) = (&self.prose, &event.logprobs) {
            let told = logprobs::told(std::slice::from_ref(item));
            out.extend(told.map(|raw| Event::Delta { id: *id, delta: Delta::Logprobs(raw) }));
        }
        Ok(true)
    }

    fn plan(&mut self, text: String, out: &mut Vec<Event>) -> Step {
        if self.prose.as_ref().is_none_or(|open| open.kind != Prose::Plan) {
            if text.is_empty() {
                return Ok(true);
            }
            self.open_prose(Prose::Plan, None, out);
        }
        self.extend(Some(text), out);
        Ok(true)
    }

    fn begin_call(&mut self, index: u32, call: WireToolCall, out: &mut Vec<Event>) -> Step {
        if self.tools.len() >= MAX_OPEN || self.tools.iter().any(|tool| tool.index == index) {
            return Err(format!("tool call {index} begins again, or too many are open"));
        }
        let (name, arguments) = call.function.map(|f| (f.name, f.arguments)).unwrap_or_default();
        let (Some(call_id), Some(name)) = (call.id, name) else {
            return Err("a tool call has no id or no name".to_owned());
        };
        self.close_prose(out);
        let id = self.next_id();
        out.push(Event::PartStart { id, choice: 0, kind: PartKind::ToolCall { id: call_id, name } });
        self.tools.push(Tool { index, id, has_arguments: false });
        self.extend_call(index, arguments, out)
    }

    fn extend_call(&mut self, index: u32, arguments: Option<String>, out: &mut Vec<Event>) -> Step {
        let Some(tool) = self.tools.iter_mut().find(|tool| tool.index == index) else {
            return Err(format!("tool call {index} goes on without a beginning"));
        };
        let nothing = |piece: &String| piece.is_empty() || (!tool.has_arguments && is_nothing(piece));
        if let Some(piece) = arguments.filter(|piece| !nothing(piece)) {
            tool.has_arguments = true;
            out.push(Event::Delta { id: tool.id, delta: Delta::Args(piece) });
        }
        Ok(true)
    }

    fn end_call(&mut self, index: u32, out: &mut Vec<Event>) -> Step {
        let Some(at) = self.tools.iter().position(|tool| tool.index == index) else {
            return Err(format!("tool call {index} ends without a beginning"));
        };
        close_call(&self.tools.remove(at), out);
        Ok(true)
    }

    fn cite(&self, raw: &RawValue, out: &mut Vec<Event>) -> Step {
        let cited = citation::read(raw).map_err(|error| format!("a citation cannot be read: {error}"))?;
        let Some(Open { id, kind: Prose::Text, .. }) = self.prose.as_ref().filter(|_| cited.in_text) else {
            return Ok(false);
        };
        out.push(Event::Delta { id: *id, delta: Delta::Citation(Box::new(cited.citation)) });
        Ok(true)
    }

    fn step(&mut self, kind: &str, event: StreamEvent<'_>, out: &mut Vec<Event>) -> Step {
        if (kind == "message-start") == self.started {
            return Err("the message begins again, or something comes before it".to_owned());
        }
        let index = event.index.unwrap_or_default();
        match kind {
            "message-start" => {
                self.started = true;
                let id = event.id.unwrap_or_default();
                out.push(Event::Started { id, model: String::new(), created: None });
                Ok(true)
            }
            "content-start" => self.begin_content(event.index, said::<Piece>(&event)?.content, out),
            "content-delta" => self.extend_content(&event, said::<Piece>(&event)?.content, out),
            "content-end" => {
                if self.prose.as_ref().is_some_and(|open| open.kind != Prose::Text) {
                    self.close_prose(out);
                }
                Ok(true)
            }
            "tool-plan-delta" => self.plan(said::<Plan>(&event)?.tool_plan, out),
            "tool-call-start" => self.begin_call(index, said::<Call>(&event)?.tool_calls, out),
            "tool-call-delta" => {
                let arguments = said::<Call>(&event)?.tool_calls.function.and_then(|function| function.arguments);
                self.extend_call(index, arguments, out)
            }
            "tool-call-end" => self.end_call(index, out),
            "citation-start" => self.cite(said::<Cites<'_>>(&event)?.citations, out),
            "citation-end" | "debug" => Ok(true),
            _ => Ok(false),
        }
    }

    /// What was used is told first, also of an answer that broke off.
    fn end(&mut self, event: &StreamEvent<'_>, frame: &[u8], out: &mut Vec<Event>) -> Verdict {
        let Strict(end): Strict<End> = match event.delta.map(|delta| serde_json::from_str(delta.get())) {
            Some(Ok(end)) => end,
            Some(Err(error)) => return Verdict::Corrupt(format!("`message-end` cannot be read: {error}")),
            None => return Verdict::Corrupt("`message-end` lacks its `delta`".to_owned()),
        };
        out.extend(end.usage.map(|metered| Event::Usage(metered.usage())));
        match end.finish_reason.map(finish_reason).transpose() {
            Ok(finish) if end.error.is_none() => self.finish = finish,
            Ok(_) => return Verdict::Refused(error::broken_off("ERROR", end.error, frame)),
            Err(word) => return Verdict::Refused(error::broken_off(&word, end.error, frame)),
        }
        Verdict::Terminal
    }
}

fn said<'a, T: Deserialize<'a>>(event: &StreamEvent<'a>) -> Result<T, String> {
    let delta = event.delta.ok_or("an event lacks its `delta`")?;
    let said: Said<T> = serde_json::from_str(delta.get()).map_err(|e| format!("an event cannot be read: {e}"))?;
    Ok(said.message)
}

fn close_call(tool: &Tool, out: &mut Vec<Event>) {
    if !tool.has_arguments {
        out.push(Event::Delta { id: tool.id, delta: Delta::Args(NO_ARGUMENTS.to_owned()) });
    }
    out.push(Event::PartEnd { id: tool.id });
}

fn read(data: &[u8]) -> serde_json::Result<StreamEvent<'_>> {
    serde_json::from_slice(data)
}

impl Wire for Events {
    const DIALECT: DialectName = NAME;
    const TERMINAL: &'static str = "`message-end`";
    const FINISH: &'static str = "`finish_reason`";

    fn interpret(&mut self, frame: Frame<'_>, out: &mut Vec<Event>) -> Verdict {
        let mut event = match read(frame.data) {
            Ok(event) => event,
            Err(error) => return Verdict::Corrupt(format!("an event cannot be read: {error}")),
        };
        let Some(kind) = event.kind.take() else {
            return match event.message {
                Some(message) => Verdict::Refused(error::broken_off("ERROR", Some(message), frame.data)),
                None => Verdict::Unknown(frame.event.to_owned()),
            };
        };
        if kind == "message-end" && self.started {
            return self.end(&event, frame.data, out);
        }
        match self.step(&kind, event, out) {
            Ok(true) => Verdict::Understood,
            Ok(false) => Verdict::Unknown(kind),
            Err(problem) => Verdict::Corrupt(problem),
        }
    }

    fn is_terminal(&self, frame: Frame<'_>) -> bool {
        read(frame.data).is_ok_and(|event| event.kind.as_deref() == Some("message-end"))
    }

    fn complete(&mut self, out: &mut Vec<Event>) -> bool {
        self.close_prose(out);
        for tool in std::mem::take(&mut self.tools) {
            close_call(&tool, out);
        }
        let finish = self.finish.take();
        let finished = finish.is_some();
        out.extend(finish.map(|reason| Event::Finish { choice: 0, reason, stop_sequence: None }));
        finished
    }
}
