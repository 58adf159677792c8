//! HTTP/2 by hand: clients that break its rules, or use them against others.

use std::{net::SocketAddr, time::Duration};

use farebox_testkit::eventually;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use super::{
    Api,
    apart::{Apart, measure},
    wire,
};
use crate::stage::SOON;

/// What hostile clients may leave behind.
const GROWTH_MAX: u64 = 48 << 20;
/// Of each kind at a time.
const CLIENTS: usize = 4;
/// `edge.requests_max` here.
const PLACES: usize = 64;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `GET`, `http`.
const GET: [u8; 2] = [0x82, 0x86];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The path of a request, as HPACK writes one that it does not know.
fn path(path: &str) -> Vec<u8> {
    [&[0x04, u8::try_from(path.len()).expect("a short path")], path.as_bytes()].concat()
}

fn get(stream: u32, flags: u8) -> Vec<u8> {
    frame(HEADERS, flags, stream, &[&GET[..], &path("/v1/models")].concat())
}

/// The numbers of a client's streams.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| number * 2 + 1)
}

fn begun(settings: &[u8], frames: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let settings = frame(SETTINGS, 0, 0, settings);
    [PREFACE.to_vec(), settings].into_iter().chain(frames).flatten().collect()
}

/// What is sent, and what it was called.
fn attacks() -> Vec<(&'static str, Vec<u8>)> {
    let whole = END_HEADERS | END_STREAM;
    let reset = |stream| [get(stream, whole), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat();
    let more = std::iter::repeat_n(frame(CONTINUATION, 0, 1, &path(&"x".repeat(120)).repeat(8)), 4_000);
    // SETTINGS_INITIAL_WINDOW_SIZE: no answer may have a body.
    let no_window = [0, 4, 0, 0, 0, 0];
    vec![
        ("garbage", [PREFACE, &b"\xff\x00garbage".repeat(2_000)].concat()),
        ("a frame too large", [PREFACE, b"\xff\xff\xff\x01\x00\x00\x00\x00\x01"].concat()),
        ("garbage in a frame", begun(&[], [frame(HEADERS, whole, 1, &[0xff; 4_000])])),
        ("headers", begun(&[], streams(5_000).map(|stream| get(stream, END_HEADERS)))),
        ("continuations", begun(&[], [frame(HEADERS, 0, 1, &GET)].into_iter().chain(more))),
        ("resets", begun(&[], streams(5_000).map(reset))),
        ("pings", begun(&[], std::iter::repeat_n(frame(PING, 0, 0, &[7; 8]), 20_000))),
        ("settings", begun(&[], std::iter::repeat_n(frame(SETTINGS, 0, 0, &no_window), 20_000))),
        ("no window", begun(&no_window, streams(100).map(|stream| get(stream, whole)))),
    ]
}

/// Sends all that is taken, and listens so long, if at all. Whether the connection was closed then.
async fn fire(edge: SocketAddr, bytes: &[u8], listens: Option<Duration>) -> (TcpStream, bool) {
    let mut client = TcpStream::connect(edge).await.expect("the edge listens");
    let _left = timeout(Duration::from_secs(3), client.write_all(bytes)).await;
    let mut heard = Vec::new();
    let ended = match listens {
        Some(patience) => timeout(patience, client.read_to_end(&mut heard)).await.is_ok(),
        None => false,
    };
    (client, ended)
}

#[test]
fn whatever_frames_come_others_are_served_and_nothing_grows() {
    measure(Duration::from_secs(90), async {
        let apart = Apart::start(&[&format!("edge.requests_max={PLACES}")]).await;
        let edge = apart.addr;
        let api = Api::Chat;
        let served = async || wire::ask(edge, &api.request(&api.model("plain"), false, Some(20))).await.status() == 200;
        assert!(served().await);
        let before = apart.held();
        for (kind, bytes) in attacks() {
            let is_left = !["pings", "settings", "no window"].contains(&kind);
            let patience = if is_left { SOON } else { Duration::from_secs(1) };
            let mut clients = JoinSet::new();
            for number in 0..CLIENTS {
                let bytes = bytes.clone();
                let listens = (number % 2 == 0).then_some(patience);
                clients.spawn(async move { fire(edge, &bytes, listens).await });
            }
            // While they do it, and while they hold what they have.
            eventually(SOON, &format!("another client is served: {kind}"), served).await;
            let clients = clients.join_all().await;
            eventually(SOON, &format!("another client is served: {kind}"), served).await;
            let closed = clients.iter().filter(|(_, closed)| *closed).count();
            eprintln!("frames: {kind}: {closed} closed, {:?}", apart.held());
            if is_left {
                assert_eq!(closed, CLIENTS / 2, "{kind}: not all who listened were left");
            }
        }
        apart.is_empty_again(before).await;
        let after = apart.held();
        assert!(after.rss <= before.rss + GROWTH_MAX, "{before:?}, {after:?}");
        assert!(after.peak <= before.peak + GROWTH_MAX * 2, "{before:?}, {after:?}");
        assert!(!apart.log().contains("panic"), "{}", apart.log());
    });
}
