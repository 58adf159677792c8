//! `chat.completion.chunk` objects, up to `[DONE]`. A whole answer's message is read as one large piece.

use farebox_types::Money;
use serde::{Deserialize, de::IgnoredAny};

use super::{
    citations,
    details::{Detail, Read},
    response::finish_reason,
    types::{Chunk, ChunkChoice, Message, NAME, Said, ToolCall},
    usage,
};
use crate::{
    canonical::{Citation, Collector, Content, Delta, Event, FinishReason, Media, Part, PartId, PartKind, Source},
    decoder::{Verdict, Wire},
    dialect::{DialectName, Quirk, Target},
    framing::Frame,
    json::{RawJson, Word},
    openai_error,
};

/// More choices or tool calls than this in one answer are taken as a corrupt stream.
const MAX_OPEN: usize = 1024;

#[derive(Default)]
pub(super) struct Chunks {
    started: bool,
    /// The answer's id; tool calls to which the server gave none are named after it.
    answer: String,
    parts: u32,
    calls: u32,
    /// Said in every chunk; told on once.
    tier: Option<String>,
    cost: Option<Money>,
    /// How many of the sources listed beside the answer have been told on.
    cited: usize,
    choices: Vec<Open>,
    /// The last chunk with a finish reason and usage is the end.
    no_done: bool,
    used: bool,
}

#[derive(Default)]
struct Open {
    index: u32,
    /// The part that text of this kind extends. Text, refusal and reasoning follow each other, tool calls stay open.
    prose: Option<(PartId, Prose)>,
    thought: Thought,
    tools: Vec<Tool>,
    finish: Option<FinishReason>,
}

#[derive(Clone, Copy, PartialEq)]
enum Prose {
    Text,
    Refusal,
    Reasoning,
}

/// What `reasoning_details` have said of the open reasoning.
#[derive(Default)]
struct Thought {
    index: Option<u32>,
    origin: Option<DialectName>,
    id: Option<String>,
    signed: bool,
    encrypted: bool,
}

struct Tool {
    /// The wire's number of the call.
    number: u32,
    /// The wire's id of it; empty where there is none.
    wire_id: String,
    id: PartId,
}

/// The parts of a whole message.
pub(super) fn parts(answer: &str, message: Message) -> Result<Vec<Part>, String> {
    let mut chunks = Chunks { answer: answer.to_owned(), ..Chunks::default() };
    let mut events = Vec::new();
    let at = chunks.choice(0).ok_or("it has too many choices")?;
    chunks.message(at, message, &mut events)?;
    let mut collector = Collector::new();
    events.iter().for_each(|event| collector.push(event));
    Ok(collector.into_completion().choices.into_iter().flat_map(|choice| choice.parts).collect())
}

impl Chunks {
    pub(super) fn new(target: &Target) -> Chunks {
        Chunks { no_done: target.has(Quirk::NoDone), ..Chunks::default() }
    }

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

