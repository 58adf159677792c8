//! Streams as callers read them over HTTP.

use farebox_dialect::{DialectName, StreamLimits, Target, http_stream};
use farebox_types::{ErrorKind, Fault};

use crate::tape::streams;
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
