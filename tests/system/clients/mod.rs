//! Programs that know nothing of farebox, pointed at it as if it were their provider: SDKs, frameworks and command lines, each
//! with models of several providers behind the same alias. What they do, the prompt orders (see `farebox_emulator`).
//!
//! A few run always; all of them with `CLIENTS=all` (`just clients`), single ones with `CLIENTS=name,…`. A script prints a line
//! for each check; all of what was billed has its row in the end.

pub(crate) mod install;

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use farebox_emulator::{Dialect, Entry, Script, State};
use farebox_testkit::{ProcessBuilder, Row, compare};
use farebox_types::Money;
use tokio::{process::Command, time::Instant};

use crate::stage::{Stage, play_within};

/// Installing is part of it, the first time on a machine.
const LIMIT: Duration = Duration::from_secs(3600);
const SCRIPT_LIMIT: Duration = Duration::from_secs(600);
const ROWS_LIMIT: Duration = Duration::from_secs(30);

/// A script, and what it runs with.
struct Client {
    name: &'static str,
    /// Pinned in `tests/clients/{python,node}`.
    python: Option<&'static str>,
    node: Option<&'static str>,
    /// Checks that run in every test run; `None`: none of it. An empty list: all.
    always: Option<&'static [&'static str]>,
}

const fn client(name: &'static str, python: Option<&'static str>, node: Option<&'static str>) -> Client {
    Client { name, python, node, always: None }
}

const CLIENTS: [Client; 15] = [
    Client { always: Some(&[]), ..client("openai_sdk", Some("sdk"), None) },
    Client { always: Some(&[]), ..client("anthropic_sdk", Some("sdk"), None) },
    Client { always: Some(&["plain_turn"]), ..client("claude_code", Some("bus"), Some("sdk")) },
    Client { always: Some(&[]), ..client("openai_sdk.mjs", None, Some("sdk")) },
    client("anthropic_sdk.mjs", None, Some("sdk")),
    client("langchain_client", Some("frameworks"), None),
    client("pydantic_ai_agent", Some("frameworks"), None),
    client("litellm_client", Some("frameworks"), None),
    client("instructor_client", Some("frameworks"), None),
    client("openai_agents", Some("frameworks"), None),
    client("llm_cli", Some("frameworks"), None),
    client("aider_cli", Some("aider"), None),
    client("ai_sdk.mjs", None, Some("agents")),
    client("codex_cli", Some("bus"), Some("agents")),
    client("opencode_cli", Some("bus"), Some("agents")),
];

/// What the models of the config cost, in dollars for a million tokens, whatever the bucket; and in millionths for a search.
const INPUT: i128 = 1;
const OUTPUT: i128 = 2;
const SEARCH: i128 = 10_000;

const CONFIG: &str = r#"
nats: { listen: "127.0.0.1:0" }
clickhouse: { listen: "127.0.0.1:0" }
listen: { http: "127.0.0.1:0", grpc: "127.0.0.1:0" }
providers:
  openai: { api_base: "EMULATOR/v1", api_key: os.environ/SYSTEM_TEST_KEY, prices: openai-like }
  anthropic: { api_base: "EMULATOR", api_key: os.environ/SYSTEM_TEST_KEY, prices: anthropic-like }
  gemini: { api_base: "EMULATOR/v1beta", api_key: os.environ/SYSTEM_TEST_KEY, prices: gemini-like }
models:
  gpt-4o-mini: { deployments: [{ target: openai/gpt-4o-mini }], retries: 0 }
  gpt-5-mini: { deployments: [{ target: openai/gpt-5-mini }], retries: 0 }
  claude-sonnet-4-5: { deployments: [{ target: anthropic/claude-sonnet-4-5 }], retries: 0 }
  gemini-2.5-flash: { deployments: [{ target: gemini/gemini-2.5-flash }], retries: 0 }
  o4-mini: { deployments: [{ target: openai/o4-mini }], retries: 0 }
  gpt-5: { deployments: [{ target: openai/gpt-5, dialect: openai-responses }], retries: 0 }
  gemini-3-pro: { deployments: [{ target: gemini/gemini-3-pro-preview }], retries: 0 }
  # Names with which a program gives its thinking a budget.
  claude-opus-4-5: { deployments: [{ target: openai/o4-mini }], retries: 0 }
  claude-haiku-4-5: { deployments: [{ target: gemini/gemini-2.5-flash }], retries: 0 }
  claude-bounded: { deployments: [{ target: anthropic/claude-sonnet-4-5 }], retries: 0 }
  claude-ceiling: { deployments: [{ target: anthropic/claude-sonnet-4-5 }], retries: 0 }
  text-embedding-3-small: { deployments: [{ target: openai/text-embedding-3-small }], retries: 0 }
  gemini-embedding-001: { deployments: [{ target: gemini/gemini-embedding-001 }], retries: 0 }
