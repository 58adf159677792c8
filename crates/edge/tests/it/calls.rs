//! Requests that are answered whole.

use std::time::{Duration, Instant};

use farebox_bus::{Headers, ObjectError, ObjectRef};
use farebox_edge::Options;
use farebox_proto::v1;
use farebox_testkit::{PATIENCE, eventually};
use farebox_types::{ErrorKind, Fault, Span};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::world::{CHAT, MESSAGES, World, header, json_of, limited};

const BODY: &str = r#"{ "model":"fast",  "messages":[{"role":"user","content":"hi"}] }"#;

/// An answer that stands in the object store.
fn stored(object: &ObjectRef) -> v1::llm_response::Result {
    v1::llm_response::Result::Stored(v1::StoredBody { dialect: 0, object: Some(object.clone().into()) })
}

#[tokio::test]
async fn what_is_asked_and_answered_stays_as_it_is() {
    let mut world = World::start(Options::default()).await;
    let request = world
        .post("/v1/messages?beta=true", BODY)
        .header("anthropic-beta", "one-2026,two-2026")
        .header("x-api-key", "not-one-of-fareboxes")
        .header("farebox-task-id", "t-1")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let sent = world.send(request);
    let asked = world.asked().await;
    assert_eq!((&asked.raw().bytes[..], asked.raw().dialect()), (BODY.as_bytes(), v1::Dialect::AnthropicMessages));
    let principal = asked.request.principal.clone().unwrap();
    assert_eq!((principal.project.as_str(), principal.entrance()), ("default", v1::Entrance::Http));
    assert_eq!(asked.llm().query, "beta=true");
    assert_eq!(asked.llm().headers[0].value, "one-2026,two-2026");
    assert_eq!(asked.llm().labels.clone().unwrap().task_id, "t-1");
    assert_eq!(asked.traceparent.as_deref(), Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    assert!(!asked.request.id_chosen);
    asked.whole("{ \"id\": \"msg_1\" ,\n \"n\": 1.10 }").await;
    let response = sent.answer().await;
    assert_eq!((response.status().as_u16(), header(&response, "content-type")), (200, "application/json"));
    for (name, value) in [
        ("request-id", asked.id()),
        ("farebox-request-id", asked.id()),
        ("farebox-call-id", "call-1"),
        ("farebox-provider", "openai"),
        ("farebox-served-model", "gpt-4o-mini"),
        ("farebox-cost-usd", "0.0000117"),
    ] {
        assert_eq!(header(&response, name), value, "{name}");
    }
    assert!(header(&response, "farebox-overhead-ms").parse::<f64>().unwrap() > 0.0);
    assert_eq!(response.text().await.unwrap(), "{ \"id\": \"msg_1\" ,\n \"n\": 1.10 }");
}

#[tokio::test]
async fn facts_stand_in_the_body_where_they_are_asked_for() {
    let mut world = World::start(Options::default()).await;
    let sent = world.send(world.post(CHAT, BODY).header("farebox-facts", "body"));
    world.asked().await.whole(r#"{"id":"c-1"}"#).await;
    let body: Value = json_of(sent.answer().await).await;
    assert_eq!((&body["id"], &body["farebox"]["cost_usd"]), (&json!("c-1"), &json!("0.0000117")));
    assert!(body["farebox"]["overhead_us"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn an_error_is_one_in_the_callers_shape() {
    let mut world = World::start(Options::default()).await;
    let sent = world.send(world.post(CHAT, BODY));
    world.asked().await.fails(limited()).await;
    let response = sent.answer().await;
    assert_eq!((response.status().as_u16(), header(&response, "retry-after")), (429, "2"));
    assert_eq!(header(&response, "farebox-call-id"), "call-1");
    let body: Value = json_of(response).await;
    assert_eq!(body["error"]["code"], "rate_limit_exceeded");
    assert_eq!(body["error"]["message"], "Please retry after 2 seconds");

    let sent = world.send(world.post(MESSAGES, BODY));
    let asked = world.asked().await;
    asked.fails(Fault::new(ErrorKind::Unavailable, "no worker is running")).await;
    let response = sent.answer().await;
    assert_eq!((response.status().as_u16(), header(&response, "request-id")), (529, asked.id()));
    let error = json!({ "type": "overloaded_error", "message": "no worker is running" });
    assert_eq!(json_of(response).await, json!({ "type": "error", "error": error }));
}

#[tokio::test]
async fn an_error_says_how_the_limit_stands_that_is_its_reason() {
    let mut world = World::start(Options::default()).await;
    let limit = v1::LimitLeft {
        limit: "slow".into(),
        measure: v1::LimitMeasure::Requests.into(),
        allowed: 60,
        left: 0,
        reset_ms: 30_000,
    };
    for (path, told) in [
        (
            CHAT,
            [
                ("x-ratelimit-limit-requests", "60"),
                ("x-ratelimit-remaining-requests", "0"),
                ("x-ratelimit-reset-requests", "30s"),
                ("x-ratelimit-limit-tokens", ""),
            ],
        ),
        (
            MESSAGES,
            [
                ("anthropic-ratelimit-requests-limit", "60"),
                ("anthropic-ratelimit-requests-remaining", "0"),
                ("anthropic-ratelimit-tokens-limit", ""),
                ("x-ratelimit-limit-requests", ""),
            ],
        ),
    ] {
        let sent = world.send(world.post(path, BODY));
        let error = v1::Error { limits: vec![limit.clone()], ..limited().into() };
        world.asked().await.ends(v1::llm_response::Result::Error(error)).await;
        let response = sent.answer().await;
        assert_eq!((response.status().as_u16(), header(&response, "retry-after")), (429, "2"));
        for (name, value) in told {
            assert_eq!(header(&response, name), value, "{name}");
        }
    }
}

#[tokio::test]
async fn a_faulty_header_is_refused_before_anybody_is_asked() {
    let world = World::start(Options::default()).await.without_intake().await;
    let response = world.post(CHAT, BODY).header("farebox-timeout", "soon").send().await.unwrap();
    assert_eq!(response.status().as_u16(), 400);
    let body: Value = json_of(response).await;
    assert!(body["error"]["message"].as_str().unwrap().contains("farebox-timeout"), "{body}");
}

#[tokio::test]
async fn where_no_intake_is_or_no_nats_the_caller_hears_at_once() {
    let world = World::start(Options::default()).await.without_intake().await;
    let response = world.post(CHAT, BODY).send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "retry-after")), (503, "1"));
    assert!(response.text().await.unwrap().contains("no intake"));
    world.nats.kill9().await;
    eventually(PATIENCE, "the edge knows that NATS is gone", || async {
        world.post(CHAT, BODY).send().await.unwrap().text().await.unwrap().contains("connection to NATS")
    })
    .await;
    let asked = Instant::now();
    assert_eq!(world.post(CHAT, BODY).send().await.unwrap().status().as_u16(), 503);
    // Sooner than anybody waits for the bus.
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn who_waits_for_an_answer_hears_of_a_lost_nats_long_before_the_deadline() {
    let options = Options { bus_patience: Span::from_millis(300), ..Options::default() };
    let mut world = World::start(options).await;
    let mut whole = Vec::new();
    for (path, status) in [(CHAT, 503), (MESSAGES, 529)] {
        whole.push((world.send(world.post(path, BODY)), status));
        world.asked().await;
    }
    let stream = world.send(world.post(CHAT, BODY));
    world.asked().await.piece(r#"{"n":0}"#).await;
    let stream = stream.answer().await;
    let killed = Instant::now();
    world.nats.kill9().await;
    for (sent, status) in whole {
        let response = sent.answer().await;
        assert_eq!((response.status().as_u16(), header(&response, "retry-after")), (status, "1"));
        assert_eq!(header(&response, "farebox-error"), "unavailable");
        let said = response.text().await.unwrap();
        assert!(said.contains("be billed") && said.contains("Idempotency-Key"), "{said}");
    }
    let said = timeout(PATIENCE, stream.text()).await.unwrap().unwrap();
    assert!(said.contains(r#""code":"unavailable""#) && !said.contains("[DONE]"), "{said}");
    assert!(killed.elapsed() >= Duration::from_millis(300), "a short loss is waited out");
}

#[tokio::test]
async fn what_was_lost_with_a_short_loss_of_nats_is_asked_for_or_told() {
    let patience = Duration::from_secs(4);
    let options =
        Options { bus_patience: Span::from_secs(4), answer_grace: Span::from_millis(100), ..Options::default() };
    let mut world = World::start(options).await;
    let lost = world.send(world.post(CHAT, BODY));
    let lost_id = world.asked().await.id().to_owned();
    let kept = world.send(world.post(MESSAGES, BODY).header("idempotency-key", "order-1"));
    let mut asked = world.asked().await;
    world.nats.restart().await.unwrap();
    let back = Instant::now();
    let (mut times, mut again) = (0, false);
    while times < 2 || !again {
        let (to, lookup) = world.looked_up().await;
        if lookup.request_id == "order-1" {
            // It was kept: intake sends it again.
            asked.to = lookup.reply_to;
            asked.whole(r#"{"id":"m-1"}"#).await;
            again = true;
        } else {
            assert_eq!(
                (lookup.request_id.as_str(), lookup.principal.unwrap().project.as_str()),
                (&*lost_id, "default")
            );
            times += 1;
        }
        // It runs at first, and has ended then.
        let reply = v1::EdgeLookupReply { over: lookup.request_id != "order-1" && times >= 2 };
        world.bus.publish_message(&to, Headers::new(), &reply).await.unwrap();
    }
    let response = lost.answer().await;
    assert_eq!((response.status().as_u16(), header(&response, "farebox-error")), (502, "lost"));
    assert!(response.text().await.unwrap().contains("be billed"));
    assert!(back.elapsed() < patience * 3, "{:?}", back.elapsed());
    assert_eq!(kept.answer().await.text().await.unwrap(), r#"{"id":"m-1"}"#);
}

#[tokio::test]
async fn who_answers_nothing_is_waited_for_until_the_deadline() {
    let options = Options { answer_grace: Span::from_millis(100), ..Options::default() };
    let mut world = World::start(options).await;
    let sent = world.send(world.post(CHAT, BODY).header("farebox-timeout", "2s"));
    let asked = world.asked().await;
    let response = sent.answer().await;
    assert_eq!(response.status().as_u16(), 504);
    let cancel = world.cancelled().await;
    assert_eq!((cancel.request_id.as_str(), cancel.caller_gone), (asked.id(), false));
}

#[tokio::test]
async fn a_whole_answer_may_take_longer_than_the_head_of_a_stream() {
    let options = Options { first_piece_wait: Span::from_millis(20), ..Options::default() };
    let mut world = World::start(options).await;
    let sent = world.send(world.post(CHAT, BODY));
    let asked = world.asked().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    asked.whole("{}").await;
    let response = sent.answer().await;
    assert_eq!((response.status().as_u16(), header(&response, "content-type")), (200, "application/json"));
}

#[tokio::test]
async fn large_bodies_travel_through_the_object_store_both_ways() {
    let mut world = World::start(Options::default()).await;
    let long = format!(r#"{{"model":"fast","x":"{}"}}"#, "x".repeat(world.bus.max_payload()));
    let sent = world.send(world.post(CHAT, long.clone()));
    let asked = world.asked().await;
    let Some(v1::llm_request::Body::Stored(body)) = asked.llm().body.clone() else { panic!("{:?}", asked.llm()) };
    assert_eq!(body.dialect(), v1::Dialect::OpenaiChat);
    let request = ObjectRef::from(body.object.unwrap());
    assert_eq!(world.bus.get_object(&request, PATIENCE).await.unwrap(), long);
    let answer = world.put(&long).await;
    asked.ends(stored(&answer)).await;
    let response = sent.answer().await;
    assert_eq!(response.text().await.unwrap(), long);
    for object in [request, answer] {
        eventually(PATIENCE, "a body is deleted once it was used", || async {
            matches!(world.bus.get_object(&object, PATIENCE).await, Err(ObjectError::Gone { .. }))
        })
        .await;
    }
}

#[tokio::test]
async fn a_client_that_goes_has_its_call_stopped_unless_it_may_come_again() {
    let mut world = World::start(Options::default()).await;
    let kept = world.send(world.post(CHAT, BODY).header("idempotency-key", "order-1"));
    let asked = world.asked().await;
    assert_eq!((asked.id(), asked.request.id_chosen), ("order-1", true));
    drop(kept);
    let sent = world.send(world.post(CHAT, BODY));
    let asked = world.asked().await;
    drop(sent);
    let cancel = world.cancelled().await;
    assert_eq!((cancel.request_id.as_str(), cancel.caller_gone), (asked.id(), true));
    assert_eq!(cancel.principal.unwrap().project, "default");
}

#[tokio::test]
async fn a_large_answer_is_there_for_a_repeat_as_long_as_it_is_kept() {
    let mut world = World::start(Options::default()).await;
    let answer = world.put(r#"{"id":"c-1"}"#).await;
    for _ in 0..2 {
        let sent = world.send(world.post(CHAT, BODY).header("idempotency-key", "order-1"));
        world.asked().await.ends(stored(&answer)).await;
        assert_eq!(sent.answer().await.text().await.unwrap(), r#"{"id":"c-1"}"#);
    }
    world.bus.delete_object(&answer).await.unwrap();
    let sent = world.send(world.post(CHAT, BODY).header("idempotency-key", "order-1"));
    world.asked().await.ends(stored(&answer)).await;
    let response = sent.answer().await;
    assert_eq!(response.status().as_u16(), 404);
    let body: Value = json_of(response).await;
    assert!(body["error"]["message"].as_str().unwrap().contains("no longer kept"), "{body}");
}

#[tokio::test]
async fn an_answer_that_was_given_in_json_before_is_one_in_the_callers_form() {
    let mut world = World::start(Options::default()).await;
    let whole = r#"{"id":"c-1","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}]"#;
    let refused = r#"{"error":{"message":"a tool is missing","type":"bad_request"},"farebox":{"chunks":0}}"#;
    for (answer, status, kind, holds) in [
        (format!(r#"{whole},"farebox":{{"chunks":0}}}}"#), 200, "application/json", r#""content":"hello""#),
        (format!(r#"{whole},"farebox":{{"chunks":3}}}}"#), 200, "text/event-stream; charset=utf-8", "data: [DONE]"),
        (refused.to_owned(), 400, "application/json", "a tool is missing"),
    ] {
        let sent = world.send(world.post(CHAT, BODY).header("idempotency-key", "order-1"));
        world.asked().await.ends_in_json(&answer).await;
        let response = sent.answer().await;
        assert_eq!((response.status().as_u16(), header(&response, "content-type")), (status, kind));
        let text = response.text().await.unwrap();
        assert!(text.contains(holds), "{text}");
    }
}

#[tokio::test]
async fn a_cancel_is_said_until_a_worker_has_heard_it() {
    let mut world = World::start(Options::default()).await;
    let sent = world.send(world.post(CHAT, BODY));
    let asked = world.asked().await;
    drop(sent);
    // Who is about to get the call does not have it yet.
    for cancelled in [false, true] {
        assert_eq!(world.cancelled().await.request_id, asked.id());
        asked.confirms(cancelled).await;
    }
    eventually(PATIENCE, "it is not said any more", || async { !world.tasks.names().contains_key("cancel") }).await;
}
