//! Requests that no honest client sends, drawn from a seed: bodies, headers, encodings, sizes, framing, methods, paths.
//!
//! `EDGE_MALFORMED` says how many, `EDGE_SEED` repeats a run. Whatever comes, the answer is a 2xx (some of what is odd is
//! not wrong), a 4xx, or one of [`DEFINED`]; or the connection is closed, where what came is no HTTP.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use farebox_testkit::Dice;
use tokio::time::{Instant, timeout};

use super::{
    Api,
    apart::{Apart, measure},
    wire::{self, Wire},
};

const REQUESTS: usize = 600;
const SEED: u64 = 6;
/// At a time.
const SENDERS: usize = 16;
/// What a client hears of a fault that is not its own: none of its requests causes one here. 503 is said while too many
/// requests are under way.
const DEFINED: [u16; 1] = [503];
/// What thousands of requests may leave behind.
const GROWTH_MAX: u64 = 48 << 20;
/// The edge's own limits here (`SETS`), and a busy machine.
const PATIENCE: Duration = Duration::from_secs(12);

const BODY_MAX: usize = 1 << 20;
const SETS: [&str; 4] =
    ["edge.body_max=1MiB", "edge.headers_max=16KiB", "edge.headers_timeout=1s", "edge.body_timeout=1s"];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// What is sent, and what it was called.
struct Shot {
    kind: &'static str,
    bytes: Vec<u8>,
}

/// A way to be wrong.
type Way = fn(&mut Dice) -> Vec<u8>;

const WAYS: [(&str, Way); 10] = [
    ("body bytes", body_bytes),
    ("body members", body_members),
    ("headers", headers),
    ("farebox headers", farebox_headers),
    ("encodings", encodings),
    ("sizes", sizes),
    ("smuggling", smuggling),
    ("methods and paths", methods_and_paths),
    ("no HTTP", no_http),
    ("half a request", half),
];

impl Shot {
    fn draw(dice: &mut Dice) -> Shot {
        let (kind, way) = dice.of(&WAYS);
        Shot { kind, bytes: way(dice) }
    }

    /// The status that it is answered with; none if the connection was closed.
    async fn fire(&self, edge: SocketAddr) -> Option<u16> {
        let mut wire = Wire::connect(edge).await;
        // Who closes early does not hear the rest.
        let _early = timeout(PATIENCE, wire.send(&self.bytes)).await;
        let head = timeout(PATIENCE, wire.head()).await;
        head.unwrap_or_else(|_| panic!("silence after {} ({})", self.shown(), self.kind)).map(|head| head.status)
    }

    fn shown(&self) -> String {
        let start = &self.bytes[..self.bytes.len().min(400)];
        start.escape_ascii().to_string()
    }
}

fn below(dice: &mut Dice, bound: usize) -> usize {
    usize::try_from(dice.roll() % bound.max(1) as u64).unwrap_or_default()
}

fn junk(dice: &mut Dice, length: usize) -> Vec<u8> {
    (0..length).map(|_| (dice.roll() >> 24) as u8).collect()
}

fn good(dice: &mut Dice) -> (Api, String) {
    let api = dice.of(&Api::ALL);
    let mut body = api.body(&api.model("malformed"), dice.once_in(3), Some(20));
    if dice.once_in(4) {
        body["tools"] = serde_json::json!([{ "type": "function", "function": { "name": "f", "parameters": {} } }]);
    }
    (api, body.to_string())
}

fn body_bytes(dice: &mut Dice) -> Vec<u8> {
    let (api, body) = good(dice);
    let mut body = body.into_bytes();
    for _ in 0..=below(dice, 3) {
        let at = below(dice, body.len());
        match below(dice, 8) {
            0 => body.truncate(at),
            1 => body[at..].iter_mut().take(1).for_each(|byte| *byte ^= 0x20),
            2 => body.splice(at..at, junk(&mut dice.clone(), 7)).for_each(drop),
            3 => body.extend_from_slice(b"{}"),
            4 => body.splice(at..at, *b"\xff\xfe\x00").for_each(drop),
            5 => body.splice(0..0, *b"\xef\xbb\xbf").for_each(drop),
            6 => body.splice(at..at, "[".repeat(20_000).into_bytes()).for_each(drop),
            _ => body = [b"[".as_slice(), &body, b"]"].concat(),
        }
        if body.is_empty() {
            break;
        }
    }
    wire::post(api.path(), &[], &body)
}

