//! `farebox doctor` finds what is wrong, and says what to do.

use std::process::Output;

use serde_json::Value;
use tokio::process::Command;

use crate::{
    edge,
    stage::{FAREBOX, play, shared},
};

async fn doctor(args: &[&str], key: Option<&str>) -> Output {
    let mut command = Command::new(FAREBOX);
    command.arg("doctor").args(args).env_remove("FAREBOX_KEY").env_remove("FAREBOX_URL");
    if let Some(key) = key {
        command.env("FAREBOX_KEY", key);
    }
    command.output().await.expect("farebox runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn what_works_is_said_and_what_does_not_with_what_to_do() {
    play(async {
        let stage = shared().await;
        let url = stage.ready["http"].as_str().expect("an address");
        let well = doctor(&[url, "--model", "plain"], None).await;
        let said = text(&well.stdout);
        assert!(well.status.success(), "{said}");
        for line in ["✓ connection: ", "✓ parts: ", "✓ key: ", "✓ plain: answered by ", "✓ plain streamed: "]
        {
            assert!(said.lines().any(|said| said.starts_with(line)), "{line} in {said}");
        }
        assert!(said.lines().last().is_some_and(|line| line.contains("all well; 5 checks, $0.0")), "{said}");

        let ill = doctor(&[&format!("{url}/v1"), "--model", "plain", "--model", "nobody", "--json"], None).await;
        assert_eq!(ill.status.code(), Some(1));
        let found: Value = serde_json::from_slice(&ill.stdout).expect("JSON");
        assert_eq!((&found["ok"], &found["failed"]), (&false.into(), &1.into()), "{found}");
        let nobody = &found["checks"][5];
        assert_eq!(nobody["check"], "nobody", "{found}");
        assert!(nobody["seen"].as_str().is_some_and(|seen| seen.contains("nobody") && seen.contains("404")), "{found}");

        let key = "fb-0123456789abcdef-nobodyhasthissecretnobodyhasthissecret";
        let closed = doctor(&[url, "--model", "plain"], Some(key)).await;
        let said = text(&closed.stdout) + &text(&closed.stderr);
        assert_eq!(closed.status.code(), Some(1), "{said}");
        assert!(said.contains("✗ key: ") && said.contains("farebox key create"), "{said}");
        assert!(!said.contains("nobodyhasthissecret"), "a key is not shown: {said}");
    });
}

#[test]
fn what_is_asked_of_openai_its_models_that_reason_take() {
    play(async {
        let stage = edge::shared().await;
        let well = doctor(&[&format!("http://{}", edge::http(stage)), "--model", "chat-doctor"], None).await;
        assert!(well.status.success(), "{}", text(&well.stdout));
        let asked = stage.emulator.last_request("chat-doctor").expect("it was asked");
        let asked: Value = serde_json::from_slice(&asked).expect("JSON");
        assert!(asked["max_tokens"].is_null() && asked["max_completion_tokens"].is_u64(), "{asked}");
    });
}

#[test]
fn where_nothing_listens_it_says_how_to_start() {
    play(async {
        let nothing = doctor(&["http://127.0.0.1:9"], None).await;
        let said = text(&nothing.stdout);
        assert_eq!(nothing.status.code(), Some(1), "{said}");
        assert!(said.contains("✗ connection: ") && said.contains("farebox up"), "{said}");
        assert_eq!(doctor(&["no url"], None).await.status.code(), Some(2));
    });
}
