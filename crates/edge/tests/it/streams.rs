//! Answers that come in pieces.

use std::time::Duration;

use farebox_bus::ObjectError;
use farebox_edge::Options;
use farebox_proto::v1;
use farebox_testkit::{PATIENCE, eventually};
use farebox_types::{ByteSize, ErrorKind, Fault, Span};
use reqwest::Response;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::world::{Asked, CHAT, MESSAGES, RESPONSES, World, header, limited};

const BODY: &str = r#"{"model":"fast","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const START: &str = r#"{"type":"message_start","message":{}}"#;
const STOP: &str = r#"{"type":"message_stop"}"#;

async fn next(response: &mut Response) -> String {
    let chunk = timeout(PATIENCE, response.chunk()).await.unwrap().unwrap().unwrap();
    String::from_utf8(chunk.to_vec()).unwrap()
}

async fn rest(response: Response) -> String {
    timeout(PATIENCE, response.text()).await.unwrap().unwrap()
}

/// A stream that has begun.
async fn begun(world: &mut World, path: &str) -> (Asked, Response) {
    let sent = world.send(world.post(path, BODY));
    let mut asked = world.asked().await;
    asked.piece(START).await;
    let mut response = sent.answer().await;
    next(&mut response).await;
    (asked, response)
}

#[tokio::test]
async fn each_piece_is_an_event_of_the_callers_dialect() {
    let mut world = World::start(Options::default()).await;
    let named = format!("event: message_start\ndata: {START}\n\nevent: message_stop\ndata: {STOP}\n\n");
    let plain = format!("data: {START}\n\ndata: {STOP}\n\ndata: [DONE]\n\n");
    for (path, expected) in [(MESSAGES, &named), (RESPONSES, &named), (CHAT, &plain), ("/v1/completions", &plain)] {
        let sent = world.send(world.post(path, BODY));
        let mut asked = world.asked().await;
        asked.piece(START).await;
        asked.piece(STOP).await;
        asked.whole("{}").await;
        // Whatever comes after the end is nobody's.
        asked.piece(START).await;
        let response = sent.answer().await;
        assert_eq!(response.status().as_u16(), 200);
        for (name, value) in [
            ("content-type", "text/event-stream; charset=utf-8"),
            ("farebox-call-id", "call-1"),
            ("farebox-model", "fast"),
            ("farebox-provider", "openai"),
            ("farebox-request-id", asked.id()),
        ] {
            assert_eq!(header(&response, name), value, "{path} {name}");
        }
        assert_eq!(&rest(response).await, expected, "{path}");
    }
}

