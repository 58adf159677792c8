//! A hard budget is hard, and what was not used of a reservation can be used.

use std::time::Duration;

use farebox_emulator::{Script, Usage};
use farebox_types::{ErrorKind, Money};
use tokio::task::JoinSet;

use crate::{
    books::{ledger, ledgers_match},
    cluster::Cluster,
    load::{Ended, all_ended_in_time, ask_for, call},
};

const DEADLINE: Duration = Duration::from_secs(25);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_callers_on_a_budget_for_twenty_with_a_guard_killed_in_the_middle() {
    let cluster = Cluster::builder()
        .with("intake.2")
        .with("intake.3")
        .with("guard.2")
        .set("guard.max_cost_per_task", "20")
        .start()
        .await
        .unwrap();
    cluster.emulator.script("m-flat", Script::default().delay(Duration::from_millis(300)));
    let leader = cluster.any_ready(&["guard.1", "guard.2"]).await;
    let mut callers: JoinSet<Ended> = JoinSet::new();
    let caller = |number: u32| {
        let client = cluster.client.clone();
        async move { call(&client, ask_for("twenty", "flat", "one", DEADLINE), number % 2 == 1, DEADLINE).await }
    };
    (0..8).for_each(|number| drop(callers.spawn(caller(number))));
    farebox_testkit::eventually(DEADLINE, "the first calls are out", || async {
        cluster.emulator.ledger().totals().requests >= 4
    })
    .await;
    (8..100).for_each(|number| drop(callers.spawn(caller(number))));
    let out = cluster.emulator.ledger().totals().requests;
    cluster.kill9(leader).await;
    assert!(out < 20, "{out} calls were out before the guard died: that is not the middle");
    (100..200).for_each(|number| drop(callers.spawn(caller(number))));
    let ended = callers.join_all().await;
    let counts = all_ended_in_time(&ended);
    let matched = ledgers_match(&cluster).await;
    let entries = cluster.emulator.ledger().entries();
    let billed = entries.iter().filter(|entry| entry.billed && &*entry.model == "m-flat").count();
    let rows = ledger(&cluster).await.unwrap();
    let spent: Money = rows.iter().filter(|row| row.task_id == "twenty").map(|row| row.cost).sum();
    assert_eq!(spent, Money::usd(20), "{counts:?} {matched:?}");
    assert!(billed <= 20, "{billed} calls were billed: {counts:?}");
    assert_eq!(counts.get("ok").copied().unwrap_or_default() + matched.lost, 20, "{counts:?} {matched:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_call_did_not_use_of_its_reservation_is_there_for_the_next() {
    let cluster = Cluster::builder().set("guard.max_cost_per_task", "0.05").start().await.unwrap();
    // 100 tokens of the 200 that are reserved.
    cluster.emulator.script("m-tokens", Script::usage(Usage::new(10, 100)));
    let request = || ask_for("cheap", "tokens", "the same each time", DEADLINE);
    let mut passed = 0_i128;
    let refused = loop {
        match call(&cluster.client, request(), false, DEADLINE).await.result {
            Ok(_) => passed += 1,
            Err(error) => break error,
        }
        assert!(passed < 100, "the budget never ends");
    };
    assert_eq!(refused.kind(), ErrorKind::OverBudget, "{refused}");
    ledgers_match(&cluster).await;
    let rows = ledger(&cluster).await.unwrap();
    let row = rows.iter().find(|row| row.task_id == "cheap").unwrap();
    let (limit, bound, cost) = (50_000_000_000, row.bound.picos(), row.cost.picos());
    assert_eq!(cost, 10 * 3_000_000 + 100 * 15_000_000);
    assert!(bound > 2 * cost, "the reservation {bound} is well above the cost {cost}");
    // As many as fit when each further one needs its whole bound, and then costs less.
    assert_eq!(passed, (limit - bound) / cost + 1);
    assert!(passed > limit / bound, "more calls than reservations fit");
}
