//! Bedrock's Converse: calls towards it.

use farebox_dialect::{
    CacheMark, Call, Content, DecodeError, DialectName, Effort, EncodeError, Media, Message, NativeTool, OnUnsupported,
    Part, Quirk, RawJson, Reasoning, ReasoningRequest, Role, Sampling, Source, Target, Tool, ToolCall, ToolChoice,
    ToolResult,
};
use farebox_types::ErrorKind;
use serde_json::{Value, json};

use crate::encode::parse;

pub(crate) const NAME: DialectName = DialectName::BedrockConverse;
const CLAUDE: &str = "us.anthropic.claude-tape-20250101-v1:0";

fn encode(call: &Call, target: &Target) -> (Value, Vec<String>) {
    let encoded = crate::provider(NAME).encode(call, target).unwrap();
    let body = serde_json::from_slice(encoded.request.body()).unwrap();
    (body, encoded.warnings.iter().map(ToString::to_string).collect())
}

pub(crate) fn claude(call: &Call) -> (Value, Vec<String>) {
    encode(call, &Target::new(CLAUDE))
}

pub(crate) fn raw(value: &Value) -> RawJson {
    RawJson::new(value.to_string()).unwrap()
}

pub(crate) fn call(messages: Vec<Message>) -> Call {
    Call { messages, ..Call::default() }
}

fn ask() -> Call {
    call(vec![Message::text(Role::User, "hi")])
}

fn marked(part: Part, mark: CacheMark) -> Part {
    Part { cache: Some(mark), ..part }
}

pub(crate) fn base64(media_type: &str, data: &str) -> Source {
    Source::Base64 { media_type: media_type.into(), data: data.into() }
}

pub(crate) fn tool_call(id: &str, name: &str, arguments: &str) -> Content {
    Content::ToolCall(ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() })
}

fn proven(text: &str) -> Reasoning {
    Reasoning { text: text.into(), signature: Some("c2ln".into()), origin: Some(NAME), ..Reasoning::default() }
}

