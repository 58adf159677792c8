//! Waiting while somebody watches: a line that lives until the answer is there, and Ctrl-C.

use std::{pin::Pin, time::Duration};

use farebox_runtime::Signals;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::output::Output;

const FRAMES: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const PACE: Duration = Duration::from_millis(100);

/// How a wait ended.
#[derive(Debug)]
pub(crate) enum Waited<T> {
    Done(T),
    /// Ctrl-C came first.
    Interrupted,
}

/// Waits for `what` and shows for how long. The line is gone when this returns.
pub(crate) async fn wait<T>(
    mut what: Pin<&mut impl Future<Output = T>>,
    text: &str,
    since: Instant,
    signals: &mut Signals,
    output: &mut Output,
) -> Waited<T> {
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut shown = 0;
    let waited = loop {
        tokio::select! {
            biased;
            _ = signals.next() => break Waited::Interrupted,
            done = &mut what => break Waited::Done(done),
            _ = ticks.tick(), if output.is_watched() => {
                // Nothing for an answer that comes at once.
                if shown > 0 {
                    output.status(&line(shown, text, since.elapsed()));
                }
                shown += 1;
            }
        }
    };
    if shown > 1 {
        output.status("");
    }
    waited
}

fn line(shown: usize, text: &str, elapsed: Duration) -> String {
    format!("{} {text} · {}.{} s", FRAMES[shown % FRAMES.len()], elapsed.as_secs(), elapsed.subsec_millis() / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_counts() {
        assert_eq!(line(1, "waiting for `gpt-4`", Duration::from_millis(3_250)), "⠙ waiting for `gpt-4` · 3.2 s");
    }
}
