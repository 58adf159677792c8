//! `{"error": {"message", "type", "param", "code"}}` of OpenAI's endpoints and of the servers that are compatible with
//! them, in both directions: <https://platform.openai.com/docs/guides/error-codes>.

use bytes::Bytes;
use farebox_types::{ErrorKind, Fault};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{
    canonical::Refusal,
    dialect::Head,
    refusal::{about_credentials, kind_of, message_for, retry_hint},
};

/// As providers write it. Compatible servers put numbers where OpenAI puts words, an object or a list where it puts a
/// sentence, and call the same things by other names.
#[derive(Default, Deserialize)]
struct Wire {
    #[serde(default)]
    message: Option<Value>,
    /// FastAPI's word for the message.
    #[serde(default)]
    detail: Option<Value>,
    #[serde(default, rename = "type")]
    kind: Option<Value>,
    /// Google's word for the type, such as `INVALID_ARGUMENT`.
    #[serde(default)]
    status: Option<Value>,
    #[serde(default)]
    param: Option<Value>,
    #[serde(default)]
    code: Option<Value>,
}

/// The error itself, beside whatever else the body holds.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    error: &'a RawValue,
}

fn word(value: Option<Value>) -> Option<String> {
    match value? {
        Value::String(word) => Some(word).filter(|word| !word.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A sentence, wherever it hides: lists and `detail` objects name the fields that were refused (FastAPI's `loc`, `msg`).
fn sentence(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Array(list) => {
            let all: Vec<String> = list.iter().filter_map(sentence).collect();
            (!all.is_empty()).then(|| all.join("; "))
        }
        Value::Object(members) => {
            let text =
                ["message", "msg", "detail", "error"].iter().find_map(|name| members.get(*name).and_then(sentence))?;
            let place: Vec<String> = members.get("loc").and_then(Value::as_array).map_or_else(Vec::new, |loc| {
                loc.iter().filter_map(|step| word(Some(step.clone()))).filter(|step| step != "body").collect()
            });
            Some(if place.is_empty() { text } else { format!("{}: {text}", place.join(".")) })
        }
        _ => None,
    }
}

/// The error of a body: inside `error`, or the whole body; some servers put either into a list.
fn inside(body: &str) -> Wire {
    if let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(body) {
        let first = list.first().map(|first| first.get()).filter(|first| first.starts_with('{'));
        return first.map(inside).unwrap_or_default();
    }
    let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(body) else { return read(body) };
    let mut wire = read(envelope.error.get());
    if wire.code.is_none() && !envelope.error.get().starts_with('{') {
        // xAI: `{"code": …, "error": "a sentence"}`.
        wire.code = serde_json::from_str::<Wire>(body).ok().and_then(|around| around.code);
    }
    wire
}

fn read(error: &str) -> Wire {
    if error.starts_with('{') {
        return serde_json::from_str(error).unwrap_or_default();
    }
    Wire { message: serde_json::from_str(error).ok(), ..Wire::default() }
}

fn message(wire: &Wire) -> Option<String> {
    [&wire.message, &wire.detail].into_iter().flatten().find_map(sentence)
}

/// What a word means, whatever the status.
fn kind_of_word(word: &str) -> Option<ErrorKind> {
    Some(match word {
        // The account behind farebox's key is out of credit: waiting does not help, another provider does. The last
        // three are Moonshot's, Alibaba's and Z.ai's.
        "insufficient_quota" | "billing_hard_limit_reached" | "exceeded_current_quota_error" | "Arrearage" | "1113" => {
            ErrorKind::Upstream
        }
        "model_not_found" | "model_decommissioned" => ErrorKind::NotFound,
        "context_length_exceeded" => ErrorKind::BadRequest,
        _ => return None,
    })
}

/// xAI refuses a key with status 400.
fn refused_key(message: &str) -> bool {
    message.starts_with("Incorrect API key provided")
}

/// An answer with a status that is no success.
pub(crate) fn decode(head: &Head, body: &[u8]) -> Refusal {
    let wire = std::str::from_utf8(body).map(inside).unwrap_or_default();
    let message = message(&wire).unwrap_or_else(|| message_for(head.status));
    let given = word(wire.code);
    let meant = given.as_deref().and_then(kind_of_word);
    let status = if refused_key(&message) { StatusCode::UNAUTHORIZED } else { head.status };
    let code =
        given.filter(|code| code.parse::<u16>().is_err()).or_else(|| word(wire.kind)).or_else(|| word(wire.status));
    let kind = meant.or_else(|| kind_of_word(code.as_deref()?)).unwrap_or_else(|| kind_of(status));
    let sentence = if kind == ErrorKind::RateLimited { message.as_str() } else { "" };
    Refusal {
        kind,
        retry_after: retry_hint(&head.headers, sentence),
        message: about_credentials(status, message),
        status: Some(head.status.as_u16()),
        code,
        param: word(wire.param),
        raw: Refusal::bounded(body),
    }
}

/// An error where a chunk or an answer was due. It has no status of its own; some servers say one in `code`.
pub(crate) fn in_place(error: &str) -> Refusal {
    let wire = read(error);
    let message =
        message(&wire).unwrap_or_else(|| "the provider broke off with an error that cannot be read".to_owned());
    let (code, word_of_kind) = (word(wire.code), word(wire.kind).or_else(|| word(wire.status)));
    let status = code.as_deref().and_then(|c| c.parse::<u16>().ok()).and_then(|c| StatusCode::from_u16(c).ok());
    let meant = [&code, &word_of_kind].into_iter().flatten().find_map(|word| kind_of_word(word));
    let kind = meant.unwrap_or_else(|| match (code.as_deref(), word_of_kind.as_deref(), status) {
        (Some("rate_limit_exceeded"), _, _) | (_, Some("rate_limit_error" | "rate_limit_exceeded"), _) => {
            ErrorKind::RateLimited
        }
        (_, Some("invalid_request_error"), None) => ErrorKind::BadRequest,
        (_, _, Some(status)) => kind_of(status),
        _ => ErrorKind::Upstream,
    });
    let sentence = if kind == ErrorKind::RateLimited { message.as_str() } else { "" };
    Refusal {
        kind,
        retry_after: retry_hint(&HeaderMap::new(), sentence),
        message,
        status: None,
        code: code.or(word_of_kind),
        param: word(wire.param),
        raw: Refusal::bounded(error.as_bytes()),
    }
}

#[derive(Serialize)]
struct Rendered<'a> {
    error: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<String>,
    code: &'a str,
}

fn type_of(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::BadRequest
        | ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::TooLarge
        | ErrorKind::Unsupported => "invalid_request_error",
        ErrorKind::Unauthenticated => "authentication_error",
        ErrorKind::Forbidden => "permission_error",
        ErrorKind::OverBudget => "insufficient_quota",
        ErrorKind::RateLimited => "rate_limit_error",
        ErrorKind::Cancelled => "request_cancelled",
        ErrorKind::DeadlineExceeded => "timeout_error",
        ErrorKind::Unavailable | ErrorKind::Upstream | ErrorKind::Truncated | ErrorKind::Lost | ErrorKind::Internal => {
            "server_error"
        }
    }
}

/// The word that programs look for; where OpenAI has none, the kind's own.
fn code_of(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Unauthenticated => "invalid_api_key",
        ErrorKind::NotFound => "model_not_found",
        ErrorKind::OverBudget => "insufficient_quota",
        ErrorKind::RateLimited => "rate_limit_exceeded",
        _ => kind.as_str(),
    }
}

/// Whether the provider's words are about what the caller asked for. The others are about farebox's own account with it.
fn about_the_request(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BadRequest | ErrorKind::NotFound | ErrorKind::TooLarge | ErrorKind::RateLimited)
}

/// What a provider refused with 422 stays one: SDKs have a class of their own for it.
fn status_of(fault: &Fault) -> u16 {
    match (fault.kind, fault.provider_status) {
        (ErrorKind::BadRequest, Some(422)) => 422,
        (kind, _) => kind.http_status(),
    }
}

/// `code` and `param` are the provider's, where its body was of this dialect and about the request.
pub(crate) fn render(fault: &Fault) -> (StatusCode, Bytes) {
    let said = fault.provider_body.as_deref().filter(|_| about_the_request(fault.kind)).map(inside).unwrap_or_default();
    let code = word(said.code).filter(|code| code.parse::<u16>().is_err());
    let body = Rendered {
        error: Body {
            message: &fault.message,
            kind: type_of(fault.kind),
            param: word(said.param),
            code: code.as_deref().unwrap_or_else(|| code_of(fault.kind)),
        },
    };
    let status = StatusCode::from_u16(status_of(fault)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Bytes::from(serde_json::to_vec(&body).unwrap_or_default()))
}
