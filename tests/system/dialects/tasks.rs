//! What is asked beside conversations: vectors, rankings, completed text, counts, JSON by a schema.

use farebox_proto::v1;
use serde_json::{Value, json};

use super::{answer, ask, check_row, open, path, received, row_of, shared, tape, warnings};
use crate::stage::{picos, play};

fn body_of(seen: &farebox_emulator::Seen) -> Value {
    serde_json::from_slice(&seen.body).expect("JSON")
}

fn vectors(answer: &Value) -> Vec<Value> {
    answer["data"]
        .as_array()
        .unwrap_or_else(|| panic!("no data in {answer}"))
        .iter()
        .map(|one| one["embedding"].clone())
        .collect()
}

#[test]
fn vectors_by_every_provider() {
    play(async {
        let stage = shared().await;
        let embed = |model: &str, input: Value| json!({ "model": model, "input": input });
        let push = |name: &str, kept: &str| stage.emulator.route(&path(name), tape(kept));

        // OpenAI's own words go through as they are, its base64 too.
        push("embed-openai", "openai-embeddings/base64");
        let mut asked = embed("embed-openai", json!(["heron", "otter"]));
        asked["encoding_format"] = "base64".into();
        let answer = ask(stage, "openai-embeddings", &asked).await;
        let sent = received(stage, "embed-openai");
        assert_eq!(sent.path, "/embed-openai/embeddings");
        asked["model"] = "embed-tape".into();
        assert_eq!(body_of(&sent), asked);
        assert_eq!(vectors(&answer), [json!("AGCyvM3MzD3CFgEA")]);
        let row = check_row(stage, &answer, &([Some(4), None, None, None, None, None], "0.000004")).await;
        assert_eq!((&row["served_model"], &row["stream"]), (&json!("tape-embed-1"), &json!(false)), "{row}");

        // Gemini says nothing of tokens: they are counted here.
        push("embed-gemini", "gemini-embeddings/batch");
        let answer = ask(stage, "openai-embeddings", &embed("embed-gemini", json!(["heron", "otter"]))).await;
        let sent = received(stage, "embed-gemini");
        assert_eq!(sent.path, "/embed-gemini/models/embed-tape:batchEmbedContents");
        assert_eq!(body_of(&sent)["requests"][1]["content"]["parts"][0]["text"], "otter");
        assert_eq!(vectors(&answer), [json!([0.5, 0.25]), json!([0.125, 1])]);
        let row = row_of(stage, &answer).await;
        assert_eq!((&row["outcome"], &row["estimated"]), (&json!("ok"), &json!(true)), "{row}");
        assert!(row["input_tokens"].as_u64().is_some_and(|tokens| (2..=8).contains(&tokens)), "{row}");
        for name in ["prompt_tokens", "total_tokens"] {
            assert_eq!(answer["usage"][name], row["input_tokens"], "{answer}");
        }

        // Floats asked for, floats given; and the same numbers as base64.
        push("embed-cohere", "cohere-embed/by-type");
        let answer = ask(stage, "openai-embeddings", &embed("embed-cohere", json!(["heron", "otter"]))).await;
        let sent = received(stage, "embed-cohere");
        assert_eq!(sent.path, "/embed-cohere/v2/embed");
        assert_eq!(body_of(&sent)["texts"], json!(["heron", "otter"]));
        assert_eq!(vectors(&answer), [json!([0.015943069, -0.25]), json!([0.5, 1e-05])]);
        check_row(stage, &answer, &([Some(4), None, None, None, None, None], "0.000004")).await;

        push("embed-titan", "titan-embeddings/text");
        let mut asked = embed("embed-titan", json!("heron"));
        asked["encoding_format"] = "base64".into();
        let answer = ask(stage, "openai-embeddings", &asked).await;
        let sent = received(stage, "embed-titan");
        assert_eq!(sent.path, "/embed-titan/model/amazon.titan-embed-text-v2%3A0/invoke");
        assert_eq!(body_of(&sent)["inputText"], "heron");
        // -0.5, 0.25 and 1e-7 as 32-bit floats: 000000bf 0000803e 95bfd633.
        assert_eq!(vectors(&answer), [json!("AAAAvwAAgD6Vv9Yz")]);
        check_row(stage, &answer, &([Some(4), None, None, None, None, None], "0.000004")).await;
    });
}

