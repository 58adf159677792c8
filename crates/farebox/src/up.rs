//! `farebox up`: all roles in one process, over a real NATS server and a real ClickHouse that it starts itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use farebox_bus::{Bus, topology};
use farebox_emulator::Emulator;
use farebox_identity::{Accounts, Keyring, ServerConf};
use farebox_parts::{ClickHouse, ClickHouseOptions, Fetch, Launcher, NatsOptions, NatsServer, Progress};
use farebox_runtime::{Drain, Tasks, write_ready_file};
use farebox_types::{Clock, SystemClock};
use secrecy::SecretString;
use tokio::time::{Instant, sleep};

use crate::{
    addresses::Addresses,
    config::{Base, Config, EMBEDDED},
    live::Live,
    output::say,
    process::{ADMIN_KEY, Place, finish, lock, login, master_key, tenancy},
    roles::{self, Parts, Role, Running},
};

#[derive(Args, Debug)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Written when everything answers: one line of JSON with the addresses
    #[arg(long, env = "FAREBOX_READY_FILE", value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Adds a provider emulator with two models, so that everything can be tried without any provider's key
    #[arg(long)]
    demo: bool,
    /// Runs only these roles here; others are started with `farebox <role> --data DIR`
    #[arg(long, value_name = "ROLES", value_delimiter = ',')]
    roles: Option<Vec<String>>,
}

/// The servers that this process has started. Dropping it stops them.
#[derive(Default)]
struct Servers {
    nats: Option<NatsServer>,
    clickhouse: Option<ClickHouse>,
}

pub(crate) async fn run(args: UpArgs) -> Result<()> {
    let mut base = args.place.base()?;
    let mut loaded = base.load()?;
    farebox_telemetry::init(&loaded.value.logs)?;
    let wanted = wanted(args.roles.as_deref())?;
    let data = args.place.data()?;
    let _lock = lock(&data)?;
    let emulator = if args.demo { Some(Emulator::start(farebox_emulator::Options::default()).await?) } else { None };
    if let Some(emulator) = &emulator {
        base.demo = Some(emulator.base_url());
        loaded = base.load()?;
    }
    if loaded.value.models.is_empty() {
        say("no models are configured: write farebox.yaml, or try `farebox up --demo`");
    }
    let (trigger, _) = farebox_runtime::drain();
    let tasks = Tasks::new(trigger);
    let keyring = roles::keyring(&loaded.value, &data)?;
    let servers = start_servers(&loaded.value, &data, keyring.as_ref()).await?;
    let mut addresses = addresses(&loaded.value, &servers, emulator.as_ref());
    let (running, bus) =
        start_roles(base, &loaded.value, &addresses, &tasks, keyring, &wanted, master_key(&data)?).await?;
    let url = |role, scheme: &str| running.listening.get(&role).map(|addr| format!("{scheme}://{addr}"));
    addresses.http = url(Role::Edge, loaded.value.edge.scheme());
    addresses.grpc = url(Role::Admin, loaded.value.admin.scheme());
    let line = serde_json::to_string(&addresses)?;
    // Roles in other processes find the servers by it, and some of those here may wait for them.
    write_ready_file(&Addresses::file(&data), &line)?;
    let (stop_servers, stop) = farebox_runtime::drain();
    keep_alive(&tasks, &loaded.value, &data, servers, &stop);
    let (drain, gone) = (tasks.drain(), Addresses::file(&data));
    tasks.spawn("shutdown", async move {
        drain.signaled().await;
        // Nobody is to find what is about to end; it may be gone already.
        let _ = fs::remove_file(gone);
        running.stop().await;
        stop_servers.drain();
    });
    let started = tasks.drain();
    let ready = tokio::select! {
        ready = answering(&bus, &wanted, loaded.value.process.start_timeout.get()) => ready,
        // A role has failed: its own reason comes first.
        () = started.signaled() => Err(anyhow::anyhow!("farebox could not start: see the log above")),
    };
    if let Err(late) = ready {
        tasks.finish(loaded.value.process.drain_timeout.get()).await?;
        return Err(late);
    }
    if let Some(path) = &args.ready_file {
        write_ready_file(path, &line)?;
    }
    announce(&loaded.value, &addresses, &data);
    let ended = finish(&tasks, &loaded.value).await;
    if let Some(emulator) = emulator {
        emulator.stop().await;
    }
    ended
}

fn wanted(given: Option<&[String]>) -> Result<BTreeSet<Role>> {
    let Some(given) = given else { return Ok(Role::ALL.into_iter().collect()) };
    given
        .iter()
        .filter(|name| name.as_str() != "none")
        .map(|name| name.parse::<Role>().map_err(anyhow::Error::msg))
        .collect()
}

fn cache_dir() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    Ok(base.context("no home directory is known: set XDG_CACHE_HOME")?.join("farebox/parts"))
}

