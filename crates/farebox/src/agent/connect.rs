//! Which farebox to talk to.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use clap::Args;
use farebox_bus::{ConnectError, Login, Options};
use farebox_client::{Client, Error};
use farebox_policy::{KeyText, NoKey};
use farebox_types::Span;

use super::failure::Failure;
use crate::{addresses::Addresses, process::data_dir};

/// How long to try: a person waits, and a server that runs answers at once.
const PATIENCE: Span = Span::from_secs(3);

/// Where farebox is: the one that runs here, or the server that is named.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ConnectArgs {
    /// NATS server to talk to; without it, the farebox that runs here
    #[arg(long, value_name = "URL", env = "FAREBOX_NATS", help_heading = "Connection")]
    nats: Option<String>,
    /// File with credentials for NATS: a .creds file, a token or user:password
    #[arg(long, value_name = "FILE", env = "FAREBOX_CREDS", help_heading = "Connection")]
    creds: Option<PathBuf>,
    /// A farebox key, `fb-…`; better in the environment, where other users do not see it
    #[arg(
        long,
        value_name = "KEY",
        env = "FAREBOX_KEY",
        hide_env_values = true,
        conflicts_with = "creds",
        help_heading = "Connection"
    )]
    key: Option<GivenKey>,
    /// Data directory of the farebox that runs here [default: $XDG_DATA_HOME/farebox]
    #[arg(long, value_name = "DIR", env = "FAREBOX_DATA", help_heading = "Connection")]
    data: Option<PathBuf>,
}

/// What was given as a key. Even where it is none, it is not shown.
#[derive(Clone)]
pub(crate) struct GivenKey(pub(crate) String);

impl From<String> for GivenKey {
    fn from(given: String) -> GivenKey {
        GivenKey(given)
    }
}

impl fmt::Debug for GivenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GivenKey(…)")
    }
}

/// A connection, and where it goes.
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) url: String,
}

impl ConnectArgs {
    pub(crate) async fn connect(&self) -> Result<Link, Failure> {
        let login = self.login()?;
        let (url, found_in) = match &self.nats {
            Some(url) => (url.clone(), None),
            None => {
                let data = data_dir(self.data.as_deref()).map_err(|error| Failure::Usage(error.to_string()))?;
                let here = Addresses::read(&data)
                    .map_err(|error| Failure::Connect(format!("{error}, or name a server with --nats")))?;
                (here.nats, Some(Addresses::file(&data)))
            }
        };
        let options = Options {
            url: url.clone(),
            name: "farebox-cli".to_owned(),
            connect_timeout: PATIENCE,
            start_timeout: PATIENCE,
            ..Options::default()
        };
        let client = Client::connect(&options, login).await.map_err(|error| explain(error, found_in.as_deref()))?;
        Ok(Link { client, url })
    }

    fn login(&self) -> Result<Login, Failure> {
        if let Some(GivenKey(given)) = &self.key {
            let key: KeyText = given.trim().parse().map_err(|error: NoKey| Failure::Usage(error.to_string()))?;
            return Ok(Login::Token(key.reveal()));
        }
        let Some(file) = &self.creds else { return Ok(Login::None) };
        let secret = fs::read_to_string(file).map_err(|error| {
            Failure::Usage(format!("the credentials in {} cannot be read: {error}", file.display()))
        })?;
        Ok(Login::from_secret(&secret))
    }
}

/// In the words of the command line: it has no config.
fn explain(error: Error, found_in: Option<&Path>) -> Failure {
    let error = match error {
        Error::Connect(error) => error,
        other => return other.into(),
    };
    let message = match (&error, found_in) {
        (ConnectError::NoServer { url, .. } | ConnectError::Timeout { url, .. }, Some(file)) => format!(
            "the farebox that {} names does not answer at {url}: it has ended; start `farebox up`, or name a server with --nats",
            file.display()
        ),
        (ConnectError::NoServer { url, reason }, None) => {
            format!("no NATS server answers at {url} ({reason}): start `farebox up`, or check --nats")
        }
        (ConnectError::Refused { url, reason }, _) => {
            format!("the NATS server at {url} refuses these credentials ({reason}): check --key or --creds")
        }
        (ConnectError::BadUrl { url, reason }, _) => {
            format!("`{url}` is not the address of a NATS server ({reason}): write --nats like nats://host:4222")
        }
        _ => error.to_string(),
    };
    Failure::Connect(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(data: &Path) -> ConnectArgs {
        ConnectArgs { data: Some(data.to_owned()), ..ConnectArgs::default() }
    }

    async fn refused(args: &ConnectArgs) -> String {
        match args.connect().await {
            Err(Failure::Connect(message)) => message,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("connected"),
        }
    }

    #[tokio::test]
    async fn says_that_nothing_runs_here() {
        let dir = tempfile::tempdir().unwrap();
        let message = refused(&args(dir.path())).await;
        let file = dir.path().join("farebox.json");
        let expected = format!(
            "no farebox is running here ({} is not there): start `farebox up`, or name a server with --nats",
            file.display()
        );
        assert_eq!(message, expected);
    }

    #[tokio::test]
    async fn says_that_it_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let found =
            format!("{{\"nats\":\"nats://127.0.0.1:{port}\",\"clickhouse\":\"http://127.0.0.1:1\",\"pids\":{{}}}}\n");
        fs::write(dir.path().join("farebox.json"), found).unwrap();
        let message = refused(&args(dir.path())).await;
        assert!(message.contains(&format!("does not answer at nats://127.0.0.1:{port}: it has ended")), "{message}");
    }

    #[tokio::test]
    async fn a_file_that_says_nothing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("farebox.json"), "{").unwrap();
        let message = refused(&args(dir.path())).await;
        assert!(message.contains("farebox.json does not say where farebox listens"), "{message}");
    }

    #[tokio::test]
    async fn what_is_no_key_is_refused_and_not_repeated() {
        let args = ConnectArgs { key: Some("sk-canary-1".to_owned().into()), ..ConnectArgs::default() };
        let failure = args.connect().await.err().unwrap();
        assert!(matches!(&failure, Failure::Usage(text) if text.contains("fb-")), "{failure:?}");
        assert!(!format!("{args:?} {failure:?}").contains("canary"));
    }

    #[tokio::test]
    async fn missing_credentials_are_a_wrong_use() {
        let args = ConnectArgs { creds: Some("/nowhere/a.creds".into()), ..ConnectArgs::default() };
        let failure = args.connect().await.err().unwrap();
        assert!(matches!(&failure, Failure::Usage(text) if text.contains("/nowhere/a.creds")), "{failure:?}");
    }
}
