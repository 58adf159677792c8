//! Connections, and what is no proper request.

use std::time::Duration;

use farebox_edge::Options;
use farebox_proto::v1;
use farebox_runtime::listener::TlsOptions;
use farebox_testkit::{PATIENCE, eventually};
use farebox_types::{Secret, Span};
use http::Version;
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    raw::Raw,
    world::{CHAT, MESSAGES, World, header, json_of},
};

const HEALTH: &str = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
const BODY: &str = r#"{"model":"fast","messages":[]}"#;
const ANSWER: &str = r#"{"id":"1"}"#;

#[tokio::test]
async fn both_versions_of_http_are_spoken_and_connections_kept() {
    let world = World::start(Options::default()).await;
    let mut raw = Raw::connect(world.addr).await;
    for _ in 0..3 {
        raw.send(HEALTH).await;
        let answer = raw.answer().await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(r#"{"status":"ok"}"#), "{answer}");
    }
    let second = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let answer = second.get(format!("http://{}/health", world.addr)).send().await.unwrap();
    assert_eq!((answer.version(), answer.status().as_u16()), (Version::HTTP_2, 200));
}

#[tokio::test]
async fn tls_agrees_on_a_version() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        Secret::File(path)
    };
    let tls = TlsOptions::new(file("cert.pem", certificate.pem()), file("key.pem", key.serialize_pem()));
    let world = World::start(Options { tls: Some(tls), ..Options::default() }).await;
    let trusting = || {
        let authority = reqwest::Certificate::from_pem(certificate.pem().as_bytes()).unwrap();
        reqwest::Client::builder().tls_certs_only([authority]).resolve("localhost", world.addr)
    };
    let url = format!("https://localhost:{}/health", world.addr.port());
    for (client, version) in [(trusting(), Version::HTTP_2), (trusting().http1_only(), Version::HTTP_11)] {
        let answer = client.build().unwrap().get(&url).send().await.unwrap();
        assert_eq!((answer.version(), answer.status().as_u16()), (version, 200));
    }
}

#[tokio::test]
async fn what_two_servers_might_read_differently_is_refused_or_ends_the_connection() {
    let world = World::start(Options::default()).await;
    let post = |headers: &str, body: &str| {
        // Whatever is smuggled behind it would be answered, too.
        format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\n{headers}\r\n\r\n{body}{HEALTH}")
    };
    let wrong = "x-api-key: fb-nobody-0123456789abcdef0123456789abcdef";
    let long = "a".repeat(70_000);
    let many = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
    let cases = [
        // Allowed if the coding alone counts and the connection ends.
        (
            "length, then chunks",
            post(&format!("content-length: 4\r\ntransfer-encoding: chunked\r\n{wrong}"), "0\r\n\r\n"),
            401,
        ),
        (
            "chunks, then length",
            post(&format!("transfer-encoding: chunked\r\ncontent-length: 4\r\n{wrong}"), "0\r\n\r\n"),
            401,
        ),
        ("two lengths", post("content-length: 2\r\ncontent-length: 3", "{}"), 400),
        ("a list of lengths", post("content-length: 2, 3", "{}"), 400),
        ("a signed length", post("content-length: +2", "{}"), 400),
        ("a negative length", post("content-length: -2", "{}"), 400),
        ("an immense length", post("content-length: 99999999999999999999", "{}"), 400),
        ("no chunks at the end", post("transfer-encoding: chunked, gzip", "0\r\n\r\n"), 400),
        ("an unknown coding", post("transfer-encoding: identity", "{}"), 400),
        (
            "chunks in HTTP/1.0",
            post("transfer-encoding: chunked", "0\r\n\r\n").replace(&format!("{CHAT} HTTP/1.1"), "/x HTTP/1.0"),
            400,
        ),
        ("a chunk of no size", post("transfer-encoding: chunked", "zz\r\n{}\r\n0\r\n\r\n"), 400),
        ("a chunk of too many digits", post("transfer-encoding: chunked", "fffffffffffffffff\r\n{}\r\n0\r\n\r\n"), 400),
        ("a chunk that is longer", post("transfer-encoding: chunked", "1\r\n{}\r\n0\r\n\r\n"), 400),
        ("a space before the colon", post("content-length : 2", "{}"), 400),
        ("a folded header", post("x-a: 1\r\n content-length: 2", "{}"), 400),
        ("half a line break", post("x-a: 1\rcontent-length: 2", "{}"), 400),
        ("a zero in a header", post("x-a: 1\0", ""), 400),
        ("no host of a request", format!("GET / HTTP/9.9\r\n\r\n{HEALTH}"), 400),
        ("a long header", post(&format!("x-a: {long}"), ""), 431),
        ("many headers", post(&many, ""), 431),
    ];
    for (name, request, status) in cases {
        let mut raw = Raw::connect(world.addr).await;
        raw.send(&request).await;
        let said = raw.until_closed().await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {said}");
        assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{name}: {said}");
    }
}

