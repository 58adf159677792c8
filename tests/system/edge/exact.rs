//! The caller's bytes reach a provider of the same API as they are, and the provider's bytes the caller, but for the edits
//! that docs/dialects.md lists.

use std::net::SocketAddr;

use farebox_emulator::{Recorded, Script, Seen, Usage};
use farebox_testkit::Tape;
use serde_json::{Value, json};

use super::{http, shared, wire};
use crate::stage::{Stage, fresh_id, play};

const ASKS_USAGE: &str = ",\"stream_options\":{\"include_usage\":true}";
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream; charset=utf-8";

/// One call of a provider whose every byte is known.
struct Exchange {
    name: String,
    /// `exact-openai` or `exact-anthropic`: the alias, and below which path the provider stands.
    at: &'static str,
    path: String,
    headers: Vec<(&'static str, &'static str)>,
    request: String,
    /// What is to arrive.
    arrives: String,
    kind: &'static str,
    status: u16,
    answer: String,
    /// What is to come back.
    returns: String,
}

/// One at a time: what is played stands in one queue for each provider. Waiting for a turn is not of a test's time.
static ONE_BY_ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl Exchange {
    fn new(name: &str, at: &'static str, path: &str, request: &str, kind: &'static str, answer: &str) -> Exchange {
        Exchange {
            name: name.to_owned(),
            at,
            path: path.to_owned(),
            headers: Vec::new(),
            arrives: request.replace(&format!("\"{at}\""), "\"recorded\""),
            request: request.to_owned(),
            kind,
            status: 200,
            answer: answer.to_owned(),
            returns: answer.to_owned(),
        }
    }

    fn script(&self) -> Script {
        let body = bytes::Bytes::copy_from_slice(self.answer.as_bytes());
        let headers = vec![("content-type".to_owned(), self.kind.to_owned())];
        // Pieces end wherever they like: within events, and within characters.
        Script::recorded(Recorded { status: self.status, headers, body, usage: Usage::new(11, 7) }).chunks(9)
    }

    async fn play(&self, stage: &Stage, edge: SocketAddr, send: fn(&Exchange) -> Vec<u8>) -> (wire::Answer, Seen) {
        let prefix = format!("/{}", self.at);
        stage.emulator.route(&prefix, self.script());
        let answer = wire::ask(edge, &send(self)).await;
        let mut seen = stage.emulator.take_seen(&prefix);
        assert_eq!(seen.len(), 1, "{}: {} {}", self.name, answer.status(), answer.text());
        (answer, seen.remove(0))
    }

    async fn keeps_its_bytes(&self, stage: &Stage, edge: SocketAddr, send: fn(&Exchange) -> Vec<u8>) -> Seen {
        let (answer, seen) = self.play(stage, edge, send).await;
        assert_eq!(String::from_utf8_lossy(&seen.body), self.arrives, "{}: the request was changed", self.name);
        assert_eq!(answer.text(), self.returns, "{}: the answer was changed", self.name);
        assert_eq!((answer.status(), answer.whole), (self.status, true), "{}", self.name);
        let kind = answer.get("content-type").unwrap_or_default();
        assert_eq!(kind.split(';').next(), self.kind.split(';').next(), "{}", self.name);
        seen
    }
}

fn plainly(exchange: &Exchange) -> Vec<u8> {
    wire::post(&exchange.path, &exchange.headers, exchange.request.as_bytes())
}

