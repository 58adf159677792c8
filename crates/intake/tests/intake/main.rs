//! Intake over a real NATS server, with a guard that the test plays.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use farebox_bus::{Fence, Headers, topology};
use farebox_intake::Options;
use farebox_proto::{
    headers,
    subjects::{self, Tenancy},
    v1::{self, reserve_reply},
};
use farebox_testkit::{PATIENCE, eventually};
use farebox_types::{ErrorKind, Fault, Project, RequestId, Span};
use serde_json::{Value, json};
use tokio::time::timeout;

mod edge;
mod labels;
mod world;

use world::*;

#[tokio::test]
async fn a_reservation_that_a_silent_guard_may_have_stored_is_given_back() {
    let (guard_timeout, guard_deadline) = (Span::from_millis(100), Span::from_millis(300));
    let mut world = World::start(Options { guard_timeout, guard_deadline, ..quick() }).await;
    let mut inbox = world.ask("llm.request", &chat("limited", json!({}))).await;
    let (_, asked) = world.reserve().await;
    // The guard says nothing: the caller is refused, and the release insists beyond that.
    assert_eq!(said(&mut inbox).await["error"]["type"], "unavailable");
    let (_, first) = world.release().await;
    assert_eq!(first.reservation_id, asked.reservation_id);
    let mut last = None;
    for _ in 0..4 {
        last = Some(world.release().await);
    }
    let (mut delivery, again) = last.unwrap();
    assert_eq!(again.reservation_id, asked.reservation_id);
    // Once the guard has answered, it is asked no more. What was on its way then may still come.
    for _ in 0..20 {
        world.answer(&delivery, &v1::ReleaseReply { released: false, error: None }).await;
        match timeout(Duration::from_millis(500), world.release()).await {
            Ok((late, _)) => delivery = late,
            Err(_) => return,
        }
    }
    panic!("asked again after the answer");
}

