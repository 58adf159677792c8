//! What the guard decides in a second: reservations and their ends, in four budgets and under a limit each, next to bare
//! writes to JetStream by as many callers, on the same server. And how long an admission takes on a fixed schedule, again
//! next to a bare write.
//!
//! The guard, its callers and the server share the machine's cores.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use farebox_bus::{Bus, Fence, Headers, topology};
use farebox_directory::Directory;
use farebox_guard::{Deps, Options, Service};
use farebox_policy::{
    Budget, Calendar, Dimension, Limit, Measure, Period, Permille, Pick, Policies, Rate, Scope, Strategy, Unreachable,
    WhenShort, Zone,
};
use farebox_proto::{
    subjects::{self, SHARD, Tenancy},
    v1,
};
use farebox_testkit::TestNats;
use farebox_types::{CallId, Clock as _, Money, ReservationId, Span, SystemClock};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{
    cli::{Durability, GuardArgs},
    pace::Pacer,
    stats::Latencies,
    table,
};

const PATIENCE: Duration = Duration::from_secs(20);
const WARM_UP: Duration = Duration::from_secs(1);
const KEYS: u16 = 16;
/// Calls a second of the schedule.
const RATE: u32 = 200;

/// Pairs and writes of one durability.
pub(crate) async fn run(args: &GuardArgs) -> anyhow::Result<()> {
    let durabilities = args.durability.map_or(vec![Durability::Process, Durability::Power], |one| vec![one]);
    for durability in durabilities {
        let dir = TempDir::new()?;
        let sync = if durability == Durability::Power { "always" } else { "2m" };
        let jetstream = format!("jetstream {{ store_dir: \"{}\", sync_interval: {sync} }}", dir.path().display());
        let nats = TestNats::builder().without_jetstream().config(&jetstream).start().await?;
        let writes = phase(args, &nats, write).await.context("bare writes")?;
        let write_latency =
            schedule(args, &connect(&nats).await?, timed_write).await.context("bare writes on a schedule")?;
        let lead = lead(&nats).await?;
        let pairs = phase(args, &nats, pair).await.context("reservations")?;
        let far = schedule(args, &connect(&nats).await?, timed_reserve).await.context("reservations on a schedule")?;
        let near = schedule(args, &lead.bus, timed_reserve).await.context("reservations inside the process")?;
        lead.stop().await?;
        let (paired, written) = (pairs.per_second(), writes.per_second());
        table::print(&format!(
            "durability {} callers {} pairs/s {paired:.0} (p50 {:.2} ms, p99 {:.2} ms) bare publishes/s {written:.0} (p50 \
             {:.2} ms, p99 {:.2} ms) ratio {:.2}\n",
            durability.as_str(),
            args.callers,
            pairs.latencies.quantiles().p50,
            pairs.latencies.quantiles().p99,
            writes.latencies.quantiles().p50,
            writes.latencies.quantiles().p99,
            paired / written,
        ))?;
        let (near, far, stored) = (near.quantiles(), far.quantiles(), write_latency.quantiles());
        table::print(&format!(
            "durability {} at {RATE}/s: a reservation takes p50 {:.2} ms, p99 {:.2} ms inside one process, as in `farebox up`; \
             p50 {:.2} ms, p99 {:.2} ms over the server; a bare publish p50 {:.2} ms, p99 {:.2} ms\n",
            durability.as_str(),
            near.p50,
            near.p99,
            far.p50,
            far.p99,
            stored.p50,
            stored.p99,
        ))?;
    }
    Ok(())
}

struct Measured {
    latencies: Latencies,
    count: u64,
    took: Duration,
}

impl Measured {
    fn per_second(&self) -> f64 {
        self.count as f64 / self.took.as_secs_f64()
    }
}

async fn connect(nats: &TestNats) -> anyhow::Result<Bus> {
    let options = farebox_bus::Options { url: nats.url(), ..Default::default() };
    Ok(Bus::connect(&options).await?)
}

