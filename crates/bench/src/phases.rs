//! The phases: which legs, in which order.

use std::time::Duration;

use anyhow::Context as _;

use crate::{
    cli::{Phase, Size},
    emulator::{MODEL, PACED, SHORT},
    load::{self, Leg, Pattern, Work},
    proc::{Cpu, used},
    report::{LegReport, PhaseReport, Report, Round, Setting, Snapshot, Summary, per_1000},
    stack::Scene,
    table,
    target::Road,
};

/// How long accounting is waited for after a leg.
const SETTLE_LEG: Duration = Duration::from_secs(30);
/// How long nothing is called, to see what that costs.
const IDLE: Duration = Duration::from_secs(3);
const RATES: [u32; 3] = [50, 200, 500];
const STREAM_RATE: u32 = 20;
const STREAMS_AT_ONCE: u64 = 32;
const HTTP_RATE: u32 = 100;
/// At their pace they are fewer frames than two cores can bring, so that a frame is its own.
const PACED_AT_ONCE: u64 = 64;
/// Parts of the long run; memory is looked at after each.
const PARTS: u64 = 5;

/// A run: what is measured, and what has been called so far.
pub(crate) struct Bench<'a> {
    pub(crate) scene: Scene,
    pub(crate) setting: Setting,
    pub(crate) report: &'a mut Report,
    /// Answers from farebox, warm-ups included.
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    /// CPU time and calls when the long run began.
    pub(crate) long_began: Option<(Cpu, u64)>,
}

