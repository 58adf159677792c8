//! Cohere's conversations: calls, and answers on tape.

use farebox_dialect::{
    Call, Content, DialectName, Ending, Event, FinishReason, Message, Part, RawJson, Reasoning, Role, Source, Target,
    ToolResult,
};
use farebox_types::{ErrorKind, Usage};
use serde_json::{Value, json};

use crate::{
    decode::{call, contents, decode},
    encode::{encode, parse, tool_conversation},
    laws::run,
    tape::tape,
};

fn cohere(call: &Call) -> (Value, Vec<String>) {
    encode(DialectName::CohereChat, call, &Target::new("command-tape-1"))
}

fn thought(text: &str) -> Content {
    Content::Reasoning(Reasoning { text: text.into(), ..Reasoning::default() })
}

fn usage(input: u64, output: u64) -> Usage {
    Usage { input: Some(input), output: Some(output), ..Usage::default() }
}

#[test]
fn a_conversation_for_cohere() {
    let mut given = tool_conversation();
    // Cohere has no place for documents that are not text.
    given["messages"][2]["content"].as_array_mut().unwrap().pop();
    let (body, warnings) = cohere(&parse(&given));
    insta::assert_json_snapshot!("cohere_conversation", json!({"body": body, "warnings": warnings}));
    let request = crate::provider(DialectName::CohereChat).request(&Target::new("m"), true, "{}".into()).unwrap();
    assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/v2/chat"));
}

#[test]
fn reasoning_goes_back_as_the_plan_of_its_tool_calls_or_as_thinking() {
    let done = decode("cohere-chat/tools");
    let text = decode("cohere-chat/thinking-citations");
    let messages = vec![
        Message::text(Role::User, "go"),
        Message::new(Role::Assistant, done.choices[0].parts.clone()),
        Message::new(Role::Assistant, text.choices[0].parts.clone()),
    ];
    let (body, warnings) = cohere(&Call { messages, ..Call::default() });
    assert_eq!(warnings, Vec::<String>::new());
    let plan = json!({"role": "assistant", "tool_plan": "I will look.", "tool_calls": [
        {"id": "look_1", "type": "function", "function": {"name": "look", "arguments": "{ \"z\": 1.10 }"}},
        {"id": "now_2", "type": "function", "function": {"name": "now", "arguments": "{}"}}]});
    assert_eq!(body["messages"][1], plan);
    let content =
        json!([{"type": "thinking", "thinking": "Which birds wade?"}, {"type": "text", "text": "Herons wade."}]);
    assert_eq!(body["messages"][2]["content"], content);
    assert_eq!(body["messages"][2]["citations"][0]["sources"][0]["id"], "doc-0");
}

#[test]
fn images_of_a_result_follow_the_results() {
    let image = Source::Base64 { media_type: "image/png".into(), data: "AAAA".into() };
    let result = |call_id: &str, parts| {
        Part::from(Content::ToolResult(ToolResult { call_id: call_id.into(), is_error: false, parts }))
    };
    let messages = vec![Message::new(
        Role::User,
        vec![
            result("a", vec![Part::text("seen"), Part::from(Content::Image(image.into()))]),
            result("b", vec![]),
            Part::text("So?"),
        ],
    )];
    let (body, _) = cohere(&Call { messages, ..Call::default() });
    let expected = json!([
        {"role": "tool", "tool_call_id": "a", "content": "seen"},
        {"role": "tool", "tool_call_id": "b", "content": ""},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
        {"role": "user", "content": "So?"},
    ]);
    assert_eq!(body["messages"], expected);
}