/// As many callers as asked for, each doing `act` again and again.
async fn phase<F>(args: &GuardArgs, nats: &TestNats, act: fn(Bus, u16) -> F) -> anyhow::Result<Measured>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let bus = connect(nats).await?;
    topology::ensure_topology(&bus, Tenancy::Single, &topology::StorageOptions::default()).await?;
    let measure_from = Instant::now() + WARM_UP;
    let until = measure_from + Duration::from_secs(args.seconds);
    let mut callers = JoinSet::new();
    for caller in 0..args.callers {
        let bus = bus.clone();
        callers.spawn(async move {
            let (mut latencies, mut count) = (Latencies::new()?, 0_u64);
            while Instant::now() < until {
                let began = Instant::now();
                act(bus.clone(), caller).await?;
                if began >= measure_from {
                    latencies.record(began.elapsed());
                    count += 1;
                }
            }
            anyhow::Ok((latencies, count))
        });
    }
    let mut all = Measured { latencies: Latencies::new()?, count: 0, took: Duration::from_secs(args.seconds) };
    while let Some(ended) = callers.join_next().await {
        let (latencies, count) = ended??;
        all.latencies.add(&latencies)?;
        all.count += count;
    }
    ensure!(all.count > 0, "nothing was done in {} s", args.seconds);
    Ok(all)
}

/// One call every so often, whatever became of those before. Latency counts from the schedule.
async fn schedule<F>(args: &GuardArgs, bus: &Bus, act: fn(Bus, u16, Instant) -> F) -> anyhow::Result<Latencies>
where
    F: Future<Output = anyhow::Result<Duration>> + Send + 'static,
{
    let calls = RATE * u32::try_from(args.seconds + WARM_UP.as_secs())?;
    let every = Duration::from_secs(1) / RATE;
    let (first, mut pacer) = (Instant::now() + every, Pacer::new()?);
    let (mut latencies, mut callers) = (Latencies::new()?, JoinSet::new());
    for call in 0..calls {
        let scheduled = first + every * call;
        pacer.until(scheduled).await?;
        let act = act(bus.clone(), u16::try_from(call % u32::from(args.callers))?, scheduled);
        callers.spawn(async move { anyhow::Ok((scheduled, act.await?)) });
    }
    while let Some(ended) = callers.join_next().await {
        let (scheduled, latency) = ended??;
        if scheduled >= first + WARM_UP {
            latencies.record(latency);
        }
    }
    Ok(latencies)
}

async fn timed_write(bus: Bus, caller: u16, since: Instant) -> anyhow::Result<Duration> {
    write(bus, caller).await?;
    Ok(since.elapsed())
}

/// How long the reservation takes; its end comes behind it.
async fn timed_reserve(bus: Bus, caller: u16, since: Instant) -> anyhow::Result<Duration> {
    let reserved = reserve(&bus, caller).await?;
    let took = since.elapsed();
    settle(&bus, reserved).await?;
    Ok(took)
}

/// One write of about a reservation's size.
async fn write(bus: Bus, caller: u16) -> anyhow::Result<()> {
    let subject = format!("llm.call.bare-{caller}");
    bus.store(&subject, Headers::new(), Fence::none(), vec![7; 300].into(), PATIENCE).await?;
    Ok(())
}

/// A reservation and its end.
async fn pair(bus: Bus, caller: u16) -> anyhow::Result<()> {
    let reserved = reserve(&bus, caller).await?;
    settle(&bus, reserved).await
}

struct Reserved {
    reservation_id: String,
    call_id: String,
}

async fn reserve(bus: &Bus, caller: u16) -> anyhow::Result<Reserved> {
    let (reservation_id, call_id) = (ReservationId::generate().to_string(), CallId::generate().to_string());
    let attempt = v1::Attempt {
        call_id: call_id.clone(),
        provider: "emu".into(),
        upstream_model: "m".into(),
        model: "m".into(),
        bound: Some(Money::from_picos(2_000_000_000).into()),
        ..Default::default()
    };
    let labels = v1::Labels { actor: "writer".into(), task_id: format!("task-{caller}"), ..Default::default() };
    let request = v1::ReserveRequest {
        shard: SHARD,
        reservation_id: reservation_id.clone(),
        principal: Some(v1::Principal {
            project: "bench".into(),
            key_id: format!("key{}", caller % KEYS),
            ..Default::default()
        }),
        labels: Some(labels),
        request_id: call_id.clone(),
        deadline_unix_ms: SystemClock.now().after(PATIENCE).millis(),
        attempt: Some(attempt),
        ..Default::default()
    };
    let reply: v1::ReserveReply = bus.call(&subjects::reserve(SHARD), &request, PATIENCE).await?;
    match reply.result {
        Some(v1::reserve_reply::Result::Granted(_)) => Ok(Reserved { reservation_id, call_id }),
        other => bail!("a reservation was not granted: {other:?}"),
    }
}

