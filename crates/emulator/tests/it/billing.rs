use std::time::Duration;

use farebox_emulator::{Dialect, Emulator, Entry, Fault, Gate, Options, Reply, Script, State, Totals, Usage};

use crate::{chat, chat_stream, emulator, eventually, message, post, text};

#[tokio::test]
async fn an_answer_is_billed_exactly_as_scripted() {
    let emulator = emulator().await;
    let usage = Usage { cache_read: 100, reasoning: 7, ..Usage::new(20, 30) };
    emulator.script("m", Script::usage(usage));
    text(post(&emulator, "/v1/chat/completions", "whole", &chat("m"))).await;
    text(post(&emulator, "/v1/messages", "stream", &message("m", true))).await;
    let ledger = emulator.ledger();
    eventually("both to be ended", || ledger.totals().open == 0).await;
    for (id, dialect) in [("whole", Dialect::OpenAi), ("stream", Dialect::Anthropic)] {
        let [entry] = &ledger.by_call_id(id)[..] else { panic!("one entry a request") };
        assert_eq!((entry.dialect, entry.state, entry.billed), (dialect, State::Answered, true));
        assert_eq!((entry.prompt_tokens, entry.cache_read_tokens), (120, 100));
        assert_eq!((entry.completion_tokens, entry.reasoning_tokens), (30, 7));
        assert_eq!((&*entry.model, entry.status), ("m", Some(200)));
    }
    let totals = ledger.totals();
    assert_eq!((totals.requests, totals.billed, totals.prompt_tokens, totals.completion_tokens), (2, 2, 240, 60));
    let http = reqwest::get(format!("{}/emulator/ledger?since=1", emulator.base_url())).await.unwrap();
    let entries: Vec<Entry> = serde_json::from_str(&http.text().await.unwrap()).unwrap();
    assert_eq!(entries, ledger.since(1));
    let http = reqwest::get(format!("{}/emulator/totals", emulator.base_url())).await.unwrap();
    assert_eq!(serde_json::from_str::<Totals>(&http.text().await.unwrap()).unwrap(), totals);
}

#[tokio::test]
async fn a_caller_that_leaves_in_the_middle_pays_for_what_was_produced() {
    let emulator = emulator().await;
    let reply = Reply { text: "word ".repeat(100), usage: Some(Usage::new(50, 1000)), ..Reply::default() };
    emulator.push("m", Script::reply(reply).chunks(100).hold_after(50, &Gate::default()));
    let mut response = post(&emulator, "/v1/chat/completions", "gone", &chat_stream("m")).send().await.unwrap();
    for _ in 0..3 {
        assert!(response.chunk().await.unwrap().is_some());
    }
    drop(response);
    let ledger = emulator.ledger();
    eventually("the caller to be gone", || ledger.totals().client_gone == 1).await;
    let [entry] = &ledger.by_call_id("gone")[..] else { panic!("one entry") };
    assert_eq!((entry.state, entry.billed, entry.prompt_tokens), (State::ClientGone, true, 50));
    assert!((10..1000).contains(&entry.completion_tokens), "{entry:?}");
    assert_eq!(ledger.totals().completion_tokens, entry.completion_tokens);
}

#[tokio::test]
async fn what_is_produced_ahead_of_what_is_sent_is_billed_up_to_the_whole() {
    let emulator = emulator().await;
    let reply = Reply { text: "word ".repeat(100), usage: Some(Usage::new(50, 1000)), ..Reply::default() };
    let script = Script::reply(reply).chunks(100).ahead(200);
    // Two of a hundred pieces, behind one that says nothing.
    emulator.push("m", script.clone().fault(Fault::HangAfter(3)));
    emulator.push("m", script);
    let ledger = emulator.ledger();
    let billed = |id: &str| ledger.by_call_id(id)[0].completion_tokens;
    let _silent = post(&emulator, "/v1/chat/completions", "part", &chat_stream("m")).send().await.unwrap();
    eventually("the part to be billed", || billed("part") == 220).await;
    text(post(&emulator, "/v1/chat/completions", "whole", &chat_stream("m"))).await;
    assert_eq!(billed("whole"), 1000);
}

#[tokio::test]
async fn a_caller_that_leaves_before_any_output_pays_nothing_unless_arrival_is_billed() {
    let emulator = emulator().await;
    let slow = Script::usage(Usage::new(9, 5)).delay(Duration::from_secs(600));
    emulator.push("m", slow.clone());
    emulator.push("m", slow.bill_on_arrival());
    let ledger = emulator.ledger();
    for (n, id) in [(1, "free"), (2, "billed")] {
        let request = post(&emulator, "/v1/messages", id, &message("m", false));
        tokio::select! {
            answer = request.send() => panic!("{answer:?}"),
            () = eventually("it to be asked", || ledger.totals().requests == n) => {}
        }
    }
    eventually("both to be gone", || ledger.totals().client_gone == 2).await;
    let bill = |id: &str| ledger.by_call_id(id).iter().map(|e| (e.prompt_tokens, e.completion_tokens)).next();
    assert_eq!((bill("free"), bill("billed")), (Some((0, 0)), Some((9, 5))));
}

#[tokio::test]
async fn a_stream_that_used_no_output_tokens_is_billed_for_its_prompt() {
    let emulator = emulator().await;
    emulator.script("m", Script::usage(Usage::new(11, 0)));
    text(post(&emulator, "/v1/chat/completions", "a", &chat_stream("m"))).await;
    text(post(&emulator, "/v1/messages", "b", &message("m", true))).await;
    let ledger = emulator.ledger();
    eventually("both to be ended", || ledger.totals().answered == 2).await;
    assert_eq!((ledger.totals().billed, ledger.totals().prompt_tokens), (2, 22));
}

#[tokio::test]
async fn totals_stay_exact_when_entries_are_bounded() {
    let emulator = Emulator::start(Options { ledger_entries: 2, ..Options::default() }).await.unwrap();
    emulator.script("m", Script::usage(Usage::new(3, 4)));
    for i in 0..5 {
        text(post(&emulator, "/v1/chat/completions", &format!("c{i}"), &chat("m"))).await;
    }
    let ledger = emulator.ledger();
    let totals = ledger.totals();
    assert_eq!((totals.requests, totals.answered, totals.prompt_tokens, totals.completion_tokens), (5, 5, 15, 20));
    assert_eq!(ledger.entries().iter().map(|e| e.seq).collect::<Vec<_>>(), [3, 4]);
}

#[tokio::test]
async fn pushed_scripts_come_once_and_before_the_sticky_one() {
    let emulator = emulator().await;
    emulator.script("*", Script::text("always"));
    emulator.push("m", Script::text("once"));
    let mut got = Vec::new();
    for _ in 0..2 {
        let body = text(post(&emulator, "/v1/chat/completions", "c", &chat("m"))).await.2;
        got.push(crate::parse(&body)["choices"][0]["message"]["content"].as_str().unwrap().to_owned());
    }
    assert_eq!(got, ["once", "always"]);
}

#[tokio::test]
async fn a_stopped_emulator_is_gone() {
    let emulator = emulator().await;
    let addr = emulator.addr();
    emulator.stop().await;
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}
