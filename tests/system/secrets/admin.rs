//! What admins come with, make and write by mistake: the answer that makes a key has it, nothing else has any of it.

use farebox_testkit::eventually;
use rustix::process::{Pid, Signal, kill_process};

use super::{files, holds, in_clickhouse};
use crate::{
    live::farebox,
    stage::{SOON, Stage, play},
};

const MASTER: &str = "canary-master-9e41c7d05b3f82a6";
/// No key at all, and one of a key that is there.
const WRONG: [&str; 2] = ["canary-wrong-27f0b8e6d14c93a5", "fb-boss-canarywrong5c2e90b7d1f3a864"];
/// The secret itself where only a reference to it may stand.
const MISPLACED: &str = "sk-canary-misplaced-b61d84f7a0c35e29";
/// What may be written down, and is.
const REASON: &str = "canaryreason5512";

/// What was said, and the keys that were made.
#[derive(Default)]
struct Heard {
    said: Vec<String>,
    keys: Vec<String>,
}

impl Heard {
    async fn works(&mut self, stage: &Stage, args: &[&str]) {
        let (worked, said) = farebox(stage, Some(MASTER), args).await;
        assert!(worked, "{args:?}: {said}");
        self.said.push(said);
    }

    async fn fails(&mut self, stage: &Stage, admin_key: &str, args: &[&str], why: &str) {
        let (worked, said) = farebox(stage, Some(admin_key), args).await;
        assert!(!worked && said.contains(why), "{args:?}: {said}");
        self.said.push(said);
    }

    /// The key that a command makes. Whatever else it says is kept.
    async fn makes(&mut self, stage: &Stage, args: &[&str]) -> String {
        let (worked, said) = farebox(stage, Some(MASTER), args).await;
        assert!(worked, "{args:?}: {said}");
        let key = said.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').find(|word| word.starts_with("fb-"));
        let key = key.unwrap_or_else(|| panic!("{args:?}: {said}")).to_owned();
        self.said.push(said.replacen(&key, "", 1));
        self.keys.push(key.clone());
        key
    }
}

/// Everything that goes wrong with a key or a secret at hand.
async fn mistakes(stage: &Stage, heard: &mut Heard) {
    for wrong in WRONG {
        heard.fails(stage, wrong, &["key", "list"], "key").await;
        heard.fails(stage, wrong, &["key", "create", "--project", "canary"], "key").await;
    }
    let key = format!("openai={MISPLACED}");
    for args in [["project", "create", "other"], ["project", "update", "canary"]] {
        heard
            .fails(
                stage,
                MASTER,
                &[&args[..], &["--provider-key", key.as_str()]].concat(),
                "never written as plain text",
            )
            .await;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("applied.yaml");
    std::fs::write(&file, format!("providers: {{ openai: {{ api_key: {MISPLACED} }} }}\n")).expect("it is written");
    let file = file.display().to_string();
    heard.fails(stage, MASTER, &["config", "apply", &file], "never written as plain text").await;
    heard.fails(stage, MASTER, &["key", "create", "--project", "nowhere"], "nowhere").await;
}

/// A write whose end nobody knows: the bus stands still. Then the same again.
async fn an_unclear_write(stage: &Stage, heard: &mut Heard) {
    let pid = stage.ready["pids"]["nats"].as_i64().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let pid = pid.expect("the pid of nats-server");
    let create = ["key", "create", "--project", "canary", "--id", "late", "--request-id", "late-1"];
    kill_process(pid, Signal::STOP).expect("it is there");
    heard.fails(stage, MASTER, &create, "not done within").await;
    kill_process(pid, Signal::CONT).expect("it is there");
    let back = || async { farebox(stage, Some(MASTER), &["key", "list"]).await.0 };
    eventually(SOON, "the bus is back", back).await;
    heard.makes(stage, &create).await;
}

#[test]
fn what_admins_come_with_make_and_misplace_goes_nowhere() {
    play(async {
        let settings = "logs: { log: \"trace\" }\nadmin: { master_key: os.environ/CANARY_MASTER, request_timeout: 4s }";
        let stage = Stage::start(settings, &[], |up| up.env("CANARY_MASTER", MASTER)).await;
        let mut heard = Heard::default();
        heard.works(&stage, &["project", "create", "canary", "--reason", REASON]).await;
        heard.makes(&stage, &["key", "create", "--project", "canary", "--id", "ck", "--reason", REASON]).await;
        heard.makes(&stage, &["key", "rotate", "ck", "--overlap", "1h"]).await;
        let boss = heard.makes(&stage, &["key", "create", "--role", "operator", "--id", "boss", "--json"]).await;
        mistakes(&stage, &mut heard).await;
        an_unclear_write(&stage, &mut heard).await;
        heard.works(&stage, &["key", "revoke", "ck"]).await;
        heard.works(&stage, &["key", "delete", "ck"]).await;
        for args in [&["key", "list", "--all"][..], &["key", "show", "late"], &["config", "running"]] {
            heard.works(&stage, args).await;
        }
        let recorded = || async { farebox(&stage, Some(MASTER), &["audit", "--json"]).await.1.contains(REASON) };
        eventually(SOON, "what was changed is in the record", recorded).await;
        heard.works(&stage, &["audit", "--json"]).await;
        let (worked, said) = farebox(&stage, Some(&boss), &["key", "list", "--json"]).await;
        assert!(worked, "{said}");
        heard.said.push(said);

        let secrets = heard.keys.iter().map(|key| key.rsplit('-').next().expect("its secret"));
        let words: Vec<&str> = secrets.chain([MASTER, MISPLACED]).chain(WRONG).collect();
        for word in &words {
            for said in &heard.said {
                assert!(!said.contains(word), "`{word}` was said: {said}");
            }
            assert!(!stage.log().contains(word), "`{word}` in the log of farebox");
            assert_eq!(in_clickhouse(&stage, word).await, Vec::<String>::new(), "`{word}` in ClickHouse");
        }
        assert!(stage.log().contains("TRACE"), "the log was to be a talkative one");
        // Where changes are kept, and their records.
        let mut kept = ["/KV_farebox-policy/", "/FAREBOX_AUDIT/"].map(|stream| (stream, false));
        for file in files(&stage.data()) {
            let Ok(bytes) = std::fs::read(&file) else { continue };
            let name = file.display().to_string();
            for word in &words {
                assert!(!holds(&bytes, word), "`{word}` stands in {name}");
            }
            for (stream, found) in &mut kept {
                *found |= name.contains(*stream) && holds(&bytes, REASON);
            }
        }
        // Not in vain: what may be kept is found by the same search.
        assert_eq!(kept.map(|(_, found)| found), [true, true], "{kept:?}");
    });
}
