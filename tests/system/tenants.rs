//! Projects and keys on the bus, with a client of NATS itself: what one project tries against another, and how soon a
//! change acts.

mod changes;
mod cluster;
mod http;
mod told;
mod ways;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_nats::{Client, ConnectOptions, HeaderMap, Subscriber};
use farebox_bus::{Bus, Login};
use farebox_directory::Store;
use farebox_identity::{Accounts, Keyring, Role};
use farebox_policy::{KeyId, KeyText, Pepper, Policies};
use farebox_proto::v1;
use farebox_types::{Clock, SystemClock};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::stage::{SOON, Stage, fresh_id};

/// What a change may take until it acts everywhere.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How long a question is given that must have no answer.
const SILENCE: Duration = Duration::from_millis(300);

/// A farebox with projects, and who administers them.
struct Tenants {
    stage: Stage,
    store: Store,
    admin: Bus,
    pepper: Pepper,
    keyring: Keyring,
}

impl Tenants {
    async fn start() -> Tenants {
        Tenants::with(&[]).await
    }

    /// With more for the command of its farebox.
    async fn with(args: &[&str]) -> Tenants {
        let stage = Stage::start("logs: { log: \"trace\" }", args, |up| up).await;
        let keyring = Keyring::load_or_create(&stage.data().join("nats/keys")).expect("its keys");
        let creds =
            Accounts::new(keyring.clone(), SystemClock.now()).role_credentials(Role::Admin).expect("credentials");
        let options = farebox_bus::Options { name: "admin".to_owned(), ..stage.bus().options().clone() };
        let admin = Bus::connect_as(&options, Login::Creds(creds)).await.expect("admin connects");
        let store = Store::new(&admin, Arc::new(Policies::default()));
        Tenants { stage, store, admin, pepper: keyring.pepper(), keyring }
    }

    async fn add_project(&self, name: &str) {
        let project = v1::Project { name: name.to_owned(), ..Default::default() };
        self.store.put(&project, 0).await.expect("a project is stored");
    }

    /// The text of a new key.
    async fn add_key(&self, id: &str, project: &str, with: impl FnOnce(&mut v1::Key)) -> String {
        let secret: [u8; 32] =
            std::array::from_fn(|i| id.as_bytes()[i % id.len()].wrapping_mul(31).wrapping_add(i as u8));
        let text = KeyText::new(KeyId::parse(id).expect("an id"), secret);
        let mut key = v1::Key {
            id: id.to_owned(),
            project: project.to_owned(),
            hash: text.hash(&self.pepper).0.to_vec().into(),
            created_unix_ms: SystemClock.now().millis(),
            ..Default::default()
        };
        with(&mut key);
        self.store.put(&key, 0).await.expect("a key is stored");
        text.reveal()
    }

    async fn change_key(&self, id: &str, change: impl FnOnce(&mut v1::Key)) {
        let kept = self.store.get::<v1::Key>(id).await.expect("it is read").expect("it is there");
        let mut key = kept.entity;
        change(&mut key);
        self.store.put(&key, kept.revision).await.expect("the change is stored");
    }

    async fn try_connect(&self, options: ConnectOptions) -> Result<Client, async_nats::ConnectError> {
        options.connect(self.stage.ready["nats"].as_str().expect("an address")).await
    }

    /// A client with a key, once it opens.
    async fn connect(&self, key: &str) -> Client {
        let connecting = async {
            loop {
                match self.try_connect(ConnectOptions::with_token(key.to_owned())).await {
                    Ok(client) => return client,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        timeout(SOON, connecting).await.expect("let in")
    }

    /// A new project, and the text of its one key, which has the same name.
    async fn newcomer(&self) -> (String, String) {
        let name = fresh_id("new").replace('-', "");
        self.add_project(&name).await;
        let key = self.add_key(&name, &name, |_| {}).await;
        (name, key)
    }

    async fn disable(&self, project: &str) {
        let kept = self.store.get::<v1::Project>(project).await.expect("it is read").expect("it is there");
        let disabled = v1::Project { disabled: true, ..kept.entity };
        self.store.put(&disabled, kept.revision).await.expect("it is stored");
    }

    async fn revoke(&self, key: &str) {
        self.change_key(key, |key| key.revoked_unix_ms = SystemClock.now().millis()).await;
    }
}

/// The answer to a request, as JSON.
async fn ask(client: &Client, subject: &str, headers: HeaderMap, body: &Value) -> Value {
    let request = async_nats::Request::new().headers(headers).payload(body.to_string().into()).timeout(Some(SOON));
    let answer = client.send_request(subject.to_owned(), request).await;
    let answer = answer.unwrap_or_else(|error| panic!("no answer on {subject}: {error}"));
    serde_json::from_slice(&answer.payload).expect("JSON")
}

/// Whether nobody answers a question: there is no one there, or the server forbids it.
async fn unheard(client: &Client, subject: &str, body: &str) -> bool {
    let request = async_nats::Request::new().payload(body.to_owned().into()).timeout(Some(SILENCE));
    client.send_request(subject.to_owned(), request).await.is_err()
}

/// Everything that has arrived on a subscription.
async fn arrived(heard: &mut Subscriber) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    while let Ok(Some(message)) = timeout(Duration::from_millis(20), heard.next()).await {
        all.push((message.subject.to_string(), message.payload.to_vec()));
    }
    all
}

fn chat(model: &str, farebox: Value) -> Value {
    crate::stage::chat(model, farebox)
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.insert(*name, *value);
    }
    map
}
