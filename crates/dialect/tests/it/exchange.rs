//! A request put to a provider and its answer: what goes through byte for byte, and what is translated.

use bytes::Bytes;
use farebox_dialect::{
    Answer, Asked, Beside, DecodeError, Defaults, DialectName, Ending, Exchange, Head, Hosting, OnUnsupported, Quirk,
    Stamp, StreamLimits, Target, provider_dialect,
};
use farebox_proto::v1::llm_chunk::Piece;
use farebox_types::ErrorKind;
use serde_json::{Value, json};

use crate::tape::tape;

fn ask(caller: DialectName, body: &str, stream: bool) -> Asked {
    Asked::raw(caller, Bytes::copy_from_slice(body.as_bytes()), stream).unwrap()
}

fn stamp() -> Stamp {
    Stamp { id: "farebox-1".into(), created: 1_760_000_000, model: Some("alias".into()) }
}

fn begin<'a>(asked: &'a Asked, to: DialectName, target: &Target) -> (Exchange<'a>, http::Request<Bytes>, Vec<String>) {
    let provider = provider_dialect(to).unwrap();
    let (exchange, request, warnings) = Exchange::begin(asked, provider, target.clone(), Defaults::default()).unwrap();
    (exchange, request, warnings.into_iter().map(|warning| warning.0).collect())
}

/// The bytes that a provider of the caller's own dialect gets.
fn through(dialect: DialectName, body: &str, stream: bool) -> String {
    let asked = ask(dialect, body, stream);
    let to = if dialect == DialectName::AnthropicCountTokens { DialectName::AnthropicMessages } else { dialect };
    let (_, request, warnings) = begin(&asked, to, &Target::new("up-1"));
    assert_eq!(warnings, [""; 0], "{dialect}");
    String::from_utf8(request.into_body().to_vec()).unwrap()
}

/// Odd bytes that mean nothing to farebox: doubled and escaped keys, a spelling of a number, a huge integer, white space.
const ODD: &str = "\"x\" :\t1.10 , \"x\":2, \"caf\\u00e9\":\"\\ud83d\\ude00 \\/\",\n \"big\":123456789012345678901234567890,\"e\":1E+2";

