//! What holds for every stream, whoever sent it and however it was cut.

use farebox_dialect::{Collector, DecodeError, DialectName, Ending, Event, StreamLimits, Target, Truncated};
use proptest::prelude::*;

use crate::tape::{Tape, streams, tape};

pub(crate) type Run = (Vec<Event>, Result<(), DecodeError>, Result<Ending, Truncated>);

pub(crate) fn run<'a>(dialect: DialectName, pieces: impl IntoIterator<Item = &'a [u8]>) -> Run {
    let mut decoder = crate::provider(dialect).decoder(&Target::new("m"), &StreamLimits { max_frame_bytes: 64 * 1024 });
    let (mut events, mut fed) = (Vec::new(), Ok(()));
    for piece in pieces {
        fed = decoder.feed(piece, &mut events);
    }
    let ending = decoder.finish(&mut events);
    (events, fed, ending)
}

fn whole(tape: &Tape) -> Run {
    run(tape.dialect, [tape.body.as_slice()])
}

/// Places in which a tape is cut in two.
const CUTS: usize = 500;

#[test]
fn any_cut_gives_the_same_events() {
    for tape in streams() {
        let expected = whole(&tape);
        // Every place of a short tape; of a long one, as many: pieces of one byte pass through all of them.
        for cut in (0..=tape.body.len()).step_by(tape.body.len().div_ceil(CUTS).max(1)) {
            let (left, right) = tape.body.split_at(cut);
            assert_eq!(run(tape.dialect, [left, right]), expected, "{} cut at {cut}", tape.name);
        }
        for size in [1, 2, 3, 7, 64] {
            assert_eq!(run(tape.dialect, tape.body.chunks(size)), expected, "{} in pieces of {size}", tape.name);
        }
    }
}

#[test]
fn a_prefix_is_truncated_until_the_terminal_event_is_whole() {
    for tape in streams() {
        let (all, fed, ending) = whole(&tape);
        assert_eq!(fed, Ok(()), "{}", tape.name);
        let terminal: &[u8] = match tape.dialect {
            DialectName::OpenAiChat | DialectName::OpenAiCompletions => b"[DONE]",
            DialectName::AnthropicMessages => b"{\"type\":\"message_stop\"}",
            // A message of the event stream is whole with its last byte.
            DialectName::BedrockConverse => &tape.body,
            // There is no event that is only an end: the last object ends the stream, but for its closing mark.
            DialectName::Gemini | DialectName::OllamaChat | DialectName::OpenAiResponses => {
                &tape.body[..=tape.body.iter().rposition(|b| *b == b'}').unwrap()]
            }
            // The last event of the tapes; it carries usage.
            DialectName::CohereChat => b"\"cached_tokens\":448}}}",
            other => panic!("no terminal event is known for {other}"),
        };
        let end = tape.body.windows(terminal.len()).position(|w| w == terminal).map(|at| at + terminal.len());
        let (size, near_end) = (tape.body.len(), tape.body.len().saturating_sub(100));
        for length in (0..size).step_by(size.div_ceil(CUTS).max(1)).chain(near_end..size) {
            let (events, fed, cut_ending) = run(tape.dialect, [&tape.body[..length]]);
            assert_eq!(fed, Ok(()), "{} at {length}", tape.name);
            assert!(events.len() <= all.len() && events[..] == all[..events.len()], "{} at {length}", tape.name);
            match (&ending, end) {
                (Ok(Ending::Complete), Some(end)) if length >= end => assert_eq!(cut_ending, ending),
                (Ok(Ending::Refused(_)), _) if events.len() == all.len() => assert_eq!(cut_ending, ending),
                _ => {
                    assert!(cut_ending.is_err(), "{} at {length}: {cut_ending:?}", tape.name);
                    let finished = events.iter().any(|e| matches!(e, Event::Finish { .. }));
                    assert!(!finished, "{} at {length} invents a finish", tape.name);
                }
            }
        }
    }
}

#[test]
fn events_come_in_order() {
    for tape in streams() {
        let (events, _, ending) = whole(&tape);
        assert_grammar(&tape.name, &events, ending == Ok(Ending::Complete));
    }
}

