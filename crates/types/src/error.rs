//! The closed set of error kinds, and the one table that maps them to the outside.

use std::{fmt, str::FromStr, time::Duration};

/// What kind of failure a caller sees. Closed: a new kind is a change of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request is malformed or has a value that cannot work.
    BadRequest,
    /// Nobody is known by these credentials.
    Unauthenticated,
    /// Known, but not allowed to do this.
    Forbidden,
    /// No such model, job or result.
    NotFound,
    /// The request id was used before with another body.
    Conflict,
    /// The body is larger than a named limit.
    TooLarge,
    /// The target cannot do what the request asks for.
    Unsupported,
    /// A hard budget has no room for this call.
    OverBudget,
    /// A rate limit, farebox's own or the provider's.
    RateLimited,
    /// The caller asked to stop.
    Cancelled,
    /// The deadline or a named timeout passed.
    DeadlineExceeded,
    /// A part of farebox that is needed is not there right now.
    Unavailable,
    /// The provider failed or answered something that cannot be understood.
    Upstream,
    /// The provider's answer ended before its end.
    Truncated,
    /// The process that held the call died while it may have been out.
    Lost,
    /// A fault of farebox itself.
    Internal,
}

/// What a JetStream consumer does with a message whose handling failed this way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The failure is the answer: it is final and has been delivered.
    Ack,
    /// Try again later.
    Nak,
    /// Can never work, not even to answer it: remove it.
    Term,
}

/// One row of the table: kind, name on the wire, HTTP status, gRPC code, disposition, worth a retry.
type Row = (ErrorKind, &'static str, u16, i32, Disposition, bool);

/// gRPC codes: <https://grpc.io/docs/guides/status-codes/>. HTTP statuses as OpenAI's and Anthropic's SDKs map them.
const TABLE: [Row; 16] = {
    use Disposition::{Ack, Nak, Term};
    use ErrorKind::*;
    [
        (BadRequest, "bad_request", 400, 3, Ack, false),
        (Unauthenticated, "unauthenticated", 401, 16, Term, false),
        (Forbidden, "forbidden", 403, 7, Ack, false),
        (NotFound, "not_found", 404, 5, Ack, false),
        (Conflict, "conflict", 409, 6, Ack, false),
        (TooLarge, "too_large", 413, 3, Ack, false),
        (Unsupported, "unsupported", 422, 12, Ack, false),
        (OverBudget, "over_budget", 429, 8, Ack, false),
        (RateLimited, "rate_limited", 429, 8, Nak, true),
        (Cancelled, "cancelled", 499, 1, Ack, false),
        (DeadlineExceeded, "deadline_exceeded", 504, 4, Ack, true),
        (Unavailable, "unavailable", 503, 14, Nak, true),
        (Upstream, "upstream", 502, 14, Ack, true),
        (Truncated, "truncated", 502, 15, Ack, true),
        (Lost, "lost", 502, 10, Nak, true),
        (Internal, "internal", 500, 13, Ack, false),
    ]
};

impl ErrorKind {
    pub const ALL: [ErrorKind; 16] = {
        let mut all = [ErrorKind::Internal; 16];
        let mut i = 0;
        while i < 16 {
            all[i] = TABLE[i].0;
            i += 1;
        }
        all
    };

    fn row(self) -> &'static Row {
        // The table stands in the order of the enum; `the_table_is_complete` checks it.
        &TABLE[self as usize]
    }

    pub fn as_str(self) -> &'static str {
        self.row().1
    }

    pub fn http_status(self) -> u16 {
        self.row().2
    }

    pub fn grpc_code(self) -> i32 {
        self.row().3
    }

    pub fn disposition(self) -> Disposition {
        self.row().4
    }

    /// Whether the same request may succeed later without a change.
    pub fn is_retryable(self) -> bool {
        self.row().5
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ErrorKind {
    type Err = String;

    fn from_str(given: &str) -> Result<ErrorKind, String> {
        ErrorKind::ALL.into_iter().find(|k| k.as_str() == given).ok_or_else(|| format!("`{given}` is no error kind"))
    }
}

/// An error as a caller sees it: a kind, a sentence a person can act on, and whether and when to try again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    pub kind: ErrorKind,
    pub message: String,
    /// When a retry makes sense; only set where somebody said so.
    pub retry_after: Option<Duration>,
    /// The provider's HTTP status, where the provider said no.
    pub provider_status: Option<u16>,
    /// The provider's own error body, bounded, where there is one.
    pub provider_body: Option<String>,
}

impl Fault {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Fault {
        Fault { kind, message: message.into(), retry_after: None, provider_status: None, provider_body: None }
    }

    pub fn retry_after(mut self, after: Duration) -> Fault {
        self.retry_after = Some(after);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_complete() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, i, "{:?} stands in the wrong line", row.0);
            assert_eq!(row.1.parse::<ErrorKind>().unwrap(), row.0);
        }
    }

    #[test]
    fn what_is_handled_again_is_worth_a_retry() {
        for kind in ErrorKind::ALL {
            if kind.disposition() == Disposition::Nak {
                assert!(kind.is_retryable(), "{kind}");
            }
        }
    }
}
