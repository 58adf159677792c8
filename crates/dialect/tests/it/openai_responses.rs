//! OpenAI responses: answers on tape, requests in both directions, and the events towards callers.

use farebox_dialect::{
    Call, Collector, Completion, Content, DecodeError, DialectName, Edit, Ending, Event, FinishReason, Frame, Message,
    OnUnsupported, Part, Passing, Reasoning, Role, Stamp, Target, ToolCall, sse,
};
use farebox_types::{ErrorKind, Usage};
use http::HeaderMap;
use serde_json::{Value, json};

use crate::{laws::run, tape::tape};

const NAME: DialectName = DialectName::OpenAiResponses;

pub(crate) fn collect(events: &[Event]) -> Completion {
    let mut collector = Collector::new();
    events.iter().for_each(|event| collector.push(event));
    collector.into_completion()
}

pub(crate) fn decode(name: &str) -> Completion {
    let tape = tape(name);
    if !tape.streamed {
        return crate::provider(tape.dialect).decode(&tape.head, &tape.body).unwrap();
    }
    let (events, fed, ending) = run(tape.dialect, [tape.body.as_slice()]);
    assert_eq!((fed, ending), (Ok(()), Ok(Ending::Complete)), "{name}");
    collect(&events)
}

fn contents(completion: &Completion) -> Vec<Content> {
    completion.choices[0].parts.iter().map(|part| part.content.clone()).collect()
}

fn call(n: u32, name: &str, arguments: &str) -> Content {
    Content::ToolCall(ToolCall { id: format!("call_t{n}"), name: name.into(), arguments: arguments.into() })
}

fn thought(text: &str) -> Content {
    Content::Reasoning(Reasoning {
        text: text.into(),
        encrypted: Some("gAAAAtape==".into()),
        id: Some("rs_t1".into()),
        origin: Some(NAME),
        ..Reasoning::default()
    })
}

fn usage(input: u64, output: u64) -> Usage {
    Usage {
        input: Some(input),
        output: Some(output),
        cache_read: Some(0),
        cache_write_5m: Some(0),
        reasoning: Some(0),
        ..Usage::default()
    }
}

fn stamp() -> Stamp {
    Stamp { id: "own-1".into(), created: 1_770_000_000, model: Some("writer".into()) }
}

fn parse(body: &Value) -> Call {
    crate::caller(NAME).parse(&HeaderMap::new(), body.to_string().as_bytes()).unwrap()
}

fn encoded(call: &Call) -> (Value, Vec<String>) {
    let encoded = crate::provider(NAME).encode(call, &Target::new("gpt-x")).unwrap();
    let warnings = encoded.warnings.into_iter().map(|warning| warning.0).collect();
    (serde_json::from_slice(encoded.request.body()).unwrap(), warnings)
}

#[test]
fn text_whole_and_streamed() {
    let done = decode("openai-responses/text");
    assert_eq!(
        (done.id.as_str(), done.model.as_str(), done.created),
        ("resp_tape01", "gpt-tape-5", Some(1_760_000_101))
    );
    assert_eq!((done.text().as_str(), done.finish()), ("A heron stands on one leg.", Some(&FinishReason::Stop)));
    assert_eq!((done.usage, done.service_tier.as_deref()), (usage(20, 7), Some("default")));
    assert_eq!(done.extra["temperature"].as_str(), "1.0");

    let done = decode("openai-responses/text-s");
    assert_eq!(done.text(), "Herons wade in käľt water: „quoted“ \\ \n{\"a\": 1}");
    assert_eq!(done.usage, Usage { cache_read: Some(1024), ..usage(176, 46) });
    assert_eq!((done.finish(), done.service_tier.as_deref()), (Some(&FinishReason::Stop), Some("default")));
}

