//! Bedrock's Converse: its answers on tape.

use std::time::Duration;

use farebox_dialect::{
    Call, Citation, Collector, Completion, Content, DecodeError, Ending, Event, FinishReason, Message, Part, Reasoning,
    Role,
};
use farebox_types::{ErrorKind, Usage};
use serde_json::{Value, json};

use crate::{
    bedrock::{NAME, base64, call, claude, raw, tool_call},
    laws::run,
    tape::tape,
};

fn streamed(name: &str) -> Completion {
    let (events, fed, ending) = run(NAME, [tape(name).body.as_slice()]);
    assert_eq!((fed, ending), (Ok(()), Ok(Ending::Complete)), "{name}");
    let mut collector = Collector::new();
    events.iter().for_each(|event| collector.push(event));
    collector.into_completion()
}

fn whole(name: &str) -> Completion {
    let tape = tape(name);
    crate::provider(NAME).decode(&tape.head, &tape.body).unwrap()
}

fn contents(completion: &Completion) -> Vec<Content> {
    completion.choices[0].parts.iter().map(|part| part.content.clone()).collect()
}

#[test]
fn a_streamed_text() {
    let done = streamed("bedrock-converse/text-s");
    assert_eq!(done.text(), "Herons wade in käľt „water“.");
    assert_eq!(done.finish(), Some(&FinishReason::Stop));
    assert_eq!(done.usage, Usage { input: Some(21), output: Some(9), ..Usage::default() });
    assert_eq!(done.service_tier.as_deref(), Some("flex"));
}

#[test]
fn a_whole_text() {
    let done = whole("bedrock-converse/text");
    assert_eq!((done.id.as_str(), done.text().as_str()), ("00000000-tape", "A heron stands on one leg."));
    let thought = Reasoning { text: "Easy.".into(), origin: Some(NAME), ..Reasoning::default() };
    assert_eq!(contents(&done), [Content::Reasoning(thought), Content::Text(done.text())]);
    assert_eq!(done.finish(), Some(&FinishReason::StopSequence));
    assert_eq!(done.usage.total(), 27);
    assert_eq!(done.service_tier.as_deref(), Some("priority"));
}

#[test]
fn streamed_thinking_and_tools() {
    let done = streamed("bedrock-converse/thinking-tools-s");
    let thought = Reasoning {
        text: "Which harbour? Both.".into(),
        signature: Some("c2lnbmF0dXJlLXRhcGU=".into()),
        origin: Some(NAME),
        ..Reasoning::default()
    };
    let sealed = Reasoning { encrypted: Some("UldFRFRBUEU=".into()), origin: Some(NAME), ..Reasoning::default() };
    let expected = [
        Content::Reasoning(thought),
        Content::Reasoning(sealed),
        Content::Text("I will look.".into()),
        tool_call("tooluse_a1", "ferry_times", "{\"harbour\": \"Oban\"}"),
        tool_call("tooluse_a2", "tide_table", "{\"day\":1.10}"),
    ];
    assert_eq!(contents(&done), expected);
    assert_eq!(done.finish(), Some(&FinishReason::ToolCalls));
    let usage = Usage {
        input: Some(12),
        cache_read: Some(2048),
        cache_write_5m: Some(100),
        cache_write_1h: Some(200),
        output: Some(140),
        ..Usage::default()
    };
    assert_eq!(done.usage, usage);
}

#[test]
fn citations_hold_for_the_text_of_their_block() {
    let streamed = streamed("bedrock-converse/citations-s");
    assert_eq!(streamed.text(), "So: high wäter at noon.");
    let cited = &streamed.choices[0].parts[1];
    let whole = whole("bedrock-converse/blocks");
    assert_eq!(cited, &whole.choices[0].parts[2]);
    let [web, document] = cited.citations.as_slice() else { panic!("{:?}", cited.citations) };
    let expected = Citation {
        url: Some("https://tides.invalid/oban".into()),
        title: Some("Tides".into()),
        start: Some(0),
        end: Some(19),
        raw: web.raw.clone(),
        ..Citation::default()
    };
    assert_eq!(web, &expected);
    assert_eq!((document.quote.as_deref(), &document.url), (Some("High water at noon."), &None));
    assert!(document.raw.as_ref().is_some_and(|(name, raw)| *name == NAME && raw.as_str().contains("documentChar")));
}

#[test]
fn blocks_of_the_providers_own_tools_are_kept_whole() {
    let done = streamed("bedrock-converse/server-tools-s");
    let other = |kind: &str, value: Value| Content::Other { dialect: NAME, kind: kind.into(), raw: raw(&value) };
    let call = json!({"toolUse": {"name": "nova_code_interpreter", "toolUseId": "srv_1", "type": "server_tool_use", "input": {"snippet": "1+1"}}});
    let result = json!({"toolResult": {"status": "success", "toolUseId": "srv_1", "type": "nova_code_interpreter_result", "content": [{"json": {"stdOut": "2"}}]}});
    let expected = [
        other("toolUse", call.clone()),
        other("toolResult", result),
        Content::Image(base64("image/png", "iVBORw0=").into()),
        Content::Text("Two.".into()),
    ];
    assert_eq!(contents(&done), expected);
    assert_eq!(done.finish(), Some(&FinishReason::Length));
    let (events, ..) = run(NAME, [tape("bedrock-converse/server-tools-s").body.as_slice()]);
    let unknown: Vec<_> = events.iter().filter(|event| matches!(event, Event::Unknown(_))).collect();
    assert_eq!(unknown, [&Event::Unknown("contentBlockDelta".into()), &Event::Unknown("laterEvent".into())]);
    let again = call_with(done.choices[0].parts[..1].to_vec());
    assert_eq!(claude(&again).0["messages"][1]["content"], json!([call]));
}

