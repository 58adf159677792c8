//! Gemini: what it is asked, and where.

use farebox_dialect::{
    Call, Content, DecodeError, DialectName, Effort, EncodeError, Hosting, Media, Message, NativeTool, OnUnsupported,
    Part, RawJson, Reasoning, ReasoningRequest, Role, Source, Target, ToolCall, ToolResult,
};
use farebox_types::ErrorKind;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::encode::{parse, tool_conversation};

pub(crate) fn encode(call: &Call, model: &str) -> (Value, Vec<String>) {
    crate::encode::encode(DialectName::Gemini, call, &Target::new(model))
}

pub(crate) fn thought(text: &str, signature: Option<&str>) -> Content {
    let origin = Some(DialectName::Gemini);
    Content::Reasoning(Reasoning {
        text: text.into(),
        signature: signature.map(Into::into),
        origin,
        ..Reasoning::default()
    })
}

#[test]
fn a_conversation_for_gemini() {
    let call = parse(&tool_conversation());
    let encoded = crate::provider(DialectName::Gemini).encode(&call, &Target::new("gemini-3-flash-tape")).unwrap();
    assert_eq!(encoded.request.method(), "POST");
    assert_eq!(encoded.request.uri(), "/models/gemini-3-flash-tape:streamGenerateContent?alt=sse");
    let raw = std::str::from_utf8(encoded.request.body()).unwrap();
    assert!(raw.contains("\"args\":{\"z\": 1.10, \"a\": 12345678901234567890123}"), "{raw}");
    let (body, warnings) = encode(&call, "gemini-3-flash-tape");
    insta::assert_json_snapshot!("gemini_conversation", json!({"body": body, "warnings": warnings}));
}

#[test]
fn where_a_model_is_called() {
    let gemini = crate::provider(DialectName::Gemini);
    let vertex = Target { hosting: Hosting::Vertex, ..Target::new("gemini-3-pro") };
    let request = gemini.request(&vertex, true, "{}".into()).unwrap();
    assert_eq!(request.uri(), "/publishers/google/models/gemini-3-pro:streamGenerateContent?alt=sse");
    for (model, path, stream, expected) in [
        ("gemini-2.5-pro", None, false, "/models/gemini-2.5-pro:generateContent"),
        ("publishers/google/models/g", None, false, "/publishers/google/models/g:generateContent"),
        ("tunedModels/birds", None, true, "/tunedModels/birds:streamGenerateContent?alt=sse"),
        ("g", Some("/endpoints/77"), true, "/endpoints/77:streamGenerateContent?alt=sse"),
    ] {
        let target = Target { path: path.map(Into::into), ..Target::new(model) };
        assert_eq!(gemini.request(&target, stream, "{}".into()).unwrap().uri(), expected);
    }
}

#[test]
fn everything_that_can_be_asked_for() {
    let call = parse(&json!({
        "messages": [{"role": "user", "content": [
            {"type": "text", "text": "hear"},
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]}],
        "n": 2, "logprobs": true, "top_logprobs": 3, "frequency_penalty": 0.5, "presence_penalty": -1.0, "top_p": 0.5,
        "stop": ["A", "B"], "seed": 7, "temperature": 2.0, "max_tokens": 10, "response_format": {"type": "json_object"},
        "service_tier": "flex"
    }));
    let (body, warnings) = encode(&call, "gemini-2.5-flash");
    assert_eq!(warnings, [""; 0]);
    assert_eq!(
        body,
        json!({
            "contents": [{"role": "user", "parts": [
                {"text": "hear"}, {"inlineData": {"mimeType": "audio/wav", "data": "AA=="}}]}],
            "generationConfig": {
                "temperature": 2.0, "topP": 0.5, "seed": 7, "stopSequences": ["A", "B"], "candidateCount": 2,
                "maxOutputTokens": 10, "frequencyPenalty": 0.5, "presencePenalty": -1.0, "responseLogprobs": true,
                "logprobs": 3, "responseMimeType": "application/json"},
            "serviceTier": "flex"
        })
    );
}

