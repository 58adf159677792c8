//! How soon a change of keys and projects acts.

use farebox_testkit::eventually;

use super::*;
use crate::{
    secrets::{files, holds, in_clickhouse},
    stage::play,
};

fn is_connected(client: &Client) -> bool {
    client.connection_state() == async_nats::connection::State::Connected
}

#[test]
fn a_change_acts_within_a_second_and_no_key_is_written_down() {
    play(async {
        let tenants = Tenants::start().await;
        tenants.add_project("acme").await;
        let kept = tenants.add_key("kept", "acme", |_| {}).await;
        let lost = tenants.add_key("lost", "acme", |_| {}).await;
        let (stays, goes) = (tenants.connect(&kept).await, tenants.connect(&lost).await);
        for client in [&stays, &goes] {
            let answer = ask(client, "llm.request", HeaderMap::new(), &chat("plain", json!({}))).await;
            assert_eq!(answer["farebox"]["outcome"], "ok", "{answer}");
        }

        tenants.change_key("lost", |key| key.revoked_unix_ms = SystemClock.now().millis()).await;
        eventually(AT_ONCE, "the revoked key is out", || async { !is_connected(&goes) }).await;
        assert!(tenants.try_connect(ConnectOptions::with_token(lost.clone())).await.is_err(), "it comes in again");
        assert!(is_connected(&stays));

        let narrow = tenants
            .add_key("narrow", "acme", |key| {
                key.models = vec!["plain".to_owned(), "str*".to_owned()];
                key.pins = Some(v1::Labels { actor: "critic".to_owned(), ..Default::default() });
            })
            .await;
        let narrow_client = tenants.connect(&narrow).await;
        may_only_what_its_key_says(&tenants, &narrow_client).await;

        let project = tenants.store.get::<v1::Project>("acme").await.expect("it is read").expect("it is there");
        let disabled = v1::Project { disabled: true, ..project.entity };
        tenants.store.put(&disabled, project.revision).await.expect("it is stored");
        let out = || async { !is_connected(&stays) && !is_connected(&narrow_client) };
        eventually(AT_ONCE, "everybody of a disabled project is out", out).await;

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
