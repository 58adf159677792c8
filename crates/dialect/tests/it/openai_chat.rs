//! Chat completions of the servers that are compatible with OpenAI, each with its own ways.

use std::time::Duration;

use farebox_dialect::{
    Call, Citation, Collector, Completion, Content, DecodeError, Defaults, Delta, DialectName, Ending, Event,
    FinishReason, Head, Media, Part, Passing, Quirk, Reasoning, Role, Source, Stamp, StreamLimits, Target, ToolCall,
    rewrite, sse,
};
use farebox_types::{ErrorKind, Usage};
use serde_json::{Value, json};

use crate::{encode::parse, laws::run, tape::tape};

const NAME: DialectName = DialectName::OpenAiChat;

fn collect(events: &[Event]) -> Completion {
    let mut collector = Collector::new();
    events.iter().for_each(|event| collector.push(event));
    collector.into_completion()
}

fn decode(name: &str) -> Completion {
    let tape = tape(&format!("openai-chat/{name}"));
    if !tape.streamed {
        return crate::provider(NAME).decode(&tape.head, &tape.body).unwrap();
    }
    let (events, fed, ending) = run(NAME, [tape.body.as_slice()]);
    assert_eq!((fed, ending), (Ok(()), Ok(Ending::Complete)), "{name}");
    collect(&events)
}

fn contents(done: &Completion) -> Vec<Content> {
    done.choices[0].parts.iter().map(|part| part.content.clone()).collect()
}

fn thought(text: &str) -> Reasoning {
    Reasoning { text: text.into(), ..Reasoning::default() }
}

fn call(id: &str, name: &str, arguments: &str) -> Content {
    Content::ToolCall(ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() })
}

fn cost(done: &Completion) -> Option<String> {
    done.reported_cost.map(|cost| cost.to_string())
}

fn usage(input: u64, output: u64) -> Usage {
    Usage { input: Some(input), output: Some(output), ..Usage::default() }
}

#[test]
fn openrouter_streams_proofs_sources_images_and_costs() {
    let done = decode("openrouter-s");
    let origin = Some(DialectName::AnthropicMessages);
    let signed = Reasoning { signature: Some("c2lnLW9y".into()), origin, ..thought("Read the table.") };
    let said = [
        Content::Text(String::new()),
        Content::Reasoning(signed),
        Content::Text("High water at six.".into()),
        Content::Image(Media::from(Source::Base64 { media_type: "image/png".into(), data: "iVBORw0=".into() })),
    ];
    assert_eq!(contents(&done), said);
    let source = &done.choices[0].parts[0].citations[0];
    assert_eq!(
        (source.url.as_deref(), source.title.as_deref()),
        (Some("https://tide.invalid/oban"), Some("Tides at Oban"))
    );
    assert_eq!((source.quote.as_deref(), source.start), (Some("High water at six."), None));
    assert_eq!((done.finish(), cost(&done).as_deref()), (Some(&FinishReason::Stop), Some("0.000669")));
    let expected = Usage {
        cache_read: Some(10),
        cache_write_5m: Some(12),
        audio_input: Some(0),
        reasoning: Some(13),
        image_output: Some(0),
        searches: Some(1),
        ..usage(21, 23)
    };
    assert_eq!((done.usage, done.usage.total()), (expected, 79));
}

#[test]
fn openrouter_whole() {
    let done = decode("openrouter");
    let encrypted = Reasoning {
        encrypted: Some("ZW5jLW9y".into()),
        id: Some("rs_tape1".into()),
        origin: Some(DialectName::OpenAiResponses),
        ..thought("Count the boats.")
    };
    let unknown = Reasoning { signature: Some("c2ln".into()), ..thought("A second look.") };
    let boats = Media::from(Source::Url("https://img.invalid/boats.png".into()));
    assert_eq!(
        contents(&done),
        [
            Content::Reasoning(encrypted),
            Content::Reasoning(unknown),
            Content::Text("Two boats are in.".into()),
            Content::Image(boats)
        ]
    );
    let citations = &done.choices[0].parts[2].citations;
    assert_eq!((citations[0].start, citations[0].end), (Some(4), Some(9)));
    assert!(citations[1].raw.as_ref().unwrap().1.as_str().contains("1.1"), "{citations:?}");
    // The key of the model's own provider is the account's: both bills count.
    assert_eq!(cost(&done).as_deref(), Some("0.00445825"));
    assert_eq!((done.usage.reasoning, done.usage.image_output, done.usage.total()), (Some(40), Some(11), 77));
}

