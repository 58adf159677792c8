//! A farebox of processes: servers, roles and a provider emulator, which tests kill and stop as they like.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use farebox_bus::Login;
use farebox_client::Client;
use farebox_emulator::Emulator;
use farebox_testkit::{PATIENCE, Process, ProcessBuilder, eventually, fetch_servers, free_port, has_ended};
use tempfile::TempDir;

use crate::stage::{agent, one_shot};

/// The program under test.
pub(crate) const FAREBOX: &str = env!("CARGO_BIN_EXE_farebox");

/// All roles, each as a process of its own.
pub(crate) const EACH: [&str; 4] = ["accounting.1", "guard.1", "worker.1", "intake.1"];

const ROLES: [&str; 5] = ["accounting", "guard", "worker", "intake", "edge"];

/// One cluster at a time: two of them on a small machine would only measure each other.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Three models. `tokens` and `claude` cost by the token, `flat` costs exactly one dollar a call.
const CONFIG: &str = r#"
nats: { listen: "127.0.0.1:NATS_PORT", connection: { start_timeout: 60s } }
clickhouse: { listen: "127.0.0.1:0", connection: { start_timeout: 60s } }
listen: { http: "127.0.0.1:HTTP_PORT", grpc: "127.0.0.1:0" }
logs: { log: info }
providers:
  openai: { kind: openai-compatible, api_base: "EMULATOR/v1" }
  anthropic: { kind: anthropic-compatible, api_base: "EMULATOR" }
models:
  tokens: openai/m-tokens
  flat: openai/m-flat
  claude: anthropic/m-claude
routing: { default: tokens }
prices:
  - { provider: openai, models: [m-tokens], input: "3", cache_read: "0.30", output: "15", context_window: 100000, max_output: 1000 }
  - { provider: openai, models: [m-flat], input: "0", output: "0", per_request: "1", context_window: 100000, max_output: 1000 }
  - { provider: anthropic, models: [m-claude], input: "3", cache_read: "0.30", cache_write_5m: "3.75", cache_write_1h: "6", output: "15", context_window: 100000, max_output: 1000 }
guard: { max_cost_per_day: 100000 }
worker: { heartbeat_interval: 500ms }
intake: { job_ack_wait: 3s }
"#;

/// A running farebox. Everything ends with it.
pub(crate) struct Cluster {
    dir: TempDir,
    pub(crate) emulator: Emulator,
    pub(crate) client: Client,
    /// Where the role `edge` listens, if it runs.
    pub(crate) edge: SocketAddr,
    pub(crate) http: reqwest::Client,
    sets: Vec<(String, String)>,
    up: Mutex<Option<Process>>,
    roles: Mutex<BTreeMap<String, Process>>,
    starts: Mutex<u32>,
    _alone: tokio::sync::MutexGuard<'static, ()>,
}

/// What a cluster is to be like.
pub(crate) struct Builder {
    processes: Vec<String>,
    sets: Vec<(String, String)>,
    config: String,
}

impl Builder {
    /// A value of the config, for every process.
    pub(crate) fn set(mut self, path: &str, value: &str) -> Builder {
        self.sets.push((path.to_owned(), value.to_owned()));
        self
    }

    /// Further sections of the config file.
    pub(crate) fn config(mut self, sections: &str) -> Builder {
        self.config.push_str(sections);
        self
    }

    /// One more process of a role: `worker.2`.
    pub(crate) fn with(mut self, name: &str) -> Builder {
        self.processes.push(name.to_owned());
        self
    }

    pub(crate) async fn start(self) -> anyhow::Result<Cluster> {
        let alone = ALONE.lock().await;
        let dir = tempfile::Builder::new().prefix("farebox-system-").tempdir()?;
        // A build that runs meanwhile replaces the program: this cluster goes on with the one it began with.
        let program = dir.path().join("farebox");
        if std::fs::hard_link(FAREBOX, &program).is_err() {
            // By another process: one that a test beside this one starts would inherit the open file, and nobody can run
            // a program that somebody writes.
            let copied = std::process::Command::new("cp").arg(FAREBOX).arg(&program).status()?;
            ensure!(copied.success(), "the program cannot be copied: {copied}");
        }
        fetch_servers().await?;
        let emulator = Emulator::start(farebox_emulator::Options::default()).await?;
        let (port, http) = (free_port()?, free_port()?);
        let config = format!("{CONFIG}{}", self.config);
        let config = config.replace("NATS_PORT", &port.to_string()).replace("HTTP_PORT", &http.to_string());
        let config = config.replace("EMULATOR", &emulator.base_url());
        std::fs::write(dir.path().join("farebox.yaml"), config)?;
        let up = up(dir.path(), &self.sets, 0).await?;
        let cluster = Cluster {
            client: agent(&format!("nats://127.0.0.1:{port}"), &Login::None).await,
            edge: SocketAddr::from(([127, 0, 0, 1], http)),
            http: one_shot(),
            sets: self.sets,
            up: Mutex::new(Some(up)),
            roles: Mutex::default(),
            starts: Mutex::new(0),
            dir,
            emulator,
            _alone: alone,
        };
        for name in &self.processes {
            cluster.start_role(name).await?;
        }
        for role in ROLES {
            let of_role = |name: &&str| name.split('.').next() == Some(role);
            let names: Vec<&str> = self.processes.iter().map(String::as_str).filter(of_role).collect();
            match role {
                _ if names.is_empty() => {}
                "guard" | "accounting" => drop(cluster.any_ready(&names).await),
                _ => {
                    for name in names {
                        cluster.ready(name).await;
                    }
                }
            }
        }
        Ok(cluster)
    }
}

