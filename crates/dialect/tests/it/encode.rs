//! Calls towards providers.

use farebox_dialect::{
    Call, Content, DialectName, Effort, EncodeError, Media, Message, OnUnsupported, Part, Quirk, Reasoning,
    ReasoningRequest, Role, Source, Target, ToolResult,
};
use farebox_types::ErrorKind;
use http::HeaderMap;
use serde_json::{Value, json};

pub(crate) fn parse(body: &Value) -> Call {
    let caller = crate::caller(DialectName::OpenAiChat);
    caller.parse(&HeaderMap::new(), &serde_json::to_vec(body).unwrap()).unwrap()
}

pub(crate) fn encode(dialect: DialectName, call: &Call, target: &Target) -> (Value, Vec<String>) {
    let encoded = crate::provider(dialect).encode(call, target).unwrap();
    let body = serde_json::from_slice(encoded.request.body()).unwrap();
    (body, encoded.warnings.iter().map(ToString::to_string).collect())
}

fn anthropic(call: &Call) -> (Value, Vec<String>) {
    encode(DialectName::AnthropicMessages, call, &Target::new("claude-tape-1"))
}

pub(crate) fn tool_conversation() -> Value {
    json!({
        "model": "alias",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "No lists.", "cache_control": {"type": "ephemeral"}}]},
            {"role": "user", "name": "ann", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0=", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://img.invalid/b.jpg"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}}
            ]},
            {"role": "user", "content": "And when?"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{\"z\": 1.10, \"a\": 12345678901234567890123}"}},
                {"id": "c2", "type": "function", "function": {"name": "now", "arguments": ""}}
            ]},
            {"role": "tool", "tool_call_id": "c1", "content": "a boat"},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "noon"}]},
            {"role": "system", "content": "Answer in French."},
            {"role": "user", "content": "So?"}
        ],
        "tools": [
            {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {"z": {"type": "number", "minimum": 1.10}}}}},
            {"type": "function", "function": {"name": "now", "strict": true}}
        ],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "parallel_tool_calls": false,
        "temperature": 1.5, "top_p": 0.9, "stop": "END", "seed": 7, "user": "u-1", "stream": true,
        "max_tokens": 900, "logit_bias": {"1": 2},
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": true}}
    })
}

#[test]
fn a_conversation_for_anthropic() {
    let call = parse(&tool_conversation());
    let encoded = crate::provider(DialectName::AnthropicMessages).encode(&call, &Target::new("claude-tape-1")).unwrap();
    let request = &encoded.request;
    assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/v1/messages"));
    assert_eq!(request.headers()["anthropic-version"], "2023-06-01");
    assert_eq!(request.headers()["content-type"], "application/json");
    let raw = std::str::from_utf8(request.body()).unwrap();
    assert!(raw.contains("\"input\":{\"z\": 1.10, \"a\": 12345678901234567890123}"), "{raw}");
    let (body, warnings) = anthropic(&call);
    insta::assert_json_snapshot!("anthropic_conversation", json!({"body": body, "warnings": warnings}));
}

#[test]
fn a_conversation_for_openai_says_what_the_caller_said() {
    let mut given = tool_conversation();
    // No arguments are sent as an empty object: servers parse them.
    given["messages"][4]["tool_calls"][1]["function"]["arguments"] = json!("{}");
    let call = parse(&given);
    let target = Target { quirks: vec![Quirk::CacheControl], ..Target::new("gpt-tape-1") };
    let (body, warnings) = encode(DialectName::OpenAiChat, &call, &target);
    assert!(warnings.is_empty(), "{warnings:?}");
    insta::assert_json_snapshot!("openai_conversation", body);
    assert_eq!(Call { model: "alias".into(), include_usage: false, ..parse(&body) }, call);
}