#[test]
fn thinking_by_generation() {
    let hi = || parse(&json!({"messages": [{"role": "user", "content": "hi"}]}));
    let thinking = |model: &str, asked: ReasoningRequest| {
        let (body, warnings) = encode(&Call { reasoning: Some(asked), ..hi() }, model);
        (body["generationConfig"]["thinkingConfig"].clone(), warnings.len())
    };
    let effort = |effort| ReasoningRequest { effort: Some(effort), ..ReasoningRequest::default() };
    let budget = |tokens| ReasoningRequest { budget_tokens: Some(tokens), ..ReasoningRequest::default() };
    let adaptive = ReasoningRequest { adaptive: true, ..ReasoningRequest::default() };
    let hidden = ReasoningRequest { summary: Some("none".into()), ..effort(Effort::Low) };
    for (model, asked, expected, warnings) in [
        ("gemini-2.5-flash", effort(Effort::Medium), json!({"thinkingBudget": 8192, "includeThoughts": true}), 0),
        ("gemini-2.5-flash", effort(Effort::None), json!({"thinkingBudget": 0}), 0),
        ("gemini-2.5-pro", effort(Effort::None), json!({"thinkingBudget": 128}), 1),
        ("gemini-2.5-pro", effort(Effort::Max), json!({"thinkingBudget": 32768, "includeThoughts": true}), 0),
        ("gemini-2.5-pro", adaptive.clone(), json!({"thinkingBudget": -1, "includeThoughts": true}), 0),
        ("gemini-3-flash", effort(Effort::High), json!({"thinkingLevel": "high", "includeThoughts": true}), 0),
        ("gemini-3-flash", effort(Effort::None), json!({"thinkingLevel": "minimal"}), 1),
        ("gemini-3-pro", effort(Effort::Minimal), json!({"thinkingLevel": "low", "includeThoughts": true}), 1),
        ("gemini-3-pro", adaptive, json!({"includeThoughts": true}), 0),
        ("gemini-2.5-flash", budget(31_999), json!({"thinkingBudget": 24_576, "includeThoughts": true}), 1),
        ("gemini-2.5-pro", budget(31_999), json!({"thinkingBudget": 31_999, "includeThoughts": true}), 0),
        ("gemini-3-pro", budget(500), json!({"thinkingBudget": 500, "includeThoughts": true}), 0),
        ("gemini-flash-latest", hidden, json!({"thinkingLevel": "low"}), 0),
        ("gemini-flash-latest", budget(0), json!({"thinkingBudget": 0}), 0),
        ("gemini-2.0-flash", effort(Effort::High), Value::Null, 1),
        ("gemini-3-pro", effort(Effort::Other("vast".into())), json!({"includeThoughts": true}), 1),
        ("gemini-3-pro", ReasoningRequest::default(), Value::Null, 0),
    ] {
        assert_eq!(thinking(model, asked.clone()), (expected, warnings), "{model} {asked:?}");
    }
}

#[test]
fn signatures_go_back_and_foreign_calls_get_their_stand_in() {
    let tool_call = |id: &str, signature: Option<&str>| {
        let call = ToolCall { id: id.into(), name: "f".into(), arguments: String::new() };
        Part { signature: signature.map(Into::into), ..Part::from(Content::ToolCall(call)) }
    };
    let foreign = Reasoning {
        text: "hm".into(),
        signature: Some("theirs".into()),
        origin: Some(DialectName::AnthropicMessages),
        ..Reasoning::default()
    };
    let proved = Part { signature: Some("c2ln".into()), ..Part::text("") };
    let messages = vec![
        Message::text(Role::User, "hi"),
        Message::new(
            Role::Assistant,
            vec![Part::from(thought("seen", Some("dGh0"))), Part::from(thought("shown", None)), proved, Part::text("")],
        ),
        Message::text(Role::User, "more"),
        Message::new(Role::Assistant, vec![tool_call("a", Some("c2lnMg==")), tool_call("b", None)]),
        Message::text(Role::User, "and"),
        Message::new(
            Role::Assistant,
            vec![Part::from(Content::Reasoning(foreign)), tool_call("c", None), tool_call("d", None)],
        ),
    ];
    let call = Call { messages, ..Call::default() };
    let (body, warnings) = encode(&call, "gemini-3-pro");
    assert_eq!(warnings.len(), 1);
    let parts = |turn: usize| body["contents"][turn]["parts"].clone();
    assert_eq!(
        parts(1),
        json!([
            {"text": "seen", "thought": true, "thoughtSignature": "dGh0"},
            {"text": "shown", "thought": true},
            {"text": "", "thoughtSignature": "c2ln"}])
    );
    let sent = |id: &str| json!({"id": id, "name": "f", "args": {}});
    let proved = |id: &str, signature: &str| json!({"functionCall": sent(id), "thoughtSignature": signature});
    assert_eq!(parts(3), json!([proved("a", "c2lnMg=="), {"functionCall": sent("b")}]));
    let stand_in = "skip_thought_signature_validator";
    assert_eq!(parts(5), json!([proved("c", stand_in), {"functionCall": sent("d")}]));
    let (older, _) = encode(&call, "gemini-2.5-pro");
    assert_eq!(older["contents"][5]["parts"][0], json!({"functionCall": sent("c")}));
}

