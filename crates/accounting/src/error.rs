//! What can go wrong in accounting as a service.

use farebox_bus::{StreamError, SubscribeError};
use farebox_types::ErrorKind;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("accounting cannot listen for questions about usage")]
    Subscribe(#[from] SubscribeError),
    #[error("accounting cannot read the ledger stream")]
    Stream(#[from] StreamError),
    #[error("accounting cannot write to ClickHouse")]
    ClickHouse(#[from] farebox_clickhouse::Error),
    #[error(
        "message {sequence} of the ledger stream is damaged: {reason}. Its rows are missing and no later ones are written; \
         restore the stream, or delete that message if it cannot be helped"
    )]
    Damaged { sequence: u64, reason: String },
    #[error("the ledger stream was made anew while it was read")]
    NewStream,
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Subscribe(source) => source.kind(),
            Error::Stream(source) => source.kind(),
            Error::ClickHouse(source) => source.kind(),
            Error::Damaged { .. } => ErrorKind::Internal,
            Error::NewStream => ErrorKind::Unavailable,
        }
    }

    /// Whether trying again cannot help: somebody has to do something first.
    pub(crate) fn is_fatal(&self) -> bool {
        matches!(self, Error::Damaged { .. } | Error::ClickHouse(farebox_clickhouse::Error::NewerSchema { .. }))
    }
}
