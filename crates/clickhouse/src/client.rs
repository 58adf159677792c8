//! The connection to ClickHouse.

use std::time::Duration;

use farebox_config::{Env, resolve};
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use secrecy::ExposeSecret;
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    error::{Error, Place},
    options::Options,
};

/// The server closes idle connections after 3 s or more.
const IDLE: Duration = Duration::from_secs(2);
/// Between two tries while waiting for a server that starts.
const START_PAUSE: Duration = Duration::from_millis(100);
/// What the server may take longer than its own limit says before the client gives up.
const GRACE: Duration = Duration::from_secs(2);

/// Speaks with one ClickHouse. Cheap to clone; connections are made when they are needed.
#[derive(Clone)]
pub struct Client {
    /// Without a database: for what comes before there is one.
    server: clickhouse::Client,
    pub(crate) inner: clickhouse::Client,
    pub(crate) options: Options,
    pub(crate) place: Place,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({}, database {})", self.options.url, self.options.database)
    }
}

impl Client {
    /// Checks the options and fetches the password. Nothing is sent yet: roles go on while ClickHouse is away.
    pub fn new(options: &Options, env: &Env) -> Result<Client, Error> {
        check(options)?;
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(options.connect_timeout.get()));
        connector.set_nodelay(true);
        let http = HttpClient::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build(connector);
        let compression = if options.compress { clickhouse::Compression::Lz4 } else { clickhouse::Compression::None };
        let mut server = clickhouse::Client::with_http_client(http)
            .with_url(&options.url)
            .with_user(&options.user)
            .with_compression(compression);
        if let Some(password) = &options.password {
            let password = resolve(password, "clickhouse.password", env)?;
            server = server.with_password(password.expose_secret());
        }
        Ok(Client {
            inner: server.clone().with_database(&options.database),
            server,
            options: options.clone(),
            place: Place { url: options.url.clone(), user: options.user.clone() },
        })
    }

    /// As [`Client::new`], and waits until ClickHouse answers, `start_timeout` at most.
    pub async fn connect(options: &Options, env: &Env) -> Result<Client, Error> {
        let client = Client::new(options, env)?;
        let until = Instant::now() + options.start_timeout.get();
        loop {
            match client.ping().await {
                Ok(()) => return Ok(client),
                Err(error @ (Error::NoAnswer { .. } | Error::Broken { .. } | Error::Timeout { .. }))
                    if Instant::now() >= until =>
                {
                    return Err(error);
                }
                Err(Error::NoAnswer { .. } | Error::Broken { .. } | Error::Timeout { .. } | Error::Busy { .. })
                    if Instant::now() < until => {}
                Err(error) => return Err(error),
            }
            sleep(START_PAUSE).await;
        }
    }

    pub fn url(&self) -> &str {
        &self.options.url
    }

    /// Whether ClickHouse answers and takes the user.
    pub async fn ping(&self) -> Result<(), Error> {
        self.within(self.server.query("SELECT 1").fetch_one::<u8>()).await.map(|_| ())
    }

    /// A statement outside the database.
    pub(crate) async fn execute_on_server(&self, sql: &str) -> Result<(), Error> {
        self.within(self.server.query_raw(sql).execute()).await
    }

    pub(crate) async fn execute(&self, sql: &str) -> Result<(), Error> {
        self.within(self.inner.query_raw(sql).execute()).await
    }

    /// A question, bounded in time on both sides.
    pub(crate) fn query(&self, sql: &str) -> Query {
        let seconds = self.options.query_timeout.get().as_secs().max(1);
        let query = self.inner.query(sql).with_setting("max_execution_time", seconds.to_string());
        Query { query, client: self.clone() }
    }

    pub(crate) async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, clickhouse::error::Error>>,
    ) -> Result<T, Error> {
        let limit = self.options.query_timeout.get() + GRACE;
        match timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|source| self.place.error(source)),
            Err(_) => Err(Error::Timeout { url: self.options.url.clone(), seconds: limit.as_secs() }),
        }
    }
}

/// A question with bound parameters (`{name:Type}` in its text).
pub(crate) struct Query {
    query: clickhouse::query::Query,
    client: Client,
}

impl Query {
    pub(crate) fn param(mut self, name: &str, value: impl Serialize) -> Query {
        self.query = self.query.param(name, value);
        self
    }

    pub(crate) async fn all<T>(self) -> Result<Vec<T>, Error>
    where
        T: clickhouse::RowOwned + clickhouse::RowRead,
    {
        self.client.within(self.query.fetch_all::<T>()).await
    }

    pub(crate) async fn one<T>(self) -> Result<T, Error>
    where
        T: clickhouse::RowOwned + clickhouse::RowRead,
    {
        self.client.within(self.query.fetch_one::<T>()).await
    }

    pub(crate) async fn execute(self) -> Result<(), Error> {
        self.client.within(self.query.execute()).await
    }
}

fn check(options: &Options) -> Result<(), Error> {
    if !options.url.starts_with("http://") {
        let reason = if options.url.starts_with("https://") {
            "TLS is not supported yet; put a TLS proxy in front, or use http:// in a trusted network"
        } else {
            "write it as http://host:port"
        };
        return Err(Error::BadUrl { url: options.url.clone(), reason });
    }
    let name = options.database.as_bytes();
    let word = name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_');
    if !word || name.len() > 64 || !name.first().is_some_and(u8::is_ascii_alphabetic) {
        return Err(Error::BadDatabase(options.database.clone()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(url: &str, database: &str) -> Result<Client, Error> {
        let options = Options { url: url.to_owned(), database: database.to_owned(), ..Options::default() };
        Client::new(&options, &Env::default())
    }

    #[test]
    fn what_cannot_work_is_refused_at_once() {
        assert!(matches!(with("https://h:8443", "farebox"), Err(Error::BadUrl { .. })));
        assert!(matches!(with("h:8123", "farebox"), Err(Error::BadUrl { .. })));
        assert!(matches!(with("http://h:8123", "a`; DROP"), Err(Error::BadDatabase(_))));
        assert!(matches!(with("http://h:8123", ""), Err(Error::BadDatabase(_))));
        assert!(with("http://h:8123", "farebox_2").is_ok());
    }

    #[tokio::test]
    async fn nobody_at_the_url_is_said_with_a_remedy() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let options =
            Options { url: format!("http://{closed}"), start_timeout: farebox_types::Span::ZERO, ..Options::default() };
        let error = Client::connect(&options, &Env::default()).await.unwrap_err();
        assert!(matches!(error, Error::NoAnswer { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&options.url) && text.contains("clickhouse.url"), "{text}");
    }
}
