//! The two ledgers, farebox's rows and the emulator's own bill, held against each other.

use std::{collections::BTreeMap, time::Duration};

use farebox_emulator::{Entry, State};
use farebox_types::Money;
use tokio::time::Instant;

use crate::{cluster::Cluster, load::ask};

/// A row of `farebox.calls`.
#[derive(Clone, Debug, serde::Deserialize)]
pub(crate) struct Row {
    pub(crate) call_id: String,
    pub(crate) request_id: String,
    pub(crate) task_id: String,
    pub(crate) outcome: String,
    pub(crate) estimated: bool,
    pub(crate) input: u64,
    pub(crate) cache_read: u64,
    pub(crate) cache_write_5m: u64,
    pub(crate) cache_write_1h: u64,
    pub(crate) output: u64,
    pub(crate) reasoning: u64,
    cost: String,
    bound: String,
}

impl Row {
    pub(crate) fn cost(&self) -> Money {
        self.cost.parse().expect("ClickHouse shows decimals as decimals")
    }

    pub(crate) fn bound(&self) -> Money {
        self.bound.parse().expect("ClickHouse shows decimals as decimals")
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.outcome == "lost"
    }
}

const ROWS: &str = "SELECT toString(call_id) AS call_id, request_id, task_id, outcome, estimated, \
    ifNull(input_tokens, 0) AS input, ifNull(cache_read_tokens, 0) AS cache_read, \
    ifNull(cache_write_5m_tokens, 0) AS cache_write_5m, ifNull(cache_write_1h_tokens, 0) AS cache_write_1h, \
    ifNull(output_tokens, 0) AS output, ifNull(reasoning_tokens, 0) AS reasoning, \
    toString(cost) AS cost, toString(bound) AS bound FROM farebox.calls ORDER BY ledger_sequence, ledger_index \
    SETTINGS output_format_json_quote_64bit_integers = 0 FORMAT JSONEachRow";

