//! What can go wrong with keys, accounts and the callout.

use std::path::PathBuf;

use farebox_bus::{CallError, ConnectError, PublishError, SubscribeError};
use farebox_types::ErrorKind;

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("the keys of the NATS accounts in {path} cannot be used: {reason}")]
    Keys { path: PathBuf, reason: String },
    #[error("{path} can be read by others: run `chmod 600 {path}`, and make new keys if it was exposed", path = path.display())]
    Exposed { path: PathBuf },
    #[error("it is no root of farebox's accounts: a root.key holds 52 letters and digits")]
    BadRoot,
    #[error("a token cannot be signed: {reason}")]
    Sign { reason: String },
    #[error("the server's question who is connecting is not valid: {reason}")]
    BadQuestion { reason: String },
    #[error("the NATS server did not take the account of project `{project}`: {reason}")]
    Push { project: String, reason: String },
    #[error("the NATS server did not answer when the account of project `{project}` was pushed")]
    PushCall { project: String, source: CallError },
    #[error("the NATS servers cannot be asked for their connections")]
    Connections(#[source] PublishError),
    #[error("identity cannot connect to NATS")]
    Connect(#[from] ConnectError),
    #[error("identity cannot subscribe")]
    Subscribe(#[from] SubscribeError),
}

impl IdentityError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            IdentityError::Keys { .. }
            | IdentityError::Exposed { .. }
            | IdentityError::BadRoot
            | IdentityError::Sign { .. } => ErrorKind::Internal,
            IdentityError::BadQuestion { .. } => ErrorKind::BadRequest,
            IdentityError::Push { .. } => ErrorKind::Unavailable,
            IdentityError::PushCall { source, .. } => source.kind(),
            IdentityError::Connections(source) => source.kind(),
            IdentityError::Connect(source) => source.kind(),
            IdentityError::Subscribe(source) => source.kind(),
        }
    }
}
