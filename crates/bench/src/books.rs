//! What must agree at the end: rows in ClickHouse, answers that callers got, and the provider's own bill.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use farebox_types::Money;
use hyper::Method;
use tokio::time::Instant;

use crate::{
    config::{CALLS_TABLE, cost},
    http::ask,
};

const POLL: Duration = Duration::from_millis(100);

/// What farebox wrote.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Rows {
    pub(crate) rows: u64,
    pub(crate) call_ids: u64,
    pub(crate) ok: u64,
    pub(crate) cost_usd: Money,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
}

/// What the provider bills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Bill {
    pub(crate) requests: u64,
    pub(crate) billed: u64,
    pub(crate) answered: u64,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
}

/// The comparison.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Check {
    /// Answers that the generator got from farebox, warm-ups included.
    pub(crate) calls: u64,
    pub(crate) failed_calls: u64,
    pub(crate) rows: Rows,
    pub(crate) bill: Bill,
    pub(crate) bill_usd: Money,
    /// How long after the last call the last row was there.
    pub(crate) settled_after_s: f64,
    /// Empty when the books agree.
    pub(crate) differences: Vec<String>,
}

/// Both ledgers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Books {
    pub(crate) clickhouse: SocketAddr,
    pub(crate) emulator: SocketAddr,
}

impl Books {
    /// Waits until accounting has at least so many rows, or `within` has passed; says how long it took.
    pub(crate) async fn settle(&self, calls: u64, within: Duration) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let query = format!("SELECT count() FROM {CALLS_TABLE} FORMAT TSV");
        loop {
            let answer = self.query(&query).await?;
            let rows: u64 = answer.trim().parse().with_context(|| format!("not a number: {answer:?}"))?;
            if rows >= calls || start.elapsed() >= within {
                return Ok(start.elapsed());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Compares everything since the start. A row too much shows as well as one too few.
    pub(crate) async fn check(&self, calls: u64, failed_calls: u64, within: Duration) -> anyhow::Result<Check> {
        let settled = self.settle(calls, within).await?;
        let rows = self.rows().await?;
        let bill = ask(self.emulator, Method::GET, "/emulator/totals", Bytes::new()).await?;
        let bill: Bill = serde_json::from_slice(&bill).context("the emulator's totals are not understood")?;
        let differences = differences(calls, failed_calls, &rows, &bill);
        let bill_usd = cost(bill.prompt_tokens, bill.completion_tokens);
        let settled_after_s = settled.as_secs_f64();
        Ok(Check { calls, failed_calls, rows, bill, bill_usd, settled_after_s, differences })
    }

    async fn rows(&self) -> anyhow::Result<Rows> {
        let sum = |columns: &[&str]| {
            let terms: Vec<String> = columns.iter().map(|column| format!("ifNull({column}, 0)")).collect();
            format!("sum({})", terms.join(" + "))
        };
        let input = sum(&["input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"]);
        let output = sum(&["output_tokens", "reasoning_tokens"]);
        let answer = self
            .query(&format!(
                "SELECT count(), uniqExact(call_id), countIf(outcome = 'ok'), sum(cost), {input}, {output} \
                 FROM {CALLS_TABLE} FORMAT TSV"
            ))
            .await?;
        Rows::parse(&answer).with_context(|| format!("ClickHouse's answer is not understood: {answer:?}"))
    }

    async fn query(&self, query: &str) -> anyhow::Result<String> {
        let answer = ask(self.clickhouse, Method::POST, "/", Bytes::from(query.to_owned())).await?;
        Ok(String::from_utf8(answer.to_vec())?)
    }
}

impl Rows {
    fn parse(line: &str) -> anyhow::Result<Rows> {
        let fields: Vec<&str> = line.trim_end().split('\t').collect();
        let [rows, call_ids, ok, cost, input, output] = fields.as_slice() else {
            anyhow::bail!("{} fields instead of 6", fields.len());
        };
        Ok(Rows {
            rows: rows.parse()?,
            call_ids: call_ids.parse()?,
            ok: ok.parse()?,
            cost_usd: cost.parse()?,
            input_tokens: input.parse()?,
            output_tokens: output.parse()?,
        })
    }
}

fn differences(calls: u64, failed: u64, rows: &Rows, bill: &Bill) -> Vec<String> {
    let mut found = Vec::new();
    let mut differ = |what: &str, here: String, there: String| {
        if here != there {
            found.push(format!("{what}: {here} and {there}"));
        }
    };
    let text = |number: u64| number.to_string();
    differ("calls that failed, none allowed", text(failed), text(0));
    differ("answers and rows", text(calls), text(rows.rows));
    differ("rows and distinct call ids", text(rows.rows), text(rows.call_ids));
    differ("rows and rows with outcome ok", text(rows.rows), text(rows.ok));
    differ("rows and calls that the emulator billed", text(rows.rows), text(bill.billed));
    differ("calls billed and requests that reached the emulator", text(bill.billed), text(bill.requests));
    differ("input tokens in rows and on the bill", text(rows.input_tokens), text(bill.prompt_tokens));
    differ("output tokens in rows and on the bill", text(rows.output_tokens), text(bill.completion_tokens));
    let billed = cost(bill.prompt_tokens, bill.completion_tokens);
    differ("cost of rows and of the bill", rows.cost_usd.to_string(), billed.to_string());
    found
}

/// The address in `http://host:port`, which is all that a local server needs.
pub(crate) fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let rest = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    let addr: SocketAddr = rest.parse().with_context(|| format!("`{url}` is no address of this machine"))?;
    ensure!(addr.ip().is_loopback(), "`{url}` is not on this machine: the bench stays on loopback");
    Ok(addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bill() -> Bill {
        Bill { requests: 10, billed: 10, answered: 10, prompt_tokens: 800, completion_tokens: 500 }
    }

    fn rows() -> Rows {
        Rows::parse("10\t10\t10\t0.00042\t800\t500\n").unwrap()
    }

    #[test]
    fn equal_books_have_no_differences() {
        assert_eq!(differences(10, 0, &rows(), &bill()), Vec::<String>::new());
    }

    #[test]
    fn every_kind_of_difference_is_told() {
        let is_told = |rows: Rows, bill: Bill, failed: u64, what: &str| {
            let told = differences(10, failed, &rows, &bill);
            assert!(told.iter().any(|line| line.contains(what)), "{what}: {told:?}");
        };
        is_told(Rows { rows: 9, ..rows() }, bill(), 0, "answers and rows");
        is_told(Rows { call_ids: 9, ..rows() }, bill(), 0, "distinct call ids");
        is_told(Rows { ok: 9, ..rows() }, bill(), 0, "outcome ok");
        is_told(rows(), Bill { billed: 11, requests: 11, ..bill() }, 0, "emulator billed");
        is_told(rows(), Bill { requests: 11, ..bill() }, 0, "reached the emulator");
        is_told(Rows { input_tokens: 801, ..rows() }, bill(), 0, "input tokens");
        is_told(Rows { output_tokens: 0, ..rows() }, bill(), 0, "output tokens");
        is_told(Rows { cost_usd: Money::usd(1), ..rows() }, bill(), 0, "cost of rows");
        is_told(rows(), bill(), 1, "calls that failed");
    }

    #[test]
    fn only_loopback_is_asked() {
        assert_eq!(address("http://127.0.0.1:8123/").unwrap().port(), 8123);
        assert!(address("http://192.0.2.1:8123").is_err());
        assert!(address("http://clickhouse:8123").is_err());
    }
}
