//! What one project or one address may have of the edge, and that others are served meanwhile.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use farebox_directory::Directory;
use farebox_edge::Options;
use farebox_policy::Policies;
use farebox_testkit::{PATIENCE, eventually};
use farebox_types::ByteSize;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;

use crate::{
    raw::Raw,
    world::{CHAT, MESSAGES, World, header, json_of, key},
};

const BODY: &str = r#"{"model":"fast","messages":[]}"#;
const ANSWER: &str = r#"{"id":"1"}"#;
const MODELS: &str = "/v1/models";
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Two keys of one project, and one of another.
struct Keys {
    greedy: String,
    colleague: String,
    other: String,
}

async fn start(options: Options) -> (World, Keys) {
    let made = [("greedy", "acme"), ("colleague", "acme"), ("other", "globex")].map(|(id, project)| key(id, project));
    let [greedy, colleague, other] = made.each_ref().map(|(text, _)| text.clone());
    let keys = made.into_iter().map(|(_, key)| (key.id.clone(), key)).collect();
    let world = World::with(options, |deps| {
        deps.directory = Directory::fixed(Policies { keys, ..Policies::default() });
    });
    (world.await, Keys { greedy, colleague, other })
}

/// By HTTP/1.1, and as streams of one HTTP/2 connection.
fn clients() -> [Client; 2] {
    [Client::new(), Client::builder().http2_prior_knowledge().build().unwrap()]
}

fn post(addr: SocketAddr, client: &Client, path: &str, key: &str, body: &str) -> RequestBuilder {
    client.post(format!("http://{addr}{path}")).bearer_auth(key).body(body.to_owned())
}

fn get(addr: SocketAddr, client: &Client, path: &str) -> RequestBuilder {
    client.get(format!("http://{addr}{path}"))
}

/// Answers the next request.
async fn is_served(world: &mut World, request: RequestBuilder) {
    let sent = world.send(request);
    world.asked().await.whole(ANSWER).await;
    assert_eq!(sent.answer().await.text().await.unwrap(), ANSWER);
}

async fn is_told(answer: Response, option: &str) -> Value {
    let head = (answer.status().as_u16(), header(&answer, "retry-after"), header(&answer, "farebox-error"));
    assert_eq!(head, (429, "1", "rate_limited"));
    let said = json_of(answer).await;
    assert!(said["error"]["message"].as_str().unwrap().contains(option), "{said}");
    said
}

#[tokio::test]
async fn a_project_has_its_share_of_requests_and_leaves_the_others_theirs() {
    let options = Options { requests_max: 8, requests_per_project: Some(2), ..Options::default() };
    let (mut world, keys) = start(options).await;
    let addr = world.addr;
    for client in clients() {
        let mut waiting = Vec::new();
        for key in [&keys.greedy, &keys.colleague] {
            let sent = world.send(post(addr, &client, CHAT, key, BODY));
            waiting.push((world.asked().await, sent));
        }
        for key in [&keys.greedy, &keys.colleague] {
            let told = |path| post(addr, &client, path, key, BODY).send();
            let said = is_told(told(CHAT).await.unwrap(), "edge.requests_per_project").await;
            assert!(said["error"]["message"].as_str().unwrap().contains("`acme`"), "{said}");
            let said = is_told(told(MESSAGES).await.unwrap(), "edge.requests_per_project").await;
            assert_eq!((&said["type"], &said["error"]["type"]), (&"error".into(), &"rate_limit_error".into()));
        }
        // Another project, and who needs no key.
        is_served(&mut world, post(addr, &client, CHAT, &keys.other, BODY)).await;
        assert_eq!(get(addr, &client, MODELS).send().await.unwrap().status().as_u16(), 200);
        for (asked, sent) in waiting {
            asked.whole(ANSWER).await;
            assert_eq!(sent.answer().await.text().await.unwrap(), ANSWER);
        }
        let free = || async {
            let answer = get(addr, &client, MODELS).bearer_auth(&keys.greedy).send().await.unwrap();
            answer.status().as_u16() == 200
        };
        eventually(PATIENCE, "the project has room again", free).await;
    }
}

