//! The connection: made with clear errors, kept alive, its events logged once each and counted.

use std::{
    collections::HashSet,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_nats::{ConnectErrorKind, ConnectOptions, Event, ServerError};
use bytes::Bytes;
use farebox_types::Secret;
use futures::{FutureExt, StreamExt};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    counters::{Counters, Counts},
    delivery::Delivery,
    error::{ConnectError, PublishError},
    headers::Headers,
    inbox::{Inbox, Waiting},
    near::{self, Near, Reach},
    options::{Login, Options},
};

/// Distinct server errors that are remembered so that each is logged once.
const REMEMBERED_ERRORS: usize = 64;

/// A connection to the bus. Cheap to clone; the connection closes with the last clone.
#[derive(Clone)]
pub struct Bus(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) client: async_nats::Client,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) link: Arc<Link>,
    pub(crate) near: Near,
    pub(crate) options: Options,
    pub(crate) store_permits: Semaphore,
    pub(crate) transfers: Semaphore,
    /// The dispatcher of the private inboxes. It belongs to the connection and ends with it.
    _tasks: JoinSet<()>,
}

/// What is known about the connection between the server's events.
pub(crate) struct Link {
    pub(crate) counters: Arc<Counters>,
    waiting: Arc<Waiting>,
    /// Grows with every connection made; pull requests sent before are lost.
    generation: watch::Sender<u64>,
    started: Instant,
    /// Milliseconds after `started` at which the connection was lost, plus one; zero while it stands.
    down_since: AtomicU64,
    /// Milliseconds after `started` from which on others that lost their connections, too, have had time to come back.
    steady_from: AtomicU64,
    seen: Mutex<HashSet<String>>,
    url: String,
    pause_max: Duration,
}

impl Link {
    pub(crate) fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    /// Whether it stands, and has not just come back.
    fn is_steady(&self) -> bool {
        let from = self.steady_from.load(Relaxed);
        self.down_since.load(Relaxed) == 0 && (from == 0 || self.millis() >= from)
    }

    fn down_for(&self) -> Option<Duration> {
        let since = self.down_since.load(Relaxed).checked_sub(1)?;
        Some(self.started.elapsed().saturating_sub(Duration::from_millis(since)))
    }

    fn handle(&self, event: Event) {
        match event {
            Event::Connected => {
                let first = *self.generation.borrow() == 0;
                if !first {
                    let pause = u64::try_from(self.pause_max.as_millis()).unwrap_or(u64::MAX);
                    self.steady_from.store(self.millis().saturating_add(pause), Relaxed);
                }
                self.down_since.store(0, Relaxed);
                self.generation.send_modify(|g| *g += 1);
                if !first {
                    self.counters.reconnects.add_one();
                    tracing::info!(url = %self.url, "connected to NATS again");
                }
            }
            Event::Disconnected => {
                self.down_since.store(self.millis() + 1, Relaxed);
                tracing::warn!(url = %self.url, "lost the connection to NATS: connecting again");
            }
            Event::SlowConsumer(subscription) => {
                self.counters.slow_consumers.add_one();
                if self.is_new(format!("slow {subscription}")) {
                    tracing::error!(subscription, "a subscription is too slow and loses messages");
                }
            }
            Event::ServerError(error) => self.handle_server_error(&error),
            Event::LameDuckMode => tracing::info!(url = %self.url, "the NATS server is about to stop"),
            Event::Draining | Event::Closed => tracing::debug!("the connection to NATS closes"),
            Event::ClientError(error) => tracing::debug!(%error, "the NATS client reports an error"),
        }
    }

    fn handle_server_error(&self, error: &ServerError) {
        let text = error.to_string();
        if text.to_ascii_lowercase().contains("permissions violation") {
            self.counters.permission_violations.add_one();
            if let Some(subject) = text.split('"').nth(1) {
                self.waiting.forbid(subject);
            }
        } else {
            self.counters.server_errors.add_one();
        }
        if self.is_new(text.clone()) {
            tracing::warn!(error = text, "the NATS server reports an error");
        }
    }

