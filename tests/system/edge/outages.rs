//! Parts of farebox that die or stand still, as callers over HTTP see it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use farebox_emulator::Script;
use farebox_testkit::{PATIENCE, eventually};
use rustix::process::Signal;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    Api,
    wire::{self, Answer, Wire},
};
use crate::{books::ledgers_match, cluster::Cluster};

/// The guard's lease is 6 s: after that the callers of a dead worker are told.
const TOLD_WITHIN: Duration = Duration::from_secs(15);
/// `edge.bus_patience`.
const BUS_PATIENCE: Duration = Duration::from_secs(5);
/// "At once" on a busy machine: sooner than anybody waits for the bus.
const AT_ONCE: Duration = Duration::from_secs(4);

const SHAPES: [(Api, &str); 2] = [(Api::Chat, "tokens"), (Api::Messages, "claude")];

/// How many parts of a running answer have come.
type Seen = Arc<AtomicUsize>;

async fn ask(edge: SocketAddr, api: Api, model: &str, stream: bool, headers: &[(&str, &str)]) -> (Answer, Duration) {
    ask_seen(edge, api, model, stream, headers, Seen::default()).await
}

async fn ask_seen(
    edge: SocketAddr,
    api: Api,
    model: &str,
    stream: bool,
    headers: &[(&str, &str)],
    seen: Seen,
) -> (Answer, Duration) {
    let began = Instant::now();
    let asking = async {
        let mut wire = begun(edge, api, model, stream, headers).await;
        let head = wire.head().await.expect("an answer");
        let count = || {
            seen.fetch_add(1, Ordering::Relaxed);
        };
        wire.rest_seen(head, count).await
    };
    let answer = timeout(PATIENCE, asking).await.expect("no silence");
    (answer, began.elapsed())
}

async fn begun(edge: SocketAddr, api: Api, model: &str, stream: bool, headers: &[(&str, &str)]) -> Wire {
    let body = api.body(model, stream, Some(100)).to_string();
    let mut wire = Wire::connect(edge).await;
    wire.send(&wire::post(api.path(), headers, body.as_bytes())).await.expect("it is sent");
    wire
}

/// In the caller's own form, with when to come again: 503 in OpenAI's, 529 in Anthropic's.
async fn is_told_to_come_again(edge: SocketAddr, within: Duration, why: &str) {
    for (api, model) in SHAPES {
        for stream in [false, true] {
            let (answer, took) = ask(edge, api, model, stream, &[]).await;
            let said = answer.text();
            let status = if api == Api::Messages { 529 } else { 503 };
            assert_eq!((answer.status(), answer.get("farebox-error")), (status, Some("unavailable")), "{why}: {said}");
            let after: u64 =
                answer.get("retry-after").and_then(|after| after.parse().ok()).expect("when to come again");
            assert!((1..60).contains(&after), "{why}: {answer:?}");
            assert!(!api.error(&answer.json()).1.is_empty(), "{why}: {said}");
            assert!(took <= within, "{why}: told after {took:?}: {said}");
        }
    }
}

async fn answers_again(edge: SocketAddr, why: &str) {
    let answered = || async {
        let (answer, _) = ask(edge, Api::Chat, "tokens", true, &[]).await;
        answer.status() == 200 && answer.text().ends_with("data: [DONE]\n\n")
    };
    eventually(PATIENCE, &format!("calls are answered after {why}"), answered).await;
}

