//! One leg of load: connections and warm-up before the clock starts, then calls in a pattern.

use std::{
    sync::{
        Arc, Barrier, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, ensure};
use tokio::task::JoinSet;

use crate::{
    bodies::Bodies,
    emulator::{MODEL, Model},
    pace::Pacer,
    stats::Latencies,
    target::{Places, Road, Target},
};

/// A call that takes longer has failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Calls of an open loop that may be out at once on one connection; beyond that they count as failed.
const IN_FLIGHT_MAX: usize = 4_096;
/// Calls before the clock starts, on each connection.
const WARM_UP: u64 = 20;

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Whole,
    Stream(&'static Model),
}

impl Work {
    pub(crate) fn is_stream(self) -> bool {
        matches!(self, Work::Stream(_))
    }

    fn model(self) -> &'static Model {
        match self {
            Work::Whole => &MODEL,
            Work::Stream(model) => model,
        }
    }
}

/// When calls are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// Each caller calls again when it has its answer: until so many calls are made, or so much time has passed.
    Closed { callers: u64, calls: u64, within: Duration },
    /// One call every so often, whatever became of those before. Latency counts from the schedule.
    Open { every: Duration, calls: u64 },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Leg {
    pub(crate) road: Road,
    pub(crate) work: Work,
    pub(crate) pattern: Pattern,
    /// Connections, each on a thread of its own.
    pub(crate) lanes: u64,
    pub(crate) seed: u64,
}

/// What came of a leg.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    pub(crate) first_error: Option<String>,
    /// From the first call to the last answer, of the slowest lane.
    pub(crate) elapsed: Duration,
    last_end: Option<Instant>,
    pub(crate) latency: Latencies,
    /// Until the first text of a stream.
    pub(crate) first: Latencies,
    pub(crate) chunks: u64,
    /// Answered calls before the clock started: they stand in the books too.
    pub(crate) warm_up: u64,
}

impl Outcome {
    fn new() -> anyhow::Result<Outcome> {
        Ok(Outcome {
            ok: 0,
            failed: 0,
            first_error: None,
            elapsed: Duration::ZERO,
            last_end: None,
            latency: Latencies::new()?,
            first: Latencies::new()?,
            chunks: 0,
            warm_up: 0,
        })
    }

    fn add(&mut self, other: Outcome) -> anyhow::Result<()> {
        self.ok += other.ok;
        self.failed += other.failed;
        self.first_error = self.first_error.take().or(other.first_error);
        self.elapsed = self.elapsed.max(other.elapsed);
        self.latency.add(&other.latency)?;
        self.first.add(&other.first)?;
        self.chunks += other.chunks;
        self.warm_up += other.warm_up;
        Ok(())
    }
}

/// Runs a leg; blocks. `begin` is called when every lane is connected and warm, right before the first call.
pub(crate) fn run<T>(
    leg: &Leg,
    places: &Places,
    begin: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(Outcome, T)> {
    let lanes = usize::try_from(leg.lanes)?;
    let (ready, go) = (Barrier::new(lanes + 1), Barrier::new(lanes + 1));
    std::thread::scope(|scope| {
        let (ready, go) = (&ready, &go);
        let spawn = |index| {
            std::thread::Builder::new()
                .name("lane".into())
                .spawn_scoped(scope, move || lane(leg, index, places, ready, go))
        };
        let threads: Vec<_> = (0..leg.lanes).map(spawn).collect::<Result<_, _>>().context("cannot start a thread")?;
        ready.wait();
        let begun = begin();
        go.wait();
        let mut outcome = Outcome::new()?;
        for thread in threads {
            outcome.add(thread.join().map_err(|_| anyhow!("a lane panicked"))??)?;
        }
        Ok((outcome, begun?))
    })
}

/// A lane passes both barriers also when it could not connect: nobody may wait for it.
fn lane(leg: &Leg, index: u64, places: &Places, ready: &Barrier, go: &Barrier) -> anyhow::Result<Outcome> {
    let start = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (lane, warm_up) = runtime.block_on(Lane::connect(leg, index, places))?;
        anyhow::Ok((runtime, lane, warm_up))
    };
    let started = start();
    ready.wait();
    go.wait();
    let (runtime, lane, warm_up) = started?;
    let mut outcome = runtime.block_on(lane.run(leg, index))?;
    outcome.warm_up = warm_up;
    Ok(outcome)
}

