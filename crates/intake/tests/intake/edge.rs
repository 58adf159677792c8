//! Requests and cancels of the HTTP edge.

use std::time::Duration;

use farebox_bus::{Headers, Inbox, topology};
use farebox_directory::Directory;
use farebox_intake::Options;
use farebox_policy::Policies;
use farebox_proto::{headers, subjects, v1};
use farebox_testkit::PATIENCE;
use farebox_types::{Clock, SystemClock, Timestamp};
use prost::Message;
use serde_json::json;
use tokio::time::timeout;

use crate::world::{World, chat, quick};

fn principal() -> v1::Principal {
    v1::Principal { project: "acme".into(), ..Default::default() }
}

fn raw(body: &serde_json::Value) -> v1::llm_request::Body {
    v1::llm_request::Body::Raw(v1::RawBody { dialect: v1::Dialect::OpenaiChat.into(), bytes: body.to_string().into() })
}

fn request(id: &str, body: v1::llm_request::Body) -> v1::EdgeRequest {
    let request = v1::LlmRequest { request_id: id.into(), body: Some(body), ..Default::default() };
    v1::EdgeRequest { principal: Some(principal()), request: Some(request), ..Default::default() }
}

async fn ask(world: &World, request: &v1::EdgeRequest) -> Inbox {
    let inbox = world.bus.inbox();
    let payload = request.encode_to_vec().into();
    let to = inbox.subject();
    world.bus.publish_with_reply(subjects::EDGE_REQUEST, &to, Headers::new(), payload).await.unwrap();
    inbox
}

async fn said(inbox: &mut Inbox) -> v1::LlmResponse {
    let answer = timeout(PATIENCE, inbox.next()).await.unwrap().unwrap();
    assert_eq!(answer.headers.get(headers::TYPE), Some("final"));
    answer.decode().unwrap()
}

