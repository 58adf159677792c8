//! What can go wrong in a dialect.

use std::fmt;

use farebox_types::{ErrorKind, Fault, Usage};

use crate::{canonical::Refusal, dialect::DialectName};

/// The caller's body cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadRequest {
    pub kind: ErrorKind,
    /// The field at fault, as a path; `None` when the body as a whole is.
    pub field: Option<String>,
    pub message: String,
}

impl BadRequest {
    pub(crate) fn field(at: impl fmt::Display, problem: impl fmt::Display) -> BadRequest {
        let field = at.to_string();
        let message = format!("`{field}` {problem}");
        BadRequest { kind: ErrorKind::BadRequest, field: Some(field), message }
    }

    pub(crate) fn body(message: impl Into<String>) -> BadRequest {
        BadRequest { kind: ErrorKind::BadRequest, field: None, message: message.into() }
    }

    pub(crate) fn json(error: &serde_json::Error) -> BadRequest {
        // serde_json's own Display ends in the position; it is said once, in our order.
        let text = error.to_string();
        let cause = text.rsplit_once(" at line ").map_or(text.as_str(), |(cause, _)| cause);
        BadRequest::body(format!(
            "the body is not valid JSON: {cause} at line {}, column {}; send one JSON object",
            error.line(),
            error.column()
        ))
    }

    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<BadRequest> for Fault {
    fn from(bad: BadRequest) -> Fault {
        Fault::new(bad.kind, bad.message)
    }
}

/// The call cannot be said in the provider's dialect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("{dialect} cannot express {what}; leave it out or choose another model")]
    Unsupported { dialect: DialectName, what: String },
    #[error("{field} cannot be sent: {problem}")]
    Invalid { field: String, problem: String },
    #[error("the request for the provider could not be written: {0}")]
    Write(String),
}

impl EncodeError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            EncodeError::Unsupported { .. } => ErrorKind::Unsupported,
            EncodeError::Invalid { .. } => ErrorKind::BadRequest,
            EncodeError::Write(_) => ErrorKind::Internal,
        }
    }
}

impl From<EncodeError> for Fault {
    fn from(error: EncodeError) -> Fault {
        Fault::new(error.kind(), error.to_string())
    }
}

/// The provider's answer cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the provider's answer is not what {dialect} promises: {problem}")]
    Corrupt { dialect: DialectName, problem: String },
    #[error(transparent)]
    Oversize(#[from] Oversize),
    /// An error in the place of an answer, under a status of success.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The same, where the answer says what it used until then: that is billed.
    #[error("{refusal}")]
    BrokenOff { refusal: Box<Refusal>, usage: Box<Usage> },
}

impl DecodeError {
    /// An error in the place of an answer, with the usage that the answer reports, if any.
    pub(crate) fn refused(refusal: Refusal, usage: Option<Usage>) -> DecodeError {
        let refusal = Box::new(refusal);
        match usage.filter(Usage::is_reported) {
            Some(usage) => DecodeError::BrokenOff { refusal, usage: Box::new(usage) },
            None => DecodeError::Refused(refusal),
        }
    }
}

impl DecodeError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            DecodeError::Corrupt { .. } | DecodeError::Oversize(_) => ErrorKind::Upstream,
            DecodeError::Refused(refusal) | DecodeError::BrokenOff { refusal, .. } => refusal.kind,
        }
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Fault {
        match error {
            DecodeError::Refused(refusal) | DecodeError::BrokenOff { refusal, .. } => Fault::from(*refusal),
            other => Fault::new(other.kind(), other.to_string()),
        }
    }
}

/// The bytes of a stream cannot be cut into frames any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error(transparent)]
    Oversize(#[from] Oversize),
    /// The framing itself is broken (a checksum, a length).
    #[error("{0}")]
    Corrupt(&'static str),
}

/// One frame of a stream is larger than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("one frame of the provider's stream is larger than {limit} bytes")]
pub struct Oversize {
    pub limit: usize,
}

/// The bytes cannot be edited in place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    #[error("the body is not one JSON object: byte {at} does not fit")]
    NotAnObject { at: usize },
    #[error("`{field}` must be an object")]
    MemberNotAnObject { field: String },
}

impl RewriteError {
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::BadRequest
    }
}

impl From<RewriteError> for Fault {
    fn from(error: RewriteError) -> Fault {
        Fault::new(error.kind(), error.to_string())
    }
}
