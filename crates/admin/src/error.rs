//! Why the role cannot start or go on.

use farebox_bus::SubscribeError;
use farebox_runtime::listener::ListenError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the admin API")]
    Listen(#[from] ListenError),
    #[error("the master key (admin.master_key) {reason}")]
    MasterKey { reason: String },
    #[error("the description of the admin API is damaged: this build is broken")]
    Reflection(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    #[error("the admin API ended")]
    Serve(#[from] tonic::transport::Error),
}