impl Bench<'_> {
    pub(crate) async fn run(&mut self, phases: &[Phase], settle: Duration) -> anyhow::Result<()> {
        self.snapshot("start")?;
        self.report.idle_cpu = self.idle().await?;
        for phase in phases {
            match phase {
                Phase::Single => self.single().await?,
                Phase::Open => self.open().await?,
                Phase::Closed => self.closed().await?,
                Phase::Stream => self.streams().await?,
                Phase::Http => self.http().await?,
                Phase::Frames => self.frames().await?,
                Phase::Long => self.long().await?,
            }
        }
        table::note("waiting until accounting has caught up");
        self.report.check = Some(self.scene.books.check(self.calls, self.failed, settle).await?);
        if let Some((before, calls)) = &self.long_began {
            let cpu = used(before, &self.scene.processes.cpu()?);
            self.report.long_cpu_per_1000 = Some(per_1000(&cpu, self.calls - calls));
        }
        self.snapshot(if phases.contains(&Phase::Long) { "long: settled" } else { "end" })
    }

    async fn idle(&self) -> anyhow::Result<Cpu> {
        let before = self.scene.processes.cpu()?;
        tokio::time::sleep(IDLE).await;
        let used = used(&before, &self.scene.processes.cpu()?);
        Ok(used.into_iter().map(|(name, seconds)| (name, seconds / IDLE.as_secs_f64())).collect())
    }

    async fn single(&mut self) -> anyhow::Result<()> {
        let Size { single_calls, leg_seconds, .. } = self.setting.size;
        let within = Duration::from_secs(2 * leg_seconds);
        let pattern = Pattern::Closed { callers: 1, calls: single_calls, within };
        self.paired("single", self.leg(Road::Bus, Work::Whole, pattern)).await
    }

    async fn open(&mut self) -> anyhow::Result<()> {
        for rate in RATES {
            let leg = self.leg(Road::Bus, Work::Whole, self.schedule(rate));
            self.paired(&format!("open-{rate}"), leg).await?;
        }
        Ok(())
    }

    async fn closed(&mut self) -> anyhow::Result<()> {
        let Setting { callers, connections, .. } = self.setting;
        let leg = self.leg(Road::Bus, Work::Whole, self.all_the_time(callers));
        self.paired("closed", Leg { lanes: connections, ..leg }).await
    }

    async fn streams(&mut self) -> anyhow::Result<()> {
        let leg = self.leg(Road::Bus, Work::Stream(&MODEL), self.schedule(STREAM_RATE));
        self.paired(&format!("stream-{STREAM_RATE}"), leg).await?;
        let lanes = self.setting.connections.min(STREAMS_AT_ONCE);
        let leg = self.leg(Road::Bus, Work::Stream(&MODEL), self.all_the_time(STREAMS_AT_ONCE));
        self.paired(&format!("stream-{STREAMS_AT_ONCE}-at-once"), Leg { lanes, ..leg }).await
    }

    async fn http(&mut self) -> anyhow::Result<()> {
        let Setting { callers, connections, .. } = self.setting;
        let leg = self.leg(Road::Http, Work::Whole, self.schedule(HTTP_RATE));
        self.paired(&format!("http-{HTTP_RATE}"), leg).await?;
        let leg = self.leg(Road::Http, Work::Stream(&SHORT), self.schedule(HTTP_RATE));
        self.paired(&format!("http-stream-{HTTP_RATE}"), leg).await?;
        let leg = self.leg(Road::Http, Work::Whole, self.all_the_time(callers));
        self.alone("http-closed", Leg { lanes: connections, ..leg }).await
    }

    /// Next to direct streams, whose CPU time is what emulator and generator need for a frame.
    async fn frames(&mut self) -> anyhow::Result<()> {
        let leg = self.leg(Road::Http, Work::Stream(&PACED), self.all_the_time(PACED_AT_ONCE));
        self.paired("http-frames", leg).await
    }

    async fn long(&mut self) -> anyhow::Result<()> {
        let total = self.setting.size.long_calls;
        self.snapshot("long: start")?;
        self.long_began = Some((self.scene.processes.cpu()?, self.calls));
        let mut rounds = Vec::new();
        for part in 0..PARTS {
            let calls = total / PARTS + u64::from(part < total % PARTS);
            table::note(&format!("long: part {} of {PARTS}, {calls} calls", part + 1));
            // Only the limit on the whole run bounds it: every one of these calls is made.
            let pattern = Pattern::Closed { callers: self.setting.callers, calls, within: Duration::from_secs(36_000) };
            let leg = self.leg(Road::Bus, Work::Whole, pattern);
            let farebox = self.run_leg(Leg { lanes: self.setting.connections, ..leg }, None).await?;
            rounds.push(Round { direct: None, farebox });
            self.snapshot(&format!("long: part {}", part + 1))?;
        }
        self.keep("long", rounds);
        Ok(())
    }

    fn schedule(&self, rate: u32) -> Pattern {
        let calls = u64::from(rate) * self.setting.size.leg_seconds;
        Pattern::Open { every: Duration::from_secs(1) / rate, calls }
    }

    fn all_the_time(&self, callers: u64) -> Pattern {
        let within = Duration::from_secs(self.setting.size.leg_seconds);
        Pattern::Closed { callers, calls: u64::MAX, within }
    }

    /// A leg on one connection.
    fn leg(&self, road: Road, work: Work, pattern: Pattern) -> Leg {
        Leg { road, work, pattern, lanes: 1, seed: self.setting.seed }
    }

    /// Rounds of a direct leg and the same through farebox; who goes first changes, so that a drift favours neither.
    async fn paired(&mut self, name: &str, leg: Leg) -> anyhow::Result<()> {
        self.rounds(name, leg, Some(Leg { road: Road::Direct, ..leg })).await
    }

    /// Rounds through farebox only, whose figures stand for themselves.
    async fn alone(&mut self, name: &str, leg: Leg) -> anyhow::Result<()> {
        self.rounds(name, leg, None).await
    }

    async fn rounds(&mut self, name: &str, farebox: Leg, direct: Option<Leg>) -> anyhow::Result<()> {
        let count = self.setting.size.rounds;
        let mut rounds = Vec::new();
        for round in 0..count {
            table::note(&format!("{name}: round {} of {count}", round + 1));
            let (before, after) = if round % 2 == 0 { (direct, None) } else { (None, direct) };
            let before = self.run_direct(before).await?;
            let farebox = self.run_leg(farebox, Some(SETTLE_LEG)).await?;
            let after = self.run_direct(after).await?;
            rounds.push(Round { direct: before.or(after), farebox });
        }
        self.keep(name, rounds);
        self.snapshot(name)
    }

    async fn run_direct(&mut self, leg: Option<Leg>) -> anyhow::Result<Option<LegReport>> {
        match leg {
            Some(leg) => self.run_leg(leg, None).await.map(Some),
            None => Ok(None),
        }
    }

    async fn run_leg(&mut self, leg: Leg, settle: Option<Duration>) -> anyhow::Result<LegReport> {
        let (places, processes) = (self.scene.places.clone(), self.scene.processes.clone());
        let run = tokio::task::spawn_blocking(move || load::run(&leg, &places, || processes.cpu()));
        let (outcome, before) = run.await.context("a leg panicked")??;
        let mut settled = None;
        if leg.road != Road::Direct {
            self.calls += outcome.ok + outcome.warm_up;
            self.failed += outcome.failed;
            if let Some(within) = settle {
                settled = Some(self.scene.books.settle(self.calls, within).await?);
            }
        }
        let cpu = used(&before, &self.scene.processes.cpu()?);
        Ok(LegReport::new(leg.road, leg.work, outcome, settled, cpu))
    }

    fn keep(&mut self, name: &str, rounds: Vec<Round>) {
        let summary = Summary::of(&rounds);
        self.report.phases.push(PhaseReport { name: name.to_owned(), rounds, summary });
    }

    fn snapshot(&mut self, when: &str) -> anyhow::Result<()> {
        let processes = self.scene.processes.memory()?;
        self.report.memory.push(Snapshot { when: when.to_owned(), calls: self.calls, processes });
        Ok(())
    }
}
