//! Answers towards callers.

use std::time::Duration;

use bytes::Bytes;
use farebox_dialect::{Call, CallerDialect, DialectName, Event, Stamp};
use farebox_types::{ErrorKind, Fault};
use serde_json::{Value, json};

use crate::{laws::run, tape::tape};

fn openai() -> &'static dyn CallerDialect {
    crate::caller(DialectName::OpenAiChat)
}

fn stamp() -> Stamp {
    Stamp { id: "chatcmpl-own".into(), created: 1_770_000_000, model: None }
}

fn render_stream(events: &[Event], include_usage: bool) -> Vec<Bytes> {
    let mut renderer = openai().renderer(&Call { include_usage, ..Call::default() }, &stamp());
    let mut chunks = Vec::new();
    events.iter().for_each(|event| renderer.encode(event, &mut chunks));
    renderer.finish(&mut chunks);
    chunks
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn whole_answers_of_another_dialect() {
    let mut rendered = Vec::new();
    for name in [
        "anthropic-messages/text",
        "anthropic-messages/thinking-tools",
        "anthropic-messages/refusal",
        "openai-chat/refusal",
    ] {
        let tape = tape(name);
        let done = crate::provider(tape.dialect).decode(&tape.head, &tape.body).unwrap();
        rendered.push(json_of(&openai().render(&Call::default(), &done, &stamp())));
    }
    insta::assert_json_snapshot!("whole_answers", rendered);
}

#[test]
fn decode_after_render_gives_the_answer_back() {
    for name in ["openai-chat/text", "openai-chat/tools", "openai-chat/audio-reasoning", "openai-chat/refusal"] {
        let tape = tape(name);
        let provider = crate::provider(tape.dialect);
        let mut done = provider.decode(&tape.head, &tape.body).unwrap();
        let stamp = Stamp { id: done.id.clone(), created: done.created.unwrap(), model: None };
        let again = provider.decode(&tape.head, &openai().render(&Call::default(), &done, &stamp)).unwrap();
        done.extra.clear();
        assert_eq!(again, done, "{name}");
    }
}

#[test]
fn streams_of_another_dialect() {
    for name in ["anthropic-messages/thinking-tools-s", "anthropic-messages/cache-stop-sequence-s"] {
        let tape = tape(name);
        let (events, _, _) = run(tape.dialect, [tape.body.as_slice()]);
        let chunks: Vec<Value> = render_stream(&events, true).iter().map(|c| json_of(c)).collect();
        insta::assert_json_snapshot!(name.replace('/', "_"), chunks);
    }
}

#[test]
fn usage_comes_last_and_only_when_asked_for() {
    let tape = tape("anthropic-messages/text-s");
    let (events, _, _) = run(tape.dialect, [tape.body.as_slice()]);
    let without = render_stream(&events, false);
    assert!(without.iter().all(|chunk| json_of(chunk).get("usage").is_none()));
    let with = render_stream(&events, true);
    assert_eq!(with.len(), without.len() + 1);
    let (last, others) = with.split_last().unwrap();
    assert!(others.iter().all(|chunk| json_of(chunk)["usage"] == Value::Null && json_of(chunk).get("usage").is_some()));
    let last = json_of(last);
    assert_eq!((&last["choices"], &last["usage"]["total_tokens"]), (&json!([]), &json!(44)));
}

#[test]
fn the_caller_sees_the_name_it_used() {
    let tape = tape("anthropic-messages/text");
    let done = crate::provider(tape.dialect).decode(&tape.head, &tape.body).unwrap();
    let stamp = Stamp { model: Some("writer".into()), ..stamp() };
    assert_eq!(json_of(&openai().render(&Call::default(), &done, &stamp))["model"], "writer");
}

#[test]
fn every_kind_of_error() {
    let rendered: Vec<Value> = ErrorKind::ALL
        .into_iter()
        .map(|kind| {
            let (status, body) = openai().render_error(&Fault::new(kind, "a sentence to act on"));
            json!([status.as_u16(), json_of(&body)["error"]])
        })
        .collect();
    insta::assert_json_snapshot!("errors", rendered);
}

#[test]
fn what_the_provider_named_is_passed_on() {
    let tape = tape("openai-chat/error-400");
    let refusal = crate::provider(tape.dialect).decode_error(&tape.head, &tape.body);
    let fault = Fault::from(refusal).retry_after(Duration::from_secs(1));
    let (status, body) = openai().render_error(&fault);
    let body = json_of(&body);
    assert_eq!(status.as_u16(), 400);
    assert_eq!((&body["error"]["param"], &body["error"]["code"]), (&json!("temperature"), &json!("unsupported_value")));
}
