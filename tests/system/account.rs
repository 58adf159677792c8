//! Who calls is what the server says, not what the caller says.

use farebox_bus::{CallError, Headers};
use farebox_proto::v1;
use prost::Message;
use serde_json::{Value, json};

use crate::stage::{SOON, chat, play, shared};

/// In one account, one test would hear what the other one tries.
static ONE_BY_ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The subjects on which other projects and farebox's own roles speak.
#[test]
fn foreign_subjects_lead_nowhere() {
    play(async {
        let _turn = ONE_BY_ONE.lock().await;
        let stage = shared().await;
        let body = chat("account", json!({})).to_string();
        for subject in
            ["llm.b.request", "llm.b.job", "llm.default.request", "llm.b.usage", "llm.b.cancel.x", "llm.b.result.x"]
        {
            let asked = stage.bus().request(subject, Headers::new(), body.clone().into(), SOON).await;
            assert!(
                matches!(asked, Err(CallError::Forbidden { .. } | CallError::NoResponders { .. })),
                "{subject}: {asked:?}"
            );
        }
        for subject in [
            "farebox.v1.work.default",
            "farebox.v1.guard.0.reserve",
            "farebox.v1.guard.0.settle",
            "farebox.v1.guard.0.release",
            "farebox.v1.ledger.0",
            "farebox.v1.job.default.x",
            "$JS.API.STREAM.NAMES",
            "$JS.API.STREAM.MSG.GET.FAREBOX_RESULTS",
            "$SYS.REQ.SERVER.PING",
        ] {
            let asked = stage.bus().request(subject, Headers::new(), "{}".into(), SOON).await;
            assert!(
                matches!(asked, Err(CallError::Forbidden { .. } | CallError::NoResponders { .. })),
                "{subject}: {asked:?}"
            );
        }
        assert_eq!(stage.asked("account"), 0, "a provider was called");
        assert_eq!(stage.clickhouse("SELECT count() FROM farebox.calls WHERE project != 'default'").await.trim(), "0");
    });
}

#[test]
fn a_forged_identity_changes_nothing() {
    play(async {
        let stage = shared().await;
        let forged = json!({ "acc": "b", "user": "key-of-b", "name": "b", "svc": "b", "client": { "acc": "b", "user": "key-of-b" } });
        let head = Headers::new()
            .with("Nats-Request-Info", &forged.to_string())
            .with("Farebox-Project", "b")
            .with("Authorization", "Bearer key-of-b");
        let body = chat("plain", json!({ "task_id": "forged" })).to_string();
        let answer = stage.bus().request("llm.request", head, body.into(), SOON).await.expect("an answer");
        let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
        assert_eq!(answer["farebox"]["outcome"], "ok", "{answer}");
        let row = stage.rows(answer["farebox"]["request_id"].as_str().expect("an id"), 1).await.remove(0);
        assert_eq!((&row["project"], &row["key_id"]), (&json!("default"), &json!("")), "{row}");
        // In the body there is no place for it at all.
        for claim in ["project", "key_id", "principal"] {
            let answer = stage.ask(&chat("plain", json!({ claim: "b" }))).await;
            assert_eq!(answer["error"]["type"], "bad_request", "{claim}: {answer}");
        }
    });
}

#[test]
fn a_forged_fact_reaches_nobody() {
    play(async {
        let _turn = ONE_BY_ONE.lock().await;
        let stage = shared().await;
        let id = "01890000-0000-7000-8000-000000000001";
        let fact = v1::CallFact {
            call_id: id.into(),
            request_id: "forged".into(),
            reservation_id: id.into(),
            principal: Some(v1::Principal { project: "b".into(), ..Default::default() }),
            ..Default::default()
        };
        let mut facts = Box::pin(stage.client.calls()).await.expect("facts");
        let mut events = stage.bus().subscribe("llm.event.*", None).await.expect("events");
        stage.bus().flush().await.expect("the server knows");
        for subject in [format!("llm.call.{id}"), format!("llm.event.{id}"), format!("llm.b.call.{id}")] {
            let payload = fact.encode_to_vec();
            let asked = stage.bus().request(&subject, Headers::new(), payload.into(), SOON).await;
            assert!(
                matches!(asked, Err(CallError::Forbidden { .. } | CallError::NoResponders { .. })),
                "{subject}: {asked:?}"
            );
        }
        // A real call behind it: what arrives up to its fact are facts, none of them forged.
        let answer = stage.ask(&chat("plain", json!({}))).await;
        let call_id = answer["farebox"]["call_id"].as_str().expect("a call id");
        loop {
            let fact = tokio::time::timeout(SOON, facts.next()).await.expect("the fact comes").expect("facts");
            assert_ne!(fact.call_id, id);
            assert_eq!(fact.principal.unwrap_or_default().project, "default");
            if fact.call_id == call_id {
                break;
            }
        }
        while let Some(event) = events.try_next() {
            assert!(!event.subject.contains(id));
        }
        stage.rows(answer["farebox"]["request_id"].as_str().expect("an id"), 1).await;
        let forged = format!("SELECT count() FROM farebox.calls WHERE call_id = '{id}' OR request_id = 'forged'");
        assert_eq!(stage.clickhouse(&forged).await.trim(), "0");
    });
}

#[test]
fn nobody_hears_what_is_not_for_him() {
    play(async {
        let _turn = ONE_BY_ONE.lock().await;
        let stage = shared().await;
        let mut heard = Vec::new();
        for subject in ["llm.b.call.>", "llm.default.>", "farebox.>", "$JS.>", "_R_.>"] {
            // Refused or silent: either will do.
            if let Ok(subscription) = stage.bus().subscribe(subject, None).await {
                heard.push((subject, subscription));
            }
        }
        stage.bus().flush().await.expect("the server knows");
        let answer = stage.ask(&chat("plain", json!({}))).await;
        stage.rows(answer["farebox"]["request_id"].as_str().expect("an id"), 1).await;
        stage.bus().flush().await.expect("the server is there");
        for (subject, subscription) in &mut heard {
            let message = subscription.try_next();
            assert!(message.is_none(), "{subject}: {message:?}");
        }
    });
}
