//! The budget storm: hundreds of calls at once on hard budgets that are far too small for them, on every level, while
//! guards and workers are killed and stopped.
//!
//! A cluster of three NATS servers (every stream three times), three intakes, a guard that leads and one that waits,
//! four workers, accounting and ClickHouse, all as processes; the provider is an emulator that keeps its own bill.
//! In the end, whatever happened: on no level was more billed than its limit; rows and bill agree call by call; every
//! caller got exactly one final answer; nothing is left reserved; and the guard's own sums are those of the rows.
//!
//! The seed draws calls and faults. What the machine makes of them differs from run to run.

mod calls;
mod cluster;
mod faults;
mod levels;
mod provider;
mod verdict;

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use farebox_testkit::Dice;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use crate::{cli::StormArgs, table};

use self::{cluster::Cluster, provider::Provider};

/// No storm takes longer; most of it is waiting for what must not come.
const WITHIN: Duration = Duration::from_secs(240);

/// Plays one storm and says what came of it; `false` when something did not hold.
pub(crate) async fn run(args: &StormArgs) -> anyhow::Result<bool> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    tokio::select! {
        played = timeout(WITHIN, play(args)) => played.context("the storm does not end")?,
        _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow!("told to stop")),
    }
}

/// Everything that is started here ends with what holds it, also when this is dropped half-way.
async fn play(args: &StormArgs) -> anyhow::Result<bool> {
    let provider = Provider::start().await?;
    let mut cluster = Cluster::start(args.farebox.as_deref(), &provider).await?;
    table::note(&format!("seed {}: {} calls", args.seed, args.calls));
    let mut dice = Dice::new(args.seed);
    let planned = calls::plan(&mut dice, args.calls.into());
    let faults = faults::plan(&mut dice);
    let callers = calls::start(&cluster.callers().await?, planned);
    faults::play(&mut cluster, faults).await?;
    let ended = callers.ended().await;
    let verdict = verdict::reach(&cluster, &provider, ended).await?;
    for violation in &verdict.violations {
        table::note(&format!("violated: {violation}"));
    }
    if !verdict.violations.is_empty() {
        table::note(&format!("everything is left in {}", cluster.keep()?.display()));
    }
    table::note(&verdict.told);
    table::print(&format!("{}\n", verdict.summary))?;
    Ok(verdict.violations.is_empty())
}
