//! What can go wrong with ClickHouse, and whether it may have happened all the same.

use farebox_config::SecretFault;
use farebox_types::ErrorKind;

/// What is known about a statement that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// It did not happen; the same statement may work later.
    Retryable,
    /// It may have happened, or may still happen.
    Unclear,
    /// It did not happen and will not without a change of something else.
    Final,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("ClickHouse does not answer at {url}: start it, or set `clickhouse.url` to where it is")]
    NoAnswer {
        url: String,
        #[source]
        source: clickhouse::error::Error,
    },
    #[error("clickhouse.url `{url}` cannot be used: {reason}")]
    BadUrl { url: String, reason: &'static str },
    #[error("clickhouse.database `{0}` is not valid: use letters, digits and `_`, a letter first, at most 64")]
    BadDatabase(String),
    #[error("the password for ClickHouse is not there")]
    Password(#[from] SecretFault),
    #[error("ClickHouse at {url} lost the connection or did not answer in time")]
    Broken {
        url: String,
        #[source]
        source: clickhouse::error::Error,
    },
    #[error("ClickHouse at {url} did not answer within {seconds} s")]
    Timeout { url: String, seconds: u64 },
    #[error("ClickHouse at {url} refuses user `{user}`: check `clickhouse.user` and `clickhouse.password` ({message})")]
    Unauthenticated { url: String, user: String, message: String },
    #[error("ClickHouse refuses a statement: {message}")]
    Refused { code: u32, message: String },
    #[error("ClickHouse cannot take a statement at the moment: {message}")]
    Busy { code: u32, message: String },
    #[error("the answer of ClickHouse cannot be understood")]
    BadAnswer(#[source] clickhouse::error::Error),
    #[error("another accountant has begun to write: this one may not any more")]
    Fenced,
    #[error("an insert of an earlier term is still running in ClickHouse after {seconds} s")]
    StillRunning { seconds: u64 },
    #[error(
        "the database `{database}` has schema {found}, this farebox knows {known}: it was used by a newer version; \
         start that one"
    )]
    NewerSchema { database: String, found: u32, known: u32 },
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NoAnswer { .. }
            | Error::Broken { .. }
            | Error::Timeout { .. }
            | Error::Busy { .. }
            | Error::StillRunning { .. }
            | Error::Password(_) => ErrorKind::Unavailable,
            Error::BadUrl { .. } | Error::BadDatabase(_) => ErrorKind::BadRequest,
            Error::Unauthenticated { .. } => ErrorKind::Unauthenticated,
            Error::Fenced | Error::NewerSchema { .. } => ErrorKind::Conflict,
            Error::Refused { .. } | Error::BadAnswer(_) => ErrorKind::Internal,
        }
    }

    pub fn certainty(&self) -> Certainty {
        match self {
            Error::NoAnswer { .. } | Error::StillRunning { .. } => Certainty::Retryable,
            // A server that is short of something may have stored a part before it noticed.
            Error::Broken { .. } | Error::Timeout { .. } | Error::Busy { .. } | Error::BadAnswer(_) => {
                Certainty::Unclear
            }
            Error::BadUrl { .. }
            | Error::BadDatabase(_)
            | Error::Password(_)
            | Error::Unauthenticated { .. }
            | Error::Refused { .. }
            | Error::Fenced
            | Error::NewerSchema { .. } => Certainty::Final,
        }
    }
}

/// ClickHouse's own error codes (`src/Common/ErrorCodes.cpp`).
mod code {
    pub(super) const THROW_IF: u32 = 395;
    pub(super) const UNAUTHENTICATED: [u32; 4] = [192, 193, 194, 516];
    /// Time, memory, disk, connections, parts, read-only, cancelled, unknown status, shutting down.
    pub(super) const BUSY: [u32; 14] = [159, 160, 164, 202, 209, 210, 236, 241, 242, 243, 252, 319, 394, 745];
}

/// What the error texts need to name.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) user: String,
}

impl Place {
    pub(crate) fn error(&self, source: clickhouse::error::Error) -> Error {
        use clickhouse::error::Error as Source;
        let url = self.url.clone();
        match source {
            Source::Network(_) if is_connect(&source) => Error::NoAnswer { url, source },
            Source::Network(_) | Source::TimedOut | Source::Custom(_) => Error::Broken { url, source },
            Source::BadResponse(message) => self.refusal(message),
            Source::Unsupported(_) => Error::BadUrl { url, reason: "write it as http://host:port" },
            Source::InvalidParams(_) => Error::BadUrl { url, reason: "it is not a URL" },
            source => Error::BadAnswer(source),
        }
    }

    fn refusal(&self, message: String) -> Error {
        let code = code_of(&message);
        let message = first_line(&message);
        match code {
            Some(code::THROW_IF) => Error::Fenced,
            Some(code) if code::UNAUTHENTICATED.contains(&code) => {
                Error::Unauthenticated { url: self.url.clone(), user: self.user.clone(), message }
            }
            Some(code) if code::BUSY.contains(&code) => Error::Busy { code, message },
            Some(code) => Error::Refused { code, message },
            // Not ClickHouse itself: a proxy in front of it, or a server that is going down.
            None => Error::Busy { code: 0, message },
        }
    }
}

fn is_connect(error: &clickhouse::error::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        if let Some(http) = source.downcast_ref::<hyper_util::client::legacy::Error>() {
            return http.is_connect();
        }
        cause = source.source();
    }
    false
}

fn code_of(message: &str) -> Option<u32> {
    let (_, rest) = message.split_once("Code: ")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// One line of bounded length: the server repeats whole statements.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().chars().take(400).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(message: &str) -> Error {
        let place = Place { url: "http://h".to_owned(), user: "u".to_owned() };
        place.error(clickhouse::error::Error::BadResponse(message.to_owned()))
    }

    #[test]
    fn what_the_server_says_decides_what_is_known() {
        for (said, certainty) in [
            ("Code: 395. DB::Exception: farebox: fenced", Certainty::Final),
            ("Code: 60. DB::Exception: Table farebox.calls does not exist", Certainty::Final),
            ("Code: 516. DB::Exception: default: Authentication failed", Certainty::Final),
            ("Code: 252. DB::Exception: Too many parts", Certainty::Unclear),
            ("Code: 319. DB::Exception: Unknown status", Certainty::Unclear),
            ("502 Bad Gateway", Certainty::Unclear),
        ] {
            assert_eq!(refused(said).certainty(), certainty, "{said}");
        }
        assert!(matches!(refused("Code: 395. x"), Error::Fenced));
        assert!(matches!(refused("Code: 516. x"), Error::Unauthenticated { .. }));
    }

    #[test]
    fn a_long_answer_is_cut() {
        let Error::Refused { message, .. } = refused(&format!("Code: 62. {}\nnext", "x".repeat(10_000))) else {
            panic!("not refused");
        };
        assert_eq!(message.len(), 400);
    }
}
