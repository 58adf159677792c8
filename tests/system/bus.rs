//! One request, one answer, one row: what an agent sees on the bus.

use std::time::{Duration, Instant};

use farebox_bus::Headers;
use farebox_client::Piece;
use farebox_emulator::{Fault, Gate, Reply, Script, State, ToolCall, Usage};
use farebox_proto::{headers, v1};
use farebox_testkit::{Process, eventually};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::stage::{FAREBOX, SOON, Stage, chat, fresh_id, one_in_time, picos, play, shared, text_of};

/// What the emulator put on the bill for a call, in pico-dollars: 1 dollar a million tokens in, 2 out.
fn billed(stage: &Stage, call_id: &Value) -> i128 {
    let entries = stage.emulator.ledger().by_call_id(call_id.as_str().expect("a call id"));
    assert_eq!(entries.len(), 1, "{entries:?}");
    1_000_000 * i128::from(entries[0].prompt_tokens) + 2_000_000 * i128::from(entries[0].completion_tokens)
}

#[test]
fn a_whole_answer_says_what_it_took() {
    play(async {
        let stage = shared().await;
        stage.emulator.push("exact", Script::usage(Usage { cache_read: 30, ..Usage::new(70, 50) }));
        let answer = stage.ask(&chat("exact", json!({}))).await;
        let facts = &answer["farebox"];
        // 100 in at 1, none of them cheaper here, and 50 out at 2 dollars a million.
        assert_eq!(facts["cost_usd"], "0.0002", "{answer}");
        for (bucket, count) in [("input", 70), ("cache_read", 30), ("output", 50), ("reasoning", 0)] {
            assert_eq!(facts["tokens"][bucket], count, "{bucket}");
        }
        assert_eq!((&facts["attempts"], &facts["cached"]), (&json!(1), &json!(false)));
        assert_eq!((&facts["provider"], &facts["model"]), (&json!("emu"), &json!("exact")));
        assert_eq!(facts["warnings"], json!([]));
        let rows = stage.rows(facts["request_id"].as_str().expect("an id"), 1).await;
        assert_eq!(picos(&rows[0]["cost_usd"]), 200_000_000);
        assert_eq!(rows[0]["call_id"], facts["call_id"]);
        assert_eq!(rows[0]["estimated"], false);
        assert_eq!(billed(stage, &facts["call_id"]), 200_000_000);
    });
}

#[test]
fn a_stream_comes_in_numbered_pieces_and_then_whole() {
    play(async {
        let stage = shared().await;
        let text = "one two three four five six seven eight";
        stage.emulator.push("stream", Script::text(text).chunks(8).pace(Duration::from_millis(5)));
        let (chunks, last) = stage.stream(&chat("stream", json!({}))).await;
        assert!(chunks.len() >= 8, "{chunks:?}");
        assert_eq!(text_of(&chunks), text);
        assert_eq!(last["choices"][0]["message"]["content"], text);
        assert_eq!(last["farebox"]["chunks"], chunks.len());
        assert_eq!(last["farebox"]["outcome"], "ok");
        let rows = stage.rows(last["farebox"]["request_id"].as_str().expect("an id"), 1).await;
        assert_eq!(rows[0]["stream"], true);
        let took = |what: &str| rows[0][what].as_u64().unwrap_or_else(|| panic!("no {what}: {rows:?}"));
        assert!(took("first_token_ms") <= took("latency_ms"), "{rows:?}");
        assert_eq!(picos(&rows[0]["cost_usd"]), billed(stage, &rows[0]["call_id"]));
    });
}

async fn cancel(stage: &Stage, id: &str) -> Value {
    stage.request_json(&format!("llm.cancel.{id}"), "").await
}

/// A cancelled call: its row is billed, an estimate, at least what the provider bills and at most what was reserved.
async fn billed_as_cancelled(stage: &Stage, id: &str) {
    let row = stage.rows(id, 1).await.remove(0);
    assert_eq!(row["outcome"], "cancelled", "{row}");
    assert_eq!(row["estimated"], true, "{row}");
    let (cost, bound) = (picos(&row["cost_usd"]), picos(&row["bound_usd"]));
    let bill = billed(stage, &row["call_id"]);
    assert!(bill > 0 && bill <= cost && cost <= bound, "billed {bill}, cost {cost}, bound {bound}");
}

