//! What can go wrong on the bus, and which kind of failure a caller sees then.

use std::time::Duration;

use farebox_types::{ErrorKind, Fault};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    #[error("no NATS server answers at {url}: start one or set nats.url ({reason})")]
    NoServer { url: String, reason: String },
    #[error("the NATS server at {url} refuses these credentials ({reason}): check nats.credentials")]
    Refused { url: String, reason: String },
    #[error("the NATS server at {url} did not answer within {after:?}: check the address and the network")]
    Timeout { url: String, after: Duration },
    #[error("`{url}` is not the address of a NATS server ({reason}): write nats.url like nats://host:4222")]
    BadUrl { url: String, reason: String },
    #[error("the credentials for NATS cannot be read from {reference}: {reason}")]
    Credentials { reference: String, reason: String },
    #[error("TLS with the NATS server at {url} failed: {reason}")]
    Tls { url: String, reason: String },
}

impl ConnectError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            ConnectError::Refused { .. } | ConnectError::Credentials { .. } => ErrorKind::Unauthenticated,
            ConnectError::BadUrl { .. } => ErrorKind::BadRequest,
            _ => ErrorKind::Unavailable,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error(
        "a message of {size} bytes for `{subject}` is above the server's max_payload of {max}: use the object store"
    )]
    TooLarge { subject: String, size: usize, max: usize },
    #[error("`{subject}` is not a subject that can be published to")]
    BadSubject { subject: String },
    #[error("the connection to NATS is down or too slow: nothing could be sent to `{subject}`")]
    Disconnected { subject: String },
}

impl PublishError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            PublishError::TooLarge { .. } => ErrorKind::TooLarge,
            PublishError::BadSubject { .. } => ErrorKind::Internal,
            PublishError::Disconnected { .. } => ErrorKind::Unavailable,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("nobody listens on `{subject}`: is the role that serves it running?")]
    NoResponders { subject: String },
    #[error("no answer on `{subject}` within {after:?}")]
    Timeout { subject: String, after: Duration },
    #[error("the NATS server forbids `{subject}`: check the permissions of these credentials")]
    Forbidden { subject: String },
    #[error("the message on `{subject}` cannot be decoded ({reason}): do both sides run the same version?")]
    Decode { subject: String, reason: String },
    #[error("the connection to NATS closed while waiting for `{subject}`")]
    Disconnected { subject: String },
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl CallError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            CallError::NoResponders { .. } | CallError::Disconnected { .. } => ErrorKind::Unavailable,
            CallError::Timeout { .. } => ErrorKind::DeadlineExceeded,
            CallError::Forbidden { .. } => ErrorKind::Forbidden,
            CallError::Decode { .. } => ErrorKind::Internal,
            CallError::Publish(source) => source.kind(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    #[error("`{subject}` is not a subject that can be subscribed to")]
    BadSubject { subject: String },
    #[error("the connection to NATS is closed: cannot subscribe to `{subject}`")]
    Disconnected { subject: String },
}

impl SubscribeError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            SubscribeError::BadSubject { .. } => ErrorKind::Internal,
            SubscribeError::Disconnected { .. } => ErrorKind::Unavailable,
        }
    }
}

/// An administrative request to JetStream, or a read from a stream, failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    #[error("stream `{stream}` does not exist")]
    NotFound { stream: String },
    #[error(
        "stream `{stream}` exists with settings that cannot be changed to the wanted ones ({reason}): \
         move its messages away and delete it, or name another one"
    )]
    Incompatible { stream: String, reason: String },
    #[error("the NATS server has no room for stream `{stream}` ({reason}): lower its max_bytes or give JetStream more")]
    NoRoom { stream: String, reason: String },
    #[error("JetStream is not enabled on this NATS server or for this account: enable it")]
    NoJetStream,
    #[error("JetStream refuses a request for stream `{stream}`: {reason} (code {code})")]
    Refused { stream: String, code: u64, reason: String },
    #[error("JetStream did not answer for stream `{stream}`")]
    Call { stream: String, source: CallError },
}

