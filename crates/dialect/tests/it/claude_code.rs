//! What Claude Code sends, towards providers of every dialect.

use bytes::Bytes;
use farebox_dialect::{Asked, Defaults, DialectName, Exchange, Target, outline, provider_dialect};
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
    let stream = caller == DialectName::AnthropicMessages;
    let asked = Asked::raw(caller, Bytes::from(body.to_string()), stream)?;
    let (_, request, _) =
        Exchange::begin(&asked, provider_dialect(to).unwrap(), Target::new("up-1"), Defaults::default())?;
    Ok(String::from_utf8(request.into_body().to_vec()).unwrap())
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
fn a_search_that_only_anthropic_can_make_is_refused_elsewhere_by_its_name() {
    let search = json!({
        "tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 8}],
        "tool_choice": {"type": "tool", "name": "web_search"},
        "messages": [{"role": "user", "content": "Search."}],
    });
    for to in [OpenAiChat, OpenAiResponses, Gemini, BedrockConverse] {
        let fault = sent(&turn(search.clone()), to).unwrap_err();
        assert!(fault.message.contains("web_search_20250305"), "{to}: {}", fault.message);
        let (status, _) = farebox_dialect::caller_dialect(DialectName::AnthropicMessages).unwrap().render_error(&fault);
        assert_eq!(status.as_u16(), 400, "{to}");
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
