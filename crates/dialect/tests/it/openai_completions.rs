//! OpenAI's text completions: prompts in both directions, answers on tape and towards callers.

use farebox_dialect::{
    Call, Content, DecodeError, DialectName, Edit, Ending, FinishReason, Message, Passing, Role, Stamp, Target, sse,
};
use farebox_types::Usage;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::{
    laws::run,
    openai_responses::{collect, decode},
    tape::tape,
};

const NAME: DialectName = DialectName::OpenAiCompletions;

fn parse(body: &Value) -> Call {
    crate::caller(NAME).parse(&HeaderMap::new(), body.to_string().as_bytes()).unwrap()
}

fn encoded(call: &Call) -> (Value, Vec<String>) {
    let encoded = crate::provider(NAME).encode(call, &Target::new("babbage")).unwrap();
    let warnings = encoded.warnings.into_iter().map(|warning| warning.0).collect();
    (serde_json::from_slice(encoded.request.body()).unwrap(), warnings)
}

fn usage(input: u64, output: u64) -> Usage {
    Usage { input: Some(input), output: Some(output), ..Usage::default() }
}

#[test]
fn answers_whole_and_streamed() {
    let done = decode("openai-completions/text");
    assert_eq!((done.text().as_str(), done.finish()), (" stands on one leg.", Some(&FinishReason::Stop)));
    assert_eq!((done.usage, done.created), (usage(6, 5), Some(1_760_000_201)));

    let done = decode("openai-completions/text-s");
    assert_eq!((done.text().as_str(), done.finish()), (" stands on käľt leg.", Some(&FinishReason::Length)));
    assert_eq!(done.usage, usage(6, 5));

    let done = decode("openai-completions/no-usage-s");
    assert_eq!((done.text().as_str(), done.usage.is_reported()), ("In the", false));
    let (_, _, ending) = run(NAME, [tape("openai-completions/no-finish-s").body.as_slice()]);
    assert!(ending.is_err());
}

#[test]
fn several_choices_and_log_probabilities() {
    for name in ["openai-completions/two-choices-logprobs", "openai-completions/two-choices-s"] {
        let done = decode(name);
        let choices: Vec<_> =
            done.choices.iter().map(|c| (c.index, c.parts[0].content.clone(), c.finish.clone())).collect();
        let expected = [
            (0, Content::Text("Left bank".into()), Some(FinishReason::Length)),
            (1, Content::Text("Right".into()), Some(FinishReason::Stop)),
        ];
        assert_eq!(choices, expected, "{name}");
    }
    let done = decode("openai-completions/two-choices-logprobs");
    let kept: Value = serde_json::from_str(done.choices[0].logprobs.as_ref().unwrap().as_str()).unwrap();
    assert_eq!(kept["token_logprobs"], json!([-0.1, -1.5]));
}

#[test]
fn errors_in_the_place_of_answers() {
    let tape = tape("openai-completions/error-in-place");
    let refused = crate::provider(NAME).decode(&tape.head, &tape.body);
    assert!(matches!(refused, Err(DecodeError::Refused(refusal)) if refusal.code.as_deref() == Some("server_error")));
}

#[test]
fn a_prompt_comes_back_as_it_was() {
    let request = json!({
        "model": "babbage", "prompt": "Once", "suffix": "end", "echo": true, "best_of": 2, "logprobs": 3, "n": 2,
        "max_tokens": 9, "temperature": 0.5, "top_p": 0.5, "seed": 1, "presence_penalty": 0.5, "stop": ["x", "y"],
        "stream": true, "stream_options": {"include_usage": true}, "user": "u"
    });
    let (again, warnings) = encoded(&parse(&request));
    assert_eq!((again, warnings), (request, Vec::new()));
    assert_eq!(encoded(&parse(&json!({"prompt": ["Once"], "stop": "x"}))).0["prompt"], "Once");
    for prompt in [json!([1, 2, 3]), json!(["a", "b"])] {
        let call = parse(&json!({"prompt": prompt}));
        assert_eq!(encoded(&call).0["prompt"], prompt);
        assert!(crate::provider(DialectName::OpenAiChat).encode(&call, &Target::new("m")).is_err());
    }
    for (body, field) in
        [(json!({}), "prompt"), (json!({"prompt": 7}), "prompt"), (json!({"prompt": "", "n": "x"}), "n")]
    {
        let bad = crate::caller(NAME).parse(&HeaderMap::new(), body.to_string().as_bytes()).unwrap_err();
        assert_eq!(bad.field.as_deref(), Some(field));
    }
}

#[test]
fn a_conversation_becomes_one_prompt() {
    let one = Call { messages: vec![Message::text(Role::User, "Once upon")], ..Call::default() };
    let expected = json!({"model": "babbage", "prompt": "Once upon", "max_tokens": 4096});
    assert_eq!(encoded(&one), (expected, Vec::new()));
    let messages = vec![Message::text(Role::System, "Be short."), Message::text(Role::User, "Once upon")];
    let (body, warnings) = encoded(&Call { messages, ..Call::default() });
    assert_eq!((&body["prompt"], warnings.len()), (&json!("Be short.\n\nOnce upon"), 1));
    let tools = Call { tools: vec![farebox_dialect::Tool::default()], ..one };
    assert!(crate::provider(NAME).encode(&tools, &Target::new("m")).is_err());
}

#[test]
fn a_body_on_its_way_through() {
    let target = Target::new("babbage");
    let call = parse(&json!({"prompt": "hi", "stream": true}));
    let defaults = farebox_dialect::Defaults { max_output_tokens: Some(5), temperature: None, clamp: None };
    let passing = Passing { call: &call, asked_stream: true, defaults, target: &target };
    let expected = [
        Edit::string("model", "babbage"),
        Edit::set("max_tokens", "5"),
        Edit::set("stream", "true"),
        Edit::set_in("stream_options", "include_usage", "true"),
    ];
    assert_eq!(crate::provider(NAME).edits(&passing), expected);
}

#[test]
fn answers_towards_callers() {
    let stamp = Stamp { id: "cmpl-own".into(), created: 1_770_000_000, model: Some("writer".into()) };
    let done = decode("anthropic-messages/text");
    let whole: Value = serde_json::from_slice(&crate::caller(NAME).render(&Call::default(), &done, &stamp)).unwrap();
    let tape = tape("anthropic-messages/text-s");
    let (events, ..) = run(tape.dialect, [tape.body.as_slice()]);
    let mut chunks = Vec::new();
    let mut renderer = crate::caller(NAME).renderer(&Call { include_usage: true, ..Call::default() }, &stamp);
    events.iter().for_each(|event| renderer.encode(event, &mut chunks));
    renderer.finish(&mut chunks);
    let streamed: Vec<Value> = chunks.iter().map(|chunk| serde_json::from_slice(chunk).unwrap()).collect();
    insta::assert_json_snapshot!("completions_answers", json!({"whole": whole, "streamed": streamed}));

    let mut framed: Vec<u8> = chunks.iter().flat_map(|chunk| sse::frame(chunk).to_vec()).collect();
    framed.extend_from_slice(sse::DONE);
    let (again, _, ending) = run(NAME, [framed.as_slice()]);
    let (first, second) = (collect(&events), collect(&again));
    assert_eq!(ending, Ok(Ending::Complete));
    assert_eq!((second.text(), second.usage.total()), (first.text(), first.usage.total()));
}