#[test]
fn parse_after_encode_gives_the_call_back() {
    for extra in [
        json!({"n": 2, "logprobs": true, "top_logprobs": 3, "frequency_penalty": 0.5, "presence_penalty": -1.0}),
        json!({"metadata": {"k": 1.10}, "service_tier": "flex", "store": true, "reasoning_effort": "xhigh"}),
        json!({"tool_choice": "required", "tools": [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "g"}}]}),
        json!({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}, "response_format": {"type": "json_object"}}),
        json!({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}, {"type": "video_url", "video_url": {"url": "https://v.invalid"}}, {"type": "file", "file": {"file_id": "file-1"}}]}]}),
        json!({"messages": [{"role": "assistant", "refusal": "No.", "content": null, "audio": {"id": "a"}}, {"role": "user", "content": ""}]}),
    ] {
        let mut body = json!({"model": "gpt-tape-1", "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let call = parse(&body);
        let (written, warnings) = encode(DialectName::OpenAiChat, &call, &Target::new("gpt-tape-1"));
        assert_eq!(parse(&written), call, "{body}");
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}

#[test]
fn quirks_of_openai_compatible_servers() {
    let call = parse(&json!({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "stream": true}));
    let (body, _) = encode(DialectName::OpenAiChat, &call, &Target::new("m"));
    assert_eq!((&body["max_completion_tokens"], &body["max_tokens"]), (&json!(5), &Value::Null));
    assert_eq!(body["stream_options"], json!({"include_usage": true}));
    let target = Target { quirks: vec![Quirk::MaxTokens, Quirk::NoStreamOptions], ..Target::new("m") };
    let (body, _) = encode(DialectName::OpenAiChat, &call, &target);
    assert_eq!((&body["max_completion_tokens"], &body["max_tokens"]), (&Value::Null, &json!(5)));
    assert_eq!(body["stream_options"], Value::Null);
}

#[test]
fn a_path_of_its_own() {
    let target = Target { path: Some("/deployments/x/chat/completions?api-version=1".into()), ..Target::new("m") };
    let request = crate::provider(DialectName::OpenAiChat).request(&target, false, "{}".into()).unwrap();
    assert_eq!(request.uri(), "/deployments/x/chat/completions?api-version=1");
    assert_eq!(request.body(), "{}");
}

#[test]
fn parallel_results_become_one_turn_with_the_results_first() {
    let (body, _) = anthropic(&parse(&json!({"messages": [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": "b", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "user", "content": "hurry"},
        {"role": "tool", "tool_call_id": "b", "content": ""},
    ]})));
    let turns = body["messages"].as_array().unwrap();
    let roles: Vec<_> = turns.iter().map(|turn| turn["role"].clone()).collect();
    assert_eq!(roles, ["user", "assistant", "user"]);
    assert_eq!(
        turns[2]["content"],
        json!([
            {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "1"}]},
            {"type": "tool_result", "tool_use_id": "b", "content": []},
            {"type": "text", "text": "hurry"}
        ])
    );
}

#[test]
fn the_output_limit_is_never_missing() {
    let call = parse(&json!({"messages": [{"role": "user", "content": "hi"}]}));
    let target = Target { default_max_output_tokens: 777, ..Target::new("m") };
    assert_eq!(encode(DialectName::AnthropicMessages, &call, &target).0["max_tokens"], 777);
}

#[test]
fn effort_becomes_a_budget_that_fits() {
    let thinking = |call: &Call| {
        let (body, warnings) = anthropic(call);
        (body["thinking"]["budget_tokens"].as_u64(), body["max_tokens"].as_u64().unwrap(), warnings.len())
    };
    let mut call = parse(&json!({"messages": [{"role": "user", "content": "hi"}], "reasoning_effort": "medium"}));
    assert_eq!(thinking(&call), (Some(8192), 12_288, 0));
    call.max_output_tokens = Some(3000);
    assert_eq!(thinking(&call), (Some(2999), 3000, 0));
    call.max_output_tokens = Some(100);
    assert_eq!(thinking(&call), (None, 100, 1));
    call.max_output_tokens = Some(20_000);
    call.reasoning =
        Some(ReasoningRequest { effort: Some(Effort::Low), budget_tokens: Some(5000), ..ReasoningRequest::default() });
    call.sampling.temperature = Some(0.2);
    assert_eq!(thinking(&call), (Some(5000), 20_000, 1));
    call.reasoning = Some(ReasoningRequest { effort: Some(Effort::None), ..ReasoningRequest::default() });
    assert_eq!(thinking(&call), (None, 20_000, 0));
}

