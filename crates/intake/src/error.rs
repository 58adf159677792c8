//! What can go wrong in intake as a service.

use farebox_bus::{PublishError, StreamError, SubscribeError};
use farebox_types::ErrorKind;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("intake cannot listen for requests")]
    Subscribe(#[from] SubscribeError),
    #[error("the NATS server did not confirm intake's subscriptions")]
    Flush(#[from] PublishError),
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
