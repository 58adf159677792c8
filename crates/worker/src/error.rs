//! What can go wrong in the worker as a service.

use farebox_bus::{PublishError, SubscribeError};
use farebox_types::ErrorKind;

use crate::upstream::ClientError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the worker cannot listen for work")]
    Subscribe(#[from] SubscribeError),
    #[error("the NATS server did not confirm the worker's subscriptions")]
    Flush(#[from] PublishError),
    #[error("the connection to a provider cannot be set up")]
    Client(#[from] ClientError),
    #[error("the connection to NATS was closed")]
    Disconnected,
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Client(_) => ErrorKind::Internal,
            _ => ErrorKind::Unavailable,
        }
    }
}
