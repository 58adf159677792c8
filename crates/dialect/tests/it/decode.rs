//! Answers and refusals on tape, down to the last token.

use std::time::Duration;

use farebox_dialect::{
    Collector, Completion, Content, DecodeError, DialectName, Ending, Event, FinishReason, Head, Reasoning, ToolCall,
};
use farebox_types::{ErrorKind, Fault, Usage};

use crate::{laws::run, tape::tape};

pub(crate) fn decode(name: &str) -> Completion {
    let tape = tape(name);
    if !tape.streamed {
        return crate::provider(tape.dialect).decode(&tape.head, &tape.body).unwrap();
    }
    let (events, fed, ending) = run(tape.dialect, [tape.body.as_slice()]);
    assert_eq!((fed, ending), (Ok(()), Ok(Ending::Complete)), "{name}");
    let mut collector = Collector::new();
    events.iter().for_each(|event| collector.push(event));
    collector.into_completion()
}

pub(crate) fn contents(completion: &Completion) -> Vec<Content> {
    completion.choices[0].parts.iter().map(|part| part.content.clone()).collect()
}

pub(crate) fn call(id: &str, name: &str, arguments: &str) -> Content {
    Content::ToolCall(ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() })
}

pub(crate) fn usage(input: u64, output: u64) -> Usage {
    Usage { input: Some(input), output: Some(output), ..Usage::default() }
}

/// OpenAI reports these details with every answer.
fn openai(input: u64, output: u64) -> Usage {
    Usage {
        cache_read: Some(0),
        reasoning: Some(0),
        audio_input: Some(0),
        audio_output: Some(0),
        ..usage(input, output)
    }
}

#[test]
fn openai_text() {
    let done = decode("openai-chat/text");
    assert_eq!(done.id, "chatcmpl-tape02");
    assert_eq!((done.model.as_str(), done.created), ("gpt-tape-1", Some(1_760_000_002)));
    assert_eq!(done.text(), "A heron stands on one leg.");
    assert_eq!(done.finish(), Some(&FinishReason::Stop));
    assert_eq!(done.usage, openai(20, 7));
    assert_eq!(done.service_tier.as_deref(), Some("default"));
    assert_eq!(done.extra["system_fingerprint"].as_str(), "\"fp_tape\"");
    assert!(done.choices[0].extra.is_empty() && done.choices[0].parts[0].citations.is_empty());
}

#[test]
fn openai_streamed_text_whatever_the_line_ends() {
    for name in ["openai-chat/text-s", "openai-chat/text-crlf-s"] {
        let done = decode(name);
        assert_eq!(done.text(), "Herons wade in käľt water: „quoted“ \\ \n{\"a\": 1}", "{name}");
        assert_eq!(done.finish(), Some(&FinishReason::Stop));
        assert_eq!(done.usage, Usage { cache_read: Some(1024), ..openai(176, 46) });
        assert_eq!(done.service_tier.as_deref(), Some("default"));
    }
}

#[test]
fn openai_parallel_tools_keep_the_arguments_as_written() {
    let done = decode("openai-chat/tools-parallel-s");
    let expected = [
        call("call_a1", "ferry_times", "{\"harbour\":\"Oban\"}"),
        call("call_a2", "tide_table", "{\"day\": 1.10, \"n\":12345678901234567890123}"),
    ];
    assert_eq!(contents(&done), expected);
    assert_eq!((done.finish(), done.usage), (Some(&FinishReason::ToolCalls), openai(310, 58)));

    let done = decode("openai-chat/tools");
    let expected = [call("call_b1", "ferry_times", "{ \"harbour\" : \"Mallaig\" }"), call("call_b2", "now", "{}")];
    assert_eq!(contents(&done), expected);
    assert_eq!(done.usage, Usage { cache_read: Some(64), ..openai(36, 40) });
}

#[test]
fn openai_choices_with_log_probabilities() {
    let done = decode("openai-chat/two-choices-logprobs-s");
    let choices: Vec<_> =
        done.choices.iter().map(|c| (c.index, c.parts[0].content.clone(), c.finish.clone())).collect();
    assert_eq!(
        choices,
        [
            (0, Content::Text("Left bank".into()), Some(FinishReason::Length)),
            (1, Content::Text("Right".into()), Some(FinishReason::Stop)),
        ]
    );
    let logprobs: serde_json::Value =
        serde_json::from_str(done.choices[0].logprobs.as_ref().unwrap().as_str()).unwrap();
    let tokens: Vec<_> = logprobs["content"].as_array().unwrap().iter().map(|t| t["token"].clone()).collect();
    assert_eq!(tokens, ["Left", " bank"]);
}

