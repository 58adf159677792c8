//! What can go wrong in the worker as a service.

use farebox_bus::{PublishError, SubscribeError};
use farebox_types::ErrorKind;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the worker cannot listen for work")]
    Subscribe(#[from] SubscribeError),
    #[error("the NATS server did not confirm the worker's subscriptions")]
    Flush(#[from] PublishError),
    #[error("the connection to NATS was closed")]
    Disconnected,
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Unavailable
    }
}
