//! `{"error": {"code", "message", "status", "details"}}`, <https://cloud.google.com/apis/design/errors>: as a body, alone
//! in an array, or as an event of a stream.

use std::time::Duration;

use farebox_types::ErrorKind;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    canonical::Refusal,
    dialect::Head,
    refusal::{about_credentials, kind_of, message_for, retry_after},
};

/// The longest wait that is believed.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Default, Deserialize)]
struct Wire {
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    details: Option<Vec<Detail>>,
}

/// Details are told apart by their members; each type has its own.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Detail {
    retry_delay: Option<String>,
    reason: Option<String>,
    field_violations: Option<Vec<Violation>>,
}

#[derive(Debug, Deserialize)]
struct Violation {
    field: Option<String>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    error: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Error {
    Full(Wire),
    Bare(String),
}

impl Wire {
    fn read(error: &str) -> Wire {
        match serde_json::from_str(error) {
            Ok(Error::Full(wire)) => wire,
            Ok(Error::Bare(message)) => Wire { message: Some(message), ..Wire::default() },
            Err(_) => Wire::default(),
        }
    }

    fn kind(&self) -> Option<ErrorKind> {
        Some(match self.status.as_deref()? {
            // The key is farebox's own, whatever the status says.
            _ if self.about_key() => ErrorKind::Upstream,
            "INVALID_ARGUMENT" | "OUT_OF_RANGE" => ErrorKind::BadRequest,
            "NOT_FOUND" => ErrorKind::NotFound,
            "RESOURCE_EXHAUSTED" => ErrorKind::RateLimited,
            // Credentials, regions and bills are farebox's own affair with the provider, not the caller's.
            "UNAUTHENTICATED"
            | "PERMISSION_DENIED"
            | "FAILED_PRECONDITION"
            | "INTERNAL"
            | "UNAVAILABLE"
            | "DEADLINE_EXCEEDED"
            | "CANCELLED"
            | "ABORTED"
            | "UNKNOWN"
            | "DATA_LOSS"
            | "UNIMPLEMENTED" => ErrorKind::Upstream,
            _ => return None,
        })
    }

    fn about_key(&self) -> bool {
        self.details().any(|d| d.reason.as_deref().is_some_and(|reason| reason.starts_with("API_KEY_")))
    }

    fn details(&self) -> impl Iterator<Item = &Detail> {
        self.details.iter().flatten()
    }

    /// `RetryInfo`: seconds with a fraction and an `s`.
    fn retry_delay(&self) -> Option<Duration> {
        let seconds: f64 = self.details().find_map(|d| d.retry_delay.as_deref()?.strip_suffix('s')?.parse().ok())?;
        (seconds >= 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(MAX_RETRY_DELAY).min(MAX_RETRY_DELAY))
    }

    fn param(&self) -> Option<String> {
        self.details().find_map(|d| d.field_violations.as_ref()?.first()?.field.clone()).filter(|f| !f.is_empty())
    }
}

fn envelope(body: &[u8]) -> Option<Wire> {
    // A struct could be read from an array, member by member: the array is tried first.
    let alone = serde_json::from_slice::<Vec<Envelope<'_>>>(body).ok().and_then(|all| all.into_iter().next());
    let one = || serde_json::from_slice::<Envelope<'_>>(body).ok();
    alone.or_else(one).map(|envelope| Wire::read(envelope.error.get()))
}

pub(crate) fn decode(head: &Head, body: &[u8]) -> Refusal {
    let wire = envelope(body).unwrap_or_default();
    let status = if wire.about_key() { StatusCode::UNAUTHORIZED } else { head.status };
    let message = wire.message.clone().unwrap_or_else(|| message_for(head.status));
    Refusal {
        kind: wire.kind().unwrap_or_else(|| kind_of(head.status)),
        message: about_credentials(status, message),
        retry_after: wire.retry_delay().or_else(|| retry_after(&head.headers)),
        status: Some(head.status.as_u16()),
        param: wire.param(),
        code: wire.status,
        raw: Refusal::bounded(body),
    }
}

/// An error where an answer was due: it has no status.
pub(super) fn in_place(error: &str) -> Refusal {
    let wire = Wire::read(error);
    Refusal {
        kind: wire.kind().unwrap_or(ErrorKind::Upstream),
        retry_after: wire.retry_delay(),
        status: None,
        param: wire.param(),
        message: wire.message.unwrap_or_else(|| "the provider broke off with an error that cannot be read".to_owned()),
        code: wire.status,
        raw: Refusal::bounded(error.as_bytes()),
    }
}
