//! Bodies of requests: packed, too large, broken.

use bytes::Bytes;
use farebox_edge::Options;
use farebox_testkit::PATIENCE;
use farebox_types::ByteSize;
use futures::StreamExt;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    raw::Raw,
    world::{CHAT, World, header, json_of},
};

const BODY: &str = r#"{"model":"fast","messages":[{"role":"user","content":"packed"}]}"#;
const ANSWER: &str = r#"{"id":"1"}"#;

/// The same, packed by other programs.
const PACKED: [(&str, &str); 4] = [
    (
        "gzip",
        "1f8b080000000000000305c1bb1180201445c15e4e4c05af15c78081ab817c1c1e460cbdbbbba83dab605cd127812af778cbb163317a11c6e71a0\
         4526f536d62bc313dcaec73ff986cf78740000000",
    ),
    (
        "deflate",
        "789c05c1bb1180201445c15e4e4c05af15c78081ab817c1c1e460cbdbbbba83dab605cd127812af778cbb163317a11c6e71a04526f536d62bc313\
         dcaec73ffb85915b0",
    ),
    ("br", "1b3f00881c076eacc54e10b4d9af45f6c8b6b60e4b57df122903879c08dcbed53cac5723132b2902af786331c52a12c4957bdf01"),
    (
        "zstd",
        "28b52ffd0458e5010002040e169025ea82a2b646cda6c07f219a7fff97d729ae7f50024d6897160401df0b75a1441eab66e0bb26a959706709ccec\
         79bc12876fd392ce2c001d15d625",
    ),
];

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// As gzip would pack zeros: blocks that are stored are enough for a bomb in a test.
fn bomb(size: usize) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, &vec![b' '; size]).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn packed_bodies_are_unpacked() {
    let mut world = World::start(Options::default()).await;
    for (encoding, packed) in PACKED {
        let sent = world.send(world.post(CHAT, bytes(packed)).header("content-encoding", encoding));
        let asked = world.asked().await;
        assert_eq!(std::str::from_utf8(&asked.raw().bytes).unwrap(), BODY, "{encoding}");
        asked.whole(ANSWER).await;
        assert_eq!(sent.answer().await.status().as_u16(), 200, "{encoding}");
    }
    let chunks = [&BODY[..10], &BODY[10..11], &BODY[11..]].map(|chunk| Ok::<_, std::io::Error>(Bytes::from(chunk)));
    let body = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
    let sent = world.send(world.post(CHAT, body).header("content-encoding", "identity"));
    let asked = world.asked().await;
    assert_eq!(std::str::from_utf8(&asked.raw().bytes).unwrap(), BODY);
    asked.whole(ANSWER).await;
    assert_eq!(sent.answer().await.status().as_u16(), 200);
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused_with_a_reason() {
    let world = World::start(Options { body_max: ByteSize(100_000), ..Options::default() }).await;
    let streamed = |bytes: Vec<u8>| reqwest::Body::wrap_stream(futures::stream::iter([Ok::<_, std::io::Error>(bytes)]));
    let cases: [(&str, reqwest::Body, &[&str], u16); 9] = [
        ("too long", vec![b' '; 100_001].into(), &[], 413),
        ("much too long", vec![b' '; 1_000_000].into(), &[], 413),
        ("too long, in chunks", streamed(vec![b' '; 100_001]), &[], 413),
        ("a bomb", bomb(10_000_000).into(), &["gzip"], 413),
        ("a packed body that is not unpacked", streamed(vec![b' '; 100_001]), &["identity"], 413),
        ("no gzip", BODY.into(), &["gzip"], 400),
        ("half of it", bytes(&PACKED[0].1[..60]).into(), &["gzip"], 400),
        ("packed twice", BODY.into(), &["gzip, br"], 415),
        ("packed twice, in two headers", BODY.into(), &["gzip", "br"], 415),
    ];
    for (name, body, encodings, status) in cases {
        let request = encodings
            .iter()
            .fold(world.post(CHAT, body), |request, encoding| request.header("content-encoding", *encoding));
        let answer = request.send().await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(answer.status().as_u16(), status, "{name}");
        let said: Value = json_of(answer).await;
        assert!(said["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{name}: {said}");
    }
}

#[tokio::test]
async fn all_bodies_together_have_a_bound() {
    let bodies_max = ByteSize(150_000);
    let options = Options { bodies_max, bodies_per_project: Some(bodies_max), ..Options::default() };
    let options = Options { body_max: ByteSize(100_000), ..options };
    let mut world = World::start(options).await;
    let large = || format!(r#"{{"model":"fast","messages":[],"user":"{}"}}"#, "a".repeat(90_000));
    let first = world.send(world.post(CHAT, large()));
    let asked = world.asked().await;
    let refused = world.post(CHAT, large()).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), header(&refused, "retry-after")), (503, "1"));
    assert!(json_of(refused).await["error"]["message"].as_str().unwrap().contains("edge.bodies_max"));
    let small = world.send(world.post(CHAT, BODY));
    world.asked().await.whole(ANSWER).await;
    assert_eq!(small.answer().await.status().as_u16(), 200);
    asked.whole(ANSWER).await;
    assert_eq!(first.answer().await.status().as_u16(), 200);
    let third = world.send(world.post(CHAT, large()));
    world.asked().await.whole(ANSWER).await;
    assert_eq!(third.answer().await.status().as_u16(), 200);
}

#[tokio::test]
async fn a_body_takes_the_room_of_what_has_come_of_it_and_not_of_what_it_may_become() {
    let options = Options { body_max: ByteSize(100_000), bodies_max: ByteSize(100_000), ..Options::default() };
    let mut world = World::start(options).await;
    let mut slow = Raw::connect(world.addr).await;
    slow.send(&format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 100000\r\n\r\n"))
        .await;
    assert!(slow.head().await.starts_with("HTTP/1.1 100 "), "it is being read");
    let chunked = || reqwest::Body::wrap_stream(futures::stream::iter([Ok::<_, std::io::Error>(BODY)]));
    let mut waiting = Vec::new();
    for encoding in ["identity", "gzip", "identity"] {
        let body = if encoding == "gzip" { bytes(PACKED[0].1).into() } else { chunked() };
        let sent = world.send(world.post(CHAT, body).header("content-encoding", encoding));
        waiting.push((world.asked().await, sent));
    }
    for (asked, sent) in waiting {
        asked.whole(ANSWER).await;
        assert_eq!(sent.answer().await.status().as_u16(), 200);
    }
}

#[tokio::test]
async fn who_may_not_come_in_over_http_2_is_not_waited_for() {
    let world = World::start(Options::default()).await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let begun = futures::stream::iter([Ok::<_, std::io::Error>("{")]).chain(futures::stream::pending());
    let asked = client.post(format!("http://{}{CHAT}", world.addr)).body(reqwest::Body::wrap_stream(begun));
    let asked = asked.header("x-api-key", "fb-nobody-0123456789abcdef0123456789abcdef").send();
    assert_eq!(timeout(PATIENCE, asked).await.unwrap().unwrap().status().as_u16(), 401);
}