fn fetch() -> Result<Fetch> {
    Ok(Fetch::new(cache_dir()?, std::env::var_os("PATH").unwrap_or_default()))
}

async fn start_servers(config: &Config, data: &Path, keyring: Option<&Keyring>) -> Result<Servers> {
    let fetch = fetch()?;
    let mut servers = Servers::default();
    if let (EMBEDDED, Some(keyring)) = (config.nats.url.as_str(), keyring) {
        let binary = fetch.nats_server(&progress).await?;
        let started = start_nats(config, data, keyring, binary, config.nats.listen).await;
        servers.nats = Some(started.with_context(|| not_up("NATS", "nats.listen", config.nats.listen))?);
    }
    if config.clickhouse.url == EMBEDDED {
        let started = start_clickhouse(config, data, &fetch, config.clickhouse.listen.port()).await;
        servers.clickhouse =
            Some(started.with_context(|| not_up("ClickHouse", "clickhouse.listen", config.clickhouse.listen))?);
    }
    Ok(servers)
}

/// Names the option that says where a server listens: its port may be taken.
fn not_up(server: &str, option: &str, listen: SocketAddr) -> String {
    format!("the embedded {server} server does not start ({option}: {listen})")
}

fn progress(step: Progress) {
    match step {
        Progress::Waiting { part } => say(&format!("waiting for another farebox that fetches {part} …")),
        Progress::Fetching { part, version, unpacked_mb } => {
            say(&format!("fetching {part} {version} ({unpacked_mb} MB unpacked, once) …"));
        }
        Progress::Unpacking { part } => say(&format!("unpacking {part} …")),
    }
}

async fn start_nats(
    config: &Config,
    data: &Path,
    keyring: &Keyring,
    binary: PathBuf,
    listen: SocketAddr,
) -> Result<NatsServer> {
    let dir = data.join("nats");
    let conf = ServerConf {
        max_payload: config.nats.max_payload,
        durability: config.nats.durability,
        ..ServerConf::new(listen, &dir)
    };
    let path = dir.join("nats-server.conf");
    fs::create_dir_all(&dir)?;
    fs::write(&path, conf.render(&Accounts::new(keyring.clone(), SystemClock.now()))?)?;
    Ok(NatsServer::start(NatsOptions::new(binary, path, dir.join("nats-server.log"))).await?)
}

/// This program, also when its file was replaced since it started.
fn own_program() -> Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() { Ok(running) } else { Ok(std::env::current_exe()?) }
}

async fn start_clickhouse(config: &Config, data: &Path, fetch: &Fetch, port: u16) -> Result<ClickHouse> {
    if !config.clickhouse.listen.ip().is_loopback() {
        bail!("clickhouse.listen must be a loopback address: the embedded server has no password");
    }
    let engine = fetch.clickhouse(&progress).await?;
    let launcher = Launcher { program: own_program()?, args: vec![OsString::from("internal-clickhouse")] };
    let dir = data.join("clickhouse");
    let mut options = ClickHouseOptions::new(engine, launcher, &dir, data.join("clickhouse.log"));
    options.http_port = port;
    Ok(ClickHouse::start(options).await?)
}

fn addresses(config: &Config, servers: &Servers, emulator: Option<&Emulator>) -> Addresses {
    let mut pids = BTreeMap::from([("farebox".to_owned(), std::process::id())]);
    if let Some(nats) = &servers.nats {
        pids.insert("nats".to_owned(), nats.pid());
    }
    if let Some(clickhouse) = &servers.clickhouse {
        pids.insert("clickhouse".to_owned(), clickhouse.pid());
    }
    Addresses {
        nats: servers.nats.as_ref().map_or_else(|| config.nats.url.clone(), NatsServer::url),
        clickhouse: servers.clickhouse.as_ref().map_or_else(|| config.clickhouse.url.clone(), ClickHouse::url),
        http: None,
        grpc: None,
        emulator: emulator.map(Emulator::base_url),
        pids,
    }
}

async fn start_roles(
    base: Base,
    config: &Config,
    addresses: &Addresses,
    tasks: &Tasks,
    keyring: Option<Keyring>,
    wanted: &BTreeSet<Role>,
    master_key: SecretString,
) -> Result<(Running, Bus)> {
    let nats = &config.nats;
    let login = login(nats, keyring.as_ref(), farebox_identity::Role::Up)?;
    let options =
        farebox_bus::Options { url: addresses.nats.clone(), name: "farebox up".to_owned(), ..nats.connection.clone() };
    let bus = Bus::connect_as(&options, login).await?;
    let tenancy = tenancy(nats);
    topology::ensure_topology(&bus, tenancy, &nats.storage).await?;
    let parts = Parts {
        config,
        live: Live::start(base, &bus, tasks).await?,
        bus: bus.clone(),
        tenancy,
        tasks: tasks.clone(),
        keyring,
        clickhouse_url: addresses.clickhouse.clone(),
        master_key: Some(master_key),
    };
    Ok((roles::start(&parts, wanted).await?, bus))
}

