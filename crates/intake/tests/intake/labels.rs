//! Whom and what a call is for, wherever its caller says it.

use farebox_bus::{Headers, Inbox};
use farebox_proto::{headers, subjects, v1};
use prost::Message;
use serde_json::{Value, json};

use crate::world::{World, quick};

/// A body with these members.
fn body(dialect: v1::Dialect, more: &Value) -> Value {
    let mut body = json!({ "model": "limited", "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] });
    if dialect == v1::Dialect::OpenaiResponses {
        body = json!({ "model": "limited", "input": "hi" });
    }
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The same request by every entrance.
async fn by_every_entrance(world: &World, dialect: v1::Dialect, body: &Value, labels: &v1::Labels) -> [Inbox; 3] {
    let inboxes = [world.bus.inbox(), world.bus.inbox(), world.bus.inbox()];
    let raw = v1::RawBody { dialect: dialect.into(), bytes: body.to_string().into() };
    let request = v1::LlmRequest {
        body: Some(v1::llm_request::Body::Raw(raw)),
        labels: Some(labels.clone()),
        ..Default::default()
    };
    let over_http = v1::EdgeRequest {
        principal: Some(v1::Principal { project: "acme".into(), ..Default::default() }),
        request: Some(v1::LlmRequest { request_id: "edge".into(), ..request.clone() }),
        ..Default::default()
    };
    let name = farebox_dialect::DialectName::known(dialect).unwrap();
    let json = Headers::new().with(headers::CONTENT_TYPE, headers::JSON).with(headers::DIALECT, name.as_str());
    let ways = [
        ("llm.request", json, body.to_string().into_bytes()),
        ("llm.request", Headers::new(), request.encode_to_vec()),
        (subjects::EDGE_REQUEST, Headers::new(), over_http.encode_to_vec()),
    ];
    for ((subject, head, payload), inbox) in ways.into_iter().zip(&inboxes) {
        world.bus.publish_with_reply(subject, &inbox.subject(), head, payload.into()).await.unwrap();
    }
    inboxes
}

#[tokio::test]
async fn labels_are_taken_from_where_they_are_said_first() {
    use v1::Dialect as D;
    let mut world = World::start(quick()).await;
    let claude = json!({ "device_id": "d1", "account_uuid": "", "session_id": "s1" }).to_string();
    let labels = |text: &str| {
        let [actor, task_id, session_id, end_user, tags]: [&str; 5] =
            text.split('|').collect::<Vec<_>>().try_into().unwrap();
        v1::Labels {
            actor: actor.into(),
            task_id: task_id.into(),
            session_id: session_id.into(),
            end_user: end_user.into(),
            tags: tags.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
        }
    };
    let metadata =
        json!({ "actor": "m", "task_id": "m", "session_id": "m", "end_user": "m", "tags": "m, n", "x": "y" });
    for (dialect, more, expected) in [
        (D::OpenaiChat, json!({ "user": "u" }), "|||u|"),
        (D::OpenaiChat, json!({ "safety_identifier": "u", "user": "" }), "|||u|"),
        (D::OpenaiResponses, json!({ "metadata": metadata, "user": "u" }), "m|m|m|m|m,n"),
        (
            D::OpenaiChat,
            json!({ "metadata": metadata, "farebox": { "actor": "f", "tags": ["f"], "session_id": "f" } }),
            "f|m|f|m|f",
        ),
        (D::AnthropicMessages, json!({ "metadata": { "user_id": "plain" } }), "|||plain|"),
        (D::AnthropicMessages, json!({ "metadata": { "user_id": claude } }), "||s1|d1|"),
        (D::AnthropicMessages, json!({ "metadata": { "user_id": claude, "session_id": "m" } }), "||m|d1|"),
        // They belong to the API: what farebox cannot keep is no mistake of the caller's.
        (D::OpenaiChat, json!({ "user": "u".repeat(1000), "metadata": { "actor": 1, "tags": [1, "t"] } }), "||||t"),
        (D::OpenaiChat, json!({ "user": ["u"], "metadata": [] }), "||||"),
    ] {
        let body = body(dialect, &more);
        let _inboxes = by_every_entrance(&world, dialect, &body, &v1::Labels::default()).await;
        for _ in 0..3 {
            let (_, asked) = world.reserve().await;
            assert_eq!(asked.labels, Some(labels(expected)), "{more}: {:?}", asked.principal);
        }
    }
    // What stands beside the body comes first of all.
    let more = json!({ "user": "u", "farebox": { "actor": "f" }, "metadata": { "task_id": "m" } });
    let beside = v1::Labels { actor: "h".into(), ..Default::default() };
    let _inboxes = by_every_entrance(&world, D::OpenaiChat, &body(D::OpenaiChat, &more), &beside).await;
    let mut found = Vec::new();
    for _ in 0..3 {
        found.push(world.reserve().await.1.labels.unwrap());
    }
    found.sort_by_key(|labels| labels.actor.clone());
    assert_eq!(found, [labels("f|m||u|"), labels("h|m||u|"), labels("h|m||u|")]);
}

#[tokio::test]
async fn a_task_or_a_role_can_be_asked_for_as_a_model() {
    let mut world = World::start(quick()).await;
    for (model, served) in [("task:quick", "limited"), ("agent:writer", "open"), ("limited", "limited")] {
        let body = body(v1::Dialect::OpenaiChat, &json!({ "model": model }));
        let _inboxes = by_every_entrance(&world, v1::Dialect::OpenaiChat, &body, &v1::Labels::default()).await;
        for _ in 0..3 {
            assert_eq!(world.reserve().await.1.attempt.unwrap().upstream_model, served, "{model}");
        }
    }
    let body = body(v1::Dialect::OpenaiChat, &json!({ "model": "task:unheard-of" }));
    let mut inboxes = by_every_entrance(&world, v1::Dialect::OpenaiChat, &body, &v1::Labels::default()).await;
    let refused: Value = serde_json::from_slice(&inboxes[0].next().await.unwrap().payload).unwrap();
    assert!(refused["error"]["message"].as_str().unwrap().contains("unheard-of"), "{refused}");
}

#[tokio::test]
async fn options_in_the_body_count_on_every_entrance_and_what_is_not_one_is_refused() {
    let mut world = World::start(quick()).await;
    let dialect = v1::Dialect::OpenaiChat;
    let options = json!({ "farebox": { "max_cost": "0.5", "fallback_models": ["open"], "deadline_ms": 5000 } });
    let _inboxes = by_every_entrance(&world, dialect, &body(dialect, &options), &v1::Labels::default()).await;
    for _ in 0..3 {
        let (_, asked) = world.reserve().await;
        assert_eq!(v1::Money::of(&asked.max_cost).to_string(), "0.5");
        assert_eq!(asked.alternatives.len(), 1);
        let left = asked.deadline_unix_ms - asked.received_unix_ms;
        assert!((4000..=5000).contains(&left), "{left}");
    }
    let unknown = body(dialect, &json!({ "farebox": { "no_such_option": 1 } }));
    for mut inbox in by_every_entrance(&world, dialect, &unknown, &v1::Labels::default()).await {
        let answer = inbox.next().await.unwrap();
        assert_eq!(answer.headers.get(headers::ERROR), Some("bad_request"));
    }
}
