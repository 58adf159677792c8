//! What is saved of a run.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;

use crate::{
    books::Check,
    cli::Size,
    load::{Outcome, Work},
    proc::{Cpu, Machine, Memory},
    stats::{Quantiles, Spread},
    target::Road,
};

#[derive(Debug, serde::Serialize)]
pub(crate) struct Report {
    pub(crate) at: String,
    pub(crate) commit: String,
    pub(crate) machine: Machine,
    pub(crate) setting: Setting,
    /// CPU seconds per second while nothing is called.
    pub(crate) idle_cpu: Cpu,
    pub(crate) phases: Vec<PhaseReport>,
    /// CPU seconds per 1000 calls of the whole long run, until accounting had caught up.
    pub(crate) long_cpu_per_1000: Option<Cpu>,
    pub(crate) memory: Vec<Snapshot>,
    /// `None`: the run did not come to its end.
    pub(crate) check: Option<Check>,
    /// Why the run did not come to its end.
    pub(crate) error: Option<String>,
    pub(crate) targets: Vec<Goal>,
}

#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Setting {
    pub(crate) seed: u64,
    pub(crate) durability: &'static str,
    pub(crate) farebox_threads: Option<u16>,
    pub(crate) callers: u64,
    pub(crate) connections: u64,
    pub(crate) quick: bool,
    pub(crate) size: Size,
    /// Whether the generator itself was built without optimisation: then no figure counts.
    pub(crate) debug_build: bool,
}

#[derive(Debug, serde::Serialize)]
pub(crate) struct PhaseReport {
    pub(crate) name: String,
    pub(crate) rounds: Vec<Round>,
    pub(crate) summary: Summary,
}

/// Both roads, one after the other.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Round {
    /// Absent where farebox's own figures are asked for.
    pub(crate) direct: Option<LegReport>,
    pub(crate) farebox: LegReport,
}

#[derive(Debug, serde::Serialize)]
pub(crate) struct LegReport {
    pub(crate) road: Road,
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) seconds: f64,
    pub(crate) calls_per_s: f64,
    pub(crate) ms: Quantiles,
    /// Only of streams: until the first text.
    pub(crate) first_ms: Option<Quantiles>,
    pub(crate) chunks: Option<u64>,
    pub(crate) chunks_per_s: Option<f64>,
    /// Until accounting had caught up, where it was waited for.
    pub(crate) settle_s: Option<f64>,
    /// From the first call until accounting had caught up.
    pub(crate) cpu_s: Cpu,
}

impl LegReport {
    pub(crate) fn new(road: Road, work: Work, outcome: Outcome, settle: Option<Duration>, cpu_s: Cpu) -> LegReport {
        let seconds = outcome.elapsed.as_secs_f64().max(1e-9);
        let stream = work.is_stream();
        LegReport {
            road,
            ok: outcome.ok,
            failed: outcome.failed,
            first_error: outcome.first_error,
            seconds,
            calls_per_s: outcome.ok as f64 / seconds,
            ms: outcome.latency.quantiles(),
            first_ms: stream.then(|| outcome.first.quantiles()),
            chunks: stream.then_some(outcome.chunks),
            chunks_per_s: stream.then(|| outcome.chunks as f64 / seconds),
            settle_s: settle.map(|settle| settle.as_secs_f64()),
            cpu_s,
        }
    }

    fn cpu_per_1000(&self) -> Cpu {
        per_1000(&self.cpu_s, self.ok)
    }

    /// CPU time for a piece of a stream, its share of the call included: of one process, or of all.
    fn us_per_chunk(&self, process: Option<&str>) -> Option<f64> {
        let chunks = self.chunks.filter(|chunks| *chunks > 0)?;
        let of = self.cpu_s.iter().filter(|(name, _)| process.is_none_or(|process| process == name.as_str()));
        Some(of.map(|(_, seconds)| seconds * 1e6).sum::<f64>() / chunks as f64)
    }
}

pub(crate) fn per_1000(cpu: &Cpu, calls: u64) -> Cpu {
    let thousands = calls.max(1) as f64 / 1000.0;
    cpu.iter().map(|(name, seconds)| (name.clone(), seconds / thousands)).collect()
}

/// Figures over the rounds of a phase: farebox's own, and what it adds to the direct call of the same round.
#[derive(Debug, Default, serde::Serialize)]
pub(crate) struct Summary {
    pub(crate) figures: BTreeMap<&'static str, Spread>,
    /// CPU seconds per 1000 calls through farebox, by process.
    pub(crate) cpu_per_1000: BTreeMap<String, Spread>,
}

