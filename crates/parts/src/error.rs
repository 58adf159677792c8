use std::{io, path::PathBuf};

use farebox_types::ErrorKind;

/// Why a part is not there or does not run. Each says what to do where something can be done.
#[derive(Debug, thiserror::Error)]
pub enum PartsError {
    #[error("cannot fetch {part}: `{tool}` is not on the PATH; {remedy}")]
    NoTool { part: &'static str, tool: &'static str, remedy: &'static str },
    #[error("no build of {part} is known for {platform}; {remedy}")]
    Platform { part: &'static str, platform: String, remedy: &'static str },
    #[error("cannot fetch {part}: `{command}` failed ({status}); run it by hand to see why, or {remedy}\n{log}")]
    FetchFailed { part: &'static str, command: String, status: String, remedy: &'static str, log: String },
    #[error("cannot fetch {part}: `{command}` took longer than {seconds} s; run it by hand, or {remedy}")]
    FetchTimeout { part: &'static str, command: String, seconds: u64, remedy: &'static str },
    #[error(
        "refused the download of {part}: its SHA-256 is {found}, expected {expected}; \
         clear the client's cache (`pip cache purge`, `npm cache clean --force`) and try again, or {remedy}"
    )]
    Checksum { part: &'static str, found: String, expected: &'static str, remedy: &'static str },
    #[error("the package of {part} is not what it should be: {detail}")]
    Package { part: &'static str, detail: String },
    #[error("another process has been fetching {part} for {seconds} s; if none is running, remove {}", lock.display())]
    LockTimeout { part: &'static str, seconds: u64, lock: PathBuf },
    #[error("cannot {action} {}: {source}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot start {server}: {}: {source}", program.display())]
    Spawn { server: &'static str, program: PathBuf, source: io::Error },
    #[error("cannot start {server}: its port is taken ({detail}); set another one, or port 0 for any free one")]
    PortTaken { server: &'static str, detail: String },
    #[error("{server} ended while it was starting ({status}); the end of its log:\n{log}")]
    Died { server: &'static str, status: String, log: String },
    #[error("{server} did not answer within {seconds} s; the end of its log:\n{log}")]
    NotReady { server: &'static str, seconds: u64, log: String },
    #[error("a task of the runtime was cancelled")]
    Cancelled,
}

impl PartsError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            PartsError::NoTool { .. }
            | PartsError::FetchFailed { .. }
            | PartsError::FetchTimeout { .. }
            | PartsError::LockTimeout { .. }
            | PartsError::PortTaken { .. }
            | PartsError::Died { .. }
            | PartsError::Spawn { .. }
            | PartsError::NotReady { .. } => ErrorKind::Unavailable,
            PartsError::Platform { .. } => ErrorKind::Unsupported,
            PartsError::Cancelled => ErrorKind::Cancelled,
            PartsError::Checksum { .. } | PartsError::Package { .. } | PartsError::File { .. } => ErrorKind::Internal,
        }
    }

    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> PartsError {
        let path = path.into();
        move |source| PartsError::File { action, path, source }
    }
}