#[test]
fn a_ranking_costs_its_search_units() {
    play(async {
        let stage = shared().await;
        stage.emulator.route(&path("rank-cohere"), tape("cohere-rerank/ranked"));
        let asked =
            json!({ "model": "rank-cohere", "query": "Who wades?", "documents": ["Otters swim.", "Herons wade."] });
        let answer = ask(stage, "cohere-rerank", &asked).await;
        let sent = received(stage, "rank-cohere");
        assert_eq!(sent.path, "/rank-cohere/v2/rerank");
        assert_eq!(body_of(&sent)["documents"], asked["documents"]);
        assert_eq!(answer["results"][0], json!({ "index": 1, "relevance_score": 0.7140302 }), "{answer}");
        let row = check_row(stage, &answer, &([None; 6], "0.002")).await;
        assert_eq!(row["searches"], 1, "{row}");
    });
}

#[test]
fn a_text_is_completed() {
    play(async {
        let stage = shared().await;
        stage.emulator.route(&path("complete-openai"), tape("openai-completions/text"));
        let asked = json!({ "model": "complete-openai", "prompt": "A heron", "max_tokens": 9 });
        let answer = ask(stage, "openai-completions", &asked).await;
        let sent = received(stage, "complete-openai");
        assert_eq!(
            (sent.path.as_str(), &body_of(&sent)["prompt"]),
            ("/complete-openai/completions", &json!("A heron"))
        );
        assert_eq!(answer["choices"][0]["text"], " stands on one leg.", "{answer}");
        // 6 × 1 + 5 × 5 = 31
        check_row(stage, &answer, &([Some(6), None, None, None, Some(5), None], "0.000031")).await;
    });
}

#[test]
fn a_count_is_asked_for_once() {
    play(async {
        let stage = shared().await;
        let asked =
            |model: &str| json!({ "model": model, "messages": [{ "role": "user", "content": "How many?" }], "odd": 1 });
        stage.emulator.route(&path("count-anthropic"), answer(&json!({ "input_tokens": 671, "odd": [1] })));
        let counted = ask(stage, "anthropic-count-tokens", &asked("count-anthropic")).await;
        let sent = received(stage, "count-anthropic");
        assert_eq!(sent.path, "/count-anthropic/v1/messages/count_tokens");
        // Members unknown to farebox go there, and come back.
        assert_eq!(body_of(&sent), asked("claude-count-1"));
        let again = ask(stage, "anthropic-count-tokens", &asked("count-anthropic")).await;
        assert!(stage.emulator.take_seen(&path("count-anthropic")).is_empty(), "it was asked for twice");
        for counted in [&counted, &again] {
            assert_eq!((&counted["input_tokens"], &counted["odd"]), (&json!(671), &json!([1])), "{counted}");
            check_row(stage, counted, &([None; 6], "0")).await;
        }

        let here = ask(stage, "anthropic-count-tokens", &asked("count-openai")).await;
        assert!(here["input_tokens"].as_u64().is_some_and(|tokens| (2..=20).contains(&tokens)), "{here}");
        assert!(warnings(&here).contains("estimate"), "{here}");
        assert!(stage.emulator.take_seen(&path("count-openai")).is_empty());
        check_row(stage, &here, &([None; 6], "0")).await;
    });
}

/// As codex groups what its servers offer.
#[test]
fn a_function_of_a_group_is_called_by_a_model_that_knows_no_groups() {
    play(async {
        let stage = shared().await;
        let function = json!({ "type": "function", "name": "wait", "parameters": { "type": "object" } });
        let asked = |input: Value| {
            json!({ "model": "groups-anthropic", "input": input, "tools": [
                { "type": "namespace", "name": "agents", "description": "Others.", "tools": [function] },
            ] })
        };
        let call = json!([{ "type": "tool_use", "id": "toolu_1", "name": "agents__wait", "input": { "for": 1 } }]);
        let message = json!({ "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-tape-1", "content": call,
            "stop_reason": "tool_use", "usage": { "input_tokens": 5, "output_tokens": 2 } });
        stage.emulator.route(&path("groups-anthropic"), answer(&message));
        let said = ask(stage, "openai-responses", &asked(json!("Wait."))).await;
        assert_eq!(body_of(&received(stage, "groups-anthropic"))["tools"][0]["name"], "agents__wait");
        assert!(said["farebox"]["warnings"].as_array().is_none_or(Vec::is_empty), "{said}");
        let item = &said["output"][0];
        assert_eq!((&item["namespace"], &item["name"]), (&json!("agents"), &json!("wait")), "{said}");

        // The item goes back as it came.
        stage.emulator.route(&path("groups-anthropic"), answer(&message));
        let result = json!({ "type": "function_call_output", "call_id": "toolu_1", "output": "done" });
        ask(stage, "openai-responses", &asked(json!([{ "role": "user", "content": "Wait." }, item, result]))).await;
        let sent = body_of(&received(stage, "groups-anthropic"));
        assert_eq!(sent["messages"][1]["content"][0]["name"], "agents__wait", "{sent}");
    });
}

