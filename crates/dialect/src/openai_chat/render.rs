//! Answers towards a caller: one object, or chunks.

use bytes::Bytes;
use farebox_types::Usage;
use serde::Serialize;

use super::{types, usage};
use crate::{
    canonical::{Choice, Completion, Content, Delta, Event, Extra, FinishReason, PartId, PartKind},
    dialect::{DialectName, Stamp, StreamEncoder},
    json::RawJson,
};

#[derive(Serialize)]
struct Whole<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'a str,
    choices: Vec<WholeChoice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<types::Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'a str>,
}

#[derive(Serialize)]
struct WholeChoice<'a> {
    index: u32,
    message: Message<'a>,
    logprobs: Option<&'a RawJson>,
    finish_reason: Option<&'a str>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Option<String>,
    refusal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall<'a>>,
    #[serde(flatten)]
    extra: &'a Extra,
}

#[derive(Serialize)]
struct ToolCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

/// A turn that the provider paused is not complete: `length` is the word of this dialect for more to come.
fn finish_word(reason: &FinishReason) -> &str {
    match reason {
        FinishReason::Stop | FinishReason::StopSequence => "stop",
        FinishReason::Length | FinishReason::Pause => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter | FinishReason::Refusal => "content_filter",
        FinishReason::Other(word) => word,
    }
}

fn bytes(value: &impl Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(value).expect("strings, numbers and checked JSON can always be written"))
}

/// No arguments at all is an empty object: callers parse them.
fn arguments(written: &str) -> &str {
    if written.trim().is_empty() { "{}" } else { written }
}

pub(super) fn whole(completion: &Completion, stamp: &Stamp) -> Bytes {
    bytes(&Whole {
        id: &stamp.id,
        object: "chat.completion",
        created: stamp.created,
        model: stamp.model.as_deref().unwrap_or(&completion.model),
        choices: completion.choices.iter().map(whole_choice).collect(),
        usage: usage::render(&completion.usage),
        service_tier: completion.service_tier.as_deref(),
    })
}

fn whole_choice(choice: &Choice) -> WholeChoice<'_> {
    let mut message = Message {
        role: "assistant",
        content: None,
        refusal: None,
        reasoning_content: None,
        tool_calls: Vec::new(),
        extra: &choice.extra,
    };
    for part in &choice.parts {
        match &part.content {
            Content::Text(text) => message.content.get_or_insert_default().push_str(text),
            Content::Refusal(text) => message.refusal.get_or_insert_default().push_str(text),
            Content::Reasoning(reasoning) if !reasoning.text.is_empty() => {
                message.reasoning_content.get_or_insert_default().push_str(&reasoning.text);
            }
            Content::ToolCall(call) => message.tool_calls.push(ToolCall {
                index: None,
                id: Some(&call.id),
                kind: Some("function"),
                function: Function { name: Some(&call.name), arguments: arguments(&call.arguments) },
            }),
            // What only its own dialect understands is left out; the caller's dialect has no place for it.
            _ => {}
        }
    }
    if message.content.is_none() && message.tool_calls.is_empty() && message.refusal.is_none() {
        message.content = Some(String::new());
    }
    let finish_reason = choice.finish.as_ref().map(finish_word);
    WholeChoice { index: choice.index, message, logprobs: choice.logprobs.as_ref(), finish_reason }
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'a str>,
    choices: &'a [ChunkChoice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<types::Usage>>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: u32,
    delta: Piece<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<&'a RawJson>,
    finish_reason: Option<&'a str>,
}

#[derive(Default, Serialize)]
struct Piece<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[ToolCall<'a>; 1]>,
}

/// Where a part's deltas go.
struct Open {
    id: PartId,
    choice: u32,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    Content,
    Refusal,
    Reasoning,
    Tool { index: u32, empty: bool },
    Nowhere,
}

/// One stream towards a caller.
pub(super) struct Chunks {
    stamp: Stamp,
    include_usage: bool,
    model: String,
    tier: Option<String>,
    usage: Usage,
    open: Vec<Open>,
    /// Choices whose first chunk is out, with their number of tool calls.
    begun: Vec<(u32, u32)>,
}

impl Chunks {
    pub(super) fn new(include_usage: bool, stamp: Stamp) -> Chunks {
        let model = stamp.model.clone().unwrap_or_default();
        Chunks { stamp, include_usage, model, tier: None, usage: Usage::default(), open: Vec::new(), begun: Vec::new() }
    }

