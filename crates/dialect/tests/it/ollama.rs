//! Ollama's chat, in both directions.

use farebox_dialect::{
    Call, Content, DecodeError, DialectName, Effort, FinishReason, OnUnsupported, Reasoning, ReasoningRequest, Target,
};
use farebox_types::ErrorKind;
use serde_json::{Value, json};

use crate::{
    decode::{call, contents, decode, usage},
    encode::parse,
    laws::run,
    tape::tape,
};

fn encode(call: &Call, model: &str) -> (Value, Vec<String>) {
    crate::encode::encode(DialectName::OllamaChat, call, &Target::new(model))
}

fn conversation() -> Value {
    json!({
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0="}},
                {"type": "text", "text": "And this?"}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{\"z\": 1.10}"}},
                {"id": "c2", "type": "function", "function": {"name": "now", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "a boat"},
            {"role": "tool", "tool_call_id": "c2", "content": "noon"},
            {"role": "user", "content": "So?"}],
        "tools": [
            {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}},
            {"type": "function", "function": {"name": "now"}}],
        "temperature": 0.5, "top_p": 0.9, "stop": "END", "seed": 7, "max_tokens": 90, "frequency_penalty": 0.5,
        "presence_penalty": 0.25, "stream": true, "tool_choice": "required", "logprobs": true, "top_logprobs": 2,
        "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}
    })
}

#[test]
fn a_conversation_for_ollama() {
    let call = parse(&conversation());
    let encoded = crate::provider(DialectName::OllamaChat).encode(&call, &Target::new("otter:4b")).unwrap();
    assert_eq!((encoded.request.method().as_str(), encoded.request.uri().path()), ("POST", "/api/chat"));
    assert!(std::str::from_utf8(encoded.request.body()).unwrap().contains("\"arguments\":{\"z\": 1.10}"));
    let (body, warnings) = encode(&call, "otter:4b");
    insta::assert_json_snapshot!("ollama_conversation", json!({"body": body, "warnings": warnings}));
}

#[test]
fn little_is_sent_for_little() {
    let call = parse(&json!({"messages": [{"role": "user", "content": "hi"}], "tool_choice": "none",
        "tools": [{"type": "function", "function": {"name": "f"}}], "response_format": {"type": "json_object"}}));
    let expected =
        json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "format": "json", "stream": false});
    assert_eq!(encode(&call, "m"), (expected, vec![]));
}

#[test]
fn thinking_is_a_switch_or_a_level() {
    let think = |model: &str, asked: ReasoningRequest| {
        let hi = parse(&json!({"messages": [{"role": "user", "content": "hi"}]}));
        encode(&Call { reasoning: Some(asked), ..hi }, model).0["think"].clone()
    };
    let effort = |effort| ReasoningRequest { effort: Some(effort), ..ReasoningRequest::default() };
    let budget = |tokens| ReasoningRequest { budget_tokens: Some(tokens), ..ReasoningRequest::default() };
    for (model, asked, expected) in [
        ("otter:4b", effort(Effort::Low), json!(true)),
        ("otter:4b", effort(Effort::None), json!(false)),
        ("gpt-oss:20b", effort(Effort::Minimal), json!("low")),
        ("gpt-oss:20b", effort(Effort::Max), json!("high")),
        ("otter:4b", budget(500), json!(true)),
        ("otter:4b", budget(0), json!(false)),
        ("otter:4b", ReasoningRequest::default(), Value::Null),
    ] {
        assert_eq!(think(model, asked.clone()), expected, "{model} {asked:?}");
    }
}

#[test]
fn what_ollama_has_no_word_for() {
    let refuse = Target { unsupported: OnUnsupported::Refuse, ..Target::new("m") };
    let image = json!([{"type": "image_url", "image_url": {"url": "https://x.invalid/a.png"}}]);
    for (body, what) in [
        (json!({"messages": [{"role": "user", "content": "x"}], "n": 2}), "`n`"),
        (json!({"messages": [{"role": "user", "content": "x"}], "user": "u"}), "`user`"),
        (json!({"messages": [{"role": "user", "content": image}]}), "an image by address"),
    ] {
        let error = crate::provider(DialectName::OllamaChat).encode(&parse(&body), &refuse).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn answers_with_thinking_and_their_end() {
    let thought = |text: &str| {
        let origin = Some(DialectName::OllamaChat);
        Content::Reasoning(Reasoning { text: text.into(), origin, ..Reasoning::default() })
    };
    let done = decode("ollama-chat/text-s");
    assert_eq!(contents(&done), [thought("Count herons."), Content::Text("Three„“ herons.".into())]);
    assert_eq!(
        (done.model.as_str(), done.finish(), done.usage),
        ("otter:4b", Some(&FinishReason::Stop), usage(26, 17))
    );
    assert!(done.choices[0].logprobs.as_ref().unwrap().as_str().contains("-0.25"));

    let done = decode("ollama-chat/length");
    assert_eq!(contents(&done), [thought("Birds."), Content::Text("Herons wade in".into())]);
    assert_eq!((done.finish(), done.usage.total()), (Some(&FinishReason::Length), 43));
}

#[test]
fn tool_calls_without_ids_get_some() {
    let done = decode("ollama-chat/tools-s");
    let expected = [
        Content::Text("Looking.".into()),
        call("call_20260501100002_0", "pier_status", "{\"pier\":\"North\",\"depth\":1.5}"),
        call("call_own", "now", "{}"),
    ];
    assert_eq!((contents(&done).as_slice(), done.finish()), (expected.as_slice(), Some(&FinishReason::ToolCalls)));
}

#[test]
fn a_corrupt_line_ends_the_stream_for_good() {
    let tape = tape("ollama-chat/text-s");
    for garbage in ["nonsense\n", "{\"message\":7}\n", "{\"message\":{\"tool_calls\":[{}]}}\n"] {
        let (events, fed, ending) = run(tape.dialect, [garbage.as_bytes(), &tape.body]);
        assert!(matches!(fed, Err(DecodeError::Corrupt { .. })) && ending.is_err(), "{garbage}: {fed:?}");
        assert!(events.is_empty(), "{garbage}");
    }
}
