//! What inputs are made from: the answers on tape with the dialects, and the hand-made calls beside this crate.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use farebox_dialect::DialectName;
use serde_json::Value;

/// An answer of a provider.
pub(crate) struct Tape {
    pub(crate) dialect: DialectName,
    pub(crate) body: Vec<u8>,
    pub(crate) streamed: bool,
    pub(crate) success: bool,
}

pub(crate) fn tapes() -> anyhow::Result<Vec<Tape>> {
    let mut tapes = Vec::new();
    for (dialect, path) in files(&crate_dir().join("../dialect/tests/tapes"))? {
        let file: Value = serde_json::from_slice(&std::fs::read(&path)?).with_context(|| path.display().to_string())?;
        let response = &file["response"];
        let body = match &response["body"] {
            Value::Null => STANDARD.decode(response["body_base64"].as_str().context("no body")?)?,
            Value::String(raw) => raw.clone().into_bytes(),
            json => serde_json::to_vec(json)?,
        };
        let streamed = path.file_stem().is_some_and(|stem| stem.as_encoded_bytes().ends_with(b"-s"));
        tapes.push(Tape { dialect, body, streamed, success: response["status"] == 200 });
    }
    Ok(tapes)
}

/// Bodies of callers, by the dialect that they are in.
pub(crate) fn calls() -> anyhow::Result<Vec<(DialectName, Vec<u8>)>> {
    let files = files(&crate_dir().join("corpus"))?;
    files.into_iter().map(|(dialect, path)| Ok((dialect, std::fs::read(path)?))).collect()
}

fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files in the folders that are named after dialects, in an order that is always the same.
fn files(root: &Path) -> anyhow::Result<Vec<(DialectName, PathBuf)>> {
    let mut found = Vec::new();
    for name in DialectName::ALL {
        let folder = root.join(name.as_str());
        if !folder.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(folder)? {
            found.push((name, entry?.path()));
        }
    }
    found.sort();
    Ok(found)
}
