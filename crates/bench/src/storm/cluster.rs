//! The processes of the storm.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use farebox_bus::{
    Bus, Login, Options,
    topology::{StorageOptions, ensure_topology},
};
use farebox_identity::{Accounts, Keyring, Role, ServerConf};
use farebox_parts::{NatsOptions, NatsServer};
use farebox_proto::{
    subjects::{self, Tenancy},
    v1,
};
use farebox_testkit::{Launcher, Process, TestClickHouse, free_port, nats_program};
use farebox_types::{ByteSize, Clock as _, SystemClock};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{stack::binary, table};

use super::{levels, provider::Provider};

const NODES: usize = 3;
const GUARDS: [&str; 2] = ["guard.1", "guard.2"];
pub(crate) const WORKERS: [&str; 4] = ["worker.1", "worker.2", "worker.3", "worker.4"];
/// In the order in which they are started.
const PROCESSES: [&str; 11] = [
    "identity.1",
    "accounting.1",
    "guard.1",
    "guard.2",
    "worker.1",
    "worker.2",
    "worker.3",
    "worker.4",
    "intake.1",
    "intake.2",
    "intake.3",
];

const START: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
const QUESTION: Duration = Duration::from_secs(2);
/// What a guard says when it leads.
const LEADS: &str = ": leading the ledger";

/// Everything that runs. It ends with this.
pub(crate) struct Cluster {
    roles: BTreeMap<&'static str, Process>,
    /// What those wrote that are no more.
    gone: Vec<(String, String)>,
    bus: Bus,
    clickhouse: TestClickHouse,
    nodes: Vec<NatsServer>,
    dir: TempDir,
}

impl Cluster {
    pub(crate) async fn start(farebox: Option<&Path>, provider: &Provider) -> anyhow::Result<Cluster> {
        let dir = tempfile::Builder::new().prefix("farebox-storm-").tempdir()?;
        // A build that runs meanwhile replaces the program: this storm goes on with the one it began with.
        let program = dir.path().join("farebox");
        fs::copy(binary(farebox)?, &program)?;
        let data = dir.path().join("data");
        let accounts = Accounts::new(Keyring::load_or_create(&data.join("nats/keys"))?, SystemClock.now());
        let nodes = start_nodes(dir.path(), &accounts).await?;
        let launcher = Launcher { program, args: vec!["internal-clickhouse".into()] };
        let clickhouse = TestClickHouse::start(launcher).await?;
        let addresses = serde_json::json!({ "nats": urls(&nodes, 0), "clickhouse": clickhouse.url(), "pids": {} });
        fs::write(data.join("farebox.json"), addresses.to_string())?;
        fs::write(dir.path().join("farebox.yaml"), config(dir.path(), provider)?)?;
        let login = Login::Creds(accounts.role_credentials(Role::Up)?);
        let options = Options { url: urls(&nodes, 0), name: "storm".to_owned(), ..Options::default() };
        let bus = Bus::connect_as(&options, login).await?;
        let mut cluster = Cluster { roles: BTreeMap::new(), gone: Vec::new(), bus, clickhouse, nodes, dir };
        cluster.start_roles().await?;
        Ok(cluster)
    }

    async fn start_roles(&mut self) -> anyhow::Result<()> {
        // The servers are up; that they have found each other is seen by their taking streams.
        let until = Instant::now() + START;
        while let Err(error) = ensure_topology(&self.bus, Tenancy::Projects, &storage()).await {
            ensure!(Instant::now() < until, "the NATS servers do not become a cluster: {error}");
            sleep(POLL).await;
        }
        for name in PROCESSES {
            self.start_role(name).await?;
        }
        for name in PROCESSES {
            while !self.is_ready(name) {
                let log = self.log(name);
                ensure!(Instant::now() < until, "{name} does not begin:\n{log}");
                if !self.roles[name].is_running() {
                    // Streams that were made a moment ago may not answer yet. Whatever runs farebox starts it again.
                    table::note(&format!("{name} ended at its start: {}", log.lines().last().unwrap_or_default()));
                    self.start_role(name).await?;
                }
                sleep(POLL).await;
            }
        }
        Ok(())
    }

    fn is_ready(&self, name: &'static str) -> bool {
        let said = |line: &str, names: &[&str]| names.iter().any(|name| self.log(name).contains(line));
        match role(name) {
            "identity" => true,
            "accounting" => said("writing calls to ClickHouse", &[name]),
            "guard" => said(LEADS, &GUARDS),
            "worker" => said("taking work", &[name]),
            _ => said("taking requests", &[name]),
        }
    }

    pub(crate) async fn start_role(&mut self, name: &'static str) -> anyhow::Result<()> {
        let process = Process::builder(self.dir.path().join("farebox"))
            .arg(role(name))
            .arg("--data")
            .arg(self.dir.path().join("data"))
            .arg("--config")
            .arg(self.dir.path().join("farebox.yaml"))
            .spawn()
            .await?;
        self.roles.insert(name, process);
        Ok(())
    }

    /// Callers' connections, each with a key, and to the servers in another order.
    pub(crate) async fn callers(&self) -> anyhow::Result<Vec<Bus>> {
        let mut connections = Vec::new();
        for (number, id) in levels::CONNECTIONS.into_iter().enumerate() {
            let url = urls(&self.nodes, number % NODES);
            let options = Options { url, name: format!("storm caller {number}"), ..Options::default() };
            connections.push(caller(&options, Login::Token(levels::key(id))).await?);
        }
        Ok(connections)
    }

