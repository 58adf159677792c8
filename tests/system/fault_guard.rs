//! No guard: what goes on without one, and what does not.

use std::time::Duration;

use farebox_client::Error;
use farebox_emulator::{Gate, Script};
use farebox_testkit::{PATIENCE, eventually};
use farebox_types::ErrorKind;
use tokio::task::JoinSet;

use crate::{
    books::{ledger, ledgers_match},
    cluster::{Builder, Cluster},
    load::{Ended, ask, call},
};

const DEADLINE: Duration = Duration::from_secs(60);

/// A cluster whose one budget says what becomes of calls without a guard.
fn cluster(unreachable: &str) -> Builder {
    let budget = format!("[{{ name: all, limit: 1000, period: day, hard: true, unreachable: {unreachable} }}]");
    Cluster::builder().set("guard.max_cost_per_day", "null").set("budgets", &budget)
}

async fn calls(cluster: &Cluster, model: &str, count: usize) -> Vec<Ended> {
    let mut callers: JoinSet<Ended> = JoinSet::new();
    for number in 0..count {
        let client = cluster.client.clone();
        let request = ask(model, &format!("call {number}"), DEADLINE);
        callers.spawn(async move { call(&client, request, number % 2 == 1, DEADLINE).await });
    }
    callers.join_all().await
}

fn went_on_without_a_guard(ended: &Ended) -> bool {
    let report = ended.result.as_ref().ok().and_then(|answer| answer.report.as_ref());
    report.is_some_and(|report| report.warnings.iter().any(|warning| warning.contains("no guard could be reached")))
}

/// A refusal that says when to come again.
fn comes_again(ended: &Ended) -> bool {
    matches!(&ended.result, Err(Error::Refused(fault)) if fault.kind == ErrorKind::Unavailable && fault.retry_after.is_some())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_may_go_on_without_a_guard_have_one_row_each_once_it_is_back() {
    let cluster = cluster("open").with("intake.2").start().await.unwrap();
    cluster.sigstop("guard.1");
    for ended in calls(&cluster, "tokens", 20).await {
        assert!(went_on_without_a_guard(&ended), "{ended:?}");
    }
    assert_eq!(ledger(&cluster).await.unwrap().len(), 0, "rows come with the guard");
    cluster.sigcont("guard.1");
    let matched = ledgers_match(&cluster).await;
    assert_eq!((matched.rows, matched.billed, matched.lost), (21, 21, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_guard_all_intakes_together_spend_no_more_than_a_budgets_grace() {
    // What is given up while it may be stored counts as spent: nothing here is so slow.
    let cluster = cluster("grace 5").with("intake.2").set("intake.store_timeout", "20s").start().await.unwrap();
    cluster.kill9("guard.1").await;
    let ended = calls(&cluster, "flat", 50).await;
    // A call costs a dollar.
    let (answered, refused): (Vec<_>, Vec<_>) = ended.into_iter().partition(went_on_without_a_guard);
    assert_eq!(answered.len(), 5, "{refused:?}");
    assert!(refused.iter().all(comes_again), "{refused:?}");
    assert_eq!(cluster.emulator.ledger().totals().requests, 5);
    cluster.start_role("guard.1").await.unwrap();
    let matched = ledgers_match(&cluster).await;
    assert_eq!((matched.rows, matched.billed, matched.lost), (6, 6, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_guard_running_calls_are_answered_and_new_ones_are_refused() {
    let cluster = cluster("closed").set("intake.guard_deadline", "6s").start().await.unwrap();
    let gate = Gate::default();
    cluster.emulator.script("m-tokens", Script::default().bill_on_arrival().hold_after(0, &gate));
    let running = calls(&cluster, "tokens", 6);
    let outage = async {
        eventually(PATIENCE, "6 calls are out", || async { cluster.emulator.ledger().totals().open == 6 }).await;
        cluster.kill9("guard.1").await;
        let client = cluster.client.clone();
        let refused = call(&client, ask("claude", "a new one", DEADLINE), false, DEADLINE).await;
        gate.open();
        refused
    };
    let (running, refused) = tokio::join!(running, outage);
    for one in &running {
        assert!(one.result.is_ok(), "{one:?}");
    }
    assert!(comes_again(&refused), "{refused:?}");
    cluster.emulator.clear();
    cluster.start_role("guard.1").await.unwrap();
    let matched = ledgers_match(&cluster).await;
    assert_eq!((matched.rows, matched.billed, matched.lost), (7, 7, 0));
}
