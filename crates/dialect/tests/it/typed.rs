//! The typed conversation of the contract.

use farebox_dialect::{Collector, DialectName, Target, typed};
use farebox_proto::v1;
use serde_json::{Value, json};
use v1::{delta, media::Source, part::Kind};

use crate::{
    laws::run,
    tape::{streams, tape},
};

fn part(kind: Kind) -> v1::Part {
    v1::Part { kind: Some(kind), ..Default::default() }
}

fn message(role: v1::Role, parts: Vec<Kind>) -> v1::Message {
    v1::Message { role: role.into(), parts: parts.into_iter().map(part).collect() }
}

fn image(source: Source) -> Kind {
    Kind::Image(v1::Media { media_type: "image/png".into(), source: Some(source) })
}

fn conversation() -> v1::Conversation {
    let reasoning =
        |text: &str, signature: &str| Kind::Reasoning(v1::Reasoning { text: text.into(), signature: signature.into() });
    let call = v1::ToolCall { id: "c1".into(), name: "look".into(), arguments_json: "{\"a\": 1}".into() };
    let result = v1::ToolResult {
        tool_call_id: "c1".into(),
        parts: vec![part(Kind::Text("a boat".into())), part(image(Source::Data(vec![1, 2, 3].into())))],
        is_error: true,
    };
    v1::Conversation {
        messages: vec![
            message(v1::Role::System, vec![Kind::Text("Be brief.".into())]),
            message(v1::Role::User, vec![Kind::Text("What?".into()), image(Source::Url("https://i.invalid".into()))]),
            message(
                v1::Role::Assistant,
                vec![reasoning("hm", "sig"), reasoning("", "encrypted:data"), Kind::ToolCall(call)],
            ),
            message(v1::Role::Tool, vec![Kind::ToolResult(result)]),
        ],
        tools: vec![v1::Tool {
            name: "look".into(),
            description: "Looks.".into(),
            parameters_json: "{\"type\":\"object\"}".into(),
        }],
        max_output_tokens: Some(50),
        temperature: Some(0.5),
        reasoning_effort: "none".into(),
        ..v1::Conversation::default()
    }
}

#[test]
fn a_conversation_reaches_both_dialects() {
    let call = typed::call("alias", &conversation(), true).unwrap();
    let bodies: Vec<Value> = [DialectName::OpenAiChat, DialectName::AnthropicMessages]
        .into_iter()
        .map(|dialect| {
            let encoded = crate::provider(dialect).encode(&call, &Target::new("m")).unwrap();
            let warnings: Vec<String> = encoded.warnings.iter().map(ToString::to_string).collect();
            let body: Value = serde_json::from_slice(encoded.request.body()).unwrap();
            json!({"body": body, "warnings": warnings})
        })
        .collect();
    insta::assert_json_snapshot!("typed_conversation", bodies);
}

#[test]
fn its_outline() {
    let outline = typed::outline("", &conversation(), true);
    assert_eq!((outline.model, outline.stream, outline.messages, outline.has_tools), (None, true, 4, true));
    assert_eq!(outline.max_output_tokens, Some(50));
    assert_eq!(outline.remote_media.as_deref(), Some("messages[1].parts[1].url"));
}

#[test]
fn what_is_missing_is_named() {
    let with = |messages| v1::Conversation { messages, ..v1::Conversation::default() };
    let user = |kind| with(vec![message(v1::Role::User, vec![kind])]);
    let bad_tool = v1::Conversation {
        tools: vec![v1::Tool { parameters_json: "[".into(), ..v1::Tool::default() }],
        ..user(Kind::Text("x".into()))
    };
    let unnamed = v1::Media { media_type: String::new(), source: Some(Source::Data(vec![1].into())) };
    for (conversation, field) in [
        (with(vec![]), "messages"),
        (with(vec![message(v1::Role::Unspecified, vec![])]), "messages[0].role"),
        (
            with(vec![v1::Message { role: v1::Role::User.into(), parts: vec![v1::Part::default()] }]),
            "messages[0].parts[0]",
        ),
        (user(Kind::Image(v1::Media::default())), "messages[0].parts[0]"),
        (user(Kind::Image(unnamed)), "messages[0].parts[0].media_type"),
        (bad_tool, "tools[0].parameters_json"),
    ] {
        let bad = typed::call("m", &conversation, false).unwrap_err();
        assert_eq!(bad.field.as_deref(), Some(field), "{bad}");
    }
}

#[test]
fn an_answer_and_its_next_turn() {
    let tape = tape("anthropic-messages/thinking-tools-s");
    let (events, _, _) = run(tape.dialect, [tape.body.as_slice()]);
    let mut collector = Collector::new();
    events.iter().for_each(|event| collector.push(event));
    let done = collector.into_completion();
    let typed = typed::completion(&done);
    assert_eq!((typed.id.as_str(), typed.finish_reason()), ("msg_tape01", v1::FinishReason::ToolCalls));

    let mut next = conversation();
    next.messages = vec![
        message(v1::Role::User, vec![Kind::Text("go".into())]),
        v1::Message { role: v1::Role::Assistant.into(), parts: typed.parts },
    ];
    let call = typed::call("m", &next, false).unwrap();
    assert_eq!(call.messages[1].parts, done.choices[0].parts);
}

/// Deltas put together are the whole answer.
#[test]
fn deltas_add_up() {
    for tape in streams() {
        let (events, _, _) = run(tape.dialect, [tape.body.as_slice()]);
        let (mut deltas, mut collector) = (typed::Deltas::new(), Collector::new());
        let mut parts: std::collections::BTreeMap<u32, (String, String)> = Default::default();
        let (mut open, mut finished) = (0, None);
        for event in &events {
            collector.push(event);
            match deltas.encode(event).and_then(|delta| delta.event) {
                Some(delta::Event::PartStart(start)) => {
                    open += 1;
                    parts.insert(start.index, Default::default());
                }
                Some(delta::Event::PartDelta(piece)) => {
                    let part = parts.get_mut(&piece.index).unwrap();
                    part.0.push_str(&piece.text);
                    part.1.push_str(&piece.signature);
                }
                Some(delta::Event::PartEnd(_)) => open -= 1,
                Some(delta::Event::Finished(end)) => finished = Some(end),
                None => {}
            }
        }
        let usage = *collector.usage();
        let whole = typed::completion(&collector.into_completion());
        let expected: Vec<(String, String)> = whole
            .parts
            .iter()
            .map(|part| match part.kind.clone().unwrap() {
                Kind::Text(text) | Kind::Refusal(text) => (text, part.signature.clone()),
                Kind::ToolCall(call) => (call.arguments_json, part.signature.clone()),
                Kind::Reasoning(reasoning) => (reasoning.text, reasoning.signature),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(parts.into_values().collect::<Vec<_>>(), expected, "{}", tape.name);
        if let Some(end) = finished {
            assert_eq!((open, end.usage, end.reason), (0, Some(usage.into()), whole.finish_reason), "{}", tape.name);
        }
    }
}
