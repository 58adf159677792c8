//! What must hold after a storm, and whether it does.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use farebox_emulator::Entry;
use farebox_proto::v1;
use farebox_testkit::{Matched, Row, compare};
use farebox_types::Money;
use tokio::time::{Instant, sleep};

use super::{
    calls::Ended,
    cluster::Cluster,
    levels::{LEVELS, Level},
    provider::Provider,
};

/// How long the last ends may take to be recorded, and the last rows to be written.
const SETTLED: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(200);
/// How a call may end for its caller. Anything else says that farebox, or this storm, does not know what it is doing.
const EXPECTED: [&str; 7] = ["ok", "over_budget", "cancelled", "lost", "unavailable", "upstream", "deadline_exceeded"];
/// Faults of one sort that are shown.
const SHOWN: usize = 5;

pub(crate) struct Verdict {
    pub(crate) violations: Vec<String>,
    /// What happened, in one line.
    pub(crate) told: String,
    pub(crate) summary: String,
}

/// Waits until all is recorded, within bounds, and compares.
pub(crate) async fn reach(
    cluster: &Cluster,
    provider: &Provider,
    ended: anyhow::Result<Vec<Ended>>,
) -> anyhow::Result<Verdict> {
    let mut ended = ended?;
    let until = Instant::now() + SETTLED;
    let status = nothing_reserved(cluster, until).await?;
    let mut violations: Vec<String> = Vec::new();
    let open = open(&status);
    if open > 0 {
        violations.push(format!("{open} reservations are open {SETTLED:?} after the last call"));
    }
    let (rows, matched) = match books(cluster, provider, &status, until).await {
        Ok((rows, matched)) => (rows, matched),
        Err((rows, faults)) => {
            violations.extend(faults.iter().take(SHOWN).cloned());
            violations.push(format!("rows, bill and guard differ in {} places", faults.len()));
            (rows, Matched::default())
        }
    };
    violations.extend(callers(&mut ended));
    let entries = provider.0.ledger().entries();
    for level in &LEVELS {
        violations.extend(level_holds(level, &rows, &entries));
    }
    violations.extend(cluster.ended().iter().map(|name| format!("{name} has ended by itself")));
    let counts = count(&ended);
    let billed: Money = entries.iter().map(Provider::bill).sum();
    let refused = counts.get("over_budget").copied().unwrap_or_default();
    if refused == 0 || !counts.contains_key("ok") {
        violations.push(format!("no storm: {counts:?}"));
    }
    Ok(Verdict {
        violations,
        told: format!("{counts:?}, {matched:?}, refused by {:?}", refused_by(&ended)),
        summary: format!("limit {} billed {billed} refused {refused} open {open}", LEVELS[0].limit()),
    })
}

/// Reservations that are open, in all or in a window.
fn open(status: &v1::BudgetStatusReply) -> u64 {
    status.budgets.iter().map(|window| window.open).max().unwrap_or_default().max(status.open)
}

async fn nothing_reserved(cluster: &Cluster, until: Instant) -> anyhow::Result<v1::BudgetStatusReply> {
    loop {
        match cluster.budgets().await {
            Ok(status) if open(&status) == 0 || Instant::now() >= until => return Ok(status),
            Err(error) if Instant::now() >= until => return Err(error.context("no guard says where budgets stand")),
            _ => sleep(POLL).await,
        }
    }
}

/// The rows, once they match the bill and what the guard says was spent; else what differs. The row of a call that was lost
/// may be the last to come, and is on no bill.
async fn books(
    cluster: &Cluster,
    provider: &Provider,
    status: &v1::BudgetStatusReply,
    until: Instant,
) -> Result<(Vec<Row>, Matched), (Vec<Row>, Vec<String>)> {
    loop {
        let rows = cluster.clickhouse(Row::QUERY).await.and_then(|answer| Row::read(&answer));
        let (rows, faults) = match rows {
            Ok(rows) => match compare(&rows, &provider.0.ledger().entries(), Provider::bill) {
                Ok(matched) => {
                    let faults: Vec<String> =
                        LEVELS.iter().flat_map(|level| guard_agrees(level, &rows, status)).collect();
                    if faults.is_empty() {
                        return Ok((rows, matched));
                    }
                    (rows, faults)
                }
                Err(faults) => (rows, faults),
            },
            Err(error) => (Vec::new(), vec![format!("{error:#}")]),
        };
        if Instant::now() >= until {
            return Err((rows, faults));
        }
        sleep(POLL).await;
    }
}

