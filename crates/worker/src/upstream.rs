//! The one way to a provider.

use std::{
    collections::HashMap,
    error::Error as _,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use farebox_credentials::Credentials;
use farebox_dialect::Head;
use farebox_providers::{Egress, Provider, ProviderOptions};
use farebox_types::{Clock, ErrorKind, Fault};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use secrecy::SecretString;

use crate::{
    options::Options,
    reservation::{OpenAttempt, Reservation},
    sent::Sent,
};

/// Carries farebox's call id, so that a bill can be matched with its row
/// (<https://platform.openai.com/docs/api-reference/debugging-requests>).
pub(crate) const CALL_ID: &str = "x-client-request-id";

/// A provider of the config, with what it wants to see.
pub struct Connection {
    pub provider: Provider,
    pub credentials: Credentials,
}

impl Connection {
    fn client_key(&self, connect: Duration) -> ClientKey {
        let ProviderOptions { proxy, ca, .. } = &self.provider.options;
        ClientKey { proxy: proxy.clone(), ca: ca.clone(), connect }
    }
}

/// What is a property of a client, not of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ClientKey {
    proxy: Option<String>,
    ca: Option<PathBuf>,
    /// The timeout to connect.
    connect: Duration,
}

type Clients = HashMap<ClientKey, reqwest::Client>;

/// All providers of this worker. A call goes on with those that it began with.
pub struct Upstream {
    options: Options,
    egress: Arc<Egress>,
    clock: Arc<dyn Clock>,
    clients: Mutex<Clients>,
    providers: HashMap<String, Arc<Connection>>,
    /// Those of the config before: intake may have planned with them a moment ago.
    gone: HashMap<String, Arc<Connection>>,
}

/// Where a request goes, and as whose.
#[derive(Clone, Copy)]
pub(crate) struct Recipient<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) key: Option<&'a SecretString>,
    pub(crate) connect_timeout: Duration,
}

/// Why the client of a provider cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the certificates in {path} cannot be read")]
    Ca {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the HTTP client cannot be made")]
    Http(#[from] reqwest::Error),
}

/// Why no answer began.
#[derive(Debug)]
pub(crate) struct SendError {
    pub(crate) fault: Fault,
    /// Whether the provider may have seen the request, and bill it.
    pub(crate) may_be_billed: bool,
}

impl Upstream {
    /// The providers of a config. `before`: those of the one before it; open connections are kept where nothing about
    /// their making has changed.
    pub fn new(
        options: &Options,
        egress: Egress,
        clock: Arc<dyn Clock>,
        providers: Vec<Connection>,
        before: Option<&Upstream>,
    ) -> Result<Upstream, ClientError> {
        let providers: HashMap<_, _> = providers.into_iter().map(|c| (c.provider.name.clone(), Arc::new(c))).collect();
        let is_gone = |(name, _): &(&String, &Arc<Connection>)| !providers.contains_key(*name);
        let gone = before.into_iter().flat_map(|before| before.providers.iter().filter(is_gone));
        let upstream = Upstream {
            options: options.clone(),
            clock,
            clients: Mutex::new(before.map(|before| before.kept(&egress, &providers)).unwrap_or_default()),
            egress: Arc::new(egress),
            gone: gone.map(|(name, connection)| (name.clone(), connection.clone())).collect(),
            providers,
        };
        // What cannot work is found at start.
        for connection in upstream.providers.values() {
            upstream.client(connection, options.connect_timeout.get())?;
        }
        Ok(upstream)
    }

    /// The clients that are as they have to be for other providers, too.
    fn kept(&self, egress: &Egress, providers: &HashMap<String, Arc<Connection>>) -> Clients {
        if *self.egress != *egress {
            return Clients::default();
        }
        let used = |key: &ClientKey| providers.values().any(|to| to.client_key(key.connect) == *key);
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.iter().filter(|(key, _)| used(key)).map(|(key, client)| (key.clone(), client.clone())).collect()
    }

    fn client(&self, to: &Connection, connect: Duration) -> Result<reqwest::Client, ClientError> {
        // The map stays whole whatever panics elsewhere.
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = to.client_key(connect);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let made = client(&self.options, &self.egress, &to.provider, connect)?;
        clients.insert(key, made.clone());
        Ok(made)
    }

    pub(crate) fn provider(&self, name: &str) -> Option<Arc<Connection>> {
        self.providers.get(name).or_else(|| self.gone.get(name)).cloned()
    }

    /// Opens a request to a provider. It takes the reservation by value: what is not covered cannot be sent. The
    /// attempt is open from here on, whether its answer is waited for or not.
    pub(crate) fn open<'a>(
        &'a self,
        reservation: Reservation,
        to: Recipient<'a>,
        request: http::Request<Bytes>,
    ) -> (OpenAttempt, impl Future<Output = Result<Answering, SendError>> + 'a) {
        let attempt = reservation.use_up();
        let (id, sent) = (attempt.call.to_string(), attempt.sent.clone());
        (attempt, self.send(request, id, sent, to))
    }

    async fn send(
        &self,
        request: http::Request<Bytes>,
        call_id: String,
        sent: Sent,
        to: Recipient<'_>,
    ) -> Result<Answering, SendError> {
        let Recipient { connection: to, key, connect_timeout } = to;
        let unsent =
            |kind: ErrorKind, message: String| SendError { fault: Fault::new(kind, message), may_be_billed: false };
        let request = to.provider.apply(key, request).map_err(|error| unsent(error.kind(), error.to_string()))?;
        let authorized = to.credentials.authorize(request, self.clock.now()).await;
        let request =
            authorized.map_err(|error| unsent(error.kind(), format!("provider `{}`: {error}", to.provider.name)))?;
        let refused = |error: &reqwest::Error| SendError {
            fault: network_fault(&to.provider.name, error),
            may_be_billed: sent.is_set(),
        };
        let request = request.map(|bytes| reqwest::Body::wrap(sent.watch(bytes)));
        let mut request = reqwest::Request::try_from(request).map_err(|error| refused(&error))?;
        if let Ok(id) = call_id.parse() {
            request.headers_mut().insert(CALL_ID, id);
        }
        let client = self
            .client(to, connect_timeout)
            .map_err(|error| unsent(ErrorKind::Internal, format!("provider `{}`: {error}", to.provider.name)))?;
        let response = client.execute(request).await.map_err(|error| refused(&error))?;
        let head = Head { status: response.status(), headers: response.headers().clone() };
        Ok(Answering { head, response })
    }
}

