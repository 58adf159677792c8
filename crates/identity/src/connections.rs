//! Connections of callers, as the NATS servers know them: finding them, and ending them.

use std::{net::IpAddr, time::Duration};

use farebox_bus::{Bus, Delivery, Headers, Inbox};
use farebox_types::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use crate::{error::IdentityError, options::Options};

const PING: &str = "$SYS.REQ.SERVER.PING.CONNZ";
/// Connections in one answer of a server.
const PAGE: usize = 1024;

/// A client's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    /// The server's id.
    server: String,
    id: u64,
    /// Public key.
    pub(crate) account: String,
    /// What the callout named it: the id of its key.
    pub(crate) user: String,
    pub(crate) host: Option<IpAddr>,
    /// How old it was when the server was asked.
    pub(crate) age: Duration,
}

/// Which connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Filter {
    pub(crate) account: Option<String>,
    pub(crate) user: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    server: Server,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Server {
    id: String,
}

#[derive(Deserialize)]
struct Data {
    now: String,
    #[serde(default)]
    offset: usize,
    #[serde(default)]
    connections: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    cid: u64,
    #[serde(default)]
    ip: String,
    start: String,
    #[serde(default)]
    authorized_user: String,
    #[serde(default)]
    account: String,
}

fn time(text: &str) -> Option<Timestamp> {
    text.parse::<jiff::Timestamp>().ok().map(|time| Timestamp(time.as_millisecond()))
}

/// What one server answered: its connections, and where its next page begins.
struct Page {
    connections: Vec<Connection>,
    next: Option<(String, usize)>,
}

fn read(answer: &Delivery) -> Option<Page> {
    let Answer { server, data } = serde_json::from_slice(&answer.payload).ok()?;
    let data = data?;
    let now = time(&data.now)?;
    let next = data.offset + data.connections.len();
    let next = (data.connections.len() >= PAGE).then(|| (server.id.clone(), next));
    let connections = data
        .connections
        .into_iter()
        .map(|found| Connection {
            server: server.id.clone(),
            id: found.cid,
            account: found.account,
            user: found.authorized_user,
            host: found.ip.parse().ok(),
            age: time(&found.start).map_or(Duration::MAX, |start| now.remaining(start)),
        })
        .collect();
    Some(Page { connections, next })
}

/// What all servers answer to one question. Nobody knows how many there are: it is over when none has answered for a
/// while.
pub(crate) struct Listing<'a> {
    system: &'a Bus,
    options: &'a Options,
    filter: &'a Filter,
    inbox: Inbox,
}

impl<'a> Listing<'a> {
    pub(crate) async fn ask(
        system: &'a Bus,
        filter: &'a Filter,
        options: &'a Options,
    ) -> Result<Listing<'a>, IdentityError> {
        let listing = Listing { system, options, filter, inbox: system.inbox() };
        listing.page(PING, 0).await?;
        Ok(listing)
    }

    async fn page(&self, subject: &str, offset: usize) -> Result<(), IdentityError> {
        let Filter { account, user } = self.filter;
        let question = json!({ "auth": true, "limit": PAGE, "offset": offset, "acc": account, "user": user });
        let (reply, body) = (self.inbox.subject(), question.to_string().into());
        let sent = self.system.publish_with_reply(subject, &reply, Headers::new(), body).await;
        sent.map_err(IdentityError::Connections)
    }

    /// What the next server says, or the same one on its next page; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Connection>>, IdentityError> {
        loop {
            let Ok(Some(answer)) = timeout(self.options.servers_wait.get(), self.inbox.next()).await else {
                return Ok(None);
            };
            let Some(page) = read(&answer) else {
                tracing::warn!("a NATS server's list of connections cannot be read");
                continue;
            };
            if let Some((server, offset)) = page.next {
                self.page(&format!("$SYS.REQ.SERVER.{server}.CONNZ"), offset).await?;
            }
            return Ok(Some(page.connections));
        }
    }
}

/// Ends a connection. One that has ended already needs no more.
pub(crate) async fn end(system: &Bus, connection: &Connection, options: &Options) {
    let subject = format!("$SYS.REQ.SERVER.{}.KICK", connection.server);
    let order = json!({ "cid": connection.id }).to_string();
    let ended = system.request(&subject, Headers::new(), order.into(), options.push_timeout.get()).await;
    if let Err(error) = ended {
        tracing::warn!(%error, user = connection.user, "a connection was not ended: it is tried again");
    }
}