#[test]
fn reasoning_and_tools() {
    let done = decode("openai-responses/tools");
    let thoughts = "Two calls are needed.\n\nBoth at once.";
    let calls = [call(1, "ferry_times", "{ \"harbour\" : \"Mallaig\" }"), call(2, "now", "{}")];
    assert_eq!(contents(&done), [&[thought(thoughts)], calls.as_slice()].concat());
    assert_eq!(done.finish(), Some(&FinishReason::ToolCalls));
    let expected = Usage { cache_read: Some(64), cache_write_5m: Some(16), reasoning: Some(20), ..usage(20, 40) };
    assert_eq!((done.usage, done.usage.total()), (expected, 160));

    let done = decode("openai-responses/reasoning-tools-s");
    let calls = [
        call(1, "ferry_times", "{\"harbour\":\"Oban\"}"),
        call(2, "tide_table", "{\"day\": 1.10, \"n\":12345678901234567890123}"),
    ];
    assert_eq!(contents(&done), [&[thought(thoughts)], calls.as_slice()].concat());
    assert_eq!((done.finish(), done.usage.total()), (Some(&FinishReason::ToolCalls), 368));
}

/// Servers that send no pieces, or nothing at all before the end, say the same.
#[test]
fn whole_items_are_told_once() {
    let whole = decode("openai-responses/items-only-s");
    assert_eq!(whole.choices, decode("openai-responses/end-only-s").choices);
    assert_eq!(whole.choices[0].parts.len(), 3);
    assert_eq!(whole.choices[0].parts[0].content, thought("Two calls are needed.\n\nBoth at once."));
    assert_eq!(whole.text(), decode("openai-responses/text-s").text());
    let (events, ..) = run(NAME, [tape("openai-responses/items-only-s").body.as_slice()]);
    assert!(events.contains(&Event::Unknown("keepalive".into())));
}

#[test]
fn searches_are_counted_as_they_are_billed() {
    for (name, searches) in [("openai-responses/web-search", 2), ("openai-responses/web-search-s", 1)] {
        let done = decode(name);
        assert_eq!((done.usage.searches, done.usage.total()), (Some(searches), 940), "{name}");
        let kinds = contents(&done).into_iter().filter(|c| matches!(c, Content::Other { dialect: NAME, .. })).count();
        assert_eq!(kinds as u64, searches + 1, "{name}");
        let text = done.choices[0].parts.last().unwrap();
        let citation = &text.citations[0];
        assert_eq!(citation.url.as_deref(), Some("https://tides.example/oban"), "{name}");
        assert_eq!((citation.start, citation.end, citation.raw.is_some()), (Some(20), Some(34), true));
    }
    let done = decode("openai-responses/web-search");
    assert_eq!(done.choices[0].parts[3].citations[1].title.as_deref(), Some("ferries.pdf"));
}

#[test]
fn refusals_limits_and_log_probabilities() {
    for name in ["openai-responses/refusal", "openai-responses/refusal-s"] {
        assert_eq!(contents(&decode(name)), [Content::Refusal("I will not help to sink a ferry.".into())]);
    }
    for name in ["openai-responses/incomplete", "openai-responses/incomplete-s"] {
        let done = decode(name);
        assert_eq!((done.text().as_str(), done.finish()), ("It was a dark and", Some(&FinishReason::Length)));
    }
    let (whole, streamed) = (decode("openai-responses/text-logprobs"), decode("openai-responses/logprobs-s"));
    assert_eq!(whole.choices, streamed.choices);
    let logprobs: Value = serde_json::from_str(whole.choices[0].logprobs.as_ref().unwrap().as_str()).unwrap();
    assert_eq!(logprobs["content"][1]["token"], " bank");
}

#[test]
fn reasoning_of_open_weights_stands_in_its_content() {
    let done = decode("openai-responses/open-weights");
    let Content::Reasoning(reasoning) = &done.choices[0].parts[0].content else { panic!("{done:?}") };
    assert_eq!((reasoning.text.as_str(), &reasoning.encrypted), ("Count the oars.", &None));
    assert_eq!((done.created, done.text().as_str()), (Some(1_760_000_101), "Eight."));
}