#[test]
fn mistral_thinks_in_typed_pieces() {
    let done = decode("mistral-s");
    let said = [
        Content::Reasoning(thought("Which pier? North.")),
        Content::Text("Let me look.".into()),
        call("qT1", "pier_status", "{\"pier\": \"North\"}"),
        call("qT2", "now", "{\"zone\":1.1}"),
    ];
    assert_eq!((contents(&done), done.usage.total()), (said.to_vec(), 139));
    assert_eq!(done.usage.cache_read, Some(64));
}

#[test]
fn groq_and_deepseek_say_usage_in_their_own_places() {
    let done = decode("groq-s");
    assert_eq!(contents(&done), [Content::Reasoning(thought("Search")), Content::Text("Fog.".into())]);
    assert_eq!(done.usage, usage(50, 35));
    let done = decode("deepseek-s");
    assert_eq!(contents(&done), [Content::Reasoning(thought("Three r's.")), Content::Text("Three.".into())]);
    assert_eq!(done.usage, Usage { cache_read: Some(8), reasoning: Some(205), ..usage(10, 14) });
}

/// Nothing but the quirk tells a stream that has no `[DONE]` from one that was cut off.
#[test]
fn perplexity_ends_without_done() {
    let tape = tape("openai-chat/perplexity-no-done-s");
    let run = |target: &Target, body: &[u8]| {
        let mut decoder = crate::provider(NAME).decoder(target, &StreamLimits::default());
        let mut events = Vec::new();
        decoder.feed(body, &mut events).unwrap();
        let ending = decoder.finish(&mut events);
        (events, ending)
    };
    let no_done = Target { quirks: vec![Quirk::NoDone], ..Target::new("m") };
    let (events, ending) = run(&no_done, &tape.body);
    assert_eq!(ending, Ok(Ending::Complete));
    let done = collect(&events);
    assert_eq!((done.text().as_str(), done.usage), ("Fog lifts at noon.[1]", usage(10, 3)));
    assert_eq!(cost(&done).as_deref(), Some("0.005013"));
    let sources: Vec<_> =
        done.choices[0].parts[0].citations.iter().map(|c| (c.url.as_deref(), c.quote.as_deref())).collect();
    assert_eq!(sources, [(Some("https://a.invalid"), Some("All about a.")), (Some("https://b.invalid"), None)]);

    assert_eq!(run(&Target::new("m"), &tape.body).1.unwrap_err().missing, "`[DONE]`");
    let last = tape.body.windows(5).rposition(|window| window == b"data:").unwrap();
    for cut in 0..tape.body.len() {
        let (events, ending) = run(&no_done, &tape.body[..cut]);
        assert!(ending.is_err() || cut > last, "cut at {cut}");
        assert!(ending.is_ok() || !events.iter().any(|event| matches!(event, Event::Finish { .. })), "cut at {cut}");
    }
}

#[test]
fn perplexity_whole() {
    let done = decode("perplexity");
    let expected = Usage { reasoning: Some(953), searches: Some(4), ..usage(1036, 498) };
    assert_eq!((done.usage, cost(&done).as_deref()), (expected, Some("0.4")));
    let source = Citation { url: Some("https://a.invalid".into()), ..Citation::default() };
    assert_eq!(done.choices[0].parts[0].citations, [source]);
}

#[test]
fn gemini_signs_calls_and_text() {
    let parts = |name: &str| decode(name).choices[0].parts.clone();
    let signed = |content: Content, signature: &str| Part { signature: Some(signature.into()), ..Part::from(content) };
    assert_eq!(
        parts("gemini-tools-s"),
        [
            signed(call("call_g1", "ferry_times", "{\"harbour\":\"Oban\"}"), "c2lnLWcx"),
            Part::from(call("call_g2", "now", "{}")),
        ]
    );
    assert_eq!(parts("gemini-text-s"), [signed(Content::Text("Noon.".into()), "c2lnLXR4dA==")]);
    // Calls without ids are given some: results must name them.
    assert_eq!(
        parts("gemini-tools"),
        [signed(call("call_gen-tape_1", "now", "{}"), "c2lnLWcz"), Part::from(call("call_gen-tape_2", "tide", "{}")),]
    );
    assert_eq!(decode("gemini-tools").usage, Usage { reasoning: Some(62), ..usage(35, 12) });
}

