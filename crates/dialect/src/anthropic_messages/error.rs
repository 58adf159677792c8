//! `{"type": "error", "error": {"type", "message"}}`, as a body or as the last event of a stream, in both directions:
//! <https://docs.anthropic.com/en/api/errors>. Clouds that host the dialect have their own: Vertex
//! `{"error": {"code", "message", "status"}}`, Bedrock `{"message"}` with the type in a header or a frame's name.

use bytes::Bytes;
use farebox_types::{ErrorKind, Fault};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    canonical::Refusal,
    dialect::Head,
    refusal::{about_credentials, kind_of, message_for, retry_after},
};

#[derive(Debug, Default, Deserialize)]
struct Wire {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    /// Google's word for the type.
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    error: &'a RawValue,
}

fn kind_of_word(word: &str) -> Option<ErrorKind> {
    Some(match word {
        "invalid_request_error" | "validationException" => ErrorKind::BadRequest,
        "not_found_error" => ErrorKind::NotFound,
        "request_too_large" => ErrorKind::TooLarge,
        "rate_limit_error" | "throttlingException" => ErrorKind::RateLimited,
        // Credentials and bills are farebox's own affair with the provider, not the caller's.
        "authentication_error"
        | "permission_error"
        | "billing_error"
        | "overloaded_error"
        | "api_error"
        | "timeout_error" => ErrorKind::Upstream,
        _ => return None,
    })
}

fn read(error: &str) -> Wire {
    serde_json::from_str(error).unwrap_or_default()
}

/// The error of a body, which Vertex may put into a list. A list within it is none: whoever sends the body would decide
/// how deep we go.
fn of_body(body: &[u8]) -> Wire {
    let list: Vec<&RawValue> = serde_json::from_slice(body).unwrap_or_default();
    let body = list.first().map_or(body, |first| first.get().as_bytes());
    match serde_json::from_slice::<Envelope<'_>>(body) {
        Ok(envelope) => read(envelope.error.get()),
        Err(_) => serde_json::from_slice(body).unwrap_or_default(),
    }
}

pub(super) fn decode(head: &Head, body: &[u8]) -> Refusal {
    let wire = of_body(body);
    // `ThrottlingException:http://…`
    let amazons = head.headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
    let amazons = amazons.and_then(|word| word.split(':').next()).map(str::to_owned);
    let code = wire.kind.or(wire.status).or(amazons);
    let message = wire.message.unwrap_or_else(|| message_for(head.status));
    // The bill is farebox's own affair, though the type blames the request.
    let unpaid = message.starts_with("Your credit balance is too low").then_some(ErrorKind::Upstream);
    Refusal {
        kind: unpaid.or_else(|| kind_of_word(code.as_deref()?)).unwrap_or_else(|| kind_of(head.status)),
        message: about_credentials(head.status, message),
        retry_after: retry_after(&head.headers),
        status: Some(head.status.as_u16()),
        code,
        param: None,
        raw: Refusal::bounded(body),
    }
}

/// An error where an event or an answer was due: it has no status.
pub(super) fn in_place(error: &str) -> Refusal {
    broken_off(read(error), error.as_bytes())
}

/// An exception in Bedrock's frames.
pub(super) fn exception(name: &str, data: &[u8]) -> Refusal {
    let wire: Wire = serde_json::from_slice(data).unwrap_or_default();
    broken_off(Wire { kind: Some(name.to_owned()), ..wire }, data)
}

fn broken_off(wire: Wire, raw: &[u8]) -> Refusal {
    Refusal {
        kind: wire.kind.as_deref().and_then(kind_of_word).unwrap_or(ErrorKind::Upstream),
        message: wire.message.unwrap_or_else(|| "the provider broke off with an error that cannot be read".to_owned()),
        retry_after: None,
        status: None,
        code: wire.kind,
        param: None,
        raw: Refusal::bounded(raw),
    }
}

#[derive(Serialize)]
struct Rendered<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    message: &'a str,
}

const OVERLOADED: u16 = 529;

/// Type and status. Clients choose by them whether to try again.
fn words(fault: &Fault) -> (&'static str, u16) {
    let own = fault.kind.http_status();
    match fault.kind {
        ErrorKind::BadRequest | ErrorKind::Conflict | ErrorKind::Cancelled => ("invalid_request_error", own),
        ErrorKind::Unsupported => ("invalid_request_error", 400),
        ErrorKind::Unauthenticated => ("authentication_error", own),
        ErrorKind::Forbidden => ("permission_error", own),
        ErrorKind::NotFound => ("not_found_error", own),
        ErrorKind::TooLarge => ("request_too_large", own),
        // Clients repeat whatever comes with a 429; an empty budget does not fill itself.
        ErrorKind::OverBudget => ("billing_error", 402),
        ErrorKind::RateLimited => ("rate_limit_error", own),
        ErrorKind::DeadlineExceeded => ("timeout_error", own),
        ErrorKind::Upstream if matches!(fault.provider_status, Some(503 | OVERLOADED)) => {
            ("overloaded_error", OVERLOADED)
        }
        ErrorKind::Unavailable => ("overloaded_error", OVERLOADED),
        ErrorKind::Upstream | ErrorKind::Truncated | ErrorKind::Lost | ErrorKind::Internal => ("api_error", own),
    }
}

pub(super) fn render(fault: &Fault) -> (StatusCode, Bytes) {
    let (kind, status) = words(fault);
    let body = Rendered { kind: "error", error: Body { kind, message: &fault.message } };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Bytes::from(serde_json::to_vec(&body).expect("words and a sentence can always be written")))
}
