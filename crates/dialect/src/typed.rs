//! The typed conversation of the contract, to and from the canonical call.

use base64::{Engine, engine::general_purpose::STANDARD};
use farebox_proto::v1;
use farebox_types::Usage;
use v1::{delta::part_start::Kind, part};

use crate::{
    canonical::{
        Call, Completion, Content, Delta, Effort, Event, FinishReason, Media, Message, Part, PartId, PartKind,
        Reasoning, ReasoningRequest, ResponseFormat, Role, Sampling, Source, Tool, ToolCall, ToolChoice, ToolResult,
        sealed,
    },
    dialect::DialectName,
    error::BadRequest,
    json::{Path, RawJson},
    outline::Outline,
};

type Result<T> = std::result::Result<T, BadRequest>;

/// Before the data of reasoning that only the provider can read, in the field that carries signatures. Callers send
/// it back unchanged, so that the two can be told apart again.
const ENCRYPTED: &str = "encrypted:";

/// The canonical call of a typed conversation.
pub fn call(model: &str, conversation: &v1::Conversation, stream: bool) -> Result<Call> {
    if conversation.messages.is_empty() {
        return Err(BadRequest::field("messages", "is empty: it must hold at least one message"));
    }
    let root = Path::Root;
    let at = root.member("messages");
    let messages = conversation.messages.iter().enumerate();
    let effort = conversation.reasoning_effort.as_str();
    Ok(Call {
        model: model.to_owned(),
        messages: messages.map(|(index, given)| message(given, at.item(index))).collect::<Result<_>>()?,
        tools: conversation.tools.iter().enumerate().map(tool).collect::<Result<_>>()?,
        tool_choice: conversation.tool_choice.as_ref().map(tool_choice).transpose()?.flatten(),
        response_format: conversation.response_format.as_ref().map(response_format).transpose()?.flatten(),
        max_output_tokens: conversation.max_output_tokens,
        sampling: Sampling {
            temperature: conversation.temperature,
            top_p: conversation.top_p,
            seed: conversation.seed,
            ..Sampling::default()
        },
        stop: conversation.stop.clone(),
        reasoning: (!effort.is_empty())
            .then(|| ReasoningRequest { effort: Some(Effort::from(effort)), ..ReasoningRequest::default() }),
        stream,
        include_usage: stream,
        ..Call::default()
    })
}

/// What routing must know of a typed conversation.
pub fn outline(model: &str, conversation: &v1::Conversation, stream: bool) -> Outline {
    Outline {
        model: (!model.is_empty()).then(|| model.to_owned()),
        stream,
        include_usage: stream,
        max_output_tokens: conversation.max_output_tokens,
        n: None,
        messages: conversation.messages.len(),
        has_tools: !conversation.tools.is_empty(),
        designed_tools: 0,
        repeated: 0,
        named_reasoning: 0,
        remote_media: remote_media(conversation),
        inline_media: conversation.messages.iter().map(|m| inline_media(&m.parts)).sum(),
        media_bytes: conversation.messages.iter().map(|m| media_bytes(&m.parts)).sum(),
        inline_documents: conversation.messages.iter().map(|m| documents(&m.parts)).sum(),
        unbounded: None,
        unbounded_elsewhere: None,
        unmetered: false,
        unmetered_elsewhere: false,
        searches: false,
        unseen: None,
        service_tier: None,
        farebox: None,
        metadata: None,
        user: None,
    }
}

fn inline_media(parts: &[v1::Part]) -> usize {
    let count = |given: &v1::Part| match &given.kind {
        Some(part::Kind::Image(_) | part::Kind::Document(_) | part::Kind::Audio(_)) => 1,
        Some(part::Kind::ToolResult(result)) => inline_media(&result.parts),
        _ => 0,
    };
    parts.iter().map(count).sum()
}

