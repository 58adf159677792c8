//! A nats-server process.

use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

use tokio::time::Instant;

use crate::{Child, ChildSpec, Exit, Limits, PartsError, net};

const SERVER: &str = "nats-server";
const POLL: Duration = Duration::from_millis(5);

#[derive(Clone, Debug)]
pub struct NatsOptions {
    pub binary: PathBuf,
    /// nats-server's own config file. `port: -1` in it means any free port; [`NatsServer::addr`] says which.
    pub config: PathBuf,
    /// Further arguments, after the config.
    pub args: Vec<String>,
    /// Standard output and standard error; the server's own log too, unless its config names another file.
    pub log: PathBuf,
    pub limits: Limits,
}

impl NatsOptions {
    pub fn new(binary: impl Into<PathBuf>, config: impl Into<PathBuf>, log: impl Into<PathBuf>) -> NatsOptions {
        NatsOptions {
            binary: binary.into(),
            config: config.into(),
            args: Vec::new(),
            log: log.into(),
            limits: Limits::default(),
        }
    }
}

/// What the server said of itself when it greeted.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct NatsInfo {
    pub server_id: String,
    pub version: String,
    pub jetstream: bool,
    pub max_payload: u64,
    pub auth_required: bool,
}

/// A running nats-server that has greeted. Dropping it kills the server.
#[derive(Debug)]
pub struct NatsServer {
    child: Child,
    addr: SocketAddr,
    info: NatsInfo,
    limits: Limits,
}

/// The file that nats-server writes when all its ports are open.
#[derive(serde::Deserialize)]
struct Ports {
    #[serde(default)]
    nats: Vec<String>,
}

impl NatsServer {
    pub async fn start(options: NatsOptions) -> Result<NatsServer, PartsError> {
        let ports_dir = tempfile::tempdir().map_err(PartsError::file("create a directory in", std::env::temp_dir()))?;
        let mut spec = ChildSpec::new(&options.binary, &options.log)
            .arg("--config")
            .arg(&options.config)
            .args(&options.args)
            .arg("--ports_file_dir")
            .arg(ports_dir.path());
        spec.env.push(("NO_COLOR".into(), "1".into()));
        let child = Child::spawn(spec).await.map_err(|source| PartsError::Spawn {
            server: SERVER,
            program: options.binary.clone(),
            source,
        })?;
        let ready = wait_ready(ports_dir.path().to_owned());
        let limits = options.limits;
        tokio::select! {
            (addr, info) = ready => {
                tracing::info!(%addr, pid = child.pid(), version = info.version, "nats-server is up");
                Ok(NatsServer { child, addr, info, limits })
            }
            exit = child.wait() => Err(died(SERVER, exit, child.log_tail(limits.log_tail_bytes))),
            () = tokio::time::sleep_until(Instant::now() + limits.start_timeout) => Err(PartsError::NotReady {
                server: SERVER,
                seconds: limits.start_timeout.as_secs(),
                log: child.log_tail(limits.log_tail_bytes),
            }),
        }
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.addr)
    }

    pub fn info(&self) -> &NatsInfo {
        &self.info
    }

    pub fn child(&self) -> &Child {
        &self.child
    }

    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Ends when the server has ended, however that came.
    pub async fn wait(&self) -> Exit {
        self.child.wait().await
    }

    /// SIGTERM, then SIGKILL after `stop_timeout`.
    pub async fn stop(&self) -> Exit {
        self.child.stop(self.limits.stop_timeout).await
    }
}

/// Polls for the ports file (its name holds the server's pid, its folder is ours alone), then takes the greeting.
async fn wait_ready(dir: PathBuf) -> (SocketAddr, NatsInfo) {
    loop {
        if let Some(addr) = listening(&dir).await
            && let Ok(line) = net::greeting(addr).await
            && let Some(json) = line.strip_prefix("INFO ")
            && let Ok(info) = serde_json::from_str(json)
        {
            return (addr, info);
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn listening(dir: &std::path::Path) -> Option<SocketAddr> {
    let file = fs::read_dir(dir).ok()?.flatten().find(|f| f.path().extension().is_some_and(|e| e == "ports"))?;
    let ports: Ports = serde_json::from_slice(&fs::read(file.path()).ok()?).ok()?;
    let addrs: Vec<SocketAddr> = ports.nats.iter().filter_map(|url| url.split("://").nth(1)?.parse().ok()).collect();
    addrs.iter().find(|a| a.ip().is_loopback()).or(addrs.first()).copied()
}

pub(crate) fn died(server: &'static str, exit: Exit, log: String) -> PartsError {
    match log.lines().rev().find(|l| l.to_ascii_lowercase().contains("address already in use")) {
        Some(line) => PartsError::PortTaken { server, detail: line.trim().to_owned() },
        None => PartsError::Died { server, status: exit.to_string(), log },
    }
}
