//! Canaries for the keys of providers, projects and callers, one for prompts and one for answers, and where they must not
//! be found.

mod admin;

use std::{
    fs,
    path::{Path, PathBuf},
};

use farebox_bus::{Bus, Headers, Login, Options};
use farebox_emulator::{Fault, Script};
use farebox_testkit::eventually;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    edge::{http, wire},
    stage::{SOON, Stage, fresh_id, play},
};

const KEY: &str = "sk-canary-5d1f0a9c7e3b4826";
/// A project's own key for a provider.
const PROJECTS_KEY: &str = "sk-canary-b2c49d7716e05af8";
/// With what a caller of that project connects.
const CALLERS_KEY: &str = "fb-ck-canary90e1b7d35c2f48a6";
/// With what somebody tries to.
const WRONG_KEY: &str = "fb-ck-canary00d1e9a7c3b5f264";
const KEYS: [&str; 4] = [KEY, PROJECTS_KEY, CALLERS_KEY, WRONG_KEY];
const PROMPT: &str = "canaryprompt8841";
const ANSWER: &str = "canaryanswer3307";

/// The named stores in which a prompt and an answer may rest for a time.
const TRANSPORT: [&str; 3] = ["FAREBOX_JOBS", "FAREBOX_RESULTS", "OBJ_farebox-bodies"];

fn body(model: &str, id: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": PROMPT }], "farebox": { "request_id": id } })
}

/// All files below a directory.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

pub(crate) fn holds(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|part| part == word.as_bytes())
}

/// Where in the tables of ClickHouse a word stands, its own logs included.
pub(crate) async fn in_clickhouse(stage: &Stage, word: &str) -> Vec<String> {
    stage.clickhouse("SYSTEM FLUSH LOGS").await;
    let columns = stage
        .clickhouse(
            "SELECT c.database, c.table, c.name FROM system.columns c JOIN system.tables t ON t.database = c.database AND \
             t.name = c.table WHERE c.type LIKE '%String%' AND (c.database NOT IN ('system', 'information_schema', \
             'INFORMATION_SCHEMA') OR t.name LIKE '%\\_log') FORMAT TSV",
        )
        .await;
    assert!(columns.contains("farebox\tcalls\tmodel"), "{columns}");
    let mut found = Vec::new();
    for line in columns.lines() {
        let [database, table, column] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let text = format!("toString(`{column}`)");
        // The word is put together there, so that the question does not find itself.
        let (start, end) = word.split_at(4);
        let sql = format!("SELECT count() FROM `{database}`.`{table}` WHERE {text} LIKE concat('%{start}', '{end}%')");
        if stage.clickhouse(&sql).await.trim() != "0" {
            found.push(format!("{database}.{table}.{column}"));
        }
    }
    found
}

/// Calls of every sort: answered, streamed, refused with the key repeated, failed, cut, and a job.
async fn make_calls(stage: &Stage) -> Vec<Value> {
    let echo = format!("Incorrect API key provided: {KEY}. You sent: {PROMPT}");
    let scripts = [
        ("whole", Script::text(ANSWER)),
        ("401", Script::refuse(401, &echo)),
        ("500", Script::refuse(500, &echo)),
        ("error-body", Script::error_body(json!({ "error": { "message": echo, "type": "server_error" } }).to_string())),
        ("cut", Script::text(ANSWER).fault(Fault::CutAfter(3))),
        ("corrupt", Script::text(ANSWER).fault(Fault::CorruptAt(2))),
    ];
    let mut answers = Vec::new();
    for (alias, model) in [("gpt-4o-mini", "gpt-4o-mini"), ("sonnet", "claude-sonnet-4-5")] {
        for (name, script) in &scripts {
            for stream in [false, true] {
                stage.emulator.push(model, script.clone());
                let body = body(alias, &fresh_id(name));
                if stream {
                    answers.push(stage.stream(&body).await.1);
                } else {
                    answers.push(stage.ask(&body).await);
                }
            }
        }
    }
    let id = fresh_id("job");
    stage.emulator.push("gpt-4o-mini", Script::text(ANSWER));
    let receipt = stage.request_json("llm.job", &body("gpt-4o-mini", &id).to_string()).await;
    assert_eq!(receipt["stored"], true, "{receipt}");
    let stored = || async { stage.request_json(&format!("llm.result.{id}"), "").await["farebox"]["outcome"] == "ok" };
    eventually(SOON, "the job ends", stored).await;
    answers
}

/// A caller with a key, on the bus, whose project has its own key for a provider that says it again; and one whose key is
/// wrong.
async fn calls_with_a_key(stage: &Stage) -> Vec<Value> {
    let connect = async |key: &str| {
        let url = stage.ready["nats"].as_str().expect("an address").to_owned();
        let options = Options { url, name: "canary".to_owned(), ..Options::default() };
        Bus::connect_as(&options, Login::Token(key.to_owned())).await
    };
    let refused = connect(WRONG_KEY).await.err().expect("a wrong key lets nobody in").to_string();
    assert!(!refused.contains(WRONG_KEY), "{refused}");
    let bus = connect(CALLERS_KEY).await.expect("the key is good");
    let mut answers: Vec<Value> = Vec::new();
    for script in [Script::text(ANSWER), Script::refuse(401, format!("Incorrect API key provided: {PROJECTS_KEY}"))] {
        stage.emulator.push("gpt-4o-mini", script);
        let payload = body("gpt-4o-mini", &fresh_id("keyed")).to_string().into_bytes();
        let answer = bus.request("llm.request", Headers::new(), payload.into(), SOON).await.expect("an answer");
        answers.push(serde_json::from_slice(&answer.payload).expect("JSON"));
    }
    let said = answers[1]["error"]["message"].as_str().expect("a refusal is passed on");
    assert!(said.contains("Incorrect API key provided: [key]"), "the project's key was used and taken out: {said}");
    answers
}