#[test]
fn results_are_objects_and_carry_their_media() {
    let result = |id: &str, is_error, parts| {
        Message::new(
            Role::Tool,
            vec![Part::from(Content::ToolResult(ToolResult { call_id: id.into(), is_error, parts }))],
        )
    };
    let called = |id: &str, name: &str| {
        Part::from(Content::ToolCall(ToolCall { id: id.into(), name: name.into(), arguments: "{}".into() }))
    };
    let png = Source::Base64 { media_type: "image/png".into(), data: "iVBORw0=".into() };
    let image = Part::from(Content::Image(Media::from(png)));
    let messages = vec![
        Message::new(Role::Assistant, vec![called("a", "look"), called("b", "now"), called("c", "draw")]),
        result("a", false, vec![Part::text("{\"n\": 1.10}")]),
        result("b", true, vec![Part::text("late")]),
        result("c", false, vec![Part::text("a "), Part::text("boat"), image]),
    ];
    let call = Call { messages, ..Call::default() };
    let media = json!({"inlineData": {"mimeType": "image/png", "data": "iVBORw0="}});
    let answer = |id: &str, name: &str, response: Value| json!({"functionResponse": {"id": id, "name": name, "response": response}});
    let mut drawn = answer("c", "draw", json!({"output": "a boat"}));
    let first = [answer("a", "look", json!({"n": 1.10})), answer("b", "now", json!({"error": "late"}))];
    let (body, _) = encode(&call, "gemini-2.5-pro");
    assert_eq!(body["contents"][1], json!({"role": "user", "parts": [first[0], first[1], drawn, media]}));
    let (body, _) = encode(&call, "gemini-3-pro");
    drawn["functionResponse"]["parts"] = json!([media]);
    assert_eq!(body["contents"][1], json!({"role": "user", "parts": [first[0], first[1], drawn]}));
}

#[test]
fn media_by_address() {
    let file = |source| Part::from(Content::File(Media::from(source)));
    let parts = vec![
        file(Source::Url("https://x.invalid/a.pdf?v=1".into())),
        file(Source::Url("gs://bucket/plain".into())),
        file(Source::Uploaded("files/abc".into())),
        file(Source::Text("as text".into())),
    ];
    let call = Call { messages: vec![Message::new(Role::User, parts)], ..Call::default() };
    assert_eq!(
        encode(&call, "gemini-2.5-pro").0["contents"][0]["parts"],
        json!([
            {"fileData": {"mimeType": "application/pdf", "fileUri": "https://x.invalid/a.pdf?v=1"}},
            {"fileData": {"fileUri": "gs://bucket/plain"}},
            {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc"}},
            {"text": "as text"}])
    );
}

#[test]
fn tools_and_which_may_be_called() {
    let config = |more: Value| {
        let mut body = json!({"messages": [{"role": "user", "content": "x"}],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "$schema": "s"}}}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut call = parse(&body);
        let raw = RawJson::new("{\"googleSearch\": {}}").unwrap();
        let (dialect, kind) = (DialectName::Gemini, "googleSearch".to_owned());
        call.native_tools = vec![NativeTool { dialect, kind, raw, grouped: false }];
        let (body, _) = encode(&call, "gemini-3-flash");
        let declared = json!({"name": "f", "parametersJsonSchema": {"type": "object"}});
        assert_eq!(body["tools"], json!([{"functionDeclarations": [declared]}, {"googleSearch": {}}]));
        body["toolConfig"]["functionCallingConfig"].clone()
    };
    let strict = json!([{"type": "function", "function": {"name": "f", "strict": true, "parameters": {"type": "object", "$schema": "s"}}}]);
    for (more, expected) in [
        (json!({}), Value::Null),
        (json!({"tool_choice": "auto"}), json!({"mode": "AUTO"})),
        (json!({"tool_choice": "none"}), json!({"mode": "NONE"})),
        (json!({"tool_choice": "required"}), json!({"mode": "ANY"})),
        (
            json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}),
            json!({"mode": "ANY", "allowedFunctionNames": ["f"]}),
        ),
        (json!({"tools": strict}), json!({"mode": "VALIDATED"})),
    ] {
        assert_eq!(config(more.clone()), expected, "{more}");
    }
}

