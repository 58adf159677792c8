//! What can go wrong in intake as a service.

use farebox_bus::{StreamError, SubscribeError};
use farebox_types::ErrorKind;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("intake cannot listen for requests")]
    Subscribe(#[from] SubscribeError),
    #[error("the stream of jobs cannot be consumed")]
    Jobs(#[from] StreamError),
    #[error("the connection to NATS was closed")]
    Disconnected,
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Unavailable
    }
}
