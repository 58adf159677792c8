//! What a guard's grant makes of a call.

use farebox_bus::Headers;
use farebox_emulator::Script;
use farebox_proto::v1::{self, amend_reply};
use farebox_testkit::PATIENCE;
use farebox_types::{ErrorKind, Fault, Money};
use serde_json::json;
use tokio::time::timeout;

use crate::world::{BODY, World, deployment, said};

/// The body as one of these models gets it, clamped.
fn clamped(model: &str, limit: u64) -> String {
    BODY.replace(":\"m\"", &format!(":\"{model}\"")).replace("\t1000", &format!("\t{limit}"))
}

#[tokio::test]
async fn a_clamped_call_is_sent_with_its_lower_limit_and_says_so() {
    let world = World::start().await;
    let left = v1::BudgetLeft { budget: "team".into(), ..Default::default() };
    let plan = vec![v1::Deployment { clamped_max_tokens: 300, ..deployment("up") }];
    let answer = said(&mut world.offer(plan, vec![left]).await).await;
    assert_eq!(world.sent("up"), clamped("up", 300));
    assert_eq!(answer["farebox"]["clamped"], true, "{answer}");
    assert_eq!(answer["farebox"]["warnings"], json!(["clamped to 300 tokens by budget"]));
    assert_eq!(answer["farebox"]["budgets"][0]["budget"], "team");
}

#[tokio::test]
async fn a_further_attempt_is_made_where_the_guard_says_and_as_it_says() {
    let mut world = World::start().await;
    world.emulator.script("a", Script::refuse(500, "down"));
    let plan = vec![deployment("a"), deployment("b"), deployment("c")];
    let mut inbox = world.offer(plan, Vec::new()).await;
    let (to, asked) = world.amend().await;
    let next = asked.next.unwrap();
    assert_eq!((next.upstream_model.as_str(), next.expected_tokens, next.requests_per_minute), ("b", 7, 5));
    assert_eq!(next.output.map(|share| share.bound()), Some(v1::Money::of(&next.bound)));
    let others: Vec<&str> = asked.alternatives.iter().map(|other| other.upstream_model.as_str()).collect();
    assert_eq!(others, ["c"]);
    let granted = v1::Granted {
        lease_ms: 60_000,
        call_id: asked.alternatives[0].call_id.clone(),
        bound: Some("0.2".parse::<Money>().unwrap().into()),
        clamped_max_tokens: 200,
        warnings: vec!["budget `soft` is spent".into()],
        budgets: vec![v1::BudgetLeft { budget: "later".into(), ..Default::default() }],
        ..Default::default()
    };
    let result = Some(amend_reply::Result::Granted(granted));
    world.bus.publish_message(&to, Headers::new(), &v1::AmendReply { result }).await.unwrap();
    let answer = said(&mut inbox).await;
    assert_eq!(world.sent("c"), clamped("c", 200));
    assert!(world.emulator.last_request("b").is_none(), "it has no room");
    let facts = &answer["farebox"];
    assert_eq!((&facts["attempts"], &facts["clamped"]), (&json!(2), &json!(true)), "{answer}");
    assert_eq!(facts["warnings"], json!(["budget `soft` is spent", "clamped to 200 tokens by budget"]));
    assert_eq!(facts["budgets"][0]["budget"], "later");
}

#[tokio::test]
async fn a_call_that_gets_no_further_attempt_is_answered_and_then_ended() {
    let mut world = World::start().await;
    world.emulator.script("a", Script::refuse(500, "down"));
    let mut inbox = world.offer(vec![deployment("a"), deployment("b")], Vec::new()).await;
    let (to, asked) = world.amend().await;
    let limit = v1::LimitLeft { limit: "slow".into(), allowed: 60, reset_ms: 30_000, ..Default::default() };
    let fault = Fault::new(ErrorKind::OverBudget, "budget `team` has nothing left");
    let error = v1::Error { limits: vec![limit], retry_after_ms: Some(30_000), ..fault.into() };
    let result = Some(amend_reply::Result::Refused(error));
    world.bus.publish_message(&to, Headers::new(), &v1::AmendReply { result }).await.unwrap();
    let answer = said(&mut inbox).await;
    assert_eq!(answer["farebox"]["limits"][0]["limit"], "slow", "{answer}");
    assert_eq!(answer["error"]["retry_after_ms"], 30_000, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("(no further attempt: budget `team` has nothing left)"), "{answer}");
    assert_eq!((&answer["error"]["type"], &answer["farebox"]["attempts"]), (&json!("upstream"), &json!(1)), "{answer}");
    let settled: v1::SettleRequest = timeout(PATIENCE, world.settles.next()).await.unwrap().unwrap().decode().unwrap();
    assert_eq!((settled.reservation_id, settled.end), (asked.reservation_id, asked.ended));
}

/// A worker that stood still may hear late that its further attempt was refused.
#[tokio::test]
async fn a_call_that_the_guard_has_ended_is_not_answered_when_its_further_attempt_is_refused() {
    let mut world = World::start().await;
    world.emulator.script("a", Script::refuse(500, "down"));
    let mut inbox = world.offer(vec![deployment("a"), deployment("b")], Vec::new()).await;
    let (to, asked) = world.amend().await;
    world.closed.send_replace(vec![asked.reservation_id.clone()]);
    world.heartbeat(|beat| beat.complete && beat.taken.contains(&asked.reservation_id)).await;
    world.refuse(&to).await;
    world.heartbeat(|beat| beat.ended.contains(&asked.reservation_id)).await;
    assert!(inbox.try_next().is_none());
}
