//! Limits hold however many intakes there are, and a guard that dies forgets none of them.

use std::{collections::BTreeMap, time::Duration};

use farebox_client::Error;
use farebox_emulator::{Gate, Script, Usage};
use farebox_testkit::eventually;
use farebox_types::ErrorKind;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    books::ledger,
    cluster::Cluster,
    load::{Ended, ask, call},
};

const DEADLINE: Duration = Duration::from_secs(60);

/// A burst does not last so long that more than one request flows in, and is in one window: each begins at a multiple of
/// so many days since 1970.
const STRATEGIES: &str = r#"
limits:
  - { name: fixed, scope: { model: tokens }, requests: 100, per: 30000d, strategy: fixed-window }
  - { name: sliding, scope: { model: claude }, requests: 100, per: day, strategy: sliding-window }
  - { name: bucket, scope: { model: flat }, requests: 100, per: day, strategy: token-bucket }
"#;

const OTHERS: &str = r#"
limits:
  - { name: tokens-a-day, scope: { model: tokens }, tokens: 10000, per: day, strategy: sliding-window }
  - { name: at-a-time, scope: { model: claude }, concurrent: 5 }
  - { name: paced, scope: { model: flat }, requests: 20, per: 10s, strategy: token-bucket, burst: 5 }
"#;

/// How often the provider was asked for a model.
fn asked(cluster: &Cluster, model: &str) -> usize {
    cluster.emulator.ledger().entries().iter().filter(|entry| *entry.model == *model).count()
}