fn media_bytes(parts: &[v1::Part]) -> usize {
    let bytes = |given: &v1::Part| match &given.kind {
        Some(part::Kind::Image(media) | part::Kind::Document(media) | part::Kind::Audio(media)) => {
            match &media.source {
                Some(v1::media::Source::Data(data)) => data.len(),
                _ => 0,
            }
        }
        Some(part::Kind::ToolResult(result)) => media_bytes(&result.parts),
        _ => 0,
    };
    parts.iter().map(bytes).sum()
}

fn documents(parts: &[v1::Part]) -> usize {
    let count = |given: &v1::Part| match &given.kind {
        Some(part::Kind::Document(_)) => 1,
        Some(part::Kind::ToolResult(result)) => documents(&result.parts),
        _ => 0,
    };
    parts.iter().map(count).sum()
}

fn remote_media(conversation: &v1::Conversation) -> Option<String> {
    fn find(parts: &[v1::Part], at: Path<'_>) -> Option<String> {
        parts.iter().enumerate().find_map(|(index, given)| {
            let at = at.item(index);
            match given.kind.as_ref()? {
                part::Kind::Image(media) | part::Kind::Document(media) | part::Kind::Audio(media) => {
                    matches!(&media.source, Some(v1::media::Source::Url(_))).then(|| at.member("url").to_string())
                }
                part::Kind::ToolResult(result) => find(&result.parts, at.member("parts")),
                _ => None,
            }
        })
    }
    let root = Path::Root;
    let messages = root.member("messages");
    conversation.messages.iter().enumerate().find_map(|(index, m)| find(&m.parts, messages.item(index).member("parts")))
}

fn message(given: &v1::Message, at: Path<'_>) -> Result<Message> {
    let role = match given.role() {
        v1::Role::System => Role::System,
        v1::Role::User => Role::User,
        v1::Role::Assistant => Role::Assistant,
        v1::Role::Tool => Role::Tool,
        v1::Role::Unspecified => return Err(BadRequest::field(at.member("role"), "must be set")),
    };
    Ok(Message::new(role, parts(&given.parts, at.member("parts"))?))
}

fn parts(given: &[v1::Part], at: Path<'_>) -> Result<Vec<Part>> {
    let part = |(index, given): (usize, &v1::Part)| {
        let signature = Some(given.signature.clone()).filter(|signature| !signature.is_empty());
        Ok(Part { signature, ..Part::from(content(given, at.item(index))?) })
    };
    given.iter().enumerate().map(part).collect()
}

fn content(given: &v1::Part, at: Path<'_>) -> Result<Content> {
    let Some(kind) = &given.kind else {
        return Err(BadRequest::field(at, "is empty, or of a kind that is newer than this farebox"));
    };
    Ok(match kind {
        part::Kind::Text(text) => Content::Text(text.clone()),
        part::Kind::Refusal(text) => Content::Refusal(text.clone()),
        part::Kind::Image(given) => Content::Image(media(given, at)?),
        part::Kind::Document(given) => Content::File(media(given, at)?),
        part::Kind::Audio(given) => Content::Audio(media(given, at)?),
        part::Kind::ToolCall(given) => Content::ToolCall(ToolCall {
            id: given.id.clone(),
            name: given.name.clone(),
            arguments: given.arguments_json.clone(),
        }),
        part::Kind::ToolResult(given) => Content::ToolResult(ToolResult {
            call_id: given.tool_call_id.clone(),
            is_error: given.is_error,
            parts: parts(&given.parts, at.member("parts"))?,
        }),
        part::Kind::Reasoning(given) => {
            let (seal, encrypted) = match given.signature.strip_prefix(ENCRYPTED) {
                Some(seal) => (seal, true),
                None => (given.signature.as_str(), false),
            };
            let (origin, seal) = sealed::unseal(seal).map_or((None, seal), |(origin, seal)| (Some(origin), seal));
            let seal = (!seal.is_empty()).then(|| seal.to_owned());
            let (signature, encrypted) = if encrypted { (None, seal) } else { (seal, None) };
            Content::Reasoning(Reasoning { text: given.text.clone(), signature, encrypted, id: None, origin })
        }
    })
}

