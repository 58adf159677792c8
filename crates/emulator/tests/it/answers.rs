use std::time::Duration;

use bytes::Bytes;
use farebox_emulator::{Emulator, Options, Recorded, Reply, Script, ToolCall, Usage};
use serde_json::{Value, json};

use crate::{chat, chat_stream, emulator, events, message, parse, post, text};

fn tool() -> Reply {
    Reply {
        thinking: Some("Weather needs a look.".into()),
        search: None,
        text: "Let me look.".into(),
        tool_calls: vec![
            ToolCall { id: "t1".into(), name: "weather".into(), arguments: r#"{"city": "Graz"}"#.into() },
            ToolCall { id: "t2".into(), name: "time".into(), arguments: "{}".into() },
        ],
        finish: None,
        usage: Some(Usage {
            input: 10,
            cache_read: 7,
            cache_write_5m: 5,
            cache_write_1h: 3,
            output: 40,
            reasoning: 4,
            searches: 0,
        }),
    }
}

#[tokio::test]
async fn openai_whole() {
    let emulator = emulator().await;
    let (status, headers, body) = text(post(&emulator, "/v1/chat/completions", "c1", &chat("m"))).await;
    assert_eq!(status, 200);
    assert!(headers.contains_key("x-request-id"));
    let body = parse(&body);
    let content = body["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(content, "This is the farebox demo emulator, not a real model. You said: Good morning");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    // `[{"content":"Good morning","role":"user"}]` is 42 bytes: 11 tokens. The answer is 75 bytes: 19 tokens.
    assert_eq!(body["usage"]["prompt_tokens"], 11);
    assert_eq!(body["usage"]["completion_tokens"], 19);
    assert_eq!(body["usage"]["total_tokens"], 30);
    let again = parse(&text(post(&emulator, "/v1/chat/completions", "c2", &chat("m"))).await.2);
    assert_eq!(again["usage"], body["usage"], "the same request, the same usage");
}

#[tokio::test]
async fn openai_stream_says_the_same_as_the_whole_answer() {
    let emulator = emulator().await;
    emulator.script("m", Script::reply(tool()).chunks(5));
    let (_, headers, body) = text(post(&emulator, "/v1/chat/completions", "c", &chat_stream("m"))).await;
    assert_eq!(headers["content-type"], "text/event-stream; charset=utf-8");
    assert!(body.ends_with("data: [DONE]\n\n"));
    let events = events(&body);
    let delta = |e: &Value, field: &str| e["choices"][0]["delta"][field].as_str().unwrap_or("").to_owned();
    let content: String = events.iter().map(|e| delta(e, "content")).collect();
    assert_eq!(content, "Let me look.");
    assert_eq!(events.iter().filter(|e| !delta(e, "content").is_empty()).count(), 5);
    let mut arguments = [String::new(), String::new()];
    for call in events.iter().filter_map(|e| e["choices"][0]["delta"]["tool_calls"].get(0)) {
        arguments[usize::try_from(call["index"].as_u64().unwrap()).unwrap()] +=
            call["function"]["arguments"].as_str().unwrap();
    }
    assert_eq!(arguments, [r#"{"city": "Graz"}"#, "{}"]);
    let last = events.last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["prompt_tokens"], 25);
    assert_eq!(last["usage"]["prompt_tokens_details"]["cached_tokens"], 7);
    assert_eq!(last["usage"]["completion_tokens_details"]["reasoning_tokens"], 4);
    assert_eq!(events[events.len() - 2]["choices"][0]["finish_reason"], "tool_calls");
    assert!(events[..events.len() - 1].iter().all(|e| e["usage"].is_null()));

    let mut body = chat_stream("m");
    body["stream_options"] = json!(null);
    let without = text(post(&emulator, "/v1/chat/completions", "c", &body)).await.2;
    assert!(!without.contains("\"usage\""), "usage only comes when it is asked for");

    let whole = parse(&text(post(&emulator, "/v1/chat/completions", "c", &chat("m"))).await.2);
    assert_eq!(whole["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"], r#"{"city": "Graz"}"#);
    assert_eq!(whole["usage"], last["usage"]);
}

#[tokio::test]
async fn anthropic_whole_and_stream() {
    let emulator = emulator().await;
    emulator.script("m", Script::reply(tool()).chunks(3));
    let (_, headers, body) = text(post(&emulator, "/v1/messages", "c", &message("m", false))).await;
    assert!(headers.contains_key("request-id"));
    let whole = parse(&body);
    let types: Vec<_> = whole["content"].as_array().unwrap().iter().map(|b| &b["type"]).collect();
    assert_eq!(types, ["thinking", "text", "tool_use", "tool_use"]);
    assert_eq!(whole["content"][2]["input"], json!({ "city": "Graz" }));
    assert_eq!(whole["stop_reason"], "tool_use");
    let usage = &whole["usage"];
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&json!(10), &json!(40)));
    assert_eq!(usage["cache_read_input_tokens"], 7);
    assert_eq!(usage["cache_creation_input_tokens"], 8);
    assert_eq!(usage["cache_creation"]["ephemeral_1h_input_tokens"], 3);

    let body = text(post(&emulator, "/v1/messages", "c", &message("m", true))).await.2;
    let events = events(&body);
    for line in body.lines().collect::<Vec<_>>().windows(2).filter(|w| w[0].starts_with("event: ")) {
        assert_eq!(parse(line[1].strip_prefix("data: ").unwrap())["type"], line[0]["event: ".len()..]);
    }
    assert_eq!(events[0]["type"], "message_start");
    assert_eq!(events.last().unwrap()["type"], "message_stop");
    let part = |kind: &str, field: &str| -> String {
        let deltas = events.iter().filter(|e| e["delta"]["type"] == kind);
        deltas.map(|e| e["delta"][field].as_str().unwrap()).collect()
    };
    assert_eq!(part("thinking_delta", "thinking"), "Weather needs a look.");
    assert_eq!(part("text_delta", "text"), "Let me look.");
    assert_eq!(part("input_json_delta", "partial_json"), r#"{"city": "Graz"}{}"#);
    let count = |kind: &str| events.iter().filter(|e| e["type"] == kind).count();
    assert_eq!((count("content_block_start"), count("content_block_stop")), (4, 4));
    let delta = events.iter().find(|e| e["type"] == "message_delta").unwrap();
    assert_eq!((&delta["delta"]["stop_reason"], &delta["usage"]["output_tokens"]), (&json!("tool_use"), &json!(40)));
}

#[tokio::test]
async fn the_output_limit_is_kept() {
    let emulator = emulator().await;
    let mut body = chat("m");
    body["max_completion_tokens"] = json!(3);
    let answer = parse(&text(post(&emulator, "/v1/chat/completions", "c", &body)).await.2);
    assert_eq!(answer["choices"][0]["message"]["content"], "This is the ");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 3);
}

#[tokio::test]
async fn errors_have_their_dialects_shape() {
    let emulator = emulator().await;
    emulator.push("*", Script::rate_limited(Duration::from_millis(1500)));
    let (status, headers, body) = text(post(&emulator, "/v1/chat/completions", "c", &chat("m"))).await;
    assert_eq!((status.as_u16(), &headers["retry-after"]), (429, &"2".parse().unwrap()));
    assert_eq!(parse(&body)["error"]["code"], "rate_limit_exceeded");
    emulator.push("*", Script::refuse(529, "Overloaded"));
    let (status, headers, body) = text(post(&emulator, "/v1/messages", "c", &message("m", false))).await;
    assert_eq!(status.as_u16(), 529);
    let body = parse(&body);
    assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!("overloaded_error")));
    assert_eq!(body["request_id"], headers["request-id"].to_str().unwrap());
    emulator.push("m", Script::error_body(r#"{"error":{"message":"no"}}"#));
    let (status, _, body) = text(post(&emulator, "/v1/chat/completions", "c", &chat("m"))).await;
    assert_eq!((status.as_u16(), body.as_str()), (200, r#"{"error":{"message":"no"}}"#));
    let (status, _, body) = text(post(&emulator, "/v1/messages", "c", &chat("m"))).await;
    assert_eq!((status.as_u16(), &parse(&body)["error"]["message"]), (400, &json!("max_tokens: Field required")));
    assert_eq!(emulator.ledger().totals().billed, 0, "an error is not billed");
    assert_eq!(emulator.ledger().totals().error, 4);
}

#[tokio::test]
async fn keys_and_models_are_checked_when_asked_for() {
    let options = Options {
        api_key: Some("right".into()),
        models: vec!["known".into()],
        only_listed_models: true,
        ..Options::default()
    };
    let emulator = Emulator::start(options).await.unwrap();
    let status = |path, model: &str, key: Option<(&'static str, &'static str)>| {
        let mut request = post(&emulator, path, "c", &message(model, false));
        if let Some((name, value)) = key {
            request = request.header(name, value);
        }
        async { text(request).await.0.as_u16() }
    };
    assert_eq!(status("/v1/chat/completions", "known", None).await, 401);
    assert_eq!(status("/v1/messages", "known", Some(("x-api-key", "wrong"))).await, 401);
    assert_eq!(status("/v1/messages", "known", Some(("x-api-key", "right"))).await, 200);
    assert_eq!(status("/v1/chat/completions", "known", Some(("authorization", "Bearer right"))).await, 200);
    assert_eq!(status("/v1/chat/completions", "other", Some(("authorization", "Bearer right"))).await, 404);
    let list = reqwest::get(format!("{}/v1/models", emulator.base_url())).await.unwrap().text().await.unwrap();
    assert_eq!(parse(&list)["data"][0]["id"], "known");
}

#[tokio::test]
async fn a_recording_is_played_byte_for_byte() {
    let emulator = emulator().await;
    let body = "data: {\"odd\" :1.10}\r\n\r\ndata: [DONE]\n\n";
    let recorded = Recorded {
        status: 200,
        headers: vec![("content-type".into(), "text/event-stream".into()), ("x-own".into(), "kept".into())],
        body: Bytes::from_static(body.as_bytes()),
        usage: Usage { cache_read: 4, ..Usage::new(3, 2) },
    };
    emulator.push("m", Script::recorded(recorded).chunks(body.len()));
    let (_, headers, got) = text(post(&emulator, "/v1/chat/completions", "c", &chat("m"))).await;
    assert_eq!((got.as_str(), &headers["x-own"]), (body, &"kept".parse().unwrap()));
    let totals = emulator.ledger().totals();
    assert_eq!((totals.prompt_tokens, totals.cache_read_tokens, totals.completion_tokens), (7, 4, 2));
}
