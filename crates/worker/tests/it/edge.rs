//! What callers over HTTP need of a worker.

use std::time::Duration;

use bytes::Bytes;
use farebox_bus::{Headers, Inbox};
use farebox_emulator::{Fault, Gate, Recorded, Script, State, Usage};
use farebox_proto::{headers, subjects, v1};
use farebox_testkit::{PATIENCE, eventually};
use farebox_types::Money;
use farebox_worker::Options;
use tokio::time::timeout;

use crate::world::{World, deployment, envelope};

const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":100000000}"#;

async fn next(inbox: &mut Inbox) -> farebox_bus::Delivery {
    timeout(PATIENCE, inbox.next()).await.unwrap().unwrap()
}

/// The chunks and the final answer.
async fn read(inbox: &mut Inbox) -> (Vec<v1::LlmChunk>, v1::LlmResponse) {
    let mut chunks = Vec::new();
    loop {
        let message = next(inbox).await;
        if message.headers.get(headers::TYPE) == Some("final") {
            return (chunks, message.decode().unwrap());
        }
        chunks.push(message.decode().unwrap());
    }
}

async fn settled(world: &mut World) -> v1::AttemptEnd {
    let delivery = timeout(PATIENCE, world.settles.next()).await.unwrap().unwrap();
    delivery.decode::<v1::SettleRequest>().unwrap().end.unwrap()
}

#[tokio::test]
async fn the_first_piece_says_who_answers_and_the_report_how_long_that_took() {
    let world = World::start().await;
    world.emulator.push("up", Script::text("one two three").chunks(3).delay(Duration::from_millis(150)));
    let left = vec![v1::BudgetLeft { budget: "team".into(), ..Default::default() }];
    let envelope = v1::Envelope { stream: true, budgets: left.clone(), ..envelope("r1", BODY) };
    let (chunks, last) = read(&mut world.hand_over(vec![deployment("up")], envelope).await).await;
    let report = last.report.unwrap();
    let begun = chunks[0].begun.clone().unwrap();
    assert_eq!((begun.provider.as_str(), begun.model.as_str(), begun.attempt), ("emu", "m", 1));
    assert_eq!((&begun.call_id, &begun.budgets), (&report.call_id, &left));
    assert!(!begun.provider_request_id.is_empty());
    assert_eq!(begun.provider_request_id, report.provider_request_id);
    assert!(chunks.len() > 1 && chunks[1..].iter().all(|chunk| chunk.begun.is_none()), "only the first says it");
    let (upstream, all) = (Duration::from_micros(report.upstream_us), Duration::from_millis(report.latency_ms + 1));
    assert!(upstream >= Duration::from_millis(150) && upstream <= all, "{upstream:?} of {all:?}");
}

#[tokio::test]
async fn an_answer_that_no_message_can_carry_is_stored_for_who_can_fetch_it() {
    let world = World::start().await;
    world.emulator.script("up", Script::text("x".repeat(world.bus.max_payload())));
    let envelope = |id: &str, may| v1::Envelope { may_store_answer: may, ..envelope(id, BODY) };
    let (_, last) = read(&mut world.hand_over(vec![deployment("up")], envelope("r1", true)).await).await;
    let Some(v1::llm_response::Result::Stored(stored)) = last.result else { panic!("{:?}", last.result) };
    assert_eq!(stored.dialect(), v1::Dialect::OpenaiChat);
    let object = stored.object.unwrap().into();
    let body = world.bus.get_object(&object, PATIENCE).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["choices"][0]["message"]["content"].as_str().unwrap().len(), world.bus.max_payload());
    assert_eq!(last.report.unwrap().outcome(), v1::Outcome::Ok);
    // Others are told.
    let (_, last) = read(&mut world.hand_over(vec![deployment("up")], envelope("r2", false)).await).await;
    let Some(v1::llm_response::Result::Error(error)) = last.result else { panic!("{:?}", last.result) };
    assert_eq!(error.kind(), v1::ErrorKind::TooLarge);
}

