//! One `farebox up` in front of a provider emulator, shared by the tests of this run, and what an agent does with it.
//!
//! Tests keep apart by the model they ask for: each has an alias of its own, and the emulator is scripted by model.

use std::{
    path::PathBuf,
    sync::{LazyLock, atomic::AtomicU32, atomic::Ordering},
    time::Duration,
};

use farebox_bus::{Bus, Delivery, Headers, Inbox, Login, Options};
use farebox_client::Client;
use farebox_emulator::Emulator;
use farebox_proto::headers;
use farebox_testkit::{PATIENCE, Process, ProcessBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    runtime::Runtime,
    sync::OnceCell,
    time::{Instant, timeout},
};

/// The program under test.
pub(crate) const FAREBOX: &str = env!("CARGO_BIN_EXE_farebox");

/// No test may take longer: whatever hangs is a failure with a name.
const TEST_LIMIT: Duration = Duration::from_secs(240);
/// How long an agent waits for anything here.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// What the stage outlives: connections and the emulator belong to it, not to the test that came first.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime starts")
});

/// Runs a test, which ends in any case.
pub(crate) fn play(test: impl Future<Output = ()>) {
    play_within(TEST_LIMIT, test);
}

/// The same, for one that is as long as what it is given.
pub(crate) fn play_within(limit: Duration, test: impl Future<Output = ()>) {
    let test = Box::pin(test);
    let ended = RUNTIME.block_on(async {
        farebox_testkit::fetch_servers().await.expect("the servers are there");
        timeout(limit, test).await
    });
    ended.expect("the test ends in time");
}

/// The first of a few tries that comes out in time: a machine that stands still for a moment is late once, a farebox
/// that is late by itself each time.
pub(crate) async fn one_in_time<T>(mut tried: impl AsyncFnMut() -> Result<T, String>) -> T {
    let mut late = Vec::new();
    while late.len() < 4 {
        match tried().await {
            Ok(done) => return done,
            Err(said) => late.push(said),
        }
    }
    panic!("never in time: {late:?}");
}

/// Aliases that cost 1 dollar a million tokens in, 2 out. The upstream model has the same name.
const ALIASES: [&str; 38] = [
    "plain",
    "stream",
    "typed",
    "tools",
    "cancel-at-once",
    "cancel-whole",
    "cancel-stream",
    "late",
    "late-stream",
    "attach",
    "again",
    "conflict",
    "silent",
    "primary",
    "backup",
    "busy",
    "labels",
    "budget",
    "job",
    "job-fails",
    "job-waits",
    "bytes",
    "bytes-stream",
    "foreign",
    "foreign-slow",
    "cut",
    "account",
    "odd",
    "max-cost",
    "exact",
    "default",
    "broke",
    "hosted",
    "held",
    "clamp",
    "soft",
    "marker",
    "limited",
];

const CONFIG: &str = r#"
nats: { listen: "127.0.0.1:0" }
clickhouse: { listen: "127.0.0.1:0" }
listen: { http: "127.0.0.1:0", grpc: "127.0.0.1:0" }
providers:
  emu: { kind: openai-compatible, api_base: "EMULATOR/v1" }
  openai: { api_base: "EMULATOR/v1", api_key: os.environ/SYSTEM_TEST_KEY }
  anthropic: { api_base: "EMULATOR", api_key: os.environ/SYSTEM_TEST_KEY }
  claude: { kind: anthropic-compatible, api_base: "EMULATOR" }
models:
ALIASES
  with-fallback: { deployments: [{ target: emu/primary }], fallback: [backup], retries: 0 }
  cut-once: { deployments: [{ target: emu/cut }], retries: 0 }
  patient: { deployments: [{ target: emu/busy }], retries: 2 }
  quick: { deployments: [{ target: emu/late }], retries: 0 }
  typed-claude: claude/typed-claude
  gpt-4o-mini: { deployments: [{ target: openai/gpt-4o-mini }], retries: 0 }
  gpt-3.5-turbo: { deployments: [{ target: openai/gpt-3.5-turbo }], retries: 0 }
  o4-mini: { deployments: [{ target: openai/o4-mini }], retries: 0 }
  sonnet: { deployments: [{ target: anthropic/claude-sonnet-4-5 }], retries: 0 }
  odd-alias: { deployments: [{ target: emu/odd }], retries: 0 }
  odd-stream-alias: { deployments: [{ target: emu/bytes-stream }], retries: 0 }
  no-price: emu/never-priced
  spread:
    deployments: [{ target: emu/spread-a, rpm: 1, weight: 10000 }, { target: emu/spread-b, rpm: 1 }]
    retries: 0