fn conversation() -> Call {
    let pdf = Media { name: Some("Tide table_2.pdf".into()), ..base64("application/pdf", "JVBERi0=").into() };
    let results = vec![
        Part::text("a boat"),
        Part::text(" "),
        marked(Part::from(Content::Image(base64("image/jpeg", "/9j=").into())), CacheMark::Short),
        Part::from(Content::File(pdf.clone())),
    ];
    Call {
        messages: vec![
            Message::new(Role::System, vec![marked(Part::text("Be brief."), CacheMark::Long)]),
            Message::new(
                Role::User,
                vec![
                    Part::text("What is this?"),
                    Part::from(Content::Image(base64("image/png", "iVBORw0=").into())),
                    Part::from(Content::Image(Source::Url("s3://bucket/b.JPG".into()).into())),
                    marked(Part::from(Content::File(pdf)), CacheMark::Short),
                    Part::from(Content::File(Source::Text("Notes.".into()).into())),
                    Part::from(Content::File(base64("video/mp4", "AAAA").into())),
                    Part::from(Content::Audio(base64("audio/mpeg", "SUQz").into())),
                ],
            ),
            Message::text(Role::User, "And when?"),
            Message::new(
                Role::Assistant,
                vec![
                    Part::from(Content::Reasoning(proven("Look first."))),
                    Part::from(Content::Reasoning(Reasoning {
                        encrypted: Some("UldF".into()),
                        origin: Some(NAME),
                        ..Reasoning::default()
                    })),
                    Part::from(Content::Reasoning(Reasoning {
                        origin: Some(DialectName::AnthropicMessages),
                        ..proven("Another's.")
                    })),
                    Part::text(""),
                    Part::from(tool_call("c1", "look", "{\"z\": 1.10, \"a\": 12345678901234567890123}")),
                    Part::from(tool_call("c2", "now", "")),
                ],
            ),
            Message::text(Role::User, "Meanwhile:"),
            Message::new(
                Role::Tool,
                vec![Part::from(Content::ToolResult(ToolResult {
                    call_id: "c1".into(),
                    is_error: false,
                    parts: results,
                }))],
            ),
            Message::new(
                Role::Tool,
                vec![Part::from(Content::ToolResult(ToolResult {
                    call_id: "c2".into(),
                    is_error: true,
                    parts: vec![Part::text("no clock")],
                }))],
            ),
            Message::text(Role::Developer, "Answer in French."),
            Message::new(Role::User, vec![marked(Part::text("So?"), CacheMark::Short)]),
        ],
        tools: vec![
            Tool {
                name: "look".into(),
                description: Some("Looks.".into()),
                parameters: RawJson::new(r#"{"type":"object","properties":{"z":{"minimum": 1.10}}}"#),
                ..Tool::default()
            },
            Tool { name: "now".into(), strict: Some(true), cache: Some(CacheMark::Long), ..Tool::default() },
        ],
        native_tools: vec![NativeTool {
            dialect: NAME,
            kind: "systemTool".into(),
            raw: raw(&json!({"systemTool": {"name": "nova_grounding"}})),
            grouped: false,
        }],
        tool_choice: Some(ToolChoice::Auto),
        sampling: Sampling {
            temperature: Some(1.5),
            top_p: Some(0.5),
            top_k: Some(40),
            seed: Some(7),
            ..Sampling::default()
        },
        stop: vec!["END".into()],
        max_output_tokens: Some(900),
        user: Some("u-1".into()),
        metadata: Some(raw(&json!({"team": "tides", "ticket": "T-1"}))),
        service_tier: Some("flex".into()),
        ..Call::default()
    }
}

#[test]
fn a_conversation() {
    let encoded = crate::provider(NAME).encode(&conversation(), &Target::new(CLAUDE)).unwrap();
    let text = std::str::from_utf8(encoded.request.body()).unwrap();
    assert!(text.contains("\"input\":{\"z\": 1.10, \"a\": 12345678901234567890123}"), "{text}");
    assert!(text.contains("\"minimum\": 1.10"), "{text}");
    let (body, warnings) = claude(&conversation());
    insta::assert_json_snapshot!("bedrock_conversation", json!({"body": body, "warnings": warnings}));
}

#[test]
fn a_conversation_of_openai() {
    let call = parse(&json!({
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "name": "ann", "content": "hi"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "Name a bird."}
        ],
        "tools": [{"type": "function", "function": {"name": "look"}}],
        "tool_choice": "required", "parallel_tool_calls": false, "logit_bias": {"1": 2}, "stream": true,
        "response_format": {"type": "json_schema", "json_schema": {"name": "bird", "schema": {"type": "object"}, "strict": true}}
    }));
    let (body, warnings) = claude(&call);
    insta::assert_json_snapshot!("bedrock_conversation_of_openai", json!({"body": body, "warnings": warnings}));
}

#[test]
fn the_model_stands_in_the_path() {
    let arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/mi1d~x";
    let at = "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fmi1d~x";
    for (model, stream, path) in [
        (CLAUDE, false, "/model/us.anthropic.claude-tape-20250101-v1%3A0/converse".to_owned()),
        (CLAUDE, true, "/model/us.anthropic.claude-tape-20250101-v1%3A0/converse-stream".to_owned()),
        (arn, false, format!("{at}/converse")),
    ] {
        let request = crate::provider(NAME).request(&Target::new(model), stream, "{}".into()).unwrap();
        assert_eq!((request.method().as_str(), request.uri().to_string()), ("POST", path));
        let accept = if stream { "application/vnd.amazon.eventstream" } else { "application/json" };
        assert_eq!(request.headers()["accept"], accept);
        assert_eq!(request.headers()["content-type"], "application/json");
    }
    let target = Target { path: Some("/elsewhere".into()), ..Target::new(arn) };
    assert_eq!(crate::provider(NAME).request(&target, true, "{}".into()).unwrap().uri(), "/elsewhere");
}

