//! What every process of farebox begins with: its data directory, its runtime, its connection.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use data_encoding::HEXLOWER;
use farebox_bus::{Bus, Login, topology};
use farebox_config::Loaded;
use farebox_identity::Keyring;
use farebox_proto::subjects::Tenancy;
use farebox_runtime::{Signals, Tasks};
use secrecy::SecretString;

use crate::{
    addresses::Addresses,
    config::{Base, Config, EMBEDDED, Nats, environment},
    live::Live,
    roles::{self, Parts, Role},
};

/// In the data directory: the key of whoever runs farebox on it.
pub(crate) const ADMIN_KEY: &str = "admin.key";

/// Where the config is, and where data is kept.
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    /// Config file [default: farebox.yaml, if there is one]
    #[arg(long, env = "FAREBOX_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory for everything that is kept [default: $XDG_DATA_HOME/farebox]
    #[arg(long, env = "FAREBOX_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Sets one value of the config, as in `--set guard.max_cost_per_day=100`; may be repeated
    #[arg(long = "set", value_name = "PATH=VALUE", value_parser = pair)]
    pub(crate) set: Vec<(String, String)>,
}

fn pair(given: &str) -> Result<(String, String), String> {
    let (path, value) = given.split_once('=').ok_or("write PATH=VALUE, as in `guard.lease=6s`")?;
    Ok((path.to_owned(), value.to_owned()))
}

impl Place {
    pub(crate) fn base(&self) -> Result<Base> {
        Ok(Base::read(self.config.as_deref(), self.set.clone())?)
    }

    pub(crate) fn load(&self) -> Result<Loaded<Config>> {
        Ok(self.base()?.load()?)
    }

    pub(crate) fn data(&self) -> Result<PathBuf> {
        data_dir(self.data.as_deref())
    }
}

/// The data directory: as given, else below the user's own.
pub(crate) fn data_dir(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        return Ok(std::path::absolute(given)?);
    }
    let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share")));
    Ok(base.context("no home directory is known: say where data is kept with --data DIR")?.join("farebox"))
}

/// Makes the directory, for its owner only, and keeps others out while this process lives.
pub(crate) fn lock(data: &Path) -> Result<File> {
    fs::create_dir_all(data).with_context(|| format!("cannot make the data directory {}", data.display()))?;
    let path = data.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!("another farebox is running on {}: stop it, or choose another directory with --data DIR", data.display());
    }
    Ok(file)
}

/// The key of whoever runs farebox on a data directory: it opens the admin API. Made at the first start.
pub(crate) fn master_key(data: &Path) -> Result<SecretString> {
    let path = data.join(ADMIN_KEY);
    let unusable = || format!("the admin key {} cannot be used", path.display());
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    match made {
        Ok(mut file) => {
            let key = HEXLOWER.encode(&rand::random::<[u8; 32]>());
            file.write_all(key.as_bytes()).and_then(|()| file.sync_all()).with_context(unusable)?;
            Ok(key.into())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok(fs::read_to_string(&path).with_context(unusable)?.trim().into())
        }
        Err(error) => Err(error).with_context(unusable),
    }
}

/// Runs until it is done, on as many threads as the config says.
pub(crate) fn block_on<T>(threads: usize, work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut builder = match threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()?.block_on(work)
}

/// `farebox <role>`: one role, connected to a NATS server that runs already.
pub(crate) async fn run_role(place: &Place, role: Role) -> Result<()> {
    let base = place.base()?;
    let loaded = base.load()?;
    farebox_telemetry::init(&loaded.value.logs)?;
    let nats = &loaded.value.nats;
    let data = place.data()?;
    let embedded = nats.url == EMBEDDED;
    let running = if embedded { Some(Addresses::read(&data)?) } else { None };
    let url = running.as_ref().map_or_else(|| nats.url.clone(), |running| running.nats.clone());
    // Who has credentials of its own need not be trusted with the root of all of them.
    let signs = embedded || role == Role::Identity || nats.credentials.is_none();
    let keyring = if signs { roles::keyring(&loaded.value, &data)? } else { None };
    let login = login(nats, keyring.as_ref(), identity_of(role))?;
    let options = farebox_bus::Options { url, name: format!("farebox {}", role.name()), ..nats.connection.clone() };
    let bus = Bus::connect_as(&options, login).await?;
    let tenancy = tenancy(nats);
    topology::ensure_topology(&bus, tenancy, &nats.storage).await?;
    let clickhouse_url = match (&running, loaded.value.clickhouse.url.as_str()) {
        (Some(running), EMBEDDED) => running.clickhouse.clone(),
        (_, url) => url.to_owned(),
    };
    let (trigger, _) = farebox_runtime::drain();
    let tasks = Tasks::new(trigger);
    let live = Live::start(base, &bus, &tasks).await?;
    let master_key = if embedded { Some(master_key(&data)?) } else { None };
    let parts =
        Parts { config: &loaded.value, live, bus, tenancy, tasks: tasks.clone(), keyring, clickhouse_url, master_key };
    let started = roles::start(&parts, &BTreeSet::from([role])).await?;
    let drain = tasks.drain();
    tasks.spawn("shutdown", async move {
        drain.signaled().await;
        started.stop().await;
    });
    finish(&tasks, &loaded.value).await
}

/// Whether the server knows projects. Said once at the start: on a server of the other kind nobody is heard.
pub(crate) fn tenancy(nats: &Nats) -> Tenancy {
    if nats.url == EMBEDDED || nats.accounts {
        tracing::info!("one account per project: callers are told apart by the NATS server");
        Tenancy::Projects
    } else {
        tracing::info!("one tenant: this NATS server has no accounts of farebox (nats.accounts)");
        Tenancy::Single
    }
}

/// How a role shows who it is: with farebox's own keys, or as the config says.
pub(crate) fn login(nats: &Nats, keyring: Option<&Keyring>, role: farebox_identity::Role) -> Result<Login> {
    match (&nats.credentials, keyring) {
        (Some(secret), _) if nats.url != EMBEDDED => {
            let secret = farebox_config::resolve(secret, "nats.credentials", &environment())?;
            Ok(Login::from_secret(secrecy::ExposeSecret::expose_secret(&secret)))
        }
        (_, Some(keyring)) => roles::login(keyring, role),
        (_, None) => Ok(Login::None),
    }
}

/// Waits for the end of all tasks.
pub(crate) async fn finish(tasks: &Tasks, config: &Config) -> Result<()> {
    let ended = tasks.run(Signals::listen()?, config.process.drain_timeout.get()).await;
    if let Err(error @ farebox_runtime::RunError::Interrupted { .. }) = &ended {
        std::process::exit(error.exit_code().into());
    }
    Ok(ended?)
}

fn identity_of(role: Role) -> farebox_identity::Role {
    match role {
        Role::Guard => farebox_identity::Role::Guard,
        Role::Worker => farebox_identity::Role::Worker,
        Role::Accounting => farebox_identity::Role::Accounting,
        Role::Edge => farebox_identity::Role::Edge,
        Role::Admin => farebox_identity::Role::Admin,
        Role::Intake | Role::Identity => farebox_identity::Role::Intake,
    }
}
