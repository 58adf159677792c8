//! `farebox usage`: what was spent.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use farebox_proto::v1::{self, usage_query::GroupBy};
use farebox_types::{Clock, Money, SystemClock, Timestamp};
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{
    connect::ConnectArgs,
    failure::{self, Failure},
    output::{Output, clean},
    period::{Moment, rfc3339},
    table::{Align, grouped, points_aligned, render},
};

/// Shows what was spent, by model, provider, project, task or actor
#[derive(Args, Clone, Debug)]
pub(crate) struct UsageArgs {
    /// What to sum up by
    #[arg(long, value_enum, default_value_t = By::Model)]
    by: By,
    /// From when on: a span like 24h, a date or a time
    #[arg(long, value_name = "WHEN", default_value = "24h")]
    since: Moment,
    /// Until when [default: now]
    #[arg(long, value_name = "WHEN")]
    until: Option<Moment>,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    Model,
    Provider,
    Project,
    Task,
    Actor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
    Csv,
}

impl By {
    fn name(self) -> &'static str {
        match self {
            By::Model => "model",
            By::Provider => "provider",
            By::Project => "project",
            By::Task => "task",
            By::Actor => "actor",
        }
    }

    pub(crate) fn group_by(self) -> GroupBy {
        match self {
            By::Model => GroupBy::Model,
            By::Provider => GroupBy::Provider,
            By::Project => GroupBy::Project,
            By::Task => GroupBy::Task,
            By::Actor => GroupBy::Actor,
        }
    }
}

/// Half-open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Period {
    from: Timestamp,
    until: Timestamp,
}

impl UsageArgs {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let mut output = Output::standard();
        let ended = Box::pin(self.attempt(&mut output)).await;
        failure::finish(ended, &mut output)
    }

    async fn attempt(self, output: &mut Output) -> Result<(), Failure> {
        let period = self.period(SystemClock.now(), &TimeZone::system())?;
        let link = self.connect.connect().await?;
        let query = v1::UsageQuery {
            group_by: self.by.group_by().into(),
            from_unix_ms: period.from.millis(),
            until_unix_ms: period.until.millis(),
            recent: 0,
        };
        let rows = link.client.usage(&query).await?.rows;
        match self.format {
            Format::Json => output.line(&as_json(self.by, period, &rows).to_string())?,
            Format::Csv => output.write(as_csv(self.by, &rows))?,
            Format::Table if rows.is_empty() => {
                output.note(&format!("no calls from {} to {}", rfc3339(period.from), rfc3339(period.until)));
            }
            Format::Table => output.write(as_table(self.by, &rows))?,
        }
        Ok(())
    }

    fn period(&self, now: Timestamp, zone: &TimeZone) -> Result<Period, Failure> {
        let resolve = |moment: Moment| moment.resolve(now, zone).map_err(Failure::Usage);
        let from = resolve(self.since)?;
        let until = self.until.map(resolve).transpose()?.unwrap_or(now);
        if from >= until {
            let message = format!("--since ({}) must be before --until ({})", rfc3339(from), rfc3339(until));
            return Err(Failure::Usage(message));
        }
        Ok(Period { from, until })
    }
}

fn total(rows: &[v1::UsageRow]) -> v1::UsageRow {
    let sum = |of: fn(&v1::UsageRow) -> u64| rows.iter().map(of).fold(0, u64::saturating_add);
    let cost: Money = rows.iter().map(|row| v1::Money::of(&row.cost)).sum();
    v1::UsageRow {
        group: "TOTAL".to_owned(),
        calls: sum(|row| row.calls),
        errors: sum(|row| row.errors),
        input_tokens: sum(|row| row.input_tokens),
        output_tokens: sum(|row| row.output_tokens),
        cached_tokens: sum(|row| row.cached_tokens),
        cost: Some(cost.into()),
    }
}

pub(crate) fn as_table(by: By, rows: &[v1::UsageRow]) -> String {
    use Align::{Left, Right};
    let head = by.name().to_uppercase();
    let columns = [
        (head.as_str(), Left),
        ("CALLS", Right),
        ("ERRORS", Right),
        ("INPUT", Right),
        ("CACHED", Right),
        ("OUTPUT", Right),
        ("COST USD", Right),
    ];
    let total = total(rows);
    let all: Vec<&v1::UsageRow> = rows.iter().chain([&total]).collect();
    let amounts: Vec<String> = all.iter().map(|row| v1::Money::of(&row.cost).to_string()).collect();
    let cells = all.iter().zip(points_aligned(&amounts)).map(|(row, cost)| {
        let group = if row.group.is_empty() { "(none)".to_owned() } else { clean(&row.group) };
        let counts = [row.calls, row.errors, row.input_tokens, row.cached_tokens, row.output_tokens];
        std::iter::once(group).chain(counts.map(grouped)).chain([cost]).collect()
    });
    render(&columns, &cells.collect::<Vec<Vec<String>>>())
}

