//! One farebox before a provider of every API family: each answers from a hand-made tape, whose bytes are the
//! provider's own wire form, and what it was really sent is looked at.
//!
//! A provider of the config belongs to one test: its name is the alias of its one model, and the path at the emulator.

mod identities;
mod talk;
mod tasks;

use std::path::Path;

use bytes::Bytes;
use farebox_bus::Headers;
use farebox_emulator::{Recorded, Script, Seen, Usage};
use farebox_proto::headers;
use farebox_testkit::{ProcessBuilder, Tape};
use serde_json::{Value, json};
use tokio::{sync::OnceCell, time::timeout};

use crate::stage::{SOON, Stage, picos};

/// Dollars for a million tokens. Each bucket has a price of its own, so that a token in the wrong one shows in the cost.
const PRICES: &str = "input: \"1\", cache_read: \"0.1\", cache_write_5m: \"1.3\", cache_write_1h: \"2.1\", output: \"5\", \
                      reasoning: \"7\", per_search: \"0.002\"";

/// Name, kind, model, and what else the provider needs.
type Entry = (&'static str, &'static str, &'static str, &'static str);

const KEY: &str = "api_key: os.environ/SYSTEM_TEST_KEY";
const AWS: &str = "region: eu-west-1, aws: { access_key_id: os.environ/SYSTEM_AWS_ID, secret_access_key: \
                   os.environ/SYSTEM_AWS_SECRET, session_token: os.environ/SYSTEM_AWS_TOKEN }";
const NOVA: &str = "amazon.nova-pro-v1:0";
const CLAUDE_THERE: &str = "eu.anthropic.claude-sonnet-4-20250514-v1:0";

const ENTRIES: [Entry; 37] = [
    ("chat-anthropic", "anthropic", "claude-tape-1", KEY),
    ("chat-gemini", "gemini", "gemini-3-flash-tape", KEY),
    ("chat-bedrock", "bedrock", CLAUDE_THERE, AWS),
    ("chat-cohere", "cohere", "command-a-vision-tape", KEY),
    ("messages-openai", "openai", "gpt-tape-1", KEY),
    ("messages-gemini", "gemini", "gemini-3-flash-tape", KEY),
    ("messages-nova", "bedrock", NOVA, AWS),
    ("messages-claude", "bedrock", CLAUDE_THERE, AWS),
    ("responses-anthropic", "anthropic", "claude-tape-1", KEY),
    ("responses-openai", "openai", "gpt-tape-5", KEY),
    ("embed-openai", "openai", "embed-tape", KEY),
    ("embed-gemini", "gemini", "embed-tape", KEY),
    ("embed-cohere", "cohere", "embed-tape", KEY),
    ("embed-titan", "bedrock", "amazon.titan-embed-text-v2:0", AWS),
    ("rank-cohere", "cohere", "rerank-tape", KEY),
    ("complete-openai", "openai", "babbage-002", KEY),
    ("count-anthropic", "anthropic", "claude-count-1", KEY),
    ("count-openai", "openai", "gpt-tape-1", KEY),
    ("groups-anthropic", "anthropic", "claude-tape-1", KEY),
    ("schema-anthropic", "anthropic", "claude-tape-1", KEY),
    ("schema-gemini", "gemini", "gemini-3-flash-tape", KEY),
    ("schema-cohere", "cohere", "command-tape", KEY),
    ("schema-bedrock", "bedrock", NOVA, AWS),
    ("lenient", "anthropic", "claude-tape-1", KEY),
    ("strict", "anthropic", "claude-tape-1", KEY),
    ("silent-openai", "openai", "gpt-tape-1", KEY),
    ("hung-openai", "openai", "gpt-tape-1", KEY),
    ("thinks-openai", "openai", "gpt-tape-1", KEY),
    ("typed-gemini", "gemini", "gemini-3-flash-tape", KEY),
    ("signed", "bedrock", NOVA, AWS),
    ("profile", "bedrock", NOVA, "region: us-east-1, aws: { profile: farebox-test }"),
    ("azure-classic", "azure", "gpt-dep", "api_version: \"2024-10-21\", api_key: os.environ/SYSTEM_TEST_KEY"),
    ("headed", "openai", "gpt-tape-1", "headers: { x-tenant: blue }, api_key: os.environ/SYSTEM_TEST_KEY"),
    ("proxied", "openai", "gpt-tape-1", "proxy: \"EMULATOR\", api_key: os.environ/SYSTEM_TEST_KEY"),
    ("slow-first", "openai", "gpt-tape-1", KEY),
    ("slow-idle", "openai", "gpt-tape-1", KEY),
    ("slow-total", "openai", "gpt-tape-1", KEY),
];