fn body_members(dice: &mut Dice) -> Vec<u8> {
    const VALUES: [&str; 22] = [
        "null",
        "true",
        "0",
        "-1",
        "1e999",
        "123456789012345678901234567890",
        "0.1e-9",
        "\"\"",
        "\"\\ud800\"",
        "\"\\u0000\"",
        "[]",
        "{}",
        "[null]",
        "[[[[]]]]",
        "[{}]",
        "{\"\":{}}",
        "\"task:\"",
        "\"agent:nobody\"",
        "\"fb-x\"",
        "[{\"role\":\"user\",\"content\":null}]",
        "[{\"role\":7,\"content\":[{\"type\":9}]}]",
        "[{\"role\":\"tool\",\"tool_call_id\":[],\"content\":{\"type\":\"image\"}}]",
    ];
    const MEMBERS: [&str; 16] = [
        "model",
        "messages",
        "input",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "tools",
        "tool_choice",
        "metadata",
        "user",
        "farebox",
        "system",
        "response_format",
        "previous_response_id",
    ];
    let (api, body) = good(dice);
    let mut members = String::new();
    for _ in 0..=below(dice, 3) {
        members.push_str(&format!("\"{}\":{},", dice.of(&MEMBERS), dice.of(&VALUES)));
    }
    let body = if dice.once_in(4) {
        // Alone: most of what a request needs is missing.
        format!("{{{}}}", members.trim_end_matches(','))
    } else {
        body.replacen('{', &format!("{{{members}"), 1)
    };
    let path = if dice.once_in(4) {
        dice.of(&["/v1/embeddings", "/v1/rerank", "/v1/messages/count_tokens", "/v1/completions"])
    } else {
        api.path()
    };
    wire::post(path, &[], body.as_bytes())
}

/// A request whose head has these lines, with an empty object as its body.
fn with_lines(lines: &[u8]) -> Vec<u8> {
    [b"POST /v1/messages HTTP/1.1\r\nhost: farebox\r\ncontent-length: 2\r\n".as_slice(), lines, b"\r\n{}"].concat()
}

fn headers(dice: &mut Dice) -> Vec<u8> {
    let size = below(dice, 40_000);
    with_lines(&match below(dice, 12) {
        0 => [b"x-junk: ".as_slice(), &junk(dice, 40), b"\r\n"].concat(),
        1 => format!("x-long: {}\r\n", "a".repeat(size)).into_bytes(),
        2 => "x-many: 1\r\n".repeat(below(dice, 400)).into_bytes(),
        3 => b"no colon here\r\n".to_vec(),
        4 => b"x-folded: a\r\n b\r\n".to_vec(),
        5 => b"x spaced: a\r\n".to_vec(),
        6 => b": empty\r\n".to_vec(),
        7 => b"x-nul: a\0b\r\n".to_vec(),
        8 => b"host: other\r\nhost: third\r\n".to_vec(),
        9 => format!("anthropic-beta: {}\r\n", "b-2099-01-01,".repeat(below(dice, 900))).into_bytes(),
        10 => b"expect: 200-maybe\r\nconnection: upgrade, close, keep-alive\r\nupgrade: websocket\r\n".to_vec(),
        _ => b"x-bare: a\n\rb: c\r\n".to_vec(),
    })
}

fn farebox_headers(dice: &mut Dice) -> Vec<u8> {
    const NAMES: [&str; 18] = [
        "farebox-actor",
        "farebox-task-id",
        "farebox-session-id",
        "farebox-end-user",
        "farebox-tags",
        "farebox-timeout",
        "farebox-max-cost",
        "farebox-fallback-models",
        "farebox-facts",
        "farebox-project",
        "farebox-unheard-of",
        "idempotency-key",
        "traceparent",
        "x-claude-code-session-id",
        "authorization",
        "x-api-key",
        "anthropic-version",
        "openai-beta",
    ];
    const VALUES: [&str; 16] = [
        "",
        " ",
        "0",
        "-1",
        "99999999999999999999999",
        "1e9",
        "10y",
        "0.0000000000001",
        "-5 USD",
        "NaN",
        "a,,b, ,c",
        "Bearer",
        "Bearer fb-",
        "fb-ka-0123456789abcdef",
        "00-zz-zz-01",
        "../../etc/passwd",
    ];
    let mut lines = Vec::new();
    for _ in 0..=below(dice, 3) {
        let value = match below(dice, 4) {
            0 => junk(dice, 30).into_iter().map(|byte| byte | 0x80).collect(),
            1 => "é".repeat(below(dice, 500)).into_bytes(),
            _ => dice.of(&VALUES).as_bytes().to_vec(),
        };
        lines.extend_from_slice(dice.of(&NAMES).as_bytes());
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(&value);
        lines.extend_from_slice(b"\r\n");
    }
    let (api, body) = good(dice);
    let head = format!("POST {} HTTP/1.1\r\nhost: farebox\r\ncontent-length: {}\r\n", api.path(), body.len());
    [head.as_bytes(), &lines, b"\r\n", body.as_bytes()].concat()
}

/// Bits of a deflate stream, in the order in which they are read.
#[derive(Default)]
struct Bits(Vec<u8>, usize);

