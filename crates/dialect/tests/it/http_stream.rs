//! Streams as callers read them over HTTP.

use farebox_dialect::{
    Collector, Completion, Content, DialectName, Ending, StreamLimits, Target, as_stream, http_stream,
};
use farebox_types::{ErrorKind, Fault, Usage};

use crate::tape::{streams, wholes};
use DialectName::*;

fn written(dialect: DialectName, payloads: &[&str]) -> String {
    let mut out = Vec::new();
    payloads.iter().for_each(|payload| http_stream::write(dialect, payload.as_bytes(), &mut out));
    String::from_utf8(out).unwrap()
}

#[test]
fn what_a_provider_of_the_same_dialect_sends_comes_out_as_it_is() {
    let spoken = [OpenAiChat, OpenAiResponses, OpenAiCompletions, AnthropicMessages];
    let mut compared = 0;
    for tape in streams().into_iter().filter(|tape| spoken.contains(&tape.dialect)) {
        let sent = String::from_utf8(tape.body.clone()).unwrap();
        let nameless = tape.dialect == OpenAiResponses && !sent.starts_with("event:");
        // Comments and other line ends mean nothing to a client, and are not kept; names are given where a server has none.
        if nameless || sent.contains('\r') || sent.lines().any(|line| line.starts_with(':')) {
            continue;
        }
        let mut frames = crate::provider(tape.dialect).framing(&Target::new("m"), &StreamLimits::default());
        frames.push(&tape.body);
        let (mut out, mut ended) = (Vec::new(), false);
        while let Some(frame) = frames.next_frame().unwrap() {
            ended |= frame.data == b"[DONE]";
            if frame.data != b"[DONE]" {
                http_stream::write(tape.dialect, frame.data, &mut out);
            }
        }
        if ended {
            out.extend_from_slice(http_stream::end(tape.dialect));
        }
        assert_eq!(String::from_utf8(out).unwrap(), sent, "{}", tape.name);
        compared += 1;
    }
    assert!(compared >= 25, "only {compared} streams were compared");
}

#[test]
fn an_event_bears_the_type_of_its_payload() {
    for (payload, event) in [
        (r#"{"type":"message_stop"}"#, "message_stop"),
        (r#"{"type": "ping"}"#, "ping"),
        (r#"{"sequence_number":3,"x":{"type":"no"},"type":"response.completed"}"#, "response.completed"),
        (r#"{ "type" : "spaced" }"#, "spaced"),
        (r#"{"type":"a\"b"}"#, "a\"b"),
    ] {
        let expected = format!("event: {event}\ndata: {payload}\n\n");
        assert_eq!(written(AnthropicMessages, &[payload]), expected);
        assert_eq!(written(OpenAiResponses, &[payload]), expected);
        assert_eq!(written(OpenAiChat, &[payload]), format!("data: {payload}\n\n"));
    }
    for unnamed in [r#"{"type":5}"#, "{}", "not json", r#"{"type":"two\nlines"}"#] {
        assert_eq!(written(AnthropicMessages, &[unnamed]), format!("data: {unnamed}\n\n"));
    }
}

#[test]
fn a_payload_of_several_lines_stays_one_event() {
    assert_eq!(written(OpenAiChat, &["{\"a\":\n1}"]), "data: {\"a\":\ndata: 1}\n\n");
}

#[test]
fn a_broken_stream_ends_in_the_dialects_own_error() {
    let fault = Fault::new(ErrorKind::Truncated, "the answer \"broke\" off");
    let failed = |dialect| {
        let mut out = Vec::new();
        http_stream::write_failure(dialect, &fault, "resp_1", 3, &mut out);
        String::from_utf8(out).unwrap()
    };
    insta::assert_snapshot!(
        "http_failures",
        [OpenAiChat, OpenAiCompletions, OpenAiResponses, AnthropicMessages].map(failed).concat()
    );
}

/// What a client reads out of a stream.
fn read(dialect: DialectName, stream: &[u8]) -> Completion {
    let mut decoder = crate::provider(dialect).decoder(&Target::new("m"), &StreamLimits::default());
    let (mut events, mut collector) = (Vec::new(), Collector::new());
    decoder.feed(stream, &mut events).unwrap();
    assert_eq!(decoder.finish(&mut events), Ok(Ending::Complete));
    events.iter().for_each(|event| collector.push(event));
    collector.into_completion()
}

/// What an answer says. Reasoning stands first and in one piece: not every dialect keeps its pieces apart in a stream.
fn said(done: &Completion) -> Vec<String> {
    let word = |content: &Content| match content {
        Content::Text(text) => format!("text {text}"),
        Content::Refusal(text) => format!("refusal {text}"),
        Content::ToolCall(call) => {
            let arguments: serde_json::Value = serde_json::from_str(&call.arguments).unwrap_or_default();
            format!("call {} {} {arguments}", call.id, call.name)
        }
        Content::Other { kind, .. } => format!("other {kind}"),
        other => format!("{other:?}"),
    };
    // How often a provider searched has no place in OpenAI's usage.
    let usage = Usage { searches: None, ..done.usage };
    let mut words = vec![format!("{usage:?} {}", done.model)];
    for choice in &done.choices {
        let thoughts = choice.parts.iter().filter_map(|part| match &part.content {
            Content::Reasoning(reasoning) => Some((reasoning.text.as_str(), reasoning.signature.as_deref())),
            _ => None,
        });
        let (texts, proofs): (Vec<&str>, Vec<Option<&str>>) = thoughts.unzip();
        words.push(format!("{} {:?}", texts.concat(), proofs.into_iter().flatten().collect::<Vec<_>>()));
        let others = choice.parts.iter().filter(|part| !matches!(part.content, Content::Reasoning(_)));
        words.extend(others.map(|part| word(&part.content)));
        words.push(format!("{} {:?} {:?}", choice.index, choice.finish, choice.stop_sequence));
    }
    words
}

#[test]
fn a_whole_answer_can_be_read_as_a_stream_and_says_the_same() {
    let spoken = [OpenAiChat, OpenAiResponses, OpenAiCompletions, AnthropicMessages];
    let (mut compared, mut wrong) = (0, Vec::new());
    for tape in wholes().into_iter().filter(|tape| spoken.contains(&tape.dialect)) {
        let Ok(done) = crate::provider(tape.dialect).decode(&tape.head, &tape.body) else { continue };
        let mut stream = Vec::new();
        for payload in as_stream(tape.dialect, &tape.body, true).unwrap() {
            http_stream::write(tape.dialect, &payload, &mut stream);
        }
        stream.extend_from_slice(http_stream::end(tape.dialect));
        let (read, whole) = (said(&read(tape.dialect, &stream)), said(&done));
        if read != whole {
            wrong.push(format!("{}\n  {read:?}\n  {whole:?}", tape.name));
        }
        compared += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared >= 12, "only {compared} answers were compared");
    assert!(as_stream(AnthropicMessages, b"{}", false).is_err());
    assert!(as_stream(OpenAiEmbeddings, b"{}", false).is_err());
}
