//! `{"error": {"message", "type", "param", "code"}}`, in both directions.

use bytes::Bytes;
use farebox_types::{ErrorKind, Fault};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    canonical::Refusal,
    dialect::Head,
    refusal::{about_credentials, kind_of, message_for, retry_after},
};

/// As providers write it; compatible servers put numbers where OpenAI puts words, or a bare sentence.
#[derive(Debug, Default, Deserialize)]
struct Wire {
    #[serde(default)]
    message: Option<String>,
    #[serde(default, rename = "type")]
    kind: Option<Value>,
    #[serde(default)]
    param: Option<Value>,
    #[serde(default)]
    code: Option<Value>,
}

fn word(value: Option<Value>) -> Option<String> {
    match value? {
        Value::String(word) => Some(word),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn read(error: &str) -> Wire {
    serde_json::from_str::<Wire>(error)
        .unwrap_or_else(|_| Wire { message: serde_json::from_str::<String>(error).ok(), ..Wire::default() })
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    error: &'a serde_json::value::RawValue,
}

pub(super) fn decode(head: &Head, body: &[u8]) -> Refusal {
    let wire = serde_json::from_slice::<Envelope<'_>>(body).map(|e| read(e.error.get())).unwrap_or_default();
    let code = word(wire.code).or_else(|| word(wire.kind));
    let kind = match code.as_deref() {
        // The account behind farebox's key is out of credit: waiting does not help, another provider does.
        Some("insufficient_quota" | "billing_hard_limit_reached") => ErrorKind::Upstream,
        Some("model_not_found") => ErrorKind::NotFound,
        _ => kind_of(head.status),
    };
    Refusal {
        kind,
        message: about_credentials(head.status, wire.message.unwrap_or_else(|| message_for(head.status))),
        retry_after: retry_after(&head.headers),
        status: Some(head.status.as_u16()),
        code,
        param: word(wire.param),
        raw: Refusal::bounded(body),
    }
}

/// An error object where a chunk or an answer was due. It has no status of its own; some servers say one in `code`.
pub(super) fn in_place(error: &str) -> Refusal {
    let wire = read(error);
    let (code, word_of_kind) = (word(wire.code), word(wire.kind));
    let status = code.as_deref().and_then(|c| c.parse::<u16>().ok()).and_then(|c| StatusCode::from_u16(c).ok());
    let kind = match (code.as_deref(), word_of_kind.as_deref(), status) {
        (Some("rate_limit_exceeded"), _, _) | (_, Some("rate_limit_error" | "rate_limit_exceeded"), _) => {
            ErrorKind::RateLimited
        }
        (_, Some("invalid_request_error"), None) => ErrorKind::BadRequest,
        (_, _, Some(status)) => kind_of(status),
        _ => ErrorKind::Upstream,
    };
    Refusal {
        kind,
        message: wire.message.unwrap_or_else(|| "the provider broke off with an error that cannot be read".to_owned()),
        retry_after: None,
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
    code: &'static str,
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

/// `code` is the kind's own word, `param` the field the provider named, if its body was of this dialect.
pub(super) fn render(fault: &Fault) -> (StatusCode, Bytes) {
    let named = fault.provider_body.as_deref().and_then(|raw| serde_json::from_str::<Envelope<'_>>(raw).ok());
    let body = Rendered {
        error: Body {
            message: &fault.message,
            kind: type_of(fault.kind),
            param: named.and_then(|e| word(read(e.error.get()).param)),
            code: fault.kind.as_str(),
        },
    };
    let status = StatusCode::from_u16(fault.kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Bytes::from(serde_json::to_vec(&body).unwrap_or_default()))
}
