//! What a recorded answer means, read from its raw JSON and its frames and from nothing else: what farebox makes of it
//! is compared with this, so it shares no code with farebox.
//!
//! Which field is the provider's own total: `usage.total_tokens` (OpenAI's APIs), `usageMetadata.totalTokenCount`
//! (Gemini), `usage.totalTokens` (Converse), the sum of `billed_units` (Cohere). Anthropic and Ollama report none; the
//! invocation metrics at the end of InvokeModel's streams contradict the usage of the events before them.

mod anthropic;
mod bedrock;
mod chat;
mod cohere;
mod gemini;
mod responses;
mod vectors;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

pub use self::chat::{choices as openai_choices, chunks as openai_chunks};
use crate::{
    carried::{self, Carried},
    exchange::{Body, Exchange},
    family::{Family, Host},
    wire::Frame,
};

/// Disjoint buckets, by the names of the ledger's columns; what was not reported is not in it.
pub type Tokens = BTreeMap<&'static str, u64>;

/// One choice of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    pub text: String,
    pub refusal: String,
    pub reasoning: String,
    /// Id (empty where the provider gives none), name, arguments.
    pub tools: Vec<(String, String, Value)>,
    /// `stop`, `stop_sequence`, `length`, `tool_calls`, `content_filter`, `refusal`, `pause`, or `other: …`.
    pub finish: Option<String>,
}

/// A provider's no.
#[derive(Clone, Debug, PartialEq)]
pub struct No {
    pub message: String,
    pub code: Option<String>,
}