#[test]
fn wishes_in_coheres_words() {
    let hi = json!([{"role": "user", "content": "hi"}]);
    let tools =
        json!([{"type": "function", "function": {"name": "a"}}, {"type": "function", "function": {"name": "b"}}]);
    for (wish, member, expected) in [
        (json!({"tool_choice": "required", "tools": tools}), "tool_choice", json!("REQUIRED")),
        (json!({"tool_choice": "none", "tools": tools}), "tool_choice", json!("NONE")),
        (json!({"tool_choice": "auto", "tools": tools}), "tool_choice", Value::Null),
        (json!({"response_format": {"type": "json_object"}}), "response_format", json!({"type": "json_object"})),
        (json!({"reasoning_effort": "none"}), "thinking", json!({"type": "disabled"})),
        (json!({"reasoning_effort": "high"}), "thinking", json!({"type": "enabled"})),
        (json!({"reasoning_effort": "low"}), "thinking", json!({"type": "enabled", "token_budget": 1024})),
        (json!({"top_p": 1}), "p", json!(0.99)),
        (json!({"top_k": 5}), "k", json!(5)),
        (json!({"stop": ["x"]}), "stop_sequences", json!(["x"])),
        (json!({"logprobs": true}), "logprobs", json!(true)),
    ] {
        let mut body = json!({"messages": hi});
        body.as_object_mut().unwrap().extend(wish.as_object().unwrap().clone());
        let (written, warnings) = cohere(&parse(&body));
        assert_eq!(written[member], expected, "{wish}");
        assert!(warnings.is_empty(), "{warnings:?}");
    }
    let refused = |body: Value| {
        let call = parse(&body);
        crate::provider(DialectName::CohereChat).encode(&call, &Target::new("m")).unwrap_err().kind()
    };
    assert_eq!(refused(json!({"messages": hi, "n": 2})), ErrorKind::Unsupported);
    let choice = json!({"type": "function", "function": {"name": "c"}});
    assert_eq!(refused(json!({"messages": hi, "tools": tools, "tool_choice": choice})), ErrorKind::Unsupported);
}

#[test]
fn extra_members_are_passed_on_in_their_own_words_only() {
    let mut call = parse(&json!({"messages": [{"role": "user", "content": "hi"}]}));
    call.extra.insert("safety_mode".into(), RawJson::new("\"STRICT\"").unwrap());
    let (body, warnings) = cohere(&call);
    assert!(body.get("safety_mode").is_none() && warnings[0].contains("`safety_mode`"), "{warnings:?}");
    call.dialect = Some(DialectName::CohereChat);
    assert_eq!(cohere(&call).0["safety_mode"], "STRICT");
}

#[test]
fn text_is_billed_by_what_is_billed() {
    let done = decode("cohere-chat/text");
    assert_eq!((done.id.as_str(), done.text().as_str()), ("c4a7-whole", "A heron stands."));
    assert_eq!((done.finish(), done.usage), (Some(&FinishReason::Stop), usage(20, 5)));
    let done = decode("cohere-chat/text-s");
    assert_eq!(done.text(), "Herons wade in käľt water: „quoted“ \\ \n{\"a\": 1}");
    assert_eq!((done.id.as_str(), done.finish(), done.usage), ("c4a7-tape", Some(&FinishReason::Stop), usage(12, 7)));
}

#[test]
fn a_plan_is_reasoning_and_no_arguments_are_an_empty_object() {
    let done = decode("cohere-chat/tools");
    let expected = [thought("I will look."), call("look_1", "look", "{ \"z\": 1.10 }"), call("now_2", "now", "{}")];
    assert_eq!(contents(&done), expected);
    assert_eq!((done.finish(), done.usage), (Some(&FinishReason::ToolCalls), usage(119, 52)));
    let done = decode("cohere-chat/tools-s");
    let expected = [
        thought("I will look twice."),
        call("look_a1", "look", "{\"z\": 1.10}"),
        call("now_b2", "now", "{}"),
        call("now_c3", "now", "{}"),
    ];
    assert_eq!(contents(&done), expected);
    assert_eq!((done.finish(), done.usage), (Some(&FinishReason::ToolCalls), usage(46, 14)));
}

