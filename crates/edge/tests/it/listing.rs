//! What the edge answers itself.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use farebox_bus::Headers;
use farebox_directory::Directory;
use farebox_edge::{CorsOptions, Offered, Options};
use farebox_policy::Policies;
use farebox_proto::{subjects, v1};
use farebox_testkit::{PATIENCE, eventually};
use farebox_types::Span;
use prost::Message;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use crate::world::{World, header, json_of, key};

async fn listing() -> (World, String) {
    let (text, mut key) = key("reader", "default");
    key.models = ["gpt-*", "org/*"].map(str::to_owned).to_vec();
    let policies = Policies { keys: [(key.id.clone(), key)].into(), ..Policies::default() };
    let offered = [("claude", "anthropic"), ("gpt-4o", "openai"), ("org/small", "local"), ("task:code", "openai")];
    let offered = offered.map(|(alias, provider)| Offered { alias: alias.into(), provider: provider.into() });
    let world = World::with(Options::default(), |deps| {
        deps.directory = Directory::fixed(policies);
        deps.offered = watch::channel(Arc::new(offered.to_vec())).1;
    });
    (world.await, text)
}

async fn ask(world: &World, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
    let request = Client::new().request(method, format!("http://{}{path}", world.addr));
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send().await.unwrap()
}

async fn get(world: &World, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
    let answer = ask(world, Method::GET, path, headers).await;
    (answer.status().as_u16(), json_of(answer).await)
}

fn ids(list: &Value) -> Vec<&str> {
    list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn models_are_listed_as_the_caller_expects_them() {
    let (world, key) = listing().await;
    let (status, all) = get(&world, "/v1/models", &[]).await;
    assert_eq!((status, ids(&all)), (200, vec!["claude", "gpt-4o", "org/small", "task:code"]));
    assert_eq!(all["object"], "list");
    assert_eq!(
        all["data"][1],
        json!({ "id": "gpt-4o", "object": "model", "created": 1735689600, "owned_by": "openai" })
    );

    let (status, mine) = get(&world, "/models", &[("authorization", &format!("Bearer {key}"))]).await;
    assert_eq!((status, ids(&mine)), (200, vec!["gpt-4o", "org/small", "task:code"]));

    let (status, page) = get(&world, "/anthropic/v1/models?limit=2", &[("x-api-key", &key)]).await;
    assert_eq!((status, ids(&page)), (200, vec!["gpt-4o", "org/small"]));
    assert_eq!(page["has_more"], true);
    let first =
        json!({ "type": "model", "id": "gpt-4o", "display_name": "gpt-4o", "created_at": "2025-01-01T00:00:00Z" });
    assert_eq!(page["data"][0], first);
    let (_, page) =
        get(&world, "/v1/models?limit=1000", &[("x-api-key", &key), ("anthropic-version", "2023-06-01")]).await;
    assert_eq!((page["has_more"].clone(), ids(&page).len()), (json!(false), 3));

    for (path, status) in [
        ("/v1/models/org/small", 200),
        ("/v1/models/org%2Fsmall", 200),
        ("/v1/models/claude", 404),
        ("/v1/models/x", 404),
    ] {
        let (got, said) = get(&world, path, &[("x-api-key", &key)]).await;
        assert_eq!(got, status, "{path}: {said}");
        assert_eq!(said["error"].is_object(), status == 404, "{path}: {said}");
    }
    let (status, said) =
        get(&world, "/v1/models", &[("x-api-key", "fb-nobody-0123456789abcdef0123456789abcdef")]).await;
    assert_eq!((status, said["error"]["type"].is_string()), (401, true), "{said}");
}

#[tokio::test]
async fn what_is_not_there_is_said_with_what_is() {
    let world = World::start(Options::default()).await;
    for path in ["/", "/v1", "/openai", "/openai/v1/", "/anthropic", "/anthropic/v1"] {
        for method in [Method::HEAD, Method::GET] {
            // Whatever the credentials are.
            let wrong = [("x-api-key", "fb-nobody-0123456789abcdef0123456789abcdef")];
            assert_eq!(ask(&world, method, path, &wrong).await.status().as_u16(), 200, "{path}");
        }
    }
    for (path, is_doubled) in
        [("/v1/audio/speech", false), ("/v1/v1/chat/completions", true), ("/openai/v1//v1/messages", true)]
    {
        let (status, said) = get(&world, path, &[]).await;
        assert_eq!((status, said["error"]["code"].as_str()), (404, Some("unknown_url")), "{said}");
        let message = said["error"]["message"].as_str().unwrap();
        assert!(message.contains("/v1/chat/completions,"), "{said}");
        assert_eq!(message.contains("the base URL of this SDK goes without /v1"), is_doubled, "{said}");
    }
    let (status, said) = get(&world, "/v1/files", &[("anthropic-version", "2023-06-01")]).await;
    assert_eq!(
        (status, said["type"].as_str(), said["error"]["type"].as_str()),
        (404, Some("error"), Some("not_found_error"))
    );

    for (method, path, allowed) in [
        (Method::GET, "/v1/messages", "POST"),
        (Method::PUT, "/v1/chat/completions?beta=true", "POST"),
        (Method::POST, "/v1/models", "GET, HEAD"),
        (Method::DELETE, "/v1/models/x", "GET, HEAD"),
    ] {
        let answer = ask(&world, method, path, &[]).await;
        assert_eq!((answer.status().as_u16(), header(&answer, "allow")), (405, allowed), "{path}");
        assert!(json_of(answer).await["error"].is_object(), "{path}");
    }
    for (method, path) in [(Method::GET, "/v1/responses/resp_1"), (Method::POST, "/v1/responses/resp_1/cancel")] {
        let answer = ask(&world, method, path, &[]).await;
        assert_eq!((answer.status().as_u16(), header(&answer, "farebox-error")), (422, "unsupported"), "{path}");
    }
}

#[tokio::test]
async fn pages_may_call_where_they_are_let() {
    let preflight = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type"),
    ];
    let world = World::start(Options::default()).await;
    let answer = ask(&world, Method::OPTIONS, "/v1/chat/completions", &preflight).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "access-control-allow-origin")), (405, ""));

    let cors = CorsOptions { origins: vec!["https://app.example".into()], max_age: Some(Span::from_secs(60)) };
    let world = World::start(Options { cors: Some(cors), ..Options::default() }).await;
    let answer = ask(&world, Method::OPTIONS, "/v1/chat/completions", &preflight).await;
    assert_eq!(answer.status().as_u16(), 200);
    for (name, value) in [
        ("access-control-allow-origin", "https://app.example"),
        ("access-control-allow-headers", "authorization,content-type"),
        ("access-control-allow-methods", "GET,HEAD,POST"),
        ("access-control-max-age", "60"),
    ] {
        assert_eq!(header(&answer, name), value, "{name}");
    }
    let answer = ask(&world, Method::GET, "/v1/models", &preflight[..1]).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "access-control-expose-headers")), (200, "*"));
    assert_eq!(header(&answer, "access-control-allow-origin"), "https://app.example");
    let answer = ask(&world, Method::GET, "/health", &[("origin", "https://other.example")]).await;
    assert_eq!(header(&answer, "access-control-allow-origin"), "");
}