/// Without a length, in chunks that end anywhere.
fn in_chunks(exchange: &Exchange) -> Vec<u8> {
    let mut out = format!("POST {} HTTP/1.1\r\nHost: farebox\r\nTransfer-Encoding: chunked\r\n", exchange.path);
    for (name, value) in &exchange.headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    out.push_str("\r\n");
    let mut out = out.into_bytes();
    for chunk in exchange.request.as_bytes().chunks(37) {
        out.extend_from_slice(format!("{:x};ext=1\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// Duplicate keys, numbers that no float keeps, escapes, odd white space, members that nobody knows.
fn odd(members: &str) -> String {
    format!(
        "{{ \"x_unknown\" : {{\"a\":1,\"a\":2,\"n\":1.10,\"big\":123456789012345678901234567890,\"e\":1E+2}} ,\r\n\t\
         {members} , \"metadata\" :{{\"k\":\"caf\\u00e9 \\ud83d\\ude00 \\/ tab\\t €\"}},\"y\":[ ],\"z\":-0.0,\"w\" : null }}"
    )
}

/// Of a whole answer.
fn odd_answer(members: &str) -> String {
    format!(
        "{{\n  \"id\" : \"id-1\",\t\"x\":{{\"a\":1,\"a\":2}},\r\n \"n\":1.10,\"big\":123456789012345678901234567890,{members} , \
         \"w\":1E-7,\"s\":\"\\u0041 \\/ €\" }}\n"
    )
}

fn messages() -> Vec<Exchange> {
    let at = "exact-anthropic";
    let path = "/v1/messages?beta=true";
    let said = "\"messages\":[ {\"role\":\"user\",\"content\":\"Hi\\u0021\",\"odd\":[ ]} ],  \"max_tokens\":64 , \
                \"model\" :\t\"exact-anthropic\"";
    let answer = odd_answer(
        "\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-odd\",\"content\":[ {\"type\":\"text\",\"text\":\
         \"caf\\u00e9\",\"later\":null},{\"type\":\"new_block\",\"v\":1.0} ],\"stop_reason\":\"end_turn\",\"stop_sequence\":\
         null,\"usage\":{\"input_tokens\":11,\"output_tokens\":7,\"odd_tokens\":3}",
    );
    let whole = Exchange::new("messages whole", at, path, &odd(said), JSON, &answer);
    let event = |kind: &str, rest: &str| format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{rest}}}\n\n");
    let events = [
        event(
            "message_start",
            ",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-odd\",\"content\":[],\
             \"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":11,\"output_tokens\":1}} , \"a\":1,\"a\":2   ",
        ),
        event("content_block_start", ", \"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}"),
        event("ping", ""),
        event("content_block_delta", ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"caf\\u00e9 €\"},\"n\":1.10"),
        event("new_event", ",\"big\":123456789012345678901234567890"),
        event("content_block_stop", ",\"index\":0     "),
        event(
            "message_delta",
            ",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":7}",
        ),
        event("message_stop", "  "),
    ]
    .concat();
    let stream =
        Exchange::new("messages streamed", at, path, &odd(&format!("\"stream\" : true,{said}")), EVENTS, &events);
    vec![whole, stream]
}

fn openai() -> Vec<Exchange> {
    let at = "exact-openai";
    let said = "\"messages\":[ {\"role\":\"user\",\"content\":\"Hi\\u0021\",\"odd\":[ ]} ],  \"model\" :\t\"exact-openai\", \
                \"seed\":123456789012345678901234567890";
    let path = "/v1/chat/completions";
    let answer = odd_answer(
        "\"object\":\"chat.completion\",\"created\":1752912500,\"model\":\"gpt-odd\",\"choices\":[ {\"index\":0,\"message\":\
         {\"role\":\"assistant\",\"content\":\"caf\\u00e9\",\"later\":null},\"logprobs\":null,\"finish_reason\":\"stop\"} ],\
         \"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7,\"total_tokens\":18}",
    );
    let whole = Exchange::new("chat whole", at, path, &odd(said), JSON, &answer);
    let chunk = |rest: &str| {
        format!(
            "data: {{\"id\":\"c\",  \"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-odd\",\"a\":1,\"a\":2,{rest}}}\n\n"
        )
    };
    let chunks = [
        chunk("\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"caf\\u00e9 \"},\"finish_reason\":null}] "),
        chunk("\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\/ €\"},\"logprobs\":1.10,\"finish_reason\":null}]"),
        chunk("\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"big\":123456789012345678901234567890"),
    ]
    .concat();
    let usage = chunk("\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7,\"total_tokens\":18}");
    let done = "data: [DONE]\n\n";
    let streamed = format!("\"stream\" : true,{said}");
    let mut hidden =
        Exchange::new("chat streamed", at, path, &odd(&streamed), EVENTS, &[&chunks, &usage, done].concat());
    // The usage is asked for, and kept from a caller who did not ask.
    let end = hidden.arrives.rfind(" }").expect("an object");
    hidden.arrives.insert_str(end, ASKS_USAGE);
    hidden.returns = [&chunks, done].concat();
    let wanted = format!("{streamed},\"stream_options\" : {{ \"include_usage\":true, \"x\":1.0}}");
    let shown =
        Exchange::new("chat streamed with usage", at, path, &odd(&wanted), EVENTS, &[&chunks, &usage, done].concat());
    vec![whole, hidden, shown, response(), response_stream(), embeddings()]
}

const INPUT: &str =
    "\"input\":[ {\"role\":\"user\",\"content\":\"Hi\\u0021\",\"odd\":[ ]} ],  \"model\" :\t\"exact-openai\"";
const RESPONSE: &str =
    "\"id\":\"resp_1\" ,\"object\":\"response\",\"created_at\":1752912500,\"model\":\"gpt-odd\",\"n\":1.10";
const OUTPUT: &str = "\"status\":\"completed\",\"output\":[ {\"id\":\"m\",\"type\":\"message\",\"status\":\"completed\",\"role\":\
                      \"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"caf\\u00e9\",\"annotations\":[]}]} ],\
                      \"usage\":{\"input_tokens\":11,\"output_tokens\":7,\"total_tokens\":18,\"odd\":1}";

fn response() -> Exchange {
    let answer = odd_answer(&format!("{},{OUTPUT}", RESPONSE.replace("\"id\":\"resp_1\" ,", "")));
    Exchange::new("responses whole", "exact-openai", "/v1/responses", &odd(INPUT), JSON, &answer)
}

fn response_stream() -> Exchange {
    let event = |number: usize, kind: &str, rest: &str| {
        format!("event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{number},{rest} }}\n\n")
    };
    let events = [
        event(0, "response.created", &format!("\"response\":{{{RESPONSE},\"status\":\"in_progress\",\"output\":[]}}")),
        event(
            1,
            "response.output_item.added",
            "\"output_index\":0,\"item\":{\"id\":\"m\",\"type\":\"message\",\"status\":\"in_progress\",\"role\":\"assistant\",\
             \"content\":[]}",
        ),
        event(
            2,
            "response.content_part.added",
            "\"item_id\":\"m\",\"output_index\":0,\"content_index\":0,\"part\":{\"type\":\"output_text\",\"text\":\"\"}",
        ),
        event(
            3,
            "response.output_text.delta",
            "\"item_id\":\"m\",\"output_index\":0,\"content_index\":0,\"delta\":\"caf\\u00e9\",\"big\":123456789012345678901234567890",
        ),
        event(4, "response.new_event", "\"a\":1,\"a\":2"),
        event(5, "response.completed", &format!("\"response\":{{{RESPONSE},{OUTPUT}}}")),
    ]
    .concat();
    let request = odd(&format!("\"stream\" : true,{INPUT}"));
    Exchange::new("responses streamed", "exact-openai", "/v1/responses", &request, EVENTS, &events)
}

fn embeddings() -> Exchange {
    let request = odd("\"input\":[ \"Hi\\u0021\", \"€\" ],\"model\":\"exact-openai\" ,\"encoding_format\" : \"float\"");
    let answer = odd_answer(
        "\"object\":\"list\",\"model\":\"embed-odd\",\"data\":[ {\"object\":\"embedding\",\"index\":0,\"embedding\":[0.10,-1E-7, \
         3]},{\"object\":\"embedding\",\"index\":1,\"embedding\":[1,2,3.0]} ],\"usage\":{\"prompt_tokens\":11,\"total_tokens\":11}",
    );
    Exchange::new("embeddings", "exact-openai", "/v1/embeddings", &request, JSON, &answer)
}

#[test]
fn odd_bytes_arrive_and_come_back_as_they_are() {
    let _turn = ONE_BY_ONE.blocking_lock();
    play(async {
        let stage = shared().await;
        for exchange in messages().into_iter().chain(openai()) {
            for send in [plainly as fn(&Exchange) -> Vec<u8>, in_chunks] {
                exchange.keeps_its_bytes(stage, http(stage), send).await;
            }
        }
    });
}

const BESIDE: [(&str, &str); 5] = [
    ("anthropic-beta", "claude-code-20250219,unheard-of-2099-01-01"),
    ("Anthropic-Version", "2026-10-21"),
    ("ANTHROPIC-BETA", "another-2098-12-31"),
    ("x-api-key", "sk-ant-of-the-caller"),
    ("x-team", "a"),
];

fn hears_what_its_caller_says(exchange: &Exchange, seen: &Seen) {
    let path = exchange.path.strip_prefix("/anthropic").and_then(|path| path.split('?').next());
    assert_eq!(Some(seen.path.as_str()), path.map(|path| format!("/exact-anthropic{path}")).as_deref());
    assert_eq!(seen.query.as_deref(), Some("beta=true"), "{}", exchange.name);
    let all = |name: &str| -> Vec<&str> {
        seen.headers.get_all(name).iter().map(|value| value.to_str().expect("text")).collect()
    };
    assert_eq!(
        all("anthropic-beta").join(","),
        "claude-code-20250219,unheard-of-2099-01-01,another-2098-12-31",
        "{}",
        exchange.name
    );
    assert_eq!(all("anthropic-version"), ["2026-10-21"], "{}", exchange.name);
    assert_eq!(all("x-api-key"), ["sk-system-test"], "the caller's key went out: {}", exchange.name);
    assert_eq!(all("x-team"), Vec::<&str>::new(), "{}", exchange.name);
}

#[test]
fn what_stands_beside_the_body_reaches_anthropic() {
    let _turn = ONE_BY_ONE.blocking_lock();
    play(async {
        let stage = shared().await;
        for mut exchange in messages() {
            exchange.path = format!("/anthropic{}&other=1", exchange.path);
            exchange.headers = BESIDE.to_vec();
            let seen = exchange.keeps_its_bytes(stage, http(stage), plainly).await;
            hears_what_its_caller_says(&exchange, &seen);
        }
        // A question for a count is written anew, and asked once.
        let asked =
            json!({ "model": "exact-anthropic", "messages": [{ "role": "user", "content": fresh_id("counted") }] });
        let path = "/anthropic/v1/messages/count_tokens?beta=true&other=1";
        let mut count =
            Exchange::new("count", "exact-anthropic", path, &asked.to_string(), JSON, "{ \"input_tokens\" : 11 }");
        count.headers = BESIDE.to_vec();
        let (answer, seen) = count.play(stage, http(stage), plainly).await;
        assert_eq!((answer.status(), answer.json()), (200, json!({ "input_tokens": 11 })));
        hears_what_its_caller_says(&count, &seen);
    });
}

/// A kept exchange as a caller of the provider itself would have had it.
fn recorded(tape: &Tape) -> Exchange {
    let at = if tape.provider == "anthropic" { "exact-anthropic" } else { "exact-openai" };
    let asked = tape.request.as_ref().expect("a request");
    let path = asked.url.split_once("://").and_then(|(_, rest)| Some(&rest[rest.find('/')?..])).expect("a URL");
    let named = |model: &str| {
        let mut body = asked.body.clone();
        body["model"] = model.into();
        body
    };
    let mut arrives = named("recorded");
    if at == "exact-openai" && arrives["stream"] == true && arrives["stream_options"]["include_usage"] != true {
        arrives["stream_options"] = json!({ "include_usage": true });
    }
    let answer = String::from_utf8(tape.body().expect("a body").to_vec()).expect("text");
    let kind = if tape.is_stream() { EVENTS } else { JSON };
    let mut exchange = Exchange::new(tape.name(), at, path, &named(at).to_string(), kind, &answer);
    exchange.status = tape.response.status;
    exchange.arrives = arrives.to_string();
    exchange
}

/// The provider's own words in an error, where it ends in one.
fn error_of(exchange: &Exchange) -> Option<String> {
    let last = exchange.answer.trim_end().rsplit("data: ").next()?;
    let json: Value = serde_json::from_str(last).ok()?;
    json["error"]["message"].as_str().map(str::to_owned)
}

#[test]
fn recorded_exchanges_arrive_and_come_back_as_they_were() {
    let _turn = ONE_BY_ONE.blocking_lock();
    play(async {
        let stage = shared().await;
        let mut identical = 0;
        for tape in Tape::kept(None).expect("tapes") {
            let exchange = recorded(&tape);
            let Some(message) = error_of(&exchange) else {
                exchange.keeps_its_bytes(stage, http(stage), plainly).await;
                identical += 1;
                continue;
            };
            let (answer, seen) = exchange.play(stage, http(stage), plainly).await;
            assert_eq!(String::from_utf8_lossy(&seen.body), exchange.arrives, "{}", exchange.name);
            assert_eq!(answer.status(), exchange.status, "{}: {}", exchange.name, answer.text());
            // An error is written anew, in the caller's form and with the provider's words.
            let begun = exchange.answer.rfind("event: error").unwrap_or_default();
            assert!(answer.text().starts_with(&exchange.answer[..begun]), "{}: {}", exchange.name, answer.text());
            assert!(answer.text().contains(&message), "{}: {}", exchange.name, answer.text());
        }
        assert!(identical >= 13, "only {identical} exchanges were played");
    });
}
