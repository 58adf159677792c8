//! The roles of farebox, put together from config and a connection. `up` and `farebox <role>` run the same ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    str::FromStr,
    sync::Arc,
};

use anyhow::{Context, Result};
use farebox_admin::{ConfigBook, Offers};
use farebox_bus::{Bus, Login, topology};
use farebox_directory::{Directory, Keys, Store};
use farebox_identity::{Accounts, Keyring};
use farebox_intake::Routes;
use farebox_policy::Pepper;
use farebox_proto::subjects::Tenancy;
use farebox_runtime::{Drain, Tasks};
use farebox_types::{Clock, Secret, SystemClock};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::oneshot;

use crate::{
    catalog::{offered, routes, upstream},
    config::{Config, EMBEDDED, environment},
    live::{InForce, Live},
};

/// A part of farebox that can run by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Turns keys into accounts when somebody connects.
    Identity,
    /// Admits and records: the one writer of budgets.
    Guard,
    /// Writes rows to ClickHouse and answers usage queries.
    Accounting,
    /// Calls providers.
    Worker,
    /// Takes requests.
    Intake,
    /// Serves OpenAI's and Anthropic's APIs over HTTP.
    Edge,
    /// Serves the admin API.
    Admin,
}

impl Role {
    /// In the order in which they start; they stop in the opposite one.
    pub(crate) const ALL: [Role; 7] =
        [Role::Identity, Role::Accounting, Role::Guard, Role::Worker, Role::Intake, Role::Edge, Role::Admin];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Identity => "identity",
            Role::Guard => "guard",
            Role::Accounting => "accounting",
            Role::Worker => "worker",
            Role::Intake => "intake",
            Role::Edge => "edge",
            Role::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(given: &str) -> Result<Role, String> {
        let known = || Role::ALL.map(Role::name).join(", ");
        Role::ALL
            .into_iter()
            .find(|role| role.name() == given)
            .ok_or_else(|| format!("`{given}` is no role; there are: {}", known()))
    }
}

/// What roles are made of.
pub(crate) struct Parts<'a> {
    /// What cannot change while roles run.
    pub(crate) config: &'a Config,
    /// What can.
    pub(crate) live: Live,
    pub(crate) bus: Bus,
    pub(crate) tenancy: Tenancy,
    pub(crate) tasks: Tasks,
    /// With the accounts of farebox: the keys that sign them.
    pub(crate) keyring: Option<Keyring>,
    pub(crate) clickhouse_url: String,
    /// What opens the admin API where the config says nothing.
    pub(crate) master_key: Option<SecretString>,
}

/// Roles that run, and how they are stopped in order.
pub(crate) struct Running {
    stages: Vec<Stage>,
    /// Where those listen that do.
    pub(crate) listening: BTreeMap<Role, SocketAddr>,
}

/// What drains a part, and what closes when it has ended.
type Stage = (farebox_runtime::DrainTrigger, oneshot::Receiver<()>);

impl Running {
    /// Drains one role after the other, the last one started first: who needs another is gone before it.
    pub(crate) async fn stop(self) {
        for (trigger, ended) in self.stages.into_iter().rev() {
            trigger.drain();
            // It closes when the role has ended, however it ended.
            let _ = ended.await;
        }
    }
}

/// Starts roles in their order.
pub(crate) async fn start(parts: &Parts<'_>, roles: &BTreeSet<Role>) -> Result<Running> {
    let mut listening = BTreeMap::new();
    let (mut stages, directory) = follow(parts, roles).await.context("keys and rules cannot be read")?;
    for role in Role::ALL.into_iter().filter(|role| roles.contains(role)) {
        let (trigger, drain) = farebox_runtime::drain();
        let (alive, ended) = oneshot::channel();
        let start = Start { parts, directory: directory.clone(), role, drain, alive };
        let addr = start.run().await.with_context(|| format!("the role `{}` cannot start", role.name()))?;
        listening.extend(addr.map(|addr| (role, addr)));
        stages.push((trigger, ended));
    }
    Ok(Running { stages, listening })
}

/// Follows keys and rules, until all roles have ended.
async fn follow(parts: &Parts<'_>, roles: &BTreeSet<Role>) -> Result<(Vec<Stage>, Directory)> {
    // Who opens no keys need not be able to read those of the config.
    let opens = [Role::Identity, Role::Edge, Role::Admin].iter().any(|role| roles.contains(role));
    let pepper = parts.keyring.as_ref().filter(|_| opens).map(|keyring| pepper(parts.config, keyring)).transpose()?;
    let rules = parts.live.made("rules", move |now, _| crate::rules::in_force(&now.config.value, pepper.as_ref()))?;
    let live = farebox_directory::Live::open(&parts.bus, rules, parts.config.directory.clone()).await?;
    let directory = live.directory();
    let (trigger, drain) = farebox_runtime::drain();
    let (alive, ended) = oneshot::channel();
    parts.tasks.spawn("directory", finishing(live.run(drain), alive));
    Ok((vec![(trigger, ended)], directory))
}

