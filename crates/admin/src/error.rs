//! Why the role cannot start or go on.

use std::{io, net::SocketAddr};

use farebox_bus::SubscribeError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the admin API cannot listen on {listen} (listen.grpc): is something else there?")]
    Listen {
        listen: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the admin API cannot speak TLS (admin.tls.{option}): {reason}")]
    Tls { option: &'static str, reason: String },
    #[error("the master key (admin.master_key) {reason}")]
    MasterKey { reason: String },
    #[error("the description of the admin API is damaged: this build is broken")]
    Reflection(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    #[error("the admin API ended")]
    Serve(#[from] tonic::transport::Error),
}
