//! What parts, reasons and whole answers mean. A whole answer is a stream of one event.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    error,
    stream::Events,
    types::{Chunk, FunctionCall, Logprobs, NAME, Part, Token, Word},
};
use crate::{
    canonical::{Choice, Collector, Completion, Content, FinishReason, Media, Source},
    error::DecodeError,
    json::{Object, RawJson},
};

fn corrupt(problem: impl ToString) -> DecodeError {
    DecodeError::Corrupt { dialect: NAME, problem: problem.to_string() }
}

pub(super) fn decode(body: &[u8]) -> Result<Completion, DecodeError> {
    let mut chunk: Chunk<'_> = serde_json::from_slice(body).map_err(corrupt)?;
    if let Some(error) = chunk.error.take() {
        return Err(DecodeError::Refused(Box::new(error::in_place(error.get()))));
    }
    if chunk.candidates.is_none() && chunk.prompt_feedback.is_none() && chunk.usage_metadata.is_none() {
        return Err(corrupt("it has no `candidates`"));
    }
    let (mut events, mut out) = (Events::default(), Vec::new());
    events.step(chunk, &mut out).map_err(corrupt)?;
    events.close(&mut out);
    let mut collector = Collector::new();
    out.iter().for_each(|event| collector.push(event));
    let mut completion = collector.into_completion();
    if completion.choices.is_empty() {
        completion.choices.push(Choice::default());
    }
    Ok(completion)
}

pub(super) fn decode_count(body: &[u8]) -> Result<u64, DecodeError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Count {
        total_tokens: u64,
    }
    serde_json::from_slice::<Count>(body).map(|count| count.total_tokens).map_err(corrupt)
}

/// What one part of the wire is.
pub(super) enum Piece<'a> {
    Text {
        text: String,
        thought: bool,
    },
    Call {
        id: Option<String>,
        name: String,
        arguments: String,
    },
    /// Part of a call.
    OfCall(FunctionCall<'a>),
    Media(Content),
    Other {
        kind: String,
        raw: RawJson,
    },
}

/// The part and its signature. A part that only Gemini understands keeps its own within.
pub(super) fn piece(raw: &RawValue) -> Result<(Piece<'_>, Option<String>), String> {
    let part: Part<'_> = serde_json::from_str(raw.get()).map_err(|e| format!("a part cannot be read: {e}"))?;
    let signature = part.thought_signature.filter(|s| !s.is_empty());
    let thought = part.thought == Some(true);
    if let Some(call) = part.function_call {
        let piece = if call.is_piece() { Piece::OfCall(call) } else { function_call(call)? };
        return Ok((piece, signature));
    }
    if let Some(text) = part.text {
        return Ok((Piece::Text { text, thought }, signature));
    }
    if let Some(blob) = part.inline_data {
        let media_type = blob.mime_type.unwrap_or_else(|| "application/octet-stream".to_owned());
        let data = blob.data.ok_or("a part of media has no `data`")?;
        let source = Source::Base64 { media_type: media_type.clone(), data };
        return Ok((
            Piece::Media(media(&media_type, Media { name: blob.display_name, ..Media::from(source) })),
            signature,
        ));
    }
    if let Some(file) = part.file_data {
        let uri = file.file_uri.ok_or("a part of media has no `fileUri`")?;
        let media_type = file.mime_type.unwrap_or_default();
        return Ok((Piece::Media(media(&media_type, Media::from(Source::Url(uri)))), signature));
    }
    let members: Object<'_> = serde_json::from_str(raw.get()).map_err(|e| format!("a part cannot be read: {e}"))?;
    let kind = members.keys().find(|key| !matches!(*key, "thought" | "thoughtSignature")).map(str::to_owned);
    Ok(match kind {
        Some(kind) => (Piece::Other { kind, raw: RawJson::from(raw) }, None),
        None => (Piece::Text { text: String::new(), thought }, signature),
    })
}

fn function_call(call: FunctionCall<'_>) -> Result<Piece<'_>, String> {
    let name = call.name.ok_or("a function call has no `name`")?;
    let arguments = call.args.map_or("{}", RawValue::get).to_owned();
    Ok(Piece::Call { id: call.id.filter(|id| !id.is_empty()), name, arguments })
}

fn media(media_type: &str, media: Media) -> Content {
    match media_type.split('/').next() {
        Some("image") => Content::Image(media),
        Some("audio") => Content::Audio(media),
        _ => Content::File(media),
    }
}

/// A candidate's reason, as a word or as its number in protobuf.
pub(super) fn finish(Word(word): Word, called: bool) -> FinishReason {
    match word.as_str() {
        "STOP" | "1" if called => FinishReason::ToolCalls,
        "STOP" | "1" => FinishReason::Stop,
        "MAX_TOKENS" | "2" => FinishReason::Length,
        "SAFETY"
        | "3"
        | "RECITATION"
        | "4"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "MODEL_ARMOR"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => FinishReason::ContentFilter,
        _ => FinishReason::Other(word.to_lowercase()),
    }
}

#[derive(Serialize)]
struct WireLogprobs<'a> {
    content: Vec<WireToken<'a>>,
    refusal: Option<()>,
}

#[derive(Serialize)]
struct WireToken<'a> {
    token: &'a str,
    logprob: Option<&'a RawValue>,
    bytes: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<Vec<WireToken<'a>>>,
}

/// Log probabilities in the one form that callers read: OpenAI's.
pub(super) fn logprobs(wire: Logprobs<'_>) -> Option<RawJson> {
    fn token<'a>(token: &'a Token<'a>, top: Option<Vec<WireToken<'a>>>) -> WireToken<'a> {
        let word = token.token.as_deref().unwrap_or_default();
        WireToken { token: word, logprob: token.log_probability, bytes: None, top_logprobs: top }
    }
    let chosen = wire.chosen_candidates?;
    let tops = wire.top_candidates.unwrap_or_default();
    let content = chosen.iter().enumerate().map(|(at, one)| {
        let top = tops.get(at).and_then(|top| top.candidates.as_ref());
        token(one, Some(top.into_iter().flatten().map(|other| token(other, None)).collect()))
    });
    let text = serde_json::to_string(&WireLogprobs { content: content.collect(), refusal: None }).ok()?;
    RawJson::new(text)
}