#[tokio::test]
async fn headers_and_query_reach_a_provider_of_the_same_dialect_as_they_were_said() {
    let world = World::start().await;
    let answer = r#"{"id":"msg_1","type":"message","role":"assistant","model":"up","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}"#;
    let headers = vec![("content-type".into(), "application/json".into())];
    let recorded = Recorded { status: 200, headers, body: answer.into(), usage: Usage::new(1, 1) };
    world.emulator.route("/v1/messages", Script::recorded(recorded));
    let header = |name: &str, value: &str| v1::Header { name: name.into(), value: value.into() };
    let body = r#"{"model" : "m","max_tokens":9,"context_management":{"edits":[]},"messages":[{"role":"user","content":"h\u0069"}]}"#;
    let envelope = v1::Envelope {
        dialect: v1::Dialect::AnthropicMessages.into(),
        headers: vec![
            header("anthropic-beta", "claude-code-20250219,not-invented-yet"),
            header("anthropic-version", "2026-10-21"),
            header("x-api-key", "somebody's"),
        ],
        query: "beta=true".into(),
        ..envelope("r1", body)
    };
    let plan = v1::Deployment {
        provider: "claude".into(),
        dialect: v1::Dialect::AnthropicMessages.into(),
        ..deployment("up")
    };
    let (_, last) = read(&mut world.hand_over(vec![plan], envelope).await).await;
    let seen = world.emulator.take_seen("/v1/messages").remove(0);
    let header = |name: &str| seen.headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(header("anthropic-beta"), Some("claude-code-20250219,not-invented-yet"));
    assert_eq!((header("anthropic-version"), header("x-api-key")), (Some("2026-10-21"), None));
    assert_eq!((seen.path.as_str(), seen.query.as_deref()), ("/v1/messages", Some("beta=true")));
    assert_eq!(seen.body, Bytes::from(body.replace("\"m\"", "\"up\"")));
    let Some(v1::llm_response::Result::Raw(raw)) = last.result else { panic!("{:?}", last.result) };
    assert_eq!(raw.bytes, Bytes::from(answer));
}

/// Tells the workers, and what they say to it: whether the call was stopped.
async fn cancel(world: &World, id: &str, caller_gone: bool) -> bool {
    let mut inbox = world.bus.inbox();
    let order = v1::CancelOrder {
        project: "default".into(),
        request_id: id.into(),
        reply_to: inbox.subject(),
        json: false,
        caller_gone,
    };
    world.bus.publish_message(subjects::CANCEL, Headers::new(), &order).await.unwrap();
    next(&mut inbox).await.decode::<v1::CancelReceipt>().unwrap().cancelled
}

#[tokio::test]
async fn a_cheap_call_whose_caller_has_gone_is_read_to_its_end_and_billed_as_the_provider_bills() {
    let usd = |text: &str| text.parse::<Money>().unwrap();
    let mut world = World::with(Options { drain_up_to: usd("0.5"), ..Options::default() }).await;
    let words = "a piece of text ".repeat(40);
    let slow = || Script::text(words.clone()).chunks(40);
    let costs = |text: &str| vec![v1::Deployment { bound: Some(usd(text).into()), ..deployment("up") }];
    let streamed = |id: &str| v1::Envelope { stream: true, ..envelope(id, BODY) };

    let gate = Gate::default();
    world.emulator.push("up", slow().hold_after(5, &gate));
    let mut inbox = world.hand_over(costs("0.5"), streamed("cheap")).await;
    next(&mut inbox).await;
    assert!(!cancel(&world, "cheap", true).await, "it goes on");
    gate.open();
    let end = settled(&mut world).await;
    assert_eq!((end.outcome(), end.estimated), (v1::Outcome::Ok, false));
    let billed = world.emulator.ledger().by_call_id(&end.call_id).remove(0);
    assert_eq!(billed.state, State::Answered);
    assert_eq!(end.usage.unwrap().output, Some(billed.completion_tokens));

    // A dearer one is stopped, and so is one whose caller asks for it.
    for (id, cost, caller_gone) in [("dear", "0.6", true), ("asked", "0.5", false)] {
        world.emulator.push("up", slow().pace(Duration::from_millis(500)));
        let mut inbox = world.hand_over(costs(cost), streamed(id)).await;
        next(&mut inbox).await;
        assert!(cancel(&world, id, caller_gone).await, "{id}");
        let end = settled(&mut world).await;
        assert_eq!(end.outcome(), v1::Outcome::Cancelled, "{id}");
        let state = || world.emulator.ledger().by_call_id(&end.call_id)[0].state;
        eventually(PATIENCE, "the provider notices", || async { state() == State::ClientGone }).await;
    }

    // Nobody has another try made for a caller that has gone.
    world.emulator.push("up", Script::refuse(500, "down").delay(Duration::from_secs(4)));
    let again = vec![v1::Deployment { retries: 3, ..costs("0.5").remove(0) }];
    let offered = world.emulator.ledger().entries().len();
    let _inbox = world.hand_over(again, streamed("again")).await;
    eventually(PATIENCE, "it is asked", || async { world.emulator.ledger().entries().len() > offered }).await;
    assert!(!cancel(&world, "again", true).await);
    assert_eq!(settled(&mut world).await.error_kind(), v1::ErrorKind::Upstream);
    assert!(world.amends.try_next().is_none());
}

#[tokio::test]
async fn a_call_whose_caller_has_gone_is_stopped_where_nothing_is_drained() {
    let mut world = World::start().await;
    world.emulator.push("up", Script::default().fault(Fault::HangBeforeHead));
    let free = vec![v1::Deployment { bound: Some(Money::ZERO.into()), ..deployment("up") }];
    let _inbox = world.hand_over(free, envelope("r1", BODY)).await;
    eventually(PATIENCE, "it is asked", || async { !world.emulator.ledger().entries().is_empty() }).await;
    assert!(cancel(&world, "r1", true).await);
    assert_eq!(settled(&mut world).await.outcome(), v1::Outcome::Cancelled);
}
