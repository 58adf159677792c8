//! What a call may cost at most, what has no bound, and what a provider allows.

use farebox_bus::{Bus, Headers, Login};
use farebox_emulator::{Gate, Script, Usage};
use farebox_proto::{
    subjects::{self, SHARD},
    v1,
};
use farebox_testkit::eventually;
use farebox_types::Money;
use serde_json::{Value, json};

use crate::{
    live::admin,
    stage::{LIMITED, SOON, agent, chat, fresh_id, picos, play, shared},
};

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
        let left: Money = task["left_usd"].as_str().expect("an amount").parse().expect("an amount");
        let limit: Money = "0.05".parse().expect("an amount");
        assert!(left > Money::ZERO && left < limit, "{task}");
        assert!(answer["farebox"].get("clamped").is_none(), "{answer}");
    });
}

/// What the guard says of a budget over everything: what is settled, what is held, and for how many calls.
async fn standing(admin: &Bus, budget: &str) -> (Money, Money, u64) {
    let question = v1::BudgetStatusRequest { shard: SHARD, name: budget.to_owned(), max: 0 };
    let answer = admin.call(&subjects::budgets(SHARD), &question, SOON).await;
    let answer: v1::BudgetStatusReply = answer.expect("the guard answers");
    match &answer.budgets[..] {
        [] => (Money::ZERO, Money::ZERO, 0),
        [one] => (v1::Money::of(&one.settled), v1::Money::of(&one.reserved), one.open),
        windows => panic!("{windows:?}"),
    }
}

#[test]
fn a_ceiling_is_held_while_a_call_without_a_bound_runs_and_given_back_with_its_end() {
    play(async {
        let stage = shared().await;
        let admin = admin(stage).await;
        let gate = Gate::default();
        stage.emulator.script("held", Script::usage(Usage::new(10, 20)).hold_after(0, &gate));
        let mut body = chat("held", json!({}));
        body["web_search_options"] = json!({});
        // The larger of the two ceilings that hold for it.
        let watched = async {
            let held = || async { standing(&admin, "held").await == (Money::ZERO, Money::usd(12), 1) };
            eventually(SOON, "the ceiling is held", held).await;
            stage.until_asked("held", 1).await;
            gate.open();
        };
        let (answer, ()) = tokio::join!(stage.ask(&body), watched);
        assert_eq!(answer["farebox"]["outcome"], "ok", "{answer}");
        let cost = Money::from_picos(picos(&answer["farebox"]["cost_usd"]));
        let given_back = || async { standing(&admin, "held").await == (cost, Money::ZERO, 0) };
        eventually(SOON, "only the cost is left of it", given_back).await;
    });
}

#[test]
fn a_call_that_does_not_fit_is_sent_with_the_output_that_does() {
    play(async {
        let stage = shared().await;
        let id = fresh_id("clamp");
        let mut body = chat("clamp", json!({ "request_id": id }));
        body["max_tokens"] = 9000.into();
        stage.emulator.script("clamp", Script::usage(Usage::new(10, 20)));
        let answer = stage.ask(&body).await;
        assert_eq!((&answer["farebox"]["outcome"], &answer["farebox"]["clamped"]), (&json!("ok"), &json!(true)));
        let sent = stage.emulator.last_request("clamp").expect("it was sent");
        let sent: Value = serde_json::from_slice(&sent).expect("JSON");
        let limit = sent["max_tokens"].as_u64().expect("an output limit");
        // Half a cent is 2500 tokens of output, less what the input may cost.
        assert!((2000..2500).contains(&limit), "{sent}");
        let said = format!("clamped to {limit} tokens by budget");
        assert!(answer["farebox"]["warnings"].as_array().expect("warnings").contains(&json!(said)), "{answer}");
        let row = stage.rows(&id, 1).await.remove(0);
        assert!(picos(&row["bound_usd"]) <= 5_000_000_000 && row["cost_usd"] == answer["farebox"]["cost_usd"], "{row}");

        // What fits costs no answer its length; where less than the floor is left, nothing is sent.
        body["farebox"] = json!({});
        body["max_tokens"] = 1000.into();
        stage.emulator.script("clamp", Script::usage(Usage::new(10, 2400)));
        let answer = stage.ask(&body).await;
        assert!(answer["farebox"].get("clamped").is_none() && answer["farebox"]["outcome"] == "ok", "{answer}");
        stage.settled(&answer).await;
        let refused = stage.ask(&body).await;
        assert_eq!(refused["error"]["type"], "over_budget", "{refused}");
        assert_eq!(stage.asked("clamp"), 2);
    });
}

