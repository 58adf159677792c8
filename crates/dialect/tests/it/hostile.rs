//! What no provider sends, until one does: inputs that the fuzzer found.

use bytes::Bytes;
use farebox_dialect::{
    Asked, DecodeError, Defaults, DialectName, Edit, Exchange, Head, Provider, Stamp, StreamLimits, Target, Truncated,
    rewrite,
};
use farebox_proto::v1::llm_chunk::Piece;
use http::StatusCode;

use crate::laws::run;

fn stamp() -> Stamp {
    Stamp { id: "own".into(), created: 1_770_000_000, model: None }
}

#[test]
fn errors_in_lists_in_lists_are_none() {
    let deep = "[".repeat(50_000) + &"]".repeat(50_000);
    let head = Head { status: StatusCode::BAD_REQUEST, ..Head::default() };
    for name in crate::generating() {
        let refusal = crate::provider(name).decode_error(&head, deep.as_bytes());
        assert_eq!(refusal.status, Some(400), "{name}");
    }
}

#[test]
fn pieces_of_another_kind_of_part_are_corrupt() {
    let text = "data: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":\"hi\"}\n\n";
    for other in [
        r#"{"type":"response.function_call_arguments.delta","output_index":0,"delta":"{}"}"#,
        r#"{"type":"response.reasoning_text.delta","output_index":0,"delta":"hm"}"#,
        r#"{"type":"response.completed","response":{"output":[{"type":"reasoning","encrypted_content":"="}]}}"#,
    ] {
        let (_, fed, ending) =
            run(DialectName::OpenAiResponses, [text.as_bytes(), format!("data: {other}\n\n").as_bytes()]);
        assert!(matches!(fed, Err(DecodeError::Corrupt { .. })) && ending.is_err(), "{other}: {fed:?}");
    }
}