/// One connection and its callers.
#[derive(Clone)]
struct Lane {
    target: Target,
    work: Work,
    bodies: Arc<Bodies>,
    tally: Arc<Mutex<Outcome>>,
    /// The next call's number, among those of this lane.
    next: Arc<AtomicU64>,
}

impl Lane {
    async fn connect(leg: &Leg, index: u64, places: &Places) -> anyhow::Result<(Lane, u64)> {
        let (model, stream) = (leg.work.model(), leg.work.is_stream());
        let seed = leg.seed.wrapping_add(index);
        let bodies = match leg.road {
            Road::Direct => Bodies::direct(seed, model, stream),
            Road::Bus | Road::Http => Bodies::farebox(seed, model, stream),
        };
        let lane = Lane {
            target: Target::connect(leg.road, places).await?,
            work: leg.work,
            bodies: Arc::new(bodies),
            tally: Arc::new(Mutex::new(Outcome::new()?)),
            next: Arc::default(),
        };
        for call in 0..WARM_UP {
            lane.call(call, Instant::now()).await;
        }
        let warm = std::mem::replace(&mut *lane.lock(), Outcome::new()?);
        ensure!(warm.failed == 0, "the warm-up failed: {}", warm.first_error.unwrap_or_default());
        Ok((lane, warm.ok))
    }

    async fn run(self, leg: &Leg, index: u64) -> anyhow::Result<Outcome> {
        let share = |whole: u64| whole / leg.lanes + u64::from(index < whole % leg.lanes);
        let start = Instant::now();
        match leg.pattern {
            Pattern::Closed { callers, calls, within } => {
                self.closed(share(callers).max(1), share(calls), start + within).await?;
            }
            Pattern::Open { every, calls } => {
                let every_here = every * u32::try_from(leg.lanes)?;
                let first = start + every * u32::try_from(index + 1)?;
                self.open(first, every_here, share(calls)).await?;
            }
        }
        let mut outcome = std::mem::replace(&mut *self.lock(), Outcome::new()?);
        outcome.elapsed = outcome.last_end.map_or_else(|| start.elapsed(), |end| end.saturating_duration_since(start));
        Ok(outcome)
    }