#[test]
fn a_whole_call_is_cancelled_and_billed() {
    play(async {
        let stage = shared().await;
        let id = fresh_id("cancel");
        let hanging = Script::usage(Usage::new(20, 300)).fault(Fault::HangBeforeHead).bill_on_arrival();
        stage.emulator.push("cancel-whole", hanging);
        let body = chat("cancel-whole", json!({ "request_id": id }));
        let (answer, receipt) = tokio::join!(stage.ask(&body), async {
            stage.until_asked("cancel-whole", 1).await;
            cancel(stage, &id).await
        });
        assert_eq!(receipt, json!({ "request_id": id, "cancelled": true }));
        assert_eq!(answer["error"]["type"], "cancelled", "{answer}");
        assert_eq!(answer["farebox"]["outcome"], "cancelled", "{answer}");
        assert_eq!(answer["farebox"]["estimated"], true, "{answer}");
        billed_as_cancelled(stage, &id).await;
        assert_eq!(cancel(stage, &id).await["cancelled"], false, "there is nothing left to cancel");
    });
}

#[test]
fn a_cancel_right_behind_its_request_stops_it() {
    play(async {
        let stage = shared().await;
        stage.emulator.script("cancel-at-once", Script::default().fault(Fault::HangBeforeHead));
        let mut at_once = 0;
        for _ in 0..10 {
            let id = fresh_id("cancel");
            let body = chat("cancel-at-once", json!({ "request_id": id }));
            let (answer, cancels) = tokio::join!(stage.ask(&body), async {
                let mut cancels = 1;
                // A request that stands still before it is admitted is not known yet: its caller is told that.
                while cancel(stage, &id).await["cancelled"] != true && cancels < 50 {
                    cancels += 1;
                }
                cancels
            });
            assert_eq!(answer["error"]["type"], "cancelled", "{answer}");
            at_once += usize::from(cancels == 1);
        }
        assert!(at_once > 5, "{at_once} of 10 were stopped by the first cancel");
    });
}

#[test]
fn a_stream_is_cancelled_and_billed() {
    play(async {
        let stage = shared().await;
        let id = fresh_id("cancel");
        let text = "a piece of text ".repeat(100);
        // Its rest never comes.
        let script = Script::text(text).chunks(100).hold_after(10, &Gate::default());
        stage.emulator.push("cancel-stream", script);
        let mut body = chat("cancel-stream", json!({ "request_id": id }));
        body["stream"] = true.into();
        let mut inbox = stage.open(&body.to_string()).await;
        for _ in 0..3 {
            let chunk = timeout(SOON, inbox.next()).await.expect("no silence").expect("a chunk");
            assert_eq!(chunk.headers.get(headers::TYPE), Some("chunk"));
        }
        assert_eq!(cancel(stage, &id).await["cancelled"], true);
        let last: Value = loop {
            let next = timeout(SOON, inbox.next()).await.expect("no silence").expect("a final answer");
            if next.headers.get(headers::TYPE) == Some("final") {
                break serde_json::from_slice(&next.payload).expect("JSON");
            }
        };
        assert_eq!(last["error"]["type"], "cancelled", "{last}");
        let left = || async {
            stage
                .emulator
                .ledger()
                .entries()
                .iter()
                .any(|e| &*e.model == "cancel-stream" && e.state == State::ClientGone)
        };
        eventually(SOON, "the provider is left alone", left).await;
        billed_as_cancelled(stage, &id).await;
        assert!(inbox.try_next().is_none(), "something came after the final answer");
    });
}

