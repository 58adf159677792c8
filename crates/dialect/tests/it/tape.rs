//! Recorded exchanges: one JSON file each, in a folder that bears its dialect's name; a stream's body is raw text, or
//! base64 where it is binary (`body_base64`).

use std::path::PathBuf;

use base64::{Engine, engine::general_purpose::STANDARD};
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
        Value::Null => STANDARD.decode(response["body_base64"].as_str().unwrap()).unwrap(),
        Value::String(raw) => raw.clone().into_bytes(),
        json => serde_json::to_vec(json).unwrap(),
    };
    let dialect = name.split('/').next().unwrap().parse().unwrap();
    Tape { streamed: name.ends_with("-s"), name: name.to_owned(), dialect, head, body }
}

fn all() -> Vec<Tape> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(root()).unwrap() {
        let folder = folder.unwrap();
        let dialect = folder.file_name().into_string().unwrap();
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            found.push(tape(&format!("{dialect}/{}", file.strip_suffix(".json").unwrap())));
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Every stream on tape.
pub(crate) fn streams() -> Vec<Tape> {
    let found: Vec<Tape> = all().into_iter().filter(|tape| tape.streamed).collect();
    assert!(found.len() >= 14, "only {} streams on tape", found.len());
    found
}

/// Every whole answer on tape.
pub(crate) fn wholes() -> Vec<Tape> {
    all().into_iter().filter(|tape| !tape.streamed && tape.head.status.is_success()).collect()
}
