//! Why a policy was not read or written.

use farebox_bus::{StoreError, StreamError};
use farebox_policy::{NAME_MAX, PolicyFaults};
use farebox_types::ErrorKind;

use crate::entity::Kind;

#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("`{name}` is no name for a {kind}: use 1 to {max} letters, digits, `-` or `_`", max = NAME_MAX)]
    Name { kind: Kind, name: String },
    #[error("the {kind} `{name}` stands in the config file: change it there")]
    Fixed { kind: Kind, name: String },
    #[error(
        "the {kind} `{name}` was changed by somebody else: read it again (its revision is {found}, not {expected})"
    )]
    Conflict { kind: Kind, name: String, expected: u64, found: u64 },
    #[error("the {kind} `{name}` is not there")]
    NotFound { kind: Kind, name: String },
    /// With each fault that would be new.
    #[error("the rules would not hold together: {0}")]
    Invalid(PolicyFaults),
    #[error("the {kind} `{name}` cannot be read: {reason}")]
    Damaged { kind: Kind, name: String, reason: String },
    #[error("others change policies at the same time: try again")]
    Busy,
    #[error("policies cannot be read")]
    Read(#[from] StreamError),
    #[error("the change could not be stored")]
    Write(#[from] StoreError),
}

impl DirectoryError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            DirectoryError::Name { .. } | DirectoryError::Invalid(_) => ErrorKind::BadRequest,
            DirectoryError::Fixed { .. } | DirectoryError::Conflict { .. } => ErrorKind::Conflict,
            DirectoryError::NotFound { .. } => ErrorKind::NotFound,
            DirectoryError::Damaged { .. } => ErrorKind::Internal,
            DirectoryError::Busy => ErrorKind::Unavailable,
            DirectoryError::Read(source) => source.kind(),
            DirectoryError::Write(source) => source.kind(),
        }
    }
}