#[test]
fn a_deadline_is_kept_although_the_provider_hangs() {
    play(async {
        let stage = shared().await;
        stage.emulator.script("late", Script::default().fault(Fault::HangBeforeHead));
        let answer = one_in_time(async || {
            let began = Instant::now();
            let answer = stage.ask(&chat("late", json!({ "deadline_ms": 400 }))).await;
            let took = began.elapsed();
            assert_eq!(answer["error"]["type"], "deadline_exceeded", "{answer}");
            assert!(took >= Duration::from_millis(390), "{took:?}");
            if took < Duration::from_millis(2500) { Ok(answer) } else { Err(format!("{took:?}")) }
        })
        .await;
        let row = stage.rows(answer["farebox"]["request_id"].as_str().expect("an id"), 1).await.remove(0);
        assert_eq!((&row["outcome"], &row["error_kind"]), (&json!("error"), &json!("deadline_exceeded")));
        assert_eq!(row["cost"], row["bound"], "nobody knows what a silent provider bills");

        stage.emulator.script("late-stream", Script::text("some words to send").fault(Fault::HangAfter(3)));
        one_in_time(async || {
            let began = Instant::now();
            let (chunks, last) = stage.stream(&chat("late-stream", json!({ "deadline_ms": 600 }))).await;
            let took = began.elapsed();
            assert_eq!(last["error"]["type"], "deadline_exceeded", "{last}");
            let in_time = !chunks.is_empty() && took < Duration::from_millis(2700);
            if in_time { Ok(()) } else { Err(format!("{} chunks, {took:?}", chunks.len())) }
        })
        .await;
    });
}

#[test]
fn the_same_request_id_is_one_call() {
    play(async {
        let stage = shared().await;
        let id = fresh_id("attach");
        stage.emulator.push("attach", Script::text("only once").delay(Duration::from_millis(600)));
        let body = chat("attach", json!({ "request_id": id })).to_string();
        let (first, second) = tokio::join!(stage.ask_bytes(&body), async {
            stage.until_asked("attach", 1).await;
            stage.ask_bytes(&body).await
        });
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        assert!(text(&first).contains("only once"));
        assert_eq!(text(&first), text(&second), "who attaches gets the same answer");
        let third = stage.ask_bytes(&body).await;
        assert_eq!(text(&first), text(&third), "and who asks later the stored one");
        let stored = stage.request(&format!("llm.result.{id}"), "").await.payload;
        assert_eq!(text(&first), text(&stored));
        assert_eq!(stage.asked("attach"), 1, "the provider was asked again");
        stage.rows(&id, 1).await;
    });
}

#[test]
fn another_body_under_a_request_id_is_a_conflict() {
    play(async {
        let stage = shared().await;
        let id = fresh_id("conflict");
        stage.emulator.push("conflict", Script::text("first").delay(Duration::from_millis(500)));
        let body = chat("conflict", json!({ "request_id": id }));
        let mut other = body.clone();
        other["messages"][0]["content"] = "Something else".into();
        let (first, running) = tokio::join!(stage.ask(&body), async {
            stage.until_asked("conflict", 1).await;
            stage.ask(&other).await
        });
        assert_eq!(running["error"]["type"], "conflict", "{running}");
        assert_eq!(first["farebox"]["outcome"], "ok", "{first}");
        let ended = stage.ask(&other).await;
        assert_eq!(ended["error"]["type"], "conflict", "{ended}");
        assert_eq!(stage.asked("conflict"), 1);
        assert_eq!(stage.ask(&body).await, first, "the first answer stays");
    });
}

#[test]
fn without_a_reply_subject_the_answer_comes_by_its_id() {
    play(async {
        let stage = shared().await;
        for model in ["silent", "no-such-model"] {
            let id = fresh_id("silent");
            let mut news = stage.bus().subscribe(&format!("llm.response.{id}"), None).await.expect("a subscription");
            stage.bus().flush().await.expect("the server knows");
            let body = chat(model, json!({ "request_id": id })).to_string();
            stage.bus().publish("llm.request", Headers::new(), body.into()).await.expect("it is sent");
            let answer = timeout(SOON, news.next()).await.expect("no silence").expect("an answer");
            let value: Value = serde_json::from_slice(&answer.payload).expect("JSON");
            assert_eq!(value["farebox"]["request_id"], id);
            let stored = stage.request(&format!("llm.result.{id}"), "").await;
            assert_eq!(stored.payload, answer.payload);
            if model == "silent" {
                assert_eq!(value["farebox"]["outcome"], "ok", "{value}");
            } else {
                assert_eq!(value["error"]["type"], "not_found", "{value}");
            }
        }
    });
}

