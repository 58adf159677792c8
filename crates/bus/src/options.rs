//! Options of a connection: every bound has a name here.

use std::{fmt, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A span of time in the configuration, in milliseconds or written as `250ms`, `10s`, `5m`, `24h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Span(pub Duration);

impl Span {
    pub const fn millis(millis: u64) -> Span {
        Span(Duration::from_millis(millis))
    }

    pub const fn secs(secs: u64) -> Span {
        Span(Duration::from_secs(secs))
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(given: String) -> Result<Span, String> {
        let bad = || format!("`{given}` is not a span of time: write it like `250ms`, `10s`, `5m` or `24h`");
        let text = given.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let per_unit: u64 = match unit.trim() {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(bad()),
        };
        Ok(Span::millis(number.checked_mul(per_unit).ok_or_else(bad)?))
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        let millis = span.0.as_millis();
        if millis % 1000 == 0 { format!("{}s", millis / 1000) } else { format!("{millis}ms") }
    }
}

/// Where the credentials for NATS come from: never the secret itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Credentials {
    /// Connect without any.
    #[default]
    None,
    /// `file:/path`: a `.creds` file, or a file that holds a token or `user:password`.
    File(PathBuf),
    /// `os.environ/NAME`: an environment variable that holds the same.
    Environment(String),
}

impl TryFrom<String> for Credentials {
    type Error = String;

    fn try_from(given: String) -> Result<Credentials, String> {
        if given.is_empty() || given == "none" {
            return Ok(Credentials::None);
        }
        if let Some(path) = given.strip_prefix("file:") {
            return Ok(Credentials::File(path.into()));
        }
        if let Some(name) = given.strip_prefix("os.environ/") {
            return Ok(Credentials::Environment(name.to_owned()));
        }
        // The value may be the secret itself: it is not shown.
        Err("credentials are given by reference: write `file:/path` or `os.environ/NAME`".to_owned())
    }
}

impl From<Credentials> for String {
    fn from(credentials: Credentials) -> String {
        match credentials {
            Credentials::None => "none".to_owned(),
            Credentials::File(path) => format!("file:{}", path.display()),
            Credentials::Environment(name) => format!("os.environ/{name}"),
        }
    }
}

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
    /// Address of the server, or several with commas between them.
    pub url: String,
    /// `none`, `file:/path` or `os.environ/NAME`.
    pub credentials: Credentials,
    /// Name under which the server shows this connection.
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
    /// How long an administrative request to JetStream may take.
    pub api_timeout: Span,
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
    /// Size of the parts in which a large body is stored, in bytes.
    pub object_chunk: usize,
    /// Largest body that the object store takes, in bytes.
    pub object_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            url: "nats://127.0.0.1:4222".to_owned(),
            credentials: Credentials::None,
            name: "farebox".to_owned(),
            connect_timeout: Span::secs(5),
            start_timeout: Span::secs(10),
            reconnect_pause_max: Span::millis(1_000),
            ping_interval: Span::secs(10),
            publish_timeout: Span::secs(5),
            flush_timeout: Span::secs(5),
            api_timeout: Span::secs(5),
            command_capacity: 4_096,
            subscription_capacity: 65_536,
            inbox_capacity: 4_096,
            store_inflight: 256,
            replay_batch: 1_000,
            pull_heartbeat: Span::secs(1),
            consumer_pause_max: Span::secs(2),
            object_chunk: 512 * 1024,
            object_max: 64 * 1024 * 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written() {
        assert_eq!(Span::try_from("250ms".to_owned()), Ok(Span::millis(250)));
        assert_eq!(Span::try_from("24h".to_owned()), Ok(Span::secs(86_400)));
        assert_eq!(String::from(Span::millis(1_500)), "1500ms");
        for bad in ["", "10", "s", "1.5s", "99999999999999999999s", "18446744073709551615d"] {
            assert!(Span::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_in_place_of_a_reference_is_not_repeated() {
        let error = Credentials::try_from("hunter2".to_owned()).unwrap_err();
        assert!(!error.contains("hunter2"));
    }

    #[test]
    fn a_login_shows_nothing() {
        let login = Login::from_secret("user:hunter2");
        assert!(matches!(&login, Login::UserPassword(u, p) if u == "user" && p == "hunter2"));
        assert!(!format!("{login:?}").contains("hunter2"));
    }
}