fn by_schema(model: &str) -> Value {
    json!({
        "model": model,
        "messages": [{ "role": "user", "content": "Which bird?" }],
        "response_format": { "type": "json_schema", "json_schema": { "name": "bird", "schema": {
            "type": "object", "properties": { "bird": { "type": "string" } }, "required": ["bird"], "additionalProperties": false,
        } } },
    })
}

/// Who has a JSON mode gets the schema in its own words; who has none, a tool, and the caller is told.
#[test]
fn json_by_a_schema() {
    play(async {
        let stage = shared().await;
        let json = "{\"bird\":\"heron\"}";
        for (name, given, place) in [
            (
                "schema-anthropic",
                json!({ "id": "m", "type": "message", "role": "assistant", "model": "claude-tape-1",
                    "content": [{ "type": "text", "text": json }], "stop_reason": "end_turn",
                    "usage": { "input_tokens": 9, "output_tokens": 5 } }),
                "/output_config/format/schema/required/0",
            ),
            (
                "schema-gemini",
                json!({ "candidates": [{ "content": { "role": "model", "parts": [{ "text": json }] }, "finishReason": "STOP" }],
                    "usageMetadata": { "promptTokenCount": 9, "candidatesTokenCount": 5, "totalTokenCount": 14 } }),
                "/generationConfig/responseJsonSchema/required/0",
            ),
            (
                "schema-cohere",
                json!({ "id": "c", "finish_reason": "COMPLETE",
                    "message": { "role": "assistant", "content": [{ "type": "text", "text": json }] },
                    "usage": { "billed_units": { "input_tokens": 9, "output_tokens": 5 } } }),
                "/response_format/json_schema/required/0",
            ),
            (
                "schema-bedrock",
                json!({ "output": { "message": { "role": "assistant", "content": [
                        { "toolUse": { "toolUseId": "t", "name": "bird", "input": { "bird": "heron" } } }] } },
                    "stopReason": "tool_use", "usage": { "inputTokens": 9, "outputTokens": 5, "totalTokens": 14 } }),
                "/toolConfig/tools/0/toolSpec/inputSchema/json/required/0",
            ),
        ] {
            stage.emulator.route(&path(name), answer(&given));
            let answered = ask(stage, "openai-chat", &by_schema(name)).await;
            let sent = body_of(&received(stage, name));
            assert_eq!(sent.pointer(place), Some(&"bird".into()), "{name}: {sent}");
            let choice = &answered["choices"][0];
            assert_eq!(
                (&choice["message"]["content"], &choice["finish_reason"]),
                (&json.into(), &"stop".into()),
                "{answered}"
            );
            let emulated = name == "schema-bedrock";
            assert_eq!(warnings(&answered).contains("JSON"), emulated, "{answered}");
            // 9 × 1 + 5 × 5 = 34
            check_row(stage, &answered, &([Some(9), None, None, None, Some(5), None], "0.000034")).await;
        }
    });
}

/// What the target has no word for is left out and said, or refused before anything is sent.
#[test]
fn an_unknown_parameter_is_said_or_refused() {
    play(async {
        let stage = shared().await;
        let asked = |model: &str| json!({ "model": model, "messages": [{ "role": "user", "content": "hi" }], "seed": 7, "max_tokens": 50 });
        stage.emulator.route(&path("lenient"), tape("anthropic-messages/text"));
        let answered = ask(stage, "openai-chat", &asked("lenient")).await;
        assert!(body_of(&received(stage, "lenient")).get("seed").is_none());
        assert!(warnings(&answered).contains("`seed`"), "{answered}");

        stage.emulator.route(&path("strict"), tape("anthropic-messages/text"));
        let refused = ask(stage, "openai-chat", &asked("strict")).await;
        assert_eq!(refused["error"]["type"], "unsupported", "{refused}");
        assert!(refused["error"]["message"].as_str().is_some_and(|said| said.contains("`seed`")), "{refused}");
        assert!(stage.emulator.take_seen(&path("strict")).is_empty(), "it was sent");
        let row = row_of(stage, &refused).await;
        assert_eq!((picos(&row["cost_usd"]), &row["estimated"]), (0, &json!(false)), "{row}");
    });
}

