//! What a call may cost at most, what has no bound, and what a provider allows.

use farebox_emulator::{Script, Usage};
use serde_json::json;

use crate::stage::{chat, fresh_id, play, shared};

#[test]
fn what_has_no_bound_is_refused_under_a_hard_budget_and_goes_through_without_one() {
    play(async {
        let stage = shared().await;
        let mut body = chat("hosted", json!({ "task_id": fresh_id("task") }));
        body["web_search_options"] = json!({});
        let refused = stage.ask(&body).await;
        assert_eq!(refused["error"]["type"], "unsupported", "{refused}");
        let message = refused["error"]["message"].as_str().expect("a message");
        assert!(message.contains("`web_search_options`") && message.contains("max_cost_per_task"), "{message}");
        assert_eq!(stage.asked("hosted"), 0);

        let id = fresh_id("hosted");
        let body = format!(
            r#"{{"model":"hosted", "web_search_options" : {{"x":1.10}},"messages":[{{"role":"user","content":"hi"}}],"farebox":{{"request_id":"{id}"}}}}"#
        );
        stage.emulator.script("hosted", Script::usage(Usage::new(10, 20)));
        let answer = stage.ask_text(&body).await;
        assert_eq!(answer["farebox"]["outcome"], "ok", "{answer}");
        let sent = stage.emulator.last_request("hosted").expect("it was sent");
        let sent = String::from_utf8(sent.to_vec()).expect("text");
        assert!(sent.contains(r#" "web_search_options" : {"x":1.10},"#), "{sent}");
        // What the search cost stands in no usage: the row does not pass for the whole bill.
        assert_eq!(answer["farebox"]["estimated"], true, "{answer}");
        let row = stage.rows(&id, 1).await.remove(0);
        assert_eq!(row["estimated"], true, "{row}");
    });
}

#[test]
fn a_call_above_what_a_provider_allows_goes_to_the_next_deployment_and_then_waits_for_another_time() {
    play(async {
        let stage = shared().await;
        let body = chat("spread", json!({}));
        let ask = || stage.ask(&body);
        for answer in [ask().await, ask().await] {
            assert_eq!(answer["farebox"]["outcome"], "ok", "{answer}");
            assert_eq!((answer["farebox"]["attempts"].as_u64(), &answer["farebox"]["warnings"]), (Some(1), &json!([])));
        }
        assert_eq!((stage.asked("spread-a"), stage.asked("spread-b")), (1, 1));
        let refused = ask().await;
        assert_eq!(refused["error"]["type"], "rate_limited", "{refused}");
        let after = refused["error"]["retry_after_ms"].as_u64().expect("when to come again");
        assert!((1..=60_000).contains(&after), "{refused}");
        assert_eq!((stage.asked("spread-a"), stage.asked("spread-b")), (1, 1));
    });
}

#[test]
fn an_answer_says_what_its_budgets_have_left() {
    play(async {
        let stage = shared().await;
        let mut body = chat("plain", json!({ "task_id": fresh_id("task") }));
        body["max_tokens"] = 100.into();
        let answer = stage.ask(&body).await;
        let budgets = answer["farebox"]["budgets"].as_array().expect("budgets");
        let task = budgets.iter().find(|left| left["budget"] == "max_cost_per_task").expect("the task's own");
        assert_eq!(task["limit_usd"], "0.05", "{task}");
        let left: farebox_types::Money = task["left_usd"].as_str().expect("an amount").parse().expect("an amount");
        let limit: farebox_types::Money = "0.05".parse().expect("an amount");
        assert!(left > farebox_types::Money::ZERO && left < limit, "{task}");
        assert!(answer["farebox"].get("clamped").is_none(), "{answer}");
    });
}
