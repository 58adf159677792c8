//! The roles of farebox, put together from config and a connection. `up` and `farebox <role>` run the same ones.

use std::{collections::BTreeSet, net::SocketAddr, path::Path, str::FromStr, sync::Arc};

use anyhow::{Context, Result};
use farebox_admin::{ConfigBook, Offers};
use farebox_bus::{Bus, Login, topology};
use farebox_config::{ConfigFault, Env, Loaded, SecretFault};
use farebox_credentials::{Aws, Credentials, Entra, EntraApplication, EntraProof, Google};
use farebox_directory::{Directory, Keys, Store};
use farebox_edge::Offered;
use farebox_identity::{Accounts, Keyring};
use farebox_intake::Routes;
use farebox_policy::Pepper;
use farebox_pricing::PriceBook;
use farebox_proto::subjects::Tenancy;
use farebox_providers::{AwsCredentials, Catalog, Identity, Provider};
use farebox_runtime::{Drain, Tasks};
use farebox_types::{Clock, Secret, SystemClock};
use farebox_worker::{Connection, Upstream};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::oneshot;

use crate::{
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
    /// Where the HTTP edge listens.
    pub(crate) http: Option<SocketAddr>,
    /// Where the admin API listens.
    pub(crate) grpc: Option<SocketAddr>,
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
    let (mut http, mut grpc) = (None, None);
    let (mut stages, directory) = follow(parts, roles).await.context("keys and rules cannot be read")?;
    for role in Role::ALL.into_iter().filter(|role| roles.contains(role)) {
        let (trigger, drain) = farebox_runtime::drain();
        let (alive, ended) = oneshot::channel();
        let started = match role {
            Role::Edge => serve_http(parts, &directory, drain, alive).await.map(|addr| http = addr),
            Role::Admin => serve(parts, &directory, drain, alive).await.map(|addr| grpc = addr),
            role => spawn(parts, &directory, role, drain, alive).await,
        };
        started.with_context(|| format!("the role `{}` cannot start", role.name()))?;
        stages.push((trigger, ended));
    }
    Ok(Running { stages, http, grpc })
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
    parts.tasks.spawn("directory", async move {
        live.run(drain).await;
        drop(alive);
    });
    Ok((vec![(trigger, ended)], directory))
}

async fn spawn(
    parts: &Parts<'_>,
    directory: &Directory,
    role: Role,
    drain: Drain,
    alive: oneshot::Sender<()>,
) -> Result<()> {
    let Parts { config: options, live, bus, tenancy, tasks, .. } = parts;
    let (bus, tenancy) = (bus.clone(), *tenancy);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let id = format!("{}-{}", role.name(), uuid::Uuid::now_v7().simple());
    match role {
        Role::Identity => {
            let Some(keyring) = parts.keyring.clone() else { return Ok(()) };
            let deps = farebox_identity::Deps {
                options: options.identity.clone(),
                bus: bus.options().clone(),
                pepper: pepper(options, &keyring)?,
                keyring,
                directory: directory.clone(),
                clock,
            };
            let service = farebox_identity::Identity::create(deps).await?;
            tasks.spawn(role.name(), finishing(service.run(drain), alive));
        }
        Role::Guard => {
            let directory = directory.clone();
            let deps = farebox_guard::Deps { bus, tenancy, clock, directory, guard_id: id };
            let service = farebox_guard::Service::create(options.guard.clone(), deps);
            tasks.spawn(role.name(), finishing(service.run(drain), alive));
        }
        Role::Accounting => {
            let mut clickhouse = options.clickhouse.connection.clone();
            clickhouse.url.clone_from(&parts.clickhouse_url);
            let clickhouse = farebox_clickhouse::Client::new(&clickhouse, &environment())?;
            let operators = options.guard.operators_project.clone();
            let deps = farebox_accounting::Deps { bus, tenancy, clock, clickhouse, accountant_id: id, operators };
            let service = farebox_accounting::Service::create(options.accounting.clone(), deps);
            tasks.spawn(role.name(), finishing(service.run(drain), alive));
        }
        Role::Worker => {
            let deps = farebox_worker::Deps {
                bus,
                tenancy,
                clock,
                tasks: tasks.clone(),
                worker_id: id,
                upstream: live.made(role.name(), upstream(options.worker.clone()))?,
                directory: directory.clone(),
                env: environment(),
            };
            let service = farebox_worker::Service::create(options.worker.clone(), deps);
            tasks.spawn(role.name(), finishing(service.run(drain), alive));
        }
        Role::Intake => {
            let deps = farebox_intake::Deps {
                bus,
                tenancy,
                clock,
                tasks: tasks.clone(),
                directory: directory.clone(),
                keys: keys(options),
                routes: live.made(role.name(), |now, _| routes(&now.config))?,
            };
            let service = farebox_intake::Service::create(options.intake.clone(), deps);
            tasks.spawn(role.name(), finishing(service.run(drain), alive));
        }
        Role::Edge | Role::Admin => anyhow::bail!("what listens is served, not spawned"),
    }
    Ok(())
}

