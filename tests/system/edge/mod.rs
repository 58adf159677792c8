//! What a program sees that speaks HTTP: its bytes, what breaks at a provider or in farebox, and what it breaks itself.

mod apart;
mod exact;
mod faults;
mod frames;
mod leaving;
mod limited;
mod malformed;
mod outages;
mod streams;
pub(crate) mod wire;

use std::net::SocketAddr;

use farebox_emulator::Entry;
use farebox_testkit::{Row, compare, eventually};
use farebox_types::Money;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::stage::{SOON, Stage};

/// Models for every API and everything that is tried: `chat-plain`, `messages-cut`, …
const CONFIG: &str = r#"
nats: { listen: "127.0.0.1:0" }
clickhouse: { listen: "127.0.0.1:0" }
listen: { http: "127.0.0.1:0", grpc: "127.0.0.1:0" }
providers:
  openai: { api_base: "EMULATOR/v1", api_key: os.environ/SYSTEM_TEST_KEY }
  anthropic: { api_base: "EMULATOR", api_key: os.environ/SYSTEM_TEST_KEY }
  exact-openai: { kind: openai, api_base: "EMULATOR/exact-openai/v1", api_key: os.environ/SYSTEM_TEST_KEY }
  exact-anthropic: { kind: anthropic, api_base: "EMULATOR/exact-anthropic", api_key: os.environ/SYSTEM_TEST_KEY }
models:
  exact-openai: { deployments: [{ target: exact-openai/recorded }], retries: 0 }
  exact-anthropic: { deployments: [{ target: exact-anthropic/recorded }], retries: 0 }
ALIASES
prices:
  - { provider: openai, models: [recorded, OPENAI], input: "1", output: "2", context_window: 200000, max_output: 100000 }
  - { provider: anthropic, models: [recorded, ANTHROPIC], input: "1", output: "2", context_window: 200000, max_output: 100000 }
keys:
  limited: { key: os.environ/SYSTEM_TEST_CALLER, project: default }
limits:
  - { name: a-minute, scope: { key: limited }, requests: 6, per: minute, strategy: sliding-window }
  - { name: tokens, scope: { key: limited }, tokens: 1000000, per: minute, strategy: sliding-window }
edge: { write_timeout: 1s }
worker: { max_in_flight: 4096, drain_up_to: 0.001 }
"#;

/// An API that callers speak, at a provider that speaks it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    Chat,
    Responses,
    Messages,
}

impl Api {
    pub(crate) const ALL: [Api; 3] = [Api::Chat, Api::Responses, Api::Messages];

    pub(crate) fn path(self) -> &'static str {
        match self {
            Api::Chat => "/v1/chat/completions",
            Api::Responses => "/v1/responses",
            Api::Messages => "/v1/messages",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Api::Chat => "chat",
            Api::Responses => "responses",
            Api::Messages => "messages",
        }
    }

    /// What a model is called here and at the provider.
    pub(crate) fn model(self, name: &str) -> String {
        format!("{}-{name}", self.word())
    }

    fn provider(self) -> &'static str {
        if self == Api::Messages { "anthropic" } else { "openai" }
    }

    /// A small request; with `limit` its answer can only cost little.
    pub(crate) fn body(self, model: &str, stream: bool, limit: Option<u64>) -> Value {
        let said = json!([{ "role": "user", "content": "Hello" }]);
        let mut body = match self {
            Api::Responses => json!({ "model": model, "input": said, "stream": stream }),
            _ => json!({ "model": model, "messages": said, "stream": stream }),
        };
        let name = match self {
            Api::Chat => "max_completion_tokens",
            Api::Responses => "max_output_tokens",
            Api::Messages => "max_tokens",
        };
        // Anthropic's always have one.
        if let Some(limit) = limit.or((self == Api::Messages).then_some(100_000)) {
            body[name] = limit.into();
        }
        body
    }

    pub(crate) fn request(self, model: &str, stream: bool, limit: Option<u64>) -> Vec<u8> {
        wire::post(self.path(), &[], self.body(model, stream, limit).to_string().as_bytes())
    }

    /// Kind and message of an error, which must be in this API's own form.
    pub(crate) fn error(self, body: &Value) -> (String, String) {
        let error = &body["error"];
        let word = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no error of {self:?}: {body}")).to_owned();
        if self == Api::Messages {
            assert_eq!(body["type"], "error", "{body}");
        } else {
            let members = error.as_object().unwrap_or_else(|| panic!("no error: {body}"));
            assert!(members.contains_key("param") && members.contains_key("code"), "{body}");
        }
        (word(&error["type"]), word(&error["message"]))
    }

    /// Whether an event says that the answer is complete.
    pub(crate) fn is_end(self, name: &str, data: &str) -> bool {
        match self {
            Api::Chat => data == "[DONE]",
            Api::Responses => ["response.completed", "response.incomplete"].contains(&name),
            Api::Messages => name == "message_stop",
        }
    }

    /// The error in which a stream ends, if it does.
    pub(crate) fn broken_by(self, events: &[(String, String)]) -> Option<Value> {
        let json = |data: &str| serde_json::from_str::<Value>(data).ok();
        let of = |at: usize| events.len().checked_sub(at).and_then(|at| events.get(at));
        match self {
            Api::Chat => json(&of(1)?.1).filter(|data| data["error"].is_object()),
            Api::Messages => of(1).filter(|(name, _)| name == "error").and_then(|(_, data)| json(data)),
            Api::Responses => {
                let failed = of(1).filter(|(name, _)| name == "response.failed");
                of(2).filter(|(name, _)| name == "error" && failed.is_some()).and_then(|(_, data)| json(data))
            }
        }
    }
}

