//! `{"type": "error", "error": {"type", "message"}}`, as a body or as the last event of a stream.

use farebox_types::ErrorKind;
use serde::Deserialize;
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
        "invalid_request_error" => ErrorKind::BadRequest,
        "not_found_error" => ErrorKind::NotFound,
        "request_too_large" => ErrorKind::TooLarge,
        "rate_limit_error" => ErrorKind::RateLimited,
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

pub(super) fn decode(head: &Head, body: &[u8]) -> Refusal {
    let wire = serde_json::from_slice::<Envelope<'_>>(body).map(|e| read(e.error.get())).unwrap_or_default();
    let message = wire.message.unwrap_or_else(|| message_for(head.status));
    Refusal {
        kind: wire.kind.as_deref().and_then(kind_of_word).unwrap_or_else(|| kind_of(head.status)),
        message: about_credentials(head.status, message),
        retry_after: retry_after(&head.headers),
        status: Some(head.status.as_u16()),
        code: wire.kind,
        param: None,
        raw: Refusal::bounded(body),
    }
}

/// An error where an event or an answer was due: it has no status.
pub(super) fn in_place(error: &str) -> Refusal {
    let wire = read(error);
    Refusal {
        kind: wire.kind.as_deref().and_then(kind_of_word).unwrap_or(ErrorKind::Upstream),
        message: wire.message.unwrap_or_else(|| "the provider broke off with an error that cannot be read".to_owned()),
        retry_after: None,
        status: None,
        code: wire.kind,
        param: None,
        raw: Refusal::bounded(error.as_bytes()),
    }
}
