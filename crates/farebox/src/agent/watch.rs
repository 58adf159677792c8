//! `farebox watch`: calls as they happen.

use std::{
    collections::{HashSet, VecDeque},
    process::ExitCode,
};

use clap::Args;
use farebox_proto::{json, v1};
use farebox_runtime::Signals;
use farebox_types::{ErrorKind, Fault};
use jiff::tz::TimeZone;

use super::{
    connect::ConnectArgs,
    fact,
    failure::{self, Failure},
    output::Output,
};

/// Call ids that are remembered: a fact may come twice, but not so much later.
const REMEMBERED: usize = 10_000;

/// Shows calls as they happen, one line each, until Ctrl-C
#[derive(Args, Clone, Debug)]
pub(crate) struct WatchArgs {
    /// Print each call as JSON, in the form of llm.event
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// The last ids seen.
#[derive(Debug)]
struct Seen {
    ids: HashSet<String>,
    order: VecDeque<String>,
    max: usize,
}

impl Seen {
    fn new(max: usize) -> Seen {
        Seen { ids: HashSet::new(), order: VecDeque::new(), max }
    }

    /// Whether this id was not there yet.
    fn is_new(&mut self, id: &str) -> bool {
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

impl WatchArgs {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let mut output = Output::standard();
        let ended = Box::pin(self.attempt(&mut output)).await;
        failure::finish(ended, &mut output)
    }

    async fn attempt(self, output: &mut Output) -> Result<(), Failure> {
        let link = self.connect.connect().await?;
        let mut signals = Signals::listen()?;
        let mut calls = link.client.calls().await?;
        let zone = TimeZone::system();
        let mut seen = Seen::new(REMEMBERED);
        output.note(&format!("watching the calls at {}; Ctrl-C ends it", link.url));
        loop {
            let call = tokio::select! {
                biased;
                _ = signals.next() => return Ok(()),
                call = calls.next() => call,
            };
            let Some(call) = call else {
                let fault = Fault::new(ErrorKind::Unavailable, "the connection to NATS was closed");
                return Err(Failure::Refused(fault));
            };
            if seen.is_new(&call.call_id) {
                self.print(&call, &zone, output)?;
            }
        }
    }

    fn print(&self, call: &v1::CallFact, zone: &TimeZone, output: &mut Output) -> Result<(), Failure> {
        if self.json {
            output.json_line(&json::event(call))?;
        } else {
            output.line(&fact::line(call, zone))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::output::captured, *};

    #[test]
    fn a_fact_that_comes_twice_is_shown_once_and_memory_is_bounded() {
        let mut seen = Seen::new(2);
        let new: Vec<bool> = ["a", "b", "a", "c", "c", "a"].into_iter().map(|id| seen.is_new(id)).collect();
        assert_eq!(new, [true, true, false, true, false, true]);
        assert_eq!((seen.ids.len(), seen.order.len()), (2, 2));
    }

    #[test]
    fn json_is_the_event() {
        let (mut output, out, _) = captured::output();
        let args = WatchArgs { json: true, connect: ConnectArgs::default() };
        args.print(&fact::sample("c1"), &TimeZone::UTC, &mut output).unwrap();
        let event: serde_json::Value = serde_json::from_str(&out.text()).unwrap();
        assert_eq!(event["summary"], "gpt-4 - $0.000123");
        assert_eq!(event["refs"]["call_id"], "c1");
    }
}
