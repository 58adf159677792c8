//! What Claude Code sends, towards providers of every dialect.

use bytes::Bytes;
use farebox_dialect::{Asked, Defaults, DialectName, Exchange, OnUnsupported, Target, outline, provider_dialect};
use farebox_types::Fault;
use serde_json::{Value, json};

use DialectName::{AnthropicCountTokens, AnthropicMessages, BedrockConverse, Gemini, OpenAiChat, OpenAiResponses};

fn turn(more: Value) -> Value {
    let mut body = json!({
        "model": "any", "max_tokens": 64000, "stream": true,
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=1; cch=36ee5;"},
            {"type": "text", "text": "Be an agent.", "cache_control": {"type": "ephemeral"}},
        ],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Look."}]},
            {"role": "system", "content": "The working directory has changed."},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "a", "name": "Read", "input": {"path": "a"}},
                {"type": "tool_use", "id": "b", "name": "Read", "input": {"path": "b"}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "b", "is_error": false, "content": "second"},
                {"type": "tool_result", "tool_use_id": "a", "is_error": false, "cache_control": {"type": "ephemeral"},
                 "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}]},
            ]},
        ],
        "tools": [{"name": "Read", "description": "Reads.", "input_schema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
            "properties": {"path": {"type": "string"}}, "required": ["path"], "additionalProperties": false,
        }}],
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "high"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "metadata": {"user_id": format!("{{\"device_id\":\"{}\",\"session_id\":\"s\"}}", "d".repeat(64))},
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn sent(body: &Value, to: DialectName) -> Result<String, Fault> {
    put(DialectName::AnthropicMessages, body, to)
}

fn put(caller: DialectName, body: &Value, to: DialectName) -> Result<String, Fault> {
    put_at(caller, body, to, Target::new("up-1")).map(|(body, _)| body)
}

/// What is sent, and what its caller is told.
fn put_at(caller: DialectName, body: &Value, to: DialectName, target: Target) -> Result<(String, Vec<String>), Fault> {
    let stream = caller == DialectName::AnthropicMessages;
    let asked = Asked::raw(caller, Bytes::from(body.to_string()), stream)?;
    let (_, request, warnings) = Exchange::begin(&asked, provider_dialect(to).unwrap(), target, Defaults::default())?;
    let body = String::from_utf8(request.into_body().to_vec()).unwrap();
    Ok((body, warnings.into_iter().map(|warning| warning.0).collect()))
}

#[test]
fn a_turn_of_claude_code_can_be_put_to_any_provider() {
    for to in [OpenAiChat, OpenAiResponses, Gemini, BedrockConverse] {
        for more in [
            json!({}),
            json!({"thinking": {"type": "enabled", "budget_tokens": 31999}}),
            json!({"thinking": {"type": "disabled"}}),
            json!({"tools": [], "messages": [{"role": "user", "content": "hi"}]}),
        ] {
            let body = sent(&turn(more.clone()), to).unwrap_or_else(|fault| panic!("{to} {more}: {fault}"));
            assert!(body.contains("Be an agent."), "{to}: {body}");
            if more["tools"].is_null() {
                for word in ["The working directory has changed.", "second", "aGk="] {
                    assert!(body.contains(word), "{to}: {word}: {body}");
                }
            }
            // What changes with every call would keep the rest out of a prompt cache, and OpenAI takes no such user.
            assert!(!body.contains("x-anthropic-billing-header") && !body.contains("session_id"), "{to}: {body}");
            // Gemini's own form of a schema knows no `additionalProperties`; this member does.
            assert!(to != Gemini || !body.contains("additionalProperties") || body.contains("parametersJsonSchema"));
            for own in ["context_management", "clear_thinking", "device_id\\\\\""] {
                assert!(!body.contains(own), "{to}: {own}: {body}");
            }
        }
    }
}

#[test]
fn a_turn_asks_for_no_more_than_the_model_behind_it_can() {
    let small = || Target { max_output_tokens: Some(16_384), never_reasons: true, ..Target::new("up-1") };
    for thinking in [json!({"type": "adaptive"}), json!({"type": "enabled", "budget_tokens": 31999})] {
        let turn = turn(json!({"thinking": thinking}));
        for (to, place) in [
            (OpenAiChat, "/max_completion_tokens"),
            (OpenAiResponses, "/max_output_tokens"),
            (Gemini, "/generationConfig/maxOutputTokens"),
            (BedrockConverse, "/inferenceConfig/maxTokens"),
        ] {
            let (body, warnings) = put_at(AnthropicMessages, &turn, to, small()).unwrap();
            let sent: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(sent.pointer(place), Some(&json!(16_384)), "{to}: {body}");
            for word in ["reasoning_effort", "effort\"", "thinking", "budget"] {
                assert!(!body.contains(word), "{to}: {word}: {body}");
            }
            for said in ["reasoning was left out", "the output limit became 16384 tokens"] {
                assert!(warnings.iter().any(|warning| warning.contains(said)), "{to}: {said}: {warnings:?}");
            }
            let strict = Target { unsupported: OnUnsupported::Refuse, ..small() };
            assert!(put_at(AnthropicMessages, &turn, to, strict).unwrap_err().message.contains("reasoning"), "{to}");
        }
        // At Anthropic it is the caller's own word that counts.
        let (body, warnings) = put_at(AnthropicMessages, &turn, AnthropicMessages, small()).unwrap();
        assert_eq!((body, warnings), (turn.to_string().replace("\"any\"", "\"up-1\""), Vec::new()));
    }
}

