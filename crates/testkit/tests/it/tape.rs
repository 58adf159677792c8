use farebox_testkit::{
    Tape,
    emulator::{Emulator, Options, State},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Posts a tape's request by hand: status line and body, as they came over the wire.
async fn post(emulator: &Emulator, path: &str, body: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(emulator.addr()).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.0\r\nhost: x\r\nanthropic-version: 2023-06-01\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    (String::from_utf8(answer[..end].to_vec()).unwrap(), answer[end + 4..].to_vec())
}

#[test]
fn the_kept_tapes_are_whole_and_cover_what_matters() {
    let tapes = Tape::kept(None).unwrap();
    for tape in &tapes {
        let expect = tape.expect.as_ref().unwrap_or_else(|| panic!("{} expects nothing", tape.name()));
        assert!(tape.model().is_some(), "{}", tape.name());
        assert_eq!(tape.is_stream(), tape.features.iter().any(|f| f == "stream"), "{}", tape.name());
        assert_eq!(tape.response.status >= 400, tape.features.iter().any(|f| f == "error"), "{}", tape.name());
        let body = String::from_utf8(tape.body().unwrap().to_vec()).unwrap();
        let data = body.lines().filter_map(|l| l.strip_prefix("data: ")).filter(|d| *d != "[DONE]");
        assert!(data.clone().all(|d| serde_json::from_str::<Value>(d).is_ok()), "{}", tape.name());
        assert_eq!(data.count() > 0, tape.is_stream(), "{}", tape.name());
        assert!(tape.response.status < 400 || expect.finish.is_none(), "{}", tape.name());
    }
    for (provider, at_least) in [("openai", 6), ("anthropic", 8)] {
        assert!(tapes.iter().filter(|t| t.provider == provider).count() >= at_least, "{provider}");
    }
}

/// Sums of what the raw JSON of a tape reports, the last report of a field winning.
fn reported(tape: &Tape) -> Value {
    let body = String::from_utf8(tape.body().unwrap().to_vec()).unwrap();
    let mut usage = serde_json::Map::new();
    let lines = body.lines().map(|l| l.strip_prefix("data: ").unwrap_or(l));
    for json in lines.filter_map(|l| serde_json::from_str::<Value>(l).ok()) {
        for found in [&json["usage"], &json["message"]["usage"]] {
            for (name, value) in found.as_object().into_iter().flatten() {
                usage.insert(name.clone(), value.clone());
            }
        }
    }
    Value::Object(usage)
}

#[test]
fn what_tapes_expect_adds_up_to_what_they_report() {
    for tape in Tape::kept(None).unwrap() {
        let (usage, expect) = (reported(&tape), tape.expect.clone().unwrap());
        let sum = |parts: &[Option<u64>]| parts.iter().flatten().sum::<u64>();
        let number = |name: &str| usage[name].as_u64().unwrap_or(0);
        let input = sum(&[expect.input, expect.cache_read, expect.cache_write_5m, expect.cache_write_1h]);
        let output = sum(&[expect.output, expect.reasoning]);
        match tape.provider.as_str() {
            "openai" => {
                assert_eq!((input, output), (number("prompt_tokens"), number("completion_tokens")), "{}", tape.name())
            }
            _ => assert_eq!(
                (input, output),
                (
                    number("input_tokens") + number("cache_read_input_tokens") + number("cache_creation_input_tokens"),
                    number("output_tokens")
                ),
                "{}",
                tape.name()
            ),
        }
    }
}

#[tokio::test]
async fn every_tape_is_played_byte_for_byte_and_billed_as_expected() {
    let emulator = Emulator::start(Options::default()).await.unwrap();
    for tape in Tape::kept(None).unwrap() {
        let before = emulator.ledger().entries().len();
        emulator.push("*", tape.script().unwrap().chunks(7));
        let path = if tape.provider == "openai" { "/v1/chat/completions" } else { "/v1/messages" };
        let request = tape.request.as_ref().unwrap().body.to_string();
        let (head, body) = post(&emulator, path, &request).await;
        assert_eq!(head.split(' ').nth(1).unwrap(), tape.response.status.to_string(), "{}", tape.name());
        assert_eq!(body, tape.body().unwrap(), "{}", tape.name());
        let entry = &emulator.ledger().entries()[before];
        let usage = tape.expect.as_ref().unwrap().usage();
        if tape.response.status < 400 {
            assert_eq!((entry.state, entry.billed), (State::Answered, true), "{}", tape.name());
            assert_eq!(entry.prompt_tokens, usage.prompt(), "{}", tape.name());
            assert_eq!(entry.completion_tokens, usage.output, "{}", tape.name());
        } else {
            assert_eq!((entry.state, entry.billed), (State::Error, false), "{}", tape.name());
        }
    }
}
