use std::{
    net::SocketAddr,
    path::PathBuf,
    process,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use farebox_parts::{NatsOptions, NatsServer, Signal};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::{ports::free_port, process::stands_still, servers::fetch};

/// A real nats-server of a test's own, with JetStream in a folder that goes with it. It comes back on the same port
/// and the same data when it is started again.
#[derive(Debug)]
pub struct TestNats {
    dir: TempDir,
    binary: PathBuf,
    config: String,
    addr: SocketAddr,
    /// `None` while it is down.
    server: Mutex<Option<NatsServer>>,
    prefixes: AtomicU64,
}

/// What a test's nats-server is to be like.
#[derive(Clone, Debug)]
pub struct NatsBuilder {
    jetstream: bool,
    config: String,
}

impl NatsBuilder {
    /// Lines of nats-server's config, behind `listen` and `jetstream`.
    pub fn config(mut self, lines: &str) -> NatsBuilder {
        self.config.push_str(lines);
        self.config.push('\n');
        self
    }

    pub fn without_jetstream(mut self) -> NatsBuilder {
        self.jetstream = false;
        self
    }

    pub async fn start(self) -> anyhow::Result<TestNats> {
        let dir = tempfile::Builder::new().prefix("farebox-nats-").tempdir()?;
        let binary = fetch()?.nats_server(&|_| {}).await?;
        let mut config = self.config;
        if self.jetstream {
            let store = dir.path().join("jetstream");
            config.push_str(&format!("jetstream {{ store_dir: \"{}\" }}\n", store.display()));
        }
        // A port of its own, so that it can come back on it.
        let server = launch(&dir, &binary, &config, SocketAddr::from(([127, 0, 0, 1], free_port()?))).await?;
        let addr = server.addr();
        let prefixes = AtomicU64::new(0);
        Ok(TestNats { dir, binary, config, addr, server: Mutex::new(Some(server)), prefixes })
    }
}

async fn launch(dir: &TempDir, binary: &PathBuf, config: &str, addr: SocketAddr) -> anyhow::Result<NatsServer> {
    let file = dir.path().join("nats.conf");
    std::fs::write(&file, format!("listen: \"{addr}\"\n{config}"))?;
    Ok(NatsServer::start(NatsOptions::new(binary, file, dir.path().join("nats.log"))).await?)
}

/// The shared server of this test process, for as long as any test holds it.
static SHARED: Mutex<Weak<TestNats>> = Mutex::const_new(Weak::new());

impl TestNats {
    pub fn builder() -> NatsBuilder {
        NatsBuilder { jetstream: true, config: String::new() }
    }

    pub async fn start() -> anyhow::Result<TestNats> {
        TestNats::builder().start().await
    }

    /// One server for all tests of the process that run at this time; keep apart by [`prefix`](TestNats::prefix), and
    /// do not kill it.
    pub async fn shared() -> anyhow::Result<Arc<TestNats>> {
        let mut shared = SHARED.lock().await;
        if let Some(server) = shared.upgrade() {
            return Ok(server);
        }
        let server = Arc::new(TestNats::start().await?);
        *shared = Arc::downgrade(&server);
        Ok(server)
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.addr)
    }

    /// A word that nobody else on this server has, fit for subjects, streams and buckets.
    pub fn prefix(&self) -> String {
        format!("t{}x{}", process::id(), self.prefixes.fetch_add(1, Ordering::Relaxed))
    }

    /// Everything that the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("nats.log")).unwrap_or_default()
    }

    /// SIGKILL; it stays down until [`start_again`](TestNats::start_again).
    pub async fn kill9(&self) {
        if let Some(server) = self.server.lock().await.take() {
            server.child().kill().await;
        }
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&self) {
        if let Some(server) = self.server.lock().await.take() {
            server.stop().await;
        }
    }

    /// On the same port and data. Nothing to do if it is up.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        let mut server = self.server.lock().await;
        if server.is_none() {
            *server = Some(launch(&self.dir, &self.binary, &self.config, self.addr).await?);
        }
        Ok(())
    }

    /// SIGKILL and up again.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.kill9().await;
        self.start_again().await
    }

    /// SIGSTOP: connections stay open, and nothing answers.
    pub async fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP).await
    }

    pub async fn cont(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT).await
    }

    /// Pauses for so long.
    pub async fn stop_for(&self, time: Duration) -> anyhow::Result<()> {
        self.pause().await?;
        tokio::time::sleep(time).await;
        self.cont().await
    }

    async fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let server = self.server.lock().await;
        let server = server.as_ref().context("this nats-server is down")?;
        anyhow::ensure!(server.child().signal(signal), "this nats-server has ended");
        if signal == Signal::STOP {
            anyhow::ensure!(stands_still(server.child().pid()), "it does not stand still");
        }
        Ok(())
    }
}