async fn up(dir: &Path, sets: &[(String, String)], start: u32) -> anyhow::Result<Process> {
    let ready = dir.join(format!("ready-{start}"));
    let process =
        command(dir, "up", sets).args(["--roles", "identity"]).arg("--ready-file").arg(&ready).spawn().await?;
    // The first start on a machine fetches the servers.
    let waited = process.wait_ready(&ready, PATIENCE * 4).await;
    waited.with_context(|| format!("it said:\n{}", process.log()))?;
    Ok(process)
}

fn command(dir: &Path, name: &str, sets: &[(String, String)]) -> ProcessBuilder {
    let sets = sets.iter().flat_map(|(path, value)| ["--set".to_owned(), format!("{path}={value}")]);
    Process::builder(dir.join("farebox"))
        .arg(name)
        .arg("--data")
        .arg(dir.join("data"))
        .arg("--config")
        .arg(dir.join("farebox.yaml"))
        .args(sets)
}

/// What a guard says when it begins to lead, and when it leads no more.
pub(crate) const LEADS: &str = "leading the ledger snapshot";
pub(crate) const LEADS_NO_MORE: &str = "not leading the ledger now";

/// The line that a role writes once it does its work.
fn at_work(role: &str) -> &'static str {
    match role {
        "accounting" => "writing calls to ClickHouse",
        "guard" => LEADS,
        "worker" => "taking work",
        "intake" => "taking requests",
        "edge" => "the HTTP edge listens on",
        other => panic!("`{other}` is no role that runs by itself"),
    }
}

impl Drop for Cluster {
    /// What a failed test leaves behind stays, to be looked at.
    #[expect(clippy::print_stderr, reason = "a failed test says where")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!("everything is left in {}", self.dir.path().display());
        }
    }
}

impl Cluster {
    /// Servers in one process, and each role in one of its own.
    pub(crate) fn builder() -> Builder {
        Builder { processes: EACH.map(str::to_owned).to_vec(), sets: Vec::new(), config: String::new() }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// What `farebox up` wrote about its addresses.
    pub(crate) fn addresses(&self) -> serde_json::Value {
        let text = std::fs::read_to_string(self.data().join("farebox.json")).expect("farebox is up");
        serde_json::from_str(&text).expect("addresses are JSON")
    }

    fn roles(&self) -> MutexGuard<'_, BTreeMap<String, Process>> {
        self.roles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, name: &str) -> Process {
        self.roles().remove(name).unwrap_or_else(|| panic!("{name} does not run"))
    }

    fn with<T>(&self, name: &str, what: impl FnOnce(&Process) -> T) -> T {
        what(self.roles().get(name).unwrap_or_else(|| panic!("{name} does not run")))
    }

    /// Starts a process of a role: the name is the role, a dot and a number. It may not be ready yet.
    pub(crate) async fn start_role(&self, name: &str) -> anyhow::Result<()> {
        let (role, _) = name.split_once('.').context("a role, a dot and a number")?;
        let process = command(self.dir.path(), role, &self.sets).spawn().await?;
        ensure!(self.roles().insert(name.to_owned(), process).is_none(), "{name} runs already");
        Ok(())
    }

    /// Waits until a process does its role's work.
    pub(crate) async fn ready(&self, name: &str) {
        self.any_ready(&[name]).await;
    }