#[test]
fn a_delta_of_another_kind_than_its_block_is_corrupt() {
    let start = r#"{"type":"message_start","message":{"id":"msg_1","model":"m","usage":{"input_tokens":1}}}"#;
    let block = |kind: &str| format!(r#"{{"type":"content_block_start","index":0,"content_block":{kind}}}"#);
    let delta = |given: &str| format!(r#"{{"type":"content_block_delta","index":0,"delta":{given}}}"#);
    let text = block(r#"{"type":"text","text":""}"#);
    let call = block(r#"{"type":"tool_use","id":"t","name":"f","input":{}}"#);
    for (block, given, fits) in [
        (&text, r#"{"type":"text_delta","text":"a"}"#, true),
        (&text, r#"{"type":"input_json_delta","partial_json":"{}"}"#, false),
        (&text, r#"{"type":"thinking_delta","thinking":"a"}"#, false),
        (&call, r#"{"type":"input_json_delta","partial_json":"{}"}"#, true),
        (&call, r#"{"type":"text_delta","text":"a"}"#, false),
    ] {
        let stream = format!("data: {start}\n\ndata: {block}\n\ndata: {}\n\n", delta(given));
        let (_, fed, _) = run(DialectName::AnthropicMessages, [stream.as_bytes()]);
        assert_eq!(fed.is_ok(), fits, "{given}: {fed:?}");
    }
}

#[test]
fn a_message_that_ends_before_it_begins_is_corrupt() {
    let frame = b"data: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":9}}\n\n";
    let (events, fed, _) = run(DialectName::AnthropicMessages, [&frame[..]]);
    assert_eq!(events, []);
    assert!(matches!(fed, Err(DecodeError::Corrupt { .. })), "{fed:?}");
}

#[test]
fn what_follows_the_end_is_not_handed_on() {
    let body = Bytes::from_static(br#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}"#);
    let asked = Asked::raw(DialectName::OpenAiChat, body, true).unwrap();
    let provider = Provider::Generate(crate::provider(DialectName::OpenAiChat));
    let (exchange, ..) = Exchange::begin(&asked, provider, Target::new("m"), Defaults::default()).unwrap();
    let chunk = r#"{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}"#;
    for (after, complete) in [("data: [DONE]\n\n", true), ("data: {\"error\":{\"message\":\"no\"}}\n\n", false)] {
        let stream = format!("data: {chunk}\n\n{after}data\n\ndata: {{broken\n\ndata: {chunk}\n\n");
        for size in [1, stream.len()] {
            let mut relay = exchange.stream(&StreamLimits::default(), &stamp()).unwrap();
            let mut pieces = Vec::new();
            stream.as_bytes().chunks(size).for_each(|piece| relay.feed(piece, &mut pieces).unwrap());
            let ending: Result<_, Truncated> = relay.finish(&mut pieces);
            assert_eq!(pieces, [Piece::Raw(Bytes::from_static(chunk.as_bytes()))], "in pieces of {size}");
            assert_eq!(matches!(ending, Ok(farebox_dialect::Ending::Complete)), complete);
        }
    }
}

#[test]
fn an_end_without_its_closing_mark_is_handed_on() {
    let body =
        Bytes::from_static(br#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}],"stream":true}"#);
    let asked = Asked::raw(DialectName::AnthropicMessages, body, true).unwrap();
    let provider = Provider::Generate(crate::provider(DialectName::AnthropicMessages));
    let (exchange, ..) = Exchange::begin(&asked, provider, Target::new("m"), Defaults::default()).unwrap();
    let tape = crate::tape::tape("anthropic-messages/text-s");
    let mut relay = exchange.stream(&StreamLimits::default(), &stamp()).unwrap();
    let mut pieces = Vec::new();
    relay.feed(tape.body.trim_ascii_end(), &mut pieces).unwrap();
    relay.finish(&mut pieces).unwrap();
    assert_eq!(pieces.last(), Some(&Piece::Raw(Bytes::from_static(b"{\"type\":\"message_stop\"}"))));
}

#[test]
fn an_array_in_place_of_an_object_is_corrupt() {
    use DialectName::{
        AnthropicMessages, CohereChat, Gemini, OllamaChat, OpenAiChat, OpenAiCompletions, OpenAiResponses,
    };
    let start = r#"data: {"type":"message_start","message":{"id":"msg_1","model":"m","usage":{"input_tokens":1}}}"#;
    let delta = r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}"#;
    for (dialect, before, frame) in [
        (AnthropicMessages, format!("{start}\n\n{delta}"), r#"data: ["message_stop"]"#),
        (AnthropicMessages, start.to_owned(), r#"data: {"type":"message_delta","delta":["text_delta"]}"#),
        (Gemini, String::new(), r#"data: {"promptFeedback":[""]}"#),
        (Gemini, String::new(), r#"data: {"candidates":[[0,null,"STOP",null,null,null]]}"#),
        (OpenAiChat, String::new(), r#"data: {"choices":[[0,null,"stop",null,null]]}"#),
        (OpenAiCompletions, String::new(), r#"data: {"choices":[[0,"x",null,"stop"]]}"#),
        (OpenAiResponses, String::new(), r#"data: {"type":"response.completed","response":["resp_1"]}"#),
        (
            CohereChat,
            r#"data: {"type":"message-start","id":"1"}"#.to_owned(),
            r#"data: {"type":"message-end","delta":["COMPLETE"]}"#,
        ),
        (OllamaChat, String::new(), r#"["m",null,true,"stop"]"#),
    ] {
        let stream = format!("{before}\n\n{frame}\n\n");
        let (_, fed, ending) = run(dialect, [stream.trim_start().as_bytes()]);
        assert!(matches!(fed, Err(DecodeError::Corrupt { .. })), "{dialect}: {frame}: {fed:?}");
        assert!(ending.is_err(), "{dialect}: {frame}");
        // Nor is it an end where the bytes stop before its closing mark.
        let (_, _, ending) = run(dialect, [stream.trim().as_bytes()]);
        assert!(ending.is_err(), "{dialect}: {frame} without its closing mark");
    }
}

#[test]
fn a_doubled_member_that_does_not_count_can_be_edited() {
    let edit = [Edit::set_in("stream_options", "include_usage", "true")];
    for (body, edited) in [
        (
            r#"{"stream_options":1,"stream_options":{"a":0}}"#,
            Some(r#"{"stream_options":{"include_usage":true},"stream_options":{"a":0,"include_usage":true}}"#),
        ),
        (r#"{"stream_options":{"a":0},"stream_options":1}"#, None),
    ] {
        let got = rewrite(body.as_bytes(), &edit).ok();
        assert_eq!(got.as_deref(), edited.map(str::as_bytes), "{body}");
    }
}
