//! A config that changes while calls run: as it stands in the bucket, and over the admin API.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use farebox_bus::{Bus, Login, Options, topology};
use farebox_emulator::{Gate, Script};
use farebox_identity::{Accounts, Keyring, Role};
use farebox_proto::v1;
use farebox_testkit::{Process, eventually};
use farebox_types::{Clock, SystemClock};
use prost::Message;

use crate::stage::{FAREBOX, SOON, Stage, chat, fresh_id, picos, play};

const CONFIG: &str = r#"
nats: { listen: "127.0.0.1:0" }
clickhouse: { listen: "127.0.0.1:0" }
listen: { http: "127.0.0.1:0", grpc: "127.0.0.1:0" }
providers: { emu: { kind: openai-compatible, api_base: "EMULATOR/v1" } }
models: { chat: { deployments: [{ target: emu/old }], retries: 0 } }
prices: [{ provider: emu, models: [old, new], input: "1", output: "2", max_output: 1000 }]
"#;

/// The sections that change: `chat` is served elsewhere, by a provider of another name, and costs ten times as much.
const APPLIED: &str = r#"
providers: { other: { kind: openai-compatible, api_base: "EMULATOR/v1" } }
models: { chat: { deployments: [{ target: other/new }], retries: 0 } }
prices: [{ provider: other, models: [new], input: "10", output: "20", max_output: 1000 }]
"#;

/// The bus, as those see it who administer farebox.
pub(crate) async fn admin(stage: &Stage) -> Bus {
    let keyring = Keyring::load_or_create(&stage.data().join("nats").join("keys")).expect("the keys are there");
    let accounts = Accounts::new(keyring, SystemClock.now());
    let login = Login::Creds(accounts.role_credentials(Role::Admin).expect("a role"));
    let url = stage.ready["nats"].as_str().expect("an address").to_owned();
    let bus = Bus::connect_as(&Options { url, name: "admin".to_owned(), ..Options::default() }, login).await;
    bus.expect("it connects")
}

async fn apply(stage: &Stage, document: &str) -> u64 {
    let document = document.replace("EMULATOR", &stage.emulator.base_url());
    let applied = v1::AppliedConfig { document, ..Default::default() };
    let written =
        admin(stage).await.bucket(topology::CONFIG).put(topology::CONFIG_KEY, applied.encode_to_vec().into()).await;
    written.expect("it is stored")
}

/// The provider that answered, and what it cost, of a call that must succeed.
async fn call(stage: &Stage) -> (String, i128) {
    let answer = stage.ask(&chat("chat", serde_json::json!({ "request_id": fresh_id("live") }))).await;
    let report = &answer["farebox"];
    assert_eq!(report["outcome"], "ok", "{answer}");
    (report["provider"].as_str().expect("a provider").to_owned(), picos(&report["cost_usd"]))
}