impl No {
    /// The kind of error: what the provider's own word says, where it is one whose status may mislead, else the status.
    pub fn kind(&self, status: u16) -> &'static str {
        let code = self.code.as_deref().unwrap_or_default();
        let is = |words: &[&str]| words.iter().any(|word| code.contains(word));
        match status {
            _ if is(&["insufficient_quota", "billing", "API_KEY"]) => "upstream",
            _ if is(&["Throttling", "ServiceQuota", "TooManyRequests", "rate_limit"]) => "rate_limited",
            _ if is(&["model_not_found", "not_found_error", "ResourceNotFound"]) => "not_found",
            404 | 410 => "not_found",
            400 | 422 => "bad_request",
            413 => "too_large",
            429 => "rate_limited",
            _ => "upstream",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meaning {
    pub choices: BTreeMap<u64, Said>,
    pub vectors: Vec<Value>,
    /// Number of the document, score.
    pub ranking: Vec<(u64, Value)>,
    /// A count of tokens, where one was asked for.
    pub counted: Option<u64>,
    pub tokens: Tokens,
    /// The provider's own total.
    pub total: Option<u64>,
    /// The answer is an error, or broke off with one.
    pub error: Option<No>,
    /// A stream came to the provider's own end, and every choice said why it finished.
    pub ended: bool,
    pub streamed: bool,
}

/// `Err`: there is nothing that could be checked.
pub fn read(exchange: &Exchange, family: Family, host: Host) -> Result<Meaning, String> {
    if !exchange.is_ok() {
        return Ok(refused(exchange));
    }
    match carried::read(exchange, family, host)? {
        Carried::Whole(body) => whole(exchange, &body, family),
        Carried::Stream(frames) => {
            let mut meaning = stream(&frames, family)?;
            meaning.streamed = true;
            meaning.ended &= meaning.choices.values().all(|said| said.finish.is_some());
            Ok(meaning)
        }
    }
}

fn whole(exchange: &Exchange, body: &Value, family: Family) -> Result<Meaning, String> {
    if !body.is_object() {
        return Err("a body that is no object".to_owned());
    }
    let error = body.get("error").filter(|error| !error.is_null());
    if let Some(error) = error.or_else(|| chat::broken(body).filter(|_| family == Family::Chat)) {
        return Ok(Meaning { error: Some(no(error)), ended: true, ..Meaning::default() });
    }
    let read = match family {
        Family::Chat => chat::whole(body),
        Family::Completions => chat::completion(body),
        Family::Responses => responses::whole(body)?,
        Family::Anthropic => anthropic::whole(body),
        Family::Gemini => gemini::whole(body),
        Family::Converse => bedrock::whole(body),
        Family::CohereChat => cohere::whole(body),
        Family::Ollama => bedrock::ollama(body),
        Family::AnthropicCount => counted(&body["input_tokens"]),
        Family::BedrockCount => counted(&body["inputTokens"]),
        Family::GeminiCount => counted(&body["totalTokens"]),
        Family::CohereRerank => cohere::ranking(body),
        Family::Embeddings | Family::GeminiEmbed | Family::TitanEmbed | Family::CohereEmbed => {
            vectors::read(exchange, body, family)
        }
    };
    Ok(Meaning { ended: true, ..read })
}

fn stream(frames: &[Frame], family: Family) -> Result<Meaning, String> {
    let events = frames.iter().take_while(|frame| frame.data.trim() != "[DONE]");
    let events: Vec<(&str, Value)> = events
        .map(|frame| Ok((frame.event.as_str(), serde_json::from_str(&frame.data)?)))
        .collect::<Result<_, serde_json::Error>>()
        .map_err(|error| format!("a frame that is no JSON: {error}"))?;
    let done = events.len() < frames.len();
    let values = || events.iter().map(|(_, value)| value);
    Ok(match family {
        Family::Chat => chat::stream(values(), done),
        Family::Completions => chat::completion_stream(values(), done),
        Family::Responses => responses::stream(values()),
        Family::Anthropic => anthropic::stream(values()),
        Family::Gemini => gemini::stream(values()),
        Family::Converse => bedrock::stream(&events),
        Family::CohereChat => cohere::stream(values()),
        Family::Ollama => bedrock::ollama_stream(values()),
        _ => return Err("a stream of what is not streamed".to_owned()),
    })
}

fn refused(exchange: &Exchange) -> Meaning {
    let body = match &exchange.body {
        Body::Json(text) | Body::Text(text) => serde_json::from_str(text).unwrap_or_default(),
        Body::Binary(_) | Body::Events(_) => Value::Null,
    };
    // Google's streams put even their error into an array.
    let body = body.as_array().and_then(|list| list.first()).unwrap_or(&body);
    let error = body.get("error").filter(|error| !error.is_null()).unwrap_or(body);
    let mut no = no(error);
    // Amazon's word stands in a header.
    let header = exchange.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-amzn-errortype"));
    no.code = no.code.or_else(|| header.map(|(_, word)| word.clone()));
    Meaning { error: Some(no), ended: true, ..Meaning::default() }
}

fn counted(tokens: &Value) -> Meaning {
    Meaning { counted: tokens.as_u64(), ..Meaning::default() }
}

/// An object with a message, or the bare sentence.
fn no(error: &Value) -> No {
    let word = |name: &str| error[name].as_str().map(str::to_owned);
    let message = word("message").or_else(|| word("Message")).or_else(|| error.as_str().map(str::to_owned));
    let reasons = items(&error["details"]).find_map(|detail| detail["reason"].as_str().map(str::to_owned));
    let code = reasons.or_else(|| ["code", "type", "status", "__type"].into_iter().find_map(word));
    No { message: message.unwrap_or_default(), code }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// No arguments at all are no members; what is no JSON is compared as text.
fn arguments(text: &str) -> Value {
    let text = if text.trim().is_empty() { "{}" } else { text };
    match serde_json::from_str(text) {
        Ok(Value::Null) => Value::Object(Map::new()),
        Ok(input) => input,
        Err(_) => Value::from(text),
    }
}

/// Puts counts into their buckets; what is no number is not there.
fn buckets<'a>(counts: impl IntoIterator<Item = (&'static str, &'a Value)>) -> Tokens {
    counts.into_iter().filter_map(|(bucket, count)| Some((bucket, count.as_u64()?))).collect()
}

/// Moves a detail out of what is left of its total. It never takes more than is left.
fn take(tokens: &mut Tokens, bucket: &'static str, left: &mut Option<u64>, detail: Option<u64>) {
    let Some(detail) = detail else { return };
    let taken = detail.min(left.unwrap_or(detail));
    *left = left.map(|left| left - taken);
    *tokens.entry(bucket).or_default() += taken;
}

/// A choice of its own, as the APIs have it that know only one.
fn one(said: Said) -> BTreeMap<u64, Said> {
    BTreeMap::from([(0, said)])
}
