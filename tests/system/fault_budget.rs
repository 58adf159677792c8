//! A hard budget is hard, and what was not used of a reservation can be used.

use std::{collections::BTreeMap, time::Duration};

use farebox_client::Client;
use farebox_emulator::{Script, Usage};
use farebox_proto::v1::{self, llm_response::Result as Answer};
use farebox_types::{ErrorKind, Money};
use tokio::task::JoinSet;

use crate::{
    books::{billed, ledger, ledgers_match},
    cluster::Cluster,
    load::{Ended, all_ended_in_time, ask, ask_for, call},
};

const DEADLINE: Duration = Duration::from_secs(120);
/// How long a call waits for a guard: longer than one takes to follow another, so that none is refused for that.
const GUARD_COMES: &str = "40s";

/// Room for 20 calls of a dollar in all, and for the call by which the books are known to be whole; for less of an actor
/// and of a task.
const LEVELS: &str = r#"
budgets:
  - { name: all, scope: everything, limit: 20.50, period: total, hard: true }
  - { name: per-project, scope: project, limit: 20.90, period: total, hard: true }
  - { name: per-actor, scope: actor, limit: 12, period: total, hard: true }
  - { name: per-task, scope: task, limit: 7, hard: true }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_callers_on_budgets_for_twenty_on_four_levels_with_a_guard_killed_in_the_middle() {
    let builder = Cluster::builder().with("intake.2").with("intake.3").with("guard.2").config(LEVELS);
    let cluster = builder.set("intake.guard_deadline", GUARD_COMES).start().await.unwrap();
    cluster.emulator.script("m-flat", Script::default().delay(Duration::from_millis(300)));
    let leader = cluster.leader(["guard.1", "guard.2"]).await;
    let mut callers: JoinSet<Ended> = JoinSet::new();
    let caller = |number: u32| {
        let client = cluster.client.clone();
        let (task, actor) = (format!("task-{}", number % 5), format!("actor-{}", number % 2));
        let labels = v1::Labels { actor, task_id: task, ..v1::Labels::default() };
        let request = v1::LlmRequest { labels: Some(labels), ..ask("flat", "one", DEADLINE) };
        async move { call(&client, request, number % 3 == 1, DEADLINE).await }
    };
    (0..8).for_each(|number| drop(callers.spawn(caller(number))));
    farebox_testkit::eventually(DEADLINE, "the first calls are out", || async {
        cluster.emulator.ledger().totals().requests >= 4
    })
    .await;
    // In the middle: eight calls at most are out when all these set out and their guard dies.
    (8..100).for_each(|number| drop(callers.spawn(caller(number))));
    cluster.kill9(leader).await;
    (100..200).for_each(|number| drop(callers.spawn(caller(number))));
    let ended = callers.join_all().await;
    let counts = all_ended_in_time(&ended);
    let matched = ledgers_match(&cluster).await;
    let entries = cluster.emulator.ledger().entries();
    let billed = entries.iter().filter(|entry| entry.billed && &*entry.model == "m-flat").count();
    assert!(billed <= 20, "{billed} calls were billed: {counts:?}");
    let mut spent: BTreeMap<String, Money> = BTreeMap::new();
    for row in ledger(&cluster).await.unwrap().iter().filter(|row| !row.task_id.is_empty()) {
        assert!(row.outcome == "ok" || row.is_lost(), "{row:?}");
        for level in ["all", &row.actor, &row.task_id] {
            *spent.entry(level.to_owned()).or_default() += row.cost;
        }
    }
    let over = |level: &str| match level.split_once('-') {
        Some(("actor", _)) => Money::usd(12),
        Some(_) => Money::usd(7),
        None => Money::usd(20),
    };
    assert!(spent.iter().all(|(level, sum)| *sum <= over(level)), "{spent:?}");
    assert_eq!(spent["all"], Money::usd(20), "{counts:?} {matched:?}");
    // Whoever was answered and whose worker then stood still for a lease is `lost` all the same.
    let ok = counts.get("ok").copied().unwrap_or_default();
    assert!(ok <= 20 && ok + matched.lost >= 20, "{counts:?} {matched:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_call_did_not_use_of_its_reservation_is_there_for_the_next() {
    // A call waits for what the one before it gives back: that may be recorded a moment after it was answered.
    let builder = Cluster::builder().set("guard.max_cost_per_task", "0.05").set("guard.wait_for_holds", "20s");
    let cluster = builder.set("intake.guard_deadline", GUARD_COMES).start().await.unwrap();
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

/// Answers at a twentieth of what each call may cost: 1000 tokens, where the caller sets no limit.
const SHORT: usize = 50;

/// A call without an output limit.
fn unlimited(model: &str) -> v1::LlmRequest {
    let body = serde_json::json!({ "model": model, "messages": [{ "role": "user", "content": "the same each time" }] });
    let raw = v1::RawBody { dialect: v1::Dialect::OpenaiChat.into(), bytes: body.to_string().into_bytes().into() };
    v1::LlmRequest { body: Some(v1::llm_request::Body::Raw(raw)), ..ask(model, "", DEADLINE) }
}

/// Calls until it is refused. What it got, and what the provider had billed by then.
async fn call_until_refused(client: Client, bill: impl Fn() -> Money) -> (Vec<v1::LlmResponse>, Ended, Money) {
    let mut answers = Vec::new();
    loop {
        let one = call(&client, unlimited("tokens"), false, DEADLINE).await;
        match one.result {
            Ok(answer) => answers.push(answer),
            Err(_) => return (answers, one, bill()),
        }
        assert!(answers.len() < 1000, "the budget never ends");
    }
}

/// Fifty of them at once, on a budget of this config: all answers, and the least that was billed when one was refused.
async fn used_up(budget: &str) -> (Cluster, Vec<v1::LlmResponse>, Money) {
    let cluster = Cluster::builder()
        .config(budget)
        .set("guard.wait_for_holds", "80s")
        .set("intake.guard_deadline", "100s")
        .start()
        .await
        .expect("a cluster");
    cluster.emulator.script("m-tokens", Script::text("x7q ".repeat(SHORT)).delay(Duration::from_millis(100)));
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let books = cluster.emulator.ledger();
        let bill = move || books.entries().iter().map(billed).sum();
        callers.spawn(call_until_refused(cluster.client.clone(), bill));
    }
    let ended = callers.join_all().await;
    for (_, refused, _) in &ended {
        assert_eq!(refused.kind(), Some(ErrorKind::OverBudget), "{refused:?}");
    }
    let least = ended.iter().map(|(_, _, bill)| *bill).min().expect("some have ended");
    (cluster, ended.into_iter().flat_map(|(answers, ..)| answers).collect(), least)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_is_used_up_before_anybody_is_refused() {
    let limit = Money::from_picos(400_000_000_000);
    let (cluster, answers, settled) =
        used_up("budgets:\n  - { name: all, limit: 0.40, period: total, hard: true }\n").await;
    assert!(settled.picos() * 100 >= limit.picos() * 95, "{settled} of {limit} when the first was refused");
    let bill: Money = cluster.emulator.ledger().entries().iter().map(billed).sum();
    assert!(bill <= limit, "{bill} of {limit} after {} answers", answers.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_short_enough_by_itself_is_not_cut_by_a_budget() {
    let limit = Money::from_picos(150_000_000_000);
    let budget =
        "budgets:\n  - { name: all, limit: 0.15, period: total, hard: true, when_short: clamp, clamp_floor: 64 }\n";
    let (cluster, answers, settled) = used_up(budget).await;
    for answer in &answers {
        let Some(Answer::Raw(raw)) = &answer.result else { panic!("{answer:?}") };
        let body: serde_json::Value = serde_json::from_slice(&raw.bytes).unwrap();
        assert_eq!(body["choices"][0]["finish_reason"], "stop", "{body}");
        assert_eq!(body["choices"][0]["message"]["content"], "x7q ".repeat(SHORT), "{body}");
    }
    let clamped = |answer: &v1::LlmResponse| answer.report.as_ref().is_some_and(|report| report.clamped);
    assert!(answers.iter().any(clamped), "no call was sent with less than it asked for");
    // A whole call may cost 0.015: limited to what fits, more of the budget is used than that leaves.
    assert!(settled.picos() * 100 >= limit.picos() * 97, "{settled} of {limit} when the first was refused");
    let bill: Money = cluster.emulator.ledger().entries().iter().map(billed).sum();
    assert!(bill <= limit, "{bill} of {limit}");
}