#[test]
fn legacy_function_calls_are_tool_calls() {
    for name in ["function-call", "function-call-s"] {
        let done = decode(name);
        assert_eq!(contents(&done), [call("call_gen-tape_1", "tide", "{\"n\": 1.10}")], "{name}");
        assert_eq!(done.finish(), Some(&FinishReason::ToolCalls));
    }
}

#[test]
fn finish_reasons_of_compatible_servers() {
    for (word, expected) in [
        ("eos", FinishReason::Stop),
        ("model_length", FinishReason::Length),
        ("sensitive", FinishReason::ContentFilter),
        ("insufficient_system_resource", FinishReason::Other("insufficient_system_resource".into())),
    ] {
        let body = json!({"choices": [{"message": {"content": "x"}, "finish_reason": word}]});
        let done = crate::provider(NAME).decode(&Head::default(), body.to_string().as_bytes()).unwrap();
        assert_eq!(done.finish(), Some(&expected));
    }
}

#[test]
fn errors_in_every_form() {
    for (name, kind, code, message) in [
        (
            "error-detail-422",
            ErrorKind::BadRequest,
            None,
            "messages.0.role: Field required; seed: Extra inputs are not permitted",
        ),
        ("error-flat-429", ErrorKind::RateLimited, Some("rate_limited"), "Requests rate limit exceeded"),
        ("error-list-400", ErrorKind::BadRequest, Some("INVALID_ARGUMENT"), "Tools are of no use here."),
        ("error-sentence-404", ErrorKind::NotFound, Some("not-found"), "The model is not on this pier."),
        ("error-sentences-503", ErrorKind::Upstream, None, "The model is loading; Come back later"),
        ("error-message-402", ErrorKind::Upstream, Some("invalid_request_error"), "Insufficient Balance"),
    ] {
        let tape = tape(&format!("openai-chat/{name}"));
        let refusal = crate::provider(NAME).decode_error(&tape.head, &tape.body);
        assert_eq!((refusal.kind, refusal.code.as_deref(), refusal.message.as_str()), (kind, code, message), "{name}");
        assert_eq!(refusal.retry_after, None::<Duration>);
    }
}

#[test]
fn errors_in_the_place_of_an_answer() {
    let tape_of = |name: &str| tape(&format!("openai-chat/{name}"));
    for (name, kind) in [("error-in-choice-s", ErrorKind::Upstream), ("error-flat-in-stream-s", ErrorKind::Upstream)] {
        let tape = tape_of(name);
        let (events, _, ending) = run(NAME, [tape.body.as_slice()]);
        let Ok(Ending::Refused(refusal)) = ending else { panic!("{name}: {ending:?}") };
        assert_eq!((refusal.kind, events.last()), (kind, Some(&Event::Error(refusal.clone()))), "{name}");
        let mut decoder = crate::provider(NAME).decoder(&Target::new("m"), &StreamLimits::default());
        let mut passed = 0;
        decoder.watch(&tape.body, &mut Vec::new(), &mut |_| passed += 1).unwrap();
        assert_eq!(passed, 1, "{name}: an error is never handed on as a chunk");
    }
    let tape = tape_of("error-in-choice");
    let error = crate::provider(NAME).decode(&tape.head, &tape.body).unwrap_err();
    let DecodeError::Refused(refusal) = error else { panic!("{error:?}") };
    assert_eq!((refusal.kind, refusal.message.as_str()), (ErrorKind::RateLimited, "Too many boats."));
    let flat = br#"{"object":"error","message":"no","type":"BadRequestError","code":400}"#;
    let error = crate::provider(NAME).decode(&Head::default(), flat).unwrap_err();
    assert!(matches!(error, DecodeError::Refused(refusal) if refusal.kind == ErrorKind::BadRequest));
}

