//! What is Anthropic's alone: its callers and its models.

use farebox_dialect::{
    CacheMark, Call, Collector, Completion, Content, Delta, DialectName, Effort, Ending, Event, FinishReason, Media,
    Message, Part, PartId, PartKind, Quirk, Reasoning, ReasoningRequest, Role, Source, Stamp, Target, ToolCall,
    ToolResult, sse,
};
use farebox_types::{ErrorKind, Fault, Usage};
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::{
    laws::run,
    tape::{Tape, streams, tape},
};

pub(crate) const NAME: DialectName = DialectName::AnthropicMessages;

fn parse_with(body: &Value, headers: &HeaderMap) -> Call {
    crate::caller(NAME).parse(headers, &serde_json::to_vec(body).unwrap()).unwrap()
}

pub(crate) fn parse(body: &Value) -> Call {
    parse_with(body, &HeaderMap::new())
}

fn encode(call: &Call, target: &Target) -> (Value, Vec<String>) {
    let encoded = crate::provider(NAME).encode(call, target).unwrap();
    let body = serde_json::from_slice(encoded.request.body()).unwrap();
    (body, encoded.warnings.iter().map(ToString::to_string).collect())
}

fn stamp() -> Stamp {
    Stamp { id: "msg_own".into(), created: 1_770_000_000, model: None }
}

pub(crate) fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

pub(crate) fn collected(events: &[Event]) -> Completion {
    let mut collector = Collector::new();
    events.iter().for_each(|event| collector.push(event));
    collector.into_completion()
}

fn rendered(events: &[Event]) -> Vec<Value> {
    let mut encoder = crate::caller(NAME).renderer(&Call::default(), &stamp());
    let mut chunks = Vec::new();
    events.iter().for_each(|event| encoder.encode(event, &mut chunks));
    encoder.finish(&mut chunks);
    chunks.iter().map(|chunk| json_of(chunk)).collect()
}

fn decoded(tape: &Tape) -> Completion {
    if !tape.streamed {
        return crate::provider(NAME).decode(&tape.head, &tape.body).unwrap();
    }
    let (events, fed, ending) = run(NAME, [tape.body.as_slice()]);
    assert_eq!((fed, ending), (Ok(()), Ok(Ending::Complete)));
    collected(&events)
}

/// What a coding agent sends: marks, documents, results out of order, a system message on the way, a server tool.
pub(crate) fn conversation() -> Value {
    json!({
        "model": "writer", "max_tokens": 3000, "stream": true, "temperature": 0.5, "top_k": 40,
        "stop_sequences": ["END"],
        "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "No lists.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "messages": [
            {"role": "user", "content": [
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}, "title": "Rigging", "citations": {"enabled": true}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Eighteen metres."}},
                {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "inside"}]}},
                {"type": "image", "source": {"type": "url", "url": "https://img.invalid/a.png"}},
                {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
                {"type": "text", "text": "How tall?", "cache_control": {"type": "ephemeral"}}
            ]},
            {"role": "system", "content": "The user is in a hurry."},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Look first.", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "ZW5j"},
                {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "mast"}},
                {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
                {"type": "text", "text": "Looking.", "citations": [{"type": "web_search_result_location", "cited_text": "tall", "url": "https://w.invalid", "title": "T", "encrypted_index": "aQ=="}]},
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"z": 1.5, "a": 2}},
                {"type": "tool_use", "id": "toolu_2", "name": "look", "input": {}, "caller": {"type": "direct"}}
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": [{"type": "text", "text": "18 m"}, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0="}}], "is_error": false},
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "no such mast", "is_error": true, "cache_control": {"type": "ephemeral"}},
                {"type": "text", "text": "Well?"}
            ]}
        ],
        "tools": [
            {"name": "look", "description": "Looks.", "input_schema": {"type": "object", "properties": {"z": {"type": "number"}}}, "strict": true, "defer_loading": true, "cache_control": {"type": "ephemeral", "ttl": "5m"}},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
        ],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": true},
        "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}, "task_budget": {"type": "tokens", "total": 9}},
        "metadata": {"user_id": "{\"session_id\":\"s\"}"},
        "service_tier": "standard_only",
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
    })
}