/// The one timeout that a provider's model is short of: longer than a busy machine is silent.
fn timeout_of(name: &str) -> &'static str {
    match name {
        "slow-first" => "timeout: { first_token: 2s }",
        "slow-idle" => "timeout: { idle: 2s }",
        "slow-total" => "timeout: { total: 3s }",
        _ => "timeout: {}",
    }
}

const CONFIG: &str = r#"
nats: { listen: "127.0.0.1:0" }
clickhouse: { listen: "127.0.0.1:0" }
listen: { http: "127.0.0.1:0", grpc: "127.0.0.1:0" }
providers:
PROVIDERS
models:
MODELS
prices:
ROWS
worker: { retry_pause: 20ms }
"#;

/// A farebox with these providers, before an emulator that plays what is pushed to `/<name>`.
async fn stage_of(entries: &[Entry], more: impl FnOnce(ProcessBuilder) -> ProcessBuilder) -> Stage {
    let lines = |line: &dyn Fn(&Entry) -> String| entries.iter().map(line).collect::<Vec<_>>().join("\n");
    let config = CONFIG
        .replace(
            "PROVIDERS",
            &lines(&|(name, kind, _, more)| {
                // A name that leads nowhere: only the proxy can take requests to it.
                let host = if *name == "proxied" { "http://llm.invalid" } else { "EMULATOR" };
                format!("  {name}: {{ kind: {kind}, api_base: \"{host}/{name}\", prices: {name}, {more} }}")
            }),
        )
        .replace(
            "MODELS",
            &lines(&|(name, _, model, _)| {
                let (drop_params, timeout) = (*name != "strict", timeout_of(name));
                format!(
                    "  {name}: {{ deployments: [{{ target: \"{name}/{model}\" }}], retries: 0, params: {{ drop_params: \
                     {drop_params} }}, {timeout} }}"
                )
            }),
        )
        .replace(
            "ROWS",
            &lines(&|(name, _, model, _)| {
                let reasons = if name.starts_with("thinks") { "capabilities: [reasoning], " } else { "" };
                format!("  - {{ provider: {name}, models: [\"{model}\"], max_output: 4000, {reasons}{PRICES} }}")
            }),
        );
    Stage::with_config(&config, &[], |up| {
        more(
            up.env("SYSTEM_AWS_ID", "AKIDSYSTEMTEST")
                .env("SYSTEM_AWS_SECRET", "system+test/secret")
                .env("SYSTEM_AWS_TOKEN", "system//token==")
                .env(
                    "AWS_SHARED_CREDENTIALS_FILE",
                    concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/system/dialects/aws-credentials"),
                )
                .env("AWS_CONFIG_FILE", "/dev/null"),
        )
    })
    .await
}

static SHARED: OnceCell<Stage> = OnceCell::const_new();

async fn shared() -> &'static Stage {
    SHARED.get_or_init(|| stage_of(&ENTRIES, |up| up)).await
}

/// A kept answer of a provider, `<dialect>/<name>`.
fn tape(name: &str) -> Script {
    let tapes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dialect/tests/tapes");
    let tape = Tape::load(tapes.join(format!("{name}.json"))).expect("a tape");
    // In pieces that no event ends at.
    tape.script().expect("it can be played").chunks(11)
}

/// An answer that a test writes itself.
fn answer(body: &Value) -> Script {
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    Script::recorded(Recorded { status: 200, headers, body: body.to_string().into(), usage: Usage::default() })
}

