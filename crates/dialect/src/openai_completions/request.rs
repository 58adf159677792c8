//! A prompt, in both directions.

use bytes::Bytes;
use http::{Method, header::CONTENT_TYPE};
use serde::Serialize;
use serde_json::value::RawValue;

use super::NAME;
use crate::{
    canonical::{Call, Content, Extra, Media, Message, Part, ResponseFormat, Role, Sampling, Source},
    dialect::{Encoded, Passing, Quirk, Target},
    error::{BadRequest, EncodeError},
    json::{Object, Path, RawJson, read},
    notes::{Notes, unsupported},
    outline::{object_of, text_of},
    rewrite::Edit,
};

const PATH: &str = "/completions";
/// A prompt that is not one text: tokens, or several prompts at once.
const PROMPT: &str = "prompt";

pub(super) fn around(target: &Target, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
    http::Request::builder()
        .method(Method::POST)
        .uri(target.path.as_deref().unwrap_or(PATH))
        .header(CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|error| EncodeError::Write(error.to_string()))
}

/// Model name, output limit and temperature from the config where the caller gave none, the usage flag of a stream, the
/// stream flag of what is not streamed.
pub(super) fn edits(passing: &Passing<'_>) -> Vec<Edit<'static>> {
    let Passing { call, asked_stream, defaults, target } = passing;
    let mut edits = vec![Edit::string("model", &target.model)];
    edits.extend(passing.limits(&["max_tokens"]));
    if let Some(temperature) = defaults.temperature {
        edits.push(Edit::default("temperature", temperature.to_string()));
    }
    if call.stream {
        edits.push(Edit::set("stream", "true"));
        if !target.has(Quirk::NoStreamOptions) {
            edits.push(Edit::set_in("stream_options", "include_usage", "true"));
        }
    } else if *asked_stream {
        edits.push(Edit::set("stream", "false"));
        edits.push(Edit::remove("stream_options"));
    }
    edits
}

pub(super) fn parse(body: &[u8]) -> Result<Call, BadRequest> {
    let mut top = object_of(text_of(body)?)?;
    let root = Path::Root;
    // farebox's own options; they are read where the call is routed.
    top.take("farebox");
    let prompt: &RawValue = top.required("prompt", root, "a string")?;
    let mut call = Call {
        model: top.optional("model", root, "a string")?.unwrap_or_default(),
        messages: vec![Message::new(Role::User, vec![self::prompt(prompt)?])],
        max_output_tokens: top.optional("max_tokens", root, "a whole number of tokens")?,
        sampling: Sampling {
            temperature: top.optional("temperature", root, "a number")?,
            top_p: top.optional("top_p", root, "a number")?,
            top_k: top.optional("top_k", root, "a whole number")?,
            seed: top.optional("seed", root, "a whole number")?,
            frequency_penalty: top.optional("frequency_penalty", root, "a number")?,
            presence_penalty: top.optional("presence_penalty", root, "a number")?,
        },
        n: top.optional("n", root, "a whole number")?,
        stream: top.optional("stream", root, "true or false")?.unwrap_or(false),
        user: top.optional("user", root, "a string")?,
        dialect: Some(NAME),
        ..Call::default()
    };
    if let Some(raw) = top.take("stop") {
        let at = root.member("stop");
        call.stop = match raw.get().starts_with('"') {
            true => vec![read(raw, at, "a string or an array of strings")?],
            false => read(raw, at, "a string or an array of strings")?,
        };
    }
    if let Some(raw) = top.take("stream_options") {
        let at = root.member("stream_options");
        call.include_usage = Object::read(raw, at)?.optional("include_usage", at, "true or false")?.unwrap_or(false);
    }
    call.extra = top.into_extra();
    Ok(call)
}

fn prompt(raw: &RawValue) -> Result<Part, BadRequest> {
    if raw.get().starts_with('"') {
        return Ok(Part::text(read::<String>(raw, Path::Root.member(PROMPT), "a string")?));
    }
    if let Ok([only]) = serde_json::from_str::<[String; 1]>(raw.get()) {
        return Ok(Part::text(only));
    }
    if !raw.get().starts_with('[') {
        return Err(BadRequest::field(PROMPT, "must be a string or an array"));
    }
    Ok(Part::from(Content::Other { dialect: NAME, kind: PROMPT.to_owned(), raw: RawJson::from(raw) }))
}

pub(super) fn encode(call: &Call, target: &Target) -> Result<Encoded, EncodeError> {
    let mut notes = Notes::new(NAME, target);
    let own = call.dialect == Some(NAME);
    refuse_unknown(call)?;
    drop_unknown(call, &mut notes)?;
    let none = Extra::new();
    // Without a limit the answer would end after 16 tokens: a caller of another dialect expects no such thing.
    let limit = call.max_output_tokens.or((!own).then_some(target.default_max_output_tokens));
    let wire = WireCall {
        model: &target.model,
        prompt: written(call, &mut notes)?,
        max_tokens: limit,
        temperature: call.sampling.temperature,
        top_p: call.sampling.top_p,
        top_k: call.sampling.top_k,
        seed: call.sampling.seed,
        frequency_penalty: call.sampling.frequency_penalty,
        presence_penalty: call.sampling.presence_penalty,
        stop: &call.stop,
        n: call.n,
        stream: call.stream.then_some(true),
        // Usage is asked for whether the caller did or not: what a stream cost must be known.
        stream_options: (call.stream && !target.has(Quirk::NoStreamOptions))
            .then_some(StreamOptions { include_usage: true }),
        user: notes.user(call)?,
        extra: if own { &call.extra } else { &none },
    };
    let body = serde_json::to_vec(&wire).map_err(|error| EncodeError::Write(error.to_string()))?;
    Ok(Encoded { request: around(target, Bytes::from(body))?, warnings: notes.into_warnings() })
}

/// What would change the meaning of the call if it were left out.
fn refuse_unknown(call: &Call) -> Result<(), EncodeError> {
    if !call.tools.is_empty() || !call.native_tools.is_empty() {
        return Err(unsupported(NAME, "tools"));
    }
    if call.response_format.as_ref().is_some_and(|format| *format != ResponseFormat::Text) {
        return Err(unsupported(NAME, "a format of the answer"));
    }
    Ok(())
}

fn drop_unknown(call: &Call, notes: &mut Notes) -> Result<(), EncodeError> {
    for (given, name) in [
        (call.reasoning.is_some(), "reasoning"),
        (call.logprobs == Some(true) || call.top_logprobs.is_some(), "`logprobs`"),
        (call.metadata.is_some(), "`metadata`"),
        (call.service_tier.as_deref().is_some_and(|tier| tier != "auto" && tier != "default"), "`service_tier`"),
    ] {
        if given {
            notes.drop(name)?;
        }
    }
    if call.dialect != Some(NAME) {
        for name in call.extra.keys() {
            notes.drop(&format!("`{name}`"))?;
        }
    }
    Ok(())
}

/// One user's text is the prompt as it stands; more than that is put into a row.
fn written<'a>(call: &'a Call, notes: &mut Notes) -> Result<WirePrompt<'a>, EncodeError> {
    let mut texts: Vec<&str> = Vec::new();
    for part in call.messages.iter().flat_map(|message| &message.parts) {
        match &part.content {
            Content::Text(text) | Content::Refusal(text) => texts.push(text),
            Content::File(Media { source: Source::Text(text), .. }) => texts.push(text),
            Content::Reasoning(_) => notes.drop("the reasoning of an earlier answer")?,
            Content::Other { dialect, raw, .. } if *dialect == NAME => return Ok(WirePrompt::Raw(raw)),
            Content::Other { dialect, kind, .. } => return Err(unsupported(NAME, format!("`{kind}` of {dialect}"))),
            Content::Image(_) | Content::File(_) | Content::Audio(_) => {
                return Err(unsupported(NAME, "images, documents and recordings"));
            }
            Content::ToolCall(_) | Content::ToolResult(_) => return Err(unsupported(NAME, "tools")),
        }
    }
    if call.messages.len() > 1 || call.messages.iter().any(|message| message.role != Role::User) {
        notes.say(format!("{NAME} knows no messages: their texts were sent as one prompt, without their roles"));
    }
    Ok(WirePrompt::Text(texts.join("\n\n")))
}

#[derive(Serialize)]
#[serde(untagged)]
enum WirePrompt<'a> {
    Text(String),
    Raw(&'a RawJson),
}

#[derive(Serialize)]
struct WireCall<'a> {
    model: &'a str,
    prompt: WirePrompt<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(flatten)]
    extra: &'a Extra,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}
