//! Cohere rerank: <https://docs.cohere.com/reference/rerank>, and `return_documents` of version 1, which callers of
//! compatible servers still send.

use std::borrow::Cow;

use bytes::Bytes;
use farebox_types::{Fault, Usage};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{billing::Metered, error};
use crate::{
    canonical::{Extra, Ranked, Ranking, Refusal, RerankCall, RerankDocument},
    dialect::{DialectName, Encoded, Head, RerankCaller, RerankDialect, Stamp, Target},
    error::{BadRequest, DecodeError, EncodeError},
    json::{Path, RawJson, read},
    notes::Notes,
    outline::{object_of, text_of},
    rewrite::Edit,
};

const NAME: DialectName = DialectName::CohereRerank;
const PATH: &str = "/v2/rerank";

pub(crate) struct CohereRerank;

impl RerankDialect for CohereRerank {
    fn name(&self) -> DialectName {
        NAME
    }

    fn encode(&self, call: &RerankCall, target: &Target) -> Result<Encoded, EncodeError> {
        encode(call, target)
    }

    fn edits(&self, target: &Target) -> Vec<Edit<'static>> {
        vec![Edit::string("model", &target.model)]
    }

    fn request(&self, target: &Target, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
        target.post(PATH, body)
    }

    fn decode(&self, _head: &Head, body: &[u8]) -> Result<Ranking, DecodeError> {
        decode(body)
    }

    fn decode_error(&self, head: &Head, body: &[u8]) -> Refusal {
        error::decode(head, body)
    }
}

impl RerankCaller for CohereRerank {
    fn name(&self) -> DialectName {
        NAME
    }

    fn parse(&self, _headers: &HeaderMap, body: &[u8]) -> Result<RerankCall, BadRequest> {
        parse(body)
    }

    fn render(&self, call: &RerankCall, answer: &Ranking, stamp: &Stamp) -> Bytes {
        render(call, answer, stamp)
    }

    fn render_error(&self, fault: &Fault) -> (StatusCode, Bytes) {
        error::render(fault)
    }
}

fn parse(body: &[u8]) -> Result<RerankCall, BadRequest> {
    let mut top = object_of(text_of(body)?)?;
    let root = Path::Root;
    // farebox's own options; they are read where the call is routed.
    top.take("farebox");
    let list: Vec<&RawValue> = top.required("documents", root, "an array of documents")?;
    if list.is_empty() {
        return Err(BadRequest::field("documents", "is empty: it must hold at least one document"));
    }
    let documents = root.member("documents");
    Ok(RerankCall {
        model: top.optional("model", root, "a string")?.unwrap_or_default(),
        query: top.required("query", root, "a text")?,
        documents: list
            .into_iter()
            .enumerate()
            .map(|(index, raw)| document(raw, documents.item(index)))
            .collect::<Result<_, _>>()?,
        top_n: top.optional("top_n", root, "a whole number")?,
        return_documents: top.optional("return_documents", root, "true or false")?,
        max_tokens_per_document: top.optional("max_tokens_per_doc", root, "a whole number of tokens")?,
        dialect: Some(NAME),
        extra: top.into_extra(),
    })
}

fn document(raw: &RawValue, at: Path<'_>) -> Result<RerankDocument, BadRequest> {
    if raw.get().starts_with('{') {
        return Ok(RerankDocument::Fields(RawJson::from(raw)));
    }
    Ok(RerankDocument::Text(read(raw, at, "a text or an object")?))
}

fn encode(call: &RerankCall, target: &Target) -> Result<Encoded, EncodeError> {
    let mut notes = Notes::new(NAME, target);
    let own = call.dialect == Some(NAME);
    for name in call.extra.keys().filter(|_| !own) {
        notes.drop(&format!("`{name}`"))?;
    }
    let wire = WireCall {
        model: &target.model,
        query: &call.query,
        documents: call.documents.iter().map(wire_document).collect(),
        top_n: call.top_n,
        max_tokens_per_doc: call.max_tokens_per_document,
        extra: own.then_some(&call.extra),
    };
    let body = serde_json::to_vec(&wire).map_err(|error| EncodeError::Write(error.to_string()))?;
    Ok(Encoded { request: target.post(PATH, Bytes::from(body))?, warnings: notes.into_warnings() })
}

