//! Why the role cannot start.

use farebox_runtime::listener::ListenError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the HTTP edge")]
    Listen(#[from] ListenError),
}
