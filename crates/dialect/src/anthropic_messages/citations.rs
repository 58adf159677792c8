//! What a text leans on: <https://docs.anthropic.com/en/docs/build-with-claude/citations>.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::types::NAME;
use crate::{canonical::Citation, json::RawJson};

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    document_title: Option<String>,
    #[serde(default)]
    cited_text: Option<String>,
}

/// A list of citations; `None`: it is none.
pub(super) fn read(raw: &RawValue) -> Option<Vec<Citation>> {
    let list: Vec<&RawValue> = serde_json::from_str(raw.get()).ok()?;
    list.into_iter().map(one).collect()
}

/// Places are given in the source, not in the text; they stand in the raw form only.
pub(super) fn one(raw: &RawValue) -> Option<Citation> {
    let wire: Wire = serde_json::from_str(raw.get()).ok()?;
    Some(Citation {
        url: wire.url,
        title: wire.title.or(wire.document_title),
        quote: wire.cited_text,
        start: None,
        end: None,
        raw: Some((NAME, RawJson::from(raw))),
    })
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Written<'a> {
    Own(&'a RawJson),
    Web {
        #[serde(rename = "type")]
        kind: &'static str,
        cited_text: &'a str,
        encrypted_index: &'static str,
        title: Option<&'a str>,
        url: &'a str,
    },
}

/// As this dialect wrote it itself; `None`: it is another's.
pub(super) fn own(citation: &Citation) -> Option<Written<'_>> {
    citation.raw.as_ref().filter(|(dialect, _)| *dialect == NAME).map(|(_, raw)| Written::Own(raw))
}

/// For a caller: another dialect's citation of a page looks like one of a web search. Others have no place here.
pub(super) fn for_caller(citation: &Citation) -> Option<Written<'_>> {
    own(citation).or_else(|| {
        Some(Written::Web {
            kind: "web_search_result_location",
            cited_text: citation.quote.as_deref().unwrap_or_default(),
            encrypted_index: "",
            title: citation.title.as_deref(),
            url: citation.url.as_deref()?,
        })
    })
}