#[test]
fn a_body_of_the_providers_own_dialect_keeps_its_bytes() {
    use DialectName as D;
    for (dialect, content) in [
        (D::OpenAiChat, r#""messages": [ {"role":"user","content":"h\u0069"} ]"#),
        (D::OpenAiResponses, r#""input" : "h\u0069""#),
        (D::OpenAiCompletions, r#""prompt" : "h\u0069""#),
        (D::OpenAiEmbeddings, r#""input" : ["h\u0069"]"#),
        (D::AnthropicMessages, r#""max_tokens":9,"messages": [ {"role":"user","content":"h\u0069"} ]"#),
        (D::AnthropicCountTokens, r#""max_tokens":9,"messages": [ {"role":"user","content":"h\u0069"} ]"#),
        (D::AnthropicCountTokens, r#""messages": [ {"role":"king","content":"only a provider could read it"} ]"#),
        (D::CohereRerank, r#""query":"q", "documents" : ["h\u0069"]"#),
    ] {
        let given = format!("  {{ {ODD}, \"model\" : \"alias\",{content},\"y\":null }}\n");
        let expected = given.replace("\"alias\"", "\"up-1\"");
        assert_eq!(through(dialect, &given, false), expected, "{dialect}");
        // farebox's own member goes with its comma, and nothing else moves.
        let with_own = given.replace(",\"y\":null", ", \"farebox\": {\"task_id\":\"t\"},\"y\":null");
        assert_eq!(through(dialect, &with_own, false), expected, "{dialect}");
    }
}

#[test]
fn a_question_how_many_tokens_there_are_passes_in_the_envelope_of_each_cloud() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let body = format!(
        r#"{{ {ODD}, "model" : "alias","messages":[{{"role":"user","content":[{{"type":"odd"}}]}}], "stream": true, "farebox":{{}}}}"#
    );
    let asked = ask(DialectName::AnthropicCountTokens, &body, false);
    let put = |hosting, answer: &'static str| {
        let target = Target { hosting, ..Target::new("up-1") };
        let (exchange, request, _) = begin(&asked, DialectName::AnthropicMessages, &target);
        let (answer, facts) =
            exchange.whole(&Head::default(), Bytes::from_static(answer.as_bytes()), &stamp()).unwrap();
        assert_eq!(facts.counted, Some(7));
        (String::from_utf8(request.into_body().to_vec()).unwrap(), answer)
    };
    let raw = |answer: &'static str| Answer::Raw(Bytes::from_static(answer.as_bytes()));
    let theirs = r#"{"input_tokens": 7, "context_management": {"original_input_tokens": 9}}"#;
    let own = body.replace("\"alias\"", "\"up-1\"").replace(r#", "farebox":{}"#, "");
    assert_eq!(put(Hosting::Own, theirs), (own.clone(), raw(theirs)));
    let at_vertex = own.replace("true}", r#"true,"anthropic_version":"vertex-2023-10-16"}"#);
    assert_eq!(put(Hosting::Vertex, theirs), (at_vertex, raw(theirs)));
    let (wrapped, answer) = put(Hosting::Bedrock, r#"{"inputTokens": 7}"#);
    assert_eq!(answer, raw(r#"{"input_tokens":7}"#));
    let wrapped: Value = serde_json::from_str(&wrapped).unwrap();
    let inner = STANDARD.decode(wrapped["input"]["invokeModel"]["body"].as_str().unwrap()).unwrap();
    // As the call itself would be sent there.
    let call = body.replace(r#" "model" : "alias","#, "").replace(r#", "stream": true, "farebox":{}"#, "");
    let call = call.replace("]}]}", r#"]}],"anthropic_version":"bedrock-2023-05-31","max_tokens":4096}"#);
    assert_eq!(String::from_utf8(inner).unwrap(), call);
}

/// OpenAI's own library reads it of every answer.
#[test]
fn tokens_that_were_counted_here_are_told_where_the_provider_told_none() {
    use DialectName as D;
    let asked = ask(D::OpenAiEmbeddings, r#"{"model":"alias","input":["a","b"]}"#, false);
    let usage = |to, answer: &'static str| {
        let (exchange, ..) = begin(&asked, to, &Target::new("up-1"));
        let (answer, _) = exchange.whole(&Head::default(), Bytes::from_static(answer.as_bytes()), &stamp()).unwrap();
        let Answer::Raw(body) = exchange.counted(answer, 7) else { panic!("it is the caller's dialect") };
        serde_json::from_slice::<Value>(&body).unwrap()["usage"].clone()
    };
    let silent = r#"{"embeddings":[{"values":[0.5]},{"values":[1]}]}"#;
    assert_eq!(usage(D::GeminiEmbeddings, silent), json!({"prompt_tokens": 7, "total_tokens": 7}));
    // What goes through is the provider's, to the byte.
    assert_eq!(usage(D::OpenAiEmbeddings, r#"{"data":[{"embedding":[0.5]}]}"#), Value::Null);
}

/// Claude Code's tools of MCP servers bear longer names than others take.
#[test]
fn a_tool_that_its_provider_cannot_name_is_sent_under_another_name_and_comes_back_by_its_own() {
    use DialectName as D;
    let long = format!("mcp__{}__find", "catalogue_".repeat(7));
    let tool = |name: &str| json!({"name": name, "input_schema": {"type": "object"}});
    let call = |id: &str, name: &str| json!({"type": "tool_use", "id": id, "name": name, "input": {}});
    let result = |id: &str| json!({"type": "tool_result", "tool_use_id": id, "content": "done"});
    let body = json!({
        "model": "alias", "max_tokens": 9, "tools": [tool(&long), tool("plain"), tool("a.b"), tool("a_b")],
        "tool_choice": {"type": "tool", "name": long},
        "messages": [
            {"role": "user", "content": "Go."},
            {"role": "assistant", "content": [call("c1", &long), call("c2", "a.b"), call("c3", "gone/by")]},
            {"role": "user", "content": [result("c1"), result("c2"), result("c3")]},
        ],
    });
    let short = &long[long.len() - 64..];
    for to in [D::OpenAiChat, D::OpenAiResponses, D::Gemini, D::BedrockConverse] {
        let asked = ask(D::AnthropicMessages, &body.to_string(), false);
        let (_, request, _) = begin(&asked, to, &Target::new("up-1"));
        let sent = String::from_utf8(request.into_body().to_vec()).unwrap();
        assert!(!sent.contains(&long) && !sent.contains("\"a.b\"") && !sent.contains("gone/by"), "{to}: {sent}");
        // The tool, the choice, and the earlier call.
        assert_eq!(sent.matches(&format!("\"{short}\"")).count(), 3 + usize::from(to == D::Gemini), "{to}: {sent}");
        for name in ["plain", "a_b", "a_b_2", "gone_by"] {
            assert!(sent.contains(&format!("\"{name}\"")), "{to}: {name}: {sent}");
        }
    }
    let made = |index: usize, name: &str| json!({"index": index, "id": format!("c{index}"), "type": "function", "function": {"name": name, "arguments": "{}"}});
    let calls = json!([made(0, short), made(1, "a_b_2"), made(2, "a_b")]);
    let names =
        |blocks: &[Value]| blocks.iter().map(|block| block["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let own = [long.as_str(), "a.b", "a_b"];
    let asked = ask(D::AnthropicMessages, &body.to_string(), false);
    let (exchange, ..) = begin(&asked, D::OpenAiChat, &Target::new("up-1"));
    let whole = json!({"id": "x", "model": "m", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": null, "tool_calls": calls}, "finish_reason": "tool_calls"},
    ]});
    let (answer, _) = exchange.whole(&Head::default(), Bytes::from(whole.to_string()), &stamp()).unwrap();
    let Answer::Raw(answer) = answer else { panic!("it is the caller's dialect") };
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(names(answer["content"].as_array().unwrap()), own);

    let asked = ask(D::AnthropicMessages, &body.to_string(), true);
    let (exchange, ..) = begin(&asked, D::OpenAiChat, &Target::new("up-1"));
    let chunk = |delta: Value, finish: Option<&str>| {
        format!(
            "data: {}\n\n",
            json!({"id": "x", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        )
    };
    let bytes = format!(
        "{}{}data: [DONE]\n\n",
        chunk(json!({"tool_calls": calls}), None),
        chunk(json!({}), Some("tool_calls"))
    );
    let mut relay = exchange.stream(&StreamLimits::default(), &stamp()).unwrap();
    let mut pieces = Vec::new();
    relay.feed(bytes.as_bytes(), &mut pieces).unwrap();
    assert_eq!(relay.finish(&mut pieces), Ok(Ending::Complete));
    let starts = pieces.iter().filter_map(|piece| match piece {
        Piece::Raw(raw) => serde_json::from_slice::<Value>(raw).ok().map(|event| event["content_block"].clone()),
        Piece::Delta(_) => None,
    });
    assert_eq!(names(&starts.filter(|block| block["type"] == "tool_use").collect::<Vec<_>>()), own);
}

#[test]
fn what_is_said_beside_a_body_is_heard_by_the_dialects_own_company_and_mapped_for_clouds() {
    use DialectName as D;
    const LIST: &str =
        "claude-code-20250219, context-1m-2025-08-07,advanced-tool-use-2025-11-20,not-invented-yet-2031-01-01";
    let said = [("anthropic-beta", LIST), ("anthropic-version", "2026-10-21"), ("x-api-key", "secret")];
    let body = r#"{"model":"alias","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
    let sent = |caller: D, to: D, target: &Target| {
        let beside = Beside::new(caller, said, "beta=true&key=secret");
        let asked = Asked::raw_beside(caller, Bytes::copy_from_slice(body.as_bytes()), beside, false).unwrap();
        let (_, request, warnings) = begin(&asked, to, target);
        assert_eq!(warnings, [""; 0], "{to}");
        let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        let version = header("anthropic-version");
        (request.uri().to_string(), header("anthropic-beta"), version, body["anthropic_beta"].clone())
    };
    let own = Some(LIST.to_owned());
    let version = Some("2026-10-21".to_owned());
    let at = |path: &str| path.to_owned();
    for (caller, path) in [
        (D::AnthropicMessages, "/v1/messages?beta=true"),
        (D::AnthropicCountTokens, "/v1/messages/count_tokens?beta=true"),
    ] {
        let expected = (at(path), own.clone(), version.clone(), Value::Null);
        assert_eq!(sent(caller, D::AnthropicMessages, &Target::new("up-1")), expected);
    }
    let hosted = |hosting| Target { hosting, ..Target::new("up-1") };
    let known = ["context-1m-2025-08-07", "tool-search-tool-2025-10-19"];
    assert_eq!(
        sent(D::AnthropicMessages, D::AnthropicMessages, &hosted(Hosting::Vertex)),
        (at("/publishers/anthropic/models/up-1:rawPredict"), Some(known.join(",")), None, Value::Null)
    );
    assert_eq!(
        sent(D::AnthropicMessages, D::AnthropicMessages, &hosted(Hosting::Bedrock)),
        (at("/model/up-1/invoke"), None, None, json!(known))
    );
    for to in [D::OpenAiChat, D::Gemini, D::BedrockConverse] {
        let (uri, betas, version, member) = sent(D::AnthropicMessages, to, &Target::new("up-1"));
        assert!(!uri.contains("beta=true"), "{uri}");
        assert_eq!((betas, version, member), (None, None, Value::Null), "{to}");
    }
}

/// What a call that was clamped to so many tokens is sent as, and what its caller is told.
fn clamped(caller: DialectName, to: DialectName, target: &Target, body: &str, clamp: u64) -> (String, Vec<String>) {
    let asked = ask(caller, body, false);
    let defaults = Defaults { max_output_tokens: Some(4000), clamp: Some(clamp), ..Defaults::default() };
    let (_, request, warnings) =
        Exchange::begin(&asked, provider_dialect(to).unwrap(), target.clone(), defaults).unwrap();
    let body = String::from_utf8(request.into_body().to_vec()).unwrap();
    (body, warnings.into_iter().map(|warning| warning.0).collect())
}

#[test]
fn a_clamped_body_differs_in_its_output_limit_alone() {
    use DialectName as D;
    let chat = r#""messages": [ {"role":"user","content":"h\u0069"} ]"#;
    let (responses, completions) = (r#""input" : "h\u0069""#, r#""prompt" : "h\u0069""#);
    for (dialect, content, given, sent) in [
        (D::OpenAiChat, chat, r#""max_tokens" : 1000"#, r#""max_tokens" : 300"#),
        (D::OpenAiChat, chat, r#""max_completion_tokens":1000"#, r#""max_completion_tokens":300"#),
        (
            D::OpenAiChat,
            chat,
            r#""max_completion_tokens":1000, "max_tokens":1000"#,
            r#""max_completion_tokens":300, "max_tokens":300"#,
        ),
        (
            D::OpenAiChat,
            chat,
            r#""max_completion_tokens":1000, "max_tokens":null"#,
            r#""max_completion_tokens":300, "max_tokens":null"#,
        ),
        // What is less than that stays.
        (D::OpenAiChat, chat, r#""max_tokens":299"#, r#""max_tokens":299"#),
        (D::OpenAiChat, chat, r#""max\u005ftokens":1000"#, r#""max\u005ftokens":300"#),
        (D::OpenAiChat, chat, r#""y":0"#, r#""y":0,"max_completion_tokens":300"#),
        (D::OpenAiResponses, responses, r#""max_output_tokens":1000"#, r#""max_output_tokens":300"#),
        (D::OpenAiResponses, responses, r#""max_output_tokens":null"#, r#""max_output_tokens":300"#),
        (D::OpenAiResponses, responses, r#""y":0"#, r#""y":0,"max_output_tokens":300"#),
        (D::OpenAiCompletions, completions, r#""max_tokens":1000"#, r#""max_tokens":300"#),
        (D::OpenAiCompletions, completions, r#""y":0"#, r#""y":0,"max_tokens":300"#),
        (D::AnthropicMessages, chat, r#""max_tokens":1000"#, r#""max_tokens":300"#),
        (D::AnthropicMessages, chat, r#""max_tokens":300"#, r#""max_tokens":300"#),
    ] {
        let of = |limits: &str| format!("  {{ {ODD}, \"model\" : \"up-1\",{content},{limits} }}\n");
        let (body, warnings) = clamped(dialect, dialect, &Target::new("up-1"), &of(given), 300);
        assert_eq!((body.as_str(), warnings), (of(sent).as_str(), vec![]), "{dialect} {given}");
        // Clamped once is clamped: the same again changes nothing.
        assert_eq!(clamped(dialect, dialect, &Target::new("up-1"), &body, 300).0, body);
    }
    let old = Target { quirks: vec![Quirk::MaxTokens], ..Target::new("up-1") };
    let body = r#"{"model":"up-1","messages":[{"role":"user","content":"hi"}],"max_completion_tokens":1000}"#;
    let (body, _) = clamped(D::OpenAiChat, D::OpenAiChat, &old, body, 300);
    assert_eq!(body, r#"{"model":"up-1","messages":[{"role":"user","content":"hi"}],"max_tokens":300}"#);
}

#[test]
fn a_clamped_call_is_translated_with_the_lower_limit() {
    use DialectName as D;
    for (to, place) in [
        (D::AnthropicMessages, "/max_tokens"),
        (D::OpenAiResponses, "/max_output_tokens"),
        (D::Gemini, "/generationConfig/maxOutputTokens"),
        (D::BedrockConverse, "/inferenceConfig/maxTokens"),
        (D::CohereChat, "/max_tokens"),
        (D::OllamaChat, "/options/num_predict"),
    ] {
        for (limit, sent) in [(r#","max_tokens":1000"#, 300), ("", 300), (r#","max_tokens":7"#, 7)] {
            let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}]{limit}}}"#);
            let (body, _) = clamped(D::OpenAiChat, to, &Target::new("up-1"), &body, 300);
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body.pointer(place), Some(&json!(sent)), "{to} {limit}");
        }
    }
}

#[test]
fn a_clamped_budget_for_thinking_stays_below_the_limit() {
    let dialect = DialectName::AnthropicMessages;
    let of = |limit: u64, thinking: &str| {
        format!(
            r#"{{"model":"up-1","max_tokens":{limit},"thinking": {thinking},"messages":[{{"role":"user","content":"hi"}}]}}"#
        )
    };
    let given = r#"{ "type":"enabled","budget_tokens" : 5000}"#;
    for (clamp, thinking, told) in [
        (2000, r#"{ "type":"enabled","budget_tokens" : 1999}"#, "the budget for thinking was lowered to 1999 tokens"),
        (1024, r#"{"type":"disabled"}"#, "thinking was switched off"),
        (5001, given, ""),
    ] {
        let (body, warnings) = clamped(dialect, dialect, &Target::new("up-1"), &of(8000, given), clamp);
        assert_eq!(body, of(clamp, thinking));
        assert_eq!(warnings.len(), usize::from(!told.is_empty()), "{warnings:?}");
        assert!(warnings.iter().all(|warning| warning.starts_with(told)), "{warnings:?}");
        // Translated, it is the same.
        let emulating = Target { quirks: vec![Quirk::JsonByTool], ..Target::new("up-1") };
        let (body, _) = clamped(dialect, dialect, &emulating, &of(8000, given), clamp);
        let thinking: Value = serde_json::from_str(thinking).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["thinking"], thinking);
    }
}

#[test]
fn a_stream_is_asked_for_in_the_dialects_own_words() {
    use DialectName as D;
    let chat = r#"{"model":"a","messages":[{"role":"user","content":"hi"}],"stream" : true}"#;
    let asked_for =
        chat.replace("\"a\"", "\"up-1\"").replace("true}", r#"true,"stream_options":{"include_usage":true}}"#);
    assert_eq!(through(D::OpenAiChat, chat, true), asked_for);
    // A job is not streamed, whatever its body says.
    let whole = chat.replace("\"a\"", "\"up-1\"").replace("true}", "false}");
    assert_eq!(through(D::OpenAiChat, chat, false), whole);
    let claude = r#"{"model":"a","max_tokens":5,"messages":[{"role":"user","content":"hi"}],"stream":true}"#;
    assert_eq!(through(D::AnthropicMessages, claude, true), claude.replace("\"a\"", "\"up-1\""));
    let responses = r#"{"model":"a","input":"hi","stream":true}"#;
    assert_eq!(through(D::OpenAiResponses, responses, true), responses.replace("\"a\"", "\"up-1\""));
}

/// The provider reads the answer again that it keeps; what that costs is the guard's to decide.
#[test]
fn an_answer_that_a_provider_keeps_can_be_followed_there() {
    let responses = r#"{"model":"a","input":"and now?","previous_response_id":"resp_1","store":true}"#;
    let sent = through(DialectName::OpenAiResponses, responses, false);
    assert_eq!(sent, responses.replace("\"a\"", "\"up-1\""));
}

#[test]
fn usage_is_asked_for_upstream_and_shown_to_who_asked_for_it() {
    let tape = tape("openai-chat/text-s");
    let text = String::from_utf8(tape.body.clone()).unwrap();
    let is_usage = |data: &str| data.contains("\"choices\":[]");
    let all: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|d| *d != "[DONE]").collect();
    assert_eq!(all.iter().filter(|data| is_usage(data)).count(), 1);
    for (options, is_shown) in [
        ("", false),
        (r#","stream_options":{}"#, false),
        (r#","stream_options":{"include_usage":false}"#, false),
        (r#","stream_options":{"include_usage":true}"#, true),
    ] {
        let body = format!(r#"{{"model":"a","messages":[{{"role":"user","content":"hi"}}],"stream":true{options}}}"#);
        let asked = ask(tape.dialect, &body, true);
        let (exchange, request, _) = begin(&asked, tape.dialect, &Target::new("up-1"));
        let sent: Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(sent["stream_options"], json!({"include_usage": true}), "{options}");
        let (pieces, _) = relayed(&exchange, &tape.body, tape.body.len());
        let shown: Vec<&str> = all.iter().copied().filter(|data| is_shown || !is_usage(data)).collect();
        assert_eq!(pieces, shown, "{options}");
        let mut relay = exchange.stream(&StreamLimits::default(), &stamp()).unwrap();
        relay.feed(&tape.body, &mut Vec::new()).unwrap();
        assert!(relay.facts().usage.is_reported(), "{options}");
    }
}

fn small(dialect: DialectName) -> &'static str {
    match dialect {
        DialectName::OpenAiResponses => r#"{"model":"alias","input":"hi"}"#,
        DialectName::OpenAiCompletions => r#"{"model":"alias","prompt":"hi"}"#,
        _ => r#"{"model":"alias","max_tokens":100,"messages":[{"role":"user","content":"hi"}]}"#,
    }
}

#[test]
fn an_answer_of_the_callers_own_dialect_keeps_its_bytes() {
    for name in
        ["openai-chat/tools", "anthropic-messages/thinking-tools", "openai-responses/text", "openai-completions/text"]
    {
        let tape = tape(name);
        let asked = ask(tape.dialect, small(tape.dialect), false);
        let (exchange, ..) = begin(&asked, tape.dialect, &Target::new("up-1"));
        let (answer, facts) = exchange.whole(&tape.head, Bytes::from(tape.body.clone()), &stamp()).unwrap();
        assert_eq!(answer, Answer::Raw(Bytes::from(tape.body)), "{name}");
        assert!(facts.usage.is_reported() && facts.written.is_empty(), "{name}");
    }
}

/// All pieces of a stream fed in bits of this size.
fn relayed(exchange: &Exchange<'_>, body: &[u8], size: usize) -> (Vec<Bytes>, Answer) {
    let mut relay = exchange.stream(&StreamLimits::default(), &stamp()).unwrap();
    let mut pieces = Vec::new();
    body.chunks(size).for_each(|bytes| relay.feed(bytes, &mut pieces).unwrap());
    assert_eq!(relay.finish(&mut pieces).unwrap(), Ending::Complete);
    let raw = |piece| if let Piece::Raw(bytes) = piece { bytes } else { panic!("{piece:?}") };
    (pieces.into_iter().map(raw).collect(), relay.into_answer())
}

#[test]
fn a_streams_frames_go_through_as_they_are() {
    for name in ["anthropic-messages/thinking-tools-s", "openai-responses/text-s", "openai-completions/text-s"] {
        let tape = tape(name);
        let asked = ask(tape.dialect, small(tape.dialect), true);
        let (exchange, ..) = begin(&asked, tape.dialect, &Target::new("up-1"));
        let text = String::from_utf8(tape.body.clone()).unwrap();
        // Neither the mark of the end nor usage that the caller did not ask for.
        let shown = |data: &&str| *data != "[DONE]" && !data.contains("\"choices\":[]");
        let sent: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(shown).collect();
        for size in [1, 7, tape.body.len()] {
            let (pieces, _) = relayed(&exchange, &tape.body, size);
            assert_eq!(pieces, sent, "{name} in pieces of {size}");
        }
    }
}

#[test]
fn json_is_emulated_where_a_model_has_no_mode_for_it_and_the_caller_is_told() {
    let body = json!({
        "model": "alias", "max_tokens": 100, "messages": [{"role": "user", "content": "a pier, as JSON"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "pier", "schema": {
            "type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"],
        }}},
    });
    let asked = ask(DialectName::OpenAiChat, &body.to_string(), false);
    let target = Target { quirks: vec![Quirk::JsonByTool], ..Target::new("claude-old") };
    let (exchange, request, warnings) = begin(&asked, DialectName::AnthropicMessages, &target);
    assert!(warnings.iter().any(|said| said.contains("emulated")), "{warnings:?}");
    let sent: Value = serde_json::from_slice(request.body()).unwrap();
    let tool = sent["tools"][0]["name"].as_str().unwrap();
    assert_eq!(sent["tool_choice"], json!({"type": "tool", "name": tool}));
    let answered = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-old", "stop_reason": "tool_use",
        "content": [{"type": "tool_use", "id": "toolu_1", "name": tool, "input": {"name": "North"}}],
        "usage": {"input_tokens": 20, "output_tokens": 9},
    });
    let (answer, facts) = exchange.whole(&Head::default(), answered.to_string().into(), &stamp()).unwrap();
    let Answer::Raw(bytes) = answer else { panic!("{answer:?}") };
    let said: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(said["choices"][0]["message"]["content"], "{\"name\":\"North\"}");
    assert_eq!(said["choices"][0]["finish_reason"], "stop");
    assert_eq!(said["choices"][0]["message"].get("tool_calls"), None);
    assert_eq!((facts.usage.input, facts.usage.output), (Some(20), Some(9)));
}

#[test]
fn what_a_model_does_not_take_is_left_out_and_said_or_refused() {
    let body = r#"{"model":"alias","messages":[{"role":"user","content":"hi"}],"temperature":0.5,"seed":1}"#;
    let asked = ask(DialectName::OpenAiChat, body, false);
    let mut target = Target { quirks: vec![Quirk::NoSampling], ..Target::new("o9") };
    let (_, request, warnings) = begin(&asked, DialectName::OpenAiChat, &target);
    assert_eq!(warnings, ["`temperature` was left out: o9 does not take it"]);
    assert_eq!(request.body(), &body.replace("alias", "o9").replace(",\"temperature\":0.5", ""));
    let responses = r#"{"model":"alias","input":"hi","temperature":0.5}"#;
    let asked_otherwise = ask(DialectName::OpenAiResponses, responses, false);
    let (_, request, warnings) = begin(&asked_otherwise, DialectName::OpenAiResponses, &target);
    assert_eq!(warnings, ["`temperature` was left out: o9 does not take it"]);
    assert_eq!(request.body(), r#"{"model":"o9","input":"hi"}"#);
    target.unsupported = OnUnsupported::Refuse;
    let provider = provider_dialect(DialectName::OpenAiChat).unwrap();
    let refused = Exchange::begin(&asked, provider, target, Defaults::default()).map(|_| ()).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unsupported);
    assert!(refused.message.contains("`temperature`"), "{}", refused.message);
}

#[test]
fn an_answer_that_broke_off_is_billed_by_what_it_says() {
    let tape = tape("openai-responses/failed");
    let asked = ask(tape.dialect, small(tape.dialect), false);
    let (exchange, ..) = begin(&asked, tape.dialect, &Target::new("up-1"));
    let mut body: Value = serde_json::from_slice(&tape.body).unwrap();
    body["usage"] = json!({"input_tokens": 7, "output_tokens": 3, "total_tokens": 10});
    let error = exchange.whole(&tape.head, body.to_string().into(), &stamp()).unwrap_err();
    let DecodeError::BrokenOff { usage, .. } = error else { panic!("{error:?}") };
    assert_eq!((usage.input, usage.output), (Some(7), Some(3)));
}

#[test]
fn what_a_provider_cannot_do_is_said_and_nothing_is_sent() {
    let refused = |caller, body: &str, to| {
        let asked = ask(caller, body, false);
        let begun = Exchange::begin(&asked, provider_dialect(to).unwrap(), Target::new("m"), Defaults::default());
        begun.map(|_| ()).unwrap_err()
    };
    use DialectName as D;
    let embed = r#"{"model":"m","input":"hi"}"#;
    assert_eq!(refused(D::OpenAiEmbeddings, embed, D::AnthropicMessages).kind, ErrorKind::Unsupported);
    let count = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
    assert_eq!(refused(D::AnthropicCountTokens, count, D::OpenAiChat).kind, ErrorKind::Unsupported);
    assert!(Asked::raw(D::Gemini, Bytes::from_static(b"{}"), false).is_err());
}
