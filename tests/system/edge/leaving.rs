//! Clients that go, and clients that do not read.

use std::time::Duration;

use farebox_emulator::{Entry, Reply, Script, State, Usage};
use farebox_testkit::{PATIENCE, eventually};
use farebox_types::Money;
use tokio::{task::JoinSet, time::timeout};

use super::{
    Api, asked, http, rows, shared,
    wire::{Next, Wire},
};
use crate::stage::{SOON, Stage, play};

/// Within what time a provider is left by whose caller has gone: a second, and as much for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);

/// How the provider saw the one call of a model end.
fn ended(stage: &Stage, model: &str) -> Option<Entry> {
    let mut entries = stage.emulator.ledger().entries();
    entries.retain(|entry| &*entry.model == model);
    assert!(entries.len() <= 1, "{entries:?}");
    entries.pop().filter(|entry| entry.state != State::Open)
}

async fn left_within(stage: &Stage, model: &str, patience: Duration) {
    let what = format!("the provider of {model} is left");
    eventually(patience, &what, || async { ended(stage, model).is_some() }).await;
    assert_eq!(ended(stage, model).map(|entry| entry.state), Some(State::ClientGone), "{model}");
}

/// The one row of a model, whose request's id its caller never heard.
async fn row(stage: &Stage, model: &str) -> farebox_testkit::Row {
    let sql = format!("SELECT request_id FROM farebox.calls WHERE model = '{model}' FORMAT TSV");
    let known = || async { !stage.clickhouse(&sql).await.trim().is_empty() };
    eventually(SOON, &format!("a row of {model}"), known).await;
    let id = stage.clickhouse(&sql).await.trim().to_owned();
    rows(stage, &[id]).await.remove(0)
}

async fn begun(stage: &Stage, request: &[u8]) -> Wire {
    let mut wire = Wire::connect(http(stage)).await;
    wire.send(request).await.expect("it is sent");
    wire
}

#[test]
fn a_client_that_goes_stops_its_call_and_pays_what_was_used() {
    play(async {
        let stage = shared().await;
        for api in Api::ALL {
            // Before there is an answer.
            let model = api.model("leaves");
            stage.emulator.script(&model, Script::default().bill_on_arrival().delay(Duration::from_secs(60)));
            let wire = begun(stage, &api.request(&model, false, None)).await;
            asked(stage, &model).await;
            drop(wire);
            left_within(stage, &model, AT_ONCE).await;
            // In the middle of a stream.
            let model = api.model("leaves-stream");
            stage.emulator.script(&model, Script::default().pace(Duration::from_millis(150)).chunks(200));
            let mut wire = begun(stage, &api.request(&model, true, None)).await;
            let head = timeout(SOON, wire.head()).await.expect("no silence").expect("an answer");
            assert_eq!(head.status, 200);
            let mut heard = Vec::new();
            for _ in 0..5 {
                heard.push(timeout(SOON, wire.next()).await.expect("no silence"));
                assert!(matches!(heard.last(), Some(Next::Data(_))), "{model}: {heard:?}");
            }
            drop(wire);
            left_within(stage, &model, AT_ONCE).await;
        }
        for model in Api::ALL.iter().flat_map(|api| [api.model("leaves"), api.model("leaves-stream")]) {
            let row = row(stage, &model).await;
            assert_eq!((row.outcome.as_str(), row.estimated), ("cancelled", true), "{row:?}");
            assert!(Money::ZERO < row.cost && row.cost <= row.bound, "{row:?}");
        }
    });
}

/// `worker.drain_up_to` of the stage is 0.001: what costs less at most is read to its end.
#[test]
fn a_cheap_call_whose_client_goes_is_read_to_its_end() {
    play(async {
        let stage = shared().await;
        for (name, stream) in [("cheap", false), ("cheap-stream", true)] {
            for api in Api::ALL {
                let model = api.model(name);
                let script = Script::default().bill_on_arrival();
                let wait = Duration::from_millis(700);
                let script = if stream { script.pace(wait / 10) } else { script.delay(wait) };
                stage.emulator.script(&model, script);
                let wire = begun(stage, &api.request(&model, stream, Some(50))).await;
                asked(stage, &model).await;
                drop(wire);
                eventually(SOON, "it ends", || async { ended(stage, &model).is_some() }).await;
                assert_eq!(ended(stage, &model).map(|entry| entry.state), Some(State::Answered), "{model}");
                let row = row(stage, &model).await;
                assert!(!row.estimated && row.cost > Money::ZERO, "{row:?}");
            }
        }
    });
}

/// Reads its answer's head, then nothing more, until the provider is left, which has not said all.
async fn reads_no_more(stage: &Stage, api: Api, name: &str, script: Script) {
    let model = api.model(name);
    stage.emulator.script(&model, script);
    let mut wire = Wire::narrow(http(stage)).await;
    wire.send(&api.request(&model, true, None)).await.expect("it is sent");
    let head = wire.head().await.expect("an answer");
    assert_eq!(head.status, 200);
    // What the system keeps for a connection fills in some 6 s where a machine is not busy.
    left_within(stage, &model, PATIENCE).await;
    // What was on its way may still arrive, an end that looks like one may not.
    let rest = timeout(SOON, wire.rest(head)).await.expect("the connection is closed");
    assert!(!rest.whole, "{model}: the answer ended as if it were whole");
    assert_eq!(row(stage, &model).await.outcome, "cancelled");
    let why = format!("SELECT error_kind FROM farebox.calls WHERE model = '{model}' FORMAT TSV");
    assert_eq!(stage.clickhouse(&why).await.trim(), "cancelled");
}

#[test]
fn a_client_that_reads_too_slowly_is_cut_at_the_limit() {
    play(async {
        let stage = shared().await;
        // More than the system keeps for a connection, in pieces of 16 KiB.
        let text = "slowly, ".repeat(1 << 20);
        let much = Script::reply(Reply { text, usage: Some(Usage::new(10, 5_000)), ..Reply::default() }).chunks(512);
        let mut readers = JoinSet::new();
        for api in Api::ALL {
            // Faster than `edge.buffer_max` can hold: cut when it is full.
            let fast = much.clone().pace(Duration::from_millis(4));
            readers.spawn(reads_no_more(stage, api, "flooded", fast));
            // Cut when nothing was taken for `edge.write_timeout`, before it is full. Large pieces: a busy machine is late with each.
            let steady = much.clone().chunks(51).pace(Duration::from_millis(200));
            readers.spawn(reads_no_more(stage, api, "slow-reader", steady));
        }
        readers.join_all().await;
    });
}
