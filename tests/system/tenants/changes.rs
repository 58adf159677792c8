//! How soon a change of keys and projects acts.

use farebox_emulator::{Fault, Script};
use farebox_testkit::eventually;
use tokio::time::Instant;

use super::*;
use crate::{
    secrets::{files, holds, in_clickhouse},
    stage::{one_in_time, play},
};

fn is_connected(client: &Client) -> bool {
    client.connection_state() == async_nats::connection::State::Connected
}

/// Name, key and client of a newcomer, who comes in at the first try, and no later than a second after somebody whom the
/// server could ask about before.
async fn let_in_at_once(tenants: &Tenants, known: &str) -> Result<(String, String, Client), String> {
    let (name, key) = tenants.newcomer().await;
    let began = Instant::now();
    let coming = async |key: &str| {
        let client = tenants.try_connect(ConnectOptions::with_token(key.to_owned())).await;
        client.map(|client| (client, began.elapsed())).map_err(|error| error.to_string())
    };
    let (new, known) = tokio::join!(coming(&key), coming(known));
    let ((client, took), (_, usual)) = (new?, known?);
    if took <= usual + AT_ONCE { Ok((name, key, client)) } else { Err(format!("let in after {took:?}, not {usual:?}")) }
}

async fn out_at_once(client: &Client) -> Result<(), String> {
    let going = async {
        while is_connected(client) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(AT_ONCE, going).await.map_err(|_| "out late".to_owned())
}

#[test]
fn a_change_acts_within_a_second_and_no_key_is_written_down() {
    play(async {
        let tenants = Tenants::start().await;
        tenants.add_project("acme").await;
        let kept = tenants.add_key("kept", "acme", |_| {}).await;
        let stays = tenants.connect(&kept).await;

        let lost = one_in_time(async || {
            let (name, key, goes) = let_in_at_once(&tenants, &kept).await?;
            for client in [&stays, &goes] {
                let answer = ask(client, "llm.request", HeaderMap::new(), &chat("plain", json!({}))).await;
                assert_eq!(answer["farebox"]["outcome"], "ok", "{answer}");
            }
            tenants.revoke(&name).await;
            out_at_once(&goes).await?;
            Ok(key)
        })
        .await;
        assert!(tenants.try_connect(ConnectOptions::with_token(lost.clone())).await.is_err(), "it comes in again");
        assert!(is_connected(&stays));

        let narrow = tenants
            .add_key("narrow", "acme", |key| {
                key.models = vec!["plain".to_owned(), "str*".to_owned()];
                key.pins = Some(v1::Labels { actor: "critic".to_owned(), ..Default::default() });
            })
            .await;
        may_only_what_its_key_says(&tenants, &tenants.connect(&narrow).await).await;

        // Everybody of a disabled project.
        one_in_time(async || {
            let (name, _, first) = let_in_at_once(&tenants, &kept).await?;
            let second = tenants.connect(&tenants.add_key(&format!("{name}b"), &name, |_| {}).await).await;
            tenants.disable(&name).await;
            out_at_once(&first).await?;
            out_at_once(&second).await
        })
        .await;
        assert!(is_connected(&stays));

        for key in [&kept, &lost, &narrow] {
            let secret = key.rsplit('-').next().expect("its secret");
            assert!(!tenants.stage.log().contains(secret), "a key stands in the log of farebox");
            assert_eq!(in_clickhouse(&tenants.stage, secret).await, Vec::<String>::new());
            for file in files(&tenants.stage.data()) {
                let Ok(bytes) = std::fs::read(&file) else { continue };
                assert!(!holds(&bytes, secret), "a key stands in {}", file.display());
            }
        }
        // Not in vain: what is stored of a key is found by the same search.
        let stored = files(&tenants.stage.data())
            .iter()
            .any(|file| std::fs::read(file).is_ok_and(|bytes| holds(&bytes, "$KV.farebox-policy.key.narrow")));
        assert!(stored, "the entry of the key was not found where it is stored");
        assert!(tenants.stage.log().contains("TRACE"), "the log was to be a talkative one");
    });
}

async fn may_only_what_its_key_says(tenants: &Tenants, client: &Client) {
    let body = chat("plain", json!({ "actor": "writer", "task_id": "t" }));
    let answer = ask(client, "llm.request", HeaderMap::new(), &body).await;
    let row = tenants.stage.rows(answer["farebox"]["request_id"].as_str().expect("an id"), 1).await.remove(0);
    assert_eq!((&row["actor"], &row["task_id"]), (&json!("critic"), &json!("t")), "{row}");
    let asked = [
        chat("bytes", json!({})),
        chat("no-such-model", json!({})),
        chat("plain", json!({ "fallback_models": ["bytes"] })),
        // What a task leads to.
        json!({ "messages": [{ "role": "user", "content": "Hi" }], "farebox": { "task_type": "code" } }),
    ];
    for body in asked {
        for subject in ["llm.request", "llm.job"] {
            let answer = ask(client, subject, HeaderMap::new(), &body).await;
            assert_eq!(answer["error"]["type"], "forbidden", "{subject} {body}: {answer}");
            let said = answer["error"]["message"].as_str().expect("a message");
            assert!(said.contains("plain, str*"), "{said}");
        }
    }
}

/// The final answer of a job, asked for until it is there.
async fn ended(client: &Client, id: &str) -> Value {
    let asking = async {
        loop {
            let answer = ask(client, &format!("llm.result.{id}"), HeaderMap::new(), &Value::Null).await;
            if answer["error"]["type"] != "unavailable" {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, asking).await.unwrap_or_else(|_| panic!("job {id} does not end"))
}

#[test]
fn a_job_is_not_run_for_a_key_that_was_revoked_while_it_waited() {
    play(async {
        let tenants = Tenants::with(&["--set", "intake.jobs_in_flight=1"]).await;
        let stage = &tenants.stage;
        tenants.add_project("acme").await;
        let stays = tenants.connect(&tenants.add_key("stays", "acme", |_| {}).await).await;
        let goes = tenants.connect(&tenants.add_key("goes", "acme", |_| {}).await).await;
        let submit = async |client: &Client, model: &str| {
            let id = fresh_id("job");
            let body = chat(model, json!({ "request_id": id }));
            let receipt = ask(client, "llm.job", HeaderMap::new(), &body).await;
            assert_eq!(receipt["stored"], true, "{receipt}");
            id
        };
        stage.emulator.script("job", Script::default().fault(Fault::HangBeforeHead));
        let first = submit(&stays, "job").await;
        stage.until_asked("job", 1).await;
        let (second, third) = (submit(&goes, "job-waits").await, submit(&stays, "plain").await);

        tenants.revoke("goes").await;
        eventually(SOON, "the revoked key is out", || async { !is_connected(&goes) }).await;
        let receipt = ask(&stays, &format!("llm.cancel.{first}"), HeaderMap::new(), &Value::Null).await;
        assert_eq!(receipt["cancelled"], true, "{receipt}");

        let refused = ended(&stays, &second).await;
        assert_eq!(refused["error"]["type"], "unauthenticated", "{refused}");
        assert!(refused["error"]["message"].as_str().is_some_and(|said| said.contains("revoked")), "{refused}");
        assert_eq!(refused["error"]["retryable"], false, "{refused}");
        // Its project's other key is served as before.
        assert_eq!(ended(&stays, &third).await["farebox"]["outcome"], "ok");
        stage.rows(&third, 1).await;
        stage.rows(&second, 0).await;
        assert_eq!(stage.asked("job-waits"), 0, "the provider was called for it");
    });
}
