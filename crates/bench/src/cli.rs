//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measures farebox next to direct calls, and checks its books.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Only these phases.
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Phase>,
}

impl Cli {
    pub(crate) fn phases(&self) -> Vec<Phase> {
        Phase::ALL.into_iter().filter(|phase| self.only.is_empty() || self.only.contains(phase)).collect()
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The provider emulator, in a process of its own.
    #[command(hide = true)]
    Emulator(EmulatorArgs),
    /// Only the phases `http` and `frames`: calls, streams and their frames at the HTTP edge.
    Http(RunArgs),
    /// What the dialects cost by themselves: a frame of a stream, and the translation of a request.
    Dialects,
    /// Shows that hard budgets hold on every level while guards and workers are killed and stopped.
    BudgetStorm(StormArgs),
    /// What the guard decides in a second, next to bare writes to JetStream.
    Guard(GuardArgs),
}

#[derive(Debug, Args)]
pub(crate) struct GuardArgs {
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) callers: u16,
    /// Length of each phase, after a second to warm up.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    /// What stored messages outlive [default: one after the other].
    #[arg(long, value_enum)]
    pub(crate) durability: Option<Durability>,
}

#[derive(Debug, Args)]
pub(crate) struct StormArgs {
    /// Which calls and which faults.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// The farebox that is tried. Default: beside this program.
    #[arg(long, env = "FAREBOX_BENCH_BINARY")]
    pub(crate) farebox: Option<PathBuf>,
    /// How many call.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(50..=2000))]
    pub(crate) calls: u16,
}

#[derive(Debug, Args)]
pub(crate) struct EmulatorArgs {
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    #[arg(long)]
    pub(crate) ready_file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The farebox to measure: a release build. Default: beside this program.
    #[arg(long, env = "FAREBOX_BENCH_BINARY")]
    pub(crate) farebox: Option<PathBuf>,
    /// A few seconds for each phase: shows that it works, measures little.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Rounds of each phase [default: 3, quick: 2].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: Option<u32>,
    /// Calls of the long run [default: 100000, quick: 2000].
    #[arg(long, value_parser = clap::value_parser!(u64).range(5..=10_000_000))]
    pub(crate) calls: Option<u64>,
    /// Callers of the closed loops and the long run; over HTTP each has a connection of its own.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) callers: u16,
    /// Connections of the generator, each with a thread of its own that shares the callers with the others.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) connections: u16,
    /// `nats.durability` of the farebox that is measured.
    #[arg(long, value_enum, default_value_t = Durability::Process)]
    pub(crate) durability: Durability,
    /// `process.threads` of the farebox that is measured; without it farebox's own default.
    #[arg(long)]
    pub(crate) threads: Option<u16>,
    /// Which prompts are sent.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Where the figures are saved.
    #[arg(long, default_value = "bench-results")]
    pub(crate) out: PathBuf,
    /// Where the data of the run lie until its end: with `--durability power` this should be a real disk [default: the
    /// system's directory for temporary files].
    #[arg(long)]
    pub(crate) work_dir: Option<PathBuf>,
    /// What is measured [default: asks git].
    #[arg(long, env = "FAREBOX_BENCH_COMMIT")]
    pub(crate) commit: Option<String>,
    /// Minutes after which the run is given up.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) minutes: u64,
    /// Minutes that accounting may take to catch up at the end of the long run.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub(crate) settle_minutes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// One call at a time.
    Single,
    /// A fixed schedule at several rates.
    Open,
    /// As fast as it goes, with a fixed number of callers.
    Closed,
    /// Streams.
    Stream,
    /// The HTTP edge: calls and streams on a schedule, and a closed loop.
    Http,
    /// What a frame of a stream costs at the HTTP edge.
    Frames,
    /// Many calls: memory and books.
    Long,
}

impl Phase {
    pub(crate) const ALL: [Phase; 7] =
        [Phase::Single, Phase::Open, Phase::Closed, Phase::Stream, Phase::Http, Phase::Frames, Phase::Long];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Durability {
    Process,
    Power,
}

impl Durability {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Durability::Process => "process",
            Durability::Power => "power",
        }
    }
}

/// How much of everything.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Size {
    pub(crate) rounds: u32,
    /// Calls of one leg, one at a time.
    pub(crate) single_calls: u64,
    /// Length of every other leg.
    pub(crate) leg_seconds: u64,
    pub(crate) long_calls: u64,
}

impl RunArgs {
    pub(crate) fn size(&self) -> Size {
        let (rounds, single_calls, leg_seconds, long_calls) =
            if self.quick { (2, 100, 2, 2_000) } else { (3, 1_000, 5, 100_000) };
        Size {
            rounds: self.rounds.unwrap_or(rounds),
            single_calls,
            leg_seconds,
            long_calls: self.calls.unwrap_or(long_calls),
        }
    }
}