#[test]
fn failures_are_no_answers() {
    let failed = tape("openai-responses/failed");
    let refused = crate::provider(NAME).decode(&failed.head, &failed.body);
    let Err(DecodeError::Refused(refusal)) = refused else { panic!("{refused:?}") };
    assert_eq!((refusal.kind, refusal.code.as_deref()), (ErrorKind::Upstream, Some("server_error")));

    for (name, kind, total) in [
        ("openai-responses/failed-s", ErrorKind::Upstream, 14),
        ("openai-responses/error-in-stream-s", ErrorKind::RateLimited, 0),
    ] {
        let tape = tape(name);
        let (events, _, ending) = run(NAME, [tape.body.as_slice()]);
        assert!(matches!(ending, Ok(Ending::Refused(refusal)) if refusal.kind == kind), "{name}");
        assert_eq!(collect(&events).usage.total(), total, "{name}: what was used is billed");
    }
    let (_, _, ending) = run(NAME, [tape("openai-responses/no-end-s").body.as_slice()]);
    assert!(ending.is_err());
    let bad = tape("openai-responses/error-400");
    let refusal = crate::provider(NAME).decode_error(&bad.head, &bad.body);
    assert_eq!((refusal.kind, refusal.param.as_deref()), (ErrorKind::BadRequest, Some("input")));
}

#[test]
fn errors_and_foreign_marks_do_not_pass() {
    let passes = |data: &str| crate::provider(NAME).passes(Frame { event: "", data: data.as_bytes() }, true);
    for data in ["{\"type\":\"response.completed\"}", "{\"type\":\"codex.news\"}"] {
        assert!(passes(data), "{data}");
    }
    for data in ["{\"type\":\"error\"}", "{\"type\":\"response.failed\",\"response\":{}}", "[DONE]"] {
        assert!(!passes(data), "{data}");
    }
}

fn rich_request() -> Value {
    json!({
        "model": "writer", "instructions": "Be short.", "max_output_tokens": 64, "temperature": 0.5,
        "input": [
            {"role": "user", "content": [
                {"type": "input_text", "text": "What is this?"},
                {"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "low"},
                {"type": "input_image", "file_id": "file-1", "detail": "auto"},
                {"type": "input_file", "file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"},
                {"type": "input_file", "file_url": "https://x.example/b.pdf"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}],
             "encrypted_content": "gAAA"},
            {"role": "assistant", "content": "Let me look.", "phase": "commentary"},
            {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}", "id": "fc_1"},
            {"type": "function_call_output", "call_id": "c1", "output": [
                {"type": "input_text", "text": "seen"},
                {"type": "input_image", "image_url": "https://x.example/a.png", "detail": "auto"}]},
            {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}},
            {"type": "item_reference", "id": "msg_7"},
            {"role": "developer", "content": "Go on."}],
        "tools": [
            {"type": "function", "name": "look", "description": null, "parameters": {"type": "object"}, "strict": null,
             "defer_loading": true},
            {"type": "web_search", "search_context_size": "low"}],
        "tool_choice": {"type": "function", "name": "look"}, "parallel_tool_calls": false,
        "text": {"format": {"type": "json_schema", "name": "s", "schema": {"type": "object"}, "strict": true},
                 "verbosity": "low"},
        "reasoning": {"effort": "low", "summary": "auto", "context": "all_turns"},
        "include": ["message.output_text.logprobs", "file_search_call.results"], "top_logprobs": 2,
        "metadata": {"a": "b"}, "user": "u", "service_tier": "flex", "store": true, "previous_response_id": "resp_0"
    })
}

#[test]
fn a_request_comes_back_as_it_was() {
    let request = rich_request();
    let call = parse(&request);
    assert_eq!((call.messages.len(), call.logprobs), (6, Some(true)));
    assert_eq!(call.messages[2].parts.len(), 3);
    let (mut again, warnings) = encoded(&call);
    assert!(warnings.is_empty(), "{warnings:?}");
    again["model"] = "writer".into();
    let mut expected = request;
    // What is not said is left out or said in one way.
    expected["tools"][0]["description"] = Value::Null;
    assert_eq!(again, expected);
    assert_eq!(parse(&again), call);
}