#[test]
fn signed_reasoning_goes_back_and_unsigned_does_not() {
    let thought = |signature: Option<&str>| {
        Part::from(Content::Reasoning(Reasoning {
            text: "hm".into(),
            signature: signature.map(Into::into),
            ..Reasoning::default()
        }))
    };
    let messages = vec![
        Message::text(Role::User, "hi"),
        Message::new(Role::Assistant, vec![thought(Some("sig")), thought(None), Part::text("ho")]),
        Message::text(Role::User, "more"),
    ];
    let call = Call { messages, ..Call::default() };
    let (body, warnings) = anthropic(&call);
    assert_eq!(
        body["messages"][1]["content"],
        json!([{"type": "thinking", "thinking": "hm", "signature": "sig"}, {"type": "text", "text": "ho"}])
    );
    assert_eq!(warnings.len(), 1);
}

#[test]
fn what_cannot_be_said_is_refused_or_dropped_as_the_target_wants() {
    let anthropic = crate::provider(DialectName::AnthropicMessages);
    let user = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    let drop = Target::new("m");
    let refuse = Target { unsupported: OnUnsupported::Refuse, ..Target::new("m") };
    for (body, target, what) in [
        (user(json!([{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}])), &drop, "audio"),
        (user(json!([{"type": "video_url", "video_url": {}}])), &drop, "`video_url` of openai-chat"),
        (json!({"messages": [{"role": "user", "content": "x"}], "n": 2}), &drop, "`n`"),
        (json!({"messages": [{"role": "user", "content": "x"}], "seed": 1}), &refuse, "`seed`"),
        (json!({"messages": [{"role": "user", "content": "x"}], "logit_bias": {}}), &refuse, "`logit_bias`"),
    ] {
        let error = anthropic.encode(&parse(&body), target).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(what), "{error}");
    }
    for body in [
        json!({"messages": [{"role": "system", "content": "x"}]}),
        json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "[1"}}]}]}),
    ] {
        let error = anthropic.encode(&parse(&body), &drop).unwrap_err();
        assert!(matches!(error, EncodeError::Invalid { .. }), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::BadRequest);
    }
}

#[test]
fn bad_requests_name_the_field() {
    let caller = crate::caller(DialectName::OpenAiChat);
    let hi = json!([{"role": "user", "content": "hi"}]);
    let faults: Vec<String> = [
        json!({}),
        json!({"messages": []}),
        json!({"messages": [{"content": "x"}]}),
        json!({"messages": [{"role": "robot", "content": "x"}]}),
        json!({"messages": [{"role": "user", "content": 7}]}),
        json!({"messages": [{"role": "user", "content": [{"text": "x"}]}]}),
        json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}),
        json!({"messages": [{"role": "tool", "content": "x"}]}),
        json!({"messages": [{"role": "assistant", "tool_calls": [{"type": "function", "function": {}}]}]}),
        json!({"messages": hi, "temperature": "warm"}),
        json!({"messages": hi, "max_tokens": "many"}),
        json!({"messages": hi, "stop": 3}),
        json!({"messages": hi, "tools": [{"type": "function"}]}),
        json!({"messages": hi, "tool_choice": "maybe"}),
        json!({"messages": hi, "response_format": {"type": "xml"}}),
    ]
    .iter()
    .map(|body| {
        let bad = caller.parse(&HeaderMap::new(), &serde_json::to_vec(body).unwrap()).unwrap_err();
        assert!(bad.field.is_some() && bad.kind() == ErrorKind::BadRequest);
        bad.to_string()
    })
    .collect();
    insta::assert_snapshot!("bad_requests", faults.join("\n"));
}

#[test]
fn images_in_results_follow_the_last_tool_message() {
    let result = |id: &str| {
        let image = Content::Image(Media::from(Source::Url(format!("https://i.invalid/{id}"))));
        let parts = vec![Part::text(id), Part::from(image)];
        let result = ToolResult { call_id: id.into(), is_error: false, parts };
        Message::new(Role::Tool, vec![Part::from(Content::ToolResult(result))])
    };
    let messages = vec![result("a"), result("b"), Message::text(Role::User, "so?")];
    let (body, _) = encode(DialectName::OpenAiChat, &Call { messages, ..Call::default() }, &Target::new("m"));
    let image = |id: &str| json!({"type": "image_url", "image_url": {"url": format!("https://i.invalid/{id}")}});
    assert_eq!(
        body["messages"],
        json!([
            {"role": "tool", "content": "a", "tool_call_id": "a"},
            {"role": "tool", "content": "b", "tool_call_id": "b"},
            {"role": "user", "content": [image("a"), image("b")]},
            {"role": "user", "content": "so?"}
        ])
    );
}
