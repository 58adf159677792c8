//! Conversations in one API's words, served by another's provider: tools called in parallel and answered with an image,
//! in a stream and whole; the proofs of a provider's reasoning go back to it, and to nobody else.

use std::collections::BTreeMap;

use farebox_recordings::meaning::{Said as Meant, openai_choices, openai_chunks};
use serde_json::{Value, json};

use super::{Books, ask, check_row, open, path, received, shared, shown, tape};
use crate::stage::{Stage, play};

const PNG: &str = "iVBORw0KGgo=";
const QUESTION: &str = "When is the pier open?";
const HARBOUR: &str = "{\"type\":\"object\",\"properties\":{\"harbour\":{\"type\":\"string\"}}}";

/// A conversation: the caller's words, the provider, its two answers (a stream with tool calls, a whole one), what each
/// cost, what the first one says, and what of it nobody but its provider may see again.
struct Case {
    caller: &'static str,
    provider: &'static str,
    tapes: [&'static str; 2],
    books: [Books; 2],
    says: [&'static str; 2],
    calls: &'static [(&'static str, &'static str)],
    proofs: &'static [&'static str],
    /// The models that answered, where the provider says it.
    models: [&'static str; 2],
    /// Where the same history is sent next.
    stranger: &'static str,
    strangers_tape: &'static str,
}

const ANTHROPIC: [Books; 2] = [
    // 400 × 1 + 50 × 5 + 70 × 7 = 1140 millionths
    ([Some(400), Some(0), Some(0), Some(0), Some(50), Some(70)], "0.00114"),
    // 14 × 1 + 40 × 0.1 + 100 × 1.3 + 200 × 2.1 + 9 × 5 = 613
    ([Some(14), Some(40), Some(100), Some(200), Some(9), None], "0.000613"),
];
const GEMINI: [Books; 2] = [
    // 80 × 1 + 31 × 5 + 30 × 7 = 445
    ([Some(80), None, None, None, Some(31), Some(30)], "0.000445"),
    // 9 × 1 + 4 × 5 = 29
    ([Some(9), None, None, None, Some(4), None], "0.000029"),
];
const CONVERSE: [Books; 2] = [
    // 12 × 1 + 2048 × 0.1 + 100 × 1.3 + 200 × 2.1 + 140 × 5 = 1466.8
    ([Some(12), Some(2048), Some(100), Some(200), Some(140), None], "0.0014668"),
    // 20 × 1 + 7 × 5 = 55
    ([Some(20), None, None, None, Some(7), None], "0.000055"),
];
const COHERE: [Books; 2] = [
    // 46 × 1 + 14 × 5 = 116
    ([Some(46), None, None, None, Some(14), None], "0.000116"),
    // 20 × 1 + 5 × 5 = 45
    ([Some(20), None, None, None, Some(5), None], "0.000045"),
];
const OPENAI: [Books; 2] = [
    // 310 × 1 + 58 × 5 = 600
    ([Some(310), Some(0), None, None, Some(58), Some(0)], "0.0006"),
    // 20 × 1 + 7 × 5 = 55
    ([Some(20), Some(0), None, None, Some(7), Some(0)], "0.000055"),
];
const RESPONSES: [Books; 2] = [
    // 310 × 1 + 38 × 5 + 20 × 7 = 640
    ([Some(310), Some(0), Some(0), None, Some(38), Some(20)], "0.00064"),
    ([Some(20), Some(0), Some(0), None, Some(7), Some(0)], "0.000055"),
];
const INVOKE: [Books; 2] = [
    // 40 × 1 + 31 × 5 = 195
    ([Some(40), None, None, None, Some(31), None], "0.000195"),
    ANTHROPIC[1],
];

#[test]
fn chat_by_anthropic() {
    converse(Case {
        caller: "openai-chat",
        provider: "chat-anthropic",
        tapes: ["anthropic-messages/thinking-tools-s", "anthropic-messages/text"],
        books: ANTHROPIC,
        says: ["Let me look.", "Otters sleep afloat."],
        calls: &[("pier_status", r#"{"pier": "North", "depth": 1.10}"#), ("now", "{}")],
        proofs: &["c2lnLXRhcGU=", "ZW5jcnlwdGVk"],
        models: ["claude-tape-1", "claude-tape-1"],
        stranger: "chat-gemini",
        strangers_tape: "gemini/text",
    });
}

#[test]
fn chat_by_gemini() {
    converse(Case {
        caller: "openai-chat",
        provider: "chat-gemini",
        tapes: ["gemini/tools-s", "gemini/text"],
        books: GEMINI,
        says: ["Let me look.", "Otters float."],
        calls: &[("pier_status", r#"{"pier": "North", "depth": 1.5}"#), ("now", "{}"), ("now", "{}")],
        proofs: &["c2lnLWNhbGw="],
        models: ["gemini-3-flash-tape", "gemini-2.5-flash-tape"],
        stranger: "chat-bedrock",
        strangers_tape: "bedrock-converse/text",
    });
}

#[test]
fn chat_by_bedrock() {
    converse(Case {
        caller: "openai-chat",
        provider: "chat-bedrock",
        tapes: ["bedrock-converse/thinking-tools-s", "bedrock-converse/text"],
        books: CONVERSE,
        says: ["I will look.", "A heron stands on one leg."],
        calls: &[("ferry_times", r#"{"harbour": "Oban"}"#), ("tide_table", r#"{"day":1.10}"#)],
        proofs: &["c2lnbmF0dXJlLXRhcGU=", "UldFRFRBUEU="],
        models: [""; 2],
        stranger: "chat-cohere",
        strangers_tape: "cohere-chat/text",
    });
}

#[test]
fn chat_by_cohere() {
    converse(Case {
        caller: "openai-chat",
        provider: "chat-cohere",
        tapes: ["cohere-chat/tools-s", "cohere-chat/text"],
        books: COHERE,
        says: ["", "A heron stands."],
        calls: &[("look", r#"{"z": 1.10}"#), ("now", "{}"), ("now", "{}")],
        proofs: &[],
        models: [""; 2],
        stranger: "chat-anthropic",
        strangers_tape: "anthropic-messages/text",
    });
}

#[test]
fn messages_by_openai() {
    converse(Case {
        caller: "anthropic-messages",
        provider: "messages-openai",
        tapes: ["openai-chat/tools-parallel-s", "openai-chat/text"],
        books: OPENAI,
        says: ["", "A heron stands on one leg."],
        calls: &[
            ("ferry_times", r#"{"harbour":"Oban"}"#),
            ("tide_table", r#"{"day": 1.10, "n":12345678901234567890123}"#),
        ],
        proofs: &[],
        models: ["gpt-tape-1"; 2],
        stranger: "messages-gemini",
        strangers_tape: "gemini/text",
    });
}

#[test]
fn messages_by_gemini() {
    converse(Case {
        caller: "anthropic-messages",
        provider: "messages-gemini",
        tapes: ["gemini/tools-s", "gemini/text"],
        books: GEMINI,
        says: ["Let me look.", "Otters float."],
        calls: &[("pier_status", r#"{"pier": "North", "depth": 1.5}"#), ("now", "{}"), ("now", "{}")],
        proofs: &["c2lnLWNhbGw="],
        models: ["gemini-3-flash-tape", "gemini-2.5-flash-tape"],
        stranger: "messages-claude",
        strangers_tape: "anthropic-messages/text",
    });
}

#[test]
fn messages_by_nova() {
    converse(Case {
        caller: "anthropic-messages",
        provider: "messages-nova",
        tapes: ["bedrock-converse/thinking-tools-s", "bedrock-converse/text"],
        books: CONVERSE,
        says: ["I will look.", "A heron stands on one leg."],
        calls: &[("ferry_times", r#"{"harbour": "Oban"}"#), ("tide_table", r#"{"day":1.10}"#)],
        proofs: &["c2lnbmF0dXJlLXRhcGU=", "UldFRFRBUEU="],
        models: [""; 2],
        stranger: "messages-openai",
        strangers_tape: "openai-chat/text",
    });
}

#[test]
fn messages_by_claude_at_bedrock() {
    converse(Case {
        caller: "anthropic-messages",
        provider: "messages-claude",
        tapes: ["anthropic-messages/bedrock-tools", "anthropic-messages/text"],
        books: INVOKE,
        says: ["The lock opens — now.", "Otters sleep afloat."],
        calls: &[("open_lock", r#"{"gate":2}"#)],
        proofs: &[],
        models: ["claude-tape-2", "claude-tape-1"],
        stranger: "messages-nova",
        strangers_tape: "bedrock-converse/text",
    });
}

#[test]
fn responses_by_anthropic() {
    converse(Case {
        caller: "openai-responses",
        provider: "responses-anthropic",
        tapes: ["anthropic-messages/thinking-tools-s", "anthropic-messages/text"],
        books: ANTHROPIC,
        says: ["Let me look.", "Otters sleep afloat."],
        calls: &[("pier_status", r#"{"pier": "North", "depth": 1.10}"#), ("now", "{}")],
        proofs: &["c2lnLXRhcGU=", "ZW5jcnlwdGVk"],
        models: ["claude-tape-1"; 2],
        stranger: "responses-openai",
        strangers_tape: "openai-responses/text",
    });
}

#[test]
fn responses_by_openai_pass_through() {
    converse(Case {
        caller: "openai-responses",
        provider: "responses-openai",
        tapes: ["openai-responses/reasoning-tools-s", "openai-responses/text"],
        books: RESPONSES,
        says: ["", "A heron stands on one leg."],
        calls: &[
            ("ferry_times", r#"{"harbour":"Oban"}"#),
            ("tide_table", r#"{"day": 1.10, "n":12345678901234567890123}"#),
        ],
        proofs: &["gAAAAtape=="],
        models: ["gpt-tape-5"; 2],
        stranger: "responses-anthropic",
        strangers_tape: "anthropic-messages/text",
    });
}

/// Providers are shared between a conversation of their own and the strangers' part of another one.
static ONE_BY_ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn converse(case: Case) {
    // Waiting for a turn is not of a test's time.
    let _turn = ONE_BY_ONE.blocking_lock();
    play(talk(case));
}

async fn talk(case: Case) {
    let stage = shared().await;
    let mut body = question(case.caller, case.provider);
    body["stream"] = true.into();

    stage.emulator.route(&path(case.provider), tape(case.tapes[0]));
    let (chunks, first) = open(stage, case.caller, &body).await;
    let asked = received(stage, case.provider);
    assert!(first.get("error").is_none_or(Value::is_null), "{first}\n{}", shown(&asked));
    insta::assert_json_snapshot!(format!("{}-first", case.provider), shown(&asked));
    case.check_first(&chunks, &first);
    let row = check_row(stage, &first, &case.books[0]).await;
    case.check_facts(&row, true);

    let mut body = follow_up(case.caller, body, &first);
    body["stream"] = false.into();
    stage.emulator.route(&path(case.provider), tape(case.tapes[1]));
    let second = ask(stage, case.caller, &body).await;
    let asked = received(stage, case.provider);
    assert!(second.get("error").is_none_or(Value::is_null), "{second}\n{}", shown(&asked));
    insta::assert_json_snapshot!(format!("{}-second", case.provider), shown(&asked));
    let sent = String::from_utf8_lossy(&asked.body).into_owned();
    for proof in case.proofs {
        assert!(sent.contains(&format!("\"{proof}\"")), "`{proof}` did not come back: {sent}");
    }
    assert_eq!(said(case.caller, &second).text, case.says[1], "{second}");
    let row = check_row(stage, &second, &case.books[1]).await;
    case.check_facts(&row, false);
    case.check_stranger(stage, body).await;
}

impl Case {
    fn check_first(&self, chunks: &[Value], first: &Value) {
        let whole = said(self.caller, first);
        assert_eq!(whole.text, self.says[0], "{first}");
        let calls: Vec<(&str, &Value)> = whole.calls.iter().map(|(_, name, given)| (name.as_str(), given)).collect();
        let expected: Vec<(&str, Value)> = self.calls.iter().map(|(name, given)| (*name, json_of(given))).collect();
        assert_eq!(calls, expected.iter().map(|(name, given)| (*name, given)).collect::<Vec<_>>(), "{first}");
        assert_eq!(said_in(self.caller, chunks), whole, "the pieces are the answer");
    }

    fn check_facts(&self, row: &Value, stream: bool) {
        assert_eq!(row["stream"], stream, "{row}");
        assert_eq!(row["provider"], self.provider, "{row}");
        assert_eq!(row["served_model"], self.models[usize::from(!stream)], "{row}");
    }

    /// The same history before another provider: the words go there, the proofs do not.
    async fn check_stranger(&self, stage: &Stage, mut body: Value) {
        body["model"] = self.stranger.into();
        stage.emulator.route(&path(self.stranger), tape(self.strangers_tape));
        let answer = ask(stage, self.caller, &body).await;
        let asked = received(stage, self.stranger);
        assert!(answer.get("error").is_none_or(Value::is_null), "{answer}\n{}", shown(&asked));
        let sent = String::from_utf8_lossy(&asked.body).into_owned();
        for proof in self.proofs {
            assert!(!sent.contains(proof), "`{proof}` of {} went to {}: {sent}", self.provider, self.stranger);
        }
        assert!(sent.contains(QUESTION) && sent.contains(self.calls[0].0), "{sent}");
    }
}

fn parameters() -> Value {
    serde_json::from_str(HARBOUR).expect("JSON")
}

fn tools(tool: impl Fn(&str) -> Value) -> Vec<Value> {
    ["ferry_times", "now"].map(tool).to_vec()
}

/// A question with a picture and two tools, in the words of a caller.
fn question(caller: &str, model: &str) -> Value {
    let url = format!("data:image/png;base64,{PNG}");
    match caller {
        "openai-chat" => json!({
            "model": model,
            "messages": [
                { "role": "system", "content": "You know the harbour." },
                { "role": "user", "content": [
                    { "type": "text", "text": QUESTION },
                    { "type": "image_url", "image_url": { "url": url } },
                ] },
            ],
            "tools": tools(|name| json!({ "type": "function", "function": { "name": name, "description": "Says it.", "parameters": parameters() } })),
            "parallel_tool_calls": true,
            "reasoning_effort": "low",
            "max_completion_tokens": 3000,
        }),
        "anthropic-messages" => json!({
            "model": model,
            "system": "You know the harbour.",
            "messages": [{ "role": "user", "content": [
                { "type": "text", "text": QUESTION },
                { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": PNG } },
            ] }],
            "tools": tools(|name| json!({ "name": name, "description": "Says it.", "input_schema": parameters() })),
            "thinking": { "type": "enabled", "budget_tokens": 1024 },
            "max_tokens": 3000,
        }),
        _ => json!({
            "model": model,
            "instructions": "You know the harbour.",
            "input": [{ "role": "user", "content": [
                { "type": "input_text", "text": QUESTION },
                { "type": "input_image", "image_url": url },
            ] }],
            "tools": tools(|name| json!({ "type": "function", "name": name, "description": "Says it.", "parameters": parameters() })),
            "include": ["reasoning.encrypted_content"],
            "store": false,
            "reasoning": { "effort": "low" },
            "max_output_tokens": 3000,
        }),
    }
}

/// The conversation goes on: what came is sent back as it is, each tool answers with a text and a picture.
fn follow_up(caller: &str, mut body: Value, answer: &Value) -> Value {
    let url = format!("data:image/png;base64,{PNG}");
    let calls = said(caller, answer).calls;
    let list = if caller == "openai-responses" { "input" } else { "messages" };
    let turns = body[list].as_array_mut().expect("a list");
    match caller {
        "openai-chat" => {
            turns.push(answer["choices"][0]["message"].clone());
            turns.extend(calls.iter().map(|call| {
                json!({ "role": "tool", "tool_call_id": call.0, "content": [
                    { "type": "text", "text": "See there." },
                    { "type": "image_url", "image_url": { "url": url } },
                ] })
            }));
        }
        "anthropic-messages" => {
            turns.push(json!({ "role": "assistant", "content": answer["content"] }));
            let results: Vec<Value> = calls
                .iter()
                .map(|call| {
                    json!({ "type": "tool_result", "tool_use_id": call.0, "content": [
                        { "type": "text", "text": "See there." },
                        { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": PNG } },
                    ] })
                })
                .collect();
            turns.push(json!({ "role": "user", "content": results }));
        }
        _ => {
            turns.extend(answer["output"].as_array().expect("a list").iter().cloned());
            turns.extend(calls.iter().map(|call| {
                json!({ "type": "function_call_output", "call_id": call.0, "output": [
                    { "type": "input_text", "text": "See there." },
                    { "type": "input_image", "image_url": url },
                ] })
            }));
        }
    }
    body
}

/// What an answer says, in whatever words.
#[derive(Clone, Debug, Default, PartialEq)]
struct Said {
    text: String,
    /// Id, name, arguments.
    calls: Vec<(String, String, Value)>,
}

impl From<BTreeMap<u64, Meant>> for Said {
    fn from(choices: BTreeMap<u64, Meant>) -> Said {
        let meant = choices.into_values().next().unwrap_or_default();
        Said { text: meant.text, calls: meant.tools }
    }
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// What a text of JSON says; no text, an empty object.
fn json_of(text: &str) -> Value {
    if text.is_empty() { json!({}) } else { serde_json::from_str(text).expect("JSON") }
}

fn said(caller: &str, answer: &Value) -> Said {
    match caller {
        "openai-chat" => openai_choices(answer).into(),
        "anthropic-messages" => {
            let of = |kind: &'static str| list(&answer["content"]).filter(move |block| block["type"] == kind);
            let call = |block: &Value| (string(&block["id"]), string(&block["name"]), block["input"].clone());
            Said {
                text: of("text").map(|block| string(&block["text"])).collect(),
                calls: of("tool_use").map(call).collect(),
            }
        }
        _ => {
            let of = |kind: &'static str| list(&answer["output"]).filter(move |item| item["type"] == kind);
            let call =
                |item: &Value| (string(&item["call_id"]), string(&item["name"]), json_of(&string(&item["arguments"])));
            Said {
                text: of("message").flat_map(|item| list(&item["content"])).map(|part| string(&part["text"])).collect(),
                calls: of("function_call").map(call).collect(),
            }
        }
    }
}

/// What the pieces of a stream say together.
fn said_in(caller: &str, chunks: &[Value]) -> Said {
    if caller == "openai-chat" {
        return openai_chunks(chunks).into();
    }
    let mut text = String::new();
    // By the place in the answer: pieces of one call may come between those of another.
    let mut calls: BTreeMap<u64, (String, String, String)> = BTreeMap::new();
    for chunk in chunks {
        let place = chunk["index"].as_u64().or(chunk["output_index"].as_u64()).unwrap_or_default();
        let (block, delta) = match caller {
            "anthropic-messages" => (&chunk["content_block"], &chunk["delta"]),
            _ => (&chunk["item"], chunk),
        };
        match (chunk["type"].as_str(), block["type"].as_str()) {
            (Some("content_block_start"), Some("tool_use")) => {
                calls.insert(place, (string(&block["id"]), string(&block["name"]), String::new()));
            }
            (Some("response.output_item.added"), Some("function_call")) => {
                calls.insert(place, (string(&block["call_id"]), string(&block["name"]), String::new()));
            }
            (Some("content_block_delta"), _) => {
                text += &string(&delta["text"]);
                if let Some(piece) = delta["partial_json"].as_str() {
                    calls.get_mut(&place).expect("the call has begun").2 += piece;
                }
            }
            (Some("response.output_text.delta"), _) => text += &string(&delta["delta"]),
            (Some("response.function_call_arguments.delta"), _) => {
                calls.get_mut(&place).expect("the call has begun").2 += &string(&delta["delta"]);
            }
            _ => {}
        }
    }
    Said { text, calls: calls.into_values().map(|(id, name, json)| (id, name, json_of(&json))).collect() }
}