prices:
  - { provider: openai-like, models: [gpt-4o-mini], max_output: 16384, capabilities: [tools, vision], input: "1", output: "2" }
  - { provider: openai-like, models: [gpt-5-mini], max_output: 40000, capabilities: [reasoning], input: "1", output: "2" }
  - { provider: openai-like, models: [o4-mini, gpt-5, text-embedding-3-small], max_output: 100000, input: "1", output: "2" }
  - { provider: anthropic-like, models: [claude-sonnet-4-5], max_output: 64000, capabilities: [reasoning], input: "1", output: "2", per_search: "0.01" }
  - { provider: gemini-like, models: [gemini-2.5-flash, gemini-3-pro-preview, gemini-embedding-001], max_output: 64000, input: "1", output: "2" }
budgets:
  - { name: bounded, scope: { model: claude-bounded }, limit: 100, period: total, hard: true }
  - { name: ceiling, scope: { model: claude-ceiling }, limit: 100, period: total, hard: true, unbounded_ceiling: 5 }
keys:
  client: { key: os.environ/CLIENTS_KEY, project: default }
  narrow: { key: os.environ/CLIENTS_NARROW_KEY, project: default, models: [gemini-2.5-flash] }
  limited: { key: os.environ/CLIENTS_LIMITED_KEY, project: default }
limits:
  - { name: rarely, scope: { key: limited }, requests: 1, per: minute, strategy: sliding-window }
edge: { body_max: 2MiB, bodies_max: 4MiB, bodies_per_project: 4MiB, body_timeout: 3s }
"#;

/// In the environment of scripts by these names behind `FAREBOX_`, in that of farebox behind `CLIENTS_`.
const KEYS: [(&str, &str); 3] = [
    ("KEY", "fb-client-0123456789abcdef0123456789abcdef"),
    ("NARROW_KEY", "fb-narrow-0123456789abcdef0123456789abcdef"),
    ("LIMITED_KEY", "fb-limited-0123456789abcdef0123456789abcdef"),
];

#[test]
fn programs_that_know_nothing_of_farebox_are_served() {
    play_within(LIMIT, async {
        let keyed = |up| KEYS.iter().fold(up, |up: ProcessBuilder, (name, key)| up.env(format!("CLIENTS_{name}"), key));
        let stage = Stage::with_config(CONFIG, &[], keyed).await;
        stage.emulator.script("*", Script::obedient());
        let mut tally = Tally::default();
        for (client, checks) in chosen() {
            tally.take(client.name, &client.run(&stage, checks).await);
        }
        tally.print();
        assert!(tally.failed.is_empty(), "{:#?}\n{}", tally.failed, tally.said);
        rows_match(&stage).await;
    });
}