#[test]
fn a_call_is_understood() {
    let mut headers = HeaderMap::new();
    headers.append("anthropic-beta", HeaderValue::from_static("context-1m-2025-08-07, effort-2025-11-24"));
    let call = parse_with(&conversation(), &headers);
    assert_eq!(call.betas, ["context-1m-2025-08-07", "effort-2025-11-24"]);
    let roles: Vec<Role> = call.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::System, Role::Assistant, Role::Tool, Role::User]);
    assert_eq!(call.messages[0].parts[1].cache, Some(CacheMark::Long));
    assert_eq!(call.messages[1].parts[5].cache, Some(CacheMark::Short));
    assert_eq!(call.messages[1].parts[1].content, Content::File(Media::from(Source::Text("Eighteen metres.".into()))));
    let Content::Reasoning(thought) = &call.messages[3].parts[0].content else { panic!() };
    assert_eq!((thought.origin, thought.signature.as_deref()), (Some(NAME), Some("c2ln")));
    assert_eq!(call.messages[3].parts[4].citations[0].url.as_deref(), Some("https://w.invalid"));
    let Content::ToolResult(ToolResult { call_id, is_error, parts }) = &call.messages[4].parts[1].content else {
        panic!()
    };
    assert_eq!((call_id.as_str(), *is_error, &parts[..]), ("toolu_1", true, &[Part::text("no such mast")][..]));
    assert_eq!((call.tools[0].cache, call.tools[0].strict), (Some(CacheMark::Short), Some(true)));
    assert_eq!(call.native_tools[0].kind, "web_search_20250305");
    assert_eq!(call.parallel_tool_calls, Some(false));
    assert_eq!(call.user.as_deref(), Some("{\"session_id\":\"s\"}"));
    assert_eq!(call.reasoning.as_ref().and_then(|asked| asked.effort.clone()), Some(Effort::High));
    assert!(call.stream && call.include_usage);
}

#[test]
fn what_was_understood_is_said_again() {
    let (body, warnings) = encode(&parse(&conversation()), &Target::new("writer"));
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(parse(&body), parse(&conversation()));
    insta::assert_json_snapshot!("anthropic_own_conversation", body);
}

