//! `farebox recent`: the newest calls.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use farebox_proto::{json, v1};
use jiff::tz::TimeZone;

use super::{
    connect::ConnectArgs,
    fact::words,
    failure::{self, Failure},
    output::Output,
    period::wall,
    table::{Align, grouped, points_aligned, render},
};

/// Shows the newest calls, newest first
#[derive(Args, Clone, Debug)]
pub(crate) struct RecentArgs {
    /// How many
    #[arg(short = 'n', long = "number", value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    number: u32,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    /// A list of the calls in the form of llm.event
    Json,
}

impl RecentArgs {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let mut output = Output::standard();
        let ended = Box::pin(self.attempt(&mut output)).await;
        failure::finish(ended, &mut output)
    }

    async fn attempt(self, output: &mut Output) -> Result<(), Failure> {
        let link = self.connect.connect().await?;
        let query = v1::UsageQuery { recent: self.number, ..v1::UsageQuery::default() };
        let report = link.client.usage(&query).await?;
        match self.format {
            Format::Json => output.line(&events(&report.calls))?,
            Format::Table if report.calls.is_empty() => output.note("no calls yet"),
            Format::Table => output.write(table(&report.calls, &TimeZone::system()))?,
        }
        Ok(())
    }
}

fn events(calls: &[v1::CallFact]) -> String {
    let events: Vec<String> =
        calls.iter().map(|call| String::from_utf8_lossy(&json::event(call)).into_owned()).collect();
    if events.is_empty() { "[]".to_owned() } else { format!("[\n{}\n]", events.join(",\n")) }
}

pub(crate) fn table(calls: &[v1::CallFact], zone: &TimeZone) -> String {
    use Align::{Left, Right};
    let words: Vec<_> = calls.iter().map(words).collect();
    let amounts: Vec<String> = words.iter().map(|call| call.cost.to_string()).collect();
    let rows: Vec<Vec<String>> = words
        .into_iter()
        .zip(points_aligned(&amounts))
        .map(|(call, cost)| {
            vec![
                wall(call.ended, "%Y-%m-%d %H:%M:%S", zone),
                call.outcome,
                call.model,
                call.served,
                call.actor,
                call.task,
                grouped(call.input),
                grouped(call.output),
                cost,
                call.latency,
            ]
        })
        .collect();
    let columns = [
        ("ENDED", Left),
        ("OUTCOME", Left),
        ("MODEL", Left),
        ("SERVED BY", Left),
        ("ACTOR", Left),
        ("TASK", Left),
        ("INPUT", Right),
        ("OUTPUT", Right),
        ("COST USD", Right),
        ("LATENCY", Right),
    ];
    render(&columns, &rows)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{super::fact::sample, *};

    fn calls() -> [v1::CallFact; 2] {
        let lost = v1::CallFact {
            outcome: v1::Outcome::Lost.into(),
            cost: Some(farebox_types::Money::usd(2).into()),
            labels: None,
            usage: Some(v1::Usage { input: Some(123_456), ..v1::Usage::default() }),
            latency_ms: 61_500,
            ..sample("c2")
        };
        [sample("c1"), lost]
    }

    #[test]
    fn the_newest_calls_as_a_table() {
        insta::assert_snapshot!(table(&calls(), &TimeZone::UTC));
    }

    #[test]
    fn the_newest_calls_as_json() {
        let events: Value = serde_json::from_str(&events(&calls())).unwrap();
        assert_eq!(events[1]["meta"]["outcome"], "lost");
        assert_eq!(events.as_array().unwrap().len(), 2);
        assert_eq!(super::events(&[]), "[]");
    }
}