routing: { default: default, tasks: { code: labels }, agents: { critic: labels } }
prices:
  - { provider: emu, models: [NAMES, spread-a, spread-b], input: "1", output: "2", max_output: 10000 }
  - { provider: claude, models: [typed-claude], input: "1", output: "2", max_output: 10000 }
budgets:
  - { name: everything, limit: 10000, period: day, hard: true, unbounded_ceiling: 10 }
  - { name: held, scope: { model: held }, limit: 20, period: total, hard: true, unbounded_ceiling: 12 }
  - { name: short, scope: { model: clamp }, limit: 0.005, period: total, hard: true, when_short: clamp, clamp_floor: 100 }
  - { name: soft, scope: { model: soft }, limit: 0.04, period: total, alert: [0.5, 1] }
  - { name: marker, scope: { model: marker }, limit: 0.00001, period: total, alert: [1] }
keys:
  limited: { key: os.environ/SYSTEM_TEST_CALLER, project: default }
limits:
  - { name: slow, scope: { key: limited }, requests: 2, per: minute, strategy: sliding-window }
guard: { max_cost_per_task: 0.05 }
intake: { job_runs_max: 3, job_retry_pause: 20ms }
worker: { retry_pause: 20ms }
SETTINGS
"#;

/// The text of the key `limited`, which may ask twice a minute.
pub(crate) const LIMITED: &str = "fb-limited-0123456789abcdef0123456789abcdef";

/// A running farebox.
pub(crate) struct Stage {
    pub(crate) emulator: Emulator,
    pub(crate) client: Client,
    pub(crate) ready: Value,
    process: Process,
    http: reqwest::Client,
    dir: TempDir,
}

static SHARED: OnceCell<Stage> = OnceCell::const_new();

/// The one that most tests use.
pub(crate) async fn shared() -> &'static Stage {
    SHARED.get_or_init(|| Stage::start("", &[], |up| up)).await
}

impl Stage {
    /// One of a test's own, with more lines for its config and more for its command.
    pub(crate) async fn start(
        settings: &str,
        args: &[&str],
        more: impl FnOnce(ProcessBuilder) -> ProcessBuilder,
    ) -> Stage {
        let aliases =
            ALIASES.map(|name| format!("  {name}: {{ deployments: [{{ target: emu/{name} }}], retries: 0 }}"));
        let config = CONFIG
            .replace("ALIASES", &aliases.join("\n"))
            .replace("NAMES", &ALIASES.join(", "))
            .replace("SETTINGS", settings);
        Stage::with_config(&config, args, more).await
    }

    /// One with a config of its own, in which `EMULATOR` is the emulator's address.
    pub(crate) async fn with_config(
        config: &str,
        args: &[&str],
        more: impl FnOnce(ProcessBuilder) -> ProcessBuilder,
    ) -> Stage {
        let dir = tempfile::Builder::new().prefix("farebox-stage-").tempdir().expect("a directory");
        let emulator = Emulator::start(farebox_emulator::Options { keep_requests: true, ..Default::default() })
            .await
            .expect("the emulator listens");
        let config = config.replace("EMULATOR", &emulator.base_url());
        std::fs::write(dir.path().join("farebox.yaml"), config).expect("the config is written");
        Stage::launch(dir, emulator, args, more).await
    }

    /// The same data, config and emulator, with a farebox that is started anew.
    pub(crate) async fn restart(self) -> Stage {
        let Stage { process, dir, emulator, .. } = self;
        process.sigterm();
        process.wait(PATIENCE).await.expect("farebox ends");
        std::fs::remove_file(dir.path().join("ready.json")).expect("it was ready");
        Stage::launch(dir, emulator, &[], |up| up).await
    }