#[test]
fn a_config_that_is_applied_acts_within_a_second_and_no_call_fails() {
    play(async {
        let stage = Stage::with_config(CONFIG, &[], |up| up).await;
        for model in ["old", "new"] {
            stage.emulator.script(model, Script::text("hello"));
        }
        let (provider, cost) = call(&stage).await;
        assert_eq!(provider, "emu");
        // A call that has begun goes on as it began, whatever holds when it ends.
        let gate = Gate::default();
        stage.emulator.push("old", Script::text("slow").hold_after(0, &gate));
        let done = AtomicBool::new(false);
        let slow = async {
            let (provider, slow) = call(&stage).await;
            assert_eq!((provider.as_str(), slow > 0 && slow < 10 * cost), ("emu", true), "pinned at its admission");
        };
        let steady = async {
            // The slow answer is the slow call's.
            stage.until_asked("old", 2).await;
            let mut calls = 0;
            while !done.load(Ordering::Relaxed) {
                call(&stage).await;
                calls += 1;
            }
            assert!(calls > 1, "{calls} calls");
        };
        let change = async {
            stage.until_asked("old", 4).await;
            apply(&stage, APPLIED).await;
            let acts = || async { call(&stage).await == ("other".to_owned(), 10 * cost) };
            eventually(Duration::from_secs(1), "the new config acts", acts).await;
            gate.open();
            done.store(true, Ordering::Relaxed);
        };
        tokio::join!(slow, steady, change);

        // What no role can use changes nothing.
        let revision = apply(&stage, "models: { chat: nowhere/new }\n").await;
        let named = format!("revision {revision}:1:");
        eventually(SOON, "the fault is said", || async {
            stage.log().contains(&named) && stage.log().contains("there is no provider `nowhere`")
        })
        .await;
        assert_eq!(call(&stage).await.0, "other");
        let revision =
            apply(&stage, &APPLIED.replace("api_base", "api_key: os.environ/NOT_SET_ANYWHERE, api_base")).await;
        eventually(SOON, "the missing secret is said", || async {
            let log = stage.log();
            let said = ["NOT_SET_ANYWHERE", "ERROR", "worker"];
            log.lines().any(|line| said.iter().all(|word| line.contains(word)))
                && log.contains(&format!("revision {revision}"))
        })
        .await;
        assert_eq!(call(&stage).await.0, "other", "the worker goes on with what it had");
    });
}

#[test]
fn what_was_applied_is_in_force_after_a_restart() {
    play(async {
        let stage = Stage::with_config(CONFIG, &[], |up| up).await;
        for model in ["old", "new"] {
            stage.emulator.script(model, Script::text("hello"));
        }
        apply(&stage, APPLIED).await;
        eventually(SOON, "it acts", || async { call(&stage).await.0 == "other" }).await;
        let stage = stage.restart().await;
        assert_eq!(call(&stage).await.0, "other");
        assert!(stage.log().contains("the config is an applied one"), "{}", stage.log());
    });
}

/// The config as it is, with a budget for everybody.
fn limited(usd: &str) -> String {
    let sections = CONFIG.lines().filter(|line| !line.contains("listen"));
    let budget = format!("budgets: [{{ name: everything, limit: {usd}, period: day, hard: true }}]");
    sections.chain([budget.as_str()]).map(|line| format!("{line}\n")).collect()
}

/// A command of an admin against a stage: whether it worked, and what it said. Without a key it comes with the stage's own.
pub(crate) async fn farebox(stage: &Stage, key: Option<&str>, args: &[&str]) -> (bool, String) {
    let mut command = Process::builder(FAREBOX).args(args).arg("--data").arg(stage.data());
    if let Some(key) = key {
        command = command.env("FAREBOX_ADMIN_KEY", key);
    }
    let process = command.spawn().await.expect("farebox starts");
    let exit = process.wait(SOON).await.unwrap_or_else(|error| panic!("{args:?}: {error}:\n{}", process.log()));
    (exit.success(), process.log())
}

async fn config(stage: &Stage, args: &[&str]) -> (bool, String) {
    farebox(stage, None, &[&["config"], args].concat()).await
}

/// Applies a document as an admin does; the revision that it makes.
async fn apply_by_command(stage: &Stage, document: &str, known: u64) -> Result<u64, String> {
    let file = stage.data().join(fresh_id("applied.yaml"));
    std::fs::write(&file, document.replace("EMULATOR", &stage.emulator.base_url())).expect("a file");
    let known = known.to_string();
    let (applied, said) =
        config(stage, &["apply", file.to_str().expect("a path"), "--revision", &known, "--reason", "a test"]).await;
    if !applied {
        return Err(said);
    }
    Ok(said.trim().strip_prefix("revision ").expect("it says which").parse().expect("a number"))
}