/// Waits until those who take requests and work answer.
async fn answering(bus: &Bus, roles: &BTreeSet<Role>, within: Duration) -> Result<()> {
    let until = Instant::now() + within;
    let pause = Duration::from_millis(20);
    for role in roles {
        while !answers(bus, *role).await {
            if Instant::now() >= until {
                bail!("the role `{}` did not answer within {within:?}: see the log above", role.name());
            }
            sleep(pause).await;
        }
    }
    Ok(())
}

/// A question that changes nothing.
async fn answers(bus: &Bus, role: Role) -> bool {
    let within = Duration::from_millis(500);
    match role {
        Role::Guard => farebox_edge::guard_answers(bus, within).await.is_ok(),
        Role::Worker => farebox_edge::worker_answers(bus, within).await.is_ok(),
        Role::Intake => farebox_edge::intake_answers(bus, within).await.is_ok(),
        // Whoever connects to what has been bound is answered.
        Role::Edge | Role::Accounting | Role::Identity | Role::Admin => true,
    }
}

fn announce(config: &Config, addresses: &Addresses, data: &Path) {
    say("farebox is up");
    if let Some(http) = &addresses.http {
        say(&format!("  HTTP        {http}   (base URL of OpenAI's and Anthropic's SDKs: {http}/v1, {http})"));
    }
    say(&format!("  NATS        {}   (agents publish llm.request here)", addresses.nats));
    say(&format!("  ClickHouse  {}   (table farebox.calls)", addresses.clickhouse));
    if let Some(grpc) = &addresses.grpc {
        say(&format!("  admin       {grpc}   (gRPC; the key is in {})", data.join(ADMIN_KEY).display()));
    }
    if let Some(emulator) = &addresses.emulator {
        say(&format!("  DEMO        {emulator}   (an emulator answers, not a real model)"));
    }
    say(&format!("  data        {}", data.display()));
    let models: Vec<&str> = config.models.keys().map(String::as_str).collect();
    say(&format!("  models      {}", if models.is_empty() { "none".to_owned() } else { models.join(", ") }));
    say("try: farebox call \"Hello\"     stop: Ctrl-C");
}

/// Between the end of a server and its next start.
const RESTART_PAUSE: Duration = Duration::from_millis(200);

/// Starts the servers again when they die, on the same ports and data, until `stop`; then stops them.
fn keep_alive(tasks: &Tasks, config: &Config, data: &Path, servers: Servers, stop: &Drain) {
    if let Some(nats) = servers.nats {
        let (config, data, stop) = (config.clone(), data.to_owned(), stop.clone());
        tasks.spawn("nats-server", async move { keep_nats(nats, config, data, stop).await });
    }
    if let Some(clickhouse) = servers.clickhouse {
        let (config, data, stop) = (config.clone(), data.to_owned(), stop.clone());
        tasks.spawn("clickhouse", async move { keep_clickhouse(clickhouse, config, data, stop).await });
    }
}

async fn keep_nats(mut nats: NatsServer, config: Config, data: PathBuf, stop: Drain) -> Result<()> {
    let listen = nats.addr();
    let keyring = roles::keyring(&config, &data)?.context("the embedded server has keys")?;
    loop {
        tokio::select! {
            exit = nats.wait() => tracing::warn!(?exit, "nats-server ended: starting it again"),
            () = stop.signaled() => {
                nats.stop().await;
                return Ok(());
            }
        }
        nats = loop {
            sleep(RESTART_PAUSE).await;
            let binary = fetch()?.nats_server(&progress).await?;
            match start_nats(&config, &data, &keyring, binary, listen).await {
                Ok(nats) => break nats,
                Err(_) if stop.is_draining() => return Ok(()),
                Err(error) => tracing::error!(%error, "nats-server does not start"),
            }
        };
    }
}

async fn keep_clickhouse(mut clickhouse: ClickHouse, config: Config, data: PathBuf, stop: Drain) -> Result<()> {
    let port = clickhouse.http_addr().port();
    loop {
        tokio::select! {
            exit = clickhouse.wait() => tracing::warn!(?exit, "ClickHouse ended: starting it again"),
            () = stop.signaled() => {
                clickhouse.stop().await;
                return Ok(());
            }
        }
        clickhouse = loop {
            sleep(RESTART_PAUSE).await;
            match start_clickhouse(&config, &data, &fetch()?, port).await {
                Ok(clickhouse) => break clickhouse,
                Err(_) if stop.is_draining() => return Ok(()),
                Err(error) => tracing::error!(%error, "ClickHouse does not start"),
            }
        };
    }
}