/// What a caller of this dialect is told is what the provider said, proofs and sources included.
#[test]
fn rendering_loses_nothing_that_has_a_word() {
    let stamp = Stamp { id: "gen-tape".into(), created: 1_760_000_010, model: None };
    for name in ["openrouter", "gemini-tools", "function-call"] {
        let given = Completion { extra: Default::default(), reported_cost: None, ..decode(name) };
        let written = crate::caller(NAME).render(&Call::default(), &given, &stamp);
        let again = crate::provider(NAME).decode(&Head::default(), &written).unwrap();
        assert_eq!(again, given, "{name}");
    }
    for name in ["openrouter-s", "mistral-s", "gemini-tools-s", "gemini-text-s", "deepseek-s"] {
        let tape = tape(&format!("openai-chat/{name}"));
        let (events, _, _) = run(NAME, [tape.body.as_slice()]);
        let call = Call { include_usage: true, ..Call::default() };
        let mut renderer = crate::caller(NAME).renderer(&call, &stamp);
        let mut chunks = Vec::new();
        events.iter().for_each(|event| renderer.encode(event, &mut chunks));
        renderer.finish(&mut chunks);
        let mut framed: Vec<u8> = chunks.iter().flat_map(|chunk| sse::frame(chunk)).collect();
        framed.extend_from_slice(sse::DONE);
        let (again, _, ending) = run(NAME, [framed.as_slice()]);
        assert_eq!(ending, Ok(Ending::Complete), "{name}");
        assert_eq!(collect(&again).choices, collect(&events).choices, "{name}");
    }
}

/// Signed thinking goes to a caller of this dialect, comes back with its next request, and is whole.
#[test]
fn proofs_survive_the_turns() {
    let origins = [
        DialectName::AnthropicMessages,
        DialectName::OpenAiResponses,
        DialectName::Gemini,
        DialectName::BedrockConverse,
    ];
    let stamp = Stamp { id: "a".into(), created: 1, model: None };
    for origin in origins {
        let mut signed = Part::from(call("c1", "now", "{}"));
        signed.signature = Some("c2lnLWNhbGw=".into());
        let given = vec![
            Part::from(Content::Reasoning(Reasoning {
                signature: Some("c2ln".into()),
                origin: Some(origin),
                ..thought("First.")
            })),
            Part::from(Content::Reasoning(Reasoning {
                encrypted: Some("ZW5j".into()),
                id: Some("rs_1".into()),
                origin: Some(origin),
                ..Reasoning::default()
            })),
            Part::text("So."),
            signed,
        ];
        let choice = farebox_dialect::Choice { parts: given.clone(), ..Default::default() };
        let answer = Completion { choices: vec![choice], ..Completion::default() };
        let written = crate::caller(NAME).render(&Call::default(), &answer, &stamp);
        let message = serde_json::from_slice::<Value>(&written).unwrap()["choices"][0]["message"].clone();
        assert_eq!(parse(&json!({"messages": [message]})).messages[0].parts, given, "{origin}");
    }
}

fn rich() -> Value {
    json!({
        "model": "alias", "stream": true, "max_completion_tokens": 800, "temperature": 0.3, "top_p": 0.9,
        "presence_penalty": 0.5, "reasoning_effort": "medium", "logit_bias": {"1": 2}, "prediction": {"type": "content", "content": "x"},
        "modalities": ["text"],
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]},
            {"role": "user", "content": "Which ferry?"},
            {"role": "assistant", "content": "Let me look.", "reasoning_content": "Oban first.",
             "reasoning_details": [{"type": "reasoning.text", "text": "Oban first.", "signature": "c2ln", "format": "anthropic-claude-v1", "index": 0}],
             "images": [{"type": "image_url", "image_url": {"url": "https://img.invalid/map.png"}}],
             "annotations": [],
             "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{\"z\": 1.10}"},
                             "extra_content": {"google": {"thought_signature": "c2lnLWc="}}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "the nine o'clock"},
            {"role": "user", "content": [
                {"type": "text", "text": "And back?", "cache_control": {"type": "ephemeral"}},
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}}]}
        ],
        "tools": [{"type": "function", "function": {"name": "look"}, "cache_control": {"type": "ephemeral"}}]
    })
}

