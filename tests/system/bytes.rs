//! The caller's bytes go through untouched, and so do the provider's, apart from a short list of edits.

use farebox_emulator::{Recorded, Script, Usage};
use serde_json::Value;

use crate::stage::{play, shared};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// `answer` is `raw` with one more member, `farebox`, in front of its last brace; the member.
fn only_farebox_added(answer: &[u8], raw: &str) -> Value {
    let (answer, end) = (text(answer), raw.rfind('}').expect("an object"));
    let (before, after) = raw.split_at(end);
    assert!(answer.starts_with(before), "changed:\n{answer}\nwas:\n{raw}");
    assert!(answer.ends_with(after), "changed:\n{answer}\nwas:\n{raw}");
    let added = &answer[before.len()..answer.len() - after.len()];
    let member = added.strip_prefix(",\"farebox\":").unwrap_or_else(|| panic!("what was added is `{added}`"));
    serde_json::from_str(member).expect("one JSON value")
}

/// Duplicate keys, numbers that no float keeps, escapes, odd white space, members that nobody knows.
const REQUEST: &str = "{ \"x_unknown\" : {\"a\":1,\"a\":2,\"n\":1.10,\"big\":123456789012345678901234567890,\"e\":1E+2} ,\r\n\t\
     \"messages\":[ {\"role\":\"user\",\"content\":\"caf\\u00e9 \\ud83d\\ude00 \\/ tab\\t €\",\"odd\":[ ]} ],  \
     \"model\" :\t\"odd-alias\" , \"temperature\":0.10 ,\"farebox\": {\"task_id\" : \"t\"},\"seed\":123456789012345678901234567890, \"stop\":null }";

const ANSWER: &str = "{\n  \"id\" : \"chatcmpl-1\",\t\"object\":\"chat.completion\",\"created\":1752912500,\r\n \
     \"model\":\"odd-2025\",\"x\":{\"a\":1,\"a\":2},\"n\":1.10,\"big\":123456789012345678901234567890,\
     \"choices\":[ {\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"caf\\u00e9 \\/ \\ud83d\\ude00 €\",\
     \"later\":null},\"logprobs\":null,\"finish_reason\":\"stop\",\"w\":1E-7} ],\
     \"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7,\"total_tokens\":18} }\n";

fn recorded(body: &str, kind: &str) -> Script {
    Script::recorded(Recorded {
        status: 200,
        headers: vec![("content-type".into(), kind.into())],
        body: bytes::Bytes::copy_from_slice(body.as_bytes()),
        usage: Usage::new(11, 7),
    })
}

#[test]
fn a_whole_exchange_keeps_its_bytes() {
    play(async {
        let stage = shared().await;
        stage.emulator.push("odd", recorded(ANSWER, "application/json"));
        let answer = stage.ask_bytes(REQUEST).await;
        let facts = only_farebox_added(&answer, ANSWER);
        // 11 in at 1, 7 out at 2 dollars a million.
        assert_eq!(facts["cost_usd"], "0.000025", "{facts}");

        // The model's name, and farebox's own member with its comma: nothing else.
        let sent = stage.emulator.last_request("odd").expect("it was sent");
        let expected = REQUEST.replace("\"odd-alias\"", "\"odd\"").replace("\"farebox\": {\"task_id\" : \"t\"},", "");
        assert_eq!(text(&sent), expected);
    });
}

#[test]
fn a_body_without_anything_to_edit_is_sent_as_it_is() {
    play(async {
        let stage = shared().await;
        let body = " {\"model\":\"bytes\",\"messages\":[{\"role\":\"user\",\"content\":\"\\u0041\"}],\"x_n\":1.0 }\n";
        let answer = stage.ask_text(body).await;
        assert_eq!(answer["farebox"]["outcome"], "ok", "{answer}");
        assert_eq!(text(&stage.emulator.last_request("bytes").expect("it was sent")), body);
    });
}

#[test]
fn a_stream_keeps_the_bytes_of_every_event() {
    play(async {
        let stage = shared().await;
        let head = "{\"id\":\"c\",  \"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"odd-2025\",\"a\":1,\"a\":2,";
        let event = |rest: &str| format!("{head}{rest}}}");
        let events = [
            event(
                "\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"caf\\u00e9 \"},\"finish_reason\":null}] ",
            ),
            event(
                "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\/ €\"},\"logprobs\":1.10,\"finish_reason\":null}]",
            ),
            event(
                "\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"big\":123456789012345678901234567890",
            ),
            event("\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7,\"total_tokens\":18}"),
        ];
        let body: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        stage
            .emulator
            .push("bytes-stream", recorded(&format!("{body}data: [DONE]\n\n"), "text/event-stream").chunks(9));
        let request = REQUEST.replace("\"odd-alias\"", "\"odd-stream-alias\"").replacen('{', "{\"stream\" : true,", 1);
        let mut inbox = stage.open(&request).await;
        let (chunks, last) = stage.read(&mut inbox).await;
        // The event with the usage that farebox asked for is kept from a caller who did not ask.
        assert_eq!(chunks.len(), 3);
        for (seq, (chunk, event)) in chunks.iter().zip(&events).enumerate() {
            assert_eq!(only_farebox_added(chunk, event)["seq"], seq);
        }
        let last: Value = serde_json::from_slice(&last).expect("JSON");
        assert_eq!(last["choices"][0]["message"]["content"], "café / €", "{last}");
        assert_eq!(last["farebox"]["cost_usd"], "0.000025", "{last}");

        // On streams one more edit: the usage is asked for.
        let sent = text(&stage.emulator.last_request("bytes-stream").expect("it was sent"));
        let expected = request.replace("\"odd-stream-alias\"", "\"bytes-stream\"");
        let expected = expected.replace("\"farebox\": {\"task_id\" : \"t\"},", "");
        let (before, after) = expected.split_at(expected.rfind('}').expect("an object"));
        let added = sent.strip_prefix(before.trim_end()).and_then(|rest| rest.strip_suffix(after.trim_start()));
        let added = added.unwrap_or_else(|| panic!("changed:\n{sent}\nwas:\n{expected}")).trim();
        assert_eq!(added, ",\"stream_options\":{\"include_usage\":true}");
    });
}