#[tokio::test]
async fn readiness_names_every_part() {
    let options = Options { ready_timeout: Span::from_millis(500), ..Options::default() };
    let world = World::start(options).await;
    let answer = ask(&world, Method::GET, "/ready", &[]).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "retry-after")), (503, "1"));
    let said: Value = json_of(answer).await;
    assert_eq!(said["ready"], false);
    let parts = |said: &Value| -> Vec<(String, bool)> {
        let parts = said["parts"].as_object().unwrap().iter();
        parts.map(|(name, part)| (name.clone(), part["ok"].as_bool().unwrap())).collect()
    };
    let of = |all: [(&str, bool); 5]| all.map(|(name, ok)| (name.to_owned(), ok)).to_vec();
    // There is an intake, which does not answer.
    let wanted = [("nats", true), ("directory", true), ("intake", false), ("guard", false), ("worker", false)];
    assert_eq!(parts(&said), of(wanted), "{said}");
    assert!(said["parts"]["guard"]["reason"].as_str().unwrap().contains("nobody listens"), "{said}");

    let world = world.without_intake().await;
    for (subject, reply) in [
        (subjects::lookup(subjects::SHARD), v1::LookupReply::default().encode_to_vec()),
        (subjects::WORK.to_owned(), Vec::new()),
        (subjects::EDGE_REQUEST.to_owned(), v1::LlmResponse::default().encode_to_vec()),
    ] {
        let mut asked = world.bus.subscribe(&subject, Some("stand-in")).await.unwrap();
        let bus = world.bus.clone();
        world.tasks.spawn("stand-in", async move {
            while let Some(delivery) = asked.next().await {
                let reply = Bytes::from(reply.clone());
                bus.publish(&delivery.reply.unwrap(), Headers::new(), reply).await.unwrap();
            }
        });
    }
    world.bus.flush().await.unwrap();
    let ready = || async { ask(&world, Method::GET, "/ready", &[]).await.status().as_u16() == 200 };
    eventually(PATIENCE, "all parts are there", ready).await;

    world.nats.stop().await;
    let asked = Instant::now();
    let gone = || async { get(&world, "/ready", &[]).await.1["parts"]["nats"]["ok"] == false };
    eventually(PATIENCE, "the bus is missed", gone).await;
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert_eq!(get(&world, "/health", &[]).await.0, 200, "the process itself lives");
}