fn with(quirks: &[Quirk]) -> Target {
    Target { quirks: quirks.to_vec(), ..Target::new("tape-1") }
}

/// One conversation as each kind of server wants it.
#[test]
fn a_rich_conversation_for_each_server() {
    let call = parse(&rich());
    for (name, quirks) in [
        ("openai", &[][..]),
        ("openrouter", &[Quirk::ReasoningObject, Quirk::AsksForCost, Quirk::CacheControl]),
        ("deepseek", &[Quirk::ThinkingSwitch, Quirk::MaxTokens, Quirk::NoDeveloper]),
        ("dashscope", &[Quirk::EnableThinking, Quirk::MaxTokens, Quirk::CacheControl, Quirk::OneSampling]),
        ("reasoner", &[Quirk::NoSampling, Quirk::NoStreamOptions]),
        ("cerebras", &[Quirk::TakesReasoning, Quirk::NoDeveloper]),
    ] {
        let encoded = crate::provider(NAME).encode(&call, &with(quirks)).unwrap();
        let body: Value = serde_json::from_slice(encoded.request.body()).unwrap();
        let warnings: Vec<String> = encoded.warnings.iter().map(ToString::to_string).collect();
        insta::assert_json_snapshot!(format!("rich_{name}"), json!({"body": body, "warnings": warnings}));
    }
}

/// The same of a body that goes through: all that is not edited stays as it is.
#[test]
fn a_rich_body_is_edited_for_each_server() {
    let given = rich();
    let call = parse(&given);
    // What is new or changed, and what is gone.
    let edited = |quirks: &[Quirk]| {
        let target = with(quirks);
        let passing = Passing { call: &call, asked_stream: true, defaults: Defaults::default(), target: &target };
        let edits = crate::provider(NAME).edits(&passing);
        let body = rewrite(&serde_json::to_vec(&given).unwrap(), &edits).unwrap();
        let mut body: serde_json::Map<String, Value> = serde_json::from_slice(&body).unwrap();
        let gone: Vec<String> =
            given.as_object().unwrap().keys().filter(|name| !body.contains_key(*name)).cloned().collect();
        body.retain(|name, value| given.get(name) != Some(value));
        (Value::Object(body), gone)
    };
    let usage = json!({"include_usage": true});
    assert_eq!(edited(&[]), (json!({"model": "tape-1", "stream_options": usage}), vec![]));
    assert_eq!(
        edited(&[Quirk::AsksForCost, Quirk::ReasoningObject]).0,
        json!({"model": "tape-1", "stream_options": usage, "usage": {"include": true}})
    );
    assert_eq!(
        edited(&[Quirk::NoStreamOptions, Quirk::MaxTokens]),
        (json!({"model": "tape-1", "max_tokens": 800}), vec!["max_completion_tokens".to_owned()])
    );
    assert_eq!(edited(&[Quirk::OneSampling]).1, ["top_p"]);
    assert_eq!(edited(&[Quirk::NoSampling]).1, ["temperature", "top_p", "presence_penalty"]);
    assert_eq!(
        edited(&[Quirk::ThinkingSwitch]),
        (
            json!({"model": "tape-1", "stream_options": usage, "thinking": {"type": "enabled"}}),
            vec!["reasoning_effort".to_owned()]
        )
    );
    assert_eq!(edited(&[Quirk::EnableThinking]).0["enable_thinking"], true);
    let (body, _) = edited(&[Quirk::NoDeveloper]);
    assert_eq!(body["messages"][0]["role"], "system");
    assert_eq!(body["messages"].as_array().unwrap().len(), 5);
}