/// The grammar of `canonical::event`.
pub(crate) fn assert_grammar(name: &str, events: &[Event], complete: bool) {
    assert!(matches!(events[0], Event::Started { .. }), "{name}");
    assert_eq!(farebox_fuzz::grammar(events, complete), Ok(()), "{name}");
}

#[test]
fn a_corrupt_frame_ends_the_stream_for_good() {
    for (name, garbage) in [
        ("openai-chat/text-s", &b"data: {\"choices\": [\n\n"[..]),
        ("openai-chat/text-s", b"data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0}]}}]}\n\n"),
        ("anthropic-messages/text-s", b"data: {\"type\":\"content_block_delta\",\"index\":9,\"delta\":{}}\n\n"),
        ("anthropic-messages/text-s", b"data: nonsense\n\n"),
        ("openai-responses/text-s", b"data: {\"type\":\"response.output_text.delta\",\"delta\":{}}\n\n"),
        (
            "openai-responses/text-s",
            b"data: {\"type\":\"response.function_call_arguments.delta\",\"output_index\":7,\"delta\":\"{\"}\n\n",
        ),
        ("openai-responses/text-s", b"data: {\"type\":\"response.output_item.done\",\"item\":{}}\n\n"),
        ("anthropic-messages/text-s", b"data: {\"type\":\"message_start\",\"message\":{}}\n\n"),
        (
            "cohere-chat/text-s",
            b"data: {\"type\":\"content-delta\",\"index\":0,\"delta\":{\"message\":{\"content\":{}}}}\n\n",
        ),
        ("cohere-chat/text-s", b"data: {\"type\":\"tool-call-end\",\"index\":3}\n\n"),
        ("cohere-chat/text-s", b"data: {\"type\":\"message-end\"}\n\n"),
        ("cohere-chat/text-s", b"data: {\"type\":\"message-start\",\"id\":\"again\"}\n\n"),
    ] {
        let tape = tape(name);
        let at = tape.body.windows(2).position(|w| w == b"\n\n").unwrap() + 2;
        let (events, fed, ending) = run(tape.dialect, [&tape.body[..at], garbage, &tape.body[at..]]);
        assert!(matches!(fed, Err(DecodeError::Corrupt { .. })), "{name}: {fed:?}");
        assert!(ending.is_err(), "{name}");
        assert!(!events.iter().any(|e| matches!(e, Event::Delta { .. } | Event::Finish { .. })), "{name}");
    }
}

#[test]
fn an_oversize_frame_is_an_error() {
    let tape = tape("openai-chat/text-s");
    let huge = format!("data: {{\"id\":\"{}\"", "x".repeat(70 * 1024));
    let (_, fed, ending) = run(tape.dialect, [tape.body.as_slice(), b""]);
    assert!(fed.is_ok() && ending.is_ok());
    let (_, fed, ending) = run(tape.dialect, [huge.as_bytes()]);
    assert!(matches!(fed, Err(DecodeError::Oversize(o)) if o.limit == 64 * 1024), "{fed:?}");
    assert!(ending.is_err());
}

#[test]
fn what_follows_the_end_is_ignored() {
    for name in ["openai-chat/text-s", "anthropic-messages/text-s", "cohere-chat/text-s", "ollama-chat/text-s"] {
        let tape = tape(name);
        let expected = whole(&tape);
        assert_eq!(run(tape.dialect, [tape.body.as_slice(), b"data: {broken\n\n", &tape.body]), expected);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(
        noise in proptest::collection::vec(any::<u8>(), 0..300),
        at in any::<prop::sample::Index>(),
        which in any::<prop::sample::Index>(),
    ) {
        let tapes = streams();
        let tape = &tapes[which.index(tapes.len())];
        let cut = at.index(tape.body.len());
        let (events, _, _) = run(tape.dialect, [&tape.body[..cut], &noise, &tape.body[cut..]]);
        let mut collector = Collector::new();
        events.iter().for_each(|event| collector.push(event));
        collector.into_completion();
    }
}
