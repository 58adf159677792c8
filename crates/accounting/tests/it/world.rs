//! A real NATS and a real ClickHouse behind a proxy, a ledger that the test writes, and accountants on it.

use std::{
    env,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use farebox_accounting::{Deps, Options, Service};
use farebox_bus::{Bus, Fence, Headers, topology};
use farebox_clickhouse::Client;
use farebox_config::Env;
use farebox_proto::{
    subjects::{self, Tenancy},
    v1::{self, ledger_entry::Entry},
};
use farebox_runtime::DrainTrigger;
use farebox_testkit::{FaultProxy, Launcher, PATIENCE, TestClickHouse, TestNats, eventually};
use farebox_types::{CallId, Project, ReservationId, Span, SystemClock};
use tokio::task::JoinSet;

/// 2026-11-21 08:00 UTC.
pub(crate) const START: i64 = 1_795_248_000_000;
const DAY: i64 = 86_400_000;

fn launcher() -> Launcher {
    let test = env::current_exe().expect("a test has a path");
    let target = test.parent().and_then(Path::parent).expect("target/<profile>/deps/<test>");
    Launcher { program: target.join("examples/clickhouse_launcher"), args: Vec::new() }
}

pub(crate) async fn clickhouse() -> TestClickHouse {
    TestClickHouse::start(launcher()).await.unwrap()
}

pub(crate) fn client_of(url: String) -> Client {
    let options = farebox_clickhouse::Options {
        url,
        insert_timeout: Span::from_secs(3),
        query_timeout: Span::from_secs(2),
        ..Default::default()
    };
    Client::new(&options, &Env::default()).unwrap()
}

pub(crate) struct World {
    pub(crate) clickhouse: TestClickHouse,
    pub(crate) proxy: FaultProxy,
    pub(crate) bus: Bus,
    _nats: TestNats,
    ids: AtomicU64,
    last: AtomicU64,
}

/// A running accountant. Dropping it is its sudden death.
pub(crate) struct Accountant {
    tasks: JoinSet<Result<(), farebox_accounting::Error>>,
    trigger: DrainTrigger,
}

impl Accountant {
    pub(crate) async fn drain(mut self) {
        self.trigger.drain();
        let ended = tokio::time::timeout(PATIENCE, self.tasks.join_next()).await;
        ended.unwrap().unwrap().unwrap().unwrap();
    }

    pub(crate) async fn ended(mut self) -> Result<(), farebox_accounting::Error> {
        tokio::time::timeout(PATIENCE, self.tasks.join_next()).await.unwrap().unwrap().unwrap()
    }

    /// As SIGKILL: nothing is finished, nothing given back.
    pub(crate) async fn kill(mut self) {
        self.tasks.shutdown().await;
    }
}

impl World {
    pub(crate) async fn start() -> World {
        let (nats, clickhouse) = tokio::join!(TestNats::start(), clickhouse());
        let nats = nats.unwrap();
        let proxy = FaultProxy::start(clickhouse.addr()).await.unwrap();
        let bus = farebox_bus::Options { url: nats.url(), ..Default::default() };
        let bus = Bus::connect(&bus).await.unwrap();
        topology::ensure_topology(&bus, Tenancy::Single, &topology::StorageOptions::default()).await.unwrap();
        World { clickhouse, proxy, bus, _nats: nats, ids: AtomicU64::new(0), last: AtomicU64::new(0) }
    }

    pub(crate) fn accountant(&self) -> Accountant {
        self.accountant_in(Tenancy::Single, Project::default_project())
    }

    pub(crate) fn accountant_in(&self, tenancy: Tenancy, operators: Project) -> Accountant {
        let options = Options {
            batch_messages: 50,
            flush_interval: Span::from_millis(50),
            lead_ttl: Span::from_secs(1),
            ack_wait: Span::from_secs(1),
            retry_min: Span::from_millis(50),
            retry_max: Span::from_millis(200),
            check_interval: Span::from_millis(200),
            check_days: 100_000,
            ..Options::default()
        };
        let deps = Deps {
            bus: self.bus.clone(),
            tenancy,
            clock: Arc::new(SystemClock),
            clickhouse: client_of(format!("http://{}", self.proxy.addr())),
            accountant_id: format!("accountant-{}", self.ids.fetch_add(1, Relaxed)),
            operators,
        };
        let (trigger, drain) = farebox_runtime::drain();
        let mut tasks = JoinSet::new();
        tasks.spawn(Service::create(options, deps).run(drain));
        Accountant { tasks, trigger }
    }

    /// Writes a ledger message in which these attempts end, and what gives no row before and between them.
    pub(crate) async fn ledger(&self, facts: Vec<v1::CallFact>) {
        let mut entries = vec![entry(Entry::Reserved(v1::Reserved::default()))];
        for (n, fact) in facts.into_iter().enumerate() {
            let reservation_id = fact.reservation_id.clone();
            let fact = Some(fact);
            entries.push(if n % 3 == 2 {
                entry(Entry::Amended(v1::Amended { reservation_id, fact, ..Default::default() }))
            } else {
                entry(Entry::Ended(v1::Ended { reservation_id, fact }))
            });
            entries.push(entry(Entry::Released(v1::Released::default())));
        }
        let batch = v1::LedgerBatch { entries, at_unix_ms: START, guard_id: "g".into(), ..Default::default() };
        self.raw_ledger(prost::Message::encode_to_vec(&batch)).await;
    }

    pub(crate) async fn raw_ledger(&self, payload: Vec<u8>) {
        let subject = subjects::ledger(subjects::SHARD);
        let fence = Fence::after_subject_seq(self.last.load(Relaxed));
        let stored = self.bus.store(&subject, Headers::new(), fence, payload.into(), PATIENCE).await.unwrap();
        self.last.store(stored.sequence, Relaxed);
    }

    /// Writes `messages` ledger messages with three ends each, in two months. Returns their calls.
    pub(crate) async fn some(&self, messages: usize) -> Vec<String> {
        let mut calls = Vec::new();
        for _ in 0..messages {
            let facts = vec![fact(START), fact(START + 15 * DAY), fact(START)];
            calls.extend(facts.iter().map(|fact| fact.call_id.clone()));
            self.ledger(facts).await;
        }
        calls
    }

    /// How many terms there have been.
    pub(crate) async fn terms(&self) -> u64 {
        let answer = self.clickhouse.query("SELECT count() FROM farebox.accounting_terms").await;
        answer.unwrap().trim().parse().unwrap()
    }

    pub(crate) async fn count(&self) -> String {
        let answer = self.clickhouse.query("SELECT count() FROM farebox.calls").await;
        answer.map_or_else(|error| error.to_string(), |text| text.trim().to_owned())
    }

    /// Waits until everything is acknowledged; then each of these calls has one row, and there is no other.
    pub(crate) async fn exactly(&self, calls: &[String]) {
        eventually(PATIENCE, "the acknowledgement of everything", || async {
            let spec = farebox_bus::ConsumerSpec {
                ack_wait: Duration::from_secs(1),
                max_ack_pending: 200,
                filter: Some(subjects::ledger(subjects::SHARD)),
            };
            let Ok(puller) = self.bus.consumer(topology::LEDGER, farebox_accounting::CONSUMER, &spec).await else {
                return false;
            };
            let info = puller.info().await;
            info.is_ok_and(|info| info.pending == 0 && info.ack_pending == 0)
        })
        .await;
        let rows = self.clickhouse.query("SELECT toString(call_id) FROM farebox.calls").await.unwrap();
        let mut rows: Vec<&str> = rows.lines().collect();
        let mut calls: Vec<&str> = calls.iter().map(String::as_str).collect();
        rows.sort_unstable();
        calls.sort_unstable();
        assert_eq!(rows.len(), calls.len(), "rows and calls");
        assert!(rows == calls, "other rows than calls");
    }
}

fn entry(entry: Entry) -> v1::LedgerEntry {
    v1::LedgerEntry { entry: Some(entry) }
}

pub(crate) fn fact(ended: i64) -> v1::CallFact {
    v1::CallFact {
        call_id: CallId::generate().to_string(),
        request_id: "r".into(),
        reservation_id: ReservationId::generate().to_string(),
        attempt: 1,
        principal: Some(v1::Principal { project: "default".into(), ..Default::default() }),
        model: "fast".into(),
        provider: "openai".into(),
        outcome: v1::Outcome::Ok.into(),
        cost: Some(v1::Money { usd: 0, pico: 1 }),
        started_unix_ms: ended - 10,
        ended_unix_ms: ended,
        ..Default::default()
    }
}