impl Summary {
    pub(crate) fn of(rounds: &[Round]) -> Summary {
        let mut figures = BTreeMap::new();
        let mut put = |name, values: Vec<Option<f64>>| {
            if let Some(spread) = Spread::of(values.into_iter().flatten()) {
                figures.insert(name, spread);
            }
        };
        let farebox = |get: &dyn Fn(&LegReport) -> Option<f64>| rounds.iter().map(|r| get(&r.farebox)).collect();
        let direct = |get: &dyn Fn(&LegReport) -> Option<f64>| rounds.iter().map(|r| get(r.direct.as_ref()?)).collect();
        let added = |get: &dyn Fn(&LegReport) -> Option<f64>| {
            rounds.iter().map(|r| Some(get(&r.farebox)? - get(r.direct.as_ref()?)?)).collect()
        };
        put("direct_p50_ms", direct(&|leg| Some(leg.ms.p50)));
        put("direct_p99_ms", direct(&|leg| Some(leg.ms.p99)));
        put("p50_ms", farebox(&|leg| Some(leg.ms.p50)));
        put("p99_ms", farebox(&|leg| Some(leg.ms.p99)));
        put("added_p50_ms", added(&|leg| Some(leg.ms.p50)));
        put("added_p99_ms", added(&|leg| Some(leg.ms.p99)));
        put("direct_calls_per_s", direct(&|leg| Some(leg.calls_per_s)));
        put("calls_per_s", farebox(&|leg| Some(leg.calls_per_s)));
        put("direct_first_p50_ms", direct(&|leg| leg.first_ms.map(|q| q.p50)));
        put("first_p50_ms", farebox(&|leg| leg.first_ms.map(|q| q.p50)));
        put("added_first_p50_ms", added(&|leg| leg.first_ms.map(|q| q.p50)));
        put("added_first_p99_ms", added(&|leg| leg.first_ms.map(|q| q.p99)));
        put("direct_chunks_per_s", direct(&|leg| leg.chunks_per_s));
        put("chunks_per_s", farebox(&|leg| leg.chunks_per_s));
        put("farebox_us_per_chunk", farebox(&|leg| leg.us_per_chunk(Some("farebox"))));
        put("all_us_per_chunk", farebox(&|leg| leg.us_per_chunk(None)));
        put("direct_us_per_chunk", direct(&|leg| leg.us_per_chunk(None)));
        put("settle_s", farebox(&|leg| leg.settle_s));
        Summary { figures, cpu_per_1000: cpu_spreads(rounds) }
    }

    pub(crate) fn median(&self, name: &str) -> Option<f64> {
        self.figures.get(name).map(|spread| spread.median)
    }
}

fn cpu_spreads(rounds: &[Round]) -> BTreeMap<String, Spread> {
    let mut by_name: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for round in rounds {
        for (name, seconds) in round.farebox.cpu_per_1000() {
            by_name.entry(name).or_default().push(seconds);
        }
    }
    by_name.into_iter().filter_map(|(name, values)| Some((name, Spread::of(values)?))).collect()
}

/// Memory of all processes at one moment.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Snapshot {
    pub(crate) when: String,
    /// Calls through farebox until then.
    pub(crate) calls: u64,
    pub(crate) processes: BTreeMap<String, Memory>,
}

impl Snapshot {
    pub(crate) fn rss_mib(&self, process: &str) -> Option<f64> {
        self.processes.get(process).map(|memory| memory.rss_kib as f64 / 1024.0)
    }
}

/// Something that the project set itself; it is told whether it is met, no more.
#[derive(Debug, PartialEq, serde::Serialize)]
pub(crate) struct Goal {
    pub(crate) what: &'static str,
    pub(crate) limit: f64,
    pub(crate) figure: f64,
    pub(crate) met: bool,
}

impl Goal {
    pub(crate) fn at_least(what: &'static str, limit: f64, figure: f64) -> Goal {
        Goal { what, limit, figure, met: figure >= limit }
    }

    pub(crate) fn at_most(what: &'static str, limit: f64, figure: f64) -> Goal {
        Goal { what, limit, figure, met: figure <= limit }
    }
}

impl Report {
    pub(crate) fn phase(&self, name: &str) -> Option<&PhaseReport> {
        self.phases.iter().find(|phase| phase.name == name)
    }

    /// Whether the run came to its end and the books agree.
    pub(crate) fn is_good(&self) -> bool {
        self.error.is_none() && self.check.as_ref().is_some_and(|check| check.differences.is_empty())
    }