#[test]
fn a_budget_is_said_as_the_target_can() {
    let budget = |tokens: u64, quirks: &[Quirk]| {
        let body = json!({"messages": [{"role": "user", "content": "hi"}], "reasoning": {"max_tokens": tokens}});
        let encoded = crate::provider(NAME).encode(&parse(&body), &with(quirks)).unwrap();
        let mut body: Value = serde_json::from_slice(encoded.request.body()).unwrap();
        body.as_object_mut().unwrap().retain(|name, _| name != "model" && name != "messages");
        (body, encoded.warnings.len())
    };
    for (tokens, effort) in [(0, "none"), (1024, "low"), (8000, "medium"), (32_000, "high")] {
        assert_eq!(budget(tokens, &[]), (json!({"reasoning_effort": effort}), 1), "{tokens}");
    }
    assert_eq!(budget(2000, &[Quirk::ReasoningObject]), (json!({"reasoning": {"max_tokens": 2000}}), 0));
    let enabled = json!({"enable_thinking": true, "thinking_budget": 2000});
    assert_eq!(budget(2000, &[Quirk::EnableThinking]), (enabled, 0));
    assert_eq!(budget(0, &[Quirk::EnableThinking]), (json!({"enable_thinking": false}), 0));
    assert_eq!(budget(0, &[Quirk::ThinkingSwitch]), (json!({"thinking": {"type": "disabled"}}), 0));
}

#[test]
fn members_of_another_dialect_stay_behind() {
    let mut call = parse(&json!({"messages": [{"role": "user", "content": "hi", "m": 1}], "top": 1,
        "tools": [{"type": "function", "function": {"name": "f"}, "t": 1}]}));
    call.dialect = Some(DialectName::AnthropicMessages);
    let encoded = crate::provider(NAME).encode(&call, &Target::new("m")).unwrap();
    let body = std::str::from_utf8(encoded.request.body()).unwrap();
    assert!(!["\"top\"", "\"m\":1", "\"t\":1"].iter().any(|member| body.contains(member)), "{body}");
    assert_eq!(encoded.warnings.len(), 3);
}

#[test]
fn the_proof_of_a_call_goes_to_gemini_only() {
    let call = parse(&rich());
    for (model, sent) in [("google/gemini-tape", true), ("gpt-tape", false)] {
        let encoded = crate::provider(NAME).encode(&call, &Target::new(model)).unwrap();
        let body: Value = serde_json::from_slice(encoded.request.body()).unwrap();
        let proof = &body["messages"][2]["tool_calls"][0]["extra_content"]["google"]["thought_signature"];
        assert_eq!(proof == "c2lnLWc=", sent, "{model}");
    }
}

#[test]
fn legacy_functions_are_read_as_tools() {
    let call = parse(&json!({
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": null, "function_call": {"name": "tide", "arguments": "{\"n\": 1.10}"}},
            {"role": "function", "name": "tide", "content": "low"},
            {"role": "assistant", "content": null, "function_call": {"name": "tide", "arguments": "{}"}},
            {"role": "function", "name": "tide", "content": "high"}
        ],
        "functions": [{"name": "tide", "parameters": {"type": "object"}}],
        "function_call": {"name": "tide"}
    }));
    let target = Target::new("m");
    let encoded = crate::provider(NAME).encode(&call, &target).unwrap();
    let body: Value = serde_json::from_slice(encoded.request.body()).unwrap();
    assert_eq!(
        body["tools"],
        json!([{"type": "function", "function": {"name": "tide", "parameters": {"type": "object"}}}])
    );
    assert_eq!(body["tool_choice"]["function"]["name"], "tide");
    let function = |id: &str, arguments: &str| json!([{"id": id, "type": "function", "function": {"name": "tide", "arguments": arguments}}]);
    assert_eq!(
        (&body["messages"][1]["tool_calls"], &body["messages"][3]["tool_calls"]),
        (&function("call_1", "{\"n\": 1.10}"), &function("call_2", "{}"))
    );
    assert_eq!(
        (&body["messages"][2]["tool_call_id"], &body["messages"][4]["tool_call_id"]),
        (&json!("call_1"), &json!("call_2"))
    );
    assert_eq!(call.messages[2].role, Role::Tool);
}

#[test]
fn origins_come_before_proofs() {
    let tape = tape("openai-chat/openrouter-s");
    let (events, _, _) = run(NAME, [tape.body.as_slice()]);
    let place = |wanted: fn(&Delta) -> bool| {
        events.iter().position(|event| matches!(event, Event::Delta { delta, .. } if wanted(delta))).unwrap()
    };
    let origin = place(|delta| matches!(delta, Delta::Origin { .. }));
    assert!(origin < place(|delta| matches!(delta, Delta::Reasoning(_) | Delta::Signature(_))));
}