#[test]
fn openai_reasoning_audio_and_refusal() {
    let done = decode("openai-chat/reasoning-s");
    let thought = Reasoning { text: "Count the oars.".into(), ..Reasoning::default() };
    assert_eq!(contents(&done), [Content::Reasoning(thought), Content::Text("Eight.".into())]);
    assert_eq!(done.usage, Usage { reasoning: Some(192), ..openai(40, 18) });

    let expected = Usage {
        cache_read: Some(128),
        audio_input: Some(72),
        reasoning: Some(200),
        audio_output: Some(25),
        ..usage(300, 75)
    };
    assert_eq!(decode("openai-chat/audio-reasoning").usage, expected);

    let done = decode("openai-chat/refusal");
    assert_eq!(contents(&done), [Content::Refusal("I cannot help with that.".into())]);
}

#[test]
fn anthropic_text_and_cache_lifetimes() {
    let done = decode("anthropic-messages/text-s");
    assert_eq!((done.id.as_str(), done.model.as_str()), ("msg_tape01", "claude-tape-1"));
    assert_eq!(done.text(), "An otter holds hands — naïvely.\n");
    assert_eq!(done.finish(), Some(&FinishReason::Stop));
    let nothing_cached =
        Usage { cache_read: Some(0), cache_write_5m: Some(0), cache_write_1h: Some(0), ..Usage::default() };
    assert_eq!(done.usage, Usage { input: Some(25), output: Some(19), ..nothing_cached });
    assert_eq!(done.service_tier.as_deref(), Some("standard"));

    let done = decode("anthropic-messages/text");
    let cached = Usage { cache_read: Some(40), cache_write_5m: Some(100), cache_write_1h: Some(200), ..usage(14, 9) };
    assert_eq!((done.text().as_str(), done.usage), ("Otters sleep afloat.", cached));

    let done = decode("anthropic-messages/cache-stop-sequence-s");
    assert_eq!(done.finish(), Some(&FinishReason::StopSequence));
    assert_eq!(done.choices[0].stop_sequence.as_deref(), Some("three"));
    let cached = Usage { cache_read: Some(5000), cache_write_5m: Some(0), cache_write_1h: Some(2100), ..usage(4, 8) };
    assert_eq!(done.usage, cached);
}

#[test]
fn anthropic_thinking_and_tools() {
    let done = decode("anthropic-messages/thinking-tools-s");
    let expected = [
        Content::Reasoning(Reasoning {
            text: "Which pier is open?".into(),
            signature: Some("c2lnLXRhcGU=".into()),
            origin: Some(DialectName::AnthropicMessages),
            ..Reasoning::default()
        }),
        Content::Reasoning(Reasoning {
            encrypted: Some("ZW5jcnlwdGVk".into()),
            origin: Some(DialectName::AnthropicMessages),
            ..Reasoning::default()
        }),
        Content::Text("Let me look.".into()),
        call("toolu_t1", "pier_status", "{\"pier\": \"North\", \"depth\": 1.10}"),
        call("toolu_t2", "now", "{}"),
    ];
    assert_eq!(contents(&done), expected);
    assert_eq!(done.finish(), Some(&FinishReason::ToolCalls));
    assert_eq!((done.usage.output, done.usage.reasoning, done.usage.total_output()), (Some(50), Some(70), 120));

    let done = decode("anthropic-messages/thinking-tools");
    assert_eq!(contents(&done)[2], call("toolu_w1", "pier_status", "{\"pier\":\"South\",\"depth\":2.5}"));
    assert_eq!((done.usage.output, done.usage.reasoning), (Some(40), Some(50)));
}

#[test]
fn anthropic_refusal_and_what_has_no_meaning_here() {
    let done = decode("anthropic-messages/refusal");
    assert_eq!((done.finish(), done.choices[0].parts.len()), (Some(&FinishReason::Refusal), 0));
    assert!(done.extra["stop_details"].as_str().contains("not on tape"));

    let tape = tape("anthropic-messages/unknown-events-s");
    let (events, _, ending) = run(tape.dialect, [tape.body.as_slice()]);
    assert_eq!(ending, Ok(Ending::Complete));
    let unknown: Vec<_> = events.iter().filter(|e| matches!(e, Event::Unknown(_))).cloned().collect();
    assert_eq!(unknown, [Event::Unknown("weather_report".into())]);
    let done = decode("anthropic-messages/unknown-events-s");
    assert_eq!(done.text(), "High tide at six.");
    assert!(matches!(&contents(&done)[0], Content::Other { kind, .. } if kind == "server_tool_use"));
    assert_eq!((done.usage.input, done.usage.output), (Some(60), Some(33)));
}

#[test]
fn a_stream_without_its_end_is_truncated_and_names_what_is_missing() {
    for (name, missing) in [
        ("openai-chat/no-done-s", "`[DONE]`"),
        ("openai-chat/no-finish-s", "`finish_reason`"),
        ("anthropic-messages/no-stop-s", "`message_stop`"),
        ("gemini/no-finish-s", "`finishReason`"),
        ("ollama-chat/no-done-s", "`done`"),
    ] {
        let tape = tape(name);
        let (events, fed, ending) = run(tape.dialect, [tape.body.as_slice()]);
        let truncated = ending.unwrap_err();
        assert_eq!((fed, truncated.missing), (Ok(()), missing), "{name}");
        assert_eq!(Fault::from(truncated).kind, ErrorKind::Truncated);
        let mut collector = Collector::new();
        events.iter().for_each(|event| collector.push(event));
        assert!(collector.completion().written().len() > 10, "{name}");
        assert_eq!(collector.into_completion().finish(), None, "{name}");
    }
}