#[test]
fn citations_stand_with_the_text_whole_and_streamed() {
    for (name, finish) in [
        ("cohere-chat/thinking-citations", FinishReason::Stop),
        ("cohere-chat/thinking-citations-s", FinishReason::StopSequence),
    ] {
        let done = decode(name);
        assert_eq!(contents(&done), [thought("Which birds wade?"), Content::Text("Herons wade.".into())], "{name}");
        assert_eq!((done.finish(), done.usage), (Some(&finish), usage(30, 9)));
        assert!(done.choices[0].parts[0].citations.is_empty());
        let citations = &done.choices[0].parts[1].citations;
        let places: Vec<_> = citations.iter().map(|c| (c.url.as_deref(), c.title.as_deref(), c.start, c.end)).collect();
        let herons = (Some("https://birds.invalid/herons"), Some("Waders"), Some(0), Some(6));
        assert_eq!(places, [herons, (None, None, Some(7), Some(11))], "{name}");
        assert!(citations[1].raw.as_ref().is_some_and(|(_, raw)| raw.as_str().contains("look_1:0")));
    }
    let tape = tape("cohere-chat/thinking-citations-s");
    let (events, _, _) = run(tape.dialect, [tape.body.as_slice()]);
    let unknown: Vec<_> =
        events.iter().filter_map(|e| if let Event::Unknown(kind) = e { Some(kind) } else { None }).collect();
    assert_eq!(unknown, ["citation-start", "later-event"]);
}

#[test]
fn log_probabilities_are_told_as_a_list_of_tokens() {
    let tokens = |name| {
        let done = decode(name);
        let logprobs: Value = serde_json::from_str(done.choices[0].logprobs.as_ref().unwrap().as_str()).unwrap();
        let items = logprobs["content"].as_array().unwrap().clone();
        items.iter().map(|item| json!([item["token"], item["logprob"]])).collect::<Vec<_>>()
    };
    assert_eq!(tokens("cohere-chat/logprobs-s"), [json!(["Left", -0.25]), json!([" bank", -1.5])]);
    assert_eq!(tokens("cohere-chat/text"), [json!(["A", -0.5])]);
    assert_eq!(decode("cohere-chat/logprobs-s").finish(), Some(&FinishReason::Length));
}

#[test]
fn an_answer_that_broke_off_is_a_refusal_and_what_it_used_is_told() {
    let taped = tape("cohere-chat/error-in-stream-s");
    let (events, _, ending) = run(taped.dialect, [taped.body.as_slice()]);
    let Ok(Ending::Refused(refusal)) = ending else { panic!("{ending:?}") };
    assert_eq!((refusal.kind, refusal.message.as_str()), (ErrorKind::Upstream, "the model is overloaded"));
    assert!(matches!(&events[events.len() - 2..], [Event::Usage(u), Event::Error(_)] if *u == usage(12, 1)));
    let taped = tape("cohere-chat/timeout");
    let error = crate::provider(taped.dialect).decode(&taped.head, &taped.body).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::Upstream, "the provider broke off its answer: TIMEOUT")
    );
    let error = crate::provider(taped.dialect).decode(&taped.head, br#"{"message":"no such tokens"}"#).unwrap_err();
    assert_eq!(error.to_string(), "no such tokens");
    let error = run(DialectName::CohereChat, [&b"data: {\"message\":\"too many tokens\"}\n\n"[..]]).2;
    assert!(matches!(error, Ok(Ending::Refused(refusal)) if refusal.message == "too many tokens"));
}

#[test]
fn refusals() {
    for (name, kind, said) in [
        ("error-400", ErrorKind::BadRequest, "invalid request: message at index 0"),
        ("error-498", ErrorKind::Upstream, "the provider did not accept the credentials"),
    ] {
        let tape = tape(&format!("cohere-chat/{name}"));
        let refusal = crate::provider(tape.dialect).decode_error(&tape.head, &tape.body);
        assert_eq!(refusal.kind, kind, "{name}");
        assert!(refusal.message.starts_with(said), "{}", refusal.message);
    }
}