    /// Waits until one of them does: of guards and accountants only one leads. Returns which.
    pub(crate) async fn any_ready<'a>(&self, names: &[&'a str]) -> &'a str {
        let line = at_work(names[0].split('.').next().unwrap_or_default());
        let at_work = |name: &&&str| {
            let (running, log) = self.with(name, |process| (process.is_running(), process.log()));
            assert!(running, "{name} has ended:\n{log}");
            log.contains(line)
        };
        eventually(PATIENCE, &format!("one of {names:?} says `{line}`"), || async {
            names.iter().any(|name| at_work(&name))
        })
        .await;
        names.iter().find(at_work).expect("one of them is ready")
    }

    /// The one of two guards that leads: the other never did, or knows that it does no more.
    pub(crate) async fn leader<'a>(&self, guards: [&'a str; 2]) -> &'a str {
        let leads = |name: &&str| {
            let log = self.log(name);
            log.rfind(LEADS) > log.rfind(LEADS_NO_MORE)
        };
        let mut leading = Vec::new();
        eventually(PATIENCE, &format!("one of {guards:?} leads"), || {
            leading = guards.into_iter().filter(leads).collect();
            std::future::ready(leading.len() == 1)
        })
        .await;
        leading[0]
    }

    pub(crate) async fn kill9(&self, name: &str) {
        let process = self.take(name);
        process.kill9().await;
    }

    /// kill -9, and a new process at once. It may not be ready yet.
    pub(crate) async fn restart(&self, name: &str) -> anyhow::Result<()> {
        self.kill9(name).await;
        self.start_role(name).await
    }

    /// Starts those again that ended on their way to their role's work, as whoever runs them would: what they need died
    /// meanwhile. None ends by itself once it does its work.
    pub(crate) async fn start_ended(&self) -> anyhow::Result<()> {
        let ended = |(name, process): (&String, &Process)| (!process.is_running()).then(|| name.clone());
        let ended: Vec<String> = self.roles().iter().filter_map(ended).collect();
        for name in ended {
            let log = self.take(&name).log();
            let was_at_work = log.contains(at_work(name.split('.').next().unwrap_or_default()));
            ensure!(!was_at_work, "{name} has ended:\n{log}");
            self.start_role(&name).await?;
        }
        Ok(())
    }

    pub(crate) fn sigstop(&self, name: &str) {
        assert!(self.with(name, Process::sigstop), "{name} has ended");
    }

    pub(crate) fn sigcont(&self, name: &str) {
        assert!(self.with(name, Process::sigcont), "{name} has ended");
    }

    /// Asks a role to end in order.
    pub(crate) fn sigterm(&self, name: &str) {
        assert!(self.with(name, Process::sigterm), "{name} has ended");
    }

    /// What a role has written so far.
    pub(crate) fn log(&self, name: &str) -> String {
        self.with(name, Process::log)
    }

    /// kill -9 of the servers' process, which takes NATS and ClickHouse along. Returns once they have ended, too.
    pub(crate) async fn kill9_servers(&self) {
        let servers = ["nats-server", "internal-clickhouse"].map(|part| self.server_pid(part));
        let up = self.up.lock().unwrap_or_else(PoisonError::into_inner).take();
        up.expect("the servers run").kill9().await;
        for pid in servers.into_iter().flatten() {
            let pid = pid.as_raw_nonzero().get().unsigned_abs();
            eventually(PATIENCE, "a server has ended", || async { has_ended(pid) }).await;
        }
    }

    /// The servers again, on their data and the same port of NATS.
    pub(crate) async fn start_servers(&self) -> anyhow::Result<()> {
        let start = {
            let mut starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
            *starts += 1;
            *starts
        };
        let process = up(self.dir.path(), &self.sets, start).await?;
        *self.up.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
        Ok(())
    }

    /// The process id of a server (`nats-server`, `internal-clickhouse`) that the servers' process runs now.
    pub(crate) fn server_pid(&self, part: &str) -> Option<rustix::process::Pid> {
        let parent = self.up.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.pid();
        let processes = std::fs::read_dir("/proc").ok()?;
        processes.flatten().find_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // Behind the name in brackets: the state, then the parent.
            let ppid: u32 = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
            let command = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
            let own = ppid == parent && (command.contains(part) || command.contains(&part.replace("internal-", "")));
            own.then(|| rustix::process::Pid::from_raw(pid)).flatten()
        })
    }

    /// Waits until a server runs: one that died is started again by the servers' process.
    pub(crate) async fn server_is_there(&self, part: &str) {
        eventually(PATIENCE, &format!("{part} runs"), || async { self.server_pid(part).is_some() }).await;
    }

    /// Sends a signal to a server; it must run.
    pub(crate) fn signal_server(&self, part: &str, signal: rustix::process::Signal) {
        let pid = self.server_pid(part).unwrap_or_else(|| panic!("{part} does not run"));
        rustix::process::kill_process(pid, signal).expect("a signal to a process of one's own");
    }

    /// ClickHouse's answer to a question.
    pub(crate) async fn clickhouse(&self, sql: &str) -> anyhow::Result<String> {
        let url = self.addresses()["clickhouse"].as_str().context("an address")?.to_owned();
        let asked = self.http.post(url).body(sql.to_owned()).timeout(Duration::from_secs(10)).send().await?;
        let status = asked.status();
        let text = asked.text().await?;
        ensure!(status.is_success(), "ClickHouse refused `{sql}`: {text}");
        Ok(text)
    }
}
