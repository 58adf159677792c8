//! Jobs: stored, run when there is capacity, answered once.

use std::time::Duration;

use farebox_emulator::{Fault, Gate, Script};
use farebox_testkit::eventually;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::stage::{SOON, Stage, chat, fresh_id, play, shared};

/// Stores a job; the receipt.
async fn submit(stage: &Stage, body: &Value) -> Value {
    stage.request_json("llm.job", &body.to_string()).await
}

async fn result(stage: &Stage, id: &str) -> Value {
    stage.request_json(&format!("llm.result.{id}"), "").await
}

/// The final answer, asked for until it is there.
async fn ended(stage: &Stage, id: &str) -> Value {
    let asking = async {
        loop {
            let answer = result(stage, id).await;
            if answer["error"]["type"] != "unavailable" {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, asking).await.unwrap_or_else(|_| panic!("job {id} does not end"))
}

#[test]
fn a_job_has_a_receipt_and_one_kept_result() {
    play(async {
        let stage = shared().await;
        let id = fresh_id("job");
        let mut news = stage.bus().subscribe(&format!("llm.response.{id}"), None).await.expect("a subscription");
        stage.bus().flush().await.expect("the server knows");
        let gate = Gate::default();
        stage.emulator.push("job", Script::text("done").hold_after(0, &gate));
        let body = chat("job", json!({ "request_id": id }));
        let receipt = submit(stage, &body).await;
        assert_eq!(receipt, json!({ "request_id": id, "stored": true, "duplicate": false }));
        // Once more while it runs: the receipt again, no second job.
        stage.until_asked("job", 1).await;
        assert_eq!(submit(stage, &body).await, json!({ "request_id": id, "stored": true, "duplicate": true }));
        let early = result(stage, &id).await;
        assert_eq!(early["error"]["type"], "unavailable", "{early}");
        assert_eq!(early["error"]["retryable"], true);
        gate.open();

        let answer = timeout(SOON, news.next()).await.expect("no silence").expect("the answer is published");
        let value: Value = serde_json::from_slice(&answer.payload).expect("JSON");
        assert_eq!(value["choices"][0]["message"]["content"], "done", "{value}");
        assert_eq!(stage.request(&format!("llm.result.{id}"), "").await.payload, answer.payload);
        // And after its end.
        assert_eq!(submit(stage, &body).await["duplicate"], true);
        assert_eq!(ended(stage, &id).await, value);
        assert_eq!(stage.asked("job"), 1, "the job ran twice");
        let row = stage.rows(&id, 1).await.remove(0);
        assert_eq!((&row["job"], &row["outcome"]), (&json!(true), &json!("ok")));
        stage.bus().flush().await.expect("the server is there");
        assert!(news.try_next().is_none(), "the answer came twice");
    });
}

#[test]
fn another_body_under_a_jobs_id_is_a_conflict() {
    play(async {
        let stage = shared().await;
        let id = fresh_id("job");
        let body = chat("plain", json!({ "request_id": id }));
        assert_eq!(submit(stage, &body).await["stored"], true);
        let first = ended(stage, &id).await;
        let mut other = body.clone();
        other["temperature"] = 1.into();
        let refused = submit(stage, &other).await;
        assert_eq!(refused["stored"], false, "{refused}");
        assert_eq!(refused["error"]["type"], "conflict", "{refused}");
        assert_eq!(ended(stage, &id).await, first);
    });
}

#[test]
fn what_cannot_work_is_refused_instead_of_stored() {
    play(async {
        let stage = shared().await;
        let refused = submit(stage, &chat("no-such-model", json!({}))).await;
        assert_eq!((&refused["stored"], &refused["error"]["type"]), (&json!(false), &json!("not_found")), "{refused}");
        let unknown = result(stage, "never-seen").await;
        assert_eq!(unknown["error"]["type"], "not_found", "{unknown}");
    });
}

#[test]
fn a_job_that_fails_again_and_again_ends_with_an_answer() {
    play(async {
        let stage = shared().await;
        let id = fresh_id("job");
        stage.emulator.script("job-fails", Script::rate_limited(Duration::from_secs(1)));
        let receipt = submit(stage, &chat("job-fails", json!({ "request_id": id }))).await;
        assert_eq!(receipt["stored"], true, "{receipt}");
        let answer = ended(stage, &id).await;
        assert_eq!(answer["error"]["type"], "rate_limited", "{answer}");
        let message = answer["error"]["message"].as_str().expect("a message");
        assert!(message.contains("given up after 3 runs"), "{message}");
        assert!(message.contains("Rate limit reached"), "the provider's own words are lost: {message}");
        // One attempt each run, each with a row.
        assert_eq!(stage.asked("job-fails"), 3);
        let rows = stage.rows(&id, 3).await;
        assert!(rows.iter().all(|row| row["outcome"] == "error" && row["error_kind"] == "rate_limited"), "{rows:?}");
    });
}

#[test]
fn a_job_that_fails_once_in_passing_runs_again() {
    play(async {
        let stage = shared().await;
        let id = fresh_id("job");
        stage.emulator.push("broke", Script::rate_limited(Duration::from_millis(10)));
        stage.emulator.push("broke", Script::text("at last"));
        submit(stage, &chat("broke", json!({ "request_id": id }))).await;
        let answer = ended(stage, &id).await;
        assert_eq!(answer["choices"][0]["message"]["content"], "at last", "{answer}");
        stage.rows(&id, 2).await;
    });
}

#[test]
fn a_waiting_job_and_a_running_one_are_cancelled() {
    play(async {
        let stage = Stage::start("", &["--set", "intake.jobs_in_flight=1"], |up| up).await;
        stage.emulator.script("job", Script::default().fault(Fault::HangBeforeHead).bill_on_arrival());
        let (running, waiting, last) = (fresh_id("job"), fresh_id("job"), fresh_id("job"));
        submit(&stage, &chat("job", json!({ "request_id": running }))).await;
        stage.until_asked("job", 1).await;
        submit(&stage, &chat("job-waits", json!({ "request_id": waiting }))).await;

        let cancel = |id: &str| format!("llm.cancel.{id}");
        let receipt = stage.request_json(&cancel(&waiting), "").await;
        assert_eq!(receipt, json!({ "request_id": waiting, "cancelled": true }));
        let answer = ended(&stage, &waiting).await;
        assert_eq!(answer["error"]["type"], "cancelled", "{answer}");

        let receipt = stage.request_json(&cancel(&running), "").await;
        assert_eq!(receipt, json!({ "request_id": running, "cancelled": true }));
        let answer = ended(&stage, &running).await;
        assert_eq!(answer["error"]["type"], "cancelled", "{answer}");

        // Whoever comes behind them is served, and what was cancelled never ran.
        submit(&stage, &chat("plain", json!({ "request_id": last }))).await;
        assert_eq!(ended(&stage, &last).await["farebox"]["outcome"], "ok");
        assert_eq!(stage.asked("job-waits"), 0);
        assert_eq!(stage.asked("job"), 1);
        let rows = "SELECT count() FROM farebox.calls";
        eventually(SOON, "two rows", || async { stage.clickhouse(rows).await.trim() == "2" }).await;
        assert_eq!(ended(&stage, &waiting).await["error"]["type"], "cancelled");
    });
}
