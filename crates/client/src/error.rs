//! What an agent can be told instead of an answer.

use farebox_bus::{CallError, ConnectError, PublishError, SubscribeError};
use farebox_types::{ErrorKind, Fault};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// farebox, or the provider behind it, said no.
    #[error("{0}")]
    Refused(Fault),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    #[error("piece {expected} of the stream was lost on the way (piece {got} came): the final answer is whole")]
    Gap { expected: u64, got: u64 },
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Refused(fault) => fault.kind,
            Error::Connect(_) => ErrorKind::Unavailable,
            Error::Call(error) => error.kind(),
            Error::Publish(error) => error.kind(),
            Error::Subscribe(_) => ErrorKind::Unavailable,
            Error::Gap { .. } => ErrorKind::Truncated,
        }
    }
}