/// `return_documents` is not said: version 2 sends none back, and they are put in where the answer is rendered.
#[derive(Serialize)]
struct WireCall<'a> {
    model: &'a str,
    query: &'a str,
    documents: Vec<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_n: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens_per_doc: Option<u64>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    extra: Option<&'a Extra>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TextOnly<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
}

/// Version 2 takes texts only, and asks for documents with fields as YAML, of which JSON is a part. An object that is
/// nothing but a text is sent as that text.
fn wire_document(document: &RerankDocument) -> Cow<'_, str> {
    match document {
        RerankDocument::Text(text) => Cow::Borrowed(text),
        RerankDocument::Fields(raw) => match serde_json::from_str::<TextOnly<'_>>(raw.as_str()) {
            Ok(TextOnly { text }) => text,
            Err(_) => Cow::Borrowed(raw.as_str()),
        },
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    results: Vec<WireResult>,
    #[serde(default)]
    meta: Option<Metered>,
    /// Compatible servers count tokens here.
    #[serde(default)]
    usage: Option<Tokens>,
}

#[derive(Deserialize)]
struct Tokens {
    #[serde(default)]
    total_tokens: Option<u64>,
}

#[derive(Deserialize, Serialize)]
struct WireResult {
    index: u64,
    relevance_score: RawJson,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    document: Option<RawJson>,
}

fn decode(body: &[u8]) -> Result<Ranking, DecodeError> {
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|error| DecodeError::Corrupt { dialect: NAME, problem: error.to_string() })?;
    let results = answer.results.into_iter().map(|result| Ranked {
        index: result.index,
        score: result.relevance_score,
        document: result.document,
    });
    let usage = match (answer.meta, answer.usage) {
        (Some(meta), _) => meta.usage(),
        (None, Some(tokens)) => Usage { input: tokens.total_tokens, ..Usage::default() },
        (None, None) => Usage::default(),
    };
    Ok(Ranking {
        id: answer.id.unwrap_or_default(),
        model: answer.model.unwrap_or_default(),
        results: results.collect(),
        usage,
    })
}

#[derive(Serialize)]
struct Rendered<'a> {
    id: &'a str,
    results: Vec<WireResult>,
    meta: Meta,
}

#[derive(Serialize)]
struct Meta {
    api_version: ApiVersion,
    #[serde(skip_serializing_if = "Option::is_none")]
    billed_units: Option<BilledUnits>,
}

#[derive(Serialize)]
struct ApiVersion {
    version: &'static str,
}

#[derive(Serialize)]
struct BilledUnits {
    #[serde(skip_serializing_if = "Option::is_none")]
    input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    search_units: Option<u64>,
}

fn render(call: &RerankCall, answer: &Ranking, stamp: &Stamp) -> Bytes {
    let wanted = call.return_documents == Some(true);
    let results = answer.results.iter().map(|ranked| WireResult {
        index: ranked.index,
        relevance_score: ranked.score.clone(),
        document: ranked.document.clone().or_else(|| wanted.then(|| own_document(call, ranked.index)).flatten()),
    });
    let usage = &answer.usage;
    let rendered = Rendered {
        id: if answer.id.is_empty() { &stamp.id } else { &answer.id },
        results: results.collect(),
        meta: Meta {
            api_version: ApiVersion { version: "2" },
            billed_units: usage
                .is_reported()
                .then_some(BilledUnits { input_tokens: usage.input, search_units: usage.searches }),
        },
    };
    Bytes::from(serde_json::to_vec(&rendered).unwrap_or_default())
}

/// The document as the caller sent it, in the form in which it is sent back.
fn own_document(call: &RerankCall, index: u64) -> Option<RawJson> {
    match call.documents.get(usize::try_from(index).ok()?)? {
        RerankDocument::Text(text) => RawJson::new(serde_json::json!({ "text": text }).to_string()),
        RerankDocument::Fields(raw) => Some(raw.clone()),
    }
}