    /// The goals whose figures were measured.
    pub(crate) fn judge(&mut self) {
        let of = |phase: &str, figure: &str| self.phase(phase)?.summary.median(figure);
        let long = || self.memory.iter().filter(|snapshot| snapshot.when.starts_with("long"));
        let rss = || long().filter_map(|snapshot| snapshot.rss_mib("farebox"));
        let goals = [
            of("closed", "calls_per_s").map(|rate| Goal::at_least("calls/s, closed loop", 2_000.0, rate)),
            of("open-200", "added_p50_ms").map(|ms| Goal::at_most("added p50 at 200/s, ms", 1.0, ms)),
            of("http-100", "added_p50_ms").map(|ms| Goal::at_most("added p50 over HTTP at 100/s, ms", 1.2, ms)),
            of("http-stream-100", "added_first_p50_ms")
                .map(|ms| Goal::at_most("added p50 to the first piece over HTTP at 100/s, ms", 1.2, ms)),
            of("http-closed", "calls_per_s")
                .map(|rate| Goal::at_least("calls/s over HTTP, closed loop", 1_500.0, rate)),
            of("http-frames", "farebox_us_per_chunk")
                .map(|us| Goal::at_most("CPU of farebox for a frame over HTTP, µs", 20.0, us)),
            rss().next_back().map(|mib| Goal::at_most("RSS of farebox after the long run, MiB", 80.0, mib)),
            // The first fifth fills what is bounded; after it nothing should grow.
            rss()
                .nth(1)
                .zip(rss().next_back())
                .map(|(early, late)| Goal::at_most("growth of that RSS after the first fifth, MiB", 8.0, late - early)),
        ];
        self.targets = goals.into_iter().flatten().collect();
    }

    /// Writes `<UTC time>-<commit>.json`.
    pub(crate) fn save(&self, dir: &Path) -> anyhow::Result<PathBuf> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let plain = |text: &str| -> String {
            text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')).collect()
        };
        let path = dir.join(format!("{}-{}.json", plain(&self.at), plain(&self.commit)));
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg(road: Road, p50: f64, farebox_cpu: f64) -> LegReport {
        LegReport {
            road,
            ok: 500,
            failed: 0,
            first_error: None,
            seconds: 1.0,
            calls_per_s: 500.0,
            ms: Quantiles { p50, p99: 2.0 * p50, ..Quantiles::default() },
            first_ms: None,
            chunks: None,
            chunks_per_s: None,
            settle_s: None,
            cpu_s: Cpu::from([("farebox".to_owned(), farebox_cpu)]),
        }
    }

    #[test]
    fn what_is_added_is_taken_within_each_round() {
        let round = |direct, farebox| Round {
            direct: Some(leg(Road::Direct, direct, 0.0)),
            farebox: leg(Road::Bus, farebox, 0.25),
        };
        let summary = Summary::of(&[round(1.0, 2.0), round(5.0, 5.5), round(1.0, 1.75)]);
        assert_eq!(summary.figures["added_p50_ms"], Spread { min: 0.5, median: 0.75, max: 1.0 });
        assert_eq!(summary.median("added_p99_ms"), Some(1.5));
        assert_eq!(summary.cpu_per_1000["farebox"].median, 0.5);
        assert_eq!(summary.median("first_p50_ms"), None);
    }

    #[test]
    fn a_round_without_a_direct_leg_adds_nothing() {
        let summary = Summary::of(&[Round { direct: None, farebox: leg(Road::Bus, 1.0, 0.0) }]);
        assert_eq!((summary.median("p50_ms"), summary.median("added_p50_ms")), (Some(1.0), None));
    }

    #[test]
    fn a_frame_costs_its_share_of_the_leg() {
        let mut farebox = LegReport { chunks: Some(20_000), ..leg(Road::Http, 1.0, 0.25) };
        farebox.cpu_s.insert("generator".to_owned(), 0.75);
        let summary = Summary::of(&[Round { direct: None, farebox }]);
        let costs = ["farebox_us_per_chunk", "all_us_per_chunk"].map(|name| summary.median(name));
        assert_eq!(costs, [Some(12.5), Some(50.0)]);
    }

    #[test]
    fn goals_look_the_right_way() {
        assert!(Goal::at_least("x", 2.0, 2.0).met && !Goal::at_least("x", 2.0, 1.9).met);
        assert!(Goal::at_most("x", 2.0, 2.0).met && !Goal::at_most("x", 2.0, 2.1).met);
    }
}