    fn is_new(&self, what: String) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.len() < REMEMBERED_ERRORS && seen.insert(what)
    }
}

impl Bus {
    /// Connects, with the credentials that the options refer to. Goes on trying for `start_timeout` when no server
    /// answers; refused credentials are an error at once.
    pub async fn connect(options: &Options) -> Result<Bus, ConnectError> {
        let login = match &options.credentials {
            Some(reference) => read_credentials(reference).await?,
            None => Login::None,
        };
        Bus::connect_as(options, login).await
    }

    /// Connects with these credentials, whatever the options say.
    pub async fn connect_as(options: &Options, login: Login) -> Result<Bus, ConnectError> {
        if options.url.contains('@') {
            // The client would silently ignore them. The address is not repeated: it holds a secret.
            let reason = "credentials do not belong into the address: set nats.credentials".to_owned();
            return Err(ConnectError::BadUrl { url: "nats://…@…".to_owned(), reason });
        }
        let counters = Arc::new(Counters::default());
        let waiting = Waiting::new(format!("_INBOX.{}", random_token()), counters.clone());
        let link = Arc::new(Link {
            counters,
            waiting: waiting.clone(),
            generation: watch::Sender::new(0),
            started: Instant::now(),
            down_since: AtomicU64::new(0),
            steady_from: AtomicU64::new(0),
            seen: Mutex::default(),
            url: options.url.clone(),
            pause_max: options.reconnect_pause_max.get(),
        });
        let client = connect_client(options, &login, &link).await?;
        let gone = |reason: String| ConnectError::NoServer { url: options.url.clone(), reason };
        let mut inbox = client.subscribe(waiting.wildcard()).await.map_err(|e| gone(e.to_string()))?;
        let mut tasks = JoinSet::new();
        let dispatch = waiting.clone();
        tasks.spawn(async move {
            while let Some(message) = inbox.next().await {
                dispatch.deliver(message.into());
            }
            dispatch.close();
        });
        let store_permits = Semaphore::new(options.store_inflight.max(1));
        let transfers = Semaphore::new(options.object_transfers.max(1));
        let (near, options) = (Near::default(), options.clone());
        let inner = Inner { client, waiting, link, near, options, store_permits, transfers, _tasks: tasks };
        Ok(Bus(Arc::new(inner)))
    }

    pub fn options(&self) -> &Options {
        &self.0.options
    }

    pub fn counts(&self) -> Counts {
        self.0.link.counters.read()
    }

    /// Whether the connection stands right now.
    pub fn is_connected(&self) -> bool {
        self.0.client.connection_state() == async_nats::connection::State::Connected
    }

    /// Whether the connection stands, and has for so long that others which lost theirs at the same time have had the time
    /// to come back (`reconnect_pause_max`): what is published before may find nobody.
    pub fn is_steady(&self) -> bool {
        self.is_connected() && self.0.link.is_steady()
    }

    /// How long the connection has been down; `None` while it stands.
    pub fn down_for(&self) -> Option<Duration> {
        self.0.link.down_for()
    }

    /// The largest payload that the server takes in one message.
    pub fn max_payload(&self) -> usize {
        self.0.client.max_payload()
    }

    /// How many calls, offers and private inboxes wait right now.
    pub fn waiting(&self) -> usize {
        self.0.waiting.len()
    }

    /// Hands a message to the connection. It is on its way, not there: [`Bus::flush`] before a process ends, a
    /// durable write for what must not be lost.
    pub async fn publish(&self, subject: &str, headers: Headers, payload: Bytes) -> Result<(), PublishError> {
        self.send(subject, None, headers, payload).await
    }