fn media(given: &v1::Media, at: Path<'_>) -> Result<Media> {
    let source = match &given.source {
        Some(v1::media::Source::Url(url)) => Source::Url(url.clone()),
        Some(v1::media::Source::Data(data)) => {
            if given.media_type.is_empty() {
                return Err(BadRequest::field(
                    at.member("media_type"),
                    "must say what the data is, such as `image/png`",
                ));
            }
            match std::str::from_utf8(data) {
                Ok(text) if given.media_type.starts_with("text/") => Source::Text(text.to_owned()),
                _ => Source::Base64 { media_type: given.media_type.clone(), data: STANDARD.encode(data) },
            }
        }
        None => return Err(BadRequest::field(at, "must hold `data` or a `url`")),
    };
    Ok(Media::from(source))
}

fn schema(text: &str, at: Path<'_>) -> Result<Option<RawJson>> {
    if text.is_empty() {
        return Ok(None);
    }
    let schema = RawJson::new(text).filter(RawJson::is_object);
    schema.map(Some).ok_or_else(|| BadRequest::field(at, "must be the text of one JSON object"))
}

fn tool((index, given): (usize, &v1::Tool)) -> Result<Tool> {
    let root = Path::Root;
    let tools = root.member("tools");
    Ok(Tool {
        name: given.name.clone(),
        description: (!given.description.is_empty()).then(|| given.description.clone()),
        parameters: schema(&given.parameters_json, tools.item(index).member("parameters_json"))?,
        ..Tool::default()
    })
}

fn tool_choice(given: &v1::ToolChoice) -> Result<Option<ToolChoice>> {
    use v1::tool_choice::Mode;
    Ok(match given.mode() {
        Mode::Unspecified => None,
        Mode::Auto => Some(ToolChoice::Auto),
        Mode::None => Some(ToolChoice::None),
        Mode::Required => Some(ToolChoice::Required),
        Mode::Named if given.name.is_empty() => {
            return Err(BadRequest::field("tool_choice.name", "is missing: it must name a tool"));
        }
        Mode::Named => Some(ToolChoice::Named(given.name.clone())),
    })
}

fn response_format(given: &v1::ResponseFormat) -> Result<Option<ResponseFormat>> {
    use v1::response_format::Kind;
    let root = Path::Root;
    Ok(match given.kind() {
        Kind::Unspecified => None,
        Kind::Text => Some(ResponseFormat::Text),
        Kind::JsonObject => Some(ResponseFormat::JsonObject),
        Kind::JsonSchema => Some(ResponseFormat::JsonSchema {
            // Providers want a name; the typed form does not ask for one.
            name: if given.name.is_empty() { "answer".to_owned() } else { given.name.clone() },
            description: None,
            schema: schema(&given.schema_json, root.member("response_format").member("schema_json"))?,
            strict: Some(given.strict),
        }),
    })
}

/// The typed form of a whole answer: its first choice. Blocks that only a provider's own dialect understands are left
/// out.
pub fn completion(done: &Completion) -> v1::Completion {
    let choice = done.choices.first();
    v1::Completion {
        id: done.id.clone(),
        model: done.model.clone(),
        parts: choice.map(|c| c.parts.iter().filter_map(typed_part).collect()).unwrap_or_default(),
        finish_reason: choice
            .and_then(|c| c.finish.as_ref())
            .map_or(v1::FinishReason::Unspecified, finish_reason)
            .into(),
    }
}

fn typed_part(part: &Part) -> Option<v1::Part> {
    let kind = match &part.content {
        Content::Text(text) => part::Kind::Text(text.clone()),
        Content::Refusal(text) => part::Kind::Refusal(text.clone()),
        Content::ToolCall(call) => part::Kind::ToolCall(v1::ToolCall {
            id: call.id.clone(),
            name: call.name.clone(),
            arguments_json: if call.arguments.trim().is_empty() { "{}".to_owned() } else { call.arguments.clone() },
        }),
        Content::Reasoning(reasoning) => part::Kind::Reasoning(v1::Reasoning {
            text: reasoning.text.clone(),
            signature: match (&reasoning.encrypted, &reasoning.signature) {
                (Some(data), _) => format!("{ENCRYPTED}{}", sealed::by(reasoning.origin, data)),
                (None, Some(signature)) => sealed::by(reasoning.origin, signature),
                (None, None) => String::new(),
            },
        }),
        Content::Image(_) | Content::File(_) | Content::Audio(_) | Content::ToolResult(_) | Content::Other { .. } => {
            return None;
        }
    };
    Some(v1::Part { kind: Some(kind), signature: part.signature.clone().unwrap_or_default() })
}