#[test]
fn a_schema_stays_as_it_is_but_for_the_name_of_its_edition() {
    let schema = r#"{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "additionalProperties": false, "properties": {"$schema": {"type": ["string", "null"]}, "n": {"const": 1.0}}}"#;
    let kept = r#"{ "type": "object", "additionalProperties": false, "properties": {"$schema": {"type": ["string", "null"]}, "n": {"const": 1.0}}}"#;
    let body = format!(
        r#"{{"messages":[{{"role":"user","content":"x"}}],"tools":[{{"type":"function","function":{{"name":"f","parameters":{schema}}}}}],
            "response_format":{{"type":"json_schema","json_schema":{{"name":"s","schema":{schema}}}}}}}"#
    );
    let call = crate::caller(DialectName::OpenAiChat).parse(&HeaderMap::new(), body.as_bytes()).unwrap();
    let encoded = crate::provider(DialectName::Gemini).encode(&call, &Target::new("gemini-3-flash")).unwrap();
    let sent = String::from_utf8(encoded.request.into_body().to_vec()).unwrap();
    for member in ["parametersJsonSchema", "responseJsonSchema"] {
        assert!(sent.contains(&format!("\"{member}\":{kept}")), "{member}: {sent}");
    }
}

#[test]
fn what_gemini_has_no_word_for() {
    let gemini = crate::provider(DialectName::Gemini);
    let refuse = Target { unsupported: OnUnsupported::Refuse, ..Target::new("gemini-3-pro") };
    let user = |more: Value| {
        let mut body = json!({"messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        parse(&body)
    };
    for (more, what) in [
        (json!({"user": "u"}), "`user`"),
        (json!({"logit_bias": {}}), "`logit_bias`"),
        (json!({"metadata": {}}), "`metadata`"),
        (json!({"service_tier": "scale"}), "`service_tier`"),
        (json!({"seed": 1_u64 << 40}), "`seed`"),
    ] {
        let error = gemini.encode(&user(more), &refuse).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(what), "{error}");
    }
    let orphan = parse(&json!({"messages": [{"role": "tool", "tool_call_id": "zz", "content": "x"}]}));
    let error = gemini.encode(&orphan, &Target::new("gemini-3-pro")).unwrap_err();
    assert!(matches!(&error, EncodeError::Invalid { field, .. } if field.contains("`zz`")), "{error:?}");
    let system = parse(&json!({"messages": [{"role": "system", "content": "x"}]}));
    assert_eq!(gemini.encode(&system, &refuse).unwrap_err().kind(), ErrorKind::BadRequest);
}

#[test]
fn counting_tokens() {
    let counting = crate::provider(DialectName::Gemini).counting().unwrap();
    let call = parse(&json!({"messages": [{"role": "user", "content": "hi"}], "temperature": 0.5,
        "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required"}));
    let count = |hosting| {
        let target = Target { hosting, ..Target::new("gemini-2.5-pro") };
        let request = counting.encode(&call, &target).unwrap().request;
        let publisher = if hosting == Hosting::Vertex { "/publishers/google" } else { "" };
        assert_eq!(request.uri().path(), format!("{publisher}/models/gemini-2.5-pro:countTokens"));
        serde_json::from_slice::<Value>(request.body()).unwrap()
    };
    let vertex = count(Hosting::Vertex);
    let mut whole = vertex.clone();
    whole["model"] = json!("models/gemini-2.5-pro");
    whole["toolConfig"] = json!({"functionCallingConfig": {"mode": "ANY"}});
    assert_eq!(count(Hosting::Own), json!({"generateContentRequest": whole}));
    assert_eq!(vertex["contents"], json!([{"role": "user", "parts": [{"text": "hi"}]}]));
    assert_eq!(counting.decode(br#"{"totalTokens": 12, "promptTokensDetails": []}"#), Ok(12));
    assert!(matches!(counting.decode(b"{}"), Err(DecodeError::Corrupt { .. })));
}
