//! Options of a connection: every bound has a name here.

use std::fmt;

use farebox_types::{ByteSize, Secret, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Credentials themselves, resolved. `Debug` does not show them.
#[derive(Clone)]
pub enum Login {
    None,
    /// The text of a `.creds` file.
    Creds(String),
    Token(String),
    UserPassword(String, String),
}

impl Login {
    /// Tells from its form what a secret is: a `.creds` text, `user:password`, or else a token.
    pub fn from_secret(secret: &str) -> Login {
        let secret = secret.trim();
        if secret.contains("-----BEGIN NATS USER JWT-----") {
            return Login::Creds(format!("{secret}\n"));
        }
        match secret.split_once(':') {
            Some((user, password)) => Login::UserPassword(user.to_owned(), password.to_owned()),
            None => Login::Token(secret.to_owned()),
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Login::None => "Login::None",
            Login::Creds(_) => "Login::Creds(…)",
            Login::Token(_) => "Login::Token(…)",
            Login::UserPassword(..) => "Login::UserPassword(…)",
        })
    }
}

/// Options of a connection to NATS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Address of the server, or several with commas between them. Set by the process, like the next two.
    #[serde(skip)]
    pub url: String,
    /// `file:/path` or `os.environ/NAME`: a `.creds` text, a token or `user:password`. Absent: none.
    #[serde(skip)]
    pub credentials: Option<Secret>,
    /// Name under which the server shows this connection.
    #[serde(skip)]
    pub name: String,
    /// How long one attempt to connect may take.
    pub connect_timeout: Span,
    /// How long to go on trying at start when no server answers.
    pub start_timeout: Span,
    /// Longest pause between two attempts to connect again.
    pub reconnect_pause_max: Span,
    /// A half-open connection is noticed after two of these.
    pub ping_interval: Span,
    /// How long a publish may wait for room when the connection is down or too slow.
    pub publish_timeout: Span,
    /// How long a flush may take.
    pub flush_timeout: Span,
    /// How long one try of an administrative request to JetStream may take.
    pub api_timeout: Span,
    /// How long such a request is tried again while JetStream does not answer; one that must not be repeated is not.
    pub api_deadline: Span,
    /// Commands that may wait for the connection.
    pub command_capacity: usize,
    /// Messages that may wait in one subscription before it counts as slow and loses messages.
    pub subscription_capacity: usize,
    /// Messages that may wait in one private inbox before it counts as slow and is closed.
    pub inbox_capacity: usize,
    /// Durable writes of this connection that may be under way at the same time.
    pub store_inflight: usize,
    /// Messages fetched by one request when a stream is read back.
    pub replay_batch: usize,
    /// Idle heartbeat of a pull request; three missing ones mean that it is repeated.
    pub pull_heartbeat: Span,
    /// Longest pause before a broken consumer is tried again.
    pub consumer_pause_max: Span,
    /// Size of the parts in which a large body is stored.
    pub object_chunk: ByteSize,
    /// Large bodies that this connection stores or fetches at the same time, each one part after the other; more wait. What is
    /// small waits for so many parts at most.
    pub object_transfers: usize,
    /// Largest body that the object store takes.
    pub object_max: ByteSize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            url: "nats://127.0.0.1:4222".to_owned(),
            credentials: None,
            name: "farebox".to_owned(),
            connect_timeout: Span::from_secs(5),
            start_timeout: Span::from_secs(10),
            reconnect_pause_max: Span::from_millis(1_000),
            ping_interval: Span::from_secs(10),
            publish_timeout: Span::from_secs(5),
            flush_timeout: Span::from_secs(5),
            api_timeout: Span::from_secs(5),
            api_deadline: Span::from_secs(30),
            command_capacity: 4_096,
            subscription_capacity: 65_536,
            inbox_capacity: 4_096,
            store_inflight: 256,
            replay_batch: 1_000,
            pull_heartbeat: Span::from_secs(1),
            consumer_pause_max: Span::from_secs(2),
            object_chunk: ByteSize(512 * 1024),
            object_transfers: 2,
            object_max: ByteSize(64 * 1024 * 1024),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_shows_nothing() {
        let login = Login::from_secret("user:hunter2");
        assert!(matches!(&login, Login::UserPassword(u, p) if u == "user" && p == "hunter2"));
        assert!(!format!("{login:?}").contains("hunter2"));
    }
}