/// Reasoning survives turns although nothing is stored.
#[test]
fn calls_of_other_dialects() {
    let chat = json!({
        "model": "m", "stop": ["x"], "seed": 7, "logit_bias": {"1": 2}, "reasoning_effort": "high", "n": 1,
        "logprobs": true, "top_logprobs": 3, "max_tokens": 9, "stream": true,
        "response_format": {"type": "json_object"},
        "tools": [{"type": "function", "function": {"name": "look"}}],
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "there"}]},
            {"role": "assistant", "content": "Wait.", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "look", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "seen"}]
    });
    let call = crate::caller(DialectName::OpenAiChat).parse(&HeaderMap::new(), chat.to_string().as_bytes()).unwrap();
    let (body, warnings) = encoded(&call);
    insta::assert_json_snapshot!("responses_of_a_chat_call", json!({"body": body, "warnings": warnings}));

    let many = Call { n: Some(2), ..call.clone() };
    assert!(crate::provider(NAME).encode(&many, &Target::new("m")).is_err());
}

#[test]
fn a_body_on_its_way_through() {
    let edits = |call: &Call, asked_stream: bool| {
        let target = Target::new("gpt-x");
        let passing = Passing { call, asked_stream, defaults: farebox_dialect::Defaults::default(), target: &target };
        crate::provider(NAME).edits(&passing)
    };
    let call = parse(&json!({"input": "hi"}));
    assert_eq!(edits(&call, false), [Edit::string("model", "gpt-x")]);
    let job = [Edit::string("model", "gpt-x"), Edit::set("stream", "false"), Edit::remove("stream_options")];
    assert_eq!(edits(&call, true), job);

    let call = parse(&json!({"input": [
        {"role": "user", "content": "hi"},
        {"type": "reasoning", "id": "rs_farebox_1", "summary": [], "encrypted_content": "farebox:anthropic-messages:c2ln"},
        {"role": "assistant", "content": "ho"}]}));
    let input = r#"[{"role":"user","content":"hi"},{"role":"assistant","content":"ho"}]"#;
    assert_eq!(edits(&call, false), [Edit::string("model", "gpt-x"), Edit::set("input", input)]);
}

fn render_stream(events: &[Event], call: &Call) -> Vec<Value> {
    let mut renderer = crate::caller(NAME).renderer(call, &stamp());
    let mut chunks = Vec::new();
    events.iter().for_each(|event| renderer.encode(event, &mut chunks));
    renderer.finish(&mut chunks);
    chunks.iter().map(|chunk| serde_json::from_slice(chunk).unwrap()).collect()
}

#[test]
fn a_stream_of_another_dialect() {
    let tape = tape("anthropic-messages/thinking-tools-s");
    let (events, ..) = run(tape.dialect, [tape.body.as_slice()]);
    insta::assert_json_snapshot!("responses_events", render_stream(&events, &parse(&json!({"input": "hi"}))));
}

/// What a caller reads of any stream is what the provider said, and the last event says it all again.
#[test]
fn a_rendered_stream_decodes_to_the_same_answer() {
    for tape in crate::tape::streams() {
        let (events, _, ending) = run(tape.dialect, [tape.body.as_slice()]);
        if ending != Ok(Ending::Complete) {
            continue;
        }
        let chunks = render_stream(&events, &Call::default());
        let numbers = chunks.iter().map(|chunk| chunk["sequence_number"].as_u64().unwrap());
        assert!(numbers.eq(0..chunks.len() as u64), "{}", tape.name);
        let framed: Vec<u8> =
            chunks.iter().flat_map(|chunk| sse::frame(chunk.to_string().as_bytes()).to_vec()).collect();
        let (again, fed, ending) = run(NAME, [framed.as_slice()]);
        assert_eq!((fed, ending), (Ok(()), Ok(Ending::Complete)), "{}", tape.name);
        let (first, second) = (collect(&events), collect(&again));
        let said = |done: &Completion| -> Vec<Content> {
            let kept = |c: &Content| match c {
                Content::Text(text) => !text.is_empty(),
                _ => !matches!(c, Content::Reasoning(_) | Content::Image(_) | Content::Other { .. }),
            };
            contents(done).into_iter().filter(kept).collect()
        };
        assert_eq!(second.usage.total(), first.usage.total(), "{}", tape.name);
        if said(&first).iter().all(|c| !matches!(c, Content::ToolCall(call) if call.arguments.is_empty())) {
            assert_eq!(said(&second), said(&first), "{}", tape.name);
        }
        let last = &chunks.last().unwrap()["response"];
        assert!(last["output"].as_array().unwrap().iter().all(Value::is_object), "{}", tape.name);
        let whole =
            crate::provider(NAME).decode(&farebox_dialect::Head::default(), last.to_string().as_bytes()).unwrap();
        assert_eq!(said(&whole), said(&second), "{}", tape.name);
        assert_eq!(whole.finish(), second.finish(), "{}", tape.name);
    }
}