    /// The same with an address for answers, such as [`Inbox::subject`].
    pub async fn publish_with_reply(
        &self,
        subject: &str,
        reply: &str,
        headers: Headers,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        self.send(subject, Some(reply.to_owned()), headers, payload).await
    }

    /// Publishes a protobuf message.
    pub async fn publish_message(
        &self,
        subject: &str,
        headers: Headers,
        message: &impl prost::Message,
    ) -> Result<(), PublishError> {
        self.send(subject, None, headers, message.encode_to_vec().into()).await
    }

    /// Hands a message to whoever takes it in this process, else to the server.
    pub(crate) async fn send(
        &self,
        subject: &str,
        reply: Option<String>,
        headers: Headers,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        self.send_within(Reach::Near, subject, reply, headers, payload).await
    }

    pub(crate) async fn send_within(
        &self,
        reach: Reach,
        subject: &str,
        reply: Option<String>,
        headers: Headers,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        let max = self.max_payload();
        if payload.len() > max {
            return Err(PublishError::TooLarge { subject: subject.to_owned(), size: payload.len(), max });
        }
        if reach == Reach::Far || !self.may_be_near(subject) {
            return self.send_far(subject, reply, headers, payload).await;
        }
        let subject = subject.to_owned();
        let message = Delivery { subject, reply, headers, payload, status: None, description: None };
        if self.0.waiting.is_own(&message.subject) {
            self.0.waiting.deliver(message);
            return Ok(());
        }
        match self.0.near.deliver(message) {
            None => Ok(()),
            Some(Delivery { subject, reply, headers, payload, .. }) => {
                self.send_far(&subject, reply, headers, payload).await
            }
        }
    }

    /// Whether somebody in this process may be waiting for it.
    fn may_be_near(&self, subject: &str) -> bool {
        self.0.waiting.is_own(subject) || near::is_internal(subject)
    }

    async fn send_far(
        &self,
        subject: &str,
        reply: Option<String>,
        headers: Headers,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        let client = &self.0.client;
        let max = self.max_payload();
        let limit = self.0.options.publish_timeout.get();
        if self.down_for().is_some_and(|down| down > limit) {
            return Err(PublishError::Disconnected { subject: subject.to_owned() });
        }
        let sent = async {
            let to = subject.to_owned();
            match (reply, headers.into_map()) {
                (None, None) => client.publish(to, payload).await,
                (None, Some(map)) => client.publish_with_headers(to, map, payload).await,
                (Some(reply), None) => client.publish_with_reply(to, reply, payload).await,
                (Some(reply), Some(map)) => client.publish_with_reply_and_headers(to, reply, map, payload).await,
            }
        };
        let mut sent = pin!(sent);
        // Mostly there is room at once, and a timer costs more than the message.
        let done = match sent.as_mut().now_or_never() {
            Some(done) => Ok(done),
            None => timeout(limit, sent).await,
        };
        match done {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(match error.kind() {
                async_nats::PublishErrorKind::InvalidSubject => {
                    PublishError::BadSubject { subject: subject.to_owned() }
                }
                async_nats::PublishErrorKind::MaxPayloadExceeded => {
                    PublishError::TooLarge { subject: subject.to_owned(), size: max, max }
                }
                async_nats::PublishErrorKind::Send => PublishError::Disconnected { subject: subject.to_owned() },
            }),
            Err(_) => Err(PublishError::Disconnected { subject: subject.to_owned() }),
        }
    }

    /// Waits until the server has handled everything published and subscribed so far. The client's own flush only
    /// waits for its socket; here a message goes to the server and back.
    pub async fn flush(&self) -> Result<(), PublishError> {
        let lost = || PublishError::Disconnected { subject: "(flush)".to_owned() };
        let (slot, echo) = self.0.waiting.one("");
        let there_and_back = async {
            self.send_far(&slot.subject(), None, Headers::new(), Bytes::new()).await?;
            echo.await.map(|_| ()).map_err(|_| lost())
        };
        match timeout(self.0.options.flush_timeout.get(), there_and_back).await {
            Ok(done) => done,
            Err(_) => Err(lost()),
        }
    }

