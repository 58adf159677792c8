use std::time::Duration;

use farebox_emulator::{Fault, Gate, Script, State};

use crate::{chat, chat_stream, emulator, events, eventually, message, post};

/// What came of the body, and whether it came to a proper end.
async fn read(request: reqwest::RequestBuilder, patience: Duration) -> (String, bool) {
    let mut response = request.send().await.unwrap();
    let mut got = Vec::new();
    loop {
        match tokio::time::timeout(patience, response.chunk()).await {
            Ok(Ok(Some(chunk))) => got.extend_from_slice(&chunk),
            Ok(Ok(None)) => return (String::from_utf8(got).unwrap(), true),
            Ok(Err(_)) | Err(_) => return (String::from_utf8(got).unwrap(), false),
        }
    }
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_stream_is_cut_after_a_piece_and_at_a_byte() {
    let emulator = emulator().await;
    emulator.push("m", Script::text("one two three four").chunks(4).fault(Fault::CutAfter(3)));
    let (got, whole) = read(post(&emulator, "/v1/chat/completions", "c", &chat_stream("m")), LONG).await;
    assert!(!whole);
    assert_eq!(events(&got).len(), 3, "what came before the cut arrived: {got}");
    emulator.push("m", Script::text("one two three four").fault(Fault::CutAtByte(700)));
    let (got, whole) = read(post(&emulator, "/v1/messages", "c", &message("m", true)), LONG).await;
    assert_eq!((got.len(), whole), (700, false));
    emulator.push("m", Script::text("one two three four").fault(Fault::CutAtByte(50)));
    let (got, whole) = read(post(&emulator, "/v1/chat/completions", "c", &chat("m")), LONG).await;
    assert_eq!((got.len(), whole), (50, false), "a whole answer is shorter than its content-length");
    let states: Vec<_> = emulator.ledger().entries().iter().map(|e| (e.state, e.billed)).collect();
    assert_eq!(states, [(State::Cut, true); 3]);
}

#[tokio::test]
async fn a_stream_without_its_end_ends_cleanly_for_http() {
    let emulator = emulator().await;
    emulator.script("m", Script::text("one two").fault(Fault::NoTerminal));
    let (got, whole) = read(post(&emulator, "/v1/chat/completions", "c", &chat_stream("m")), LONG).await;
    assert!(whole && !got.contains("[DONE]") && !got.contains("\"stop\""), "{got}");
    let (got, whole) = read(post(&emulator, "/v1/messages", "c", &message("m", true)), LONG).await;
    assert!(whole && !got.contains("message_stop") && !got.contains("message_delta"), "{got}");
}

#[tokio::test]
async fn frames_are_broken_and_errors_reported_in_the_stream() {
    let emulator = emulator().await;
    emulator.push("m", Script::text("one two").fault(Fault::CorruptAt(2)));
    let (got, _) = read(post(&emulator, "/v1/messages", "c", &message("m", true)), LONG).await;
    let bad = got.lines().filter_map(|l| l.strip_prefix("data: "));
    assert_eq!(bad.filter(|d| serde_json::from_str::<serde_json::Value>(d).is_err()).count(), 1, "{got}");
    emulator.push("m", Script::text("one two").fault(Fault::ErrorAfter(3)));
    let (got, whole) = read(post(&emulator, "/v1/messages", "c", &message("m", true)), LONG).await;
    assert!(whole);
    assert_eq!(events(&got).last().unwrap()["error"]["type"], "overloaded_error");
}

#[tokio::test]
async fn it_hangs_before_the_head_before_the_first_token_and_later() {
    let emulator = emulator().await;
    let short = Duration::from_millis(150);
    emulator.push("m", Script::default().fault(Fault::HangBeforeHead));
    let sent = post(&emulator, "/v1/chat/completions", "head", &chat("m")).timeout(short).send().await;
    assert!(sent.unwrap_err().is_timeout());
    for (n, id) in [(0, "first"), (4, "later")] {
        emulator.push("m", Script::text("one two three four").chunks(6).fault(Fault::HangAfter(n)));
        let (got, whole) = read(post(&emulator, "/v1/chat/completions", id, &chat_stream("m")), short).await;
        assert_eq!((events(&got).len(), whole), (n, false));
    }
    let ledger = emulator.ledger();
    eventually("the callers to be gone", || ledger.totals().client_gone == 3).await;
    let billed = |id: &str| ledger.by_call_id(id)[0].billed;
    assert_eq!((billed("head"), billed("first"), billed("later")), (false, false, true));
}

#[tokio::test]
async fn a_held_answer_falls_silent_and_says_the_rest_once_its_gate_is_open() {
    let emulator = emulator().await;
    let short = Duration::from_millis(150);
    let gate = Gate::default();
    let held = |pieces| Script::text("one two three four").chunks(6).hold_after(pieces, &gate);
    emulator.push("m", held(4));
    let (got, whole) = read(post(&emulator, "/v1/chat/completions", "silent", &chat_stream("m")), short).await;
    assert_eq!((events(&got).len(), whole), (4, false));
    emulator.script("m", held(4));
    let opens = async {
        eventually("the second one to be asked", || emulator.ledger().totals().requests == 2).await;
        gate.open();
    };
    let (streamed, ()) =
        tokio::join!(read(post(&emulator, "/v1/chat/completions", "rest", &chat_stream("m")), LONG), opens);
    assert!(streamed.1 && streamed.0.contains("[DONE]"), "{streamed:?}");
    let (got, whole) = read(post(&emulator, "/v1/chat/completions", "whole", &chat("m")), LONG).await;
    assert!(whole && got.contains("one two three four"), "{got}");
}