/// Exactly one final answer for everybody, of a kind that says what happened. Behind it may only come `lost`: of a
/// worker that died before it had recorded its answer, or once more by the guard after one that was killed.
fn callers(ended: &mut [Ended]) -> Vec<String> {
    let mut violations = Vec::new();
    for one in ended {
        let (kind, further) = (one.kind(), one.further());
        if !EXPECTED.contains(&kind) {
            violations.push(format!("{kind} for {:?}: {}", one.call, one.message().unwrap_or_default()));
        }
        if further.iter().any(|kind| *kind != "lost") {
            violations.push(format!("{kind}, then {further:?} for {:?}", one.call));
        }
        if one.inbox.overflowed() {
            violations.push(format!("the inbox of {:?} overflowed", one.call));
        }
    }
    violations
}

/// On no subject of a level more than its limit, neither on the bill nor in the books.
fn level_holds(level: &Level, rows: &[Row], entries: &[Entry]) -> Vec<String> {
    let by_call: HashMap<&str, &Row> = rows.iter().map(|row| (row.call_id.as_str(), row)).collect();
    let mut billed: BTreeMap<String, Money> = BTreeMap::new();
    for entry in entries {
        // A bill without a row is a violation of its own.
        if let Some(row) = entry.call_id.as_deref().and_then(|id| by_call.get(id)) {
            *billed.entry((level.subject)(row)).or_default() += Provider::bill(entry);
        }
    }
    let over = |what: &'static str, sums: BTreeMap<String, Money>| {
        let over = sums.into_iter().filter(|(_, sum)| *sum > level.limit());
        over.map(move |(subject, sum)| format!("{} `{subject}`: {what} {sum} of {}", level.name, level.limit()))
    };
    over("billed", billed).chain(over("booked", booked(level, rows))).collect()
}

fn booked(level: &Level, rows: &[Row]) -> BTreeMap<String, Money> {
    let mut booked: BTreeMap<String, Money> = BTreeMap::new();
    for row in rows {
        *booked.entry((level.subject)(row)).or_default() += row.cost;
    }
    booked
}

/// What the guard says was spent is what the rows add up to.
fn guard_agrees(level: &Level, rows: &[Row], status: &v1::BudgetStatusReply) -> Vec<String> {
    let mut settled: BTreeMap<String, Money> = BTreeMap::new();
    let mut violations = Vec::new();
    for window in status.budgets.iter().filter(|window| window.budget == level.name) {
        // Over midnight there are two.
        *settled.entry(window.subject.clone()).or_default() += window.settled.unwrap_or_default().into();
        let reserved: Money = window.reserved.unwrap_or_default().into();
        if !reserved.is_zero() {
            violations.push(format!("{} `{}`: {reserved} is reserved", level.name, window.subject));
        }
    }
    let booked = booked(level, rows);
    let subjects: BTreeSet<&String> = settled.keys().chain(booked.keys()).collect();
    for subject in subjects {
        let sum = |sums: &BTreeMap<String, Money>| sums.get(subject).copied().unwrap_or_default();
        let (settled, booked) = (sum(&settled), sum(&booked));
        if settled != booked {
            violations.push(format!("{} `{subject}`: the guard says {settled}, the rows {booked}", level.name));
        }
    }
    violations
}

fn count(ended: &[Ended]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for one in ended {
        *counts.entry(one.kind()).or_default() += 1;
    }
    counts
}

/// How many refusals name each level, and how many say only that the budget is others' as well.
fn refused_by(ended: &[Ended]) -> BTreeMap<&'static str, usize> {
    let refusals =
        |word: &str| ended.iter().filter(|one| one.message().is_some_and(|said| said.contains(word))).count();
    let levels = LEVELS.iter().map(|level| (level.name, refusals(&format!("`{}`", level.name))));
    levels.chain([("shared", refusals("shares with others"))]).collect()
}
