//! `{"message"}`, with an `id` or without: <https://docs.cohere.com/reference/errors>.

use bytes::Bytes;
use farebox_types::{ErrorKind, Fault};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::{
    canonical::Refusal,
    dialect::Head,
    openai_error,
    refusal::{about_credentials, kind_of, retry_after},
};

/// The status by which Cohere refuses a key, besides 401.
const INVALID_TOKEN: u16 = 498;

#[derive(Default, Deserialize)]
struct Wire {
    message: Option<String>,
}

fn message(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<Wire>(body).ok()?.message.filter(|message| !message.is_empty())
}

pub(super) fn decode(head: &Head, body: &[u8]) -> Refusal {
    // Servers that are compatible with one endpoint of Cohere's refuse in OpenAI's words.
    let Some(message) = message(body) else {
        return openai_error::decode(head, body);
    };
    let whose = if head.status.as_u16() == INVALID_TOKEN { StatusCode::UNAUTHORIZED } else { head.status };
    Refusal {
        kind: kind_of(head.status),
        message: about_credentials(whose, message),
        retry_after: retry_after(&head.headers),
        status: Some(head.status.as_u16()),
        code: None,
        param: None,
        raw: Refusal::bounded(body),
    }
}

/// An answer that broke off: `word` is why it finished (`ERROR`, `TIMEOUT`).
pub(super) fn broken_off(word: &str, said: Option<String>, raw: &[u8]) -> Refusal {
    Refusal {
        kind: ErrorKind::Upstream,
        message: said.unwrap_or_else(|| format!("the provider broke off its answer: {word}")),
        retry_after: None,
        status: None,
        code: Some(word.to_owned()),
        param: None,
        raw: Refusal::bounded(raw),
    }
}

#[derive(Serialize)]
struct Rendered<'a> {
    message: &'a str,
}

pub(super) fn render(fault: &Fault) -> (StatusCode, Bytes) {
    let status = StatusCode::from_u16(fault.kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(&Rendered { message: &fault.message }).unwrap_or_default();
    (status, Bytes::from(body))
}
