//! Gemini: its answers on tape.

use farebox_dialect::{
    Call, Citation, Collector, Content, DecodeError, DialectName, Ending, FinishReason, Media, Message, Role, Source,
};
use farebox_types::Usage;
use serde_json::{Value, json};

use crate::{
    decode::{call, contents, decode, usage},
    gemini::{encode, thought},
    laws::run,
    tape::tape,
};

#[test]
fn thoughts_text_and_its_signature() {
    let done = decode("gemini/text-s");
    assert_eq!(contents(&done)[0], thought("**Counting piers**\n\nTwo are open.", None));
    assert_eq!(done.text(), "The north pier: „Möwe“ \\ {\"a\": 1}");
    assert_eq!(done.choices[0].parts[1].signature.as_deref(), Some("c2lnLXRleHQ="));
    assert_eq!((done.id.as_str(), done.model.as_str()), ("tapeAnswer-01", "gemini-3-flash-tape"));
    assert_eq!(done.finish(), Some(&FinishReason::Stop));
    assert_eq!(done.usage, Usage { cache_read: Some(24), reasoning: Some(21), ..usage(16, 11) });
    assert_eq!(done.service_tier.as_deref(), Some("standard"));
}

#[test]
fn an_array_in_place_of_events() {
    let done = decode("gemini/array-s");
    assert_eq!((done.text().as_str(), done.usage), ("Seals \"bark\" {]}.", usage(9, 7)));
}

#[test]
fn log_probabilities_in_the_callers_form() {
    let done = decode("gemini/text");
    assert_eq!((done.text().as_str(), done.usage), ("Otters float.", usage(9, 4)));
    let logprobs: Value = serde_json::from_str(done.choices[0].logprobs.as_ref().unwrap().as_str()).unwrap();
    assert_eq!(logprobs["content"][0]["top_logprobs"][1], json!({"token": "Seals", "logprob": -2.25, "bytes": null}));
    assert_eq!(logprobs["content"][1]["token"], " float.");
}

#[test]
fn function_calls_and_their_ids() {
    let done = decode("gemini/tools-s");
    let expected = [
        Content::Text("Let me look.".into()),
        call("call_tapeAnswer-01_0", "pier_status", "{\"pier\": \"North\", \"depth\": 1.5}"),
        call("call_tapeAnswer-01_1", "now", "{}"),
        call("own-7", "now", "{}"),
    ];
    assert_eq!(contents(&done), expected);
    assert_eq!(done.choices[0].parts[1].signature.as_deref(), Some("c2lnLWNhbGw="));
    assert_eq!(done.finish(), Some(&FinishReason::ToolCalls));
    assert_eq!(done.usage, Usage { reasoning: Some(30), ..usage(80, 31) });

    let done = decode("gemini/tools");
    assert_eq!(contents(&done), [call("call_tapeAnswer-03_0", "tide_table", "{\"day\":\"Monday\"}")]);
    assert_eq!(done.service_tier.as_deref(), Some("flex"));
}

#[test]
fn grounding_becomes_citations_and_searches() {
    let place = |c: &Citation| (c.url.clone(), c.title.clone(), c.quote.clone(), c.start, c.end);
    let ferry = |start, end| {
        (Some("https://ferry.invalid/".into()), Some("ferry.invalid".into()), None, Some(start), Some(end))
    };
    let tides = (None, Some("tides.txt".into()), Some("High water at six.".into()), Some(25), Some(45));
    for (name, searches, more) in [("gemini/grounded-s", 2, 0), ("gemini/grounded", 1, 1)] {
        let done = decode(name);
        let cited: Vec<_> = done.choices[0].parts[0].citations.iter().map(place).collect();
        assert_eq!(cited[..3], [ferry(0, 24), ferry(25, 45), tides.clone()], "{name}");
        assert_eq!((cited.len(), done.usage.searches), (3 + more, Some(searches)), "{name}");
        let raw = done.choices[0].parts[0].citations[0].raw.as_ref().unwrap();
        assert!(raw.0 == DialectName::Gemini && raw.1.as_str().contains("\"web\""), "{name}");
    }
    let usage = decode("gemini/grounded-s").usage;
    assert_eq!((usage.input, usage.output, usage.reasoning, usage.total()), (Some(120), Some(14), Some(6), 140));
}

#[test]
fn code_that_ran_stays_as_it_is_and_goes_back() {
    let done = decode("gemini/code-s");
    let parts = &done.choices[0].parts;
    let kinds: Vec<_> = parts
        .iter()
        .filter_map(|p| if let Content::Other { kind, .. } = &p.content { Some(kind.as_str()) } else { None })
        .collect();
    assert_eq!((kinds, done.text().as_str()), (vec!["executableCode", "codeExecutionResult"], "It is 42."));
    assert_eq!(done.finish(), Some(&FinishReason::Length));
    let messages = vec![Message::text(Role::User, "x"), Message::new(Role::Assistant, parts.clone())];
    let (body, _) = encode(&Call { messages, ..Call::default() }, "gemini-3-pro");
    assert_eq!(
        body["contents"][1]["parts"],
        json!([
            {"executableCode": {"language": "PYTHON", "code": "print(6 * 7)"}},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "42\n"}},
            {"text": "It is 42."}])
    );
}