/// How the next call ends.
async fn outcome(stage: &Stage) -> String {
    let answer = stage.ask(&chat("chat", serde_json::json!({ "request_id": fresh_id("live") }))).await;
    let said = if answer["error"].is_null() { &answer["farebox"]["outcome"] } else { &answer["error"]["type"] };
    said.as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[test]
fn a_budget_that_is_applied_holds_within_a_second_and_is_brought_back() {
    const AT_ONCE: Duration = Duration::from_secs(1);
    play(async {
        let stage = Stage::with_config(CONFIG, &[], |up| up).await;
        stage.emulator.script("old", Script::text("hello"));
        let wide = apply_by_command(&stage, &limited("1000"), 0).await.expect("it is applied");
        assert_eq!(outcome(&stage).await, "ok");
        let narrow = apply_by_command(&stage, &limited("0.000000001"), wide).await.expect("it is applied");
        eventually(AT_ONCE, "the budget holds", || async { outcome(&stage).await == "over_budget" }).await;

        // What is wrong is said where it stands, and changes nothing.
        let wrong = limited("1000").replace("emu/old", "nowhere/old");
        let said = apply_by_command(&stage, &wrong, 0).await.expect_err("it is refused");
        let line = wrong.lines().position(|line| line.contains("nowhere")).expect("it is there") + 1;
        assert!(said.contains(&format!(":{line}:")) && said.contains("models.chat.deployments[0].target"), "{said}");
        let said = apply_by_command(&stage, &limited("1000"), wide).await.expect_err("it was changed since");
        assert!(said.contains(&format!("revision {narrow}, not {wide}")), "{said}");
        assert_eq!(outcome(&stage).await, "over_budget");

        let (wide, narrow) = (wide.to_string(), narrow.to_string());
        let (back, said) = config(&stage, &["roll-back", &wide, "--revision", &narrow]).await;
        assert!(back, "{said}");
        eventually(AT_ONCE, "the first budget is back", || async { outcome(&stage).await == "ok" }).await;
        let (listed, said) = config(&stage, &["history"]).await;
        assert!(listed && said.contains(&format!("{wide} again")) && said.contains("master-key"), "{said}");
        let (read, said) = config(&stage, &["running"]).await;
        assert!(read && said.contains("everything"), "{said}");
    });
}

#[test]
fn of_two_who_apply_at_once_one_is_told_that_the_other_was_first() {
    play(async {
        let stage = Stage::with_config(CONFIG, &[], |up| up).await;
        let known = apply_by_command(&stage, &limited("1"), 0).await.expect("it is applied");
        let (two, three) = (limited("2"), limited("3"));
        let both = tokio::join!(apply_by_command(&stage, &two, known), apply_by_command(&stage, &three, known));
        let late = match both {
            (Ok(_), Err(late)) | (Err(late), Ok(_)) => late,
            both => panic!("one of them comes too late: {both:?}"),
        };
        assert!(late.contains(&format!("not {known}")), "{late}");
    });
}

#[test]
fn a_request_is_explained_by_what_was_made_while_farebox_ran() {
    play(async {
        let stage = Stage::with_config(CONFIG, &[], |up| up).await;
        for command in [
            "project create acme",
            "key create --project acme --id ci",
            "budget set acme-day --scope project=acme --limit 5 --period day --kind hard --alert 0.8",
            "limit set acme-at-once --scope project=acme --concurrent 10",
        ] {
            let words: Vec<&str> = command.split(' ').collect();
            let (done, said) = farebox(&stage, None, &words).await;
            assert!(done, "{command}: {said}");
        }
        let body = r#"{ "model": "chat", "messages": [{ "role": "user", "content": "Hello" }] }"#;
        let explain = async |whose: [&str; 2]| {
            let (done, said) = config(&stage, &[&["explain", body, "--running"][..], &whose].concat()).await;
            assert!(done, "{said}");
            said
        };
        for whose in [["--project", "acme"], ["--key", "ci"]] {
            let said = explain(whose).await;
            for part in ["1. emu/old", "acme-day: applies", "5 USD in all (day), hard", "acme-at-once: applies"] {
                assert!(said.contains(part), "{part} is missing in:\n{said}");
            }
        }
        let said = explain(["--project", "default"]).await;
        assert!(said.contains("acme-day: does not apply") && said.contains("acme-at-once: does not apply"), "{said}");
    });
}