#[test]
fn each_family_thinks_in_its_makers_words() {
    let think = |effort: Effort, model: &str, quirks: Vec<Quirk>, edit: &dyn Fn(&mut Call)| {
        let mut call = ask();
        call.reasoning = Some(ReasoningRequest { effort: Some(effort), ..ReasoningRequest::default() });
        edit(&mut call);
        let (body, warnings) = encode(&call, &Target { quirks, ..Target::new(model) });
        (body["additionalModelRequestFields"].clone(), body["inferenceConfig"].clone(), warnings)
    };
    let as_is = |_: &mut Call| {};
    let (fields, _, warnings) = think(Effort::High, CLAUDE, vec![], &as_is);
    assert_eq!(fields, json!({"thinking": {"type": "enabled", "budget_tokens": 24576}}));
    assert!(warnings.is_empty());
    let (fields, inference, warnings) = think(Effort::High, CLAUDE, vec![], &|call| {
        call.max_output_tokens = Some(3000);
        call.sampling = Sampling { temperature: Some(0.2), top_p: Some(0.99), top_k: Some(3), ..Sampling::default() };
    });
    assert_eq!(fields, json!({"thinking": {"type": "enabled", "budget_tokens": 2999}}));
    assert_eq!(inference, json!({"maxTokens": 3000, "topP": 0.99}));
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    let (fields, _, _) = think(Effort::Max, CLAUDE, vec![Quirk::AdaptiveThinking], &as_is);
    assert_eq!(fields, json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}));
    let forced: &dyn Fn(&mut Call) = &|call| {
        call.tools = vec![Tool { name: "f".into(), ..Tool::default() }];
        call.tool_choice = Some(ToolChoice::Required);
    };
    let unproven: &dyn Fn(&mut Call) =
        &|call| call.messages.push(Message::new(Role::Assistant, vec![Part::from(tool_call("c", "f", "{}"))]));
    for edit in [forced, unproven, &|call| call.max_output_tokens = Some(1024)] {
        let (fields, _, warnings) = think(Effort::Low, CLAUDE, vec![], edit);
        assert_eq!(fields, Value::Null);
        assert!(warnings.iter().any(|w| w.starts_with("reasoning, because")), "{warnings:?}");
    }
    let (fields, _, _) = think(Effort::High, "us.amazon.nova-2-lite-v1:0", vec![], &|call| {
        call.sampling.top_k = Some(9);
    });
    let high =
        json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}, "inferenceConfig": {"topK": 9}});
    assert_eq!(fields, high);
    let (fields, _, warnings) = think(Effort::High, "us.amazon.nova-2-lite-v1:0", vec![], &|call| {
        call.max_output_tokens = Some(9);
    });
    assert_eq!(fields["reasoningConfig"]["maxReasoningEffort"], "medium");
    assert_eq!(warnings.len(), 1);
    let (fields, _, _) = think(Effort::Medium, "openai.gpt-oss-120b-1:0", vec![], &as_is);
    assert_eq!(fields, json!({"reasoning_effort": "medium"}));
    let (fields, _, _) = think(Effort::Medium, "qwen.qwen3-32b-v1:0", vec![], &as_is);
    assert_eq!(fields, json!({"reasoning_config": "high"}));
    for model in ["meta.llama3", "us.amazon.nova-micro-v1:0", "arn:aws:bedrock:us-east-1:1:provisioned-model/x"] {
        let (fields, _, warnings) = think(Effort::High, model, vec![], &as_is);
        assert_eq!((fields, warnings.len()), (Value::Null, 1), "{model}");
    }
    let (fields, _, warnings) = think(Effort::None, CLAUDE, vec![], &as_is);
    assert_eq!((fields, warnings.len()), (Value::Null, 0));
}

