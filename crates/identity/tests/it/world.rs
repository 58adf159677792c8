//! A real nats-server in operator mode, with the role `identity` running beside it.

use std::{sync::Arc, time::Duration};

use farebox_bus::{Bus, ConnectError, Login, Options as BusOptions};
use farebox_identity::{
    Accounts, Deps, Identity, KeyDirectory, Keyring, Options, Registrar, Role, ServerConf, StaticKeys,
};
use farebox_runtime::{DrainTrigger, Tasks, drain};
use farebox_testkit::TestNats;
use farebox_types::{Clock, Project, Span, SystemClock};
use tempfile::TempDir;

pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) nats: TestNats,
    pub(crate) accounts: Accounts,
    pub(crate) registrar: Registrar,
    trigger: DrainTrigger,
    tasks: Tasks,
    _data: TempDir,
}

pub(crate) fn project(name: &str) -> Project {
    Project::parse(name).unwrap()
}

impl World {
    pub(crate) async fn start() -> World {
        let keys = StaticKeys::default().with("acme-secret", &project("acme"), "key-1");
        World::with(keys, Options::default()).await
    }

    pub(crate) async fn with(directory: impl KeyDirectory, options: Options) -> World {
        let data = TempDir::new().unwrap();
        let keyring = Keyring::load_or_create(&data.path().join("keys")).unwrap();
        let accounts = Accounts::new(keyring.clone(), SystemClock.now());
        let conf = ServerConf::new(([127, 0, 0, 1], 0).into(), data.path());
        let lines = conf.render(&accounts).unwrap();
        let nats = TestNats::builder().without_jetstream().config(&lines).start().await.unwrap();
        let deps = Deps {
            options,
            bus: bus_options(&nats),
            keyring,
            directory: Arc::new(directory),
            clock: Arc::new(SystemClock),
        };
        let identity = Identity::create(deps).await.unwrap();
        let registrar = identity.registrar();
        let (trigger, signal) = drain();
        let tasks = Tasks::new(trigger.clone());
        tasks.spawn("identity", identity.run(signal));
        World { nats, accounts, registrar, trigger, tasks, _data: data }
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
