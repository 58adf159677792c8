//! The envelope of clouds that host this dialect: Vertex AI
//! (<https://docs.anthropic.com/en/api/claude-on-vertex-ai>) and Bedrock's InvokeModel
//! (<https://docs.anthropic.com/en/api/claude-on-amazon-bedrock>). The model stands in the path, the version in the body.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use crate::{
    bedrock_converse::{model_path, without_region},
    canonical::{Call, Content, Part},
    dialect::{Defaults, DialectName, Hosting, OnUnsupported, Passing, Quirk, Target},
    error::EncodeError,
    notes::Notes,
    path::segment,
    rewrite::Edit,
};

use super::{messages, thinking, types::NAME};

const MESSAGES: &str = "/v1/messages";
const VERSION: &str = "2023-06-01";

/// What Bedrock lets callers try; it refuses a call that names anything else.
/// <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages-request-response.html>
const BEDROCK_BETAS: [&str; 10] = [
    "computer-use-2025-01-24",
    "token-efficient-tools-2025-02-19",
    "interleaved-thinking-2025-05-14",
    "output-128k-2025-02-19",
    "dev-full-thinking-2025-05-14",
    "context-1m-2025-08-07",
    "context-management-2025-06-27",
    "effort-2025-11-24",
    "tool-search-tool-2025-10-19",
    "tool-examples-2025-10-29",
];

/// What Vertex lets callers try; it refuses a call that names anything else.
const VERTEX_BETAS: [&str; 8] = [
    "compact-2026-01-12",
    "computer-use-2025-01-24",
    "computer-use-2025-11-24",
    "context-1m-2025-08-07",
    "context-management-2025-06-27",
    "interleaved-thinking-2025-05-14",
    "tool-search-tool-2025-10-19",
    "web-search-2025-03-05",
];

/// What has another name at clouds than at Anthropic's own.
const RENAMED: [(&str, &str); 1] = [("advanced-tool-use-2025-11-20", "tool-search-tool-2025-10-19")];

/// The betas that may be asked for here; what a cloud does not know is left out.
fn betas(call: &Call, hosting: Hosting) -> Vec<&str> {
    let known: &[&str] = match hosting {
        Hosting::Own => return call.betas.iter().map(String::as_str).collect(),
        Hosting::Vertex => &VERTEX_BETAS,
        Hosting::Bedrock => &BEDROCK_BETAS,
    };
    let mut betas = Vec::new();
    for beta in &call.betas {
        let named = RENAMED.iter().find(|(own, _)| own == beta).map_or(beta.as_str(), |(_, other)| other);
        if known.contains(&named) && !betas.contains(&named) {
            betas.push(named);
        }
    }
    betas
}

/// `anthropic_version`, where it stands in the body.
pub(super) fn version(hosting: Hosting) -> Option<&'static str> {
    match hosting {
        Hosting::Own => None,
        Hosting::Vertex => Some("vertex-2023-10-16"),
        Hosting::Bedrock => Some("bedrock-2023-05-31"),
    }
}

/// `anthropic_beta`, where it stands in the body.
pub(super) fn betas_in_body(call: &Call, hosting: Hosting) -> Vec<&str> {
    if hosting == Hosting::Bedrock { betas(call, hosting) } else { Vec::new() }
}

/// `anthropic-beta`, where it is a header.
pub(super) fn headers(call: &Call, hosting: Hosting) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let betas = if hosting == Hosting::Bedrock { Vec::new() } else { betas(call, hosting) };
    if !betas.is_empty()
        && let Ok(list) = HeaderValue::from_str(&betas.join(","))
    {
        headers.insert("anthropic-beta", list);
    }
    headers
}

pub(super) fn path(target: &Target, stream: bool) -> String {
    match (target.hosting, stream) {
        (Hosting::Own, _) => MESSAGES.to_owned(),
        (Hosting::Vertex, false) => vertex_path(&target.model, "rawPredict"),
        (Hosting::Vertex, true) => vertex_path(&target.model, "streamRawPredict"),
        (Hosting::Bedrock, false) => model_path(&target.model, "invoke"),
        (Hosting::Bedrock, true) => model_path(&target.model, "invoke-with-response-stream"),
    }
}

/// Below the project and the location, where models are filed under their publisher.
fn vertex_path(model: &str, method: &str) -> String {
    format!("/publishers/anthropic/models/{}:{method}", segment(model))
}

