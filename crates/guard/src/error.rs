//! What can go wrong in the guard as a service.

use farebox_bus::{StoreError, StreamError, SubscribeError};
use farebox_types::ErrorKind;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the guard cannot listen for reservations")]
    Subscribe(#[from] SubscribeError),
    #[error("the ledger stream cannot be read")]
    Replay(#[from] StreamError),
    #[error("the ledger stream cannot be written")]
    Store(#[from] StoreError),
    #[error("message {sequence} of the ledger stream is damaged: {reason}")]
    Damaged { sequence: u64, reason: String },
    #[error("another guard has written to the ledger: this one steps down")]
    SteppedDown,
    #[error("the lead was lost to another guard, or NATS could not be reached to keep it")]
    LeadLost,
    #[error("the connection to NATS was closed")]
    Disconnected,
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Damaged { .. } => ErrorKind::Internal,
            _ => ErrorKind::Unavailable,
        }
    }
}