/// What was heard of a budget's alerts: of which kind, and at which share.
fn shares(heard: &[Value], budget: &str) -> Vec<(Value, Value)> {
    let of_budget = heard.iter().filter(|alert| alert["rule"] == budget);
    of_budget.map(|alert| (alert["kind"].clone(), alert["threshold"].clone())).collect()
}

#[test]
fn a_soft_budget_warns_in_answers_and_is_announced_once_at_each_of_its_shares() {
    play(async {
        let stage = shared().await;
        let mut alerts = stage.bus().subscribe("llm.alert.*", None).await.expect("alerts are for callers");
        stage.bus().flush().await.expect("the server knows");
        let mut body = chat("soft", json!({}));
        body["max_tokens"] = 10_000.into();
        // Two cents and a little, of four.
        stage.emulator.script("soft", Script::usage(Usage::new(1, 10_000)));
        for warned in [false, true, true] {
            let answer = stage.ask(&body).await;
            assert_eq!(answer["farebox"]["outcome"], "ok", "{answer}");
            let warnings = answer["farebox"]["warnings"].to_string();
            assert_eq!(warnings.contains("budget `soft`"), warned, "{answer}");
            stage.settled(&answer).await;
        }
        // Alerts come in the order of the ledger: what comes before this one is all there is.
        stage.emulator.script("marker", Script::usage(Usage::new(10, 20)));
        let mut heard: Vec<Value> = Vec::new();
        stage.ask(&chat("marker", json!({}))).await;
        while shares(&heard, "marker").is_empty() {
            let next = tokio::time::timeout(SOON, alerts.next()).await.expect("an alert").expect("a connection");
            assert!(next.subject.starts_with("llm.alert."), "{}", next.subject);
            // One may be told again, word for word, by a guard that has just begun to lead.
            let alert = serde_json::from_slice(&next.payload).expect("JSON");
            if !heard.contains(&alert) {
                heard.push(alert);
            }
        }
        let at = |share: f64| (json!("threshold"), json!(share));
        assert_eq!(shares(&heard, "soft"), [at(0.5), at(1.0)], "{heard:?}");
        let half = heard.iter().find(|alert| alert["rule"] == "soft").expect("it was heard");
        assert_eq!((&half["type"], &half["limit_usd"]), (&json!("llm.alert"), &json!("0.04")), "{half}");
        assert_eq!(half["settled_usd"], "0.020001", "{half}");
    });
}

#[test]
fn a_key_above_its_limit_is_told_when_to_come_again_and_nobody_else_is() {
    play(async {
        let stage = shared().await;
        let url = stage.ready["nats"].as_str().expect("an address");
        let caller = agent(url, &Login::Token(LIMITED.to_owned())).await;
        let body = chat("limited", json!({}));
        let ask = || async {
            let payload = body.to_string().into_bytes().into();
            let answer = caller.bus().request("llm.request", Headers::new(), payload, SOON).await.expect("an answer");
            serde_json::from_slice::<Value>(&answer.payload).expect("JSON")
        };
        for left in [1, 0] {
            let answer = ask().await;
            assert_eq!(answer["farebox"]["outcome"], "ok", "{answer}");
            let slow = &answer["farebox"]["limits"][0];
            let said = (&slow["limit"], &slow["measure"], &slow["allowed"], &slow["left"]);
            assert_eq!(said, (&json!("slow"), &json!("requests"), &json!(2), &json!(left)), "{answer}");
        }
        let refused = ask().await;
        assert_eq!(refused["error"]["type"], "rate_limited", "{refused}");
        assert!(refused["error"]["message"].as_str().expect("a message").contains("`slow`"), "{refused}");
        let after = refused["error"]["retry_after_ms"].as_u64().expect("when to come again");
        assert!((1..=60_000).contains(&after), "{refused}");
        let others = stage.ask(&body).await;
        assert_eq!(others["farebox"]["outcome"], "ok", "{others}");
        assert!(others["farebox"].get("limits").is_none(), "{others}");
        assert_eq!(stage.asked("limited"), 3);
    });
}