/// Whole and streamed calls that are out when the worker dies.
async fn dies_in_the_middle(cluster: &Cluster, edge: SocketAddr) {
    let script = Script::default().bill_on_arrival();
    cluster.emulator.script("m-tokens", script.clone().delay(Duration::from_secs(60)));
    cluster.emulator.script("m-claude", script.pace(Duration::from_millis(300)).chunks(200));
    let (mut callers, mut streams) = (JoinSet::new(), Vec::new());
    for number in 0..12 {
        let stream = number % 2 == 1;
        let (api, model) = SHAPES[usize::from(stream)];
        let seen = Seen::default();
        streams.extend(stream.then(|| seen.clone()));
        callers.spawn(async move { (api, stream, ask_seen(edge, api, model, stream, &[], seen).await) });
    }
    eventually(PATIENCE, "12 calls are out", || async { cluster.emulator.ledger().totals().open == 12 }).await;
    let all_seen = || async { streams.iter().all(|seen| seen.load(Ordering::Relaxed) >= 3) };
    eventually(PATIENCE, "some of each stream has come", all_seen).await;
    cluster.kill9("worker.1").await;
    let killed = Instant::now();
    for (api, stream, (answer, _)) in callers.join_all().await {
        let said = answer.text();
        if stream {
            let events = answer.events();
            assert_eq!(answer.status(), 200, "{said}");
            assert!(!events.iter().any(|(name, data)| api.is_end(name, data)), "sold as a whole answer: {said}");
            let error = api.broken_by(&events).unwrap_or_else(|| panic!("ends without an error: {said}"));
            assert!(!api.error(&error).1.is_empty(), "{said}");
        } else {
            assert_eq!((answer.status(), answer.get("farebox-error")), (502, Some("lost")), "{said}");
            assert_eq!(answer.get("farebox-request-id").is_some(), answer.whole, "{answer:?}");
        }
    }
    let took = killed.elapsed();
    assert!(took < TOLD_WITHIN, "told only {took:?} after the kill");
    cluster.emulator.clear();
    cluster.start_role("worker.2").await.expect("it starts");
    cluster.ready("worker.2").await;
    answers_again(edge, "the kill of the worker").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_dies_in_farebox_callers_over_http_are_told() {
    let builder = Cluster::builder().with("edge.1").set("intake.guard_deadline", "3s");
    let cluster = builder.start().await.expect("farebox starts");
    let edge = cluster.edge;
    answers_again(edge, "the start").await;
    dies_in_the_middle(&cluster, edge).await;

    cluster.sigstop("guard.1");
    leave_unadmitted(edge).await;
    is_told_to_come_again(edge, Duration::from_secs(3) + AT_ONCE, "the guard stands still").await;
    cluster.sigcont("guard.1");
    answers_again(edge, "the guard stood still").await;

    cluster.kill9("intake.1").await;
    // What the server hands to a connection before it notices its end waits for an answer that nobody makes.
    let missed = || async {
        let said = wire::ask(edge, &wire::get("/ready", &[])).await.json();
        said["parts"]["intake"]["reason"].as_str().is_some_and(|why| why.contains("nobody listens"))
    };
    eventually(PATIENCE, "the intake is missed", missed).await;
    is_told_to_come_again(edge, AT_ONCE, "there is no intake").await;
    cluster.start_role("intake.2").await.expect("it starts");
    cluster.ready("intake.2").await;
    answers_again(edge, "the kill of intake").await;

    // It stands still, and nobody can know: the caller's own time counts.
    cluster.signal_server("nats-server", Signal::STOP);
    let (answer, took) = ask(edge, Api::Messages, "claude", false, &[("farebox-timeout", "2")]).await;
    assert!([529, 504].contains(&answer.status()), "{}", answer.text());
    assert!(took < Duration::from_secs(5) + AT_ONCE, "told after {took:?}: {}", answer.text());
    cluster.signal_server("nats-server", Signal::CONT);
    answers_again(edge, "NATS stood still").await;

    cluster.emulator.push("m-tokens", Script::text("asked before").delay(BUS_PATIENCE * 2));
    let kept = [("idempotency-key", "asked-before-nats-died")];
    let mut waiting = JoinSet::new();
    waiting.spawn(async move { ask(edge, Api::Chat, "tokens", false, &kept).await.0 });
    eventually(PATIENCE, "a call is out", || async { cluster.emulator.ledger().totals().open == 1 }).await;
    cluster.kill9_servers().await;
    // A request that was handed to the connection before its end was noticed waits as one that was out.
    is_told_to_come_again(edge, BUS_PATIENCE + AT_ONCE, "NATS was killed").await;
    is_told_to_come_again(edge, AT_ONCE, "NATS is gone").await;
    let told = waiting.join_all().await.remove(0);
    assert_eq!((told.status(), told.get("farebox-error")), (503, Some("unavailable")), "{}", told.text());
    cluster.start_servers().await.expect("they start");
    // ClickHouse went along, and listens elsewhere now.
    cluster.restart("accounting.1").await.expect("it starts");
    answers_again(edge, "NATS was gone").await;
    let (found, _) = ask(edge, Api::Chat, "tokens", false, &kept).await;
    assert!(found.status() == 200 && found.text().contains("asked before"), "{}", found.text());

    let matched = ledgers_match(&cluster).await;
    // A reservation that was left behind would have been lost, too.
    assert_eq!(matched.lost, 12, "{matched:?}");
    assert_eq!(asked(&cluster, "m-flat"), 0, "called for who had gone");
}

/// Callers that go while nobody can admit their calls.
async fn leave_unadmitted(edge: SocketAddr) {
    for stream in [false, true] {
        let mut wire = begun(edge, Api::Chat, "flat", stream, &[]).await;
        timeout(Duration::from_millis(300), wire.head()).await.expect_err("nothing is admitted");
    }
}

/// How often the provider was asked for a model.
fn asked(cluster: &Cluster, model: &str) -> usize {
    cluster.emulator.ledger().entries().iter().filter(|entry| *entry.model == *model).count()
}

/// NATS is killed while answers are made, and `edge.bus_patience` has not passed when it is back: what was said in between
/// reached nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_made_while_nats_is_killed_and_started_again_comes_or_is_said_to_be_lost() {
    const WHOLE: u32 = 12;
    const STREAMS: usize = 4;
    // Long after it is back.
    const LAST: Duration = Duration::from_secs(9);
    let builder = Cluster::builder().with("edge.1").set("intake.guard_deadline", "3s");
    let cluster = builder.set("edge.bus_patience", "8s").start().await.expect("farebox starts");
    let edge = cluster.edge;
    answers_again(edge, "the start").await;
    let before = asked(&cluster, "m-tokens");
    for number in 1..=WHOLE {
        cluster.emulator.push("m-tokens", Script::text("made").delay(LAST * (number + 4) / (WHOLE + 4)));
    }
    cluster.emulator.script("m-claude", Script::default().pace(LAST / 30).chunks(30));
    let mut callers = JoinSet::new();
    for _ in 0..WHOLE {
        callers.spawn(async move { (false, ask(edge, Api::Chat, "tokens", false, &[]).await) });
    }
    for _ in 0..STREAMS {
        callers.spawn(async move { (true, ask(edge, Api::Messages, "claude", true, &[]).await) });
    }
    let all =
        || async { asked(&cluster, "m-tokens") + asked(&cluster, "m-claude") == before + WHOLE as usize + STREAMS };
    eventually(PATIENCE, "all are out", all).await;
    cluster.signal_server("nats-server", Signal::KILL);
    let (mut answered, mut lost) = (0, 0);
    for (stream, (answer, took)) in callers.join_all().await {
        let said = answer.text();
        assert!(took < Duration::from_secs(30), "told after {took:?}: {said}");
        match (answer.status(), stream) {
            (200, false) => {
                assert!(answer.whole && said.contains("made"), "{said}");
                answered += 1;
            }
            (200, true) => {
                let events = answer.events();
                let whole = events.iter().any(|(name, data)| Api::Messages.is_end(name, data));
                assert_ne!(whole, Api::Messages.broken_by(&events).is_some(), "{said}");
                answered += usize::from(whole);
                lost += usize::from(!whole);
            }
            (status, stream) => {
                // What has not begun has a status: of a stream, the first piece or all of them may have been lost.
                let kinds: &[_] = if stream { &["truncated", "lost"] } else { &["lost"] };
                let kind = answer.get("farebox-error").expect("an error has a kind");
                assert!(status == 502 && kinds.contains(&kind), "{status} {kind}: {said}");
                lost += 1;
            }
        }
    }
    eprintln!("NATS was killed: {answered} answered, {lost} lost");
    assert!(answered >= 4, "only {answered} were answered, {lost} lost");
    assert_eq!(asked(&cluster, "m-tokens") - before, WHOLE as usize, "asked twice");
    assert_eq!(asked(&cluster, "m-claude"), STREAMS, "asked twice");
    let matched = ledgers_match(&cluster).await;
    assert_eq!(matched.lost, 0, "{matched:?}");
}