/// What each test asks for beside those cases, so that they keep apart.
const TRIED: [&str; 13] = [
    "plain",
    "leaves",
    "leaves-stream",
    "cheap",
    "cheap-stream",
    "doctor",
    "slow-reader",
    "flooded",
    "storm",
    "slow",
    "malformed",
    "smuggled",
    "kept",
];

fn config() -> String {
    let cases = faults::CASES.iter().map(|case| case.name).chain(TRIED);
    let models: Vec<(Api, String)> = cases.flat_map(|name| Api::ALL.map(|api| (api, api.model(name)))).collect();
    let alias = |(api, model): &(Api, String)| {
        let target = format!("{}/{model}", api.provider());
        // Only who hangs is given up soon: others may be late on a busy machine.
        let hangs =
            faults::CASES.iter().find(|case| api.model(case.name) == *model).and_then(faults::Case::given_up_by);
        let timeout = hangs.map_or("{}".to_owned(), |which| format!("{{ {which}: 2s }}"));
        format!("  {model}: {{ deployments: [{{ target: {target} }}], retries: 0, timeout: {timeout} }}")
    };
    let names = |provider: &str| {
        let of = models.iter().filter(|(api, _)| api.provider() == provider).map(|(_, model)| model.as_str());
        of.collect::<Vec<_>>().join(", ")
    };
    CONFIG
        .replace("ALIASES", &models.iter().map(alias).collect::<Vec<_>>().join("\n"))
        .replace("OPENAI", &names("openai"))
        .replace("ANTHROPIC", &names("anthropic"))
}

static SHARED: OnceCell<Stage> = OnceCell::const_new();

/// The one that most tests here use.
pub(crate) async fn shared() -> &'static Stage {
    SHARED.get_or_init(|| async { Stage::with_config(&config(), &[], |up| up).await }).await
}

/// Where a running farebox speaks HTTP.
pub(crate) fn http(stage: &Stage) -> SocketAddr {
    let url = stage.ready["http"].as_str().unwrap_or_else(|| panic!("no address: {}", stage.ready));
    url.strip_prefix("http://").and_then(|addr| addr.parse().ok()).unwrap_or_else(|| panic!("no address: {url}"))
}

/// What the emulator's entry costs by the prices above: 1 dollar a million tokens in, 2 out.
fn billed(entry: &Entry) -> Money {
    let picos = i128::from(entry.prompt_tokens) * 1_000_000 + i128::from(entry.completion_tokens) * 2_000_000;
    if entry.billed { Money::from_picos(picos) } else { Money::ZERO }
}

/// The one row of each request, once all are there; the emulator's own bill says the same.
async fn rows(stage: &Stage, requests: &[String]) -> Vec<Row> {
    let listed: Vec<String> = requests.iter().map(|id| format!("'{id}'")).collect();
    let of = format!("FROM farebox.calls WHERE request_id IN ({})", listed.join(", "));
    let sql = Row::QUERY.replace("FROM farebox.calls", &of);
    let read = async || Row::read(&stage.clickhouse(&sql).await).expect("rows");
    let settled = |rows: &[Row]| {
        let ids: Vec<&str> = rows.iter().map(|row| row.call_id.as_str()).collect();
        let mut entries = stage.emulator.ledger().entries();
        entries.retain(|entry| entry.call_id.as_deref().is_some_and(|id| ids.contains(&id)));
        let missing = requests.iter().filter(|id| !rows.iter().any(|row| row.request_id == **id)).count();
        if missing > 0 { Err(vec![format!("no row of {missing} requests")]) } else { compare(rows, &entries, billed) }
    };
    let until = tokio::time::Instant::now() + SOON;
    loop {
        let rows = read().await;
        match settled(&rows) {
            Ok(_) => {
                assert_eq!(rows.len(), requests.len(), "more rows than requests: {rows:#?}");
                return rows;
            }
            Err(faults) => assert!(tokio::time::Instant::now() < until, "{faults:#?}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Waits until a provider has been asked for a model.
async fn asked(stage: &Stage, model: &str) {
    eventually(SOON, &format!("{model} is asked for"), || async { stage.asked(model) > 0 }).await;
}
