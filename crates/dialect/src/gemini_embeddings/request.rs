//! Texts towards a provider: one by `embedContent`, several by `batchEmbedContents`; on Vertex by `predict`, but for the
//! models since `gemini-embedding-2`, which take one by `embedContent`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::NAME;
use crate::{
    canonical::{Content, EmbedCall, EmbedInput, EmbedPurpose, Part, Source, VectorEncoding},
    dialect::{Encoded, Hosting, Target},
    error::EncodeError,
    gemini::model::{post, resource},
    notes::{Notes, unsupported},
};

const PURPOSES: [&str; 8] = [
    "SEMANTIC_SIMILARITY",
    "CLASSIFICATION",
    "CLUSTERING",
    "RETRIEVAL_DOCUMENT",
    "RETRIEVAL_QUERY",
    "CODE_RETRIEVAL_QUERY",
    "QUESTION_ANSWERING",
    "FACT_VERIFICATION",
];

#[derive(Serialize)]
struct Batch<'a> {
    requests: Vec<One<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct One<'a> {
    model: String,
    content: WireContent<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u64>,
}

#[derive(Serialize)]
struct WireContent<'a> {
    parts: Vec<WirePart<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum WirePart<'a> {
    Text(&'a str),
    #[serde(rename_all = "camelCase")]
    InlineData {
        mime_type: &'a str,
        data: &'a str,
    },
}

#[derive(Serialize)]
struct Predict<'a> {
    instances: Vec<Instance<'a>>,
    #[serde(skip_serializing_if = "Parameters::is_empty")]
    parameters: Parameters,
}

/// Vertex writes this one in snake case.
#[derive(Serialize)]
struct Instance<'a> {
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_type: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    #[serde(skip_serializing_if = "Option::is_none")]
    auto_truncate: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u64>,
}

impl Parameters {
    fn is_empty(&self) -> bool {
        self.auto_truncate.is_none() && self.output_dimensionality.is_none()
    }
}

pub(super) fn encode(call: &EmbedCall, target: &Target) -> Result<Encoded, EncodeError> {
    let mut notes = Notes::new(NAME, target);
    if let Some(VectorEncoding::Other(word)) = &call.encoding {
        return Err(unsupported(NAME, format!("vectors of `{word}`")));
    }
    if call.inputs.is_empty() {
        let problem = "there must be at least one text".to_owned();
        return Err(EncodeError::Invalid { field: "`input`".to_owned(), problem });
    }
    if call.user.is_some() {
        notes.drop("`user`")?;
    }
    for name in call.extra.keys() {
        notes.drop(&format!("`{name}`"))?;
    }
    let task_type = task_type(call, &mut notes)?;
    let (method, body) = match by_predict(target) {
        true => ("predict", predict(call, task_type, &mut notes)?),
        false => content(call, target, task_type, &mut notes)?,
    };
    Ok(Encoded { request: post(target, method, body)?, warnings: notes.into_warnings() })
}

/// The request around a body that is written already: its members say which method it is for.
pub(super) fn around(target: &Target, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
    #[derive(Deserialize)]
    struct Members {
        requests: Option<serde::de::IgnoredAny>,
        instances: Option<serde::de::IgnoredAny>,
    }
    let members = serde_json::from_slice::<Members>(&body).ok();
    let method = match members {
        Some(Members { instances: Some(_), .. }) => "predict",
        Some(Members { requests: Some(_), .. }) => "batchEmbedContents",
        _ => "embedContent",
    };
    post(target, method, body)
}

fn by_predict(target: &Target) -> bool {
    let older = target.model.contains("gemini-embedding-001") || !target.model.contains("gemini-embedding-");
    target.hosting == Hosting::Vertex && older
}

fn content(
    call: &EmbedCall,
    target: &Target,
    task_type: Option<&'static str>,
    notes: &mut Notes,
) -> Result<(&'static str, Bytes), EncodeError> {
    if call.truncate.is_some() {
        notes.drop("`truncate`")?;
    }
    let one = |input| -> Result<One<'_>, EncodeError> {
        let content = WireContent { parts: parts(input)? };
        Ok(One { model: resource(target), content, task_type, output_dimensionality: call.dimensions })
    };
    match call.inputs.as_slice() {
        [input] => Ok(("embedContent", json(&one(input)?)?)),
        _ if target.hosting == Hosting::Vertex => Err(unsupported(NAME, "more than one input to a call on Vertex")),
        inputs => {
            let requests = inputs.iter().map(one).collect::<Result<Vec<_>, _>>()?;
            Ok(("batchEmbedContents", json(&Batch { requests })?))
        }
    }
}

fn predict(call: &EmbedCall, task_type: Option<&'static str>, notes: &mut Notes) -> Result<Bytes, EncodeError> {
    let auto_truncate = match call.truncate.as_deref() {
        None => None,
        Some("END") => Some(true),
        Some("NONE") => Some(false),
        Some(_) => notes.drop("`truncate` at the start").map(|()| None)?,
    };
    let instances = call.inputs.iter().map(|input| match parts(input)?.as_slice() {
        [WirePart::Text(content)] => Ok(Instance { content, task_type }),
        _ => Err(unsupported(NAME, "an input of several parts")),
    });
    let instances = instances.collect::<Result<Vec<_>, _>>()?;
    json(&Predict { instances, parameters: Parameters { auto_truncate, output_dimensionality: call.dimensions } })
}

fn parts(input: &EmbedInput) -> Result<Vec<WirePart<'_>>, EncodeError> {
    match input {
        EmbedInput::Text(text) => Ok(vec![WirePart::Text(text)]),
        EmbedInput::Tokens(_) => Err(unsupported(NAME, "inputs as token ids")),
        EmbedInput::Parts(parts) => parts.iter().map(part).collect(),
    }
}

fn part(part: &Part) -> Result<WirePart<'_>, EncodeError> {
    match &part.content {
        Content::Text(text) => Ok(WirePart::Text(text)),
        Content::Image(media) | Content::File(media) | Content::Audio(media) => match &media.source {
            Source::Base64 { media_type, data } => Ok(WirePart::InlineData { mime_type: media_type, data }),
            Source::Text(text) => Ok(WirePart::Text(text)),
            Source::Url(_) | Source::Uploaded(_) => Err(unsupported(NAME, "media by address")),
        },
        _ => Err(unsupported(NAME, "an input that is neither text nor media")),
    }
}

fn task_type(call: &EmbedCall, notes: &mut Notes) -> Result<Option<&'static str>, EncodeError> {
    Ok(match &call.purpose {
        None => None,
        Some(EmbedPurpose::SearchDocument) => Some("RETRIEVAL_DOCUMENT"),
        Some(EmbedPurpose::SearchQuery) => Some("RETRIEVAL_QUERY"),
        Some(EmbedPurpose::Classification) => Some("CLASSIFICATION"),
        Some(EmbedPurpose::Clustering) => Some("CLUSTERING"),
        Some(EmbedPurpose::Other(word)) => {
            let known = PURPOSES.into_iter().find(|known| known.eq_ignore_ascii_case(word));
            if known.is_none() {
                notes.drop(&format!("the purpose `{word}`"))?;
            }
            known
        }
    })
}

fn json(body: &impl Serialize) -> Result<Bytes, EncodeError> {
    serde_json::to_vec(body).map(Bytes::from).map_err(|error| EncodeError::Write(error.to_string()))
}
