//! Anthropic's token counts, and the clouds that host its dialect.

use farebox_dialect::{
    Caller, CountCaller, Defaults, DialectName, Ending, FinishReason, Frame, Hosting, Passing, StreamLimits, Target,
    caller_dialect, rewrite,
};
use farebox_types::ErrorKind;
use http::HeaderMap;
use serde_json::json;

use crate::{
    anthropic::{NAME, collected, conversation, json_of, parse},
    tape::{Tape, tape},
};

fn hosted(hosting: Hosting) -> Target {
    Target { hosting, ..Target::new("anthropic.claude-tape-1:0") }
}

fn counter() -> &'static dyn CountCaller {
    match caller_dialect(DialectName::AnthropicCountTokens) {
        Some(Caller::CountTokens(counter)) => counter,
        _ => panic!("nobody counts"),
    }
}

#[test]
fn tokens_are_counted() {
    let mut body = conversation();
    body.as_object_mut().unwrap().remove("max_tokens");
    let call = counter().parse(&HeaderMap::new(), &serde_json::to_vec(&body).unwrap()).unwrap();
    assert_eq!(counter().render(671), "{\"input_tokens\":671}");
    let count = crate::provider(NAME).counting().unwrap();
    let mut members = Vec::new();
    for (hosting, path) in [
        (Hosting::Own, "/v1/messages/count_tokens"),
        (Hosting::Vertex, "/publishers/anthropic/models/count-tokens:rawPredict"),
        (Hosting::Bedrock, "/model/anthropic.claude-tape-1%3A0/count-tokens"),
    ] {
        let mut target = hosted(hosting);
        if hosting == Hosting::Bedrock {
            // Counting takes no inference profile.
            target.model.insert_str(0, "eu.");
        }
        let request = count.encode(&call, &target).unwrap().request;
        assert_eq!(request.uri(), path);
        let body = json_of(request.body());
        members.push(body.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" "));
    }
    insta::assert_snapshot!("anthropic_counted_members", members.join("\n"));
    assert_eq!(count.decode(br#"{"input_tokens":9,"context_management":{}}"#).unwrap(), 9);
    assert_eq!(count.decode(br#"{"inputTokens":9}"#).unwrap(), 9);
    assert!(count.decode(br#"{"tokens":9}"#).is_err());
}

#[test]
fn hosted_requests() {
    let mut call = parse(&json!({"model": "writer", "messages": [{"role": "user", "content": "hi"}], "stream": true}));
    call.betas = vec!["context-1m-2025-08-07".into(), "claude-code-20250219".into()];
    let provider = crate::provider(NAME);
    let mut seen = Vec::new();
    for (hosting, stream) in [
        (Hosting::Own, true),
        (Hosting::Vertex, true),
        (Hosting::Vertex, false),
        (Hosting::Bedrock, true),
        (Hosting::Bedrock, false),
    ] {
        call.stream = stream;
        let target = hosted(hosting);
        let encoded = provider.encode(&call, &target).unwrap().request;
        // A body that goes through is sent to the same place and says the same.
        let defaults = Defaults { max_output_tokens: Some(77), temperature: Some(0.5), clamp: None };
        let passing = Passing { call: &call, asked_stream: true, defaults, target: &target };
        let given = br#"{"model":"writer","messages":[{"role":"user","content":"hi"}],"stream":true,"x":1.10}"#;
        let body = rewrite(given, &provider.edits(&passing)).unwrap();
        let mut passed = provider.request(&target, stream, body).unwrap();
        passed.headers_mut().extend(provider.headers(&passing));
        assert_eq!((passed.uri(), passed.headers()), (encoded.uri(), encoded.headers()));
        let text = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
        let beta = passed.headers().get("anthropic-beta").map(|list| list.to_str().unwrap().to_owned());
        seen.push(json!([encoded.uri().to_string(), beta, text(encoded.body()), text(passed.body())]));
    }
    insta::assert_json_snapshot!("anthropic_hosted", seen);
}

#[test]
fn what_another_provider_sealed_does_not_go_through() {
    let edited = |content: serde_json::Value| {
        let body = json!({"model": "writer", "max_tokens": 9, "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": content},
        ]});
        let (call, target) = (parse(&body), hosted(Hosting::Own));
        let passing = Passing { call: &call, asked_stream: false, defaults: Defaults::default(), target: &target };
        let edits = crate::provider(NAME).edits(&passing);
        json_of(&rewrite(&serde_json::to_vec(&body).unwrap(), &edits).unwrap())["messages"][1].clone()
    };
    let own = json!([
        {"type": "thinking", "thinking": "hm", "signature": "b3du"},
        {"type": "redacted_thinking", "data": "b3du"},
        {"type": "text", "text": "hello", "x": 1},
    ]);
    assert_eq!(edited(own.clone())["content"], own, "its own goes through as it is");
    let call = json!({"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}});
    for seal in
        ["farebox:gemini:call:t1:c2ln", "farebox:bedrock-converse:c2ln", "farebox:openai-responses:item:rs_1:c2ln"]
    {
        let message = edited(json!([{"type": "redacted_thinking", "data": seal}, call]));
        assert_eq!(message, json!({"role": "assistant", "content": [call]}), "{seal}");
    }
}

#[test]
fn what_bedrock_frames_is_the_same_stream() {
    let target = hosted(Hosting::Bedrock);
    let run = |mut pieces: std::slice::Chunks<'_, u8>| {
        let mut decoder = crate::provider(NAME).decoder(&target, &StreamLimits::default());
        let mut events = Vec::new();
        let fed = pieces.try_for_each(|piece| decoder.feed(piece, &mut events));
        (fed, decoder.finish(&mut events), events)
    };
    let tools = tape("anthropic-messages/bedrock-tools");
    let (fed, ending, events) = run(tools.body.chunks(usize::MAX));
    assert_eq!((fed, &ending), (Ok(()), &Ok(Ending::Complete)));
    let done = collected(&events);
    assert_eq!((done.text().as_str(), done.finish()), ("The lock opens — now.", Some(&FinishReason::ToolCalls)));
    assert_eq!((done.usage.input, done.usage.output), (Some(40), Some(31)));
    for size in [1, 7, 64] {
        assert_eq!(run(tools.body.chunks(size)), (Ok(()), ending.clone(), events.clone()));
    }
    for cut in (0..tools.body.len()).step_by(13) {
        assert!(run(tools.body[..cut].chunks(usize::MAX)).1.is_err(), "cut at {cut}");
    }

    let broken = tape("anthropic-messages/bedrock-exception");
    let (_, ending, _) = run(broken.body.chunks(usize::MAX));
    let Ok(Ending::Refused(refusal)) = ending else { panic!("{ending:?}") };
    assert_eq!((refusal.kind, refusal.code.as_deref()), (ErrorKind::RateLimited, Some("throttlingException")));
    assert_eq!(refusal.message, "Too many tokens, please wait before trying again.");

    let passing = |tape: &Tape| {
        let mut decoder = crate::provider(NAME).decoder(&target, &StreamLimits::default());
        let mut passed = Vec::new();
        let mut pass = |frame: Frame<'_>| passed.push(json_of(frame.data)["type"].as_str().unwrap().to_owned());
        decoder.watch(&tape.body, &mut Vec::new(), &mut pass).unwrap();
        passed
    };
    assert_eq!(passing(&tools).last().map(String::as_str), Some("message_stop"));
    assert_eq!(passing(&broken), ["message_start", "content_block_start", "content_block_delta"]);
}

#[test]
fn hosts_say_no_in_their_own_words() {
    for (name, kind, code, message) in [
        (
            "bedrock-error-400",
            ErrorKind::BadRequest,
            "ValidationException",
            "The provided model identifier is invalid.",
        ),
        ("vertex-error-429", ErrorKind::RateLimited, "RESOURCE_EXHAUSTED", "Quota exceeded for tape."),
    ] {
        let tape = tape(&format!("anthropic-messages/{name}"));
        let refusal = crate::provider(NAME).decode_error(&tape.head, &tape.body);
        assert_eq!((refusal.kind, refusal.code.as_deref(), refusal.message.as_str()), (kind, Some(code), message));
    }
}

#[test]
fn a_budget_for_thinking_never_lifts_the_output_limit() {
    let provider = crate::provider(NAME);
    let target = hosted(Hosting::Own);
    let body = json!({
        "model": "m", "messages": [{"role": "user", "content": "hi"}],
        "thinking": {"type": "enabled", "budget_tokens": 60_000},
    });
    let mut call = parse(&body);
    // Where the caller names no limit, the plan's is what was reserved.
    let defaults = Defaults { max_output_tokens: Some(1000), temperature: None, clamp: None };
    let passing = Passing { call: &call, asked_stream: false, defaults, target: &target };
    let sent = rewrite(body.to_string().as_bytes(), &provider.edits(&passing)).unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&sent).unwrap()["max_tokens"], 1000);
    call.max_output_tokens = Some(1000);
    let encoded = provider.encode(&call, &target).unwrap().request;
    assert_eq!(serde_json::from_slice::<serde_json::Value>(encoded.body()).unwrap()["max_tokens"], 1000);
}
