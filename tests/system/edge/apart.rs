//! A farebox whose HTTP edge is a process of its own, so that what it holds can be measured.

use std::{fs, net::SocketAddr, time::Duration};

use farebox_testkit::{PATIENCE, Process, eventually};
use tokio::sync::Mutex;

use super::{config, wire};
use crate::stage::{FAREBOX, LIMITED, Stage, play_within};

/// One measurement at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Runs a test that measures. Waiting for its turn is not of its time.
pub(super) fn measure(limit: Duration, test: impl Future<Output = ()>) {
    let _alone = ALONE.blocking_lock();
    play_within(limit, test);
}

pub(super) struct Apart {
    pub(super) stage: Stage,
    pub(super) addr: SocketAddr,
    edge: Process,
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

/// Where it does, once its log says so: any port was free for it.
fn listens(log: &str) -> Option<SocketAddr> {
    let (_, addr) = log.split_once("the HTTP edge listens on http://")?;
    let end = addr.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit())?;
    addr[..end].parse().ok()
}

impl Apart {
    pub(super) async fn start(sets: &[&str]) -> Apart {
        let others = ["--roles", "identity,accounting,guard,worker,intake"];
        let stage = Stage::with_config(&config(), &others, |up| up).await;
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        let edge = Process::builder(FAREBOX)
            .args(["edge", "--data"])
            .arg(stage.data())
            .arg("--config")
            .arg(stage.config())
            .args(sets)
            .env("SYSTEM_TEST_KEY", "sk-system-test")
            .env("SYSTEM_TEST_CALLER", LIMITED)
            .spawn()
            .await
            .expect("farebox starts");
        eventually(PATIENCE, "the edge listens", || async {
            assert!(edge.is_running(), "the edge has ended:\n{}", edge.log());
            listens(&edge.log()).is_some()
        })
        .await;
        let addr = listens(&edge.log()).expect("it has just said so");
        let apart = Apart { stage, addr, edge };
        let ready = || async { wire::ask(addr, &wire::get("/ready", &[])).await.status() == 200 };
        eventually(PATIENCE, "the edge is ready", ready).await;
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