#[test]
fn candidates_finish_apart() {
    let done = decode("gemini/two-candidates-s");
    let choices: Vec<_> =
        done.choices.iter().map(|c| (c.index, c.parts[0].content.clone(), c.finish.clone())).collect();
    assert_eq!(
        choices,
        [
            (0, Content::Text("Left bank".into()), Some(FinishReason::Stop)),
            (1, Content::Text("Right".into()), Some(FinishReason::ContentFilter))
        ]
    );
}

#[test]
fn a_blocked_prompt_is_an_empty_answer() {
    for name in ["gemini/blocked", "gemini/blocked-s"] {
        let done = decode(name);
        assert_eq!((done.choices.len(), done.choices[0].parts.len()), (1, 0), "{name}");
        assert_eq!(done.finish(), Some(&FinishReason::ContentFilter), "{name}");
        assert_eq!((done.usage.input, done.usage.output), (Some(12), None), "{name}");
    }
}

#[test]
fn images_come_out_with_their_price_apart() {
    let done = decode("gemini/image");
    let png = Source::Base64 { media_type: "image/png".into(), data: "iVBORw0=".into() };
    let expected = [thought("A heron.", None), Content::Text("Here:".into()), Content::Image(Media::from(png))];
    assert_eq!(contents(&done), expected);
    assert_eq!(done.choices[0].parts[2].signature.as_deref(), Some("c2lnLWltYWdl"));
    let expected = Usage {
        cache_read: Some(0),
        cache_read_audio: Some(100),
        audio_input: Some(160),
        image_output: Some(1290),
        reasoning: Some(50),
        ..usage(40, 10)
    };
    assert_eq!((done.usage, done.usage.total()), (expected, 1650));
}

#[test]
fn a_corrupt_event_ends_the_stream_for_good() {
    let tape = tape("gemini/text-s");
    for garbage in [
        "nonsense",
        "{\"candidates\": 7}",
        "{\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"args\":{}}}]}}]}",
        "{\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{}}]}}]}",
        "{\"candidates\":[{\"content\":{\"parts\":[{\"inlineData\":{}}]}}]}",
        "{\"usageMetadata\":{\"promptTokenCount\":-1}}",
    ] {
        let (events, fed, ending) = run(tape.dialect, [format!("data: {garbage}\r\n\r\n").as_bytes(), &tape.body]);
        assert!(matches!(fed, Err(DecodeError::Corrupt { .. })) && ending.is_err(), "{garbage}: {fed:?}");
        assert!(events.len() < 2, "{garbage}: {events:?}");
    }
}

#[test]
fn a_call_in_pieces_is_put_together() {
    let tape = tape("gemini/pieces-s");
    let (events, fed, ending) = run(tape.dialect, [tape.body.as_slice()]);
    assert_eq!((fed, ending), (Ok(()), Ok(Ending::Complete)));
    let mut collector = Collector::new();
    events.iter().for_each(|event| collector.push(event));
    let done = collector.into_completion();
    let calls: Vec<(&str, &str)> = done.choices[0]
        .parts
        .iter()
        .filter_map(|part| match &part.content {
            Content::ToolCall(call) => Some((call.name.as_str(), call.arguments.as_str())),
            _ => None,
        })
        .collect();
    let piers = r#"{"piers":[{"name":"North \"A\"","depth":1.50,"open":false},{"name":"South"}],"note":null}"#;
    assert_eq!(calls, [("close_piers", piers), ("now", "{}"), ("ring", r#"{"times":3}"#), ("look", "{}")]);
    let signed: Vec<&str> = done.choices[0].parts.iter().filter_map(|part| part.signature.as_deref()).collect();
    assert_eq!(signed, ["c2lnLXBpZWNlcw=="]);
    assert_eq!(done.finish(), Some(&FinishReason::ToolCalls));
}

#[test]
fn pieces_of_no_call_or_of_no_place_are_corrupt() {
    let frame = |call: &str| {
        format!("data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"functionCall\":{call}}}]}}}}]}}\n\n")
    };
    let begun = frame(r#"{"name":"f","willContinue":true}"#);
    let placed = |place: &str| {
        let piece = format!(r#"{{"partialArgs":[{{"jsonPath":"{place}","stringValue":"x"}}]}}"#);
        run(DialectName::Gemini, [begun.as_bytes(), frame(&piece).as_bytes()]).1
    };
    for place in ["$.a", "$['a b'].c", "$.a[0][0]"] {
        assert_eq!(placed(place), Ok(()), "{place}");
    }
    let deep = format!("${}", ".a".repeat(65));
    for place in ["", "a", "$.", "$[0]", "$.a[1]", "$.a[", "$.a[x]", "$.a[99999999999999999999]", &deep] {
        assert!(placed(place).is_err(), "{place}");
    }
    let alone = run(DialectName::Gemini, [frame("{}").as_bytes()]).1;
    assert!(alone.is_err());
}
