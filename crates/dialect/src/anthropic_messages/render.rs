//! Answers towards a caller: one object, or events.

use std::collections::VecDeque;

use bytes::Bytes;
use farebox_types::Usage;
use serde::Serialize;

use super::{
    citations::{self, Written},
    types::NAME,
    usage,
};
use crate::{
    canonical::{Citation, Completion, Content, Delta, Event, FinishReason, Part, PartId, PartKind, Reasoning, sealed},
    dialect::{DialectName, Stamp, StreamEncoder},
    json::RawJson,
    rewrite::{Edit, rewrite},
};

#[derive(Serialize)]
struct Message<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    model: &'a str,
    content: Vec<Block<'a>>,
    stop_reason: Option<&'a str>,
    stop_sequence: Option<&'a str>,
    usage: usage::Written,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Block<'a> {
    Known(Known<'a>),
    Raw(&'a RawJson),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Known<'a> {
    Text {
        text: &'a str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        citations: Vec<Written<'a>>,
    },
    Thinking {
        thinking: &'a str,
        signature: String,
    },
    RedactedThinking {
        data: String,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: RawJson,
    },
}

fn bytes(value: &impl Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(value).expect("strings, numbers and checked JSON can always be written"))
}

fn stop_reason(reason: &FinishReason) -> &str {
    match reason {
        FinishReason::Stop => "end_turn",
        FinishReason::StopSequence => "stop_sequence",
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
        FinishReason::ContentFilter | FinishReason::Refusal => "refusal",
        FinishReason::Pause => "pause_turn",
        FinishReason::Other(word) => word,
    }
}

pub(super) fn whole(completion: &Completion, stamp: &Stamp) -> Bytes {
    let choice = completion.choices.first();
    let mut content = Vec::new();
    for part in choice.map(|choice| choice.parts.as_slice()).unwrap_or_default() {
        blocks(part, &mut content);
    }
    bytes(&Message {
        id: &stamp.id,
        kind: "message",
        role: "assistant",
        model: stamp.model.as_deref().unwrap_or(&completion.model),
        content,
        stop_reason: choice.and_then(|choice| choice.finish.as_ref()).map(stop_reason),
        stop_sequence: choice.and_then(|choice| choice.stop_sequence.as_deref()),
        usage: usage::render(&completion.usage, completion.service_tier.as_deref()),
    })
}

/// What only another dialect understands, and media, are left out: there is no place for them.
fn blocks<'a>(part: &'a Part, out: &mut Vec<Block<'a>>) {
    match &part.content {
        Content::Text(text) | Content::Refusal(text) => {
            let citations = part.citations.iter().filter_map(citations::for_caller).collect();
            out.push(Block::Known(Known::Text { text, citations }));
        }
        Content::Reasoning(reasoning) => out.extend(thought(reasoning).map(Block::Known)),
        Content::ToolCall(call) => {
            if let Some(signature) = &part.signature {
                out.push(Block::Known(Known::RedactedThinking { data: sealed::of_call(&call.id, signature) }));
            }
            let input = RawJson::new(call.arguments.as_str()).filter(RawJson::is_object);
            let input = input.or_else(|| RawJson::new("{}")).expect("an empty object is JSON");
            out.push(Block::Known(Known::ToolUse { id: &call.id, name: &call.name, input }));
        }
        Content::Other { dialect: NAME, raw, .. } => out.push(Block::Raw(raw)),
        _ => {}
    }
}

/// `None`: there is nothing to see and nothing to send back.
fn thought(reasoning: &Reasoning) -> Option<Known<'_>> {
    let Reasoning { text, encrypted, .. } = reasoning;
    let seal = seal(reasoning);
    match (text.is_empty(), seal, encrypted) {
        (true, None, _) => None,
        (true, Some(data), Some(_)) => Some(Known::RedactedThinking { data }),
        (_, seal, _) => Some(Known::Thinking { thinking: text, signature: seal.unwrap_or_default() }),
    }
}

