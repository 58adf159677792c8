//! The model that does what its prompt orders, in every dialect.

use std::time::{Duration, Instant};

use farebox_emulator::{Emulator, Options, Script};
use serde_json::{Value, json};

use crate::{emulator, events, parse, post, text};

const WEATHER: &str = "weather";

async fn obedient() -> Emulator {
    let emulator = emulator().await;
    emulator.script("*", Script::obedient());
    emulator
}

fn schema() -> Value {
    json!({ "type": "object", "properties": { "city": { "type": "string" } } })
}

/// Path and body of a request with one tool, whole or streamed.
fn asks(dialect: &str, prompt: &str, stream: bool) -> (&'static str, Value) {
    let tool = json!({ "name": WEATHER, "parameters": schema() });
    let said = json!([{ "role": "user", "content": prompt }]);
    match dialect {
        "chat" => (
            "/v1/chat/completions",
            json!({ "model": "m", "messages": said, "stream": stream, "tools": [{ "type": "function", "function": tool }] }),
        ),
        "responses" => (
            "/v1/responses",
            json!({ "model": "m", "input": said, "stream": stream,
                "tools": [{ "type": "function", "name": WEATHER, "parameters": schema() }] }),
        ),
        "messages" => (
            "/v1/messages",
            json!({ "model": "m", "max_tokens": 500, "messages": said, "stream": stream,
                "tools": [{ "name": WEATHER, "input_schema": schema() }] }),
        ),
        _ => (
            if stream { "/v1beta/models/m:streamGenerateContent?alt=sse" } else { "/v1beta/models/m:generateContent" },
            json!({ "contents": [{ "role": "user", "parts": [{ "text": prompt }] }],
                "tools": [{ "functionDeclarations": [tool] }] }),
        ),
    }
}

const DIALECTS: [&str; 4] = ["chat", "responses", "messages", "gemini"];

#[tokio::test]
async fn the_tools_that_it_is_told_to_call_are_called_whole_and_streamed() {
    let emulator = obedient().await;
    for dialect in DIALECTS {
        for stream in [false, true] {
            let prompt = "[[slow 0 1]] [[call weather {\"city\":\"Oslo\"}]] [[call weather]] [[call unknown]]";
            let (path, body) = asks(dialect, prompt, stream);
            let (status, _, answer) = text(post(&emulator, path, "c", &body)).await;
            assert_eq!(status, 200, "{dialect}: {answer}");
            let whole = if stream { Value::Array(events(&answer)).to_string() } else { parse(&answer).to_string() };
            assert!(whole.contains("Oslo"), "{dialect} {stream}: {whole}");
            let calls = ["_0\"", "_1\"", "_2\""].map(|end| whole.contains(end));
            assert_eq!(calls, [true, true, false], "{dialect} {stream}: {whole}");
        }
    }
}

#[tokio::test]
async fn what_a_provider_does_not_know_is_refused() {
    let emulator = obedient().await;
    for dialect in DIALECTS {
        let (path, mut body) = asks(dialect, "hello", false);
        assert_eq!(text(post(&emulator, path, "c", &body)).await.0, 200, "{dialect}");
        body["no_such_member"] = json!(1);
        let (status, _, answer) = text(post(&emulator, path, "c", &body)).await;
        assert!(status == 400 && answer.contains("no_such_member"), "{dialect}: {answer}");
    }
    let open = json!({ "model": "m", "messages": [{ "role": "user", "content": "a" }, { "role": "assistant",
        "tool_calls": [{ "id": "x", "type": "function", "function": { "name": "f", "arguments": "{}" } }] },
        { "role": "user", "content": "b" }] });
    let (status, _, answer) = text(post(&emulator, "/v1/chat/completions", "c", &open)).await;
    assert!(status == 400 && answer.contains("did not have response messages: x"), "{answer}");
}

#[tokio::test]
async fn thoughts_are_counted_by_those_who_count_them() {
    let emulator = obedient().await;
    let thinks = [
        ("chat", "reasoning_effort", json!("low"), "/usage/completion_tokens_details/reasoning_tokens", 11),
        ("responses", "reasoning", json!({ "summary": "auto" }), "/usage/output_tokens_details/reasoning_tokens", 11),
        ("messages", "thinking", json!({ "type": "adaptive" }), "/usage/output_tokens", 12),
        (
            "gemini",
            "generationConfig",
            json!({ "thinkingConfig": { "includeThoughts": true } }),
            "/usageMetadata/thoughtsTokenCount",
            11,
        ),
    ];
    for (dialect, member, value, count, expected) in thinks {
        let (path, mut body) = asks(dialect, "[[say Yes.]]", false);
        body[member] = value;
        let answer = parse(&text(post(&emulator, path, "c", &body)).await.2);
        assert_eq!(answer.pointer(count), Some(&json!(expected)), "{dialect}: {answer}");
    }
    let reasoned: Vec<u64> = emulator.ledger().entries().iter().map(|entry| entry.reasoning_tokens).collect();
    assert_eq!(reasoned, [11, 11, 0, 11]);
}