#[tokio::test]
async fn who_is_silent_or_slow_loses_its_connection_and_who_waits_for_an_answer_does_not() {
    let options = Options { headers_timeout: Span::from_secs(2), ..Options::default() };
    let mut world = World::start(options).await;
    let waiting = world.send(world.post(CHAT, BODY));
    let asked = world.asked().await;

    let mut silent = Raw::connect(world.addr).await;
    assert_eq!(silent.until_closed().await, "");

    let mut kept = Raw::connect(world.addr).await;
    kept.send(HEALTH).await;
    kept.answer().await;
    assert_eq!(kept.until_closed().await, "");

    let mut slow = Raw::connect(world.addr).await;
    slow.send("GET /health HTTP/1.1\r\nx-slow: ").await;
    let dribbling = async {
        while slow.send("a").await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, dribbling).await.expect("its connection is closed");

    // All this took longer than a connection may be silent.
    asked.whole(ANSWER).await;
    assert_eq!(waiting.answer().await.text().await.unwrap(), ANSWER);
}

#[tokio::test]
async fn who_takes_a_large_answer_slowly_gets_all_of_it() {
    let options = Options { headers_timeout: Span::from_secs(1), ..Options::default() };
    let mut world = World::start(options).await;
    let large = format!(r#"{{"id":"{}"}}"#, "x".repeat(12_000_000));
    let second = || reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    for client in [reqwest::Client::new(), second()] {
        let sent = world.send(client.post(format!("http://{}{CHAT}", world.addr)).body(BODY));
        let asked = world.asked().await;
        let object = world.put(&large).await;
        let stored = v1::StoredBody { dialect: 0, object: Some(object.into()) };
        asked.ends(v1::llm_response::Result::Stored(stored)).await;
        let mut response = sent.answer().await;
        // In some four times as long as a connection may be silent.
        let (mut taken, began) = (0, Instant::now());
        while let Some(chunk) = timeout(PATIENCE, response.chunk()).await.unwrap().unwrap() {
            taken += chunk.len();
            let due = Duration::from_secs(4).mul_f64(taken as f64 / large.len() as f64);
            sleep(due.saturating_sub(began.elapsed())).await;
        }
        assert_eq!(taken, large.len());
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let options = Options { body_timeout: Span::from_millis(200), ..Options::default() };
    let world = World::start(options).await;
    let mut raw = Raw::connect(world.addr).await;
    raw.send(&format!("POST {MESSAGES} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{{\"mo")).await;
    let said = raw.until_closed().await;
    assert!(said.starts_with("HTTP/1.1 408 ") && said.contains(r#""type":"error""#), "{said}");
    assert!(said.contains("edge.body_timeout"), "{said}");
}

#[tokio::test]
async fn a_body_is_asked_for_only_if_it_will_be_read() {
    let mut world = World::start(Options::default()).await;
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {}\r\n", BODY.len());
    let mut raw = Raw::connect(world.addr).await;
    raw.send(&format!("{head}\r\n")).await;
    assert!(raw.head().await.starts_with("HTTP/1.1 100 "));
    raw.send(BODY).await;
    let asked = world.asked().await;
    assert_eq!(&asked.raw().bytes[..], BODY.as_bytes());
    asked.whole(ANSWER).await;
    assert!(raw.answer().await.ends_with(ANSWER));

    let mut raw = Raw::connect(world.addr).await;
    raw.send(&format!("{head}x-api-key: fb-nobody-0123456789abcdef0123456789abcdef\r\n\r\n")).await;
    assert!(raw.head().await.starts_with("HTTP/1.1 401 "));
}

#[tokio::test]
async fn requests_above_their_number_are_refused_and_health_is_not() {
    let mut world = World::start(Options { requests_max: 1, ..Options::default() }).await;
    let first = world.send(world.post(CHAT, BODY));
    let asked = world.asked().await;
    let second = world.post(MESSAGES, BODY).send().await.unwrap();
    // What Anthropic says for `unavailable`.
    assert_eq!((second.status().as_u16(), header(&second, "retry-after")), (529, "1"));
    let said: Value = json_of(second).await;
    assert_eq!(said["type"], "error", "{said}");
    let url = |path: &str| format!("http://{}{path}", world.addr);
    assert_eq!(reqwest::get(url("/health")).await.unwrap().status().as_u16(), 200);
    asked.whole(ANSWER).await;
    assert_eq!(first.answer().await.text().await.unwrap(), ANSWER);
    let free = || async { reqwest::get(url("/v1/models")).await.unwrap().status().as_u16() == 200 };
    eventually(PATIENCE, "there is room again", free).await;
}

#[tokio::test]
async fn an_answer_of_which_a_client_lets_nothing_come_does_not_keep_its_place() {
    let options = Options { requests_max: 1, write_timeout: Span::from_secs(3), ..Options::default() };
    let world = World::start(options).await;
    let url = format!("http://{}/v1/models", world.addr);
    let client =
        reqwest::Client::builder().http2_prior_knowledge().http2_initial_stream_window_size(0).build().unwrap();
    let waiting = client.get(&url).send().await.unwrap();
    assert_eq!(waiting.status().as_u16(), 200);
    assert_eq!(reqwest::get(&url).await.unwrap().status().as_u16(), 503);
    let free = || async { reqwest::get(&url).await.unwrap().status().as_u16() == 200 };
    eventually(PATIENCE, "there is room again", free).await;
    assert!(waiting.bytes().await.is_err(), "it was cut");
}

#[tokio::test]
async fn connections_above_their_number_wait() {
    let world = World::start(Options { connections_max: 1, ..Options::default() }).await;
    let mut first = Raw::connect(world.addr).await;
    first.send(HEALTH).await;
    first.answer().await;
    let mut second = Raw::connect(world.addr).await;
    second.send(HEALTH).await;
    assert!(timeout(Duration::from_millis(200), second.head()).await.is_err());
    drop(first);
    let mut third = Raw::connect(world.addr).await;
    third.send(HEALTH).await;
    drop(second);
    assert!(third.answer().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn at_the_end_nothing_new_is_taken_and_what_runs_ends() {
    let mut world = World::start(Options::default()).await;
    let mut kept = Raw::connect(world.addr).await;
    kept.send(HEALTH).await;
    kept.answer().await;
    let running = world.send(world.post(CHAT, BODY));
    let asked = world.asked().await;
    world.trigger.drain();
    assert_eq!(kept.until_closed().await, "");
    let addr = world.addr;
    let closed = || async { tokio::net::TcpStream::connect(addr).await.is_err() };
    eventually(PATIENCE, "nobody can connect any more", closed).await;
    asked.whole(ANSWER).await;
    assert_eq!(running.answer().await.text().await.unwrap(), ANSWER);
    world.tasks.finish(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn what_does_not_end_in_time_is_told_so() {
    let mut world = World::start(Options { drain_timeout: Span::from_millis(100), ..Options::default() }).await;
    let running = world.send(world.post(CHAT, BODY));
    let _asked = world.asked().await;
    world.trigger.drain();
    let answer = running.answer().await;
    assert_eq!((answer.status().as_u16(), header(&answer, "retry-after")), (503, "1"));
    world.tasks.finish(PATIENCE).await.unwrap();
}
