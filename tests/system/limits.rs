//! Limits hold however many intakes there are, and a guard that dies forgets none of them.

use std::{collections::BTreeMap, time::Duration};

use farebox_emulator::{Script, Usage};
use farebox_types::ErrorKind;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    cluster::Cluster,
    load::{Ended, ask, call},
};

const DEADLINE: Duration = Duration::from_secs(30);

/// A burst does not last so long that more than one window, or more than one request's inflow, is met.
const STRATEGIES: &str = r#"
limits:
  - { name: fixed, scope: { model: tokens }, requests: 100, per: day, strategy: fixed-window }
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
    let cluster = builder.start().await.unwrap();
    cluster.emulator.script("*", Script::default().delay(Duration::from_millis(200)));
    let leader = cluster.any_ready(&["guard.1", "guard.2"]).await;
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
    farebox_testkit::eventually(DEADLINE, "calls are out", || async { asked(&cluster, "m-flat") > 20 }).await;
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
            let Err(farebox_client::Error::Refused(fault)) = &one.result else { panic!("{one:?}") };
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
    // Whoever was refused while others ran tries again now that nobody does.
    let last = loop {
        let one = call(&cluster.client, ask("tokens", "one", DEADLINE), false, DEADLINE).await;
        if one.kind().is_some() {
            break one;
        }
    };
    assert_eq!(last.kind(), Some(ErrorKind::RateLimited), "{last:?}");
    let entries = cluster.emulator.ledger().entries();
    let of_model = entries.iter().filter(|entry| &*entry.model == "m-tokens");
    let taken: u64 = of_model.map(|entry| entry.prompt_tokens + entry.completion_tokens).sum();
    let estimate = 400;
    assert!((10_000 - estimate..=10_000).contains(&taken), "{taken} tokens of 10000");
}

async fn never_more_at_a_time(cluster: &Cluster) {
    cluster.emulator.script("m-claude", Script::default().delay(Duration::from_millis(300)));
    let mut callers = JoinSet::new();
    for _ in 0..40 {
        let client = cluster.client.clone();
        callers.spawn(async move { call(&client, ask("claude", "one", DEADLINE), false, DEADLINE).await });
    }
    let mut ended = Vec::new();
    let mut most = 0;
    while !callers.is_empty() {
        tokio::select! {
            one = callers.join_next() => ended.extend(one.map(|one| one.expect("no caller panics"))),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
        most = most.max(cluster.emulator.ledger().totals().open);
    }
    assert_eq!(most, 5, "calls at the provider at a time");
    let refused = refused(&ended);
    assert!(refused.keys().all(|kind| *kind == "rate_limited"), "{refused:?}");
    assert!(ended.len() - refused.values().sum::<usize>() >= 5, "{refused:?}");
    let after = call(&cluster.client, ask("claude", "one", DEADLINE), false, DEADLINE).await;
    assert!(after.result.is_ok(), "nobody runs any more: {after:?}");
}

async fn as_much_as_flows_in(cluster: &Cluster) {
    let began = Instant::now();
    let mut passed = 0_u128;
    while began.elapsed() < Duration::from_secs(3) {
        let one = call(&cluster.client, ask("flat", "one", DEADLINE), false, DEADLINE).await;
        match one.kind() {
            None => passed += 1,
            Some(kind) => assert_eq!(kind, ErrorKind::RateLimited, "{one:?}"),
        }
    }
    // Five that were there, and two a second.
    let may = 5 + began.elapsed().as_millis() / 500;
    assert!((may - 2..=may + 1).contains(&passed), "{passed} passed, {may} may");
}
