//! `farebox up` as a process: how it begins, ends, is killed, and comes back.

use std::{net::TcpListener, path::Path, time::Duration};

use farebox_bus::{Headers, Login};
use farebox_client::Client;
use farebox_testkit::{PATIENCE, Process, eventually, has_ended};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stage::{self, FAREBOX, SOON, play};

const FREE: [&str; 8] = [
    "--set",
    "nats.listen=127.0.0.1:0",
    "--set",
    "clickhouse.listen=127.0.0.1:0",
    "--set",
    "listen.grpc=127.0.0.1:0",
    "--set",
    "listen.http=127.0.0.1:0",
];

/// `farebox up --demo` on a data directory, and its ready file.
async fn up(data: &Path, args: &[&str]) -> (Process, Value) {
    let ready = data.join("ready.json");
    // It must not be an earlier one's.
    let _ = std::fs::remove_file(&ready);
    let process = start(data, args).await;
    let value = process.wait_ready(&ready, PATIENCE * 4).await;
    let value = value.unwrap_or_else(|error| panic!("{error}:\n{}", process.log()));
    (process, value)
}

async fn start(data: &Path, args: &[&str]) -> Process {
    let builder = Process::builder(FAREBOX).args(["up", "--demo", "--data"]).arg(data).args(args);
    builder.arg("--ready-file").arg(data.join("ready.json")).spawn().await.expect("farebox starts")
}

fn dir() -> TempDir {
    tempfile::Builder::new().prefix("farebox-up-").tempdir().expect("a directory")
}

fn pid(ready: &Value, name: &str) -> Pid {
    let pid = ready["pids"][name].as_i64().unwrap_or_else(|| panic!("no pid of {name} in {ready}"));
    Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid")
}

async fn gone(pid: Pid, what: &str) {
    let pid = pid.as_raw_nonzero().get().unsigned_abs();
    eventually(PATIENCE, &format!("{what} is gone"), || async { has_ended(pid) }).await;
}

async fn agent(ready: &Value) -> Client {
    stage::agent(ready["nats"].as_str().expect("an address"), &Login::None).await
}

