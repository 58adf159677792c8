use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use farebox_parts::{ClickHouse, ClickHouseEngine, ClickHouseOptions, Launcher, Signal};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Mutex,
};

use crate::{ports::free_port, process::stands_still, servers::fetch};

/// A real ClickHouse of a test's own. It comes back on the same port and data when it is started again.
#[derive(Debug)]
pub struct TestClickHouse {
    dir: TempDir,
    engine: ClickHouseEngine,
    launcher: Launcher,
    addr: SocketAddr,
    /// `None` while it is down.
    server: Mutex<Option<ClickHouse>>,
}

impl TestClickHouse {
    /// The launcher is what serves the library, where ClickHouse is one: `farebox internal-clickhouse`.
    pub async fn start(launcher: Launcher) -> anyhow::Result<TestClickHouse> {
        let dir = tempfile::Builder::new().prefix("farebox-clickhouse-").tempdir()?;
        let engine = fetch()?.clickhouse(&|_| {}).await?;
        // A port of its own, so that it can come back on it.
        let server = launch(&dir, &engine, &launcher, free_port()?).await?;
        let addr = server.http_addr();
        Ok(TestClickHouse { dir, engine, launcher, addr, server: Mutex::new(Some(server)) })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The answer to a statement, in ClickHouse's tab-separated form.
    pub async fn query(&self, sql: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.addr).await.context("ClickHouse is down")?;
        let head = format!("POST / HTTP/1.0\r\nHost: x\r\nContent-Length: {}\r\n\r\n", sql.len());
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(sql.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("ClickHouse's answer has no head")?;
        ensure!(head.split(' ').nth(1) == Some("200"), "ClickHouse refused `{sql}`: {body}");
        Ok(body.to_owned())
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("clickhouse.log")).unwrap_or_default()
    }

    /// SIGKILL; it stays down until [`start_again`](TestClickHouse::start_again).
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
            *server = Some(launch(&self.dir, &self.engine, &self.launcher, self.addr.port()).await?);
        }
        Ok(())
    }

    /// SIGSTOP: connections stay open, and nothing answers.
    pub async fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP).await
    }

    pub async fn cont(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT).await
    }

    async fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let server = self.server.lock().await;
        let server = server.as_ref().context("this ClickHouse is down")?;
        ensure!(server.child().signal(signal), "this ClickHouse has ended");
        if signal == Signal::STOP {
            anyhow::ensure!(stands_still(server.child().pid()), "it does not stand still");
        }
        Ok(())
    }
}

async fn launch(
    dir: &TempDir,
    engine: &ClickHouseEngine,
    launcher: &Launcher,
    port: u16,
) -> anyhow::Result<ClickHouse> {
    let (data, log) = (dir.path().join("data"), dir.path().join("clickhouse.log"));
    let mut options = ClickHouseOptions::new(engine.clone(), launcher.clone(), data, log);
    options.http_port = port;
    Ok(ClickHouse::start(options).await?)
}