impl Bits {
    fn put(&mut self, bits: &str) {
        for bit in bits.bytes() {
            if self.1.is_multiple_of(8) {
                self.0.push(0);
            }
            if let Some(last) = self.0.last_mut() {
                *last |= (bit - b'0') << (self.1 % 8);
            }
            self.1 += 1;
        }
    }
}

/// Unpacks to 258 bytes for every 13 bits: RFC 1951, fixed codes.
fn bomb(bytes: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    // The last block, with fixed codes; a zero, and copies of it.
    bits.put("1");
    bits.put("10");
    bits.put("00110000");
    for _ in 0..bytes / 258 {
        bits.put("1100010100000");
    }
    bits.put("0000000");
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    [head.as_slice(), &bits.0, &[0; 8]].concat()
}

fn encodings(dice: &mut Dice) -> Vec<u8> {
    let (api, body) = good(dice);
    let packed = match below(dice, 3) {
        0 => bomb(BODY_MAX * 8),
        1 => bomb(below(dice, 100_000)),
        _ => body.into_bytes(),
    };
    let encoding =
        dice.of(&["gzip", "deflate", "br", "zstd", "identity", "gzip, gzip", "compress", "", "*", "GZIP", "x-gzip"]);
    let mut headers = vec![("content-encoding", encoding)];
    if dice.once_in(5) {
        headers.push(("content-encoding", "gzip"));
    }
    wire::post(api.path(), &headers, &packed)
}

fn sizes(dice: &mut Dice) -> Vec<u8> {
    let (api, body) = good(dice);
    match below(dice, 6) {
        0 => wire::post(api.path(), &[], &vec![b' '; BODY_MAX + 1 + below(dice, BODY_MAX)]),
        1 => wire::post(api.path(), &[], &[body.as_bytes(), &vec![b' '; BODY_MAX - body.len()]].concat()),
        2 => format!("POST {} HTTP/1.1\r\nhost: f\r\ncontent-length: 99999999999\r\n\r\n{{", api.path()).into_bytes(),
        3 => format!(
            "POST {}?{} HTTP/1.1\r\nhost: f\r\ncontent-length: 0\r\n\r\n",
            api.path(),
            "q".repeat(below(dice, 40_000))
        )
        .into_bytes(),
        4 => {
            let mut out =
                format!("POST {} HTTP/1.1\r\nhost: f\r\ntransfer-encoding: chunked\r\n\r\n", api.path()).into_bytes();
            for _ in 0..20 {
                out.extend_from_slice(b"10000\r\n");
                out.extend_from_slice(&[b' '; 0x10000]);
                out.extend_from_slice(b"\r\n");
            }
            [out, b"0\r\n\r\n".to_vec()].concat()
        }
        _ => wire::post(api.path(), &[("expect", "100-continue")], body.as_bytes()),
    }
}

/// A request within the body of another: it must not be served.
fn smuggling(dice: &mut Dice) -> Vec<u8> {
    let hidden = String::from_utf8(Api::Chat.request(&Api::Chat.model("smuggled"), false, Some(1))).unwrap_or_default();
    let both =
        |lines: &str, body: &str| format!("POST /v1/messages HTTP/1.1\r\nhost: f\r\n{lines}\r\n{body}").into_bytes();
    let size = hidden.len();
    match below(dice, 14) {
        0 => both("content-length: 4\r\ntransfer-encoding: chunked\r\n", &format!("0\r\n\r\n{hidden}")),
        1 => both(
            &format!("transfer-encoding: chunked\r\ncontent-length: {}\r\n", size + 5),
            &format!("0\r\n\r\n{hidden}"),
        ),
        2 => both(&format!("content-length: 0\r\ncontent-length: {size}\r\n"), &hidden),
        3 => both(&format!("content-length: {size}, 0\r\n"), &hidden),
        4 => both("transfer-encoding: xchunked\r\n", &format!("0\r\n\r\n{hidden}")),
        5 => both("transfer-encoding: chunked, identity\r\n", &format!("0\r\n\r\n{hidden}")),
        6 => both(
            "transfer-encoding: identity\r\ntransfer-encoding: chunked, chunked\r\n",
            &format!("0\r\n\r\n{hidden}"),
        ),
        7 => both("transfer-encoding : chunked\r\n", &format!("0\r\n\r\n{hidden}")),
        8 => both("content-length: +0\r\n", &hidden),
        9 => both("content-length: 0x0\r\n", &hidden),
        10 => both("transfer-encoding: chunked\r\n", &format!("-1\r\n{hidden}")),
        11 => both("transfer-encoding: chunked\r\n", &format!("fffffffffffffffff\r\n{hidden}")),
        12 => both(
            "transfer-encoding: chunked\r\n",
            &format!("2;{}\r\n{{}}\r\nzz\r\n{hidden}", "e".repeat(below(dice, 30_000))),
        ),
        _ => both("transfer-encoding: chunked\r\n", &format!("2\r\n{{}}XX0\r\n\r\n{hidden}")),
    }
}

