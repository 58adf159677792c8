#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod answers;
mod billing;
mod faults;
mod obedient;
mod routes;

use std::time::Duration;

use farebox_emulator::{Emulator, Options};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

async fn emulator() -> Emulator {
    Emulator::start(Options::default()).await.unwrap()
}

fn chat(model: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "Good morning" }] })
}

fn chat_stream(model: &str) -> Value {
    let mut body = chat(model);
    body["stream"] = json!(true);
    body["stream_options"] = json!({ "include_usage": true });
    body
}

fn message(model: &str, stream: bool) -> Value {
    let mut body = chat(model);
    body["max_tokens"] = json!(500);
    body["stream"] = json!(stream);
    body
}

fn post(emulator: &Emulator, path: &str, call_id: &str, body: &Value) -> reqwest::RequestBuilder {
    reqwest::Client::new()
        .post(format!("{}{path}", emulator.base_url()))
        .header("x-client-request-id", call_id)
        .header("anthropic-version", "2023-06-01")
        .header("content-type", "application/json")
        .body(body.to_string())
}

async fn text(request: reqwest::RequestBuilder) -> (reqwest::StatusCode, reqwest::header::HeaderMap, String) {
    let response = request.timeout(PATIENCE).send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    (status, headers, response.text().await.unwrap())
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// The JSON of every `data:` line but `[DONE]`.
fn events(sse: &str) -> Vec<Value> {
    sse.lines().filter_map(|l| l.strip_prefix("data: ")).filter(|d| *d != "[DONE]").map(parse).collect()
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let give_up = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < give_up, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
