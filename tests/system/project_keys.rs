//! A project's own key for a provider: it is what the provider sees, it is replaced while calls run, and it goes nowhere.

use std::{fs, time::Duration};

use farebox_bus::topology;
use farebox_emulator::{Recorded, Script, Usage};
use farebox_proto::v1;
use prost::Message;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    live::admin,
    secrets::{files, holds},
    stage::{Stage, chat, fresh_id, one_in_time, play},
};

const CONFIG: &str = r#"
nats: { listen: "127.0.0.1:0" }
clickhouse: { listen: "127.0.0.1:0" }
providers: { own: { kind: openai-compatible, api_base: "EMULATOR/own/v1", api_key: os.environ/SYSTEM_TEST_KEY } }
models: { chat: { deployments: [{ target: own/m }], retries: 0 } }
prices: [{ provider: own, models: [m], input: "1", output: "2", max_output: 1000 }]
worker: { project_secrets: { dirs: ["DIR"] } }
logs: { log: trace }
"#;

const FAREBOX: &str = "sk-canary-farebox-71c2";
const FIRST: &str = "sk-canary-project-one-90ab";
const SECOND: &str = "sk-canary-project-two-14fe";

/// The answer to a call, and what the provider saw as its key.
async fn call(stage: &Stage) -> (Value, Option<String>) {
    let body = json!({
        "id": "a", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": "hi" }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4 }
    });
    stage.emulator.route(
        "/own",
        Script::recorded(Recorded {
            status: 200,
            headers: vec![("content-type".into(), "application/json".into())],
            body: body.to_string().into(),
            usage: Usage::new(3, 1),
        }),
    );
    let answer = stage.ask(&chat("chat", json!({ "request_id": fresh_id("own") }))).await;
    let seen = stage.emulator.take_seen("/own").pop();
    let key = seen.map(|seen| seen.headers["authorization"].to_str().expect("a text").to_owned());
    (answer, key)
}

async fn with_key(stage: &Stage, reference: Option<&str>) {
    let provider_keys = reference.map(|reference| ("own".to_owned(), reference.to_owned())).into_iter().collect();
    let project = v1::Project { name: "default".to_owned(), provider_keys, ..Default::default() };
    let bucket = admin(stage).await.bucket(topology::POLICY);
    bucket.put("project.default", project.encode_to_vec().into()).await.expect("it is stored");
}

/// Who calls a second after a change, or later, is served by what holds since.
async fn at_once(stage: &Stage, is_it: impl Fn(&Value, Option<&str>) -> bool) -> Result<(), String> {
    let until = Instant::now() + Duration::from_secs(1);
    loop {
        let began = Instant::now();
        let (answer, seen) = call(stage).await;
        if is_it(&answer, seen.as_deref()) {
            return Ok(());
        }
        if began >= until {
            return Err(format!("{seen:?}: {answer}"));
        }
    }
}

/// One change after the other back and forth, until both acted at once.
async fn changes(stage: &Stage, reference: &str, is_it: impl Fn(&Value, Option<&str>) -> bool) {
    one_in_time(async || {
        with_key(stage, None).await;
        at_once(stage, |_, seen| seen == Some(&format!("Bearer {FAREBOX}"))).await?;
        with_key(stage, Some(reference)).await;
        at_once(stage, &is_it).await
    })
    .await;
}

#[test]
fn a_projects_own_key_is_what_the_provider_sees_and_nobody_else() {
    play(async {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("key");
        fs::write(&file, format!("{FIRST}\n")).expect("the key is written");
        let config = CONFIG.replace("DIR", &dir.path().display().to_string());
        let stage = Stage::with_config(&config, &[], |up| up.env("SYSTEM_TEST_KEY", FAREBOX)).await;
        assert_eq!(call(&stage).await.1, Some(format!("Bearer {FAREBOX}")));

        let first = format!("Bearer {FIRST}");
        changes(&stage, &format!("file:{}", file.display()), |_, seen| seen == Some(&first)).await;
        fs::write(dir.path().join("next"), SECOND).expect("the next key is written");
        fs::rename(dir.path().join("next"), &file).expect("it takes the other's place");
        assert_eq!(call(&stage).await.1, Some(format!("Bearer {SECOND}")), "the very next call");

        fs::remove_file(&file).expect("it is there");
        let (answer, seen) = call(&stage).await;
        assert_eq!((seen, &answer["error"]["type"]), (None, &json!("unavailable")), "{answer}");
        assert!(answer.to_string().contains("projects.default.provider_keys.own"), "{answer}");
        // Its own key is no project's.
        let refused = |answer: &Value, seen: Option<&str>| seen.is_none() && answer["error"]["type"] == "forbidden";
        changes(&stage, "os.environ/SYSTEM_TEST_KEY", refused).await;

        for key in [FAREBOX, FIRST, SECOND] {
            assert!(!stage.log().contains(key), "`{key}` in the log");
            for file in files(&stage.data()) {
                let Ok(bytes) = fs::read(&file) else { continue };
                assert!(!holds(&bytes, key), "`{key}` stands in {}", file.display());
            }
        }
    });
}