/// All rows there are now, in the order of the ledger.
pub(crate) async fn ledger(cluster: &Cluster) -> anyhow::Result<Vec<Row>> {
    let text = cluster.clickhouse(ROWS).await?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// What the emulator's entry costs by the prices in the config of the cluster, computed here and nowhere else.
pub(crate) fn billed(entry: &Entry) -> Money {
    if !entry.billed {
        return Money::ZERO;
    }
    let plain =
        entry.prompt_tokens - entry.cache_read_tokens - entry.cache_write_5m_tokens - entry.cache_write_1h_tokens;
    // Pico-dollars for a token: a dollar for a million is a million of them.
    let picos = match &*entry.model {
        "m-flat" => 1_000_000_000_000,
        "m-tokens" | "m-claude" => {
            i128::from(plain) * 3_000_000
                + i128::from(entry.cache_read_tokens) * 300_000
                + i128::from(entry.cache_write_5m_tokens) * 3_750_000
                + i128::from(entry.cache_write_1h_tokens) * 6_000_000
                + i128::from(entry.completion_tokens) * 15_000_000
        }
        other => panic!("no price for {other}"),
    };
    Money::from_picos(picos)
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Matched {
    pub(crate) rows: usize,
    pub(crate) lost: usize,
    pub(crate) billed: usize,
}

/// Waits until the ledgers match, and panics with what differs if they do not in time.
///
/// Every billed call has exactly one row with the same call id; tokens and cost are equal on every row that is not
/// `lost`; a `lost` one costs its bound, which is not below the bill; no row without a call except `lost` ones; no row
/// twice. An estimated row (the call ended before the provider said its usage) costs no less than the bill.
pub(crate) async fn ledgers_match(cluster: &Cluster) -> Matched {
    ledgers_match_within(cluster, Duration::from_secs(30)).await
}

pub(crate) async fn ledgers_match_within(cluster: &Cluster, patience: Duration) -> Matched {
    let give_up = Instant::now() + patience;
    wait_until_matched(cluster, give_up).await;
    // Something late could still add a row: it would be written before the row of a call that begins now.
    let last = loop {
        let request = ask("tokens", "the last call", Duration::from_secs(10));
        match cluster.client.call(request).await {
            Ok(answer) => break answer.report.expect("an answer has a report").call_id,
            Err(error) => assert!(Instant::now() < give_up, "a call after the faults does not succeed: {error}"),
        }
    };
    while !ledger(cluster).await.is_ok_and(|rows| rows.iter().any(|row| row.call_id == last)) {
        assert!(Instant::now() < give_up, "no row of the last call {last}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    wait_until_matched(cluster, give_up).await
}

async fn wait_until_matched(cluster: &Cluster, give_up: Instant) -> Matched {
    loop {
        let compared = match ledger(cluster).await {
            Ok(rows) => compare(&rows, &cluster.emulator.ledger().entries()),
            Err(error) => Err(vec![format!("{error:#}")]),
        };
        match compared {
            Ok(matched) => return matched,
            Err(faults) if Instant::now() >= give_up => {
                let shown: Vec<&String> = faults.iter().take(20).collect();
                panic!("the ledgers differ in {} places: {shown:#?}", faults.len());
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn compare(rows: &[Row], entries: &[Entry]) -> Result<Matched, Vec<String>> {
    let mut faults = Vec::new();
    let mut by_call: BTreeMap<&str, &Row> = BTreeMap::new();
    for row in rows {
        if by_call.insert(&row.call_id, row).is_some() {
            faults.push(format!("two rows of one call: {row:?}"));
        }
    }
    let mut called: BTreeMap<&str, &Entry> = BTreeMap::new();
    for entry in entries {
        let Some(id) = entry.call_id.as_deref() else {
            faults.push(format!("a call without an id reached the provider: {entry:?}"));
            continue;
        };
        if called.insert(id, entry).is_some() {
            faults.push(format!("one call id reached the provider twice: {entry:?}"));
        }
        if entry.state == State::Open {
            faults.push(format!("still being answered: {entry:?}"));
        }
        match by_call.get(id) {
            Some(row) => faults.extend(differs(row, entry)),
            None if entry.billed => faults.push(format!("billed, and no row: {entry:?}")),
            None => {}
        }
    }
    let stray = rows.iter().filter(|row| !row.is_lost() && !called.contains_key(row.call_id.as_str()));
    faults.extend(stray.map(|row| format!("a row without a call: {row:?}")));
    faults.extend(
        rows.iter()
            .filter(|row| row.is_lost() && row.cost() != row.bound())
            .map(|row| format!("a lost call does not cost its bound: {row:?}")),
    );
    if faults.is_empty() {
        let lost = rows.iter().filter(|row| row.is_lost()).count();
        let billed = entries.iter().filter(|entry| entry.billed).count();
        Ok(Matched { rows: rows.len(), lost, billed })
    } else {
        Err(faults)
    }
}

fn differs(row: &Row, entry: &Entry) -> Option<String> {
    let bill = billed(entry);
    if row.is_lost() || row.estimated {
        return (row.cost() < bill).then(|| format!("the bill is {bill}, above the row {row:?} of {entry:?}"));
    }
    let plain =
        entry.prompt_tokens - entry.cache_read_tokens - entry.cache_write_5m_tokens - entry.cache_write_1h_tokens;
    let theirs = [
        plain,
        entry.cache_read_tokens,
        entry.cache_write_5m_tokens,
        entry.cache_write_1h_tokens,
        entry.completion_tokens - entry.reasoning_tokens,
        entry.reasoning_tokens,
    ];
    let ours = [row.input, row.cache_read, row.cache_write_5m, row.cache_write_1h, row.output, row.reasoning];
    (ours != theirs || row.cost() != bill)
        .then(|| format!("tokens {ours:?} against {theirs:?}, cost {} against {bill}: {row:?} {entry:?}", row.cost()))
}
