//! A canary for the providers' key, one for prompts and one for answers, and where they must not be found.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use farebox_emulator::{Fault, Script};
use farebox_testkit::eventually;
use serde_json::{Value, json};

use crate::stage::{SOON, Stage, fresh_id, play};

const KEY: &str = "sk-canary-5d1f0a9c7e3b4826";
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

#[test]
fn keys_go_nowhere_and_prompts_only_into_the_transport_stores() {
    play(async {
        let settings = "logs: { log: \"trace\" }";
        let stage = Stage::start(settings, &[], |up| up.env("SYSTEM_TEST_KEY", KEY)).await;
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
        for answer in &answers {
            assert!(!answer.to_string().contains(KEY), "a caller was told the provider's key: {answer}");
        }
        // The provider did get it.
        let ledger = stage.emulator.ledger().totals();
        assert!(ledger.answered > 0 && ledger.error > 0, "{ledger:?}");

        let calls = answers.len() + 1;
        let rows = "SELECT count() FROM farebox.calls";
        eventually(SOON, "every row is there", || async {
            stage.clickhouse(rows).await.trim().parse::<usize>().is_ok_and(|rows| rows >= calls)
        })
        .await;
        stage.bus().flush().await.expect("the server is there");
        let mut facts = 0;
        while let Some(message) = heard.try_next().or_else(|| events.try_next()) {
            facts += 1;
            for word in [KEY, PROMPT, ANSWER] {
                assert!(!holds(&message.payload, word), "`{word}` on {}", message.subject);
            }
        }
        assert!(facts >= 2 * calls, "{facts} facts and events of {calls} calls");

        for word in [KEY, PROMPT, ANSWER] {
            assert_eq!(in_clickhouse(&stage, word).await, Vec::<String>::new(), "`{word}` in ClickHouse");
            assert!(!stage.log().contains(word), "`{word}` in the log of farebox");
        }
        assert!(stage.log().contains("TRACE"), "the log was to be a talkative one");

        let mut kept = 0;
        for file in files(&stage.data()) {
            let Ok(bytes) = fs::read(&file) else { continue };
            assert!(!holds(&bytes, KEY), "the key stands in {}", file.display());
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
        tokio::time::timeout(Duration::from_secs(1), stage.bus().flush()).await.expect("in time").expect("it is there");
    });
}
