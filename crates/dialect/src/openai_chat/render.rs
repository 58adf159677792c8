//! Answers towards a caller: one object, or chunks.

use std::borrow::Cow;

use bytes::Bytes;
use farebox_types::Usage;
use serde::Serialize;

use super::{
    citations,
    details::{self, Detail},
    usage,
};
use crate::{
    canonical::{
        Choice, Completion, Content, Delta, Event, Extra, FinishReason, Media, Part, PartId, PartKind, Reasoning,
    },
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
    usage: Option<usage::Wire>,
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
    reasoning_details: Vec<Detail>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<citations::Written<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<Image<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<ExtraContent<'a>>,
    #[serde(flatten)]
    extra: &'a Extra,
}

#[derive(Serialize)]
pub(super) struct Image<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    image_url: ImageUrl<'a>,
}

#[derive(Serialize)]
struct ImageUrl<'a> {
    url: Cow<'a, str>,
}

impl<'a> Image<'a> {
    /// `None`: there is no address to write.
    pub(super) fn of(media: &'a Media) -> Option<Image<'a>> {
        Some(Image { kind: "image_url", image_url: ImageUrl { url: media.source.url()? } })
    }
}

/// Gemini's proof of the reasoning behind a part, in Google's own form for this dialect.
#[derive(Serialize)]
pub(super) struct ExtraContent<'a> {
    google: Google<'a>,
}

#[derive(Serialize)]
struct Google<'a> {
    thought_signature: &'a str,
}

impl<'a> ExtraContent<'a> {
    pub(super) fn of(signature: &'a str) -> ExtraContent<'a> {
        ExtraContent { google: Google { thought_signature: signature } }
    }
}

#[derive(Serialize)]
struct ToolCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<Function<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<ExtraContent<'a>>,
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
    let finish_reason = choice.finish.as_ref().map(finish_word);
    WholeChoice { index: choice.index, message: message(choice), logprobs: choice.logprobs.as_ref(), finish_reason }
}

fn message(choice: &Choice) -> Message<'_> {
    let thoughts = choice.parts.iter().filter_map(thought);
    let mut message = Message {
        role: "assistant",
        content: None,
        refusal: None,
        reasoning_content: None,
        reasoning_details: details::of(thoughts),
        annotations: choice.parts.iter().flat_map(|part| &part.citations).filter_map(citations::write).collect(),
        images: Vec::new(),
        tool_calls: Vec::new(),
        extra_content: None,
        extra: &choice.extra,
    };
    for part in &choice.parts {
        let signature = part.signature.as_deref().map(ExtraContent::of);
        match &part.content {
            Content::Text(text) => {
                message.content.get_or_insert_default().push_str(text);
                message.extra_content = signature.or(message.extra_content);
            }
            Content::Refusal(text) => message.refusal.get_or_insert_default().push_str(text),
            Content::Reasoning(reasoning) if !reasoning.text.is_empty() => {
                message.reasoning_content.get_or_insert_default().push_str(&reasoning.text);
            }
            Content::Image(media) => message.images.extend(Image::of(media)),
            Content::ToolCall(call) => message.tool_calls.push(ToolCall {
                index: None,
                id: Some(&call.id),
                kind: Some("function"),
                function: Some(Function { name: Some(&call.name), arguments: arguments(&call.arguments) }),
                extra_content: signature,
            }),
            // What only its own dialect understands is left out; the caller's dialect has no place for it.
            _ => {}
        }
    }
    if message.content.is_none() && message.tool_calls.is_empty() && message.refusal.is_none() {
        message.content = Some(String::new());
    }
    message
}