    async fn launch(
        dir: TempDir,
        emulator: Emulator,
        args: &[&str],
        more: impl FnOnce(ProcessBuilder) -> ProcessBuilder,
    ) -> Stage {
        let ready_file = dir.path().join("ready.json");
        let up = Process::builder(FAREBOX)
            .args(["up", "--data"])
            .arg(dir.path().join("data"))
            .arg("--config")
            .arg(dir.path().join("farebox.yaml"))
            .arg("--ready-file")
            .arg(&ready_file)
            .args(args)
            .env("SYSTEM_TEST_KEY", "sk-system-test")
            .env("SYSTEM_TEST_CALLER", LIMITED);
        let process = more(up).spawn().await.expect("farebox starts");
        // The first start on a machine fetches the servers.
        let ready = process.wait_ready(&ready_file, PATIENCE * 4).await.unwrap_or_else(|error| {
            panic!("{error}:\n{}", process.log());
        });
        let client = agent(ready["nats"].as_str().expect("an address"), &Login::None).await;
        Stage { emulator, client, ready, process, http: one_shot(), dir }
    }

    pub(crate) fn bus(&self) -> &Bus {
        self.client.bus()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("farebox.yaml")
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// `request` as JSON; the whole final answer.
    pub(crate) async fn ask(&self, body: &Value) -> Value {
        self.ask_text(&body.to_string()).await
    }

    pub(crate) async fn ask_text(&self, body: &str) -> Value {
        let answer = self.ask_bytes(body).await;
        serde_json::from_slice(&answer).expect("a JSON caller gets JSON")
    }

    pub(crate) async fn ask_bytes(&self, body: &str) -> Vec<u8> {
        let answer = self.request("llm.request", body).await;
        assert_eq!(answer.headers.get(headers::TYPE), Some("final"));
        assert_eq!(answer.headers.get(headers::CONTENT_TYPE), Some(headers::JSON));
        answer.payload.to_vec()
    }

    /// One message and its reply.
    pub(crate) async fn request(&self, subject: &str, body: &str) -> Delivery {
        let payload = bytes::Bytes::copy_from_slice(body.as_bytes());
        self.bus().request(subject, Headers::new(), payload, SOON).await.expect("an answer")
    }

    pub(crate) async fn request_json(&self, subject: &str, body: &str) -> Value {
        serde_json::from_slice(&self.request(subject, body).await.payload).expect("JSON")
    }

    /// Asks for a streamed answer: where its messages arrive.
    pub(crate) async fn open(&self, body: &str) -> Inbox {
        let inbox = self.bus().inbox();
        let payload = bytes::Bytes::copy_from_slice(body.as_bytes());
        let sent = self.bus().publish_with_reply("llm.request", &inbox.subject(), Headers::new(), payload).await;
        sent.expect("the request is sent");
        inbox
    }

    /// The chunks and the final answer, as they come; numbers and order are checked.
    pub(crate) async fn read(&self, inbox: &mut Inbox) -> (Vec<bytes::Bytes>, bytes::Bytes) {
        let mut chunks = Vec::new();
        loop {
            let next = timeout(SOON, inbox.next()).await.expect("no silence").expect("the connection stays");
            if next.headers.get(headers::TYPE) == Some("final") {
                assert!(inbox.try_next().is_none(), "something came after the final answer");
                return (chunks, next.payload);
            }
            assert_eq!(next.headers.get(headers::TYPE), Some("chunk"));
            assert_eq!(next.headers.get(headers::SEQ), Some(chunks.len().to_string().as_str()));
            chunks.push(next.payload);
        }
    }

    /// A streamed answer of a JSON caller.
    pub(crate) async fn stream(&self, body: &Value) -> (Vec<Value>, Value) {
        let mut body = body.clone();
        body["stream"] = true.into();
        let (chunks, last) = self.read(&mut self.open(&body.to_string()).await).await;
        let json = |bytes: &bytes::Bytes| serde_json::from_slice(bytes).expect("a JSON caller gets JSON");
        let chunks: Vec<Value> = chunks.iter().map(json).collect();
        for (seq, chunk) in chunks.iter().enumerate() {
            assert_eq!(chunk["farebox"]["type"], "chunk");
            assert_eq!(chunk["farebox"]["seq"], seq);
        }
        (chunks, json(&last))
    }

    /// How often the emulator was asked for a model.
    pub(crate) fn asked(&self, model: &str) -> usize {
        self.emulator.ledger().entries().iter().filter(|entry| &*entry.model == model).count()
    }

    /// Waits until the emulator was asked for a model so often.
    pub(crate) async fn until_asked(&self, model: &str, times: usize) {
        let what = format!("{times} requests for {model} at the provider");
        farebox_testkit::eventually(SOON, &what, || async { self.asked(model) >= times }).await;
    }

    /// ClickHouse's answer to a question.
    pub(crate) async fn clickhouse(&self, sql: &str) -> String {
        let url = self.ready["clickhouse"].as_str().expect("an address");
        let answer = self.http.post(url).body(sql.to_owned()).send().await.expect("ClickHouse answers");
        let status = answer.status();
        let text = answer.text().await.expect("a text");
        assert!(status.is_success(), "ClickHouse refused `{sql}`: {text}");
        text
    }

    /// Waits until the guard has recorded how an answered call ended, which it hears right behind the caller: what the
    /// call did not use is there for others then. Its rows.
    pub(crate) async fn settled(&self, answer: &Value) -> Vec<Value> {
        let facts = &answer["farebox"];
        let attempts = facts["attempts"].as_u64().unwrap_or_else(|| panic!("no attempt: {answer}"));
        let id = facts["request_id"].as_str().expect("an id");
        self.rows(id, usize::try_from(attempts).expect("few")).await
    }

    /// The rows of a request, once there are `count` of them; never more.
    pub(crate) async fn rows(&self, request_id: &str, count: usize) -> Vec<Value> {
        let sql = format!(
            "SELECT *, toString(cost) AS cost_usd, toString(bound) AS bound_usd FROM farebox.calls WHERE request_id = \
             '{request_id}' ORDER BY attempt SETTINGS output_format_json_quote_64bit_integers = 0 FORMAT JSONEachRow"
        );
        let found = timeout(SOON, async {
            loop {
                let text = self.clickhouse(&sql).await;
                let rows: Vec<Value> = text.lines().map(|row| serde_json::from_str(row).expect("a row")).collect();
                if rows.len() >= count {
                    return rows;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let rows = found.await.unwrap_or_else(|_| panic!("no {count} rows for {request_id}"));
        assert_eq!(rows.len(), count, "{rows:?}");
        rows
    }
}

/// An agent's connection. Where those who have to say whose it is stand still for longer than the server waits for that, it
/// is refused, and comes again.
pub(crate) async fn agent(url: &str, login: &Login) -> Client {
    let options = Options { url: url.to_owned(), name: "agent".to_owned(), ..Options::default() };
    let give_up = Instant::now() + PATIENCE;
    loop {
        match Client::connect(&options, login.clone()).await {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < give_up, "nobody is let in: {error}"),
        }
    }
}

/// For questions that come now and then: a connection that its server closes just then loses none.
pub(crate) fn one_shot() -> reqwest::Client {
    reqwest::Client::builder().pool_max_idle_per_host(0).build().expect("a client")
}

/// A chat with one message.
pub(crate) fn chat(model: &str, farebox: Value) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "Hello" }], "farebox": farebox })
}

/// A request id that nobody else has.
pub(crate) fn fresh_id(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// An amount of money in pico-dollars, exactly.
pub(crate) fn picos(amount: &Value) -> i128 {
    let text = amount.as_str().unwrap_or_else(|| panic!("`{amount}` is no amount of money"));
    text.parse::<farebox_types::Money>().expect("an amount").picos()
}

/// The text that chunks of a JSON stream add up to.
pub(crate) fn text_of(chunks: &[Value]) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}