#[test]
fn a_tool_that_it_has_searched_for_is_named_where_it_cannot_be_referred_to() {
    let found = turn(json!({"messages": [
        {"role": "user", "content": "Search the web."},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "ToolSearch", "input": {}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "tool_reference", "tool_name": "WebSearch"}]},
            {"type": "text", "text": "Tool loaded."},
        ]},
    ]}));
    for to in [OpenAiChat, OpenAiResponses, Gemini, BedrockConverse] {
        let body = sent(&found, to).unwrap_or_else(|fault| panic!("{to}: {fault}"));
        assert!(body.contains("The tool `WebSearch` can be called now."), "{to}: {body}");
    }
    let passed = found.to_string().replace("\"any\"", "\"up-1\"");
    assert_eq!(sent(&found, AnthropicMessages).unwrap(), passed);
    for to in [Gemini, BedrockConverse] {
        assert!(put(AnthropicCountTokens, &found, to).unwrap().contains("The tool `WebSearch`"), "{to}");
    }
}

#[test]
fn how_thinking_is_shown_is_said_in_words_that_a_provider_knows() {
    for display in ["summarized", "updates"] {
        let body = turn(json!({"thinking": {"type": "adaptive", "display": display}}));
        assert!(sent(&body, OpenAiResponses).unwrap().contains(r#""summary":"auto""#), "{display}");
        assert!(sent(&body, AnthropicMessages).unwrap().contains(display));
    }
}

#[test]
fn a_search_that_only_anthropic_can_make_is_refused_elsewhere_by_its_name() {
    let mut search = json!({
        "tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 8}],
        "messages": [{"role": "user", "content": "Search."}],
    });
    // Of names that it does not know it believes that a tool cannot be forced.
    for choice in [json!({"type": "tool", "name": "web_search"}), json!({"type": "auto"})] {
        search["tool_choice"] = choice;
        for to in [OpenAiChat, OpenAiResponses, Gemini, BedrockConverse] {
            let fault = sent(&turn(search.clone()), to).unwrap_err();
            assert!(fault.message.contains("web_search_20250305"), "{to}: {}", fault.message);
            let caller = farebox_dialect::caller_dialect(AnthropicMessages).unwrap();
            assert_eq!(caller.render_error(&fault).0.as_u16(), 400, "{to}");
        }
    }
}

#[test]
fn a_word_and_tools_can_be_counted_and_nothing_cannot() {
    let tools = json!([{"name": "Read", "input_schema": {"type": "object"}}]);
    for tools in [json!([]), tools] {
        let body = json!({"model": "any", "messages": [{"role": "user", "content": "foo"}], "tools": tools});
        let told = outline(AnthropicCountTokens, body.to_string().as_bytes()).unwrap();
        assert_eq!((told.messages, told.has_tools), (1, tools != json!([])));
        for to in [AnthropicMessages, Gemini, BedrockConverse] {
            let sent = put(AnthropicCountTokens, &body, to).unwrap_or_else(|fault| panic!("{to}: {fault}"));
            assert!(sent.contains("foo"), "{to}: {sent}");
            assert_eq!(sent.contains("Read"), told.has_tools, "{to}: {sent}");
        }
        for (messages, said) in [(json!([]), "is empty"), (Value::Null, "is missing")] {
            let body = json!({"model": "any", "messages": messages, "tools": tools});
            let fault = outline(AnthropicCountTokens, body.to_string().as_bytes()).unwrap_err();
            assert!(fault.message.contains("messages") && fault.message.contains(said), "{}", fault.message);
        }
    }
}

#[test]
fn the_note_to_anthropics_billing_is_for_anthropic_alone() {
    const NOTE: &str = "x-anthropic-billing-header: cc_version=2; cch=0aaa9;";
    let block = |text: &str| json!({"type": "text", "text": text});
    for (system, left) in [
        (json!(format!("{NOTE}\nBe kind.")), Some(json!("Be kind."))),
        (json!([block(NOTE), block("Be kind.")]), Some(json!("Be kind."))),
        (json!([block(NOTE)]), None),
        // Only where it stands first.
        (json!(format!("Say {NOTE}")), Some(json!(format!("Say {NOTE}")))),
    ] {
        let body = turn(json!({"system": system, "messages": [{"role": "user", "content": "hi"}], "tools": []}));
        let chat: Value = serde_json::from_str(&sent(&body, OpenAiChat).unwrap()).unwrap();
        let first = &chat["messages"][0];
        assert_eq!((first["role"] == "system").then(|| first["content"].clone()), left, "{system}");
        assert!(sent(&body, AnthropicMessages).unwrap().contains(NOTE));
    }
}

#[test]
fn a_tier_in_anthropics_words_is_not_openais() {
    for (tier, sent_on) in [("auto", true), ("standard_only", false)] {
        let body = turn(json!({"service_tier": tier}));
        for to in [OpenAiChat, OpenAiResponses] {
            assert_eq!(sent(&body, to).unwrap().contains("service_tier"), sent_on, "{to} {tier}");
        }
        assert!(sent(&body, AnthropicMessages).unwrap().contains(tier));
    }
}
