//! The one way to a provider.

use std::{
    collections::HashMap,
    error::Error as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use farebox_dialect::Head;
use farebox_providers::Provider;
use farebox_types::{ErrorKind, Fault};
use secrecy::SecretString;

use crate::{
    options::Options,
    reservation::{OpenAttempt, Reservation},
    sent::Sent,
};

/// Carries farebox's call id, so that a bill can be matched with its row
/// (<https://platform.openai.com/docs/api-reference/debugging-requests>).
pub(crate) const CALL_ID: &str = "x-client-request-id";

/// A provider of the config, with its key.
pub struct Connection {
    pub provider: Provider,
    pub key: Option<SecretString>,
}

/// All providers of this worker.
pub(crate) struct Upstream {
    options: Options,
    /// One for each timeout to connect: that is a property of a client, not of a request.
    clients: Mutex<HashMap<Duration, reqwest::Client>>,
    providers: HashMap<String, Arc<Connection>>,
}

/// Why no answer began.
#[derive(Debug)]
pub(crate) struct SendError {
    pub(crate) fault: Fault,
    /// Whether the provider may have seen the request, and bill it.
    pub(crate) may_be_billed: bool,
}

impl Upstream {
    pub(crate) fn new(options: &Options, providers: Vec<Connection>) -> Result<Upstream, reqwest::Error> {
        let connect = options.connect_timeout.get();
        let clients = Mutex::new(HashMap::from([(connect, client(options, connect)?)]));
        let providers = providers.into_iter().map(|c| (c.provider.name.clone(), Arc::new(c))).collect();
        Ok(Upstream { options: options.clone(), clients, providers })
    }

    fn client(&self, connect: Duration) -> Result<reqwest::Client, reqwest::Error> {
        // The map stays whole whatever panics elsewhere.
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&connect) {
            return Ok(client.clone());
        }
        let made = client(&self.options, connect)?;
        clients.insert(connect, made.clone());
        Ok(made)
    }

    pub(crate) fn provider(&self, name: &str) -> Option<Arc<Connection>> {
        self.providers.get(name).cloned()
    }

    /// Opens a request to a provider. It takes the reservation by value: what is not covered cannot be sent. The
    /// attempt is open from here on, whether its answer is waited for or not.
    pub(crate) fn open<'a>(
        &'a self,
        reservation: Reservation,
        to: &'a Connection,
        request: http::Request<Bytes>,
        connect_timeout: Duration,
    ) -> (OpenAttempt, impl Future<Output = Result<Answering, SendError>> + 'a) {
        let attempt = reservation.use_up();
        let (id, sent) = (attempt.call.to_string(), attempt.sent.clone());
        (attempt, self.send(request, id, sent, to, connect_timeout))
    }

    async fn send(
        &self,
        request: http::Request<Bytes>,
        call_id: String,
        sent: Sent,
        to: &Connection,
        connect_timeout: Duration,
    ) -> Result<Answering, SendError> {
        let request = to.provider.apply(to.key.as_ref(), request).map_err(|error| SendError {
            fault: Fault::new(ErrorKind::Internal, error.to_string()),
            may_be_billed: false,
        })?;
        let refused = |error: &reqwest::Error| SendError {
            fault: network_fault(&to.provider.name, error),
            may_be_billed: sent.is_set(),
        };
        let request = request.map(|bytes| reqwest::Body::wrap(sent.watch(bytes)));
        let mut request = reqwest::Request::try_from(request).map_err(|error| refused(&error))?;
        if let Ok(id) = call_id.parse() {
            request.headers_mut().insert(CALL_ID, id);
        }
        let client = self.client(connect_timeout).map_err(|error| refused(&error))?;
        let response = client.execute(request).await.map_err(|error| refused(&error))?;
        let head = Head { status: response.status(), headers: response.headers().clone() };
        Ok(Answering { head, response })
    }
}

fn client(options: &Options, connect_timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .connect_timeout(connect_timeout)
        .pool_max_idle_per_host(options.idle_connections)
        .tcp_nodelay(true)
        // A redirect would carry the key and the prompt to another host.
        .redirect(reqwest::redirect::Policy::none())
        // Every attempt is covered by its own reservation: nothing is sent twice behind our back.
        .retry(reqwest::retry::never())
        .user_agent(concat!("farebox/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// A provider's answer that has begun.
pub(crate) struct Answering {
    pub(crate) head: Head,
    response: reqwest::Response,
}

impl Answering {
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