#[test]
fn an_error_in_the_stream_is_a_refusal() {
    for (name, code) in [
        ("openai-chat/error-in-stream-s", Some("server_error")),
        ("anthropic-messages/error-in-stream-s", Some("overloaded_error")),
        ("gemini/error-in-stream-s", Some("UNAVAILABLE")),
        ("ollama-chat/error-in-stream-s", None),
    ] {
        let tape = tape(name);
        let (events, fed, ending) = run(tape.dialect, [tape.body.as_slice()]);
        let Ok(Ending::Refused(refusal)) = ending else { panic!("{name}: {ending:?}") };
        assert_eq!((refusal.kind, refusal.code.as_deref(), refusal.status), (ErrorKind::Upstream, code, None));
        assert_eq!(fed, Ok(()));
        assert_eq!(events.last(), Some(&Event::Error(refusal)));
    }
}

#[test]
fn refusals_have_a_kind_and_keep_the_body() {
    for (name, kind, code, param, wait) in [
        ("openai-chat/error-429", ErrorKind::RateLimited, Some("rate_limit_exceeded"), None, Some(6500)),
        ("openai-chat/error-quota", ErrorKind::Upstream, Some("insufficient_quota"), None, None),
        ("openai-chat/error-400", ErrorKind::BadRequest, Some("unsupported_value"), Some("temperature"), None),
        ("openai-chat/error-401", ErrorKind::Upstream, Some("invalid_api_key"), None, None),
        ("openai-chat/error-html-502", ErrorKind::Upstream, None, None, None),
        ("anthropic-messages/error-529", ErrorKind::Upstream, Some("overloaded_error"), None, None),
        ("anthropic-messages/error-429", ErrorKind::RateLimited, Some("rate_limit_error"), None, Some(12_000)),
        ("anthropic-messages/error-400", ErrorKind::BadRequest, Some("invalid_request_error"), None, None),
        ("gemini/error-429", ErrorKind::RateLimited, Some("RESOURCE_EXHAUSTED"), None, Some(34_500)),
        ("gemini/error-400", ErrorKind::BadRequest, Some("INVALID_ARGUMENT"), Some("contents"), None),
        ("gemini/error-key", ErrorKind::Upstream, Some("INVALID_ARGUMENT"), None, None),
        ("ollama-chat/error-404", ErrorKind::NotFound, None, None, None),
    ] {
        let tape = tape(name);
        let refusal = crate::provider(tape.dialect).decode_error(&tape.head, &tape.body);
        assert_eq!((refusal.kind, refusal.code.as_deref(), refusal.param.as_deref()), (kind, code, param), "{name}");
        assert_eq!(refusal.retry_after, wait.map(Duration::from_millis), "{name}");
        assert_eq!(refusal.status, Some(tape.head.status.as_u16()), "{name}");
        assert_eq!(refusal.raw.as_bytes(), tape.body, "{name}");
        assert!(!refusal.message.is_empty());
        let fault = Fault::from(refusal);
        assert_eq!(fault.provider_status, Some(tape.head.status.as_u16()));
    }
}

#[test]
fn a_body_that_is_no_answer_is_an_error() {
    let head = Head::default();
    for dialect in crate::generating() {
        let provider = crate::provider(dialect);
        for body in ["", "null", "[]", "{}", "{\"choices\":7,\"content\":7}", "<html>"] {
            let error = provider.decode(&head, body.as_bytes()).unwrap_err();
            assert!(matches!(error, DecodeError::Corrupt { .. }), "{dialect} {body}: {error:?}");
        }
        let limited = ErrorKind::RateLimited;
        let (body, kind) = match dialect {
            DialectName::BedrockConverse => (r#"{"__type":"ThrottlingException","message":"no"}"#, limited),
            DialectName::Gemini => (r#"{"error":{"message":"no","status":"RESOURCE_EXHAUSTED"}}"#, limited),
            DialectName::OllamaChat => (r#"{"error":"no"}"#, ErrorKind::Upstream),
            _ => (r#"{"error":{"message":"no","type":"rate_limit_error"}}"#, limited),
        };
        let DecodeError::Refused(refusal) = provider.decode(&head, body.as_bytes()).unwrap_err() else {
            panic!("{dialect}")
        };
        assert_eq!((refusal.kind, refusal.message.as_str()), (kind, "no"));
    }
}

#[test]
fn a_long_error_body_is_cut() {
    let head = Head { status: http::StatusCode::BAD_GATEWAY, ..Head::default() };
    let body = "é".repeat(20_000);
    for dialect in crate::generating() {
        let refusal = crate::provider(dialect).decode_error(&head, body.as_bytes());
        assert!(refusal.raw.len() <= 8 * 1024 && refusal.raw.len() > 8000, "{dialect}");
    }
}