#[test]
fn whole_answers_of_another_dialect() {
    let call = parse(&json!({"input": "hi", "metadata": {"a": "b"}, "max_output_tokens": 5, "temperature": 0.5,
        "tools": [{"type": "function", "name": "look", "parameters": {}}], "reasoning": {"effort": "low"}}));
    let done = decode("anthropic-messages/thinking-tools");
    let whole: Value = serde_json::from_slice(&crate::caller(NAME).render(&call, &done, &stamp())).unwrap();
    insta::assert_json_snapshot!("responses_whole", whole);
}

/// The provider refuses what it has sealed under another id than its own.
#[test]
fn own_reasoning_keeps_its_id() {
    let done = decode("openai-responses/tools");
    let whole: Value = serde_json::from_slice(&crate::caller(NAME).render(&Call::default(), &done, &stamp())).unwrap();
    let item = &whole["output"][0];
    assert_eq!((&item["id"], &item["encrypted_content"]), (&json!("rs_t1"), &json!("gAAAAtape==")));
}

/// A caller sends back what it was given; each proof returns to the dialect that can read it.
#[test]
fn seals_come_back_to_their_origin() {
    let thought = Reasoning {
        text: "Hm.".into(),
        signature: Some("c2ln".into()),
        origin: Some(DialectName::AnthropicMessages),
        ..Reasoning::default()
    };
    let unsigned = Reasoning { text: "Plain.".into(), ..Reasoning::default() };
    let mut tool = Part::from(call(1, "look", "{}"));
    tool.signature = Some("Z2Vt".into());
    let parts = vec![Part::from(Content::Reasoning(thought)), Part::from(Content::Reasoning(unsigned)), tool];
    let choice = farebox_dialect::Choice { parts: parts.clone(), ..farebox_dialect::Choice::default() };
    let done = Completion { choices: vec![choice], ..Completion::default() };
    let whole: Value = serde_json::from_slice(&crate::caller(NAME).render(&Call::default(), &done, &stamp())).unwrap();
    let mut again = parse(&json!({"input": whole["output"]}));
    again.messages[0].parts[2].extra.clear();
    assert_eq!(again.messages, [Message::new(Role::Assistant, parts)]);
    let (body, warnings) = encoded(&again);
    assert_eq!(body["input"].as_array().unwrap().len(), 1, "{body}");
    assert_eq!(warnings.len(), 1);
}