#[test]
fn cache_points_as_the_family_knows_them() {
    let mut call = call(vec![Message::new(Role::User, vec![marked(Part::text("hi"), CacheMark::Long)])]);
    call.tools = vec![Tool { name: "f".into(), cache: Some(CacheMark::Short), ..Tool::default() }];
    let points = |model: &str| {
        let (body, _) = encode(&call, &Target::new(model));
        (body["messages"][0]["content"][1].clone(), body["toolConfig"]["tools"][1].clone())
    };
    let point = |ttl: &str| json!({"cachePoint": {"type": "default", "ttl": ttl}});
    let short = json!({"cachePoint": {"type": "default"}});
    assert_eq!(points(CLAUDE), (point("1h"), short.clone()));
    assert_eq!(points("arn:aws:bedrock:us-east-1:1:provisioned-model/x"), (point("1h"), short.clone()));
    assert_eq!(points("us.amazon.nova-pro-v1:0"), (short, Value::Null));
    assert_eq!(points("meta.llama3"), (Value::Null, Value::Null));
}

#[test]
fn tools_that_must_not_be_called_and_tools_that_were_left_out() {
    let mut none = ask();
    none.tools = vec![Tool { name: "f".into(), ..Tool::default() }];
    none.tool_choice = Some(ToolChoice::None);
    let (body, warnings) = claude(&none);
    assert_eq!((&body["toolConfig"], warnings.len()), (&Value::Null, 0));
    let history = Message::new(Role::Assistant, vec![Part::from(tool_call("c", "f", "{}"))]);
    none.messages.push(history.clone());
    let (body, warnings) = claude(&none);
    assert_eq!((&body["toolConfig"]["tools"][0]["toolSpec"]["name"], warnings.len()), (&json!("f"), 1));
    assert_eq!(body["toolConfig"]["toolChoice"], Value::Null);
    let strict = Target { unsupported: OnUnsupported::Refuse, ..Target::new(CLAUDE) };
    assert!(crate::provider(NAME).encode(&none, &strict).is_err());
    let (body, warnings) = claude(&call(vec![Message::text(Role::User, "hi"), history]));
    let declared =
        json!({"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object", "properties": {}}}}}]});
    assert_eq!((&body["toolConfig"], warnings.len()), (&declared, 1));
    let mut named = ask();
    named.tools = vec![Tool { name: "f".into(), ..Tool::default() }];
    named.tool_choice = Some(ToolChoice::Named("f".into()));
    assert_eq!(claude(&named).0["toolConfig"]["toolChoice"], json!({"tool": {"name": "f"}}));
}

#[test]
fn what_cannot_be_said_is_refused() {
    let of = |content: Content| call(vec![Message::new(Role::User, vec![Part::from(content)])]);
    let mut several = ask();
    several.n = Some(2);
    let foreign = Content::Other { dialect: DialectName::OpenAiChat, kind: "x".into(), raw: raw(&json!({})) };
    for call in [
        several,
        of(foreign),
        of(Content::Image(Source::Url("https://img.invalid/b.jpg".into()).into())),
        of(Content::Image(base64("image/tiff", "AA==").into())),
        of(Content::File(Source::Uploaded("file-1".into()).into())),
        of(Content::File(base64("application/zip", "AA==").into())),
    ] {
        let error = crate::provider(NAME).encode(&call, &Target::new(CLAUDE)).unwrap_err();
        assert!(matches!(error, EncodeError::Unsupported { .. }), "{error}");
    }
    for call in [of(Content::Text(" \n".into())), of(tool_call("c", "f", "[1]"))] {
        let error = crate::provider(NAME).encode(&call, &Target::new(CLAUDE)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadRequest, "{error}");
    }
    let mut odd = ask();
    odd.metadata = Some(raw(&json!({"k": {"deep": 1}})));
    odd.service_tier = Some("scale".into());
    let (body, warnings) = claude(&odd);
    assert_eq!((&body["requestMetadata"], &body["serviceTier"], warnings.len()), (&Value::Null, &Value::Null, 2));
}

