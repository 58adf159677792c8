//! The provider plays kept exchanges of both families, byte for byte; callers speak OpenAI's JSON. Tokens and cost of
//! each row are compared with numbers computed by hand.

use farebox_emulator::{Answer, Fault, Script};
use farebox_testkit::Tape;
use serde_json::{Value, json};

use crate::stage::{Stage, chat, fresh_id, picos, play, shared, text_of};

/// A tape, the alias that leads to its model, and what a row must say: the token buckets (input, cache read, cache
/// write 5 m, cache write 1 h, output, reasoning) and the cost in dollars.
type Case = (&'static str, &'static str, [Option<u64>; 6], &'static str);

/// gpt-4o-mini: 0.15 in, 0.075 cached, 0.60 out. o4-mini: 1.10 in, 0.275 cached, 4.40 out. Dollars a million tokens.
const OPENAI: [Case; 5] = [
    // 17 × 0.15 + 13 × 0.60 = 2.55 + 7.80 = 10.35 millionths
    ("text-whole", "gpt-4o-mini", [Some(17), Some(0), None, None, Some(13), Some(0)], "0.00001035"),
    // 26 × 0.15 + 14 × 0.60 = 3.90 + 8.40 = 12.30
    ("text-stream", "gpt-4o-mini", [Some(26), Some(0), None, None, Some(14), Some(0)], "0.0000123"),
    // 71 × 0.15 + 52 × 0.60 = 10.65 + 31.20 = 41.85
    ("tools-whole", "gpt-4o-mini", [Some(71), Some(0), None, None, Some(52), Some(0)], "0.00004185"),
    ("tools-stream", "gpt-4o-mini", [Some(71), Some(0), None, None, Some(52), Some(0)], "0.00004185"),
    // 2307 in, 2176 of them cached: 131 × 1.10 + 2176 × 0.275 = 144.10 + 598.40; 719 out, 704 of them reasoning:
    // 719 × 4.40 = 3163.60; together 3906.10
    ("cached-reasoning-whole", "o4-mini", [Some(131), Some(2176), None, None, Some(15), Some(704)], "0.0039061"),
];

/// claude-sonnet-4-5: 3 in, 0.30 cache read, 3.75 written for 5 m, 6 for 1 h, 15 out.
const ANTHROPIC: [Case; 7] = [
    // 13 × 3 + 20 × 15 = 39 + 300 = 339 millionths
    ("text-whole", "sonnet", [Some(13), Some(0), Some(0), Some(0), Some(20), None], "0.000339"),
    // 12 × 3 + 27 × 15 = 36 + 405 = 441: the 3 of message_start are replaced, not added
    ("text-stream", "sonnet", [Some(12), Some(0), Some(0), Some(0), Some(27), None], "0.000441"),
    // 9 × 3 + 2048 × 0.30 + 318 × 3.75 + 1204 × 6 + 16 × 15 = 27 + 614.40 + 1192.50 + 7224 + 240 = 9297.90
    ("cache-whole", "sonnet", [Some(9), Some(2048), Some(318), Some(1204), Some(16), None], "0.0092979"),
    // 6 × 3 + 512 × 0.30 + 1165 × 3.75 + 9 × 15 = 18 + 153.60 + 4368.75 + 135 = 4675.35
    ("cache-stream-without-detail", "sonnet", [Some(6), Some(512), Some(1165), None, Some(9), None], "0.00467535"),
    // 602 × 3 + 61 × 15 = 1806 + 915 = 2721
    ("tool-whole", "sonnet", [Some(602), Some(0), Some(0), Some(0), Some(61), None], "0.002721"),
    // 611 × 3 + 118 × 15 = 1833 + 1770 = 3603
    ("tool-stream", "sonnet", [Some(611), Some(0), Some(0), Some(0), Some(118), None], "0.003603"),
    // 48 × 3 + 97 × 15 = 144 + 1455 = 1599
    ("thinking-stream", "sonnet", [Some(48), Some(0), Some(0), Some(0), Some(97), None], "0.001599"),
];

/// The request of a tape, as a caller in OpenAI's dialect sends it.
fn request(tape: &Tape, alias: &str, id: &str) -> Value {
    let mut body = chat(alias, json!({ "request_id": id }));
    if tape.provider == "openai" {
        let asked = tape.request.as_ref().expect("a request");
        body["messages"] = asked.body["messages"].clone();
        for name in ["tools", "tool_choice"] {
            if let Some(value) = asked.body.get(name) {
                body[name] = value.clone();
            }
        }
    }
    body
}

/// Tool calls of a whole answer: id, name, arguments.
fn tool_calls(answer: &Value) -> Vec<(String, String, Value)> {
    let calls = answer["choices"][0]["message"]["tool_calls"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    calls
        .iter()
        .map(|call| {
            let arguments = serde_json::from_str(&text(&call["function"]["arguments"])).expect("arguments are JSON");
            (text(&call["id"]), text(&call["function"]["name"]), arguments)
        })
        .collect()
}

/// The same, put together from the pieces of a stream.
fn streamed_tool_calls(chunks: &[Value]) -> Vec<(String, String, Value)> {
    let mut calls: Vec<(String, String, String)> = Vec::new();
    for chunk in chunks {
        for piece in chunk["choices"][0]["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let index = usize::try_from(piece["index"].as_u64().expect("an index")).expect("small");
            if calls.len() <= index {
                calls.resize(index + 1, Default::default());
            }
            let call = &mut calls[index];
            call.0.push_str(piece["id"].as_str().unwrap_or_default());
            call.1.push_str(piece["function"]["name"].as_str().unwrap_or_default());
            call.2.push_str(piece["function"]["arguments"].as_str().unwrap_or_default());
        }
    }
    let json = |text: &str| serde_json::from_str(text).expect("arguments are JSON");
    calls.into_iter().map(|(id, name, arguments)| (id, name, json(&arguments))).collect()
}

async fn play_tape(stage: &Stage, provider: &str, (name, alias, tokens, cost): Case) {
    let tape = Tape::named(provider, name).expect("the tape is kept");
    let expect = tape.expect.clone().expect("what it means");
    let model = if provider == "openai" { alias } else { "claude-sonnet-4-5" };
    stage.emulator.push(model, tape.script().expect("it plays"));
    let id = fresh_id("tape");
    let body = request(&tape, alias, &id);
    let expected: Vec<_> = expect.tool_calls.into_iter().map(|c| (c.id, c.name, c.arguments)).collect();
    let answer = if tape.is_stream() {
        let (chunks, last) = stage.stream(&body).await;
        assert_eq!(text_of(&chunks), expect.text, "{provider}/{name}");
        assert_eq!(streamed_tool_calls(&chunks), expected, "{provider}/{name}");
        last
    } else {
        stage.ask(&body).await
    };
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["content"].as_str().unwrap_or_default(), expect.text, "{provider}/{name}: {answer}");
    assert_eq!(tool_calls(&answer), expected, "{provider}/{name}");
    let finish = match expect.finish.as_deref() {
        Some("end_turn") => "stop",
        Some("tool_use") => "tool_calls",
        other => other.expect("an end"),
    };
    assert_eq!(answer["choices"][0]["finish_reason"], finish, "{provider}/{name}");
    assert_eq!(answer["farebox"]["cost_usd"], cost, "{provider}/{name}: {answer}");

    let row = stage.rows(&id, 1).await.remove(0);
    let columns = ["input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning"];
    for (column, count) in columns.into_iter().zip(tokens) {
        assert_eq!(row[format!("{column}_tokens")].as_u64(), count, "{provider}/{name}: {column} of {row}");
    }
    assert_eq!(picos(&row["cost_usd"]), picos(&cost.into()), "{provider}/{name}: {row}");
    assert_eq!((&row["outcome"], &row["estimated"]), (&json!("ok"), &json!(false)), "{provider}/{name}");
    assert_eq!(row["provider"], provider);
    assert_eq!(row["stream"], tape.is_stream());
}

/// One after the other, since tapes of one model stand in one queue. Waiting for a turn is not of a test's time.
static ONE_BY_ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[test]
fn exchanges_of_openai_cost_what_they_say() {
    let _turn = ONE_BY_ONE.blocking_lock();
    play(async {
        for case in OPENAI {
            play_tape(shared().await, "openai", case).await;
        }
    });
}

#[test]
fn exchanges_of_anthropic_cost_what_they_say() {
    let _turn = ONE_BY_ONE.blocking_lock();
    play(async {
        for case in ANTHROPIC {
            play_tape(shared().await, "anthropic", case).await;
        }
    });
}

#[test]
fn an_answer_without_usage_is_estimated_and_errs_high() {
    let _turn = ONE_BY_ONE.blocking_lock();
    play(async {
        let stage = shared().await;
        let tape = Tape::named("openai", "length-stream-without-usage").expect("the tape is kept");
        stage.emulator.push("gpt-3.5-turbo", tape.script().expect("it plays"));
        let id = fresh_id("tape");
        let (chunks, last) = stage.stream(&request(&tape, "gpt-3.5-turbo", &id)).await;
        assert_eq!(text_of(&chunks), "Saltburg lies on the");
        assert_eq!(last["choices"][0]["finish_reason"], "length", "{last}");
        let row = stage.rows(&id, 1).await.remove(0);
        assert_eq!((&row["outcome"], &row["estimated"]), (&json!("ok"), &json!(true)), "{row}");
        // Four words cannot be less than four tokens, at 1.50 dollars a million.
        assert!(picos(&row["cost_usd"]) >= 4 * 1_500_000, "{row}");
        assert!(picos(&row["cost_usd"]) <= picos(&row["bound_usd"]), "{row}");
    });
}

/// A tape whose body ends early, with a clean end of the connection.
fn without_end(tape: &Tape, marker: &str) -> Script {
    let mut script = tape.script().expect("it plays");
    let Answer::Recorded(recorded) = &mut script.answer else { panic!("a tape is a recording") };
    let text = String::from_utf8(recorded.body.to_vec()).expect("text");
    recorded.body = recorded.body.slice(..text.find(marker).unwrap_or_else(|| panic!("no `{marker}` in {text}")));
    script
}

#[test]
fn a_truncated_stream_is_never_a_finish() {
    let _turn = ONE_BY_ONE.blocking_lock();
    play(async {
        let stage = shared().await;
        for (provider, alias, model, marker) in [
            ("openai", "gpt-4o-mini", "gpt-4o-mini", "data: [DONE]"),
            ("anthropic", "sonnet", "claude-sonnet-4-5", "event: message_stop"),
        ] {
            let tape = Tape::named(provider, "text-stream").expect("the tape is kept");
            let half = tape.body().expect("a body").len() / 2;
            let cut = tape.script().expect("it plays").fault(Fault::CutAtByte(half));
            for script in [without_end(&tape, marker), cut] {
                stage.emulator.push(model, script);
                let id = fresh_id("tape");
                let (chunks, last) = stage.stream(&request(&tape, alias, &id)).await;
                assert_eq!(last["error"]["type"], "truncated", "{provider}: {last}");
                assert!(last.get("choices").is_none(), "{last}");
                assert!(!chunks.is_empty(), "{provider}: what came before the cut was not passed on");
                assert_eq!(last["error"]["retryable"], true);
                let row = stage.rows(&id, 1).await.remove(0);
                assert_eq!((&row["outcome"], &row["error_kind"]), (&json!("error"), &json!("truncated")), "{row}");
                assert_eq!(row["estimated"], true);
                let (cost, bound) = (picos(&row["cost_usd"]), picos(&row["bound_usd"]));
                assert!(0 < cost && cost <= bound, "{row}");
            }
        }
    });
}

#[test]
fn errors_of_providers_keep_their_words() {
    let _turn = ONE_BY_ONE.blocking_lock();
    play(async {
        let stage = shared().await;
        for (provider, name, kind, status, words) in [
            ("openai", "rate-limit-error", "rate_limited", 429, "Please try again in 6.843s"),
            ("openai", "unknown-model-error", "not_found", 404, "does not exist or you do not have access"),
            ("anthropic", "rate-limit-error", "rate_limited", 429, "rate limit of 50 requests per minute"),
            ("anthropic", "overloaded-error", "upstream", 529, "Overloaded"),
        ] {
            let tape = Tape::named(provider, name).expect("the tape is kept");
            let (alias, model) =
                if provider == "openai" { ("gpt-4o-mini", "gpt-4o-mini") } else { ("sonnet", "claude-sonnet-4-5") };
            stage.emulator.push(model, tape.script().expect("it plays"));
            let id = fresh_id("tape");
            let answer = stage.ask(&request(&tape, alias, &id)).await;
            assert_eq!(answer["error"]["type"], kind, "{provider}/{name}: {answer}");
            assert_eq!(answer["error"]["provider_status"], status, "{provider}/{name}: {answer}");
            let message = answer["error"]["message"].as_str().expect("a message");
            assert!(message.contains(words), "{provider}/{name}: {message}");
            let row = stage.rows(&id, 1).await.remove(0);
            assert_eq!(picos(&row["cost_usd"]), 0, "a refusal costs nothing: {row}");
        }
    });
}

#[test]
fn an_error_inside_a_stream_is_an_error() {
    let _turn = ONE_BY_ONE.blocking_lock();
    play(async {
        let stage = shared().await;
        let tape = Tape::named("anthropic", "stream-error").expect("the tape is kept");
        stage.emulator.push("claude-sonnet-4-5", tape.script().expect("it plays"));
        let id = fresh_id("tape");
        let (chunks, last) = stage.stream(&request(&tape, "sonnet", &id)).await;
        assert_eq!(text_of(&chunks), "The ferry leaves at");
        assert_eq!(last["error"]["type"], "upstream", "{last}");
        let row = stage.rows(&id, 1).await.remove(0);
        assert_eq!((&row["outcome"], &row["estimated"]), (&json!("error"), &json!(true)), "{row}");
        assert_eq!(row["input_tokens"], 15);
        // At least what the provider had reported: 15 × 3 + 2 × 15 = 75 millionths.
        assert!(picos(&row["cost_usd"]) >= 75_000_000, "{row}");
    });
}