#[tokio::test]
async fn a_project_has_its_share_of_room_for_bodies_and_leaves_the_others_theirs() {
    let sizes = Options { body_max: ByteSize(100_000), bodies_max: ByteSize(400_000), ..Options::default() };
    let options = Options { bodies_per_project: Some(ByteSize(100_000)), ..sizes };
    let (mut world, keys) = start(options).await;
    let addr = world.addr;
    let large = format!(r#"{{"model":"fast","messages":[],"user":"{}"}}"#, "a".repeat(90_000));
    for client in clients() {
        let first = world.send(post(addr, &client, CHAT, &keys.greedy, &large));
        let asked = world.asked().await;
        let told = post(addr, &client, CHAT, &keys.colleague, &large).send().await.unwrap();
        is_told(told, "edge.bodies_per_project").await;
        is_served(&mut world, post(addr, &client, CHAT, &keys.colleague, BODY)).await;
        is_served(&mut world, post(addr, &client, CHAT, &keys.other, &large)).await;
        asked.whole(ANSWER).await;
        assert_eq!(first.answer().await.status().as_u16(), 200);
        is_served(&mut world, post(addr, &client, CHAT, &keys.colleague, &large)).await;
    }
}

#[tokio::test]
async fn who_shows_no_key_that_opens_has_the_share_of_an_address() {
    let options = Options { anonymous: false, requests_max: 8, requests_per_address: Some(1), ..Options::default() };
    let (world, keys) = start(options).await;
    let addr = world.addr;
    let client = Client::new();
    let mut slow = Raw::connect(addr).await;
    slow.send(&format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{{")).await;
    let told = || async { get(addr, &client, MODELS).send().await.unwrap().status().as_u16() == 429 };
    eventually(PATIENCE, "the address has its share", told).await;
    is_told(get(addr, &client, MODELS).send().await.unwrap(), "edge.requests_per_address").await;
    // A key opens from there, and others are told that theirs does not.
    let open = get(addr, &client, MODELS).bearer_auth(&keys.other).send().await.unwrap();
    assert_eq!(open.status().as_u16(), 200);
    let mut other = Raw::connect_from(ELSEWHERE, addr).await;
    other.send(&format!("GET {MODELS} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    assert!(other.head().await.starts_with("HTTP/1.1 401 "));
    drop(slow);
    let free = || async { get(addr, &client, MODELS).send().await.unwrap().status().as_u16() == 401 };
    eventually(PATIENCE, "the address has room again", free).await;
}

#[tokio::test]
async fn an_address_has_its_share_of_connections_and_leaves_the_others_theirs() {
    let options = Options { connections_max: 16, connections_per_address: Some(2), ..Options::default() };
    let world = World::start(options).await;
    let addr = world.addr;
    let ask = format!("GET {MODELS} HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::connect(addr).await;
        raw.send(&ask).await;
        assert!(raw.answer().await.starts_with("HTTP/1.1 200 "));
        kept.push(raw);
    }
    let mut above = Raw::connect(addr).await;
    above.send(&ask.repeat(2)).await;
    let said = above.until_closed().await;
    assert!(said.starts_with("HTTP/1.1 429 ") && said.contains("edge.connections_per_address"), "{said}");
    assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{said}");
    let second = Client::builder().http2_prior_knowledge().build().unwrap();
    is_told(get(addr, &second, MODELS).send().await.unwrap(), "edge.connections_per_address").await;

    // However many there are.
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(Raw::connect(addr).await);
    }
    let mut other = Raw::connect_from(ELSEWHERE, addr).await;
    other.send(&ask).await;
    assert!(other.answer().await.starts_with("HTTP/1.1 200 "));
    for raw in &mut silent {
        assert_eq!(raw.until_closed().await, "");
    }

    drop(kept);
    let free = || async { get(addr, &second, MODELS).send().await.unwrap().status().as_u16() == 200 };
    eventually(PATIENCE, "the address has room again", free).await;
}