/// As codex sends them: functions, a group of them under a name, and a search that OpenAI runs.
fn agent_tools(more: &Value) -> Call {
    let function = |name: &str| json!({"type": "function", "name": name, "parameters": {"type": "object"}});
    let mut body = json!({"input": "Go.", "tools": [
        function("exec"),
        {"type": "namespace", "name": "agents", "description": "Others.", "tools": [
            function("spawn"),
            {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark"}},
        ]},
        {"type": "web_search", "external_web_access": false},
    ]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    parse(&body)
}

#[test]
fn tools_that_only_openai_has_are_left_out_elsewhere() {
    let others = crate::generating().filter(|to| ![NAME, DialectName::OpenAiCompletions].contains(to));
    for to in others {
        for more in [
            json!({}),
            json!({"tool_choice": "auto"}),
            json!({"tool_choice": "none"}),
            json!({"tool_choice": "required"}),
            json!({"tool_choice": {"type": "function", "name": "exec"}}),
            json!({"tool_choice": {"type": "function", "name": "spawn"}}),
        ] {
            let encoded = crate::provider(to).encode(&agent_tools(&more), &Target::new("m")).unwrap();
            let body = String::from_utf8(encoded.request.body().to_vec()).unwrap();
            assert!(!body.contains("external_web_access") && !body.contains("lark"), "{to} {more}: {body}");
            // Cohere is sent the one that must be called alone.
            let named = more["tool_choice"]["name"].as_str();
            for (own, name) in [("exec", "\"exec\""), ("spawn", "\"agents__spawn\"")] {
                let may_lack = more["tool_choice"] == "none" || named.is_some_and(|named| named != own);
                assert!(may_lack || body.contains(name), "{to} {more}: {body}");
            }
            let warnings: Vec<String> = encoded.warnings.into_iter().map(|warning| warning.0).collect();
            assert!(!warnings.iter().any(|told| told.contains("namespace")), "{warnings:?}");
            for kind in ["custom", "web_search"] {
                let told =
                    warnings.iter().any(|told| told.starts_with(&format!("the tool `{kind}` of {NAME} was left")));
                assert!(told || (more["tool_choice"] == "none" && to == DialectName::BedrockConverse), "{warnings:?}");
            }
        }
        let refuse = Target { unsupported: OnUnsupported::Refuse, ..Target::new("m") };
        let error = crate::provider(to).encode(&agent_tools(&json!({})), &refuse).unwrap_err();
        assert!(error.to_string().contains("the tool `custom`"), "{to}: {error}");
    }
}

#[test]
fn a_tool_that_must_be_called_is_not_left_out() {
    let native = json!([{"type": "web_search"}]);
    for to in crate::generating().filter(|to| ![NAME, DialectName::OpenAiCompletions].contains(to)) {
        for more in [
            json!({"tool_choice": {"type": "web_search"}}),
            json!({"tool_choice": {"type": "function", "name": "patch"}}),
            json!({"tool_choice": "required", "tools": native}),
        ] {
            let error = crate::provider(to).encode(&agent_tools(&more), &Target::new("m")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(
                error.to_string().contains("`web_search` of openai-responses, as `tool_choice` demands"),
                "{error}"
            );
        }
    }
}

/// Tools may stand among the items, too.
#[test]
fn how_to_call_tools_is_said_to_a_provider_of_the_callers_own_dialect() {
    let tools = json!([{"type": "function", "name": "f", "parameters": {"type": "object"}}]);
    let input =
        json!([{"role": "user", "content": "Go."}, {"type": "additional_tools", "role": "developer", "tools": tools}]);
    let (body, _) = encoded(&parse(&json!({"input": input, "tool_choice": "auto", "parallel_tool_calls": false})));
    assert_eq!((&body["tool_choice"], &body["parallel_tool_calls"]), (&json!("auto"), &json!(false)), "{body}");
    assert_eq!(body["input"][1], input[1]);
}

/// OpenAI's API refuses both without tools.
#[test]
fn how_to_call_tools_is_not_said_where_none_is_left() {
    let tools = json!([{"type": "web_search"}]);
    let call = agent_tools(&json!({"tools": tools, "tool_choice": "none", "parallel_tool_calls": false}));
    let encoded = crate::provider(DialectName::OpenAiChat).encode(&call, &Target::new("m")).unwrap();
    let body: Value = serde_json::from_slice(encoded.request.body()).unwrap();
    for member in ["tools", "tool_choice", "parallel_tool_calls"] {
        assert_eq!(body.get(member), None, "{body}");
    }
}

#[test]
fn bad_requests_name_the_field() {
    for (body, field) in [
        (json!({}), "input"),
        (json!({"input": 7}), "input"),
        (json!({"input": [{"type": "message", "role": "king", "content": "x"}]}), "input[0].role"),
        (json!({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}), "input[0].content[0].text"),
        (json!({"input": [{"type": "function_call", "name": "f"}]}), "input[0].call_id"),
        (json!({"input": "x", "tools": [{"name": "f"}]}), "tools[0].type"),
        (json!({"input": "x", "tool_choice": "perhaps"}), "tool_choice"),
        (json!({"input": "x", "text": {"format": {"type": "xml"}}}), "text.format.type"),
    ] {
        let bad = crate::caller(NAME).parse(&HeaderMap::new(), body.to_string().as_bytes()).unwrap_err();
        assert_eq!(bad.field.as_deref(), Some(field), "{body}");
    }
}