#[tokio::test]
async fn what_a_model_does_not_do_is_refused() {
    let emulator = obedient().await;
    let chat = |model: &str, more: &Value| {
        let mut body = json!({ "model": model, "messages": [{ "role": "user", "content": "?" }] });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("/v1/chat/completions".to_owned(), body)
    };
    let summary = |word: &str| {
        ("/v1/responses".to_owned(), json!({ "model": "o4-mini", "input": "?", "reasoning": { "summary": word } }))
    };
    let gemini = |model: &str, budget: u64| {
        let config = json!({ "thinkingConfig": { "thinkingBudget": budget } });
        let body = json!({ "contents": [{ "role": "user", "parts": [{ "text": "?" }] }], "generationConfig": config });
        (format!("/v1beta/models/{model}:generateContent"), body)
    };
    let (effort, long) = (json!({ "reasoning_effort": "high" }), json!({ "max_completion_tokens": 32_000 }));
    for ((path, body), problem) in [
        (chat("gpt-4.1", &effort), "reasoning_effort"),
        (chat("o4-mini", &effort), ""),
        (chat("gpt-4o", &long), "supports at most 16384"),
        (chat("gpt-4.1", &long), ""),
        (summary("updates"), "Supported values"),
        (summary("auto"), ""),
        (gemini("gemini-2.5-flash", 31_999), "between 0 and 24576"),
        (gemini("gemini-2.5-pro", 31_999), ""),
    ] {
        let (status, _, answer) = text(post(&emulator, &path, "c", &body)).await;
        assert_eq!(status == 200, problem.is_empty(), "{path} {body}: {answer}");
        assert!(answer.contains(problem), "{path} {body}: {answer}");
    }
}

#[tokio::test]
async fn it_searches_by_itself_where_it_must_and_bills_it() {
    let emulator = obedient().await;
    for stream in [false, true] {
        let body = json!({ "model": "m", "max_tokens": 500, "stream": stream,
            "messages": [{ "role": "user", "content": "About tea" }],
            "tools": [{ "type": "web_search_20250305", "name": "web_search", "max_uses": 8 }],
            "tool_choice": { "type": "tool", "name": "web_search" } });
        let answer = text(post(&emulator, "/v1/messages", "c", &body)).await.2;
        let told = if stream { Value::Array(events(&answer)) } else { parse(&answer) }.to_string();
        for part in
            ["server_tool_use", "\"web_search_tool_result\"", "found for: About tea", "\"web_search_requests\":1"]
        {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(!told.contains("\"tool_use\""), "nobody else is to search: {told}");
    }
    assert!(emulator.ledger().entries().iter().all(|entry| entry.searches == 1));
}

#[tokio::test]
async fn it_is_silent_in_the_middle_of_its_answer() {
    let emulator = obedient().await;
    let (path, body) = asks("messages", "[[silent 300 3]] [[say One two three four]]", true);
    let mut response = post(&emulator, path, "c", &body).send().await.unwrap();
    let (began, mut said, mut longest) = (Instant::now(), Vec::new(), Duration::ZERO);
    let mut last = began;
    while let Some(piece) = response.chunk().await.unwrap() {
        longest = longest.max(last.elapsed());
        last = Instant::now();
        said.extend_from_slice(&piece);
    }
    assert!(longest >= Duration::from_millis(250), "{longest:?}");
    assert!(String::from_utf8(said).unwrap().ends_with("{\"type\":\"message_stop\"}\n\n"));
}

#[tokio::test]
async fn the_last_request_for_a_model_is_told() {
    let emulator = Emulator::start(Options { keep_requests: true, ..Options::default() }).await.unwrap();
    let last =
        || async { reqwest::get(format!("{}/emulator/last/m", emulator.base_url())).await.unwrap().text().await };
    assert_eq!(last().await.unwrap(), "null");
    let (path, body) = asks("messages", "hello", false);
    text(post(&emulator, path, "c", &body)).await;
    let last = parse(&last().await.unwrap());
    assert_eq!(last["body"], body.to_string());
    assert_eq!(
        (&last["headers"]["x-client-request-id"], &last["headers"]["anthropic-version"]),
        (&json!("c"), &json!("2023-06-01"))
    );
}

#[tokio::test]
async fn it_refuses_once() {
    let emulator = obedient().await;
    for dialect in DIALECTS {
        let (path, body) = asks(dialect, &format!("[[once 429 1 {dialect}]] [[say done]]"), false);
        let (status, headers, _) = text(post(&emulator, path, "c", &body)).await;
        assert!(status == 429 && headers["retry-after"] == "1", "{dialect}");
        let (status, _, answer) = text(post(&emulator, path, "c", &body)).await;
        assert!(status == 200 && answer.contains("\"done\""), "{dialect}: {answer}");
    }
}

#[tokio::test]
async fn a_schema_is_filled_and_texts_have_vectors() {
    let emulator = obedient().await;
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "?" }], "response_format": { "type":
        "json_schema", "json_schema": { "name": "n", "schema": schema() } } });
    let answer = text(post(&emulator, "/v1/chat/completions", "c", &body)).await.2;
    assert_eq!(parse(&answer)["choices"][0]["message"]["content"], "{\"city\":\"text\"}");

    let mut vectors = Vec::new();
    for format in ["float", "base64"] {
        let body = json!({ "model": "m", "input": ["a", "b"], "encoding_format": format });
        let answer = parse(&text(post(&emulator, "/v1/embeddings", "c", &body)).await.2);
        assert_eq!(answer["data"][1]["index"], 1, "{answer}");
        assert_ne!(answer["data"][0]["embedding"], answer["data"][1]["embedding"]);
        vectors.push(answer["data"][0]["embedding"].clone());
    }
    assert_eq!(vectors[0].as_array().map(Vec::len), Some(8));
    assert_eq!(vectors[1].as_str().map(str::len), Some(44), "8 floats of 4 bytes");
    assert_eq!(emulator.ledger().totals().billed, 3);
}