    async fn closed(&self, callers: u64, calls: u64, until: Instant) -> anyhow::Result<()> {
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let lane = self.clone();
            tasks.spawn(async move {
                loop {
                    let call = lane.next.fetch_add(1, Relaxed);
                    let now = Instant::now();
                    if call >= calls || now >= until {
                        return;
                    }
                    lane.call(call, now).await;
                }
            });
        }
        while let Some(task) = tasks.join_next().await {
            task.context("a caller panicked")?;
        }
        Ok(())
    }

    async fn open(&self, first: Instant, every: Duration, calls: u64) -> anyhow::Result<()> {
        let mut pacer = Pacer::new()?;
        let mut tasks = JoinSet::new();
        for call in 0..calls {
            let scheduled = first + every * u32::try_from(call)?;
            pacer.until(scheduled).await?;
            while let Some(task) = tasks.try_join_next() {
                task.context("a caller panicked")?;
            }
            if tasks.len() >= IN_FLIGHT_MAX {
                self.fail(format!("{IN_FLIGHT_MAX} calls are out already"));
                continue;
            }
            let lane = self.clone();
            tasks.spawn(async move { lane.call(call, scheduled).await });
        }
        while let Some(task) = tasks.join_next().await {
            task.context("a caller panicked")?;
        }
        Ok(())
    }

    async fn call(&self, number: u64, since: Instant) {
        let body = self.bodies.get(number);
        let call = async {
            match self.work {
                Work::Whole => self.target.call(body).await.map(|()| None),
                Work::Stream(_) => self.target.stream(body).await.map(Some),
            }
        };
        let ended = tokio::time::timeout(CALL_TIMEOUT, call).await;
        let now = Instant::now();
        self.lock().last_end = Some(now);
        match ended {
            Ok(Ok(streamed)) => {
                let mut tally = self.lock();
                tally.ok += 1;
                tally.latency.record(now.saturating_duration_since(since));
                if let Some(streamed) = streamed {
                    tally.first.record(streamed.first.saturating_duration_since(since));
                    tally.chunks += streamed.chunks;
                }
            }
            Ok(Err(error)) => self.fail(format!("{error:#}")),
            Err(_) => self.fail(format!("no answer within {CALL_TIMEOUT:?}")),
        }
    }

    fn fail(&self, error: String) {
        let mut tally = self.lock();
        tally.failed += 1;
        tally.first_error.get_or_insert(error);
    }

    fn lock(&self) -> MutexGuard<'_, Outcome> {
        // Everything that holds it is on one thread: it is never contended.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::ANSWER;
    use farebox_emulator::{Emulator, Options, Script, Totals};

    /// Runs a direct leg against an emulator, and gives what both say.
    fn direct(script: Script, work: Work, pattern: Pattern, lanes: u64) -> (anyhow::Result<Outcome>, Totals) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let emulator = runtime.block_on(Emulator::start(Options::default())).unwrap();
        emulator.script(MODEL.name, script);
        let places = Places { direct: emulator.addr(), nats: String::new(), edge: emulator.addr() };
        let leg = Leg { road: Road::Direct, work, pattern, lanes, seed: 3 };
        let outcome = run(&leg, &places, || Ok(())).map(|(outcome, ())| outcome);
        (outcome, emulator.ledger().totals())
    }

    fn answer() -> Script {
        Script::text(ANSWER).chunks(MODEL.chunks)
    }

    #[test]
    fn a_closed_loop_makes_exactly_its_calls() {
        let pattern = Pattern::Closed { callers: 7, calls: 101, within: Duration::from_secs(60) };
        let (outcome, totals) = direct(answer(), Work::Whole, pattern, 3);
        let outcome = outcome.unwrap();
        assert_eq!((outcome.ok, outcome.failed, outcome.warm_up), (101, 0, 3 * WARM_UP), "{:?}", outcome.first_error);
        assert_eq!((totals.billed, totals.answered), (outcome.ok + outcome.warm_up, outcome.ok + outcome.warm_up));
    }

    #[test]
    fn a_closed_loop_ends_with_its_time() {
        let pattern = Pattern::Closed { callers: 2, calls: u64::MAX, within: Duration::from_millis(100) };
        let (outcome, totals) = direct(answer(), Work::Whole, pattern, 1);
        let outcome = outcome.unwrap();
        assert!(outcome.ok > 0 && outcome.failed == 0 && outcome.elapsed >= Duration::from_millis(100));
        assert_eq!(totals.billed, outcome.ok + outcome.warm_up);
    }

    #[test]
    fn an_open_loop_counts_from_the_schedule() {
        let pattern = Pattern::Open { every: Duration::from_millis(2), calls: 50 };
        let (outcome, _) = direct(answer().delay(Duration::from_millis(5)), Work::Whole, pattern, 2);
        let outcome = outcome.unwrap();
        assert_eq!((outcome.ok, outcome.failed), (50, 0), "{:?}", outcome.first_error);
        // Calls that are out do not delay those that follow: one by one they would take 250 ms.
        assert!(outcome.elapsed >= Duration::from_millis(100));
        assert!(outcome.latency.quantiles().p50 >= 5.0);
    }

    #[test]
    fn streams_are_read_to_their_end() {
        let pattern = Pattern::Closed { callers: 4, calls: 20, within: Duration::from_secs(60) };
        let (outcome, totals) = direct(answer(), Work::Stream(&MODEL), pattern, 1);
        let outcome = outcome.unwrap();
        assert_eq!((outcome.ok, outcome.failed), (20, 0), "{:?}", outcome.first_error);
        assert_eq!(outcome.chunks, 20 * MODEL.chunks as u64);
        assert!(outcome.first.quantiles().p50 <= outcome.latency.quantiles().p50);
        assert_eq!(totals.cut + totals.client_gone, 0);
    }

    #[test]
    fn another_answer_is_a_failure_that_is_told() {
        let pattern = Pattern::Closed { callers: 1, calls: 1, within: Duration::from_secs(60) };
        let (outcome, _) = direct(Script::refuse(500, "broken"), Work::Whole, pattern, 2);
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("warm-up") && error.contains("broken"), "{error}");
    }
}
