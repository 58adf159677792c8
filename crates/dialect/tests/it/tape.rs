//! Recorded exchanges: one JSON file each, a stream's body as raw text.

use std::path::PathBuf;

use farebox_dialect::{DialectName, Head};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

pub(crate) struct Tape {
    pub(crate) name: String,
    pub(crate) dialect: DialectName,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) streamed: bool,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tapes")
}

pub(crate) fn tape(name: &str) -> Tape {
    let text = std::fs::read_to_string(root().join(format!("{name}.json"))).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let response = &file["response"];
    let mut head = Head {
        status: StatusCode::from_u16(response["status"].as_u64().unwrap().try_into().unwrap()).unwrap(),
        ..Head::default()
    };
    for (name, value) in response["headers"].as_object().unwrap() {
        let value = HeaderValue::from_str(value.as_str().unwrap()).unwrap();
        head.headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
    }
    let body = match &response["body"] {
        Value::String(raw) => raw.clone().into_bytes(),
        json => serde_json::to_vec(json).unwrap(),
    };
    let dialect = match name.split('/').next().unwrap() {
        "openai" => DialectName::OpenAiChat,
        "anthropic" => DialectName::AnthropicMessages,
        other => panic!("no dialect for {other}"),
    };
    Tape { streamed: name.ends_with("-s"), name: name.to_owned(), dialect, head, body }
}

/// Every stream on tape.
pub(crate) fn streams() -> Vec<Tape> {
    let mut found = Vec::new();
    for provider in ["anthropic", "openai"] {
        for entry in std::fs::read_dir(root().join(provider)).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            let tape = tape(&format!("{provider}/{}", file.strip_suffix(".json").unwrap()));
            if tape.streamed {
                found.push(tape);
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(found.len() >= 14, "only {} streams on tape", found.len());
    found
}
