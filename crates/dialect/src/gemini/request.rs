//! A call towards a provider.

use bytes::Bytes;
use serde::Serialize;

use super::{
    config::{self, Config},
    contents::{self, WireContent},
    model,
    tools::{self, ToolConfig, WireTool},
    types::NAME,
};
use crate::{
    canonical::{Call, Extra},
    dialect::{Encoded, Hosting, Target},
    error::EncodeError,
    notes::Notes,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<WireContent<'a>>,
    contents: Vec<WireContent<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "Config::is_empty")]
    generation_config: Config<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'a str>,
    #[serde(flatten)]
    extra: Option<&'a Extra>,
}

/// The Gemini API counts a whole call, Vertex its parts.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CountCall<'a> {
    generate_content_request: CountedCall<'a>,
}

#[derive(Serialize)]
struct CountedCall<'a> {
    model: String,
    #[serde(flatten)]
    call: WireCall<'a>,
}

pub(super) fn encode(call: &Call, target: &Target) -> Result<Encoded, EncodeError> {
    let mut notes = Notes::new(NAME, target);
    let wire = wire(call, target, &mut notes)?;
    let method = if call.stream { model::STREAM } else { model::WHOLE };
    Ok(Encoded { request: model::post(target, method, json(&wire)?)?, warnings: notes.into_warnings() })
}

pub(super) fn encode_count(call: &Call, target: &Target) -> Result<Encoded, EncodeError> {
    let mut notes = Notes::new(NAME, target);
    let wire = wire(call, target, &mut notes)?;
    let body = match target.hosting {
        Hosting::Vertex => json(&WireCall { tool_config: None, service_tier: None, extra: None, ..wire })?,
        Hosting::Own | Hosting::Bedrock => {
            let call = CountedCall { model: model::resource(target), call: wire };
            json(&CountCall { generate_content_request: call })?
        }
    };
    Ok(Encoded { request: model::post(target, model::COUNT, body)?, warnings: notes.into_warnings() })
}

fn json(body: &impl Serialize) -> Result<Bytes, EncodeError> {
    serde_json::to_vec(body).map(Bytes::from).map_err(|error| EncodeError::Write(error.to_string()))
}

fn wire<'a>(call: &'a Call, target: &Target, notes: &mut Notes) -> Result<WireCall<'a>, EncodeError> {
    drop_unknown(call, notes)?;
    let (system_instruction, contents) = contents::encode(call, target, notes)?;
    let (tools, tool_config) = tools::encode(call, notes)?;
    Ok(WireCall {
        system_instruction,
        contents,
        tools,
        tool_config,
        generation_config: config::encode(call, target, notes)?,
        service_tier: tier(call, target, notes)?,
        extra: (call.dialect == Some(NAME)).then_some(&call.extra),
    })
}

fn drop_unknown(call: &Call, notes: &mut Notes) -> Result<(), EncodeError> {
    for (given, name) in [(call.user.is_some(), "`user`"), (call.metadata.is_some(), "`metadata`")] {
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

/// <https://ai.google.dev/gemini-api/docs/priority-inference>. Vertex takes the tier in a header of its provider's.
fn tier<'a>(call: &'a Call, target: &Target, notes: &mut Notes) -> Result<Option<&'a str>, EncodeError> {
    match call.service_tier.as_deref() {
        None | Some("auto" | "default") => Ok(None),
        Some(tier @ ("standard" | "flex" | "priority")) if target.hosting == Hosting::Own => Ok(Some(tier)),
        Some(_) => notes.drop("`service_tier`").map(|()| None),
    }
}