fn refused(ended: &[Ended]) -> BTreeMap<&'static str, usize> {
    let mut refused = BTreeMap::new();
    for kind in ended.iter().filter_map(Ended::kind) {
        *refused.entry(kind.as_str()).or_default() += 1;
    }
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_as_many_pass_as_may_through_three_intakes_and_a_guard_killed_in_the_middle() {
    let builder = Cluster::builder().config(STRATEGIES).with("intake.2").with("intake.3").with("guard.2");
    // A call waits for a guard for longer than one takes to follow another: none is refused for that.
    let cluster = builder.set("intake.guard_deadline", "40s").start().await.unwrap();
    cluster.emulator.script("*", Script::default().delay(Duration::from_millis(200)));
    let leader = cluster.leader(["guard.1", "guard.2"]).await;
    let mut callers: JoinSet<(&str, Ended)> = JoinSet::new();
    let mut burst = |count: usize| {
        for _ in 0..count {
            for model in ["tokens", "claude", "flat"] {
                let client = cluster.client.clone();
                let calling = async move { (model, call(&client, ask(model, "one", DEADLINE), false, DEADLINE).await) };
                callers.spawn(calling);
            }
        }
    };
    burst(60);
    eventually(DEADLINE, "calls are out", || async { asked(&cluster, "m-flat") > 20 }).await;
    cluster.kill9(leader).await;
    burst(140);
    let ended = callers.join_all().await;
    for (limit, model) in [("fixed", "tokens"), ("sliding", "claude"), ("bucket", "flat")] {
        let of_model = ended.iter().filter(|(asked, _)| *asked == model).map(|(_, ended)| ended);
        let (passed, refused): (Vec<&Ended>, Vec<&Ended>) =
            of_model.partition(|ended| ended.kind() != Some(ErrorKind::RateLimited));
        assert_eq!((passed.len(), refused.len()), (100, 100), "{limit}: {:?}", passed.last());
        assert_eq!(asked(&cluster, &format!("m-{model}")), 100, "{limit}");
        for one in refused {
            let Err(Error::Refused(fault)) = &one.result else { panic!("{one:?}") };
            assert!(fault.message.contains(&format!("`{limit}`")), "{}", fault.message);
            assert!(fault.retry_after.is_some_and(|after| after > Duration::ZERO), "{fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_calls_at_a_time_and_an_even_flow_are_limited() {
    let cluster = Cluster::builder().config(OTHERS).with("intake.2").with("intake.3").start().await.unwrap();
    tokens_within_one_estimate(&cluster).await;
    never_more_at_a_time(&cluster).await;
    as_much_as_flows_in(&cluster).await;
}

/// Calls reserve what they are expected to take, and what they did not take is there for the next.
async fn tokens_within_one_estimate(cluster: &Cluster) {
    // 60 of at least 200 that are expected.
    cluster.emulator.script("m-tokens", Script::usage(Usage::new(10, 50)));
    let mut callers = JoinSet::new();
    for _ in 0..10 {
        let client = cluster.client.clone();
        callers.spawn(async move {
            while call(&client, ask("tokens", "one", DEADLINE), false, DEADLINE).await.result.is_ok() {}
        });
    }
    callers.join_all().await;
    // Whoever was refused while others ran tries again now that nobody does, and once more when all they left is given back.
    let mut refused_at = None;
    let last = loop {
        let one = call(&cluster.client, ask("tokens", "one", DEADLINE), false, DEADLINE).await;
        if one.kind().is_none() {
            continue;
        }
        let calls = cluster.emulator.ledger().entries().len();
        if refused_at.replace(calls) == Some(calls) {
            break one;
        }
        let settled = || async { ledger(cluster).await.is_ok_and(|rows| rows.len() == calls) };
        eventually(DEADLINE, "every call has its row", settled).await;
    };
    assert_eq!(last.kind(), Some(ErrorKind::RateLimited), "{last:?}");
    let entries = cluster.emulator.ledger().entries();
    let of_model = entries.iter().filter(|entry| &*entry.model == "m-tokens");
    let taken: u64 = of_model.map(|entry| entry.prompt_tokens + entry.completion_tokens).sum();
    let estimate = 400;
    assert!((10_000 - estimate..=10_000).contains(&taken), "{taken} tokens of 10000");
}

async fn never_more_at_a_time(cluster: &Cluster) {
    let gate = Gate::default();
    cluster.emulator.script("m-claude", Script::default().hold_after(0, &gate));
    let mut callers = JoinSet::new();
    for _ in 0..40 {
        let client = cluster.client.clone();
        callers.spawn(async move { call(&client, ask("claude", "one", DEADLINE), false, DEADLINE).await });
    }
    let out = || cluster.emulator.ledger().totals().open;
    eventually(DEADLINE, "as many as may are out", || async { out() == 5 }).await;
    // While none of those ends, all others are refused.
    let mut ended = Vec::new();
    while ended.len() < 35 {
        ended.extend(callers.join_next().await.map(|one| one.expect("no caller panics")));
        assert_eq!(out(), 5, "calls at the provider at a time");
    }
    assert_eq!(refused(&ended), BTreeMap::from([("rate_limited", 35)]));
    gate.open();
    let ended = callers.join_all().await;
    assert!(ended.iter().all(|one| one.result.is_ok()), "{ended:?}");
    let after = call(&cluster.client, ask("claude", "one", DEADLINE), false, DEADLINE).await;
    assert!(after.result.is_ok(), "nobody runs any more: {after:?}");
}

/// Five that are there, and two a second: no more, and whoever comes when he was told to gets in.
async fn as_much_as_flows_in(cluster: &Cluster) {
    let began = Instant::now();
    let mut passed = 0_u128;
    while passed < 11 {
        let one = call(&cluster.client, ask("flat", "one", DEADLINE), false, DEADLINE).await;
        let Err(error) = &one.result else {
            passed += 1;
            let may = 5 + began.elapsed().as_millis() / 500;
            assert!(passed <= may + 1, "{passed} passed, {may} may");
            continue;
        };
        let Error::Refused(fault) = error else { panic!("{one:?}") };
        let after = fault.retry_after.expect("when to come again");
        assert!(fault.kind == ErrorKind::RateLimited && after <= Duration::from_millis(500), "{one:?}");
        sleep(after).await;
        let again = call(&cluster.client, ask("flat", "one", DEADLINE), false, DEADLINE).await;
        assert!(again.result.is_ok(), "it came when it was told to, {after:?} later: {again:?}");
        passed += 1;
    }
    assert!(began.elapsed() >= Duration::from_millis(2900), "eleven passed within {:?}", began.elapsed());
}