    /// A private inbox for many messages. Its subscription exists already: publish its subject at once.
    pub fn inbox(&self) -> Inbox {
        self.inbox_for(self.0.options.inbox_capacity)
    }

    pub(crate) fn inbox_for(&self, capacity: usize) -> Inbox {
        self.0.waiting.many(capacity)
    }
}

pub(crate) fn random_token() -> String {
    data_encoding::BASE32_NOPAD.encode(&rand::random::<[u8; 16]>())
}

async fn read_credentials(reference: &Secret) -> Result<Login, ConnectError> {
    let failed = |reason: String| ConnectError::Credentials { reference: reference.to_string(), reason };
    let text = match reference {
        Secret::File(path) => tokio::fs::read_to_string(path).await.map_err(|e| failed(e.to_string()))?,
        Secret::Env(name) => std::env::var(name).map_err(|e| failed(e.to_string()))?,
    };
    Ok(Login::from_secret(&text))
}

fn client_options(options: &Options, login: &Login, link: &Arc<Link>) -> Result<ConnectOptions, ConnectError> {
    let base = ConnectOptions::new();
    let base = match login.clone() {
        Login::None => base,
        Login::Creds(text) => base.credentials(&text).map_err(|e| ConnectError::Credentials {
            reference: options.credentials.as_ref().map_or("memory".to_owned(), Secret::to_string),
            reason: e.to_string(),
        })?,
        Login::Token(token) => base.token(token),
        Login::UserPassword(user, password) => base.user_and_password(user, password),
    };
    let pause_max = options.reconnect_pause_max.get();
    let link = link.clone();
    Ok(base
        .name(&options.name)
        .connection_timeout(options.connect_timeout.get())
        .ping_interval(options.ping_interval.get())
        .request_timeout(Some(options.api_timeout.get()))
        .client_capacity(options.command_capacity)
        .subscription_capacity(options.subscription_capacity)
        .max_reconnects(None)
        .reconnect_delay_callback(move |attempts| {
            let doubled = 1u64.checked_shl(u32::try_from(attempts.min(20)).unwrap_or(20)).unwrap_or(u64::MAX);
            if attempts <= 1 { Duration::ZERO } else { Duration::from_millis(doubled).min(pause_max) }
        })
        .event_callback(move |event| {
            let link = link.clone();
            async move { link.handle(event) }
        }))
}

/// Tries until `start_timeout` has passed. What another attempt cannot change is an error at once.
async fn connect_client(
    options: &Options,
    login: &Login,
    link: &Arc<Link>,
) -> Result<async_nats::Client, ConnectError> {
    let url = || options.url.clone();
    let until = Instant::now() + options.start_timeout.get();
    let addresses: Vec<&str> = options.url.split(',').map(str::trim).collect();
    let mut pause = Duration::from_millis(20);
    loop {
        let error = match client_options(options, login, link)?.connect(&addresses[..]).await {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        let reason = error.to_string();
        match error.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                return Err(ConnectError::Refused { url: url(), reason });
            }
            ConnectErrorKind::ServerParse => return Err(ConnectError::BadUrl { url: url(), reason }),
            ConnectErrorKind::Tls => return Err(ConnectError::Tls { url: url(), reason }),
            kind if Instant::now() + pause >= until => {
                return Err(match kind {
                    ConnectErrorKind::TimedOut => {
                        ConnectError::Timeout { url: url(), after: options.start_timeout.get() }
                    }
                    _ => ConnectError::NoServer { url: url(), reason },
                });
            }
            _ => {}
        }
        tracing::debug!(url = %options.url, reason, "no NATS server yet: trying again");
        sleep(pause).await;
        pause = (pause * 2).min(options.reconnect_pause_max.get());
    }
}
