//! Many slow streams at once, through an edge of its own.
//!
//! `EDGE_STREAMS` says how many.

use std::{net::SocketAddr, time::Duration};

use farebox_emulator::{Reply, Script, Usage};
use farebox_testkit::eventually;
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    Api,
    apart::{Apart, measure},
    rows,
    wire::{Next, Wire},
};
use crate::stage::SOON;

const STREAMS: usize = 200;
const PACE: Duration = Duration::from_millis(500);
const PIECES: usize = 10;
/// How much longer than its pace a stream may be silent.
const STALL: u32 = 10;
const RSS_MAX: u64 = 300 << 20;
/// What a second wave of as many streams may add for good: twice what a process of this size wavers by.
const GROWTH_MAX: u64 = 24 << 20;

fn streams() -> usize {
    std::env::var("EDGE_STREAMS").map_or(STREAMS, |text| text.parse().expect("EDGE_STREAMS is a number"))
}

/// The text of one stream, its longest silence, and the request's id.
struct Read {
    text: String,
    silence: Duration,
    ended: bool,
    id: String,
}

async fn read(edge: SocketAddr, api: Api) -> Read {
    let mut wire = Wire::connect(edge).await;
    wire.send(&api.request(&api.model("slow"), true, Some(100))).await.expect("it is sent");
    let head = timeout(SOON, wire.head()).await.expect("no silence").expect("an answer");
    let id = head.get("farebox-request-id").expect("an id").to_owned();
    assert_eq!(head.status, 200, "{head:?}");
    let (mut body, mut silence, mut last) = (Vec::new(), Duration::ZERO, Instant::now());
    loop {
        match timeout(SOON, wire.next()).await.expect("no silence") {
            Next::Data(data) => body.extend_from_slice(&data),
            Next::End => break,
            Next::Broken => panic!("cut after {}", String::from_utf8_lossy(&body)),
        }
        silence = silence.max(last.elapsed());
        last = Instant::now();
    }
    let answer = super::wire::Answer { head, body, whole: true };
    let events = answer.events();
    let ended = events.last().is_some_and(|(name, data)| api.is_end(name, data));
    let delta = |data: &str| -> Option<String> {
        let json: Value = serde_json::from_str(data).ok()?;
        let found = match api {
            Api::Chat => &json["choices"][0]["delta"]["content"],
            Api::Responses => &json["delta"],
            Api::Messages => &json["delta"]["text"],
        };
        found.as_str().map(str::to_owned)
    };
    Read { text: events.iter().filter_map(|(_, data)| delta(data)).collect(), silence, ended, id }
}

/// All at once; the ids, and the longest silence.
async fn wave(apart: &Apart, text: &str, streams: usize) -> (Vec<String>, Duration) {
    let mut readers = JoinSet::new();
    for number in 0..streams {
        readers.spawn(read(apart.addr, Api::ALL[number % Api::ALL.len()]));
    }
    let (mut ids, mut longest) = (Vec::new(), Duration::ZERO);
    for read in readers.join_all().await {
        assert_eq!(read.text, text);
        assert!(read.ended, "a stream without its end");
        longest = longest.max(read.silence);
        ids.push(read.id);
    }
    (ids, longest)
}

#[test]
fn slow_streams_all_complete_and_leave_nothing_behind() {
    let streams = streams();
    measure(Duration::from_secs(90 + streams as u64 / 5), async move {
        let apart = Apart::start(&[]).await;
        let text = "ten words that come one after the other, slowly".to_owned();
        for api in Api::ALL {
            let reply = Reply { text: text.clone(), usage: Some(Usage::new(10, 12)), ..Reply::default() };
            let pieces = PIECES - 4;
            apart.stage.emulator.script(api.model("slow"), Script::reply(reply).chunks(pieces).pace(PACE));
        }
        // What a process keeps once it has worked is not what streams hold.
        wave(&apart, &text, 3).await;
        let before = apart.held();
        let (mut ids, first) = wave(&apart, &text, streams).await;
        apart.is_empty_again(before).await;
        let between = apart.held();
        let (more, second) = wave(&apart, &text, streams).await;
        apart.is_empty_again(before).await;
        let after = apart.held();
        ids.extend(more);
        let longest = first.max(second);
        let mb = |bytes: u64| bytes >> 20;
        eprintln!(
            "streams: {streams} at once, twice; longest silence {longest:?}; RSS {} MB before, {} between, {} after, {} at most",
            mb(before.rss),
            mb(between.rss),
            mb(after.rss),
            mb(after.peak),
        );
        assert!(longest <= PACE * STALL, "a stream stood still for {longest:?}");
        assert!(after.peak <= RSS_MAX, "{after:?}");
        assert!(after.rss <= between.rss + GROWTH_MAX, "{between:?}, {after:?}");
        eventually(SOON, "no call is open", || async { apart.stage.emulator.ledger().totals().open == 0 }).await;
        for row in rows(&apart.stage, &ids).await {
            assert_eq!(row.outcome, "ok", "{row:?}");
        }
    });
}