    fn log(&self, name: &str) -> String {
        self.roles.get(name).map(Process::log).unwrap_or_default()
    }

    /// The guard that began to lead last, as far as it has said so.
    pub(crate) fn leader(&self) -> &'static str {
        // A line begins with its time.
        let began = |name: &str| self.log(name).lines().rfind(|line| line.contains(LEADS)).map(str::to_owned);
        GUARDS.into_iter().max_by_key(|name| began(name)).unwrap_or(GUARDS[0])
    }

    pub(crate) async fn kill9(&mut self, name: &'static str) {
        if let Some(process) = self.roles.remove(name) {
            process.kill9().await;
            self.gone.push((name.to_owned(), process.log()));
        }
    }

    pub(crate) fn stop(&self, name: &str) -> anyhow::Result<()> {
        ensure!(self.roles.get(name).is_some_and(Process::sigstop), "{name} cannot be stopped");
        Ok(())
    }

    pub(crate) fn go_on(&self, name: &str) -> anyhow::Result<()> {
        ensure!(self.roles.get(name).is_some_and(Process::sigcont), "{name} does not go on");
        Ok(())
    }

    /// Processes that have ended by themselves.
    pub(crate) fn ended(&self) -> Vec<&'static str> {
        self.roles.iter().filter(|(_, process)| !process.is_running()).map(|(name, _)| *name).collect()
    }

    /// Where the guard's budgets stand.
    pub(crate) async fn budgets(&self) -> anyhow::Result<v1::BudgetStatusReply> {
        let ask = v1::BudgetStatusRequest::default();
        Ok(self.bus.call(&subjects::budgets(subjects::SHARD), &ask, QUESTION).await?)
    }

    pub(crate) async fn clickhouse(&self, sql: &str) -> anyhow::Result<String> {
        self.clickhouse.query(sql).await
    }

    /// Leaves the directory, and in it what every process said.
    pub(crate) fn keep(&mut self) -> anyhow::Result<PathBuf> {
        self.dir.disable_cleanup(true);
        let running = self.roles.iter().map(|(name, process)| ((*name).to_owned(), process.log()));
        for (number, (name, log)) in self.gone.iter().cloned().chain(running).enumerate() {
            fs::write(self.dir.path().join(format!("{number:02}-{name}.log")), log)?;
        }
        Ok(self.dir.path().to_owned())
    }
}

/// Nobody is let in before the role `identity` is at work.
async fn caller(options: &Options, key: Login) -> anyhow::Result<Bus> {
    let until = Instant::now() + START;
    loop {
        match Bus::connect_as(options, key.clone()).await {
            Err(error) if Instant::now() >= until => return Err(error.into()),
            Err(_) => sleep(POLL).await,
            Ok(bus) => return Ok(bus),
        }
    }
}

fn role(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// Small ones: the servers reserve them.
fn storage() -> StorageOptions {
    let size = ByteSize(64 * 1024 * 1024);
    StorageOptions {
        replicas: 3,
        ledger_max_bytes: size,
        calls_max_bytes: size,
        jobs_max_bytes: size,
        results_max_bytes: size,
        bodies_max_bytes: size,
        ..StorageOptions::default()
    }
}

fn config(dir: &Path, provider: &Provider) -> anyhow::Result<String> {
    Ok(format!(
        "nats: {{ storage: {} }}\n\
         logs: {{ log: \"info,async_nats=warn\" }}\n\
         guard: {{ lease: 3s }}\n\
         worker: {{ heartbeat_interval: 500ms }}\n{}{}",
        serde_json::to_string(&storage())?,
        provider.config(),
        levels::config(dir)?,
    ))
}

async fn start_nodes(dir: &Path, accounts: &Accounts) -> anyhow::Result<Vec<NatsServer>> {
    let program = nats_program().await?;
    let ports: Vec<u16> = (0..NODES).map(|_| free_port()).collect::<Result<_, _>>()?;
    let routes: Vec<String> = ports.iter().map(|port| format!("\"nats-route://127.0.0.1:{port}\"")).collect();
    let routes = routes.join(", ");
    let start = async |number: usize, port: &u16| {
        let data = dir.join(format!("nats-{number}"));
        fs::create_dir_all(&data)?;
        let mut conf = ServerConf::new(([127, 0, 0, 1], 0).into(), &data);
        conf.server_name = format!("storm-{number}");
        let mut text = conf.render(accounts)?;
        text.push_str(&format!("cluster: {{ name: storm, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}\n"));
        let file = data.join("nats-server.conf");
        fs::write(&file, text)?;
        let server = NatsServer::start(NatsOptions::new(&program, file, data.join("nats-server.log"))).await;
        server.with_context(|| format!("NATS server {number} does not start"))
    };
    let mut nodes = Vec::new();
    for (number, port) in ports.iter().enumerate() {
        nodes.push(start(number, port).await?);
    }
    Ok(nodes)
}

/// All servers, the one with this number first.
fn urls(nodes: &[NatsServer], first: usize) -> String {
    let urls: Vec<String> = (0..nodes.len()).map(|number| nodes[(first + number) % nodes.len()].url()).collect();
    urls.join(",")
}