/// Serves the HTTP edge and says where.
async fn serve_http(
    parts: &Parts<'_>,
    directory: &Directory,
    drain: Drain,
    alive: oneshot::Sender<()>,
) -> Result<Option<SocketAddr>> {
    let Parts { config: options, live, bus, tasks, .. } = parts;
    let Some(pepper) = opener(parts)? else {
        tracing::warn!("there is no HTTP edge without keys of farebox's own: set identity.pepper");
        return Ok(None);
    };
    let deps = farebox_edge::Deps {
        bus: bus.clone(),
        clock: Arc::new(SystemClock),
        tasks: tasks.clone(),
        env: environment(),
        directory: directory.clone(),
        pepper,
        offered: live.made(Role::Edge.name(), |now, _| Ok(offered(&now.config.value)))?,
    };
    let service = farebox_edge::Service::create(options.listen.http, options.edge.clone(), deps).await?;
    let addr = service.addr();
    tracing::info!("the HTTP edge listens on {}://{addr}", options.edge.scheme());
    tasks.spawn(Role::Edge.name(), async move {
        service.run(drain).await;
        drop(alive);
    });
    Ok(Some(addr))
}

/// What can be asked for by name: models, and what routing turns into one.
fn offered(config: &Config) -> Vec<Offered> {
    let provider = |alias: &str| {
        let model = config.models.get(alias);
        model.and_then(|model| model.deployments.first()).map(|first| first.target.provider.clone()).unwrap_or_default()
    };
    let models = config.models.keys().map(|alias| (alias.clone(), alias));
    let tasks = config.routing.tasks.iter().map(|(task, alias)| (format!("task:{task}"), alias));
    let agents = config.routing.agents.iter().map(|(agent, alias)| (format!("agent:{agent}"), alias));
    models.chain(tasks).chain(agents).map(|(name, alias)| Offered { alias: name, provider: provider(alias) }).collect()
}