/// A role that is to run.
struct Start<'a> {
    parts: &'a Parts<'a>,
    directory: Directory,
    role: Role,
    drain: Drain,
    /// Dropped when it has ended.
    alive: oneshot::Sender<()>,
}

/// Each puts a role together and runs it. Those that listen return where.
impl Start<'_> {
    async fn run(self) -> Result<Option<SocketAddr>> {
        match self.role {
            Role::Identity => self.identity().await?,
            Role::Guard => self.guard(),
            Role::Accounting => self.accounting()?,
            Role::Worker => self.worker()?,
            Role::Intake => self.intake()?,
            Role::Edge => return self.edge().await,
            Role::Admin => return self.admin().await,
        }
        Ok(None)
    }

    /// What tells this one from others that do the same.
    fn id(&self) -> String {
        format!("{}-{}", self.role.name(), uuid::Uuid::now_v7().simple())
    }

    async fn identity(self) -> Result<()> {
        let Parts { config, bus, keyring, tasks, .. } = self.parts;
        let Some(keyring) = keyring.clone() else { return Ok(()) };
        let service = farebox_identity::Identity::create(farebox_identity::Deps {
            options: config.identity.clone(),
            bus: bus.options().clone(),
            pepper: pepper(config, &keyring)?,
            keyring,
            directory: self.directory,
            clock: Arc::new(SystemClock),
        });
        tasks.spawn(self.role.name(), finishing(service.await?.run(self.drain), self.alive));
        Ok(())
    }

    fn guard(self) {
        let Parts { config, bus, tenancy, tasks, .. } = self.parts;
        let deps = farebox_guard::Deps {
            bus: bus.clone(),
            tenancy: *tenancy,
            clock: Arc::new(SystemClock),
            guard_id: self.id(),
            directory: self.directory,
        };
        let service = farebox_guard::Service::create(config.guard.clone(), deps);
        tasks.spawn(self.role.name(), finishing(service.run(self.drain), self.alive));
    }

    fn accounting(self) -> Result<()> {
        let Parts { config, bus, tenancy, tasks, clickhouse_url, .. } = self.parts;
        let mut clickhouse = config.clickhouse.connection.clone();
        clickhouse.url.clone_from(clickhouse_url);
        let deps = farebox_accounting::Deps {
            bus: bus.clone(),
            tenancy: *tenancy,
            clock: Arc::new(SystemClock),
            clickhouse: farebox_clickhouse::Client::new(&clickhouse, &environment())?,
            accountant_id: self.id(),
            operators: config.guard.operators_project.clone(),
        };
        let service = farebox_accounting::Service::create(config.accounting.clone(), deps);
        tasks.spawn(self.role.name(), finishing(service.run(self.drain), self.alive));
        Ok(())
    }

    fn worker(self) -> Result<()> {
        let Parts { config, live, bus, tenancy, tasks, .. } = self.parts;
        let deps = farebox_worker::Deps {
            bus: bus.clone(),
            tenancy: *tenancy,
            clock: Arc::new(SystemClock),
            tasks: tasks.clone(),
            worker_id: self.id(),
            upstream: live.made(self.role.name(), upstream(config.worker.clone()))?,
            directory: self.directory,
            env: environment(),
        };
        let service = farebox_worker::Service::create(config.worker.clone(), deps);
        tasks.spawn(self.role.name(), finishing(service.run(self.drain), self.alive));
        Ok(())
    }

    fn intake(self) -> Result<()> {
        let Parts { config, live, bus, tenancy, tasks, .. } = self.parts;
        let deps = farebox_intake::Deps {
            bus: bus.clone(),
            tenancy: *tenancy,
            clock: Arc::new(SystemClock),
            tasks: tasks.clone(),
            directory: self.directory,
            keys: keys(config),
            routes: live.made(self.role.name(), |now, _| routes(&now.config))?,
        };
        let service = farebox_intake::Service::create(config.intake.clone(), deps);
        tasks.spawn(self.role.name(), finishing(service.run(self.drain), self.alive));
        Ok(())
    }

    async fn edge(self) -> Result<Option<SocketAddr>> {
        let Parts { config, live, bus, tasks, .. } = self.parts;
        let Some(pepper) = opener(self.parts)? else {
            tracing::warn!("there is no HTTP edge without keys of farebox's own: set identity.pepper");
            return Ok(None);
        };
        let deps = farebox_edge::Deps {
            bus: bus.clone(),
            clock: Arc::new(SystemClock),
            tasks: tasks.clone(),
            env: environment(),
            directory: self.directory,
            pepper,
            offered: live.made(self.role.name(), |now, _| Ok(offered(&now.config.value)))?,
        };
        let service = farebox_edge::Service::create(config.listen.http, config.edge.clone(), deps).await?;
        let addr = service.addr();
        tracing::info!("the HTTP edge listens on {}://{addr}", config.edge.scheme());
        tasks.spawn(self.role.name(), finishing(service.run(self.drain), self.alive));
        Ok(Some(addr))
    }

    async fn admin(self) -> Result<Option<SocketAddr>> {
        let Parts { config, live, bus, tenancy, tasks, master_key, .. } = self.parts;
        let Some(pepper) = opener(self.parts)? else {
            tracing::warn!("there is no admin API without keys of farebox's own: set identity.pepper");
            return Ok(None);
        };
        let rules = {
            let pepper = pepper.clone();
            live.made(self.role.name(), move |now, _| crate::rules::in_force(&now.config.value, Some(&pepper)))?
        };
        let offers = |now: &InForce, _: Option<&Offers>| {
            let Routes { catalog, prices } = routes(&now.config)?;
            Ok(Offers { catalog, prices })
        };
        let config_max = config.nats.storage.config_max_bytes.0;
        let project_secrets = config.worker.project_secrets.clone();
        let deps = farebox_admin::Deps {
            bus: bus.clone(),
            tenancy: *tenancy,
            clock: Arc::new(SystemClock),
            env: environment(),
            directory: self.directory,
            store: Store::new(bus, rules),
            config: ConfigBook::new(bus.bucket(topology::CONFIG), Arc::new(live.clone()), config_max),
            pepper,
            master_key: master_key.clone(),
            nameable: Arc::new(move |secret: &Secret| project_secrets.allows(secret)),
            offers: live.made(self.role.name(), offers)?,
        };
        let service = farebox_admin::Service::create(config.listen.grpc, config.admin.clone(), deps).await?;
        let addr = service.addr();
        tracing::info!("the admin API listens on {}://{addr}", config.admin.scheme());
        tasks.spawn(self.role.name(), finishing(service.run(self.drain), self.alive));
        Ok(Some(addr))
    }
}