fn methods_and_paths(dice: &mut Dice) -> Vec<u8> {
    const METHODS: [&str; 12] = [
        "GET",
        "PUT",
        "DELETE",
        "PATCH",
        "OPTIONS",
        "TRACE",
        "HEAD",
        "post",
        "PURGE",
        "POSTPOSTPOSTPOST",
        "P\u{e9}",
        "",
    ];
    const PATHS: [&str; 20] = [
        "/v1/messages",
        "/v1/../v1/messages",
        "/v1//chat//completions",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v1/chat%2fcompletions",
        "/v1/models/%ff%fe",
        "/v1/models/a%00b",
        "/v1/models/%",
        "*",
        "http://other/v1/models",
        "//",
        "/?",
        "/v1/responses/x/cancel",
        "/openai/openai/v1/models",
        "/anthropic",
        "/v1/models?limit=-1&after_id=%ff",
        "/v2/rerank",
        "/ready/../health",
        "\\v1\\models",
        "",
    ];
    const VERSIONS: [&str; 6] = ["HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/3.0", "HTTP/1.10", "http/1.1"];
    let version = if dice.once_in(3) { dice.of(&VERSIONS) } else { "HTTP/1.1" };
    let method = if dice.once_in(8) { "CONNECT" } else { dice.of(&METHODS) };
    format!("{method} {} {version}\r\nhost: f\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", dice.of(&PATHS))
        .into_bytes()
}

fn no_http(dice: &mut Dice) -> Vec<u8> {
    let size = below(dice, 3_000);
    match below(dice, 5) {
        0 => junk(dice, size),
        1 => [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(), &junk(dice, 300)].concat(),
        2 => [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &junk(dice, size)].concat(),
        3 => b"GET /\r\n\r\n".to_vec(),
        _ => b"\r\n".repeat(below(dice, 5_000)),
    }
}

fn half(dice: &mut Dice) -> Vec<u8> {
    let (api, body) = good(dice);
    let mut whole = api.request(&api.model("malformed"), body.len().is_multiple_of(2), Some(20));
    whole.truncate(below(dice, whole.len()));
    whole
}

/// Fires all of them; how often each way was answered how.
async fn fire(edge: SocketAddr, mut dice: Dice, requests: usize) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut senders = tokio::task::JoinSet::new();
    let mut count = |(kind, status, shown): (&'static str, Option<u16>, String)| {
        if let Some(status) = status {
            let defined = status < 500 || DEFINED.contains(&status);
            assert!(defined, "status {status} after {kind}: {shown}");
        }
        let status = status.map_or("closed".to_owned(), |status| status.to_string());
        *counts.entry(status).or_default() += 1;
    };
    for _ in 0..requests {
        let shot = Shot::draw(&mut dice);
        if senders.len() == SENDERS {
            count(senders.join_next().await.expect("there are some").expect("no panic"));
        }
        senders.spawn(async move { (shot.kind, shot.fire(edge).await, shot.shown()) });
    }
    for answered in senders.join_all().await {
        count(answered);
    }
    counts
}

#[test]
fn malformed_requests_are_refused_and_leave_nothing_behind() {
    let requests = number("EDGE_MALFORMED").map_or(REQUESTS, |count| usize::try_from(count).unwrap_or(REQUESTS));
    let seed = number("EDGE_SEED").unwrap_or(SEED);
    measure(Duration::from_secs(90 + requests as u64 / 10), async move {
        let apart = Apart::start(&SETS).await;
        let mut dice = Dice::new(seed);
        // What a process keeps once it has seen some of everything.
        fire(apart.addr, Dice::new(dice.roll()), 200).await;
        let api = Api::Chat;
        let works = async || {
            let answer = wire::ask(apart.addr, &api.request(&api.model("plain"), false, Some(20))).await;
            assert_eq!(answer.status(), 200, "{}", answer.text());
        };
        works().await;
        let before = apart.held();
        let began = Instant::now();
        let counts = fire(apart.addr, dice, requests).await;
        apart.is_empty_again(before).await;
        let after = apart.held();
        works().await;
        assert!(after.rss <= before.rss + GROWTH_MAX, "{before:?}, {after:?}");
        assert!(!apart.log().contains("panic"), "{}", apart.log());
        for api in Api::ALL {
            assert_eq!(apart.stage.asked(&api.model("smuggled")), 0, "a hidden request was served");
        }
        let (took, grown) = (began.elapsed(), after.rss.saturating_sub(before.rss) >> 10);
        eprintln!("malformed: seed {seed}, {requests} requests in {took:.1?}: {counts:?}; RSS + {grown} KiB");
    });
}
