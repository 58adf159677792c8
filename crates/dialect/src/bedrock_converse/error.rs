//! `{"message"}` with the exception's name in a header, in `__type`, or in front of a stream's message.

use farebox_types::ErrorKind;
use serde::Deserialize;

use crate::{
    canonical::Refusal,
    dialect::Head,
    refusal::{about_credentials, kind_of, message_for, retry_after},
};

#[derive(Default, Deserialize)]
struct Wire {
    #[serde(default, rename = "__type")]
    kind: Option<String>,
    #[serde(default, alias = "Message")]
    message: Option<String>,
}

/// In answers the names begin with a capital, in streams they do not.
fn kind_of_word(word: &str) -> Option<ErrorKind> {
    let is = |name: &str| word.eq_ignore_ascii_case(name);
    if is("ValidationException") {
        return Some(ErrorKind::BadRequest);
    }
    if is("ResourceNotFoundException") {
        return Some(ErrorKind::NotFound);
    }
    if is("ThrottlingException") || is("ServiceQuotaExceededException") || is("TooManyRequestsException") {
        return Some(ErrorKind::RateLimited);
    }
    // Credentials are farebox's own affair with the provider, not the caller's.
    let upstream = [
        "AccessDeniedException",
        "ExpiredTokenException",
        "IncompleteSignatureException",
        "InternalServerException",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "ModelErrorException",
        "ModelNotReadyException",
        "ModelStreamErrorException",
        "ModelTimeoutException",
        "ServiceUnavailableException",
        "UnrecognizedClientException",
    ];
    upstream.into_iter().any(is).then_some(ErrorKind::Upstream)
}

/// `com.amazon.coral#ThrottlingException:http://…` without its namespace and its address.
fn bare(word: &str) -> &str {
    let word = word.split_once(':').map_or(word, |(word, _)| word);
    word.rsplit_once('#').map_or(word, |(_, word)| word)
}

pub(crate) fn decode(head: &Head, body: &[u8]) -> Refusal {
    let wire: Wire = serde_json::from_slice(body).unwrap_or_default();
    let header = head.headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
    let code = header.or(wire.kind.as_deref()).map(|word| bare(word).to_owned());
    let message = wire.message.unwrap_or_else(|| message_for(head.status));
    Refusal {
        kind: code.as_deref().and_then(kind_of_word).unwrap_or_else(|| kind_of(head.status)),
        message: about_credentials(head.status, message),
        retry_after: retry_after(&head.headers),
        status: Some(head.status.as_u16()),
        code,
        param: None,
        raw: Refusal::bounded(body),
    }
}

/// An exception where an event was due: it has no status.
pub(super) fn in_stream(name: &str, data: &[u8]) -> Refusal {
    in_place(Some(name), serde_json::from_slice(data).unwrap_or_default(), data)
}

/// An error under a status of success. `None`: the body is none.
pub(crate) fn in_answer(body: &[u8]) -> Option<Refusal> {
    let wire: Wire = serde_json::from_slice(body).ok()?;
    (wire.kind.is_some() || wire.message.is_some()).then(|| in_place(None, wire, body))
}

fn in_place(name: Option<&str>, wire: Wire, raw: &[u8]) -> Refusal {
    let code = name.or(wire.kind.as_deref()).map(|word| bare(word).to_owned());
    let message = "the provider broke off with an error that cannot be read";
    Refusal {
        kind: code.as_deref().and_then(kind_of_word).unwrap_or(ErrorKind::Upstream),
        message: wire.message.unwrap_or_else(|| message.to_owned()),
        retry_after: None,
        status: None,
        code,
        param: None,
        raw: Refusal::bounded(raw),
    }
}