async fn settle(bus: &Bus, Reserved { reservation_id, call_id }: Reserved) -> anyhow::Result<()> {
    let end = v1::AttemptEnd {
        call_id,
        outcome: v1::Outcome::Ok.into(),
        cost: Some(Money::from_picos(1_000_000_000).into()),
        ..Default::default()
    };
    let request = v1::SettleRequest { shard: SHARD, reservation_id, end: Some(end) };
    let reply: v1::SettleReply = bus.call(&subjects::settle(SHARD), &request, PATIENCE).await?;
    match reply.result {
        Some(v1::settle_reply::Result::Settled(_)) => Ok(()),
        other => bail!("an end was not recorded: {other:?}"),
    }
}

/// A guard that leads.
struct Lead {
    /// The guard's own connection: who uses it reaches it without the server.
    bus: Bus,
    trigger: farebox_runtime::DrainTrigger,
    running: JoinSet<Result<(), farebox_guard::Error>>,
}

impl Lead {
    async fn stop(mut self) -> anyhow::Result<()> {
        self.trigger.drain();
        while let Some(ended) = self.running.join_next().await {
            ended??;
        }
        Ok(())
    }
}

async fn lead(nats: &TestNats) -> anyhow::Result<Lead> {
    let own = connect(nats).await?;
    let deps = Deps {
        bus: own.clone(),
        tenancy: Tenancy::Single,
        clock: Arc::new(SystemClock),
        directory: Directory::fixed(policies()),
        guard_id: "bench".to_owned(),
    };
    let (trigger, drain) = farebox_runtime::drain();
    let mut running = JoinSet::new();
    running.spawn(Service::create(Options::default(), deps).run(drain));
    let bus = connect(nats).await?;
    let until = Instant::now() + PATIENCE;
    let ask = v1::LookupRequest { shard: SHARD, ..Default::default() };
    loop {
        let asked = bus.call::<_, v1::LookupReply>(&subjects::lookup(SHARD), &ask, Duration::from_secs(1)).await;
        match asked {
            Ok(_) => return Ok(Lead { bus: own, trigger, running }),
            Err(error) => ensure!(Instant::now() < until, "the guard does not lead: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Budgets over everything, each project, each key and each task, and a limit for each key.
fn policies() -> Policies {
    let budget = |name: &str, dimension: Option<Dimension>, period| Budget {
        name: name.to_owned(),
        scope: Scope(dimension.map(|dimension| (dimension, Pick::Each)).into_iter().collect()),
        period,
        time_zone: Zone::default(),
        limit: Money::usd(1_000_000_000),
        limit_text: String::new(),
        alert: vec![Permille(800), Permille(1000)],
        hard: true,
        when_short: WhenShort::Refuse,
        unbounded_ceiling: None,
        unreachable: Unreachable::Closed,
        raises: Vec::new(),
    };
    let budgets = [
        budget("everything", None, Period::Calendar(Calendar::Month)),
        budget("project", Some(Dimension::Project), Period::Calendar(Calendar::Day)),
        budget("key", Some(Dimension::Key), Period::Calendar(Calendar::Day)),
        budget("task", Some(Dimension::Task), Period::Lifetime),
    ];
    let limit = Limit {
        name: "requests".to_owned(),
        scope: Scope(vec![(Dimension::Key, Pick::Each)]),
        measure: Measure::Requests,
        rate: Rate { allowed: 1_000_000_000, period: Span::from_secs(60), strategy: Strategy::FixedWindow },
        default: false,
    };
    Policies {
        budgets: budgets.into_iter().map(|budget| (budget.name.clone(), budget)).collect(),
        limits: [(limit.name.clone(), limit)].into(),
        ..Policies::default()
    }
}