#[test]
fn members_of_its_own_dialect_go_through() {
    let mut call = ask();
    call.dialect = Some(NAME);
    call.sampling.top_k = Some(5);
    call.extra.insert("guardrailConfig".into(), raw(&json!({"guardrailIdentifier": "g", "guardrailVersion": "1"})));
    call.extra.insert("additionalModelRequestFields".into(), raw(&json!({"anthropic_beta": ["b"], "top_k": 6})));
    let (body, warnings) = claude(&call);
    assert_eq!(body["guardrailConfig"]["guardrailIdentifier"], "g");
    assert_eq!(body["additionalModelRequestFields"], json!({"top_k": 6, "anthropic_beta": ["b"]}));
    assert!(warnings.is_empty());
}

#[test]
fn ids_of_tool_calls_are_as_the_api_takes_them() {
    let ids = ["functions.look:0".to_owned(), "x".repeat(70), "tooluse_1-a".to_owned()];
    let of = |id: &String| ToolCall { id: id.clone(), name: "look".into(), arguments: String::new() };
    let calls = ids.iter().map(|id| Part::from(Content::ToolCall(of(id)))).collect();
    let results = ids.iter().map(|id| {
        Part::from(Content::ToolResult(ToolResult {
            call_id: id.clone(),
            is_error: false,
            parts: vec![Part::text("so")],
        }))
    });
    let (body, _) = claude(&call(vec![
        Message::text(Role::User, "Look."),
        Message::new(Role::Assistant, calls),
        Message::new(Role::Tool, results.collect()),
    ]));
    let expected = ["functions_look_0".to_owned(), "x".repeat(64), "tooluse_1-a".to_owned()];
    for (at, id) in expected.iter().enumerate() {
        for (turn, block) in [(1, "toolUse"), (2, "toolResult")] {
            assert_eq!(body["messages"][turn]["content"][at][block]["toolUseId"], **id, "{body}");
        }
    }
}

/// `A conversation must start with a user message.`
#[test]
fn a_conversation_that_the_assistant_begins_is_begun_for_it() {
    let said = |role, text: &str| Message::text(role, text);
    let call = Call {
        messages: vec![
            said(Role::System, "Be kind."),
            said(Role::Assistant, "How can I help?"),
            said(Role::User, "So."),
        ],
        ..Call::default()
    };
    let encoded = crate::provider(NAME).encode(&call, &Target::new(CLAUDE)).unwrap();
    let body: Value = serde_json::from_slice(encoded.request.body()).unwrap();
    let turns: Vec<&Value> = body["messages"].as_array().unwrap().iter().map(|turn| &turn["role"]).collect();
    assert_eq!(turns, ["user", "assistant", "user"], "{body}");
    assert_eq!(encoded.warnings.len(), 1, "{:?}", encoded.warnings);
}

#[test]
fn tokens_are_counted_for_the_model_not_for_its_profile() {
    let counting = crate::provider(NAME).counting().unwrap();
    let mut call = conversation();
    call.messages.truncate(1);
    call.messages.push(Message::text(Role::User, "hi"));
    call.tools.truncate(1);
    call.native_tools.clear();
    let request = counting.encode(&call, &Target::new(CLAUDE)).unwrap().request;
    assert_eq!(request.uri(), "/model/anthropic.claude-tape-20250101-v1%3A0/count-tokens");
    let body: Value = serde_json::from_slice(request.body()).unwrap();
    insta::assert_json_snapshot!("bedrock_count_tokens", body);
    assert_eq!(counting.decode(br#"{"inputTokens":375}"#), Ok(375));
    assert!(matches!(counting.decode(b"{}"), Err(DecodeError::Corrupt { .. })));
}