fn typed(model: &str) -> v1::LlmRequest {
    let text = |text: &str| v1::Part { kind: Some(v1::part::Kind::Text(text.to_owned())), ..Default::default() };
    v1::LlmRequest {
        model: model.to_owned(),
        body: Some(v1::llm_request::Body::Conversation(v1::Conversation {
            messages: vec![v1::Message { role: v1::Role::User.into(), parts: vec![text("How high is the river?")] }],
            tools: vec![v1::Tool {
                name: "river_level".into(),
                description: "Reads a gauge".into(),
                parameters_json: r#"{"type":"object","properties":{"gauge":{"type":"string"}}}"#.into(),
            }],
            max_output_tokens: Some(500),
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// Text and tool calls of a typed answer.
fn said(completion: &v1::Completion) -> (String, Vec<(String, String, Value)>) {
    let mut text = String::new();
    let mut calls = Vec::new();
    for part in &completion.parts {
        match &part.kind {
            Some(v1::part::Kind::Text(more)) => text.push_str(more),
            Some(v1::part::Kind::ToolCall(call)) => {
                let arguments = serde_json::from_str(&call.arguments_json).expect("arguments are JSON");
                calls.push((call.id.clone(), call.name.clone(), arguments));
            }
            other => panic!("{other:?}"),
        }
    }
    (text, calls)
}

/// The same, put together from the pieces of a stream.
fn joined(deltas: Vec<v1::Delta>) -> (String, Vec<(String, String, Value)>) {
    use v1::delta::{Event, part_start::Kind};
    let mut parts: Vec<(Kind, String, String, String)> = Vec::new();
    let mut finished = 0;
    for delta in deltas {
        match delta.event.expect("an event") {
            Event::PartStart(start) => {
                assert_eq!(usize::try_from(start.index).expect("small"), parts.len());
                parts.push((start.kind(), start.tool_call_id, start.name, String::new()));
            }
            Event::PartDelta(delta) => parts[usize::try_from(delta.index).expect("small")].3.push_str(&delta.text),
            Event::PartEnd(_) => {}
            Event::Finished(_) => finished += 1,
        }
    }
    assert_eq!(finished, 1, "a stream finishes once");
    let text = parts.iter().filter(|part| part.0 == Kind::Text).map(|part| part.3.as_str()).collect();
    let calls = parts.iter().filter(|part| part.0 == Kind::ToolCall);
    let call = |part: &(Kind, String, String, String)| {
        (part.1.clone(), part.2.clone(), serde_json::from_str(&part.3).expect("arguments are JSON"))
    };
    (text, calls.map(call).collect())
}

#[test]
fn a_typed_conversation_with_tools_works_with_both_dialects() {
    play(async {
        let stage = shared().await;
        let tool = |id: &str, gauge: &str| ToolCall {
            id: id.into(),
            name: "river_level".into(),
            arguments: format!("{{\"gauge\":\"{gauge}\"}}"),
        };
        let reply = Reply {
            text: "I will look.".into(),
            tool_calls: vec![tool("call_1", "Graz"), tool("call_2", "Liezen")],
            usage: Some(Usage::new(100, 40)),
            ..Reply::default()
        };
        let call = |id: &str, gauge: &str| (id.to_owned(), "river_level".to_owned(), json!({ "gauge": gauge }));
        let expected = ("I will look.".to_owned(), vec![call("call_1", "Graz"), call("call_2", "Liezen")]);
        for model in ["tools", "typed-claude"] {
            stage.emulator.push(model, Script::reply(reply.clone()));
            let answer = stage.client.call(typed(model)).await.expect("an answer");
            let Some(v1::llm_response::Result::Completion(completion)) = &answer.result else { panic!("{answer:?}") };
            assert_eq!(said(completion), expected, "{model}");
            assert_eq!(completion.finish_reason(), v1::FinishReason::ToolCalls);
            let report = answer.report.expect("a report");
            assert_eq!(v1::Money::of(&report.cost).picos(), 180_000_000, "100 in at 1, 40 out at 2");

            stage.emulator.push(model, Script::reply(reply.clone()));
            let mut stream = stage.client.stream(typed(model)).await.expect("a stream");
            let mut deltas = Vec::new();
            let last = loop {
                match stream.next().await.expect("a piece").expect("no error") {
                    Piece::Chunk(chunk) => match chunk.piece.expect("a piece") {
                        v1::llm_chunk::Piece::Delta(delta) => deltas.push(delta),
                        raw => panic!("{raw:?}"),
                    },
                    Piece::Final(last) => break last,
                }
            };
            assert_eq!(usize::try_from(last.chunks).expect("few"), deltas.len());
            assert_eq!(joined(deltas), expected, "{model}");
            let Some(v1::llm_response::Result::Completion(completion)) = &last.result else { panic!("{last:?}") };
            assert_eq!(said(completion), expected, "{model}");
        }
    });
}

#[test]
fn another_model_serves_when_the_first_cannot() {
    play(async {
        let stage = shared().await;
        let patience = Duration::from_secs(30);
        for (refusal, kind) in [
            (Script::rate_limited(patience), "rate_limited"),
            (Script::refuse(500, "The server had an error"), "upstream"),
        ] {
            stage.emulator.push("primary", refusal);
            stage.emulator.push("backup", Script::text("from the backup"));
            let began = Instant::now();
            let answer = stage.ask(&chat("with-fallback", json!({}))).await;
            assert!(began.elapsed() < SOON, "nobody waits for Retry-After while another can serve");
            assert_eq!(answer["choices"][0]["message"]["content"], "from the backup", "{answer}");
            assert_eq!(answer["farebox"]["attempts"], 2);
            assert_eq!(answer["farebox"]["model"], "backup");
            let rows = stage.rows(answer["farebox"]["request_id"].as_str().expect("an id"), 2).await;
            assert_eq!((&rows[0]["attempt"], &rows[1]["attempt"]), (&json!(1), &json!(2)));
            assert_eq!((&rows[0]["outcome"], &rows[0]["error_kind"]), (&json!("error"), &json!(kind)));
            assert_eq!(picos(&rows[0]["cost_usd"]), 0, "a refusal costs nothing");
            assert_eq!((&rows[1]["outcome"], &rows[1]["upstream_model"]), (&json!("ok"), &json!("backup")));
            assert_ne!(rows[0]["call_id"], rows[1]["call_id"]);
            assert_eq!(rows[0]["reservation_id"], rows[1]["reservation_id"]);
        }
    });
}

#[test]
fn a_provider_that_asks_to_wait_is_waited_for() {
    play(async {
        let stage = shared().await;
        stage.emulator.push("busy", Script::rate_limited(Duration::from_secs(1)));
        stage.emulator.push("busy", Script::text("now"));
        let began = Instant::now();
        let answer = stage.ask(&chat("patient", json!({}))).await;
        assert!(began.elapsed() >= Duration::from_secs(1));
        assert_eq!(answer["choices"][0]["message"]["content"], "now", "{answer}");
        assert_eq!(answer["farebox"]["attempts"], 2);
    });
}

#[test]
fn a_request_keeps_its_own_limit() {
    play(async {
        let stage = shared().await;
        let answer = stage.ask(&chat("max-cost", json!({ "max_cost": "0.000001" }))).await;
        assert_eq!(answer["error"]["type"], "over_budget", "{answer}");
        assert!(answer["error"]["message"].as_str().expect("a message").contains("max_cost"), "{answer}");
        assert_eq!(stage.asked("max-cost"), 0);
        let answer = stage.ask(&chat("max-cost", json!({ "max_cost": "1" }))).await;
        assert_eq!(answer["farebox"]["outcome"], "ok", "{answer}");
    });
}

#[test]
fn a_task_keeps_its_budget_and_can_use_all_of_it() {
    play(async {
        let stage = shared().await;
        // 10,000 out at 2 dollars a million: 0.02 a call, of 0.05 for the task.
        stage.emulator.script("budget", Script::usage(Usage::new(10, 10_000)));
        let mut body = chat("budget", json!({ "task_id": fresh_id("task") }));
        body["max_tokens"] = 10_000.into();
        for _ in 0..2 {
            assert_eq!(stage.ask(&body).await["farebox"]["outcome"], "ok");
        }
        let refused = stage.ask(&body).await;
        assert_eq!(refused["error"]["type"], "over_budget", "{refused}");
        let message = refused["error"]["message"].as_str().expect("a message");
        assert!(message.contains("max_cost_per_task"), "which budget is not said: {message}");
        assert_eq!(stage.asked("budget"), 2);
        // What is left is enough for a small one.
        stage.emulator.script("budget", Script::usage(Usage::new(10, 100)));
        body["max_tokens"] = 100.into();
        assert_eq!(stage.ask(&body).await["farebox"]["outcome"], "ok");
    });
}

#[test]
fn what_has_no_price_is_not_called() {
    play(async {
        let stage = shared().await;
        let answer = stage.ask(&chat("no-price", json!({}))).await;
        assert_eq!(answer["error"]["type"], "unsupported", "{answer}");
        let message = answer["error"]["message"].as_str().expect("a message");
        assert!(message.contains("never-priced") && message.contains("prices"), "{message}");
        assert_eq!(stage.asked("never-priced"), 0);
    });
}

#[test]
fn labels_and_trace_stand_in_the_row() {
    play(async {
        let stage = shared().await;
        for (target, value) in [("task_type", "code"), ("agent_role", "critic")] {
            let body = json!({ "messages": [{ "role": "user", "content": "Hello" }], "farebox": {
                target: value, "actor": "writer", "task_id": "t-1", "session_id": "s-1", "end_user": "u-1", "tags": ["a", "b"] } });
            let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
            let head = Headers::new().with_traceparent(&format!("00-{trace}-00f067aa0ba902b7-01"));
            let answer =
                stage.bus().request("llm.request", head, body.to_string().into(), SOON).await.expect("an answer");
            let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
            assert_eq!(answer["farebox"]["model"], "labels", "{answer}");
            let row = stage.rows(answer["farebox"]["request_id"].as_str().expect("an id"), 1).await.remove(0);
            for (column, expected) in [
                ("actor", json!("writer")),
                ("task_id", json!("t-1")),
                ("session_id", json!("s-1")),
                ("end_user", json!("u-1")),
                ("tags", json!(["a", "b"])),
                ("trace_id", json!(trace)),
                ("project", json!("default")),
                ("model", json!("labels")),
                ("provider", json!("emu")),
                ("job", json!(false)),
            ] {
                assert_eq!(row[column], expected, "{column}");
            }
        }
    });
}

#[test]
fn without_a_worker_nothing_is_kept_reserved() {
    play(async {
        let roles = ["--roles", "identity,guard,accounting,intake", "--set", "intake.worker_deadline=700ms"];
        // That nobody is there is heard also from a server that is slow to say it.
        let args = [&roles[..], &["--set", "intake.offer_wait=5s"]].concat();
        let stage = Stage::start("", &args, |up| up).await;
        // Of 0.05 for the task, each takes more than a half: a second one only fits if the first was given back.
        let mut body = chat("plain", json!({ "task_id": "t" }));
        body["max_tokens"] = 15_000.into();
        for _ in 0..3 {
            let answer = stage.ask(&body).await;
            assert_eq!(answer["error"]["type"], "unavailable", "{answer}");
            assert!(answer["error"]["message"].as_str().expect("a message").contains("farebox worker"), "{answer}");
            assert_eq!(answer["error"]["retryable"], true);
        }
        // A call that is reserved and that no worker holds: whoever cancels it is told that it was not stopped.
        let id = fresh_id("offered");
        let offered = chat("plain", json!({ "request_id": id }));
        let (answer, ()) = tokio::join!(stage.ask(&offered), async {
            for _ in 0..2 {
                assert_eq!(cancel(&stage, &id).await, json!({ "request_id": id, "cancelled": false }));
            }
        });
        assert_eq!(answer["error"]["type"], "unavailable", "{answer}");
        let worker = Process::builder(FAREBOX).args(["worker", "--data"]).arg(stage.data()).arg("--config");
        let worker = worker.arg(stage.config()).env("SYSTEM_TEST_KEY", "x").spawn().await.expect("a worker");
        eventually(SOON, "the worker takes work", || async { worker.log().contains("taking work") }).await;
        // A worker that is slow to take it has not enough time here: then it is refused, and costs nothing either.
        let answer = one_in_time(async || {
            let answer = stage.ask(&body).await;
            if answer["error"]["type"] == "unavailable" { Err(answer.to_string()) } else { Ok(answer) }
        })
        .await;
        assert_eq!(answer["farebox"]["outcome"], "ok", "{answer}");
        stage.settled(&answer).await;
        assert_eq!(stage.clickhouse("SELECT count() FROM farebox.calls").await.trim(), "1");
    });
}