#[tokio::test]
async fn a_piece_is_there_before_the_next_is_made() {
    let mut world = World::start(Options::default()).await;
    let (mut asked, mut response) = begun(&mut world, CHAT).await;
    for n in 0..20 {
        asked.piece(&format!(r#"{{"n":{n}}}"#)).await;
        assert_eq!(next(&mut response).await, format!("data: {{\"n\":{n}}}\n\n"));
    }
    asked.whole("{}").await;
    assert_eq!(rest(response).await, "data: [DONE]\n\n");
}

#[tokio::test]
async fn a_failure_before_the_first_piece_has_its_own_status() {
    let mut world = World::start(Options::default()).await;
    let sent = world.send(world.post(MESSAGES, BODY));
    world.asked().await.fails(limited()).await;
    let response = sent.answer().await;
    assert_eq!((response.status().as_u16(), header(&response, "retry-after-ms")), (429, "2000"));
    assert!(rest(response).await.contains("rate_limit_error"));
}

#[tokio::test]
async fn a_silent_stream_says_that_it_is_alive() {
    let options =
        Options { first_piece_wait: Span::from_millis(20), ping_interval: Span::from_millis(40), ..Options::default() };
    let mut world = World::start(options).await;
    for (path, ping, error) in [
        (MESSAGES, "event: ping\ndata: {\"type\": \"ping\"}\n\n", "event: error\ndata: {\"type\":\"error\""),
        (CHAT, ": ping\n\n", "data: {\"error\":{\"message\":\"the provider failed\""),
    ] {
        let sent = world.send(world.post(path, BODY));
        let mut asked = world.asked().await;
        let mut response = sent.answer().await;
        assert_eq!(response.status().as_u16(), 200);
        for _ in 0..3 {
            assert_eq!(next(&mut response).await, ping);
        }
        asked.piece(START).await;
        asked.fails(Fault::new(ErrorKind::Upstream, "the provider failed")).await;
        let said = rest(response).await;
        let after = said.replace(ping, "");
        assert!(after.contains(START), "{after}");
        assert!(after.rsplit_once(START).unwrap().1.trim_start().starts_with(error), "{after}");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_ends_with_an_error_and_never_like_a_whole_one() {
    let options = Options { answer_grace: Span::from_millis(100), ..Options::default() };
    let mut world = World::start(options).await;
    let raw = || v1::llm_response::Result::Raw(v1::RawBody { dialect: 0, bytes: "{}".into() });
    for path in [CHAT, MESSAGES, RESPONSES] {
        // The provider failed.
        let (asked, response) = begun(&mut world, path).await;
        asked.fails(Fault::new(ErrorKind::Truncated, "it broke off")).await;
        let failed = rest(response).await;
        assert!(failed.contains("it broke off") && !failed.contains("[DONE]"), "{failed}");
        // A piece is missing in the middle.
        let (asked, response) = begun(&mut world, path).await;
        asked.numbered(2, STOP).await;
        asked.whole("{}").await;
        let gap = rest(response).await;
        assert!(gap.contains("was lost on its way") && !gap.contains("message_stop"), "{gap}");
        assert!(!world.cancelled_of(&asked).await.caller_gone);
        // The last piece is missing.
        let (asked, response) = begun(&mut world, path).await;
        asked.ends_after(2, raw()).await;
        let cut = rest(response).await;
        assert!(cut.contains("was lost on its way") && !cut.contains("[DONE]"), "{cut}");
        // There is no end.
        let sent = world.send(world.post(path, BODY).header("farebox-timeout", "2s"));
        let mut asked = world.asked().await;
        asked.piece(START).await;
        let silent = rest(sent.answer().await).await;
        assert!(silent.contains("deadline") && !silent.contains("[DONE]"), "{silent}");
        world.cancelled_of(&asked).await;
    }
}

#[tokio::test]
async fn a_repeat_of_a_stream_that_has_ended_is_a_stream() {
    let options = Options { first_piece_wait: Span::from_millis(200), ..Options::default() };
    let mut world = World::start(options).await;
    let whole = r#"{"id":"c-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":
        {"role":"assistant","content":"Herons wade."},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,
        "completion_tokens":4,"total_tokens":7}}"#;
    let raw = || v1::llm_response::Result::Raw(v1::RawBody { dialect: 0, bytes: whole.into() });
    for (asks_for_usage, late) in [(false, false), (true, false), (false, true), (true, true)] {
        let wish = format!(r#""stream_options":{{"include_usage":{asks_for_usage}}},"messages""#);
        let body = BODY.replace(r#""messages""#, &wish);
        let sent = world.send(world.post(CHAT, body).header("idempotency-key", "order-1"));
        let asked = world.asked().await;
        if late {
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
        asked.ends_after(12, raw()).await;
        let response = sent.answer().await;
        assert_eq!(header(&response, "content-type"), "text/event-stream; charset=utf-8");
        let said = rest(response).await;
        assert!(said.contains("Herons wade.") && said.ends_with("\n\ndata: [DONE]\n\n"), "{said}");
        assert_eq!(said.contains("total_tokens"), asks_for_usage, "{said}");
    }
}

#[tokio::test]
async fn the_whole_of_an_answer_whose_pieces_came_is_not_fetched() {
    let mut world = World::start(Options::default()).await;
    let there = world.put("{}").await;
    let gone = world.put("[]").await;
    world.bus.delete_object(&gone).await.unwrap();
    for object in [there.clone(), gone] {
        let (mut asked, response) = begun(&mut world, CHAT).await;
        asked.piece(STOP).await;
        let stored = v1::StoredBody { dialect: 0, object: Some(object.into()) };
        asked.ends(v1::llm_response::Result::Stored(stored)).await;
        let said = rest(response).await;
        assert!(said.ends_with("data: [DONE]\n\n"), "{said}");
    }
    let deleted = || async { matches!(world.bus.get_object(&there, PATIENCE).await, Err(ObjectError::Gone { .. })) };
    eventually(PATIENCE, "nobody can come again for it", deleted).await;
}

#[tokio::test]
async fn facts_stand_in_a_comment_where_they_are_asked_for() {
    let mut world = World::start(Options::default()).await;
    let sent = world.send(world.post(CHAT, BODY).header("farebox-facts", "body"));
    let mut asked = world.asked().await;
    asked.piece("{}").await;
    asked.whole("{}").await;
    let said = rest(sent.answer().await).await;
    let facts =
        said.strip_prefix("data: {}\n\n: farebox ").and_then(|s| s.strip_suffix("\n\ndata: [DONE]\n\n")).unwrap();
    let facts: serde_json::Value = serde_json::from_str(facts).unwrap();
    assert_eq!((&facts["cost_usd"], &facts["chunks"]), (&"0.0000117".into(), &1.into()));
}

#[tokio::test]
async fn a_client_that_goes_in_the_middle_has_its_call_stopped() {
    let mut world = World::start(Options::default()).await;
    let (asked, response) = begun(&mut world, MESSAGES).await;
    drop(response);
    let cancel = world.cancelled().await;
    assert_eq!((cancel.request_id.as_str(), cancel.caller_gone), (asked.id(), true));
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut() {
    let slow = [
        Options { buffer_max: ByteSize(256 * 1024), ..Options::default() },
        Options { write_timeout: Span::from_millis(200), ..Options::default() },
    ];
    for options in slow {
        let mut world = World::start(options).await;
        let mut client = TcpStream::connect(world.addr).await.unwrap();
        let head = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len());
        client.write_all(head.as_bytes()).await.unwrap();
        let mut asked = world.asked().await;
        let piece = format!("{{\"x\":\"{}\"}}", "x".repeat(16 * 1024));
        let cancel = {
            // Until it is too much for the client's and the server's sockets together.
            let flood = async {
                loop {
                    asked.piece(&piece).await;
                    asked.flush().await;
                }
            };
            tokio::select! {
                cancel = world.cancelled() => cancel,
                () = flood => unreachable!("there is always more"),
            }
        };
        assert_eq!((cancel.request_id.as_str(), cancel.caller_gone), (asked.id(), true));
        // What it reads in the end is no whole answer.
        let mut read = Vec::new();
        let ended = timeout(PATIENCE, client.read_to_end(&mut read)).await;
        assert!(ended.is_ok(), "the connection is closed");
        let text = String::from_utf8_lossy(&read);
        assert!(!text.contains("[DONE]") && !text.ends_with("0\r\n\r\n"));
    }
}

#[tokio::test]
async fn a_process_that_ends_tells_its_streams() {
    let options = Options { drain_timeout: Span::from_millis(50), ..Options::default() };
    let mut world = World::start(options).await;
    let (_asked, response) = begun(&mut world, CHAT).await;
    world.trigger.drain();
    let said = rest(response).await;
    assert!(said.contains("is being stopped") && !said.contains("[DONE]"), "{said}");
    world.tasks.finish(Duration::from_secs(10)).await.unwrap();
}