fn thought(part: &Part) -> Option<&Reasoning> {
    if let Content::Reasoning(reasoning) = &part.content { Some(reasoning) } else { None }
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
    usage: Option<Option<usage::Wire>>,
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
    reasoning_details: Option<[Detail; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<[citations::Written<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<[Image<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[ToolCall<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<ExtraContent<'a>>,
}

/// Where a part's deltas go.
struct Open {
    id: PartId,
    choice: u32,
    place: Place,
}

enum Place {
    Content,
    Refusal,
    Reasoning { index: u32, origin: Option<(DialectName, Option<String>)> },
    Tool { index: u32, empty: bool },
    Nowhere,
}

/// A choice whose first chunk is out, with what it has numbered so far.
struct Begun {
    choice: u32,
    tools: u32,
    thoughts: u32,
}

/// One stream towards a caller.
pub(super) struct Chunks {
    stamp: Stamp,
    include_usage: bool,
    model: String,
    tier: Option<String>,
    usage: Usage,
    open: Vec<Open>,
    begun: Vec<Begun>,
}

impl Chunks {
    pub(super) fn new(include_usage: bool, stamp: Stamp) -> Chunks {
        let model = stamp.model.clone().unwrap_or_default();
        Chunks { stamp, include_usage, model, tier: None, usage: Usage::default(), open: Vec::new(), begun: Vec::new() }
    }

    fn write(&self, choices: &[ChunkChoice<'_>], usage: Option<Option<usage::Wire>>) -> Bytes {
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

    fn begin(&mut self, choice: u32, out: &mut Vec<Bytes>) -> usize {
        if let Some(at) = self.begun.iter().position(|begun| begun.choice == choice) {
            return at;
        }
        self.begun.push(Begun { choice, tools: 0, thoughts: 0 });
        let first = Piece { role: Some("assistant"), content: Some(""), ..Piece::default() };
        out.push(self.piece(choice, first, None, None));
        self.begun.len() - 1
    }

    fn start(&mut self, id: PartId, choice: u32, kind: &PartKind, out: &mut Vec<Bytes>) {
        let at = self.begin(choice, out);
        let place = match kind {
            PartKind::Text => Place::Content,
            PartKind::Refusal => Place::Refusal,
            PartKind::Reasoning => {
                self.begun[at].thoughts += 1;
                Place::Reasoning { index: self.begun[at].thoughts - 1, origin: None }
            }
            PartKind::ToolCall { id, name } => {
                let index = self.begun[at].tools;
                self.begun[at].tools += 1;
                let call = ToolCall {
                    index: Some(index),
                    id: Some(id),
                    kind: Some("function"),
                    function: Some(Function { name: Some(name), arguments: "" }),
                    extra_content: None,
                };
                out.push(self.piece(choice, Piece { tool_calls: Some([call]), ..Piece::default() }, None, None));
                Place::Tool { index, empty: true }
            }
            PartKind::Media(content) => {
                if let Content::Image(media) = &**content
                    && let Some(image) = Image::of(media)
                {
                    out.push(self.piece(choice, Piece { images: Some([image]), ..Piece::default() }, None, None));
                }
                Place::Nowhere
            }
            PartKind::Other { .. } => Place::Nowhere,
        };
        self.open.push(Open { id, choice, place });
    }

    fn delta(&mut self, id: PartId, delta: &Delta, out: &mut Vec<Bytes>) {
        let Some(open) = self.open.iter_mut().find(|open| open.id == id) else {
            return;
        };
        let choice = open.choice;
        let Some((piece, logprobs)) = piece_of(delta, &mut open.place) else {
            return;
        };
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

/// What one delta is as a piece of the message; `None`: nothing that a caller of this dialect reads.
fn piece_of<'a>(delta: &'a Delta, place: &mut Place) -> Option<(Piece<'a>, Option<&'a RawJson>)> {
    let mut piece = Piece::default();
    match (delta, place) {
        (Delta::Text(text), Place::Content) => piece.content = Some(text),
        (Delta::Text(text), Place::Refusal) => piece.refusal = Some(text),
        (Delta::Args(text), Place::Tool { index, empty }) => {
            *empty = false;
            piece.tool_calls = Some([arguments_piece(*index, text)]);
        }
        (Delta::Signature(signature), Place::Tool { index, .. }) => {
            // OpenAI's own package reads `function` of every piece of a call.
            let extra_content = Some(ExtraContent::of(signature));
            piece.tool_calls = Some([ToolCall { extra_content, ..arguments_piece(*index, "") }]);
        }
        (Delta::Signature(signature), Place::Content) => piece.extra_content = Some(ExtraContent::of(signature)),
        (Delta::Origin { dialect, id }, Place::Reasoning { origin, .. }) => {
            *origin = Some((*dialect, id.clone()));
            return None;
        }
        (delta, Place::Reasoning { index, origin }) => thought_piece(delta, *index, origin.as_ref(), &mut piece)?,
        (Delta::Citation(citation), _) => piece.annotations = Some([citations::write(citation)?]),
        (Delta::Logprobs(raw), _) => return Some((piece, Some(raw))),
        _ => return None,
    }
    Some((piece, None))
}

/// Reasoning of a known origin will be followed by its proof: its text is told in both forms, so that a client that
/// gathers `reasoning_details` has text and proof together.
fn thought_piece<'a>(
    delta: &'a Delta,
    index: u32,
    origin: Option<&(DialectName, Option<String>)>,
    piece: &mut Piece<'a>,
) -> Option<()> {
    let (dialect, id) = origin.map_or((None, None), |(dialect, id)| (Some(*dialect), id.as_deref()));
    let detail = match delta {
        Delta::Reasoning(text) => {
            piece.reasoning_content = Some(text);
            dialect.map(|_| details::text(text, dialect, index))
        }
        Delta::Signature(signature) => Some(details::signature(signature, dialect, index)),
        Delta::Encrypted(data) => Some(details::encrypted(data, id, dialect, index)),
        _ => return None,
    };
    piece.reasoning_details = detail.map(|detail| [detail]);
    Some(())
}

fn arguments_piece(index: u32, text: &str) -> ToolCall<'_> {
    let function = Some(Function { name: None, arguments: text });
    ToolCall { index: Some(index), id: None, kind: None, function, extra_content: None }
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
