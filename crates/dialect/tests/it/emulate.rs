//! JSON modes that are emulated by a tool.

use farebox_dialect::{
    Asked, Call, Collector, Completion, Content, Defaults, Delta, DialectName, Event, Exchange, FinishReason, Part,
    PartId, PartKind, Quirk, RawJson, Role, Stamp, StreamLimits, Target, ToolChoice,
    emulate::{Emulation, emulation},
    provider_dialect,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{encode::parse, laws::assert_grammar, tape::tape};

const SCHEMA: &str = "{\"type\":\"object\",\"properties\":{\"n\":{\"minimum\":1.10}}}";

fn target(quirk: Quirk) -> Target {
    Target { quirks: vec![quirk], ..Target::new("m") }
}

fn asking(more: &Value) -> Call {
    let mut body = json!({
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "ferry", "description": "A ferry.", "strict": true}}
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut call = parse(&body);
    if let Some(farebox_dialect::ResponseFormat::JsonSchema { schema, .. }) = &mut call.response_format {
        *schema = RawJson::new(SCHEMA);
    }
    call
}

fn applied(call: &Call) -> (Call, Emulation) {
    let emulation = emulation(call, &target(Quirk::JsonByTool)).unwrap();
    let mut sent = call.clone();
    emulation.apply(&mut sent);
    assert_eq!(sent.response_format, None);
    (sent, emulation)
}

fn tool() -> Value {
    json!({"type": "function", "function": {"name": "look"}})
}

#[test]
fn only_what_the_target_lacks_is_emulated() {
    let schema = asking(&json!({}));
    let object = asking(&json!({"response_format": {"type": "json_object"}}));
    let text = asking(&json!({"response_format": {"type": "text"}}));
    let none = Call::default();
    let which = |call: &Call| {
        [None, Some(Quirk::SchemaByTool), Some(Quirk::JsonByTool)].map(|quirk| {
            let target = Target { quirks: quirk.into_iter().collect(), ..Target::new("m") };
            emulation(call, &target).is_some()
        })
    };
    assert_eq!(
        [&schema, &object, &text, &none].map(which),
        [[false, true, true], [false, false, true], [false; 3], [false; 3]]
    );
}

#[test]
fn alone_the_tool_is_forced() {
    let (sent, emulation) = applied(&asking(&json!({})));
    assert_eq!((sent.tools.len(), sent.tools[0].name.as_str()), (1, "ferry"));
    assert_eq!(sent.tools[0].parameters.as_ref().unwrap().as_str(), SCHEMA);
    assert!(sent.tools[0].description.as_ref().unwrap().ends_with("A ferry."));
    assert_eq!(sent.tool_choice, Some(ToolChoice::Named("ferry".into())));
    assert_eq!(sent.messages.len(), 2);
    assert!(emulation.warning().0.contains("emulated"), "{}", emulation.warning());

    let (sent, _) = applied(&asking(&json!({"response_format": {"type": "json_object"}})));
    assert_eq!(sent.tools[0].parameters.as_ref().unwrap().as_str(), "{\"type\":\"object\"}");
    assert_eq!(sent.tools[0].name, "json_answer");
}

#[test]
fn beside_tools_and_thinking_the_model_is_told() {
    for more in [json!({"tools": [tool()]}), json!({"reasoning_effort": "low"})] {
        let (sent, emulation) = applied(&asking(&more));
        assert_eq!((sent.tools.last().unwrap().name.as_str(), &sent.tool_choice), ("ferry", &None));
        assert_eq!((sent.messages.len(), sent.messages[1].role), (3, Role::System));
        let Content::Text(told) = &sent.messages[1].parts[0].content else { panic!("{:?}", sent.messages[1]) };
        assert!(told.contains("`ferry`"), "{told}");
        assert!(emulation.warning().0.contains("plain text"));
    }
    let (sent, _) = applied(&asking(&json!({"reasoning_effort": "none"})));
    assert!(matches!(sent.tool_choice, Some(ToolChoice::Named(_))));
}

#[test]
fn a_tool_choice_of_the_callers_is_kept() {
    let (sent, _) = applied(&asking(&json!({"tools": [tool()], "tool_choice": "required"})));
    assert_eq!((sent.tools.len(), sent.tool_choice), (1, Some(ToolChoice::Required)));
    let (sent, _) = applied(&asking(&json!({"tools": [tool()], "tool_choice": "none"})));
    assert_eq!((sent.tools.len(), sent.tool_choice), (2, Some(ToolChoice::Named("ferry".into()))));
    let more = json!({"tools": [tool()], "tool_choice": "none", "reasoning_effort": "high"});
    let (sent, _) = applied(&asking(&more));
    assert_eq!((sent.tools.len(), sent.tool_choice), (1, Some(ToolChoice::None)));
    assert!(matches!(&sent.messages[1].parts[0].content, Content::Text(told) if told.contains(SCHEMA)));
}

#[test]
fn the_name_is_nobody_elses() {
    let taken = json!({"tools": [{"type": "function", "function": {"name": "ferry"}}]});
    assert_eq!(applied(&asking(&taken)).0.tools[1].name, "ferry_");
    let odd = json!({"type": "json_schema", "json_schema": {"name": "a ferry", "schema": {}}});
    assert_eq!(applied(&asking(&json!({"response_format": odd}))).0.tools[0].name, "json_answer");
}

#[test]
fn a_tool_call_on_tape_becomes_text() {
    let call = asking(&json!({"response_format": {"type": "json_schema", "json_schema": {"name": "pier_status"}}}));
    let (_, emulation) = applied(&call);
    let tape = tape("anthropic-messages/thinking-tools");
    let mut done = crate::provider(DialectName::AnthropicMessages).decode(&tape.head, &tape.body).unwrap();
    emulation.restore(&mut done);
    assert_eq!(done.text(), "{\"pier\":\"South\",\"depth\":2.5}");
    assert_eq!(done.finish(), Some(&FinishReason::Stop));
    assert!(matches!(done.choices[0].parts[0].content, Content::Reasoning(_)));
}

#[derive(Clone, Debug)]
struct Said {
    kind: u8,
    pieces: Vec<String>,
    /// The part stays open until its choice ends.
    lingers: bool,
}

fn said() -> impl Strategy<Value = Said> {
    (0..6u8, proptest::collection::vec("[ -~]{0,6}", 0..3), any::<bool>()).prop_map(|(kind, pieces, lingers)| Said {
        kind,
        pieces,
        lingers,
    })
}

fn kind(said: &Said, at: u32) -> PartKind {
    let call = |name: &str| PartKind::ToolCall { id: format!("c{at}"), name: name.into() };
    match said.kind {
        0 => PartKind::Text,
        1 => PartKind::Reasoning,
        2 => call("look"),
        3 => PartKind::Refusal,
        _ => call("ferry"),
    }
}

fn piece(said: &Said, text: &str) -> Delta {
    match said.kind {
        0 | 3 => Delta::Text(text.into()),
        1 => Delta::Reasoning(text.into()),
        _ => Delta::Args(text.into()),
    }
}

/// The choices in turns, part by part.
fn stream(choices: &[Vec<Said>]) -> Vec<Event> {
    let mut events = vec![Event::Started { id: "a".into(), model: "m".into(), created: None }];
    let mut lingering: Vec<Vec<PartId>> = vec![Vec::new(); choices.len()];
    let mut next = 0;
    let longest = choices.iter().map(Vec::len).max().unwrap_or(0);
    for at in 0..longest {
        for (choice, parts) in (0..).zip(choices) {
            let Some(said) = parts.get(at) else { continue };
            let id = PartId(next);
            next += 1;
            events.push(Event::PartStart { id, choice, kind: kind(said, id.0) });
            events.extend(said.pieces.iter().map(|text| Event::Delta { id, delta: piece(said, text) }));
            if said.lingers {
                lingering[choice as usize].push(id);
            } else {
                events.push(Event::PartEnd { id });
            }
        }
    }
    for (choice, open) in (0..).zip(lingering) {
        events.extend(open.into_iter().map(|id| Event::PartEnd { id }));
        events.push(Event::Finish { choice, reason: FinishReason::ToolCalls, stop_sequence: None });
    }
    events
}

fn collect(events: &[Event]) -> Completion {
    let mut collector = Collector::new();
    events.iter().for_each(|event| collector.push(event));
    collector.into_completion()
}

proptest! {
    #[test]
    fn a_filtered_stream_is_a_stream_and_says_what_the_whole_answer_says(
        choices in proptest::collection::vec(proptest::collection::vec(said(), 0..6), 1..4),
    ) {
        let (_, emulation) = applied(&asking(&json!({})));
        let events = stream(&choices);
        let mut filter = emulation.filter();
        let mut filtered = Vec::new();
        events.iter().for_each(|event| filter.push(event.clone(), &mut filtered));
        assert_grammar("filtered", &filtered, true);
        let mut whole = collect(&events);
        emulation.restore(&mut whole);
        prop_assert_eq!(collect(&filtered), whole.clone());
        for choice in &whole.choices {
            let ours = |part: &Part| matches!(&part.content, Content::ToolCall(call) if call.name == "ferry");
            prop_assert!(!choice.parts.iter().any(ours));
        }
    }
}

#[test]
fn the_answer_is_handed_on_as_it_comes() {
    let (_, emulation) = applied(&asking(&json!({})));
    let mut filter = emulation.filter();
    let mut out = Vec::new();
    let ours = PartKind::ToolCall { id: "c".into(), name: "ferry".into() };
    filter.push(Event::PartStart { id: PartId(0), choice: 0, kind: ours }, &mut out);
    filter.push(Event::Delta { id: PartId(0), delta: Delta::Args("{\"n\"".into()) }, &mut out);
    assert_eq!(
        out,
        [
            Event::PartStart { id: PartId(0), choice: 0, kind: PartKind::Text },
            Event::Delta { id: PartId(0), delta: Delta::Text("{\"n\"".into()) },
        ]
    );
}

#[test]
fn what_is_held_back_is_billed_all_the_same() {
    let body = json!({
        "model": "m", "stream": true, "messages": [{"role": "user", "content": "hi"}], "tools": [tool()],
        "response_format": {"type": "json_object"}
    });
    let asked = Asked::raw(DialectName::OpenAiChat, body.to_string().into(), true).unwrap();
    let provider = provider_dialect(DialectName::AnthropicMessages).unwrap();
    let begun = Exchange::begin(&asked, provider, target(Quirk::JsonByTool), Defaults::default());
    let (exchange, ..) = begun.unwrap();
    let mut relay = exchange
        .stream(&StreamLimits { max_frame_bytes: 1 << 20 }, &Stamp { id: "id".into(), created: 0, model: None })
        .unwrap();
    let mut pieces = Vec::new();
    for event in [
        json!({"type": "message_start", "message": {"id": "msg", "model": "m", "usage": {"input_tokens": 3}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Ferries sail"}}),
    ] {
        relay.feed(format!("data: {event}\n\n").as_bytes(), &mut pieces).unwrap();
    }
    assert_eq!(relay.unfinished_facts().written.trim_end(), "Ferries sail");
}