/// The same over HTTP: everything that was said to callers, and how many calls it took.
async fn calls_over_http(stage: &Stage) -> (Vec<String>, usize) {
    let refusal = Script::refuse(401, format!("Incorrect API key provided: {PROJECTS_KEY}. You sent: {PROMPT}"));
    let scripts = [Script::text(ANSWER), refusal, Script::text(ANSWER).fault(Fault::CutAfter(3))];
    let mut said = Vec::new();
    let mut ask = async |key: (&str, &str), stream: bool| {
        let mut body = body("gpt-4o-mini", &fresh_id("http"));
        body["stream"] = stream.into();
        let answer =
            wire::ask(http(stage), &wire::post("/v1/chat/completions", &[key], body.to_string().as_bytes())).await;
        said.push(format!("{:?} {}", answer.head, answer.text()));
        answer.status()
    };
    let bearer = |key: &str| format!("Bearer {key}");
    for script in &scripts {
        for stream in [false, true] {
            stage.emulator.push("gpt-4o-mini", script.clone());
            ask(("authorization", &bearer(CALLERS_KEY)), stream).await;
        }
    }
    for key in [("x-api-key", WRONG_KEY), ("authorization", &bearer(WRONG_KEY))] {
        assert_eq!(ask(key, false).await, 401);
    }
    let calls = scripts.len() * 2;
    assert!(said[0].contains(ANSWER) && said[2].contains("Incorrect API key provided: [key]"), "{said:?}");
    (said, calls)
}

#[test]
fn keys_go_nowhere_and_prompts_only_into_the_transport_stores() {
    play(async {
        let settings = "logs: { log: \"trace\" }\n\
                        projects: { canary: { provider_keys: { openai: os.environ/CANARY_PROJECT } } }";
        let args = [
            "--set",
            "worker.project_secrets.env_prefix=CANARY_",
            "--set",
            "keys.ck={ key: os.environ/CANARY_CALLER, project: canary }",
        ];
        let keys = [("SYSTEM_TEST_KEY", KEY), ("CANARY_PROJECT", PROJECTS_KEY), ("CANARY_CALLER", CALLERS_KEY)];
        let stage = Stage::start(settings, &args, |up| keys.iter().fold(up, |up, (name, key)| up.env(name, key))).await;
        let mut heard = stage.bus().subscribe("llm.call.*", None).await.expect("facts");
        let mut events = stage.bus().subscribe("llm.event.*", None).await.expect("events");
        stage.bus().flush().await.expect("the server knows");

        let answers = make_calls(&stage).await;
        assert!(answers.iter().any(|answer| answer["farebox"]["outcome"] == "ok"));
        let refused: Vec<&Value> = answers.iter().filter(|answer| answer["error"]["provider_status"] == 401).collect();
        assert_eq!(refused.len(), 4, "the provider's refusals are passed on");
        for answer in refused {
            let message = answer["error"]["message"].as_str().expect("a message");
            assert!(message.contains("Incorrect API key provided: [key]"), "{message}");
        }
        let keyed = calls_with_a_key(&stage).await;
        for (answer, key) in answers.iter().chain(&keyed).flat_map(|answer| KEYS.map(|key| (answer, key))) {
            assert!(!answer.to_string().contains(key), "a caller was told a key: {answer}");
        }
        let (said, over_http) = calls_over_http(&stage).await;
        for (said, key) in said.iter().flat_map(|said| KEYS.map(|key| (said, key))) {
            assert!(!said.contains(key), "a caller over HTTP was told a key: {said}");
        }
        // The provider did get it.
        let ledger = stage.emulator.ledger().totals();
        assert!(ledger.answered > 0 && ledger.error > 0, "{ledger:?}");

        let calls = answers.len() + 1 + keyed.len() + over_http;
        let rows = "SELECT count() FROM farebox.calls";
        eventually(SOON, "every row is there", || async {
            stage.clickhouse(rows).await.trim().parse::<usize>().is_ok_and(|rows| rows >= calls)
        })
        .await;
        // A row may be there before its fact and its event have come: those of this project are waited for.
        let mine = answers.len() + 1;
        for heard in [&mut heard, &mut events] {
            for _ in 0..mine {
                let message = timeout(SOON, heard.next()).await.expect("one of each call").expect("it stays");
                for word in KEYS.into_iter().chain([PROMPT, ANSWER]) {
                    assert!(!holds(&message.payload, word), "`{word}` on {}", message.subject);
                }
            }
        }

        for word in KEYS.into_iter().chain([PROMPT, ANSWER]) {
            assert_eq!(in_clickhouse(&stage, word).await, Vec::<String>::new(), "`{word}` in ClickHouse");
            assert!(!stage.log().contains(word), "`{word}` in the log of farebox");
        }
        assert!(stage.log().contains("TRACE"), "the log was to be a talkative one");

        let mut kept = 0;
        for file in files(&stage.data()) {
            let Ok(bytes) = fs::read(&file) else { continue };
            for key in KEYS {
                assert!(!holds(&bytes, key), "the key {key} stands in {}", file.display());
            }
            let name = file.display().to_string();
            if TRANSPORT.iter().any(|store| name.contains(&format!("/{store}/"))) {
                kept += usize::from(holds(&bytes, ANSWER));
                continue;
            }
            for word in [PROMPT, ANSWER] {
                assert!(!holds(&bytes, word), "`{word}` stands in {name}");
            }
        }
        // Not in vain: what is kept for a day is found by the same search.
        assert!(kept > 0, "not one answer was found where answers are kept");
    });
}