fn error_of(response: &v1::LlmResponse) -> v1::Error {
    match response.result.clone().unwrap() {
        v1::llm_response::Result::Error(error) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_edge_says_who_calls_and_which_request_it_is() {
    let mut world = World::start(quick()).await;
    let inbox = ask(&world, &request("edge-1", raw(&chat("limited", json!({}))))).await;
    let (delivery, asked) = world.reserve().await;
    let principal = asked.principal.clone().unwrap();
    assert_eq!((principal.project.as_str(), principal.entrance()), ("acme", v1::Entrance::Http));
    assert_eq!((asked.request_id.as_str(), asked.keep_result, asked.body_digest.len()), ("edge-1", false, 0));
    world.grant(&delivery).await;
    let envelope = world.work().await.envelope.unwrap();
    assert_eq!((envelope.reply_to, envelope.json, envelope.may_store_answer), (inbox.subject(), false, true));

    // An id of the caller's own is kept and compared.
    let chosen = v1::EdgeRequest { id_chosen: true, ..request("edge-2", raw(&chat("limited", json!({})))) };
    ask(&world, &chosen).await;
    let (_, asked) = world.reserve().await;
    assert_eq!((asked.keep_result, asked.body_digest.len()), (true, 32));
}

#[tokio::test]
async fn an_answer_that_is_followed_is_named_to_the_guard_as_what_nothing_bounds() {
    let mut world = World::start(quick()).await;
    let body = json!({ "model": "limited", "input": "and now?", "previous_response_id": "resp_1" });
    let dialect = v1::Dialect::OpenaiResponses.into();
    let body = v1::llm_request::Body::Raw(v1::RawBody { dialect, bytes: body.to_string().into() });
    ask(&world, &request("edge-1", body)).await;
    let (_, asked) = world.reserve().await;
    let unbounded = asked.attempt.unwrap().unbounded;
    assert!(unbounded.contains("`previous_response_id`"), "{unbounded}");
}

#[tokio::test]
async fn the_edge_hears_how_the_limit_stands_that_refused_a_request() {
    let mut world = World::start(quick()).await;
    let mut inbox = ask(&world, &request("edge-1", raw(&chat("limited", json!({}))))).await;
    let (delivery, _) = world.reserve().await;
    let refused = v1::Error {
        kind: v1::ErrorKind::RateLimited.into(),
        message: "limit `slow` allows 1 request in 1m".into(),
        retry_after_ms: Some(1500),
        retryable: true,
        limits: vec![v1::LimitLeft { limit: "slow".into(), allowed: 1, reset_ms: 1500, ..Default::default() }],
        ..Default::default()
    };
    let result = Some(v1::reserve_reply::Result::Refused(refused.clone()));
    world.answer(&delivery, &v1::ReserveReply { result }).await;
    assert_eq!(error_of(&said(&mut inbox).await), refused);
}

#[tokio::test]
async fn what_is_refused_carries_the_request_id() {
    let world = World::start(quick()).await;
    let bodies =
        [(raw(&chat("nowhere", json!({}))), v1::ErrorKind::NotFound), (raw(&json!([])), v1::ErrorKind::BadRequest)];
    for (body, kind) in bodies {
        let refused = said(&mut ask(&world, &request("edge-1", body)).await).await;
        assert_eq!((refused.request_id.as_str(), error_of(&refused).kind()), ("edge-1", kind), "{refused:?}");
    }
    // A key that was let in over HTTP is one of farebox's, or none.
    let mut unknown = request("edge-2", raw(&chat("limited", json!({}))));
    unknown.principal = Some(v1::Principal { key_id: "someone".into(), ..principal() });
    let refused = said(&mut ask(&world, &unknown).await).await;
    assert_eq!((refused.request_id.as_str(), error_of(&refused).kind()), ("edge-2", v1::ErrorKind::Unauthenticated));
}

#[tokio::test]
async fn a_stored_body_is_read_and_handed_on_where_it_is() {
    let mut world = World::with(quick(), Directory::fixed(Policies::default())).await;
    let long = "x".repeat(world.bus.max_payload());
    let body = json!({ "model": "limited", "messages": [{ "role": "user", "content": long }] });
    let object = world.bus.put_object(topology::BODIES, body.to_string().into(), PATIENCE).await.unwrap();
    let object = v1::ObjectRef::from(object);
    let stored = |object: v1::ObjectRef| {
        v1::llm_request::Body::Stored(v1::StoredBody { dialect: v1::Dialect::OpenaiChat.into(), object: Some(object) })
    };
    let _inbox = ask(&world, &request("edge-1", stored(object.clone()))).await;
    let (delivery, _) = world.reserve().await;
    world.grant(&delivery).await;
    let envelope = world.work().await.envelope.unwrap();
    assert_eq!((envelope.stored_body, envelope.body.len()), (Some(object.clone()), 0));

    // Nobody but the edge may name one.
    let message = v1::LlmRequest { body: Some(stored(object)), ..Default::default() };
    let answer = world.bus.request("llm.request", Headers::new(), message.encode_to_vec().into(), PATIENCE).await;
    assert_eq!(error_of(&answer.unwrap().decode().unwrap()).kind(), v1::ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_large_answer_that_went_over_http_is_too_large_for_the_bus() {
    let world = World::start(quick()).await;
    let object =
        v1::ObjectRef { bucket: topology::BODIES.into(), name: "N".into(), size: 5_000_000, ..Default::default() };
    let body = v1::StoredBody { dialect: v1::Dialect::OpenaiChat.into(), object: Some(object) };
    let result = Some(v1::llm_response::Result::Stored(body.clone()));
    let kept = v1::LlmResponse { request_id: "r-1".into(), result, ..Default::default() };
    world.keep_as("r-1", headers::PROTOBUF, "", kept.encode_to_vec()).await;

    let head = || Headers::new().with(headers::CONTENT_TYPE, headers::PROTOBUF);
    let asked = json!({ "model": "limited", "messages": [{ "role": "user", "content": "hi" }] });
    let again = v1::LlmRequest { request_id: "r-1".into(), body: Some(raw(&asked)), ..Default::default() };
    for (subject, payload) in [("llm.result.r-1", Vec::new()), ("llm.request", again.encode_to_vec())] {
        let answer = world.bus.request(subject, head(), payload.into(), PATIENCE).await.unwrap();
        let error = error_of(&answer.decode().unwrap());
        assert_eq!(error.kind(), v1::ErrorKind::TooLarge, "{subject}");
        assert!(error.message.contains("5000000") && error.message.contains("Idempotency-Key"), "{}", error.message);
    }
    // In JSON for who asks in JSON.
    let answer = world.bus.request("llm.result.r-1", Headers::new(), Vec::new().into(), PATIENCE).await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer["error"]["type"], "too_large", "{answer}");

    // The edge can fetch it.
    let mut repeat = v1::EdgeRequest { id_chosen: true, ..request("r-1", raw(&asked)) };
    repeat.principal = Some(v1::Principal { project: "default".into(), ..Default::default() });
    let answer = said(&mut ask(&world, &repeat).await).await;
    assert_eq!(answer.result, Some(v1::llm_response::Result::Stored(body)));
}

#[tokio::test]
async fn a_cancel_of_the_edge_is_said_to_the_workers_until_one_has_the_call() {
    let world = World::start(quick()).await;
    let mut workers = world.bus.subscribe(subjects::CANCEL, None).await.unwrap();
    world.bus.flush().await.unwrap();
    let cancel = v1::EdgeCancel { principal: Some(principal()), request_id: "edge-1".into(), caller_gone: true };
    let asked = world.bus.call::<_, v1::CancelReceipt>(subjects::EDGE_CANCEL, &cancel, PATIENCE);
    let confirmed = async {
        // The first worker that hears of it does not have it yet.
        workers.next().await.unwrap();
        let order: v1::CancelOrder = workers.next().await.unwrap().decode().unwrap();
        assert_eq!((order.project.as_str(), order.request_id.as_str()), ("acme", "edge-1"));
        assert!(order.caller_gone);
        let receipt = v1::CancelReceipt { request_id: order.request_id, cancelled: true };
        world.bus.publish_message(&order.reply_to, Headers::new(), &receipt).await.unwrap();
    };
    let (receipt, ()) = tokio::join!(asked, confirmed);
    assert_eq!(receipt.unwrap(), v1::CancelReceipt { request_id: "edge-1".into(), cancelled: true });
}

#[tokio::test]
async fn a_cancel_that_finds_no_place_is_not_answered_like_the_end_of_its_call() {
    let options = Options { max_in_flight: 1, ..quick() };
    let mut world = World::start(options).await;
    let mut orders = world.bus.subscribe(subjects::CANCEL, None).await.unwrap();
    world.bus.flush().await.unwrap();
    let mut running = ask(&world, &request("edge-1", raw(&chat("limited", json!({}))))).await;
    world.reserve().await;
    let cancel = v1::EdgeCancel { principal: Some(principal()), request_id: "edge-1".into(), caller_gone: true };
    let mut inbox = world.bus.inbox();
    let cancels = || async {
        let payload = cancel.encode_to_vec().into();
        world.bus.publish_with_reply(subjects::EDGE_CANCEL, &inbox.subject(), Headers::new(), payload).await.unwrap();
    };
    cancels().await;
    let refused = said(&mut ask(&world, &request("edge-2", raw(&chat("limited", json!({}))))).await).await;
    assert!(error_of(&refused).message.contains("max_in_flight"), "{refused:?}");
    // No guard answers, so the first one ends, and there is room.
    said(&mut running).await;
    let order: v1::CancelOrder = loop {
        cancels().await;
        if let Ok(order) = timeout(Duration::from_millis(100), orders.next()).await {
            break order.unwrap().decode().unwrap();
        }
    };
    let receipt = v1::CancelReceipt { request_id: order.request_id, cancelled: true };
    world.bus.publish_message(&order.reply_to, Headers::new(), &receipt).await.unwrap();
    let heard = timeout(PATIENCE, inbox.next()).await.unwrap().unwrap();
    assert_eq!(heard.decode::<v1::CancelReceipt>().unwrap(), receipt);
}

/// What the edge is told of a request; and what is sent again.
async fn looked_up(world: &mut World, id: &str, reached: Timestamp, guard: Option<v1::LookupReply>) -> (bool, Inbox) {
    let inbox = world.bus.inbox();
    let lookup = v1::EdgeLookup {
        principal: Some(v1::Principal { project: "default".into(), ..Default::default() }),
        request_id: id.into(),
        reply_to: inbox.subject(),
        reached_unix_ms: reached.millis(),
    };
    let bus = world.bus.clone();
    let asking = bus.call::<_, v1::EdgeLookupReply>(subjects::EDGE_LOOKUP, &lookup, PATIENCE);
    let answering = async {
        let delivery = world.asked(&subjects::lookup(subjects::SHARD)).await;
        let asked: v1::LookupRequest = delivery.decode().unwrap();
        assert_eq!((asked.project.as_str(), asked.request_id.as_str(), asked.made_here), ("default", id, true));
        if let Some(reply) = guard {
            world.answer(&delivery, &reply).await;
        }
    };
    let (reply, ()) = tokio::join!(asking, answering);
    (reply.unwrap().over, inbox)
}

#[tokio::test]
async fn the_edge_is_told_whether_an_answer_may_still_come() {
    let mut world = World::start(quick()).await;
    let kept = v1::LlmResponse { request_id: "kept".into(), ..Default::default() };
    world.keep_as("kept", headers::PROTOBUF, "", kept.encode_to_vec()).await;
    let before = Timestamp(SystemClock.now().millis() - 60_000);
    let known = |open| Some(v1::LookupReply { existing: Some(v1::Existing { open, ..Default::default() }) });
    let unknown = Some(v1::LookupReply::default());
    for (reached, guard, over, why) in [
        (before, known(true), false, "it runs"),
        (before, known(false), true, "it has ended"),
        (SystemClock.now(), unknown.clone(), false, "it may be on its way to the guard"),
        (before, unknown.clone(), true, "it never came, or has ended long ago"),
        (before, None, false, "who could know does not answer"),
    ] {
        let (told, mut inbox) = looked_up(&mut world, "r", reached, guard).await;
        assert_eq!(told, over, "{why}");
        assert!(inbox.try_next().is_none(), "{why}");
    }
    for guard in [known(false), unknown] {
        let (told, mut inbox) = looked_up(&mut world, "kept", before, guard).await;
        assert!(!told);
        assert_eq!(said(&mut inbox).await, kept, "it is sent again");
    }
}