#[tokio::test]
async fn the_limit_that_bounds_a_call_is_sent_where_nothing_else_limits_it() {
    let mut world = World::start(quick()).await;
    let given = |mut body: Value| {
        body["max_tokens"] = 7.into();
        body
    };
    let assumed = Options::default().assumed_max_output_tokens;
    for (body, sent, at_least) in [
        (chat("limited", json!({})), 0, 5000),
        (chat("claude", json!({})), 5000, 5000),
        (chat("open", json!({})), assumed, assumed),
        (given(chat("open", json!({}))), 0, 7),
        (given(chat("claude", json!({}))), 0, 7),
    ] {
        world.ask("llm.request", &body).await;
        let (delivery, asked) = world.reserve().await;
        world.grant(&delivery).await;
        let work = world.work().await;
        assert_eq!(work.plan[0].default_max_tokens, sent, "{body}");
        let bound = farebox_types::Money::from(asked.attempt.unwrap().bound.unwrap());
        // Two dollars a million.
        assert!(bound.picos() >= i128::from(at_least) * 2_000_000, "{body}: {bound:?}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_the_guard_is_asked_and_what_has_no_bound_is_named_to_it() {
    let mut world = World::start(quick()).await;
    let with = |name: &str, value: Value| {
        let mut body = chat("limited", json!({}));
        body[name] = value;
        body
    };
    for (body, kind, word) in [
        (with("max_completion_tokens", json!(0)), "bad_request", "at least 1"),
        (with("n", json!(0)), "bad_request", "`n`"),
        (with("n", json!(100_000)), "bad_request", "128"),
    ] {
        let answer = said(&mut world.ask("llm.request", &body).await).await;
        assert_eq!(answer["error"]["type"], kind, "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(word), "{answer}");
    }
    // The first question is of a request that is in order.
    for (body, word) in [
        (with("service_tier", json!("auto")), ""),
        (with("web_search_options", json!({})), "`web_search_options`"),
        (with("tools", json!([{ "type": "web_search" }])), "`tools[0].type`"),
        (
            with("messages", json!([{ "role": "user", "content": [{ "type": "file", "file": { "file_id": "f" } }] }])),
            "`messages[0].content[0].file.file_id`",
        ),
        (with("service_tier", json!("flex")), "`flex`"),
    ] {
        world.ask("llm.request", &body).await;
        let (delivery, asked) = world.reserve().await;
        world.grant(&delivery).await;
        assert_eq!(world.work().await.reservation_id, asked.reservation_id);
        let attempt = asked.attempt.unwrap();
        assert_eq!((attempt.model.as_str(), attempt.unbounded.is_empty()), ("limited", word.is_empty()));
        assert!(attempt.unbounded.contains(word), "{}", attempt.unbounded);
    }
}

#[tokio::test]
async fn the_plan_begins_with_the_deployment_that_the_guard_chose_as_it_was_granted() {
    let mut world = World::start(quick()).await;
    world.ask("llm.request", &chat("spread", json!({}))).await;
    let (delivery, asked) = world.reserve().await;
    let first = asked.attempt.unwrap();
    assert_eq!((first.upstream_model.as_str(), first.requests_per_minute), ("rated", 1));
    let others: Vec<&str> = asked.alternatives.iter().map(|other| other.upstream_model.as_str()).collect();
    assert_eq!(others, ["open", "limited"]);
    let share = asked.alternatives[1].output.unwrap();
    assert_eq!(share.bound(), v1::Money::of(&asked.alternatives[1].bound));
    let budget = v1::BudgetLeft { budget: "team".into(), ..Default::default() };
    let granted = v1::Granted {
        lease_ms: 6_000,
        call_id: asked.alternatives[1].call_id.clone(),
        bound: Some(farebox_types::Money::from_picos(7).into()),
        clamped_max_tokens: 70,
        warnings: vec!["the budget `soft` is spent".into()],
        budgets: vec![budget.clone()],
        limits: vec![v1::LimitLeft { limit: "slow".into(), ..Default::default() }],
    };
    let result = Some(reserve_reply::Result::Granted(granted.clone()));
    world.answer(&delivery, &v1::ReserveReply { result }).await;
    let work = world.work().await;
    let places: Vec<(&str, &str)> = work.plan.iter().map(|d| (d.provider.as_str(), d.model.as_str())).collect();
    assert_eq!(places, [("claude", "limited")], "what stood before it has no room");
    assert_eq!((work.plan[0].clamped_max_tokens, work.plan[0].bound), (70, granted.bound));
    assert_eq!(work.call_id, granted.call_id);
    let envelope = work.envelope.unwrap();
    assert_eq!((envelope.budgets, envelope.limits), (vec![budget], granted.limits));
    assert_eq!(envelope.warnings, granted.warnings);
}

#[tokio::test]
async fn a_fallback_without_a_price_is_left_out_and_named() {
    let mut world = World::start(quick()).await;
    world.ask("llm.request", &chat("half", json!({}))).await;
    let (delivery, _) = world.reserve().await;
    world.grant(&delivery).await;
    let work = world.work().await;
    assert_eq!(work.plan.len(), 1);
    let warnings = work.envelope.unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("emu/unpriced"), "{warnings:?}");
    let answer = said(&mut world.ask("llm.request", &chat("unpriced", json!({}))).await).await;
    assert_eq!(answer["error"]["type"], "unsupported", "{answer}");
}

#[tokio::test]
async fn an_id_that_the_guard_forgot_is_answered_from_what_is_stored() {
    let mut world = World::start(quick()).await;
    let body = chat("limited", json!({ "request_id": "r-1" }));
    world.ask("llm.request", &body).await;
    let (_, asked) = world.reserve().await;
    let digest: String = asked.body_digest.iter().map(|byte| format!("{byte:02x}")).collect();
    world.keep("r-1", &digest, r#"{"answer":1}"#).await;

    assert_eq!(said(&mut world.ask("llm.request", &body).await).await, json!({ "answer": 1 }));
    let mut other = body.clone();
    other["temperature"] = 1.into();
    let answer = said(&mut world.ask("llm.request", &other).await).await;
    assert_eq!(answer["error"]["type"], "conflict", "{answer}");
    // Only the first one's reservation was ever asked for.
    let again = timeout(Duration::from_millis(500), world.reserve());
    assert!(again.await.is_err(), "a second reservation");
}

#[tokio::test]
async fn a_job_cancelled_while_its_money_is_reserved_is_not_offered() {
    let mut world = World::start(quick()).await;
    let mut body = chat("limited", json!({ "request_id": "j-1" }));
    body["stream"] = true.into();
    assert_eq!(said(&mut world.ask("llm.job", &body).await).await["stored"], true);
    let (delivery, asked) = world.reserve().await;
    assert!(asked.job && !asked.stream, "a job is not streamed: {asked:?}");
    world.keep("j-1", "", r#"{"cancelled":1}"#).await;
    world.grant(&delivery).await;
    let (delivery, released) = world.release().await;
    assert_eq!(released.reservation_id, asked.reservation_id);
    world.answer(&delivery, &v1::ReleaseReply { released: true, error: None }).await;
    let subject = subjects::job(&Project::default_project(), &RequestId::parse("j-1").unwrap());
    eventually(PATIENCE, "the job is gone", || async {
        world.bus.last_by_subject(topology::JOBS, &subject).await.unwrap().is_none()
    })
    .await;
    assert!(world.work.try_next().is_none(), "it was offered");
}

#[tokio::test]
async fn a_job_that_is_refused_by_a_limit_says_how_it_stands() {
    let mut world = World::start(quick()).await;
    let body = chat("limited", json!({ "request_id": "j-1" }));
    assert_eq!(said(&mut world.ask("llm.job", &body).await).await["stored"], true);
    let (delivery, _) = world.reserve().await;
    let limit = v1::LimitLeft { limit: "slow".into(), allowed: 60, reset_ms: 30_000, ..Default::default() };
    let fault = Fault::new(ErrorKind::OverBudget, "no such room");
    let error = v1::Error { limits: vec![limit], ..fault.into() };
    world.answer(&delivery, &v1::ReserveReply { result: Some(reserve_reply::Result::Refused(error)) }).await;
    let answer = || async {
        let answer = world.bus.request("llm.result.j-1", Headers::new(), Vec::new().into(), PATIENCE).await.unwrap();
        serde_json::from_slice::<Value>(&answer.payload).unwrap()
    };
    eventually(PATIENCE, "it is ended", || async { answer().await["error"]["type"] == "over_budget" }).await;
    assert_eq!(answer().await["error"]["limits"][0]["limit"], "slow");
}

#[tokio::test]
async fn the_id_of_a_cancelled_job_stands_for_its_body() {
    let world = World::start(quick()).await;
    let job = chat("limited", json!({ "request_id": "j-3" }));
    let submit = async |body: &Value| said(&mut world.ask("llm.job", body).await).await;
    assert_eq!(submit(&job).await["duplicate"], false);
    // No guard answers: the job waits.
    assert_eq!(said(&mut world.ask("llm.cancel.j-3", &json!({})).await).await["cancelled"], true);
    assert_eq!(submit(&job).await["duplicate"], true);
    let mut other = job.clone();
    other["messages"][0]["content"] = "something else".into();
    assert_eq!(submit(&other).await["error"]["type"], "conflict");
}

#[tokio::test]
async fn a_job_that_cannot_be_read_has_an_answer() {
    let world = World::start(quick()).await;
    let (project, id) = (Project::default_project(), RequestId::parse("j-2").unwrap());
    let fence = Fence::after_subject_seq(0);
    let junk = b"\xff\xff junk".as_slice().into();
    world.bus.store(&subjects::job(&project, &id), Headers::new(), fence, junk, PATIENCE).await.unwrap();
    let subject = Tenancy::Single.response(&project, &id);
    eventually(PATIENCE, "its answer is stored", || async {
        world.bus.last_by_subject(topology::RESULTS, &subject).await.unwrap().is_some()
    })
    .await;
    let stored = world.bus.last_by_subject(topology::RESULTS, &subject).await.unwrap().unwrap();
    assert_eq!(stored.headers.get(headers::ERROR), Some("internal"));
}

#[tokio::test]
async fn a_job_above_the_servers_limit_is_too_large() {
    let world = World::start(quick()).await;
    let mut body = chat("limited", json!({}));
    let room = world.bus.max_payload() - body.to_string().len();
    body["messages"][0]["content"] = "x".repeat(room).into();
    let receipt = said(&mut world.ask("llm.job", &body).await).await;
    assert_eq!(receipt["error"]["type"], "too_large", "{receipt}");
}

#[tokio::test]
async fn nobody_makes_intake_answer_on_a_subject_of_a_service() {
    let world = World::start(quick()).await;
    let mut heard = world.bus.subscribe("farebox.v1.ledger.9", None).await.unwrap();
    world.bus.flush().await.unwrap();
    for subject in ["llm.request", "llm.job", "llm.result.r", "llm.cancel.r"] {
        world.bus.publish_with_reply(subject, "farebox.v1.ledger.9", Headers::new(), "{}".into()).await.unwrap();
    }
    // What comes behind is answered, so the four were read.
    for subject in ["llm.request", "llm.job"] {
        let answer = said(&mut world.ask(subject, &json!({})).await).await;
        assert_eq!(answer["error"]["type"], "bad_request", "{answer}");
    }
    assert!(heard.try_next().is_none(), "an answer went where no caller may speak");
}

#[tokio::test]
async fn a_repeat_does_not_wait_longer_than_any_request_may() {
    let mut world = World::start(Options { max_deadline: Span::from_millis(700), ..quick() }).await;
    let body = chat("limited", json!({ "request_id": "r-2", "deadline_ms": 1_000_000_000 }));
    let mut inbox = world.ask("llm.request", &body).await;
    let (delivery, _) = world.reserve().await;
    let running = v1::Existing { open: true, ..Default::default() };
    world.answer(&delivery, &v1::ReserveReply { result: Some(reserve_reply::Result::Existing(running)) }).await;
    assert_eq!(said(&mut inbox).await["error"]["type"], "deadline_exceeded");
}

/// The guard tells the caller of a call that is lost: intake, whose question comes again to the next guard, adds nothing.
#[tokio::test]
async fn who_was_told_of_a_lost_call_by_the_guard_hears_nothing_else() {
    let result_wait = Span::from_millis(100);
    let mut world = World::start(Options { result_wait, ..quick() }).await;
    let mut inbox = world.ask("llm.request", &chat("limited", json!({}))).await;
    let (delivery, asked) = world.reserve().await;
    let ended = v1::Existing {
        reservation_id: asked.reservation_id,
        open: false,
        outcome: v1::Outcome::Lost.into(),
        error_kind: v1::ErrorKind::Lost.into(),
    };
    world.answer(&delivery, &v1::ReserveReply { result: Some(reserve_reply::Result::Existing(ended)) }).await;
    let further = tokio::time::timeout(result_wait.get() * 5, inbox.next()).await;
    assert!(further.is_err(), "{further:?}");
}
