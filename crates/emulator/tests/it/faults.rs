use std::time::Duration;

use farebox_emulator::{Fault, Gate, Script, State};

use crate::{chat, chat_stream, emulator, events, eventually, message, post};

/// What came of the body, and whether it came to a proper end.
async fn read(request: reqwest::RequestBuilder) -> (String, bool) {
    let mut response = request.send().await.unwrap();
    let mut got = Vec::new();
    loop {
        match tokio::time::timeout(LONG, response.chunk()).await {
            Ok(Ok(Some(chunk))) => got.extend_from_slice(&chunk),
            Ok(Ok(None)) => return (String::from_utf8(got).unwrap(), true),
            Ok(Err(_)) | Err(_) => return (String::from_utf8(got).unwrap(), false),
        }
    }
}

const LONG: Duration = Duration::from_secs(20);
/// How long nothing is said where nothing more is to come.
const SILENCE: Duration = Duration::from_millis(150);

/// Reads a stream until so many events have come, and then silence; the caller leaves.
async fn falls_silent(request: reqwest::RequestBuilder, after: usize) {
    let mut response = tokio::time::timeout(LONG, request.send()).await.unwrap().unwrap();
    let mut got = Vec::new();
    let seen = |got: &[u8]| events(&String::from_utf8_lossy(got)).len();
    while seen(&got) < after {
        got.extend(tokio::time::timeout(LONG, response.chunk()).await.unwrap().unwrap().expect("it goes on"));
    }
    let more = tokio::time::timeout(SILENCE, response.chunk()).await;
    assert!(more.is_err() && seen(&got) == after, "{more:?} after {}", String::from_utf8_lossy(&got));
}

#[tokio::test]
async fn a_stream_is_cut_after_a_piece_and_at_a_byte() {
    let emulator = emulator().await;
    emulator.push("m", Script::text("one two three four").chunks(4).fault(Fault::CutAfter(3)));
    let (got, whole) = read(post(&emulator, "/v1/chat/completions", "c", &chat_stream("m"))).await;
    assert!(!whole);
    assert_eq!(events(&got).len(), 3, "what came before the cut arrived: {got}");
    emulator.push("m", Script::text("one two three four").fault(Fault::CutAtByte(700)));
    let (got, whole) = read(post(&emulator, "/v1/messages", "c", &message("m", true))).await;
    assert_eq!((got.len(), whole), (700, false));
    emulator.push("m", Script::text("one two three four").fault(Fault::CutAtByte(50)));
    let (got, whole) = read(post(&emulator, "/v1/chat/completions", "c", &chat("m"))).await;
    assert_eq!((got.len(), whole), (50, false), "a whole answer is shorter than its content-length");
    let states: Vec<_> = emulator.ledger().entries().iter().map(|e| (e.state, e.billed)).collect();
    assert_eq!(states, [(State::Cut, true); 3]);
}

#[tokio::test]
async fn a_stream_without_its_end_ends_cleanly_for_http() {
    let emulator = emulator().await;
    emulator.script("m", Script::text("one two").fault(Fault::NoTerminal));
    let (got, whole) = read(post(&emulator, "/v1/chat/completions", "c", &chat_stream("m"))).await;
    assert!(whole && !got.contains("[DONE]") && !got.contains("\"stop\""), "{got}");
    let (got, whole) = read(post(&emulator, "/v1/messages", "c", &message("m", true))).await;
    assert!(whole && !got.contains("message_stop") && !got.contains("message_delta"), "{got}");
}

#[tokio::test]
async fn frames_are_broken_and_errors_reported_in_the_stream() {
    let emulator = emulator().await;
    emulator.push("m", Script::text("one two").fault(Fault::CorruptAt(2)));
    let (got, _) = read(post(&emulator, "/v1/messages", "c", &message("m", true))).await;
    let bad = got.lines().filter_map(|l| l.strip_prefix("data: "));
    assert_eq!(bad.filter(|d| serde_json::from_str::<serde_json::Value>(d).is_err()).count(), 1, "{got}");
    emulator.push("m", Script::text("one two").fault(Fault::ErrorAfter(3)));
    let (got, whole) = read(post(&emulator, "/v1/messages", "c", &message("m", true))).await;
    assert!(whole);
    assert_eq!(events(&got).last().unwrap()["error"]["type"], "overloaded_error");
}

#[tokio::test]
async fn it_hangs_before_the_head_before_the_first_token_and_later() {
    let emulator = emulator().await;
    let ledger = emulator.ledger();
    emulator.push("m", Script::default().fault(Fault::HangBeforeHead));
    let asked = async {
        eventually("it to be asked", || ledger.totals().requests == 1).await;
        tokio::time::sleep(SILENCE).await;
    };
    tokio::select! {
        answer = post(&emulator, "/v1/chat/completions", "head", &chat("m")).send() => panic!("{answer:?}"),
        () = asked => {}
    }
    for (n, id) in [(0, "first"), (4, "later")] {
        emulator.push("m", Script::text("one two three four").chunks(6).fault(Fault::HangAfter(n)));
        falls_silent(post(&emulator, "/v1/chat/completions", id, &chat_stream("m")), n).await;
    }
    eventually("the callers to be gone", || ledger.totals().client_gone == 3).await;
    let billed = |id: &str| ledger.by_call_id(id)[0].billed;
    assert_eq!((billed("head"), billed("first"), billed("later")), (false, false, true));
}

#[tokio::test]
async fn a_held_answer_falls_silent_and_says_the_rest_once_its_gate_is_open() {
    let emulator = emulator().await;
    let gate = Gate::default();
    let held = |pieces| Script::text("one two three four").chunks(6).hold_after(pieces, &gate);
    emulator.push("m", held(4));
    falls_silent(post(&emulator, "/v1/chat/completions", "silent", &chat_stream("m")), 4).await;
    emulator.script("m", held(4));
    let opens = async {
        eventually("the second one to be asked", || emulator.ledger().totals().requests == 2).await;
        gate.open();
    };
    let (streamed, ()) = tokio::join!(read(post(&emulator, "/v1/chat/completions", "rest", &chat_stream("m"))), opens);
    assert!(streamed.1 && streamed.0.contains("[DONE]"), "{streamed:?}");
    let (got, whole) = read(post(&emulator, "/v1/chat/completions", "whole", &chat("m"))).await;
    assert!(whole && got.contains("one two three four"), "{got}");
}