/// The clients of this run, and the checks of each; none named: all.
fn chosen() -> Vec<(&'static Client, &'static [&'static str])> {
    let wanted = std::env::var("CLIENTS").unwrap_or_default();
    let chosen: Vec<_> = match wanted.as_str() {
        "" => CLIENTS.iter().filter_map(|client| Some((client, client.always?))).collect(),
        "all" => CLIENTS.iter().map(|client| (client, [].as_slice())).collect(),
        names => {
            let is_named = |client: &&Client| names.split(',').any(|name| client.name == name);
            CLIENTS.iter().filter(is_named).map(|client| (client, [].as_slice())).collect()
        }
    };
    assert!(!chosen.is_empty(), "CLIENTS={wanted} names none");
    chosen
}

impl Client {
    /// What its script prints.
    async fn run(&self, stage: &Stage, checks: &[&str]) -> String {
        let home = tempfile::Builder::new().prefix("farebox-client-").tempdir().expect("a directory");
        let (program, script, path) = self.program(home.path());
        let mut command = Command::new(program);
        command.arg(script).args(checks).current_dir(home.path()).kill_on_drop(true).stdin(Stdio::null());
        // Nothing of this machine's user, and no way out of the machine.
        command.env_clear().env("PATH", path).env("HOME", home.path()).env("LANG", "C.UTF-8");
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env(name, "http://127.0.0.1:9");
        }
        command.env("NO_PROXY", "127.0.0.1").envs(KEYS.map(|(name, key)| (format!("FAREBOX_{name}"), key)));
        for (name, place) in [("FAREBOX_URL", "http"), ("FAREBOX_NATS", "nats"), ("FAREBOX_CLICKHOUSE", "clickhouse")] {
            command.env(name, stage.ready[place].as_str().expect("an address").trim_end_matches('/'));
        }
        command.env("FAREBOX_PROVIDER", stage.emulator.base_url());
        if let Some(name) = self.node {
            command.env("NODE_MODULES", install::node(name));
        }
        let output = tokio::time::timeout(SCRIPT_LIMIT, command.output()).await;
        let output = output.unwrap_or_else(|_| panic!("{} does not end", self.name)).expect("it starts");
        let said = String::from_utf8_lossy(&output.stdout);
        if output.status.success() {
            return said.into_owned();
        }
        format!("{said}\nFAILED its end: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr))
    }

    /// The interpreter, the script, and where commands are looked for.
    fn program(&self, home: &Path) -> (PathBuf, PathBuf, String) {
        let path = std::env::var("PATH").expect("a PATH");
        let Some(name) = self.python else {
            // A module is looked for beside the script that names it.
            let scripts = install::home().join("node");
            for entry in fs::read_dir(&scripts).expect("the scripts").flatten() {
                if entry.path().extension().is_some_and(|kind| kind == "mjs") {
                    fs::copy(entry.path(), home.join(entry.file_name())).expect("a copy");
                }
            }
            let modules = install::node(self.node.expect("a client needs Python or Node"));
            std::os::unix::fs::symlink(modules, home.join("node_modules")).expect("a link");
            return ("node".into(), home.join(self.name), path);
        };
        let python = install::python(name);
        let bin = python.parent().expect("a directory").display().to_string();
        let script = install::home().join("python").join(self.name).with_extension("py");
        (python, script, format!("{bin}:{path}"))
    }
}

/// How it went.
#[derive(Default)]
struct Tally {
    clients: usize,
    passed: usize,
    failed: Vec<String>,
    said: String,
}

impl Tally {
    fn take(&mut self, client: &str, said: &str) {
        let passed = said.lines().filter(|line| line.starts_with("ok ")).count();
        let failed = said.lines().filter(|line| line.starts_with("FAILED "));
        let before = self.failed.len();
        self.failed.extend(failed.map(|line| format!("{client}: {line}")));
        if passed == 0 && self.failed.len() == before {
            self.failed.push(format!("{client}: it checked nothing"));
        }
        self.clients += 1;
        self.passed += passed;
        self.said.push_str(&format!("== {client}: {passed} passed\n{said}\n"));
    }

    /// The last line of `just clients` is the line that is left in a file here.
    #[expect(clippy::print_stderr, reason = "the count is what such a run is for")]
    fn print(&self) {
        let commit = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
        let commit = commit.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default();
        let (failed, clients) = (self.failed.len(), self.clients);
        let line =
            format!("clients: {} checks of {clients} clients passed, {failed} failed, commit {commit}", self.passed);
        eprintln!("{}\n{line}", self.said);
        fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients.txt"), line).expect("it can be written");
    }
}

/// Waits until every call that was billed has its one row, with the same tokens and cost.
async fn rows_match(stage: &Stage) {
    let give_up = Instant::now() + ROWS_LIMIT;
    loop {
        let mut rows = Row::read(&stage.clickhouse(Row::QUERY).await).expect("rows");
        let entries = stage.emulator.ledger().entries();
        let called: HashSet<&str> = entries.iter().filter_map(|entry| entry.call_id.as_deref()).collect();
        // Counted tokens, and what no provider was asked: in no provider's ledger, and free.
        rows.retain(|row| called.contains(row.call_id.as_str()) || row.cost != Money::ZERO);
        match compare(&rows, &entries, bill) {
            Ok(matched) => return assert!(matched.billed > 0, "nothing was billed"),
            Err(faults) => assert!(Instant::now() < give_up, "the ledgers differ: {faults:#?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn bill(entry: &Entry) -> Money {
    let mut prompt = i128::from(entry.prompt_tokens);
    if entry.state == State::Cut && entry.dialect != Dialect::Anthropic {
        // Cut before it was said. The emulator counts four bytes, where a tokenizer finds up to five in prose.
        prompt = prompt * 4 / 5;
    }
    let used = prompt * INPUT + i128::from(entry.completion_tokens) * OUTPUT + i128::from(entry.searches) * SEARCH;
    Money::from_picos(if entry.billed { used * 1_000_000 } else { 0 })
}