/// Serves the admin API and says where.
async fn serve(
    parts: &Parts<'_>,
    directory: &Directory,
    drain: Drain,
    alive: oneshot::Sender<()>,
) -> Result<Option<SocketAddr>> {
    let Parts { config: options, live, bus, tenancy, tasks, .. } = parts;
    let Some(pepper) = opener(parts)? else {
        tracing::warn!("there is no admin API without keys of farebox's own: set identity.pepper");
        return Ok(None);
    };
    let rules = {
        let pepper = pepper.clone();
        live.made(Role::Admin.name(), move |now, _| crate::rules::in_force(&now.config.value, Some(&pepper)))?
    };
    let offers = |now: &InForce, _: Option<&Offers>| {
        let Routes { catalog, prices } = routes(&now.config)?;
        Ok(Offers { catalog, prices })
    };
    let config_max = options.nats.storage.config_max_bytes.0;
    let project_secrets = options.worker.project_secrets.clone();
    let deps = farebox_admin::Deps {
        bus: bus.clone(),
        tenancy: *tenancy,
        clock: Arc::new(SystemClock),
        env: environment(),
        directory: directory.clone(),
        store: Store::new(bus, rules),
        config: ConfigBook::new(bus.bucket(topology::CONFIG), Arc::new(live.clone()), config_max),
        pepper,
        master_key: parts.master_key.clone(),
        nameable: Arc::new(move |secret: &Secret| project_secrets.allows(secret)),
        offers: live.made(Role::Admin.name(), offers)?,
    };
    let service = farebox_admin::Service::create(options.listen.grpc, options.admin.clone(), deps).await?;
    let addr = service.addr();
    tracing::info!("the admin API listens on {}://{addr}", options.admin.scheme());
    tasks.spawn(Role::Admin.name(), finishing(service.run(drain), alive));
    Ok(Some(addr))
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

fn routes(config: &Loaded<Config>) -> Result<Routes> {
    Ok(Routes { catalog: catalog(config)?, prices: PriceBook::with_overrides(&config.value.prices)? })
}

/// How a worker with these options makes its providers of a config.
fn upstream(options: farebox_worker::Options) -> impl FnMut(&InForce, Option<&Upstream>) -> Result<Upstream> + Send {
    move |now, before| {
        let egress = now.config.value.egress.clone();
        Ok(Upstream::new(&options, egress, Arc::new(SystemClock), connections(&now.config)?, before)?)
    }
}

/// Lives as long as the role does.
async fn finishing<E>(
    running: impl Future<Output = Result<(), E>> + Send,
    alive: oneshot::Sender<()>,
) -> Result<(), E> {
    let ended = running.await;
    drop(alive);
    ended
}

fn catalog(config: &Loaded<Config>) -> Result<Catalog> {
    let Config { providers, models, routing, egress, .. } = &config.value;
    Catalog::new(providers, models, routing, egress).map_err(|faults| {
        placed(config, faults.into_iter().map(|fault| ConfigFault::new(&fault.path, fault.message)).collect())
    })
}

/// All providers with what they want to see. A secret that is not there is a fault of the config.
fn connections(config: &Loaded<Config>) -> Result<Vec<Connection>> {
    let env = environment();
    let mut faults = Vec::new();
    let mut connections = Vec::new();
    for provider in catalog(config)?.providers() {
        match credentials(provider, &env) {
            Ok(credentials) => connections.push(Connection { provider: provider.clone(), credentials }),
            Err(fault) => faults.push(fault.into_config_fault()),
        }
    }
    if faults.is_empty() { Ok(connections) } else { Err(placed(config, faults)) }
}

fn credentials(provider: &Provider, env: &Env) -> Result<Credentials, SecretFault> {
    let resolve = |secret: &Secret, option: &str| {
        farebox_config::resolve(secret, &format!("providers.{}.{option}", provider.name), env)
    };
    let maybe = |secret: &Option<Secret>, option: &str| secret.as_ref().map(|s| resolve(s, option)).transpose();
    let options = &provider.options;
    Ok(match &provider.identity {
        Identity::Anonymous => Credentials::None,
        Identity::Key { secret } => {
            // Read for every call: whether it is there is found now.
            resolve(secret, "api_key")?;
            Credentials::Key(secret.clone())
        }
        Identity::Aws { region } => {
            let aws = options.aws.clone().unwrap_or_default();
            let id = maybe(&aws.access_key_id, "aws.access_key_id")?;
            let secret = maybe(&aws.secret_access_key, "aws.secret_access_key")?;
            let session_token = maybe(&aws.session_token, "aws.session_token")?;
            let keys = id.zip(secret).map(|(id, secret_key)| AwsCredentials {
                access_key: id.expose_secret().to_owned(),
                secret_key,
                session_token,
            });
            Credentials::Aws(Aws::new(region.clone(), keys, aws.profile))
        }
        Identity::Google => Credentials::Google(Google::new(maybe(&options.google_credentials, "google_credentials")?)),
        Identity::Entra(entra) => {
            let proof = match (&entra.client_secret, &entra.token_file) {
                (Some(secret), _) => EntraProof::Secret(resolve(secret, "entra.client_secret")?),
                (None, file) => EntraProof::TokenFile(file.clone().unwrap_or_default()),
            };
            Credentials::Entra(Entra::new(EntraApplication {
                authority: entra.authority.clone(),
                tenant_id: entra.tenant_id.clone(),
                client_id: entra.client_id.clone(),
                scope: entra.scope.clone(),
                proof,
            }))
        }
    })
}

/// Faults with their place in the config file.
fn placed(config: &Loaded<Config>, faults: Vec<ConfigFault>) -> anyhow::Error {
    match config.place(faults) {
        Some(error) => error.into(),
        None => anyhow::anyhow!("the config is not usable"),
    }
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
