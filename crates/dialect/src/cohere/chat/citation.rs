//! What a piece of text leans on: documents of the call, and results of tools.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::NAME;
use crate::{
    canonical::Citation,
    json::{Object, RawJson},
};

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(default)]
    start: Option<u64>,
    #[serde(default)]
    end: Option<u64>,
    #[serde(default, borrow)]
    sources: Option<Vec<Source<'a>>>,
    /// Which block of the content it is about; the text, where it does not say.
    #[serde(default)]
    content_index: Option<usize>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Source<'a> {
    #[serde(default, borrow)]
    document: Option<&'a RawValue>,
    #[serde(default, borrow)]
    tool_output: Option<&'a RawValue>,
}

pub(super) struct Cited {
    pub(super) citation: Citation,
    pub(super) content_index: Option<usize>,
    /// Whether it is the answer's text that leans on it, and neither its plan nor its reasoning.
    pub(super) in_text: bool,
}

/// A source may be any object of the caller's: its `url` and `title` are said in every dialect, the rest in Cohere's only.
pub(super) fn read(raw: &RawValue) -> serde_json::Result<Cited> {
    let wire: Wire<'_> = serde_json::from_str(raw.get())?;
    let sources = wire.sources.unwrap_or_default();
    let named = |name: &str| sources.iter().find_map(|source| member(source.document.or(source.tool_output)?, name));
    Ok(Cited {
        citation: Citation {
            url: named("url"),
            title: named("title"),
            quote: None,
            start: wire.start,
            end: wire.end,
            raw: Some((NAME, RawJson::from(raw))),
        },
        content_index: wire.content_index,
        in_text: wire.kind.is_none_or(|kind| kind == "TEXT_CONTENT"),
    })
}

fn member(object: &RawValue, name: &str) -> Option<String> {
    let raw = serde_json::from_str::<Object<'_>>(object.get()).ok()?.take(name)?;
    serde_json::from_str(raw.get()).ok()
}