/// A stream that a test writes itself.
fn stream(body: String) -> Script {
    let headers = vec![("content-type".to_owned(), "text/event-stream".to_owned())];
    Script::recorded(Recorded { status: 200, headers, body: body.into(), usage: Usage::default() })
}

fn path(name: &str) -> String {
    format!("/{name}")
}

/// The one request that a provider has got since it was last looked at.
fn received(stage: &Stage, name: &str) -> Seen {
    let mut seen = stage.emulator.take_seen(&path(name));
    assert_eq!(seen.len(), 1, "{name} got another number of requests");
    seen.remove(0)
}

/// A request as a snapshot shows it; what differs from run to run is left out.
fn shown(seen: &Seen) -> Value {
    let headers: serde_json::Map<String, Value> = seen
        .headers
        .iter()
        .filter(|(name, _)| {
            !["host", "content-length", "x-client-request-id", "x-amz-date", "user-agent"].contains(&name.as_str())
        })
        .map(|(name, value)| {
            let text = value.to_str().expect("a text");
            let shown = if text.starts_with("AWS4-HMAC-SHA256 ") { "AWS4-HMAC-SHA256 …" } else { text };
            (name.to_string(), shown.into())
        })
        .collect();
    json!({
        "request": format!("{} {}", seen.method, seen.path),
        "query": seen.query,
        "headers": headers,
        "body": serde_json::from_str::<Value>(&without_ids(&String::from_utf8_lossy(&seen.body))).expect("JSON"),
    })
}

/// Ids that farebox gave to parts of an answer bear its request id.
fn without_ids(text: &str) -> String {
    const MARK: &str = "farebox-";
    let mut pieces = text.split(MARK);
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        out += MARK;
        out += piece.trim_start_matches(|c: char| c.is_ascii_hexdigit());
    }
    out
}

/// Sends a body in a dialect, by the way that every caller takes.
async fn open(stage: &Stage, dialect: &str, body: &Value) -> (Vec<Value>, Value) {
    let mut inbox = stage.bus().inbox();
    let head = Headers::new().with(headers::DIALECT, dialect);
    let payload = Bytes::from(body.to_string());
    stage.bus().publish_with_reply("llm.request", &inbox.subject(), head, payload).await.expect("it is sent");
    let (chunks, last) = timeout(SOON, stage.read(&mut inbox)).await.expect("an answer");
    let json = |bytes: &Bytes| serde_json::from_slice(bytes).expect("a JSON caller gets JSON");
    (chunks.iter().map(json).collect(), json(&last))
}

async fn ask(stage: &Stage, dialect: &str, body: &Value) -> Value {
    let (chunks, last) = open(stage, dialect, body).await;
    assert!(chunks.is_empty(), "nobody asked for a stream: {chunks:?}");
    last
}

fn warnings(answer: &Value) -> String {
    answer["farebox"]["warnings"].to_string()
}

/// What a row must say: input, cache read, cache write 5 m and 1 h, output, reasoning; and dollars.
type Books = ([Option<u64>; 6], &'static str);

/// The one row of an answer.
async fn row_of(stage: &Stage, answer: &Value) -> Value {
    let id = answer["farebox"]["request_id"].as_str().unwrap_or_else(|| panic!("no request id in {answer}"));
    stage.rows(id, 1).await.remove(0)
}

async fn check_row(stage: &Stage, answer: &Value, books: &Books) -> Value {
    let row = row_of(stage, answer).await;
    let buckets = ["input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning"];
    let is = buckets.map(|bucket| row[format!("{bucket}_tokens")].as_u64());
    assert_eq!(is, books.0, "{row}");
    assert_eq!(picos(&row["cost_usd"]), picos(&json!(books.1)), "{row}");
    assert_eq!(picos(&answer["farebox"]["cost_usd"]), picos(&json!(books.1)), "{answer}");
    assert_eq!((&row["outcome"], &row["estimated"]), (&json!("ok"), &json!(false)), "{row}");
    assert!(picos(&row["cost_usd"]) <= picos(&row["bound_usd"]), "{row}");
    row
}
