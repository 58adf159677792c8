//! A call towards a provider.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderValue, header::ACCEPT};
use serde::Serialize;

use super::{
    fields::{Fields, Inference},
    messages::{self, Block, Turn},
    tools::{self, ToolConfig},
    types::{Family, NAME},
};
use crate::{
    canonical::{Call, Extra, ResponseFormat},
    dialect::{Encoded, Target},
    error::EncodeError,
    json::{Object, RawJson},
    notes::{Notes, unsupported},
    path::segment,
};

const ADDITIONAL: &str = "additionalModelRequestFields";

/// The path of one of the model's endpoints. The model's name is one segment of it, whatever stands in it: ids hold
/// colons, ARNs hold slashes. Signatures are made over the path as it stands here.
pub(crate) fn model_path(model: &str, endpoint: &str) -> String {
    format!("/model/{}/{endpoint}", segment(model))
}

pub(super) fn around(target: &Target, stream: bool, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
    let (endpoint, accept) = match stream {
        true => ("converse-stream", "application/vnd.amazon.eventstream"),
        false => ("converse", "application/json"),
    };
    let mut request = target.post(&model_path(&target.model, endpoint), body)?;
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static(accept));
    Ok(request)
}

/// What the model reads: system blocks, turns and tools.
pub(super) type Conversation<'a> = (Vec<Block<'a>>, Vec<Turn<'a>>, Option<ToolConfig<'a>>);

pub(super) fn conversation<'a>(
    call: &'a Call,
    target: &Target,
    notes: &mut Notes,
) -> Result<Conversation<'a>, EncodeError> {
    let (system, turns) = messages::encode(call, Family::of(target), notes)?;
    Ok((system, turns, tools::encode(call, target, notes)?))
}

pub(super) fn encode(call: &Call, target: &Target) -> Result<Encoded, EncodeError> {
    let mut notes = Notes::new(NAME, target);
    if call.n.is_some_and(|n| n > 1) {
        return Err(unsupported(NAME, "more than one answer to a call (`n`)"));
    }
    drop_unknown(call, &mut notes)?;
    let mut extra = extra(call, &mut notes)?;
    let fields = Fields::plan(call, target, &mut notes)?;
    let (system, messages, tool_config) = conversation(call, target, &mut notes)?;
    let wire = WireCall {
        system,
        messages,
        inference_config: Some(fields.inference).filter(|inference| !inference.is_empty()),
        tool_config,
        output_config: output_config(call, &mut notes)?,
        service_tier: service_tier(call, &mut notes)?,
        request_metadata: request_metadata(call, &mut notes)?,
        additional_model_request_fields: with_the_callers(fields.additional, extra.shift_remove(ADDITIONAL)),
        extra,
    };
    let body = serde_json::to_vec(&wire).map_err(|error| EncodeError::Write(error.to_string()))?;
    Ok(Encoded { request: around(target, call.stream, Bytes::from(body))?, warnings: notes.into_warnings() })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireCall<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inference_config: Option<Inference<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<WireTier<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_metadata: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Extra::is_empty")]
    additional_model_request_fields: Extra,
    #[serde(flatten)]
    extra: Extra,
}

#[derive(Serialize)]
struct WireTier<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
}

fn drop_unknown(call: &Call, notes: &mut Notes) -> Result<(), EncodeError> {
    let sampling = &call.sampling;
    for (given, name) in [
        (sampling.seed.is_some(), "`seed`"),
        (sampling.frequency_penalty.is_some_and(|p| p != 0.0), "`frequency_penalty`"),
        (sampling.presence_penalty.is_some_and(|p| p != 0.0), "`presence_penalty`"),
        (call.logprobs == Some(true), "`logprobs`"),
        (call.user.is_some(), "`user`"),
    ] {
        if given {
            notes.drop(name)?;
        }
    }
    Ok(())
}

/// `guardrailConfig`, `performanceConfig` and the like, from callers who speak this dialect's words.
fn extra(call: &Call, notes: &mut Notes) -> Result<Extra, EncodeError> {
    if call.dialect == Some(NAME) {
        return Ok(call.extra.clone());
    }
    for name in call.extra.keys() {
        notes.drop(&format!("`{name}`"))?;
    }
    Ok(Extra::new())
}

/// What the caller says in the model's own words counts before what was made of its other words.
fn with_the_callers(mut fields: Extra, given: Option<RawJson>) -> Extra {
    if let Some(members) = given.as_ref().and_then(|raw| serde_json::from_str::<Object<'_>>(raw.as_str()).ok()) {
        fields.extend(members.into_extra());
    }
    fields
}

fn service_tier<'a>(call: &'a Call, notes: &mut Notes) -> Result<Option<WireTier<'a>>, EncodeError> {
    match call.service_tier.as_deref() {
        None | Some("auto") => Ok(None),
        Some(kind @ ("default" | "priority" | "flex" | "reserved")) => Ok(Some(WireTier { kind })),
        Some(_) => {
            notes.drop("`service_tier`")?;
            Ok(None)
        }
    }
}

/// The API takes up to sixteen short texts of a small alphabet.
fn request_metadata(call: &Call, notes: &mut Notes) -> Result<Option<BTreeMap<String, String>>, EncodeError> {
    let Some(given) = &call.metadata else {
        return Ok(None);
    };
    let plain = |text: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || c.is_ascii_whitespace() || ":_@$#=/+,-.".contains(c);
        text.len() <= 256 && text.chars().all(fits)
    };
    let texts = serde_json::from_str::<BTreeMap<String, String>>(given.as_str()).ok();
    match texts.filter(|t| t.len() <= 16 && t.iter().all(|(key, text)| !key.is_empty() && plain(key) && plain(text))) {
        Some(texts) => Ok(Some(texts).filter(|texts| !texts.is_empty())),
        None => {
            notes.drop("`metadata` that is more than sixteen short plain texts")?;
            Ok(None)
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OutputConfig<'a> {
    text_format: TextFormat<'a>,
}

#[derive(Serialize)]
struct TextFormat<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    structure: Structure<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Structure<'a> {
    json_schema: JsonSchema<'a>,
}

#[derive(Serialize)]
struct JsonSchema<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    /// As text, not as an object.
    schema: &'a str,
}

fn output_config<'a>(call: &'a Call, notes: &mut Notes) -> Result<Option<OutputConfig<'a>>, EncodeError> {
    match &call.response_format {
        Some(ResponseFormat::JsonSchema { name, description, schema: Some(schema), .. }) => {
            let json_schema = JsonSchema { name, description: description.as_deref(), schema: schema.as_str() };
            let text_format = TextFormat { kind: "json_schema", structure: Structure { json_schema } };
            Ok(Some(OutputConfig { text_format }))
        }
        Some(ResponseFormat::JsonObject | ResponseFormat::JsonSchema { .. }) => {
            notes.drop("`response_format` without a schema")?;
            Ok(None)
        }
        Some(ResponseFormat::Text) | None => Ok(None),
    }
}
