//! A run from its start to its report.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, anyhow};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::{Phase, RunArgs},
    phases::Bench,
    proc::{Machine, load},
    report::{Report, Setting},
    stack::Stack,
    table,
};

/// Measures, prints, saves; `false` when the books disagree or the run did not come to its end.
pub(crate) async fn run(args: &RunArgs, phases: &[Phase]) -> anyhow::Result<bool> {
    let mut report = empty(args);
    let mut stack = Stack::new(args.work_dir.as_deref())?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let ended = tokio::select! {
        ended = measure(args, phases, &mut stack, &mut report) => ended,
        _ = tokio::time::sleep(Duration::from_secs(60 * args.minutes)) => {
            Err(anyhow!("not done after {} minutes: raise --minutes, or measure less", args.minutes))
        }
        _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow!("told to stop")),
    };
    report.machine.load_after = load();
    if let Err(error) = &ended {
        report.error = Some(format!("{error:#}"));
    }
    if !report.is_good() {
        table::note(&stack.logs());
    }
    stack.stop().await;
    if report.memory.is_empty() {
        // Nothing was measured: there is nothing to save.
        return ended.map(|()| false);
    }
    report.judge();
    let saved = report.save(&args.out)?;
    table::print(&table::render(&report)).context("cannot print the results")?;
    table::note(&format!("saved as {}", saved.display()));
    Ok(report.is_good())
}

async fn measure(args: &RunArgs, phases: &[Phase], stack: &mut Stack, report: &mut Report) -> anyhow::Result<()> {
    table::note("starting the emulators and farebox");
    let scene = stack.start(args).await?;
    let setting = report.setting.clone();
    let mut bench = Bench { scene, setting, report, calls: 0, failed: 0, long_began: None };
    bench.run(phases, Duration::from_secs(60 * args.settle_minutes)).await
}

fn empty(args: &RunArgs) -> Report {
    Report {
        at: jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string(),
        commit: args.commit.clone().unwrap_or_else(commit),
        machine: Machine::look(),
        setting: Setting {
            seed: args.seed,
            durability: args.durability.as_str(),
            farebox_threads: args.threads,
            callers: u64::from(args.callers),
            connections: u64::from(args.connections.min(args.callers)),
            quick: args.quick,
            size: args.size(),
            debug_build: cfg!(debug_assertions),
        },
        idle_cpu: Default::default(),
        phases: Vec::new(),
        long_cpu_per_1000: None,
        memory: Vec::new(),
        check: None,
        error: None,
        targets: Vec::new(),
    }
}

/// The commit of the working tree, marked when the tree differs from it.
fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|status| !status.is_empty());
    if changed { format!("{commit}-changed") } else { commit }
}