pub(super) fn counting_path(target: &Target) -> String {
    match target.hosting {
        Hosting::Own => format!("{}/count_tokens", target.path.as_deref().unwrap_or(MESSAGES)),
        Hosting::Vertex => vertex_path("count-tokens", "rawPredict"),
        Hosting::Bedrock => model_path(without_region(&target.model), "count-tokens"),
    }
}

/// The request around a body: the version stands in a header where it does not stand in the body.
pub(super) fn post(target: &Target, path: &str, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
    let mut request = target.post(path, body)?;
    if target.hosting == Hosting::Own {
        request.headers_mut().insert("anthropic-version", HeaderValue::from_static(VERSION));
    }
    Ok(request)
}

/// Model name or what stands in its place, the output limit that the API requires, the config's temperature where the
/// caller gave none and the model takes one, the stream flag; the conversation only where it bears another's proofs.
pub(super) fn edits(passing: &Passing<'_>) -> Vec<Edit<'static>> {
    let Passing { call, asked_stream, defaults, target } = passing;
    let mut edits = Vec::new();
    match version(target.hosting) {
        None => edits.push(Edit::string("model", &target.model)),
        Some(version) => {
            edits.push(Edit::remove("model"));
            edits.push(Edit::string("anthropic_version", version));
        }
    }
    let betas = betas_in_body(call, target.hosting);
    if !betas.is_empty() {
        edits.push(Edit::set("anthropic_beta", serde_json::Value::from(betas).to_string()));
    }
    let thinking = thinking::plan(call, target, defaults.max_output_tokens.unwrap_or(target.default_max_output_tokens));
    match (call.max_output_tokens, defaults.clamp) {
        (None, clamp) => {
            let limit = clamp.map_or(thinking.max_tokens, |clamp| thinking.max_tokens.min(clamp));
            edits.push(Edit::set("max_tokens", limit.to_string()));
        }
        (Some(_), clamp) => edits.extend(clamp.map(|clamp| Edit::lower("max_tokens", clamp))),
    }
    edits.extend(defaults.clamp.and_then(|clamp| thinking::within(call, clamp)));
    edits.extend(temperature(call, target, *defaults, thinking.thinks()));
    match (target.hosting, call.stream) {
        // The path says it.
        (Hosting::Bedrock, _) => edits.push(Edit::remove("stream")),
        (_, true) => edits.push(Edit::set("stream", "true")),
        (_, false) if *asked_stream => edits.push(Edit::set("stream", "false")),
        _ => {}
    }
    edits.extend(own_proofs(call, target));
    edits
}

/// Of a count of tokens. Every hoster wants the model in the body then, but for Bedrock, which counts for a whole call.
pub(super) fn counting_edits(call: &Call, target: &Target) -> Vec<Edit<'static>> {
    if target.hosting == Hosting::Bedrock {
        return edits(&Passing { call, asked_stream: call.stream, defaults: Defaults::default(), target });
    }
    let version = version(target.hosting).map(|version| Edit::string("anthropic_version", version));
    [Edit::string("model", &target.model)].into_iter().chain(version).chain(own_proofs(call, target)).collect()
}

/// The conversation without what another provider has sealed: this one would refuse it.
fn own_proofs(call: &Call, target: &Target) -> Option<Edit<'static>> {
    call.messages.iter().flat_map(|message| &message.parts).find(|part| is_foreign(part))?;
    let lenient = Target { unsupported: OnUnsupported::Drop, ..target.clone() };
    let (_, turns) = messages::encode(call, &mut Notes::new(NAME, &lenient)).ok()?;
    Some(Edit::set("messages", serde_json::to_string(&turns).ok()?))
}

fn is_foreign(part: &Part) -> bool {
    let foreign = |origin: Option<DialectName>| origin.is_some_and(|origin| origin != NAME);
    part.signature.is_some() || matches!(&part.content, Content::Reasoning(reasoning) if foreign(reasoning.origin))
}

fn temperature(call: &Call, target: &Target, defaults: Defaults, thinks: bool) -> Option<Edit<'static>> {
    let other = target.has(Quirk::OneSampling) && call.sampling.top_p.is_some();
    let temperature = defaults.temperature.filter(|_| !thinks && !other && !target.has(Quirk::NoSampling))?;
    Some(Edit::default("temperature", temperature.min(1.0).to_string()))
}