impl StreamError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            StreamError::NotFound { .. } => ErrorKind::NotFound,
            StreamError::Incompatible { .. } => ErrorKind::Conflict,
            StreamError::NoRoom { .. } | StreamError::NoJetStream => ErrorKind::Unavailable,
            StreamError::Refused { .. } => ErrorKind::Internal,
            StreamError::Call { source, .. } => source.kind(),
        }
    }
}

/// A durable write failed. Only [`StoreError::is_unclear`] ones may have been stored all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("somebody else wrote to `{subject}` first: expected another last sequence ({reason})")]
    WrongLastSequence { subject: String, reason: String },
    #[error("the stream behind `{subject}` is full ({reason}): raise its max_bytes or wait until it is read")]
    Full { subject: String, reason: String },
    #[error("no stream takes `{subject}`, or it has no leader at the moment")]
    NoStream { subject: String },
    #[error("no acknowledgement for `{subject}` within {after:?}: it may or may not be stored")]
    Timeout { subject: String, after: Duration },
    #[error("the stream behind `{subject}` refuses the message: {reason} (code {code})")]
    Refused { subject: String, code: u64, reason: String },
    #[error("the answer of the stream behind `{subject}` cannot be understood: {reason}")]
    BadAnswer { subject: String, reason: String },
    #[error("the connection to NATS closed while waiting for `{subject}`: it may or may not be stored")]
    Disconnected { subject: String },
    #[error("the NATS server forbids `{subject}`: check the permissions of these credentials")]
    Forbidden { subject: String },
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl StoreError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            StoreError::WrongLastSequence { .. } => ErrorKind::Conflict,
            StoreError::Full { .. } | StoreError::NoStream { .. } | StoreError::Disconnected { .. } => {
                ErrorKind::Unavailable
            }
            StoreError::Timeout { .. } => ErrorKind::DeadlineExceeded,
            StoreError::Refused { .. } | StoreError::BadAnswer { .. } => ErrorKind::Internal,
            StoreError::Forbidden { .. } => ErrorKind::Forbidden,
            StoreError::Publish(source) => source.kind(),
        }
    }

    /// Whether the message may have been stored although this error came back: repeat it with the same id.
    pub fn is_unclear(&self) -> bool {
        matches!(self, StoreError::Timeout { .. } | StoreError::Disconnected { .. } | StoreError::BadAnswer { .. })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsumeError {
    #[error("the acknowledgement of message {sequence} was not confirmed")]
    Ack { sequence: u64, source: CallError },
    #[error("the acknowledgement of message {sequence} could not be sent")]
    Send { sequence: u64, source: PublishError },
    #[error(transparent)]
    Stream(#[from] StreamError),
}

impl ConsumeError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            ConsumeError::Ack { source, .. } => source.kind(),
            ConsumeError::Send { source, .. } => source.kind(),
            ConsumeError::Stream(source) => source.kind(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    #[error("a body of {size} bytes is above the limit of {max} (nats.connection.object_max)")]
    TooLarge { size: usize, max: usize },
    #[error("a large body was not moved in time ({after:?}): many are on their way (nats.connection.object_transfers)")]
    Late { after: Duration },
    #[error("the stored body `{name}` is gone: bodies are kept for a limited time")]
    Gone { name: String },
    #[error("the stored body `{name}` is not what was put there: size or digest differ")]
    Corrupt { name: String },
    #[error("a body could not be stored")]
    Store(#[from] StoreError),
    #[error("a stored body could not be read")]
    Read(#[from] StreamError),
}

impl ObjectError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            ObjectError::TooLarge { .. } => ErrorKind::TooLarge,
            ObjectError::Late { .. } => ErrorKind::DeadlineExceeded,
            ObjectError::Gone { .. } => ErrorKind::NotFound,
            ObjectError::Corrupt { .. } => ErrorKind::Internal,
            ObjectError::Store(source) => source.kind(),
            ObjectError::Read(source) => source.kind(),
        }
    }

    /// What the caller hears whose request has this body: where it is not its own doing, the request may work later.
    pub fn fault(&self, what: &str) -> Fault {
        let kind = match self {
            ObjectError::TooLarge { .. } | ObjectError::Late { .. } => self.kind(),
            _ => ErrorKind::Unavailable,
        };
        Fault::new(kind, format!("{what}: {self}"))
    }
}