fn client(
    options: &Options,
    egress: &Arc<Egress>,
    provider: &Provider,
    connect_timeout: Duration,
) -> Result<reqwest::Client, ClientError> {
    let client = reqwest::Client::builder();
    let mut client = match &provider.options.proxy {
        // The proxy looks names up, by its own policy.
        Some(proxy) => client.proxy(reqwest::Proxy::all(proxy)?),
        // What the config does not say is not done: no proxy from the environment.
        None => client.no_proxy().dns_resolver(Arc::new(Guarded { egress: egress.clone() })),
    };
    if let Some(path) = &provider.options.ca {
        let read =
            std::fs::read(path).map_err(|source| ClientError::Ca { path: path.display().to_string(), source })?;
        client = client.tls_certs_merge(reqwest::Certificate::from_pem_bundle(&read)?);
    }
    Ok(client
        .connect_timeout(connect_timeout)
        .pool_max_idle_per_host(options.idle_connections)
        .tcp_nodelay(true)
        // A redirect would carry the key and the prompt to another host.
        .redirect(reqwest::redirect::Policy::none())
        // Every attempt is covered by its own reservation: nothing is sent twice behind our back.
        .retry(reqwest::retry::never())
        .user_agent(concat!("farebox/", env!("CARGO_PKG_VERSION")))
        .build()?)
}

/// Looks names up, and gives only those of their addresses that the config lets requests go to.
struct Guarded {
    egress: Arc<Egress>,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let egress = self.egress.clone();
        Box::pin(async move {
            let name = name.as_str();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name, 0)).await?.collect();
            let allowed: Vec<SocketAddr> =
                found.iter().copied().filter(|address| name == "localhost" || egress.permits(address.ip())).collect();
            if allowed.is_empty() && !found.is_empty() {
                let message = "its name leads to a private address: list that network in `egress.allow`";
                return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, message).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// A provider's answer that has begun.
pub(crate) struct Answering {
    pub(crate) head: Head,
    response: reqwest::Response,
}

/// Where providers say what they call a request: <https://docs.anthropic.com/en/api/errors#request-id>,
/// <https://platform.openai.com/docs/api-reference/debugging-requests>,
/// <https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html>,
/// <https://learn.microsoft.com/azure/api-management/api-management-howto-api-inspector>.
const REQUEST_IDS: [&str; 8] = [
    "request-id",
    "x-request-id",
    "x-amzn-requestid",
    "x-amzn-request-id",
    "apim-request-id",
    "x-ms-request-id",
    "x-goog-request-id",
    "x-cloud-trace-context",
];
/// The longest such id that is believed.
const REQUEST_ID_MAX: usize = 128;

impl Answering {
    /// What the provider calls this request, where it says so.
    pub(crate) fn request_id(&self) -> Option<&str> {
        let said = |name| self.head.headers.get(name)?.to_str().ok();
        REQUEST_IDS.into_iter().filter_map(said).find(|id| !id.is_empty() && id.len() <= REQUEST_ID_MAX)
    }

    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self, provider: &str) -> Result<Option<Bytes>, Fault> {
        self.response.chunk().await.map_err(|error| {
            let fault = network_fault(provider, &error);
            Fault { kind: ErrorKind::Truncated, ..fault }
        })
    }
}

impl Answering {
    /// Reads the end of a stream that is complete, so that its connection can be used again.
    pub(crate) async fn let_go(&mut self, wait: Duration) {
        let rest = async { while let Ok(Some(_)) = self.response.chunk().await {} };
        // What does not end in time is closed.
        let _ = tokio::time::timeout(wait, rest).await;
    }
}

/// Said without the address: it may hold what is nobody's business.
fn network_fault(provider: &str, error: &reqwest::Error) -> Fault {
    let mut cause = error.source();
    let mut deepest = None;
    while let Some(inner) = cause {
        deepest = Some(inner.to_string());
        cause = inner.source();
    }
    let what = if error.is_connect() { "cannot be reached" } else { "broke the connection" };
    let why = deepest.map(|why| format!(": {why}")).unwrap_or_default();
    Fault::new(ErrorKind::Upstream, format!("provider `{provider}` {what}{why}"))
}
