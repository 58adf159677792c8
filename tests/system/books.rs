//! The two ledgers, farebox's rows and the emulator's own bill, held against each other.

use std::time::Duration;

use farebox_emulator::Entry;
use farebox_testkit::{Matched, PATIENCE, Row, compare};
use farebox_types::Money;
use tokio::time::Instant;

use crate::{cluster::Cluster, load::ask};

/// All rows there are now, in the order of the ledger.
pub(crate) async fn ledger(cluster: &Cluster) -> anyhow::Result<Vec<Row>> {
    Row::read(&cluster.clickhouse(Row::QUERY).await?)
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

/// Waits until the ledgers match, and panics with what differs if they do not in time. What matching is says
/// [`compare`].
pub(crate) async fn ledgers_match(cluster: &Cluster) -> Matched {
    ledgers_match_within(cluster, PATIENCE).await
}

pub(crate) async fn ledgers_match_within(cluster: &Cluster, patience: Duration) -> Matched {
    let give_up = Instant::now() + patience;
    wait_until_matched(cluster, give_up).await;
    // Something late could still add a row: it would be written before the row of a call that begins now.
    let last = loop {
        // One that is late is one row more: none is.
        let request = ask("tokens", "the last call", patience);
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
            Ok(rows) => compare(&rows, &cluster.emulator.ledger().entries(), billed),
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