#[test]
fn ways_to_think_come_back_as_they_were_asked_for() {
    for asked in [
        json!({"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        json!({"thinking": {"type": "enabled", "budget_tokens": 2000, "display": "omitted"}}),
        json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}),
        json!({"thinking": {"type": "adaptive", "display": "summarized"}}),
        json!({"thinking": {"type": "disabled"}}),
        json!({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}),
        json!({"thinking": {"type": "later", "x": 1}}),
        json!({"output_config": {"effort": "medium"}}),
        json!({"tool_choice": {"type": "later"}, "tools": [{"type": "custom", "name": "f", "input_schema": {}}]}),
        json!({"metadata": {"user_id": "u", "more": 1}}),
    ] {
        let mut body = json!({"model": "m", "max_tokens": 4000, "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().unwrap().extend(asked.as_object().unwrap().clone());
        let (written, warnings) = encode(&parse(&body), &Target::new("m"));
        for member in ["thinking", "output_config", "tool_choice", "metadata"] {
            assert_eq!(written[member], body[member], "{member}");
        }
        assert!(warnings.is_empty(), "{warnings:?}");
    }
    let old = json!({"messages": [{"role": "user", "content": "hi"}], "output_format": {"type": "json_schema", "schema": {}}});
    assert_eq!(encode(&parse(&old), &Target::new("m")).0["output_config"], json!({"format": old["output_format"]}));
}

#[test]
fn bad_requests_name_the_field() {
    let hi = json!([{"role": "user", "content": "hi"}]);
    let block = |block: Value| json!({"messages": [{"role": "user", "content": [block]}]});
    let faults: Vec<String> = [
        json!({}),
        json!({"messages": [{"role": "robot", "content": "x"}]}),
        json!({"messages": [{"role": "user"}]}),
        json!({"messages": hi, "system": 7}),
        json!({"messages": hi, "max_tokens": "many"}),
        json!({"messages": hi, "thinking": {"type": "enabled"}}),
        json!({"messages": hi, "tool_choice": {"type": "tool"}}),
        json!({"messages": hi, "tools": [{"input_schema": {}}]}),
        json!({"messages": hi, "output_config": {"format": {"type": "xml"}}}),
        block(json!({"text": "x"})),
        block(json!({"type": "image"})),
        block(json!({"type": "image", "source": {"type": "base64"}})),
        block(json!({"type": "tool_result", "content": "x"})),
        block(json!({"type": "text", "text": "x", "cache_control": "yes"})),
    ]
    .iter()
    .map(|body| {
        let bad = crate::caller(NAME).parse(&HeaderMap::new(), &serde_json::to_vec(body).unwrap()).unwrap_err();
        assert!(bad.field.is_some());
        bad.to_string()
    })
    .collect();
    insta::assert_snapshot!("anthropic_bad_requests", faults.join("\n"));
}

#[test]
fn searches_and_citations() {
    let done = decoded(&tape("anthropic-messages/search-citations-s"));
    let parts = &done.choices[0].parts;
    let Content::Other { kind, raw, .. } = &parts[0].content else { panic!() };
    assert_eq!(
        (kind.as_str(), &json_of(raw.as_str().as_bytes())["input"]),
        ("server_tool_use", &json!({"query": "tides 1.10"}))
    );
    assert_eq!(done.text(), "By the tables, high water is at six.");
    let quotes: Vec<_> =
        parts[3].citations.iter().map(|c| (c.quote.as_deref().unwrap(), c.url.as_deref().unwrap())).collect();
    assert_eq!(
        quotes,
        [("High water: 06:02.", "https://harbour.invalid/1"), ("Six o’clock it is.", "https://harbour.invalid/2")]
    );
    assert_eq!((done.usage.searches, done.usage.total_input(), done.usage.output), (Some(2), 9520, Some(88)));

    let done = decoded(&tape("anthropic-messages/document-citations"));
    assert_eq!(done.choices[0].parts[1].citations[0].title.as_deref(), Some("Rigging"));
    assert_eq!(done.finish(), Some(&FinishReason::Length));
}

#[test]
fn hidden_thoughts_long_caches_and_compactions() {
    let done = decoded(&tape("anthropic-messages/adaptive-cache-1h-s"));
    let Content::Reasoning(thought) = &done.choices[0].parts[0].content else { panic!() };
    assert_eq!((thought.text.as_str(), thought.signature.as_deref()), ("", Some("c2lnLW9taXR0ZWQ=")));
    let usage = Usage {
        input: Some(12),
        cache_read: Some(300),
        cache_write_5m: Some(0),
        cache_write_1h: Some(5000),
        output: Some(20),
        reasoning: Some(120),
        ..Usage::default()
    };
    assert_eq!(done.usage, usage);

    let done = decoded(&tape("anthropic-messages/compaction-s"));
    let Content::Other { raw, .. } = &done.choices[0].parts[0].content else { panic!() };
    assert_eq!(raw.as_str(), r#"{"type":"compaction","content":"The crew left at \"dawn\"."}"#);
    assert_eq!(
        (done.usage.input, done.usage.output, done.finish()),
        (Some(60_600), Some(590), Some(&FinishReason::Pause))
    );
}

#[test]
fn decode_after_render_gives_the_answer_back() {
    for name in ["text", "thinking-tools", "refusal", "document-citations"] {
        let tape = tape(&format!("anthropic-messages/{name}"));
        let mut done = decoded(&tape);
        done.extra.clear();
        done.choices.iter_mut().flat_map(|c| &mut c.parts).for_each(|part| part.extra.clear());
        let stamp = Stamp { id: done.id.clone(), ..stamp() };
        let body = crate::caller(NAME).render(&Call::default(), &done, &stamp);
        assert_eq!(crate::provider(NAME).decode(&tape.head, &body).unwrap(), done, "{name}");
    }
}

/// Official clients put blocks together by their index: one is open at a time, and the next one is the next number.
fn assert_in_order(chunks: &[Value], name: &str) {
    let (mut next, mut open) = (0, false);
    for (at, chunk) in chunks.iter().enumerate() {
        match chunk["type"].as_str().unwrap() {
            "message_start" => assert_eq!(at, 0, "{name}"),
            "content_block_start" => assert!(!std::mem::replace(&mut open, true) && chunk["index"] == next, "{name}"),
            "content_block_delta" => assert!(open && chunk["index"] == next, "{name}"),
            "content_block_stop" => {
                assert!(std::mem::replace(&mut open, false) && chunk["index"] == next, "{name}");
                next += 1;
            }
            "message_delta" => assert!(!open && at == chunks.len() - 2, "{name}"),
            "message_stop" => assert_eq!(at, chunks.len() - 1, "{name}"),
            other => panic!("{name}: {other}"),
        }
    }
    assert_eq!(chunks[0]["type"], "message_start");
}

#[test]
fn any_stream_is_rendered_in_order_and_says_the_same() {
    for tape in streams() {
        let (events, _, ending) = run(tape.dialect, [tape.body.as_slice()]);
        if ending != Ok(Ending::Complete) {
            continue;
        }
        let chunks = rendered(&events);
        assert_in_order(&chunks, &tape.name);
        let framed: Vec<u8> = chunks.iter().flat_map(|c| sse::frame(c.to_string().as_bytes())).collect();
        let (again, fed, ending) = run(NAME, [framed.as_slice()]);
        assert_eq!((fed, ending), (Ok(()), Ok(Ending::Complete)), "{}", tape.name);
        let (mut first, second) = (collected(&events), collected(&again));
        first.choices.truncate(1);
        // A refusal in words of its own is text here.
        let said = first.choices[0].parts.iter().filter_map(|part| match &part.content {
            Content::Text(text) | Content::Refusal(text) => Some(text.as_str()),
            _ => None,
        });
        assert_eq!(second.text(), said.collect::<String>(), "{}", tape.name);
        let tokens = |done: &Completion| (done.usage.total_input(), done.usage.total_output(), done.usage.searches);
        assert_eq!(tokens(&second), tokens(&first), "{}", tape.name);
        let calls = |done: &Completion| -> Vec<(String, Value)> {
            let calls = done.choices[0].parts.iter().filter_map(|part| match &part.content {
                Content::ToolCall(call) => Some((call.id.clone(), json_of(call.arguments.as_bytes()))),
                _ => None,
            });
            calls.collect()
        };
        assert_eq!(calls(&second), calls(&first), "{}", tape.name);
        if tape.dialect == NAME {
            assert_eq!(second.choices, first.choices, "{}", tape.name);
        }
    }
}

#[test]
fn parts_that_overlap_become_blocks_in_a_row() {
    let id = PartId;
    let start = |at, kind| Event::PartStart { id: id(at), choice: 0, kind };
    let delta = |at, delta| Event::Delta { id: id(at), delta };
    let tool = |id: &str| PartKind::ToolCall { id: id.into(), name: "f".into() };
    let args = |text: &str| Delta::Args(text.into());
    let events = [
        Event::Started { id: "x".into(), model: "m".into(), created: None },
        start(0, PartKind::Reasoning),
        delta(0, Delta::Origin { dialect: DialectName::OpenAiResponses, id: Some("rs_1".into()) }),
        delta(0, Delta::Encrypted("ZW5j".into())),
        start(1, tool("a")),
        delta(1, args("{\"n\":")),
        start(2, tool("b")),
        delta(2, Delta::Signature("c2ln".into())),
        delta(2, args("{}")),
        Event::PartEnd { id: id(2) },
        delta(1, args("1}")),
        Event::PartEnd { id: id(0) },
        start(3, tool("c")),
        Event::PartEnd { id: id(1) },
        delta(3, Delta::Signature("bGF0ZQ==".into())),
        Event::PartEnd { id: id(3) },
        Event::Usage(Usage { input: Some(7), output: Some(3), ..Usage::default() }),
        Event::Finish { choice: 0, reason: FinishReason::ToolCalls, stop_sequence: None },
    ];
    let chunks = rendered(&events);
    assert_in_order(&chunks, "overlap");
    insta::assert_json_snapshot!("anthropic_overlapping_parts", chunks);
}

#[test]
fn proofs_of_other_dialects_come_back_to_them() {
    let thought = |text: &str, signature: Option<&str>, encrypted: Option<&str>, origin| {
        let (signature, encrypted) = (signature.map(Into::into), encrypted.map(Into::into));
        Part::from(Content::Reasoning(Reasoning {
            text: text.into(),
            signature,
            encrypted,
            id: None,
            origin: Some(origin),
        }))
    };
    let called = Content::ToolCall(ToolCall { id: "call:1".into(), name: "f".into(), arguments: "{}".into() });
    let parts = vec![
        thought("Hm.", Some("Z2Vt"), None, DialectName::Gemini),
        thought("A summary.", None, Some("b3Bl"), DialectName::OpenAiResponses),
        thought("", None, Some("bmFp"), DialectName::OpenAiResponses),
        thought("", Some("b3du"), None, NAME),
        thought("", None, Some("b3du"), NAME),
        Part { signature: Some("c2ln".into()), ..Part::from(called) },
    ];
    let choice = farebox_dialect::Choice { parts: parts.clone(), ..Default::default() };
    let done = Completion { choices: vec![choice], ..Completion::default() };
    let answer = json_of(&crate::caller(NAME).render(&Call::default(), &done, &stamp()));
    let kinds: Vec<_> =
        answer["content"].as_array().unwrap().iter().map(|block| block["type"].as_str().unwrap()).collect();
    let expected =
        ["thinking", "thinking", "redacted_thinking", "thinking", "redacted_thinking", "redacted_thinking", "tool_use"];
    assert_eq!(kinds, expected);
    let call = parse(&json!({"messages": [{"role": "assistant", "content": answer["content"]}]}));
    assert_eq!(call.messages[0].parts, parts);
    // To a provider of this dialect goes only what it can read.
    let (body, warnings) = encode(&call, &Target::new("m"));
    let sent = json!([
        {"type": "thinking", "thinking": "", "signature": "b3du"},
        {"type": "redacted_thinking", "data": "b3du"},
        {"type": "tool_use", "id": "call_1", "name": "f", "input": {}}
    ]);
    assert_eq!((&body["messages"][0]["content"], warnings.len()), (&sent, 1));
}

#[test]
fn every_kind_of_error() {
    let render = |fault: &Fault| {
        let (status, body) = crate::caller(NAME).render_error(fault);
        json!([status.as_u16(), json_of(&body)])
    };
    let rendered: Vec<Value> =
        ErrorKind::ALL.into_iter().map(|kind| render(&Fault::new(kind, "a sentence to act on"))).collect();
    insta::assert_json_snapshot!("anthropic_errors", rendered);
    let overloaded = tape("anthropic-messages/error-529");
    let refusal = crate::provider(NAME).decode_error(&overloaded.head, &overloaded.body);
    let answer = render(&refusal.into());
    assert_eq!((&answer[0], &answer[1]["error"]["type"]), (&json!(529), &json!("overloaded_error")));
}

#[test]
fn models_that_think_by_effort() {
    let target = Target { quirks: vec![Quirk::AdaptiveThinking, Quirk::NoSampling], ..Target::new("m") };
    let ask = |reasoning: ReasoningRequest| {
        let mut call =
            Call { messages: vec![Message::text(Role::User, "hi")], reasoning: Some(reasoning), ..Call::default() };
        call.sampling.temperature = Some(0.3);
        let (body, warnings) = encode(&call, &target);
        assert_eq!((&body["temperature"], warnings.len()), (&Value::Null, 1));
        (body["thinking"].clone(), body["output_config"]["effort"].clone())
    };
    let effort = |effort| ReasoningRequest { effort: Some(effort), ..ReasoningRequest::default() };
    let adaptive = json!({"type": "adaptive"});
    assert_eq!(ask(effort(Effort::Minimal)), (adaptive.clone(), json!("low")));
    assert_eq!(ask(effort(Effort::Max)), (adaptive.clone(), json!("max")));
    assert_eq!(ask(effort(Effort::None)), (json!({"type": "disabled"}), Value::Null));
    let budget = ReasoningRequest { budget_tokens: Some(20_000), ..ReasoningRequest::default() };
    assert_eq!(ask(budget), (adaptive.clone(), json!("high")));
    let free = ReasoningRequest { adaptive: true, summary: Some("none".into()), ..ReasoningRequest::default() };
    assert_eq!(ask(free), (json!({"type": "adaptive", "display": "omitted"}), Value::Null));
}

#[test]
fn a_single_way_of_sampling() {
    let target = Target { quirks: vec![Quirk::OneSampling], ..Target::new("m") };
    let call = parse(&json!({"messages": [{"role": "user", "content": "hi"}], "temperature": 0.2, "top_p": 0.9}));
    let (body, warnings) = encode(&call, &target);
    assert_eq!((&body["temperature"], &body["top_p"], warnings.len()), (&json!(0.2), &Value::Null, 1));
}