#[test]
fn a_typed_conversation_by_gemini() {
    play(async {
        let stage = shared().await;
        let text = |text: &str| v1::Part { kind: Some(v1::part::Kind::Text(text.to_owned())), ..Default::default() };
        let request = v1::LlmRequest {
            model: "typed-gemini".into(),
            body: Some(v1::llm_request::Body::Conversation(v1::Conversation {
                messages: vec![v1::Message { role: v1::Role::User.into(), parts: vec![text("Who floats?")] }],
                max_output_tokens: Some(50),
                ..Default::default()
            })),
            ..Default::default()
        };
        stage.emulator.route(&path("typed-gemini"), tape("gemini/text"));
        let answer = stage.client.call(request).await.expect("an answer");
        let sent = received(stage, "typed-gemini");
        assert_eq!(sent.path, "/typed-gemini/models/gemini-3-flash-tape:generateContent");
        let turns = json!([{ "role": "user", "parts": [{ "text": "Who floats?" }] }]);
        assert_eq!(body_of(&sent)["contents"], turns);
        assert!(format!("{answer:?}").contains("Otters "), "{answer:?}");
        let row = stage.rows(&answer.request_id, 1).await.remove(0);
        // 9 × 1 + 4 × 5 = 29
        assert_eq!(
            (&row["input_tokens"], &row["output_tokens"], picos(&row["cost_usd"])),
            (&json!(9), &json!(4), 29_000_000)
        );
    });
}

/// A stream that says nothing of its use, and one that its caller ends: both are counted here.
#[test]
fn what_no_provider_counted_is_estimated() {
    play(async {
        let stage = shared().await;
        let asked = |model: &str| {
            json!({ "model": model, "stream": true, "max_tokens": 2000,
                "messages": [{ "role": "user", "content": "Say something about herons." }] })
        };
        let event = |delta: Value, finish: Value| {
            let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
            format!(
                "data: {}\n\n",
                json!({ "id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice] })
            )
        };
        let words = event(json!({ "content": "Herons wade in the shallows." }), Value::Null);
        let silent = format!("{words}{}data: [DONE]\n\n", event(json!({}), "stop".into()));
        stage.emulator.route(&path("silent-openai"), super::stream(silent));
        let (chunks, last) = open(stage, "openai-chat", &asked("silent-openai")).await;
        assert_eq!((chunks.len(), &last["farebox"]["outcome"]), (2, &json!("ok")), "{last}");
        check_estimate(&row_of(stage, &last).await, "ok", 0);

        let cancelled = async |model: &str| {
            let hangs = super::stream(words.clone()).fault(farebox_emulator::Fault::HangAfter(1)).chunks(1);
            stage.emulator.route(&path(model), hangs);
            let mut body = asked(model);
            let id = crate::stage::fresh_id("hung");
            body["farebox"] = json!({ "request_id": id });
            let mut inbox = stage.open(&body.to_string()).await;
            let first = tokio::time::timeout(crate::stage::SOON, inbox.next()).await.expect("a chunk");
            assert!(first.is_some());
            stage.request_json(&format!("llm.cancel.{id}"), "{}").await;
            stage.rows(&id, 1).await.remove(0)
        };
        // Its provider may have made more than was read of it.
        check_estimate(&cancelled("hung-openai").await, "cancelled", CUT_MARGIN);
        // What a reasoning model thought does not show: all that was reserved is billed.
        let row = cancelled("thinks-openai").await;
        assert_eq!((&row["outcome"], &row["estimated"]), (&json!("cancelled"), &json!(true)), "{row}");
        assert_eq!(picos(&row["cost_usd"]), picos(&row["bound_usd"]), "{row}");
    });
}

/// The default of `worker.cut_margin`.
const CUT_MARGIN: u64 = 512;

fn check_estimate(row: &Value, outcome: &str, unread: u64) {
    assert_eq!((&row["outcome"], &row["estimated"]), (&json!(outcome), &json!(true)), "{row}");
    let (read, wrote) = (row["input_tokens"].as_u64().unwrap_or(0), row["output_tokens"].as_u64().unwrap_or(0));
    // Five words each; an estimate errs high.
    assert!((5..=30).contains(&read) && (5 + unread..=15 + unread).contains(&wrote), "{row}");
    assert_eq!(picos(&row["cost_usd"]), i128::from(read + 5 * wrote) * 1_000_000, "{row}");
}