    /// The part that text of this kind extends, begun where it is not open.
    fn open(&mut self, at: usize, kind: Prose, out: &mut Vec<Event>) -> PartId {
        if let Some((id, open)) = self.choices[at].prose
            && open == kind
        {
            return id;
        }
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

    fn prose(&mut self, at: usize, kind: Prose, text: String, out: &mut Vec<Event>) {
        if text.is_empty() {
            return;
        }
        let id = self.open(at, kind, out);
        let delta = if kind == Prose::Reasoning { Delta::Reasoning(text) } else { Delta::Text(text) };
        out.push(Event::Delta { id, delta });
    }

    fn close_prose(&mut self, at: usize, out: &mut Vec<Event>) {
        if let Some((id, _)) = self.choices[at].prose.take() {
            self.choices[at].thought = Thought::default();
            out.push(Event::PartEnd { id });
        }
    }

    /// A detail extends the open reasoning, unless it is numbered otherwise or says again what can be said once.
    fn detail(&mut self, at: usize, detail: Read, out: &mut Vec<Event>) {
        if detail.text.is_none() && detail.signature.is_none() && detail.encrypted.is_none() {
            return;
        }
        let thought = &self.choices[at].thought;
        let other = (thought.index.is_some() && thought.index != detail.index)
            || (thought.origin.is_some() && thought.origin != detail.origin)
            || (detail.text.is_some() && (thought.signed || thought.encrypted))
            || (detail.signature.is_some() && thought.signed)
            || (detail.encrypted.is_some() && thought.encrypted);
        if other {
            self.close_prose(at, out);
        }
        let id = self.open(at, Prose::Reasoning, out);
        let thought = &mut self.choices[at].thought;
        thought.index = detail.index;
        if let Some(dialect) = detail.origin
            && (thought.origin.is_none() || detail.id.as_ref().is_some_and(|id| thought.id.as_ref() != Some(id)))
        {
            thought.origin = Some(dialect);
            thought.id = detail.id.or(thought.id.take());
            out.push(Event::Delta { id, delta: Delta::Origin { dialect, id: thought.id.clone() } });
        }
        thought.signed |= detail.signature.is_some();
        thought.encrypted |= detail.encrypted.is_some();
        let deltas = [
            detail.text.map(Delta::Reasoning),
            detail.signature.map(Delta::Signature),
            detail.encrypted.map(Delta::Encrypted),
        ];
        out.extend(deltas.into_iter().flatten().map(|delta| Event::Delta { id, delta }));
    }

    /// Servers say the same text in up to three members; the one with the proofs wins.
    fn reasoning(&mut self, at: usize, details: Vec<Detail>, plain: [Option<String>; 2], out: &mut Vec<Event>) {
        let details: Vec<Read> = details.into_iter().map(Detail::read).collect();
        if details.iter().all(|detail| detail.text.is_none()) {
            let text = plain.into_iter().flatten().find(|text| !text.is_empty());
            self.prose(at, Prose::Reasoning, text.unwrap_or_default(), out);
        }
        for detail in details {
            self.detail(at, detail, out);
        }
    }

    fn cite(&mut self, at: usize, citation: Citation, out: &mut Vec<Event>) {
        let id = self.open(at, Prose::Text, out);
        out.push(Event::Delta { id, delta: Delta::Citation(Box::new(citation)) });
    }

    fn image(&mut self, at: usize, url: String, out: &mut Vec<Event>) {
        let id = self.next_id();
        let kind = PartKind::Media(Box::new(Content::Image(Media::from(Source::of_url(url)))));
        out.push(Event::PartStart { id, choice: self.choices[at].index, kind });
        out.push(Event::PartEnd { id });
    }

    /// The open call that a piece belongs to; `None`: it begins one.
    fn open_tool(&self, at: usize, call: &ToolCall) -> Option<PartId> {
        let tools = &self.choices[at].tools;
        let named = call.function.as_ref().and_then(|f| f.name.as_deref()).is_some_and(|name| !name.is_empty());
        let wire_id = call.id.as_deref().filter(|id| !id.is_empty());
        match call.index {
            // Google numbers all calls of an answer 0; they come whole, each under its own id.
            Some(number) => tools
                .iter()
                .rfind(|tool| tool.number == number)
                .filter(|tool| !named || wire_id.is_none_or(|id| id == tool.wire_id)),
            // Servers that leave the number out send each call whole.
            None if named => None,
            None => tools.last(),
        }
        .map(|tool| tool.id)
    }

    fn tool(&mut self, at: usize, call: ToolCall, out: &mut Vec<Event>) -> Result<(), String> {
        let known = self.open_tool(at, &call);
        let (name, arguments) = call.function.map(|f| (f.name, f.arguments)).unwrap_or_default();
        let id = match known {
            Some(id) => id,
            None => {
                let Some(name) = name else { return Err("a tool call begins without a name".to_owned()) };
                if self.choices[at].tools.len() >= MAX_OPEN {
                    return Err("it has too many tool calls".to_owned());
                }
                self.close_prose(at, out);
                let id = self.next_id();
                let wire_id = call.id.unwrap_or_default();
                let call_id = if wire_id.is_empty() { self.call_id() } else { wire_id.clone() };
                let open = &mut self.choices[at];
                let next = open.tools.iter().map(|tool| tool.number.saturating_add(1)).max().unwrap_or(0);
                open.tools.push(Tool { number: call.index.unwrap_or(next), wire_id, id });
                let kind = PartKind::ToolCall { id: call_id, name };
                out.push(Event::PartStart { id, choice: open.index, kind });
                id
            }
        };
        if let Some(piece) = arguments.filter(|piece| !piece.is_empty()) {
            out.push(Event::Delta { id, delta: Delta::Args(piece) });
        }
        if let Some(signature) = call.extra_content.and_then(|extra| extra.signature()) {
            out.push(Event::Delta { id, delta: Delta::Signature(signature) });
        }
        Ok(())
    }

    /// Results name the call they answer, in later turns too: a call needs an id of its own in the whole conversation.
    fn call_id(&mut self) -> String {
        self.calls += 1;
        format!("call_{}_{}", self.answer, self.calls)
    }

    fn message(&mut self, at: usize, message: Message, out: &mut Vec<Event>) -> Result<(), String> {
        let plain = [message.reasoning_content.map(|t| t.0), message.reasoning.map(|t| t.0)];
        self.reasoning(at, message.reasoning_details.unwrap_or_default(), plain, out);
        for said in message.content.map(|content| content.0).unwrap_or_default() {
            match said {
                Said::Text(text) => self.prose(at, Prose::Text, text, out),
                Said::Thought(text) => self.prose(at, Prose::Reasoning, text, out),
            }
        }
        self.prose(at, Prose::Refusal, message.refusal.unwrap_or_default(), out);
        for raw in message.annotations.unwrap_or_default() {
            self.cite(at, citations::read(&raw), out);
        }
        for image in message.images.unwrap_or_default() {
            self.image(at, image.image_url.url, out);
        }
        for call in message.tool_calls.unwrap_or_default() {
            self.tool(at, call, out)?;
        }
        if let Some(function) = message.function_call {
            let call = ToolCall { index: Some(0), id: None, function: Some(function), extra_content: None };
            self.tool(at, call, out)?;
        }
        if let Some(signature) = message.extra_content.and_then(|extra| extra.signature()) {
            let first = self.choices[at].tools.first().map(|tool| tool.id);
            let id = first.unwrap_or_else(|| self.open(at, Prose::Text, out));
            out.push(Event::Delta { id, delta: Delta::Signature(signature) });
        }
        Ok(())
    }

    fn piece(&mut self, piece: ChunkChoice, out: &mut Vec<Event>) -> Result<(), String> {
        let at = self.choice(piece.index).ok_or("it has too many choices")?;
        if let Some(delta) = piece.delta {
            self.message(at, *delta, out)?;
        }
        if let (Some(raw), Some((id, Prose::Text | Prose::Refusal))) = (piece.logprobs, self.choices[at].prose) {
            out.push(Event::Delta { id, delta: Delta::Logprobs(RawJson::from(&*raw)) });
        }
        if let Some(word) = piece.finish_reason.filter(|word| !word.is_empty()) {
            self.choices[at].finish = Some(finish_reason(word));
        }
        Ok(())
    }

    /// What a chunk says of the answer as a whole.
    fn around(&mut self, chunk: Chunk<'_>, out: &mut Vec<Event>) {
        let sources = citations::sources(chunk.search_results, chunk.citations);
        if let Some(at) = self.choices.iter().position(|choice| matches!(choice.prose, Some((_, Prose::Text)))) {
            let fresh = sources.len().saturating_sub(self.cited);
            self.cited += fresh;
            for citation in sources.into_iter().rev().take(fresh).rev() {
                self.cite(at, citation, out);
            }
        }
        if let Some(Word(tier)) = chunk.service_tier
            && self.tier.as_deref() != Some(&*tier)
        {
            self.tier = Some(tier.clone().into_owned());
            out.push(Event::ServiceTier(tier.into_owned()));
        }
        if let Some(wire) = chunk.usage.or_else(|| chunk.x_groq.and_then(|groq| groq.usage)) {
            self.used = true;
            out.push(Event::Usage(usage::normalise(&wire)));
            let cost = usage::cost(&wire);
            if cost.is_some() && cost != self.cost {
                self.cost = cost;
                out.extend(cost.map(Event::ReportedCost));
            }
        }
    }

    fn finished(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|c| c.finish.is_some())
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
        let mut chunk: Chunk<'_> = match serde_json::from_slice(frame.data) {
            Ok(chunk) => chunk,
            Err(error) => return Verdict::Corrupt(format!("a chunk cannot be read: {error}")),
        };
        if let Some(error) = chunk.error {
            return Verdict::Refused(openai_error::in_place(error.get()));
        }
        if chunk.object.as_ref().is_some_and(|Word(kind)| *kind == "error") {
            return Verdict::Refused(openai_error::in_place(&String::from_utf8_lossy(frame.data)));
        }
        let Some(choices) = chunk.choices.take().or_else(|| chunk.usage.map(|_| Vec::new())) else {
            return Verdict::Unknown(frame.event.to_owned());
        };
        // Azure opens with a chunk about the prompt alone: no id, no choice.
        let id = chunk.id.take().map(|Word(id)| id).unwrap_or_default();
        if !self.started && (!id.is_empty() || !choices.is_empty()) {
            self.started = true;
            self.answer = id.clone().into_owned();
            let model = chunk.model.take().map(|Word(model)| model.into_owned()).unwrap_or_default();
            out.push(Event::Started { id: id.into_owned(), model, created: chunk.created });
        }
        for piece in choices {
            if let Some(error) = piece.error.as_ref().filter(|error| error.get() != "null") {
                return Verdict::Refused(openai_error::in_place(error.get()));
            }
            if let Err(problem) = self.piece(piece, out) {
                return Verdict::Corrupt(problem);
            }
        }
        self.around(chunk, out);
        Verdict::Understood
    }

    fn is_terminal(&self, frame: Frame<'_>) -> bool {
        frame.data.trim_ascii() == b"[DONE]"
    }

    fn ends_here(&self) -> bool {
        self.no_done && self.used && self.finished()
    }

    /// Everything of a choice ends here, not at its `finish_reason`: servers repeat that, and send pieces after it.
    fn complete(&mut self, out: &mut Vec<Event>) -> bool {
        for at in 0..self.choices.len() {
            self.close_prose(at, out);
            let tools = std::mem::take(&mut self.choices[at].tools);
            out.extend(tools.into_iter().map(|tool| Event::PartEnd { id: tool.id }));
        }
        let finished = self.finished();
        if finished {
            out.extend(self.choices.iter_mut().filter_map(|c| {
                let reason = c.finish.take()?;
                Some(Event::Finish { choice: c.index, reason, stop_sequence: None })
            }));
        }
        finished
    }
}

/// The terminal mark stays here; so does the chunk that only carries usage, where the caller did not ask for it
/// (<https://platform.openai.com/docs/api-reference/chat/create#chat-create-stream_options>).
pub(super) fn passes(frame: Frame<'_>, include_usage: bool) -> bool {
    frame.data.trim_ascii() != b"[DONE]" && (include_usage || !is_usage_only(frame.data))
}

fn is_usage_only(data: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct UsageOnly {
        choices: Vec<IgnoredAny>,
        usage: Option<IgnoredAny>,
    }
    serde_json::from_slice::<UsageOnly>(data).is_ok_and(|chunk| chunk.choices.is_empty() && chunk.usage.is_some())
}
