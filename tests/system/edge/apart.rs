//! A farebox whose HTTP edge is a process of its own, so that what it holds can be measured.

use std::{fs, net::SocketAddr, time::Duration};

use farebox_testkit::{PATIENCE, Process, eventually, free_port};
use tokio::sync::{Mutex, MutexGuard};

use super::{config, wire};
use crate::stage::{FAREBOX, LIMITED, Stage};

/// One measurement at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

pub(super) struct Apart {
    pub(super) stage: Stage,
    pub(super) addr: SocketAddr,
    edge: Process,
    _alone: MutexGuard<'static, ()>,
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) rss: u64,
    /// The most that it ever was.
    pub(super) peak: u64,
    /// Files and connections.
    pub(super) open: usize,
}

impl Apart {
    pub(super) async fn start(sets: &[&str]) -> Apart {
        let alone = ALONE.lock().await;
        let others = ["--roles", "identity,accounting,guard,worker,intake"];
        let stage = Stage::with_config(&config(), &others, |up| up).await;
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port().expect("a port")));
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        let edge = Process::builder(FAREBOX)
            .args(["edge", "--data"])
            .arg(stage.data())
            .arg("--config")
            .arg(stage.config())
            .args(["--set".to_owned(), format!("listen.http={addr}")])
            .args(sets)
            .env("SYSTEM_TEST_KEY", "sk-system-test")
            .env("SYSTEM_TEST_CALLER", LIMITED)
            .spawn()
            .await
            .expect("farebox starts");
        let apart = Apart { stage, addr, edge, _alone: alone };
        eventually(PATIENCE, "the edge is ready", || async {
            assert!(apart.edge.is_running(), "the edge has ended:\n{}", apart.edge.log());
            let there = tokio::net::TcpStream::connect(addr).await.is_ok();
            there && wire::ask(addr, &wire::get("/ready", &[])).await.status() == 200
        })
        .await;
        apart
    }

    pub(super) fn held(&self) -> Held {
        assert!(self.edge.is_running(), "the edge has ended:\n{}", self.edge.log());
        let proc = format!("/proc/{}", self.edge.pid());
        let status = fs::read_to_string(format!("{proc}/status")).expect("a process of one's own");
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it is said");
            line.trim_end_matches("kB").trim().parse::<u64>().expect("a number") << 10
        };
        let open = fs::read_dir(format!("{proc}/fd")).expect("a process of one's own").count();
        Held { rss: bytes("VmRSS:"), peak: bytes("VmHWM:"), open }
    }

    /// Waits until no more connections are open than before.
    pub(super) async fn is_empty_again(&self, before: Held) {
        let within = Duration::from_secs(15);
        eventually(within, "connections are closed", || async { self.held().open <= before.open }).await;
    }

    pub(super) fn log(&self) -> String {
        self.edge.log()
    }
}
