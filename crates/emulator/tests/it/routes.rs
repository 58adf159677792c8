use bytes::Bytes;
use farebox_emulator::{Recorded, Script, Usage};
use serde_json::json;

use crate::{chat, emulator, post, text};

fn recorded(status: u16, content_type: &str, body: &'static [u8]) -> Script {
    Script::recorded(Recorded {
        status,
        headers: vec![("content-type".into(), content_type.into()), ("x-token-count".into(), "4".into())],
        body: Bytes::from_static(body),
        usage: Usage::default(),
    })
}

#[tokio::test]
async fn a_route_plays_any_bytes_below_its_path_and_keeps_what_was_asked() {
    let emulator = emulator().await;
    let binary = b"\x00\x00\x00\x10\xff\xfe";
    emulator.route("/cloud", recorded(200, "application/vnd.amazon.eventstream", binary).chunks(3));
    emulator.route("/cloud", recorded(429, "text/plain", b"later"));
    let asked = post(&emulator, "/cloud/model/a%2Fb/converse-stream?alt=sse", "c1", &json!({ "odd": [] }));
    let answer = asked.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/vnd.amazon.eventstream");
    assert_eq!(answer.headers()["x-token-count"], "4");
    assert_eq!(answer.bytes().await.unwrap(), &binary[..]);
    let (status, _, body) = text(post(&emulator, "/cloud", "c2", &json!({}))).await;
    assert_eq!((status.as_u16(), body.as_str()), (429, "later"));

    let seen = emulator.take_seen("/cloud");
    assert_eq!(seen.len(), 2);
    assert_eq!((seen[0].method.as_str(), seen[0].path.as_str()), ("POST", "/cloud/model/a%2Fb/converse-stream"));
    assert_eq!(seen[0].query.as_deref(), Some("alt=sse"));
    assert_eq!(seen[0].headers["x-client-request-id"], "c1");
    assert_eq!(seen[0].body, r#"{"odd":[]}"#);
    assert!(emulator.take_seen("/cloud").is_empty(), "given out once");
    assert_eq!(emulator.ledger().totals().requests, 0, "routes are in no ledger");
}

#[tokio::test]
async fn a_route_is_its_own_paths_only() {
    let emulator = emulator().await;
    emulator.route("/cloud", recorded(200, "text/plain", b"outer"));
    emulator.route("/cloud/inner", recorded(200, "text/plain", b"inner"));
    for (path, status, said) in [
        ("/cloudy", 404, "Invalid URL"),
        ("/cloud/inner/x", 200, "inner"),
        ("/cloud/innermost", 200, "outer"),
        ("/cloud/innermost", 404, "nothing is left"),
        ("/v1/chat/completions", 200, "demo emulator"),
    ] {
        let (is, _, body) = text(post(&emulator, path, "c", &chat("m"))).await;
        assert_eq!(is.as_u16(), status, "{path}: {body}");
        assert!(body.contains(said), "{path}: {body}");
    }
}
