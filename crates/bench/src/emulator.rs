//! The provider's side, in a process of its own, and what it answers.

use std::time::Duration;

use anyhow::Context as _;
use farebox_emulator::{Emulator, Options, Script};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::EmulatorArgs;

/// One of the emulator's models. All give the same answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Model {
    /// What callers of farebox ask for.
    pub(crate) alias: &'static str,
    /// What the emulator is asked for.
    pub(crate) name: &'static str,
    /// Pieces of the text in a stream.
    pub(crate) chunks: usize,
    /// How long after one another they come.
    pub(crate) pace: Duration,
}

/// Streams as fast as it goes.
pub(crate) const MODEL: Model = Model { alias: "bench", name: "bench-model", chunks: 100, pace: Duration::ZERO };
/// Streams a few pieces.
pub(crate) const SHORT: Model =
    Model { alias: "bench-short", name: "bench-short-model", chunks: 4, pace: Duration::ZERO };
/// Streams each piece by itself, as a real model does: none is read or written together with the next.
pub(crate) const PACED: Model =
    Model { alias: "bench-paced", name: "bench-paced-model", chunks: 100, pace: Duration::from_millis(5) };
pub(crate) const MODELS: [&Model; 3] = [&MODEL, &SHORT, &PACED];

/// The answer, whole or streamed: two bytes for each chunk of a hundred.
pub(crate) const ANSWER: &str = "A bench answer of two hundred bytes, so that a hundred chunks of two bytes make it \
    whole again. It says nothing of interest, it says it at the same length every time, and then it ends right here. Done";

impl Model {
    fn script(&self) -> Script {
        Script::text(ANSWER).chunks(self.chunks).pace(self.pace)
    }
}

pub(crate) async fn serve(args: &EmulatorArgs) -> anyhow::Result<()> {
    // Its totals are exact without entries, and a list that grows would be measured too.
    let options = Options { listen: args.listen, ledger_entries: 0, ..Options::default() };
    let emulator = Emulator::start(options).await?;
    for model in MODELS {
        emulator.script(model.name, model.script());
    }
    let mut end = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    farebox_runtime::write_ready_file(&args.ready_file, &format!("{{\"http\":\"{}\"}}", emulator.addr()))?;
    end.recv().await;
    emulator.stop().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_splits_evenly() {
        for model in MODELS {
            assert_eq!(ANSWER.len() % model.chunks, 0, "{}", model.name);
        }
        assert!(ANSWER.is_ascii());
    }
}