fn call_with(parts: Vec<Part>) -> Call {
    call(vec![Message::text(Role::User, "hi"), Message::new(Role::Assistant, parts)])
}

#[test]
fn whole_blocks() {
    let done = whole("bedrock-converse/blocks");
    let kinds: Vec<_> = contents(&done)
        .iter()
        .map(|content| match content {
            Content::Reasoning(reasoning) if reasoning.encrypted.is_some() => "sealed",
            Content::Reasoning(reasoning) if reasoning.signature.is_some() => "reasoning",
            Content::Text(_) => "text",
            Content::ToolCall(_) => "call",
            Content::Image(_) => "image",
            Content::Other { kind, .. } if kind == "toolUse" => "server call",
            Content::Other { kind, .. } if kind == "laterContent" => "later",
            _ => "?",
        })
        .collect();
    assert_eq!(kinds, ["reasoning", "sealed", "text", "call", "server call", "image", "later"]);
    assert_eq!(contents(&done)[3], tool_call("tooluse_a1", "ferry_times", "{\"harbour\":\"Oban\"}"));
    assert_eq!((done.usage.total(), done.usage.cache_write_5m), (2021, Some(236)));
    // The proof goes back where it came from, byte for byte.
    let (body, warnings) = claude(&call_with(done.choices[0].parts[..2].to_vec()));
    let sent = json!([
        {"reasoningContent": {"reasoningText": {"text": "Which?", "signature": "c2lnbmF0dXJl"}}},
        {"reasoningContent": {"redactedContent": "UldFRFRBUEU="}}
    ]);
    assert_eq!((&body["messages"][1]["content"], warnings.len()), (&sent, 0));
}

#[test]
fn a_stream_without_its_end_is_truncated() {
    for name in ["bedrock-converse/no-metadata-s", "bedrock-converse/no-stop-s"] {
        let (events, fed, ending) = run(NAME, [tape(name).body.as_slice()]);
        assert_eq!((fed, ending.unwrap_err().missing), (Ok(()), "`metadata`"), "{name}");
        assert!(!events.iter().any(|event| matches!(event, Event::Finish { .. })), "{name}");
    }
}

#[test]
fn an_exception_in_the_stream_is_a_refusal() {
    let (events, fed, ending) = run(NAME, [tape("bedrock-converse/exception-in-stream-s").body.as_slice()]);
    let Ok(Ending::Refused(refusal)) = ending else { panic!("{ending:?}") };
    assert_eq!((refusal.kind, refusal.message.as_str()), (ErrorKind::Upstream, "The model broke off."));
    assert_eq!((refusal.code.as_deref(), refusal.status), (Some("modelStreamErrorException"), None));
    assert_eq!((fed, events.last()), (Ok(()), Some(&Event::Error(refusal))));
}

#[test]
fn refusals_have_a_kind_by_their_name() {
    for (name, kind, code) in [
        ("error-429", ErrorKind::RateLimited, "ThrottlingException"),
        ("error-quota-400", ErrorKind::RateLimited, "ServiceQuotaExceededException"),
        ("error-403", ErrorKind::Upstream, "UnrecognizedClientException"),
        ("error-400", ErrorKind::BadRequest, "ValidationException"),
        ("error-408", ErrorKind::Upstream, "ModelTimeoutException"),
    ] {
        let tape = tape(&format!("bedrock-converse/{name}"));
        let refusal = crate::provider(NAME).decode_error(&tape.head, &tape.body);
        assert_eq!((refusal.kind, refusal.code.as_deref(), refusal.retry_after), (kind, Some(code), None::<Duration>));
        assert_eq!((refusal.status, refusal.raw.as_bytes()), (Some(tape.head.status.as_u16()), tape.body.as_slice()));
        assert!(refusal.message.ends_with('.') && refusal.message.len() > 20, "{}", refusal.message);
    }
}

#[test]
fn a_broken_message_ends_the_stream_for_good() {
    let tape = tape("bedrock-converse/text-s");
    let first = u32::from_be_bytes(tape.body[..4].try_into().unwrap()) as usize;
    let mut broken = tape.body.clone();
    broken[first + 40] ^= 1;
    let (events, fed, ending) = run(NAME, [broken.as_slice()]);
    assert!(matches!(fed, Err(DecodeError::Corrupt { .. })), "{fed:?}");
    assert!(ending.is_err());
    assert!(!events.iter().any(|event| matches!(event, Event::Delta { .. } | Event::Finish { .. })));
}
