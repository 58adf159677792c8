//! A call, in both directions.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::NAME;
use crate::{
    canonical::{Content, EmbedCall, EmbedInput, EmbedPurpose, Extra, Part, VectorEncoding},
    dialect::{Encoded, Target},
    error::{BadRequest, EncodeError},
    json::{Object, Path, read},
    notes::Notes,
    outline::{object_of, text_of},
};

pub(super) const PATH: &str = "/embeddings";

pub(super) fn parse(body: &[u8]) -> Result<EmbedCall, BadRequest> {
    let mut top = object_of(text_of(body)?)?;
    let root = Path::Root;
    // farebox's own options; they are read where the call is routed.
    top.take("farebox");
    Ok(EmbedCall {
        model: top.optional("model", root, "a string")?.unwrap_or_default(),
        inputs: inputs(&mut top)?,
        dimensions: top.optional("dimensions", root, "a whole number")?,
        encoding: top.optional::<String>("encoding_format", root, "`float` or `base64`")?.map(encoding),
        // Not OpenAI's, but the words by which callers of this dialect tell other providers' models.
        purpose: top.optional::<String>("input_type", root, "a string such as `search_query`")?.map(EmbedPurpose::from),
        truncate: top.optional("truncate", root, "a string such as `END`")?,
        user: top.optional("user", root, "a string")?,
        dialect: Some(NAME),
        extra: top.into_extra(),
    })
}

fn encoding(word: String) -> VectorEncoding {
    match word.as_str() {
        "float" => VectorEncoding::Float,
        "base64" => VectorEncoding::Base64,
        _ => VectorEncoding::Other(word),
    }
}

/// One text, several, the token ids of one, or those of several.
fn inputs(top: &mut Object<'_>) -> Result<Vec<EmbedInput>, BadRequest> {
    const EXPECTED: &str = "a text, an array of texts, or token ids";
    let raw: &RawValue = top.required("input", Path::Root, EXPECTED)?;
    let root = Path::Root;
    let at = root.member("input");
    if raw.get().starts_with('"') {
        return Ok(vec![EmbedInput::Text(read(raw, at, EXPECTED)?)]);
    }
    let items: Vec<&RawValue> = read(raw, at, EXPECTED)?;
    match items.first().map(|first| first.get().as_bytes()[0]) {
        None => Err(BadRequest::field(at, format!("is empty: it must be {EXPECTED}"))),
        Some(b'0'..=b'9') => Ok(vec![EmbedInput::Tokens(read(raw, at, EXPECTED)?)]),
        Some(_) => items.into_iter().enumerate().map(|(index, raw)| item(raw, at.item(index))).collect(),
    }
}

fn item(raw: &RawValue, at: Path<'_>) -> Result<EmbedInput, BadRequest> {
    if raw.get().starts_with('[') {
        return Ok(EmbedInput::Tokens(read(raw, at, "an array of token ids")?));
    }
    Ok(EmbedInput::Text(read(raw, at, "a text")?))
}

pub(super) fn encode(call: &EmbedCall, target: &Target) -> Result<Encoded, EncodeError> {
    let mut notes = Notes::new(NAME, target);
    let own = call.dialect == Some(NAME);
    for name in call.extra.keys().filter(|_| !own) {
        notes.drop(&format!("`{name}`"))?;
    }
    let input = call.inputs.iter().map(|input| wire_input(input, &notes)).collect::<Result<Vec<_>, _>>()?;
    if input.windows(2).any(|pair| matches!(pair, [a, b] if a.is_text() != b.is_text())) {
        return Err(notes.unsupported("texts beside token ids"));
    }
    let wire = WireCall {
        model: &target.model,
        input,
        dimensions: call.dimensions,
        encoding_format: call.encoding.as_ref().map(|encoding| match encoding {
            VectorEncoding::Float => "float",
            VectorEncoding::Base64 => "base64",
            VectorEncoding::Other(word) => word,
        }),
        input_type: call.purpose.as_ref().map(EmbedPurpose::as_str),
        truncate: call.truncate.as_deref(),
        user: call.user.as_deref(),
        extra: own.then_some(&call.extra),
    };
    let body = serde_json::to_vec(&wire).map_err(|error| EncodeError::Write(error.to_string()))?;
    Ok(Encoded { request: target.post(PATH, Bytes::from(body))?, warnings: notes.into_warnings() })
}

fn wire_input<'a>(input: &'a EmbedInput, notes: &Notes) -> Result<WireInput<'a>, EncodeError> {
    match input {
        EmbedInput::Text(text) => Ok(WireInput::Text(text)),
        EmbedInput::Tokens(tokens) => Ok(WireInput::Tokens(tokens)),
        EmbedInput::Parts(parts) => match parts.as_slice() {
            [Part { content: Content::Text(text), .. }] => Ok(WireInput::Text(text)),
            _ => Err(notes.unsupported("an input that is no text")),
        },
    }
}

#[derive(Serialize)]
struct WireCall<'a> {
    model: &'a str,
    input: Vec<WireInput<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding_format: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    extra: Option<&'a Extra>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WireInput<'a> {
    Text(&'a str),
    Tokens(&'a [u32]),
}

impl WireInput<'_> {
    fn is_text(&self) -> bool {
        matches!(self, WireInput::Text(_))
    }
}