/// Whose keys the NATS server lets in: farebox's own, where it signs the accounts.
fn keys(options: &Config) -> Keys {
    if options.nats.url == EMBEDDED || options.identity.root_key.is_some() { Keys::Own } else { Keys::Foreign }
}

/// What opens keys. None: the NATS server has users of its own, and farebox no keys.
fn opener(parts: &Parts<'_>) -> Result<Option<Pepper>> {
    match (&parts.keyring, &parts.config.identity.pepper) {
        (Some(keyring), _) => pepper(parts.config, keyring).map(Some),
        (None, Some(reference)) => resolved_pepper(reference).map(Some),
        (None, None) => Ok(None),
    }
}

/// What hashes of keys are keyed with.
fn pepper(options: &Config, keyring: &Keyring) -> Result<Pepper> {
    let Some(reference) = &options.identity.pepper else { return Ok(keyring.pepper()) };
    resolved_pepper(reference)
}

fn resolved_pepper(reference: &Secret) -> Result<Pepper> {
    let secret = farebox_config::resolve(reference, "identity.pepper", &environment())?;
    Ok(farebox_identity::pepper_of(secret.expose_secret()))
}

/// Lives as long as the role does.
async fn finishing<T>(running: impl Future<Output = T> + Send, alive: oneshot::Sender<()>) -> T {
    let ended = running.await;
    drop(alive);
    ended
}

/// The credentials of a role (or of all together) in farebox's own account.
pub(crate) fn login(keyring: &Keyring, role: farebox_identity::Role) -> Result<Login> {
    let accounts = Accounts::new(keyring.clone(), SystemClock.now());
    Ok(Login::Creds(accounts.role_credentials(role)?))
}

/// What signs the accounts: of the embedded server the root in the data directory, of others the one that the config
/// names.
pub(crate) fn keyring(options: &Config, data: &Path) -> Result<Option<Keyring>> {
    if options.nats.url == EMBEDDED {
        return Ok(Some(Keyring::load_or_create(&data.join("nats").join("keys"))?));
    }
    let Some(reference) = &options.identity.root_key else { return Ok(None) };
    let secret = farebox_config::resolve(reference, "identity.root_key", &environment())?;
    Ok(Some(Keyring::from_text(secret.expose_secret()).context("identity.root_key")?))
}