fn finish_reason(reason: &FinishReason) -> v1::FinishReason {
    match reason {
        FinishReason::Stop | FinishReason::StopSequence => v1::FinishReason::Stop,
        FinishReason::Length | FinishReason::Pause => v1::FinishReason::Length,
        FinishReason::ToolCalls => v1::FinishReason::ToolCalls,
        FinishReason::ContentFilter | FinishReason::Refusal => v1::FinishReason::ContentFilter,
        FinishReason::Other(_) => v1::FinishReason::Other,
    }
}

/// Writes the events of one stream as typed deltas. Only the first choice is told, and nothing of blocks that only a
/// provider's own dialect understands.
#[derive(Debug, Default)]
pub struct Deltas {
    usage: Usage,
    open: Vec<Open>,
}

/// A part that the caller knows of.
#[derive(Debug)]
struct Open {
    id: PartId,
    /// Whose reasoning it is.
    origin: Option<DialectName>,
}

impl Deltas {
    pub fn new() -> Deltas {
        Deltas::default()
    }

    pub fn encode(&mut self, event: &Event) -> Option<v1::Delta> {
        use v1::delta;
        let event = match event {
            Event::PartStart { id, choice: 0, kind } => delta::Event::PartStart(self.start(*id, kind)?),
            Event::Delta { id, delta } => {
                let at = self.open.iter().position(|open| open.id == *id)?;
                let origin = self.open[at].origin;
                let (text, signature) = match delta {
                    Delta::Text(text) | Delta::Args(text) | Delta::Reasoning(text) => (text.clone(), String::new()),
                    Delta::Signature(signature) => (String::new(), sealed::by(origin, signature)),
                    Delta::Origin { dialect, .. } => {
                        self.open[at].origin = Some(*dialect);
                        return None;
                    }
                    Delta::Encrypted(data) => (String::new(), format!("{ENCRYPTED}{}", sealed::by(origin, data))),
                    Delta::Citation(_) | Delta::Logprobs(_) => return None,
                };
                delta::Event::PartDelta(delta::PartDelta { index: id.0, text, signature })
            }
            Event::PartEnd { id } => {
                let at = self.open.iter().position(|open| open.id == *id)?;
                self.open.swap_remove(at);
                delta::Event::PartEnd(delta::PartEnd { index: id.0 })
            }
            Event::Usage(usage) => {
                self.usage = *usage;
                return None;
            }
            Event::Finish { choice: 0, reason, .. } => delta::Event::Finished(delta::Finished {
                reason: finish_reason(reason).into(),
                usage: Some(self.usage.into()),
            }),
            _ => return None,
        };
        Some(v1::Delta { event: Some(event) })
    }

    fn start(&mut self, id: PartId, kind: &PartKind) -> Option<v1::delta::PartStart> {
        let (kind, tool_call_id, name) = match kind {
            PartKind::Text => (Kind::Text, "", ""),
            PartKind::Refusal => (Kind::Refusal, "", ""),
            PartKind::Reasoning => (Kind::Reasoning, "", ""),
            PartKind::ToolCall { id, name } => (Kind::ToolCall, id.as_str(), name.as_str()),
            PartKind::Media(_) | PartKind::Other { .. } => return None,
        };
        self.open.push(Open { id, origin: None });
        Some(v1::delta::PartStart {
            index: id.0,
            kind: kind.into(),
            tool_call_id: tool_call_id.to_owned(),
            name: name.to_owned(),
        })
    }
}
