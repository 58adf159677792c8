//! `{"error": "…"}`, as a body or as the last line of a stream. Ollama's cloud puts an object with a `message` there.

use farebox_types::ErrorKind;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    canonical::Refusal,
    dialect::Head,
    refusal::{about_credentials, kind_of, message_for, retry_after},
};

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    error: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Wire {
    Text(String),
    Object { message: Option<String> },
}

fn message(error: &str) -> Option<String> {
    match serde_json::from_str(error).ok()? {
        Wire::Text(text) => Some(text),
        Wire::Object { message } => message,
    }
}

pub(super) fn decode(head: &Head, body: &[u8]) -> Refusal {
    let said = serde_json::from_slice::<Envelope<'_>>(body).ok().and_then(|e| message(e.error.get()));
    Refusal {
        kind: kind_of(head.status),
        message: about_credentials(head.status, said.unwrap_or_else(|| message_for(head.status))),
        retry_after: retry_after(&head.headers),
        status: Some(head.status.as_u16()),
        code: None,
        param: None,
        raw: Refusal::bounded(body),
    }
}

/// An error where an answer was due: it has no status.
pub(super) fn in_place(error: &str) -> Refusal {
    Refusal {
        kind: ErrorKind::Upstream,
        message: message(error)
            .unwrap_or_else(|| "the provider broke off with an error that cannot be read".to_owned()),
        retry_after: None,
        status: None,
        code: None,
        param: None,
        raw: Refusal::bounded(error.as_bytes()),
    }
}
