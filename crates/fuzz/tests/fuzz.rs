//! Every target in turn, for a bounded time in sum.
//!
//! `FUZZ_SECONDS` (of all targets together), `FUZZ_SEED`, `FUZZ_TARGET` (a part of the names) and `FUZZ_REPLAY` (a file
//! with one input) change what is run.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use farebox_fuzz::{Failure, Fuzzer, Target, targets};

const SECONDS: u64 = 20;
const SEED: u64 = 1;
/// Beyond its time and the slowest input, a target that still runs has met an input without end.
const STUCK: Duration = Duration::from_secs(120);

fn number(name: &str) -> anyhow::Result<Option<u64>> {
    let Ok(text) = std::env::var(name) else { return Ok(None) };
    text.parse().map(Some).with_context(|| format!("{name} must be a whole number"))
}

#[test]
fn no_input_breaks_a_law() -> anyhow::Result<()> {
    let seconds = number("FUZZ_SECONDS")?.unwrap_or(SECONDS);
    let seed = number("FUZZ_SEED")?.unwrap_or(SEED);
    let part = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let chosen: Vec<Target> = targets()?.into_iter().filter(|target| target.name.contains(&part)).collect();
    anyhow::ensure!(!chosen.is_empty(), "no target has {part:?} in its name");
    let time = Duration::from_secs(seconds) / u32::try_from(chosen.len())?;
    let mut broken = Vec::new();
    for name in chosen.into_iter().map(|target| target.name) {
        match one(&name, seed, time)? {
            Ok(drawn) => writeln!(std::io::stderr(), "{name}: {drawn} inputs from seed {seed}")?,
            Err(failure) => broken.push(report(&name, &failure)),
        }
    }
    anyhow::ensure!(broken.is_empty(), "{}", broken.join("\n\n"));
    Ok(())
}

/// In a thread of its own, so that an input without end is noticed.
fn one(name: &str, seed: u64, time: Duration) -> anyhow::Result<Result<usize, Failure>> {
    let (done, result) = mpsc::channel();
    let wanted = name.to_owned();
    let worker = thread::spawn(move || -> anyhow::Result<()> {
        let target = targets()?.into_iter().find(|target| target.name == wanted).context("the target is gone")?;
        let outcome = match std::env::var_os("FUZZ_REPLAY") {
            Some(file) => {
                let input = std::fs::read(file)?;
                Fuzzer::replay(&target, &input).map(|()| 1).map_err(|problem| Failure { input, problem })
            }
            None => Fuzzer { seed, keep: kept(&wanted) }.run(&target, time)?,
        };
        Ok(done.send(outcome)?)
    });
    match result.recv_timeout(time + STUCK) {
        Ok(outcome) => Ok(outcome),
        Err(RecvTimeoutError::Disconnected) => {
            worker.join().map_err(|_| anyhow::anyhow!("{name} panicked outside of its laws"))??;
            anyhow::bail!("{name} ended without an outcome")
        }
        Err(RecvTimeoutError::Timeout) => anyhow::bail!("{name}: an input without end: {}", again(name)),
    }
}

/// Where the input that is being tried lies.
fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name.replace('/', "-"))
}

fn again(name: &str) -> String {
    format!("FUZZ_TARGET={name} FUZZ_REPLAY={} cargo test -p farebox-fuzz", kept(name).display())
}

/// What is wrong with an input, and how to see it again.
fn report(name: &str, failure: &Failure) -> String {
    format!(
        "{name} breaks a law: {}\ninput: {}\nagain: {}",
        failure.problem.chars().take(3_000).collect::<String>(),
        String::from_utf8_lossy(&failure.input).chars().take(2_000).collect::<String>().escape_debug(),
        again(name)
    )
}
