//! The provider's side, in a process of its own, and what it answers.

use anyhow::Context as _;
use farebox_emulator::{Emulator, Options, Script};
use tokio::signal::unix::{SignalKind, signal};

use crate::{cli::EmulatorArgs, config::UPSTREAM_MODEL};

/// Pieces of the text in a stream.
pub(crate) const CHUNKS: usize = 100;
/// The answer, whole or streamed: two bytes for each chunk.
pub(crate) const ANSWER: &str = "A bench answer of two hundred bytes, so that a hundred chunks of two bytes make it \
    whole again. It says nothing of interest, it says it at the same length every time, and then it ends right here. Done";

pub(crate) async fn serve(args: &EmulatorArgs) -> anyhow::Result<()> {
    // Its totals are exact without entries, and a list that grows would be measured too.
    let options = Options { listen: args.listen, ledger_entries: 0, ..Options::default() };
    let emulator = Emulator::start(options).await?;
    emulator.script(UPSTREAM_MODEL, Script::text(ANSWER).chunks(CHUNKS));
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
        assert_eq!(ANSWER.len(), 2 * CHUNKS);
        assert!(ANSWER.is_ascii());
    }
}