fn as_json(by: By, period: Period, rows: &[v1::UsageRow]) -> Value {
    let sums = |row: &v1::UsageRow| {
        json!({
            "calls": row.calls,
            "errors": row.errors,
            "input_tokens": row.input_tokens,
            "cached_tokens": row.cached_tokens,
            "output_tokens": row.output_tokens,
            "cost_usd": v1::Money::of(&row.cost).to_string(),
        })
    };
    let named = |row: &v1::UsageRow| {
        let mut object = serde_json::Map::new();
        object.insert(by.name().to_owned(), row.group.clone().into());
        if let Value::Object(sums) = sums(row) {
            object.extend(sums);
        }
        Value::Object(object)
    };
    json!({
        "by": by.name(),
        "from": rfc3339(period.from),
        "until": rfc3339(period.until),
        "rows": rows.iter().map(named).collect::<Vec<_>>(),
        "total": sums(&total(rows)),
    })
}

/// RFC 4180: <https://www.rfc-editor.org/rfc/rfc4180>. Without a total: whoever reads it sums up.
fn as_csv(by: By, rows: &[v1::UsageRow]) -> String {
    let quoted = |text: &str| {
        if text.contains(['"', ',', '\n', '\r']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text.to_owned()
        }
    };
    let mut csv = format!("{},calls,errors,input_tokens,cached_tokens,output_tokens,cost_usd\r\n", by.name());
    for row in rows {
        csv.push_str(&format!(
            "{},{},{},{},{},{},{}\r\n",
            quoted(&row.group),
            row.calls,
            row.errors,
            row.input_tokens,
            row.cached_tokens,
            row.output_tokens,
            v1::Money::of(&row.cost)
        ));
    }
    csv
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: UsageArgs,
    }

    fn parse(line: &[&str]) -> Result<UsageArgs, String> {
        let words = std::iter::once("usage").chain(line.iter().copied());
        Line::try_parse_from(words).map(|line| line.args).map_err(|error| error.to_string())
    }

    fn rows() -> Vec<v1::UsageRow> {
        let row = |group: &str, calls, cost: &str| v1::UsageRow {
            group: group.into(),
            calls,
            errors: 1,
            input_tokens: calls * 1_000,
            output_tokens: calls * 7,
            cached_tokens: 3,
            cost: Some(cost.parse::<Money>().unwrap().into()),
        };
        vec![row("gpt-4", 1_234, "12.000000000001"), row("a,\"b\"", 2, "0.5"), row("", 1, "20")]
    }

    const NOW: Timestamp = Timestamp(1_795_252_200_000);

    fn period() -> Period {
        parse(&["--since", "1h"]).unwrap().period(NOW, &TimeZone::UTC).unwrap()
    }

    #[test]
    fn a_table_with_totals() {
        insta::assert_snapshot!(as_table(By::Model, &rows()));
    }

    #[test]
    fn json_with_exact_amounts() {
        let json = serde_json::to_string_pretty(&as_json(By::Task, period(), &rows())).unwrap();
        insta::assert_snapshot!(json);
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        assert_eq!(
            as_csv(By::Actor, &rows()[1..]),
            "actor,calls,errors,input_tokens,cached_tokens,output_tokens,cost_usd\r\n\
             \"a,\"\"b\"\"\",2,1,2000,3,14,0.5\r\n,1,1,1000,3,7,20\r\n"
        );
    }

    #[test]
    fn a_line_names_the_period_and_the_groups() {
        let args = parse(&[]).unwrap();
        assert_eq!((args.by, args.format), (By::Model, Format::Table));
        let period = args.period(NOW, &TimeZone::UTC).unwrap();
        assert_eq!(period, Period { from: Timestamp(NOW.0 - 86_400_000), until: NOW });
        assert_eq!(parse(&["--by", "task", "--format", "csv"]).unwrap().by, By::Task);
        assert!(parse(&["--by", "key"]).unwrap_err().contains("possible values"));
        assert!(parse(&["--since", "yesterday"]).unwrap_err().contains("no point in time"));
        let failure = parse(&["--since", "1h", "--until", "2h"]).unwrap().period(NOW, &TimeZone::UTC).unwrap_err();
        assert_eq!(failure.to_string(), "--since (2026-11-21T08:10:00Z) must be before --until (2026-11-21T07:10:00Z)");
    }
}
