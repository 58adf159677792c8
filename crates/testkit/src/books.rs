//! farebox's rows held against the provider emulator's own bill, call by call.

use std::collections::BTreeMap;

use farebox_emulator::{Entry, State};
use farebox_types::Money;

/// A row of `farebox.calls`.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Row {
    pub call_id: String,
    pub request_id: String,
    pub project: String,
    pub key_id: String,
    pub actor: String,
    pub task_id: String,
    pub outcome: String,
    pub estimated: bool,
    pub input: u64,
    pub cache_read: u64,
    pub cache_write_5m: u64,
    pub cache_write_1h: u64,
    pub output: u64,
    pub reasoning: u64,
    pub cost: Money,
    pub bound: Money,
}

impl Row {
    /// What ClickHouse is asked for all rows there are now, in the order of the ledger.
    pub const QUERY: &str = "SELECT toString(call_id) AS call_id, request_id, project, key_id, actor, task_id, outcome, \
        estimated, ifNull(input_tokens, 0) AS input, ifNull(cache_read_tokens, 0) AS cache_read, \
        ifNull(cache_write_5m_tokens, 0) AS cache_write_5m, ifNull(cache_write_1h_tokens, 0) AS cache_write_1h, \
        ifNull(output_tokens, 0) AS output, ifNull(reasoning_tokens, 0) AS reasoning, \
        toString(cost) AS cost, toString(bound) AS bound FROM farebox.calls ORDER BY ledger_sequence, ledger_index \
        SETTINGS output_format_json_quote_64bit_integers = 0 FORMAT JSONEachRow";

    /// Reads the answer to [`Row::QUERY`].
    pub fn read(answer: &str) -> anyhow::Result<Vec<Row>> {
        answer.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    pub fn is_lost(&self) -> bool {
        self.outcome == "lost"
    }
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Matched {
    pub rows: usize,
    pub lost: usize,
    pub billed: usize,
}

/// Compares the two ledgers, or says what differs. `bill` is what one entry costs, unbilled ones nothing.
///
/// Every billed call has exactly one row with the same call id; tokens and cost are equal on every row that is not
/// `lost`; a `lost` one costs its bound, which is not below the bill; no row without a call except of `lost` and
/// `cancelled` ones; no row twice. An estimated row (the call ended before the provider said its usage) costs no less than the bill.
pub fn compare(rows: &[Row], entries: &[Entry], bill: impl Fn(&Entry) -> Money) -> Result<Matched, Vec<String>> {
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
            Some(row) => faults.extend(differs(row, entry, bill(entry))),
            None if entry.billed => faults.push(format!("billed, and no row: {entry:?}")),
            None => {}
        }
    }
    let may_be_alone = |row: &Row| row.is_lost() || row.outcome == "cancelled";
    let stray = rows.iter().filter(|row| !may_be_alone(row) && !called.contains_key(row.call_id.as_str()));
    faults.extend(stray.map(|row| format!("a row without a call: {row:?}")));
    faults.extend(
        rows.iter()
            .filter(|row| row.is_lost() && row.cost != row.bound)
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

fn differs(row: &Row, entry: &Entry, bill: Money) -> Option<String> {
    if row.is_lost() || row.estimated {
        return (row.cost < bill).then(|| format!("the bill is {bill}, above the row {row:?} of {entry:?}"));
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
    (ours != theirs || row.cost != bill)
        .then(|| format!("tokens {ours:?} against {theirs:?}, cost {} against {bill}: {row:?} {entry:?}", row.cost))
}