/// This dialect's own proof as it is, another's sealed.
fn seal(reasoning: &Reasoning) -> Option<String> {
    if reasoning.origin.is_some_and(|origin| origin != NAME) {
        return sealed::of_reasoning(reasoning);
    }
    reasoning.encrypted.clone().or_else(|| reasoning.signature.clone())
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Chunk<'a> {
    MessageStart { message: Message<'a> },
    ContentBlockStart { index: u32, content_block: Block<'a> },
    ContentBlockDelta { index: u32, delta: Piece<'a> },
    ContentBlockStop { index: u32 },
    MessageDelta { delta: End<'a>, usage: usage::Written },
    MessageStop,
}

#[derive(Serialize)]
#[serde(tag = "type")]
enum Piece<'a> {
    #[serde(rename = "text_delta")]
    Text { text: &'a str },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: &'a str },
    #[serde(rename = "signature_delta")]
    Signature { signature: &'a str },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: &'a str },
    #[serde(rename = "citations_delta")]
    Citations { citation: Written<'a> },
}

#[derive(Serialize)]
struct End<'a> {
    stop_reason: Option<&'a str>,
    stop_sequence: Option<&'a str>,
}

/// A part that has begun. Blocks stand one behind the other, so only the first of them is written; what comes for the
/// others waits.
struct Open {
    id: PartId,
    block: Form,
    /// Whether its block has begun.
    begun: bool,
    waiting: Vec<Delta>,
    ended: bool,
}

enum Form {
    Text,
    /// Its text goes out as it comes, its proof at the end.
    Thinking(Reasoning),
    Tool {
        id: String,
        name: String,
        signature: Option<String>,
        empty: bool,
    },
    Whole(RawJson),
    /// There is no place for it.
    Nowhere,
}

/// One stream towards a caller.
pub(super) struct Blocks {
    stamp: Stamp,
    model: String,
    tier: Option<String>,
    usage: Usage,
    started: bool,
    next: u32,
    open: VecDeque<Open>,
    finish: Option<(FinishReason, Option<String>)>,
}

impl Blocks {
    pub(super) fn new(stamp: Stamp) -> Blocks {
        let model = stamp.model.clone().unwrap_or_default();
        Blocks {
            stamp,
            model,
            tier: None,
            usage: Usage::default(),
            started: false,
            next: 0,
            open: VecDeque::new(),
            finish: None,
        }
    }

    /// Waits for the first thing to be said, so that usage which is known at the start stands in it.
    fn begin(&mut self, out: &mut Vec<Bytes>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        out.push(bytes(&Chunk::MessageStart {
            message: Message {
                id: &self.stamp.id,
                kind: "message",
                role: "assistant",
                model: &self.model,
                content: Vec::new(),
                stop_reason: None,
                stop_sequence: None,
                usage: usage::render(&self.usage, self.tier.as_deref()),
            },
        }));
    }

    fn start(&mut self, id: PartId, kind: &PartKind) {
        let block = match kind {
            PartKind::Text | PartKind::Refusal => Form::Text,
            PartKind::Reasoning => Form::Thinking(Reasoning::default()),
            PartKind::ToolCall { id, name } => {
                Form::Tool { id: id.clone(), name: name.clone(), signature: None, empty: true }
            }
            PartKind::Other { dialect: NAME, raw, .. } => Form::Whole(raw.clone()),
            PartKind::Other { .. } | PartKind::Media(_) => Form::Nowhere,
        };
        self.open.push_back(Open { id, block, begun: false, waiting: Vec::new(), ended: false });
    }

    /// Writes what can be written: the first part, and the next ones behind it once it has ended.
    fn advance(&mut self, out: &mut Vec<Bytes>) {
        while let Some(mut part) = self.open.pop_front() {
            self.begin(out);
            for delta in std::mem::take(&mut part.waiting) {
                self.piece(&mut part, &delta, out);
            }
            if !part.ended {
                self.open.push_front(part);
                return;
            }
            self.close(part, out);
        }
    }

    fn piece(&mut self, part: &mut Open, delta: &Delta, out: &mut Vec<Bytes>) {
        match (&mut part.block, delta) {
            (Form::Text, Delta::Text(text)) => {
                self.write(part, Piece::Text { text }, out);
            }
            (Form::Text, Delta::Citation(citation)) => self.cite(part, citation, out),
            (Form::Thinking(_), Delta::Reasoning(thinking)) => {
                self.write(part, Piece::Thinking { thinking }, out);
            }
            (Form::Thinking(seen), Delta::Origin { dialect, id }) => {
                (seen.origin, seen.id) = (Some(*dialect), id.clone());
            }
            (Form::Thinking(seen), Delta::Signature(whole)) => seen.signature = Some(whole.clone()),
            (Form::Thinking(seen), Delta::Encrypted(whole)) => seen.encrypted = Some(whole.clone()),
            (Form::Tool { signature, .. }, Delta::Signature(whole)) => *signature = Some(whole.clone()),
            (Form::Tool { empty, .. }, Delta::Args(partial_json)) => {
                *empty = false;
                self.write(part, Piece::InputJson { partial_json }, out);
            }
            _ => {}
        }
    }

    fn cite(&mut self, part: &mut Open, citation: &Citation, out: &mut Vec<Bytes>) {
        if let Some(citation) = citations::for_caller(citation) {
            self.write(part, Piece::Citations { citation }, out);
        }
    }

    fn write(&mut self, part: &mut Open, delta: Piece<'_>, out: &mut Vec<Bytes>) {
        self.open_block(part, out);
        out.push(bytes(&Chunk::ContentBlockDelta { index: self.next, delta }));
    }

    fn open_block(&mut self, part: &mut Open, out: &mut Vec<Bytes>) {
        if std::mem::replace(&mut part.begun, true) {
            return;
        }
        let known = match &mut part.block {
            Form::Text => Known::Text { text: "", citations: Vec::new() },
            Form::Thinking(_) => Known::Thinking { thinking: "", signature: String::new() },
            Form::Tool { id, name, signature, .. } => {
                if let Some(signature) = signature.take() {
                    self.lone(Block::Known(Known::RedactedThinking { data: sealed::of_call(id, &signature) }), out);
                }
                let input = RawJson::new("{}").expect("an empty object is JSON");
                Known::ToolUse { id, name, input }
            }
            Form::Whole(_) | Form::Nowhere => return,
        };
        out.push(bytes(&Chunk::ContentBlockStart { index: self.next, content_block: Block::Known(known) }));
    }

    /// A block without deltas.
    fn lone(&mut self, content_block: Block<'_>, out: &mut Vec<Bytes>) {
        out.push(bytes(&Chunk::ContentBlockStart { index: self.next, content_block }));
        self.stop(out);
    }

    fn stop(&mut self, out: &mut Vec<Bytes>) {
        out.push(bytes(&Chunk::ContentBlockStop { index: self.next }));
        self.next += 1;
    }

    fn close(&mut self, mut part: Open, out: &mut Vec<Bytes>) {
        match &part.block {
            Form::Nowhere => return,
            Form::Whole(raw) => return self.server_tool(&raw.clone(), out),
            Form::Thinking(seen) if !part.begun => match thought(seen) {
                Some(Known::Thinking { .. }) => {}
                Some(known) => return self.lone(Block::Known(known), out),
                None => return,
            },
            _ => {}
        }
        self.open_block(&mut part, out);
        if let Form::Thinking(seen) = &part.block
            && let Some(signature) = seal(seen)
        {
            self.write(&mut Open { begun: true, ..part }, Piece::Signature { signature: &signature }, out);
            return self.stop(out);
        }
        if let Form::Tool { empty: true, .. } = part.block {
            self.write(&mut part, Piece::InputJson { partial_json: "{}" }, out);
        }
        self.stop(out);
        // The signature came too late for its place before the call; the seal names the call, so it is found here, too.
        if let Form::Tool { id, signature: Some(signature), .. } = &part.block {
            self.lone(Block::Known(Known::RedactedThinking { data: sealed::of_call(id, signature) }), out);
        }
    }

    /// A block of this dialect's own. Clients expect the input of a tool in pieces behind the block's start.
    fn server_tool(&mut self, raw: &RawJson, out: &mut Vec<Bytes>) {
        #[derive(serde::Deserialize)]
        struct Called {
            input: RawJson,
        }
        let called: Option<Called> = serde_json::from_str(raw.as_str()).ok();
        let emptied = called.and_then(|called| {
            let start = rewrite(raw.as_str().as_bytes(), &[Edit::set("input", "{}")]).ok()?;
            Some((RawJson::new(String::from_utf8(start.to_vec()).ok()?)?, called.input))
        });
        let Some((start, input)) = emptied else {
            return self.lone(Block::Raw(raw), out);
        };
        out.push(bytes(&Chunk::ContentBlockStart { index: self.next, content_block: Block::Raw(&start) }));
        let delta = Piece::InputJson { partial_json: input.as_str() };
        out.push(bytes(&Chunk::ContentBlockDelta { index: self.next, delta }));
        self.stop(out);
    }
}

impl StreamEncoder for Blocks {
    fn name(&self) -> DialectName {
        NAME
    }

    /// A caller of this dialect asks for one answer: other choices are none of its business. An error is the caller's
    /// final message, which whoever runs the stream renders.
    fn encode(&mut self, event: &Event, out: &mut Vec<Bytes>) {
        match event {
            Event::Started { model, .. } if self.stamp.model.is_none() => self.model.clone_from(model),
            Event::PartStart { id, choice: 0, kind } => self.start(*id, kind),
            Event::Delta { id, delta } => {
                if let Some(part) = self.open.iter_mut().find(|part| part.id == *id) {
                    part.waiting.push(delta.clone());
                }
                self.advance(out);
            }
            Event::PartEnd { id } => {
                if let Some(part) = self.open.iter_mut().find(|part| part.id == *id) {
                    part.ended = true;
                }
                self.advance(out);
            }
            Event::Usage(usage) => self.usage = *usage,
            Event::ServiceTier(tier) => self.tier = Some(tier.clone()),
            Event::Finish { choice: 0, reason, stop_sequence } => {
                self.finish = Some((reason.clone(), stop_sequence.clone()));
            }
            _ => {}
        }
    }

    fn finish(&mut self, out: &mut Vec<Bytes>) {
        self.begin(out);
        let (reason, stop_sequence) = self.finish.take().unzip();
        out.push(bytes(&Chunk::MessageDelta {
            delta: End {
                stop_reason: reason.as_ref().map(stop_reason),
                stop_sequence: stop_sequence.as_ref().and_then(Option::as_deref),
            },
            usage: usage::render(&self.usage, self.tier.as_deref()),
        }));
        out.push(bytes(&Chunk::MessageStop));
    }
}
