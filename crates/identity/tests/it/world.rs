//! A real nats-server in operator mode, with the role `identity` running beside it.

use std::{sync::Arc, time::Duration};

use farebox_bus::{Bus, ConnectError, Login, Options as BusOptions};
use farebox_directory::{Directory, Feed};
use farebox_identity::{Accounts, Deps, Identity, Keyring, Options, Role, ServerConf};
use farebox_policy::{Key, KeyId, KeyText, Pepper, Policies, ProjectPolicy};
use farebox_runtime::{DrainTrigger, Tasks, drain};
use farebox_testkit::TestNats;
use farebox_types::{Clock, Project, Span, SystemClock};
use tempfile::TempDir;

pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) nats: TestNats,
    pub(crate) accounts: Accounts,
    pub(crate) feed: Feed,
    pub(crate) pepper: Pepper,
    directory: Directory,
    trigger: DrainTrigger,
    tasks: Tasks,
    _data: TempDir,
}

pub(crate) fn project(name: &str) -> Project {
    Project::parse(name).unwrap()
}

/// The key of a project, and its text.
pub(crate) fn key(id: &str, of: &str, pepper: &Pepper) -> (Key, String) {
    let text = KeyText::new(KeyId::parse(id).unwrap(), [id.len() as u8; 32]);
    let key = Key {
        id: text.id.clone(),
        project: Some(project(of)),
        name: String::new(),
        hash: text.hash(pepper),
        previous: None,
        groups: Vec::new(),
        expires: None,
        revoked: None,
        models: Vec::new(),
        subjects: Vec::new(),
        addresses: Vec::new(),
        pins: Default::default(),
        metadata: Default::default(),
        created: SystemClock.now(),
        role: None,
    };
    (key, text.reveal())
}

impl World {
    pub(crate) async fn start() -> World {
        World::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> World {
        let data = TempDir::new().unwrap();
        let keyring = Keyring::load_or_create(&data.path().join("keys")).unwrap();
        let accounts = Accounts::new(keyring.clone(), SystemClock.now());
        let conf = ServerConf::new(([127, 0, 0, 1], 0).into(), data.path());
        let lines = conf.render(&accounts).unwrap();
        let nats = TestNats::builder().without_jetstream().config(&lines).start().await.unwrap();
        let pepper = keyring.pepper();
        let (feed, directory) = Directory::fed(Policies::default());
        feed.fresh(true);
        let deps = Deps {
            options,
            bus: bus_options(&nats),
            pepper: keyring.pepper(),
            keyring,
            directory: directory.clone(),
            clock: Arc::new(SystemClock),
        };
        let identity = Identity::create(deps).await.unwrap();
        let (trigger, signal) = drain();
        let tasks = Tasks::new(trigger.clone());
        tasks.spawn("identity", identity.run(signal));
        World { nats, accounts, feed, pepper, directory, trigger, tasks, _data: data }
    }

    /// Changes what is known of keys and projects.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Policies)) {
        let mut policies = (*self.directory.newest()).clone();
        change(&mut policies);
        self.feed.policies(policies);
    }

    /// A new key, of a project that may be new as well. Its text.
    pub(crate) fn add_key(&self, id: &str, of: &str) -> String {
        let (key, text) = key(id, of, &self.pepper);
        self.change(|policies| {
            let policy = ProjectPolicy {
                name: project(of),
                organisation: String::new(),
                models: Vec::new(),
                provider_keys: Default::default(),
                disabled: false,
                metadata: Default::default(),
            };
            policies.projects.entry(of.to_owned()).or_insert(policy);
            policies.keys.insert(key.id.clone(), key);
        });
        text
    }

    /// A connection with a key that was just made, at the first try.
    pub(crate) async fn soon_with(&self, text: &str) -> Bus {
        self.with_key(text).await.unwrap()
    }

    pub(crate) async fn connect(&self, login: Login) -> Result<Bus, ConnectError> {
        Bus::connect_as(&bus_options(&self.nats), login).await
    }

    /// A client without credentials.
    pub(crate) async fn anyone(&self) -> Bus {
        self.connect(Login::None).await.unwrap()
    }

    pub(crate) async fn with_key(&self, key: &str) -> Result<Bus, ConnectError> {
        self.connect(Login::Token(key.to_owned())).await
    }

    pub(crate) async fn role(&self, role: Role) -> Bus {
        let creds = self.accounts.role_credentials(role).unwrap();
        self.connect(Login::Creds(creds)).await.unwrap()
    }

    pub(crate) async fn stop(self) {
        self.trigger.drain();
        self.tasks.finish(LONG).await.unwrap();
    }
}

fn bus_options(nats: &TestNats) -> BusOptions {
    BusOptions { url: nats.url(), start_timeout: Span::from_secs(20), ..BusOptions::default() }
}