    fn write(&self, choices: &[ChunkChoice<'_>], usage: Option<Option<types::Usage>>) -> Bytes {
        bytes(&Chunk {
            id: &self.stamp.id,
            object: "chat.completion.chunk",
            created: self.stamp.created,
            model: &self.model,
            service_tier: self.tier.as_deref(),
            choices,
            usage,
        })
    }

    fn piece(&self, index: u32, delta: Piece<'_>, logprobs: Option<&RawJson>, finish: Option<&str>) -> Bytes {
        let choice = ChunkChoice { index, delta, logprobs, finish_reason: finish };
        // With `include_usage`, every chunk but the last says `"usage": null`.
        self.write(&[choice], self.include_usage.then_some(None))
    }

    fn begin(&mut self, choice: u32, out: &mut Vec<Bytes>) {
        if self.begun.iter().any(|(begun, _)| *begun == choice) {
            return;
        }
        self.begun.push((choice, 0));
        out.push(self.piece(
            choice,
            Piece { role: Some("assistant"), content: Some(""), ..Piece::default() },
            None,
            None,
        ));
    }

    fn start(&mut self, id: PartId, choice: u32, kind: &PartKind, out: &mut Vec<Bytes>) {
        self.begin(choice, out);
        let place = match kind {
            PartKind::Text => Place::Content,
            PartKind::Refusal => Place::Refusal,
            PartKind::Reasoning => Place::Reasoning,
            PartKind::ToolCall { id, name } => {
                let mut index = 0;
                if let Some((_, tools)) = self.begun.iter_mut().find(|(begun, _)| *begun == choice) {
                    index = *tools;
                    *tools += 1;
                }
                let call = ToolCall {
                    index: Some(index),
                    id: Some(id),
                    kind: Some("function"),
                    function: Function { name: Some(name), arguments: "" },
                };
                out.push(self.piece(choice, Piece { tool_calls: Some([call]), ..Piece::default() }, None, None));
                Place::Tool { index, empty: true }
            }
            PartKind::Media(_) | PartKind::Other { .. } => Place::Nowhere,
        };
        self.open.push(Open { id, choice, place });
    }

    fn delta(&mut self, id: PartId, delta: &Delta, out: &mut Vec<Bytes>) {
        let Some(open) = self.open.iter_mut().find(|open| open.id == id) else {
            return;
        };
        let choice = open.choice;
        let (mut piece, mut logprobs) = (Piece::default(), None);
        match (delta, &mut open.place) {
            (Delta::Text(text), Place::Content) => piece.content = Some(text),
            (Delta::Text(text), Place::Refusal) => piece.refusal = Some(text),
            (Delta::Reasoning(text), Place::Reasoning) => piece.reasoning_content = Some(text),
            (Delta::Args(text), Place::Tool { index, empty }) => {
                *empty = false;
                piece.tool_calls = Some([arguments_piece(*index, text)]);
            }
            (Delta::Logprobs(raw), _) => logprobs = Some(raw),
            _ => return,
        }
        out.push(self.piece(choice, piece, logprobs, None));
    }

    fn end(&mut self, id: PartId, out: &mut Vec<Bytes>) {
        let Some(at) = self.open.iter().position(|open| open.id == id) else {
            return;
        };
        let Open { choice, place, .. } = self.open.swap_remove(at);
        if let Place::Tool { index, empty: true } = place {
            let piece = Piece { tool_calls: Some([arguments_piece(index, arguments(""))]), ..Piece::default() };
            out.push(self.piece(choice, piece, None, None));
        }
    }
}

fn arguments_piece(index: u32, text: &str) -> ToolCall<'_> {
    ToolCall { index: Some(index), id: None, kind: None, function: Function { name: None, arguments: text } }
}

impl StreamEncoder for Chunks {
    fn name(&self) -> DialectName {
        DialectName::OpenAiChat
    }

    fn encode(&mut self, event: &Event, out: &mut Vec<Bytes>) {
        match event {
            Event::Started { model, .. } => {
                if self.stamp.model.is_none() {
                    self.model.clone_from(model);
                }
                self.begin(0, out);
            }
            Event::PartStart { id, choice, kind } => self.start(*id, *choice, kind, out),
            Event::Delta { id, delta } => self.delta(*id, delta, out),
            Event::PartEnd { id } => self.end(*id, out),
            Event::Usage(usage) => self.usage = *usage,
            Event::ServiceTier(tier) => self.tier = Some(tier.clone()),
            Event::Finish { choice, reason, .. } => {
                self.begin(*choice, out);
                out.push(self.piece(*choice, Piece::default(), None, Some(finish_word(reason))));
            }
            // An error is the caller's final message, which whoever runs the stream renders.
            Event::ReportedCost(_) | Event::Error(_) | Event::Unknown(_) => {}
        }
    }

    fn finish(&mut self, out: &mut Vec<Bytes>) {
        if self.include_usage {
            out.push(self.write(&[], Some(usage::render(&self.usage))));
        }
    }
}
