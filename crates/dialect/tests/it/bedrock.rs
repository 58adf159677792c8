//! Bedrock's Converse: calls towards it and its answers on tape.

use std::time::Duration;

use farebox_dialect::{
    CacheMark, Call, Citation, Collector, Completion, Content, DecodeError, DialectName, Effort, EncodeError, Ending,
    Event, FinishReason, Media, Message, NativeTool, OnUnsupported, Part, Quirk, RawJson, Reasoning, ReasoningRequest,
    Role, Sampling, Source, Target, Tool, ToolCall, ToolChoice, ToolResult,
};
use farebox_types::{ErrorKind, Usage};
use serde_json::{Value, json};

use crate::{encode::parse, laws::run, tape::tape};

const NAME: DialectName = DialectName::BedrockConverse;
const CLAUDE: &str = "us.anthropic.claude-tape-20250101-v1:0";

fn encode(call: &Call, target: &Target) -> (Value, Vec<String>) {
    let encoded = crate::provider(NAME).encode(call, target).unwrap();
    let body = serde_json::from_slice(encoded.request.body()).unwrap();
    (body, encoded.warnings.iter().map(ToString::to_string).collect())
}

fn claude(call: &Call) -> (Value, Vec<String>) {
    encode(call, &Target::new(CLAUDE))
}

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

fn raw(value: &Value) -> RawJson {
    RawJson::new(value.to_string()).unwrap()
}

fn call(messages: Vec<Message>) -> Call {
    Call { messages, ..Call::default() }
}

fn ask() -> Call {
    call(vec![Message::text(Role::User, "hi")])
}

fn marked(part: Part, mark: CacheMark) -> Part {
    Part { cache: Some(mark), ..part }
}

fn base64(media_type: &str, data: &str) -> Source {
    Source::Base64 { media_type: media_type.into(), data: data.into() }
}

fn tool_call(id: &str, name: &str, arguments: &str) -> Content {
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
    assert_eq!(fields, json!({"thinking": {"type": "enabled", "budget_tokens": 16384}}));
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