async fn ask(agent: &Client, farebox: Value) -> Value {
    let body = json!({ "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 100, "farebox": farebox });
    let answer = agent.bus().request("llm.request", Headers::new(), body.to_string().into(), SOON).await;
    serde_json::from_slice(&answer.expect("an answer").payload).expect("JSON")
}

async fn count(ready: &Value) -> Option<u64> {
    let url = ready["clickhouse"].as_str().expect("an address");
    let asked = reqwest::Client::new().post(url).body("SELECT count() FROM farebox.calls").send().await.ok()?;
    asked.text().await.ok()?.trim().parse().ok()
}

#[test]
fn the_ready_file_says_where_everything_is() {
    play(async {
        let dir = dir();
        let (process, ready) = up(dir.path(), &FREE).await;
        assert!(ready["nats"].as_str().expect("nats").starts_with("nats://127.0.0.1:"), "{ready}");
        for name in ["clickhouse", "emulator", "http"] {
            assert!(ready[name].as_str().expect("an address").starts_with("http://127.0.0.1:"), "{ready}");
        }
        assert_eq!(ready["pids"]["farebox"], process.pid());
        assert_eq!(ready["pids"].as_object().expect("pids").len(), 3, "{ready}");
        // It is written when everything answers, so the first call works at once.
        let answer = ask(&agent(&ready).await, json!({})).await;
        assert_eq!(answer["farebox"]["outcome"], "ok", "{answer}");
        assert_eq!(answer["farebox"]["provider"], "demo", "{answer}");
        let edge = ready["http"].as_str().expect("an address");
        let asked = reqwest::get(format!("{edge}/ready")).await.expect("it listens");
        assert!(asked.status().is_success(), "{}", asked.text().await.expect("a text"));
        let vectors = reqwest::Client::new().post(format!("{edge}/v1/embeddings"));
        let vectors = vectors.body(r#"{"model":"demo-embed","input":"Hello"}"#).send().await.expect("it listens");
        let vectors: Value = vectors.json().await.expect("JSON");
        assert!(vectors["data"][0]["embedding"].as_array().is_some_and(|vector| !vector.is_empty()), "{vectors}");
        let text = std::fs::read_to_string(dir.path().join("ready.json")).expect("the file stays");
        assert_eq!(text.trim_end().lines().count(), 1);
        assert!(process.log().contains("an emulator answers, not a real model"));
    });
}

#[test]
fn it_stops_cleanly_on_ctrl_c_and_on_sigterm() {
    play(async {
        let dir = dir();
        for signal in [Process::sigint, Process::sigterm] {
            let (process, ready) = up(dir.path(), &FREE).await;
            let answer = ask(&agent(&ready).await, json!({})).await;
            assert_eq!(answer["farebox"]["outcome"], "ok", "{answer}");
            assert!(signal(&process));
            let exit = process.wait(PATIENCE).await.unwrap_or_else(|error| panic!("{error}:\n{}", process.log()));
            assert_eq!(exit.code, Some(0), "{exit}:\n{}", process.log());
            for part in ["nats", "clickhouse"] {
                assert!(test_kill_process(pid(&ready, part)).is_err(), "{part} was left behind");
            }
            assert!(!dir.path().join("farebox.json").exists(), "nobody is to find what has ended");
        }
    });
}

#[test]
fn kill_9_leaves_no_child_behind() {
    play(async {
        let dir = dir();
        let (process, ready) = up(dir.path(), &FREE).await;
        process.kill9().await;
        gone(pid(&ready, "nats"), "nats-server").await;
        gone(pid(&ready, "clickhouse"), "ClickHouse").await;
        // What it left on disk does not keep the next one away.
        let (process, ready) = up(dir.path(), &FREE).await;
        let answer = ask(&agent(&ready).await, json!({})).await;
        assert_eq!(answer["farebox"]["outcome"], "ok", "{answer}:\n{}", process.log());
    });
}

#[test]
fn a_second_one_on_the_same_data_is_refused() {
    play(async {
        let dir = dir();
        let (first, ready) = up(dir.path(), &FREE).await;
        let second = start(dir.path(), &FREE).await;
        let exit = second.wait(SOON).await.expect("it does not wait");
        assert_eq!(exit.code, Some(1));
        let said = second.log();
        assert!(said.contains("another farebox is running on"), "{said}");
        assert!(said.contains("--data"), "{said}");
        assert_eq!(said.trim_end().lines().filter(|line| line.starts_with("error:")).count(), 1, "{said}");
        assert!(first.is_running());
        let answer = ask(&agent(&ready).await, json!({})).await;
        assert_eq!(answer["farebox"]["outcome"], "ok", "{answer}");
    });
}

#[test]
fn a_taken_port_is_named_with_its_remedy() {
    play(async {
        for option in ["nats.listen", "clickhouse.listen"] {
            let dir = dir();
            let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = taken.local_addr().expect("an address").port();
            let set = format!("{option}=127.0.0.1:{port}");
            let process = start(dir.path(), &[&FREE[..], &["--set", &set]].concat()).await;
            let exit = process.wait(SOON).await.unwrap_or_else(|error| panic!("{error}:\n{}", process.log()));
            assert_eq!(exit.code, Some(1), "{}", process.log());
            let log = process.log();
            let said = log.lines().find(|line| line.starts_with("error:")).unwrap_or_else(|| panic!("{log}"));
            assert!(said.contains(&port.to_string()), "{option}: {said}");
            assert!(said.contains(option), "which option to change is not said: {said}");
        }
    });
}

#[test]
fn a_restart_keeps_rows_and_what_was_spent() {
    play(async {
        let dir = dir();
        // A call of the demo's models costs a little: the bound of a second one does not fit.
        let mut args = FREE.to_vec();
        args.extend(["--set", "guard.max_cost_per_day=100", "--set", "guard.max_cost_per_task=0.0003"]);
        let (process, ready) = up(dir.path(), &args).await;
        let task = json!({ "task_id": "t" });
        let client = agent(&ready).await;
        let mut calls = 0;
        let mut refused_at = None;
        loop {
            let answer = ask(&client, task.clone()).await;
            if answer["error"]["type"] == "over_budget" {
                if refused_at.replace(calls) == Some(calls) {
                    break;
                }
                // What the last call did not use may have been given back since: with its row it was.
                eventually(SOON, "every call has its row", || async { count(&ready).await == Some(calls) }).await;
                continue;
            }
            assert_eq!(answer["farebox"]["outcome"], "ok", "{answer}");
            calls += 1;
            assert!(calls < 200, "the budget has no effect: {answer}");
        }
        assert!(calls > 0, "not one call fits");
        assert!(process.sigterm());
        assert_eq!(process.wait(PATIENCE).await.expect("it ends").code, Some(0));

        let (_process, ready) = up(dir.path(), &args).await;
        eventually(SOON, "all rows are there", || async { count(&ready).await == Some(calls) }).await;
        let client = agent(&ready).await;
        let refused = ask(&client, task).await;
        assert_eq!(refused["error"]["type"], "over_budget", "{refused}");
        let other = ask(&client, json!({ "task_id": "another" })).await;
        assert_eq!(other["farebox"]["outcome"], "ok", "{other}");
        eventually(SOON, "and one more", || async { count(&ready).await == Some(calls + 1) }).await;
    });
}

#[test]
fn a_server_that_dies_alone_comes_back() {
    play(async {
        let dir = dir();
        let (process, ready) = up(dir.path(), &FREE).await;
        let client = agent(&ready).await;
        let answer = ask(&client, json!({})).await;
        assert_eq!(answer["farebox"]["outcome"], "ok", "{answer}");
        eventually(SOON, "the first row", || async { count(&ready).await == Some(1) }).await;

        kill_process(pid(&ready, "clickhouse"), Signal::KILL).expect("ClickHouse runs");
        let answer = ask(&client, json!({})).await;
        assert_eq!(answer["farebox"]["outcome"], "ok", "calls go on without ClickHouse: {answer}");
        eventually(PATIENCE, "ClickHouse is back, with both rows", || async { count(&ready).await == Some(2) }).await;

        kill_process(pid(&ready, "nats"), Signal::KILL).expect("NATS runs");
        let body = json!({ "messages": [{ "role": "user", "content": "Hello" }] }).to_string();
        eventually(PATIENCE, "calls are answered again", || async {
            let asked =
                client.bus().request("llm.request", Headers::new(), body.clone().into(), Duration::from_secs(2));
            let Ok(answer) = asked.await else { return false };
            let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
            answer["farebox"]["outcome"] == "ok"
        })
        .await;
        assert!(process.is_running());
        assert!(process.sigint());
        assert_eq!(process.wait(PATIENCE).await.expect("it ends").code, Some(0), "{}", process.log());
    });
}
