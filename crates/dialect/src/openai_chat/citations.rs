//! Where an answer's text comes from: OpenAI's `annotations`
//! (<https://platform.openai.com/docs/guides/tools-web-search?api-mode=chat>), and the sources that Perplexity lists beside
//! the answer (<https://docs.perplexity.ai/api-reference/chat-completions-post>).

use serde::{Deserialize, Serialize};

use super::types::NAME;
use crate::{canonical::Citation, json::RawJson};

#[derive(Deserialize)]
struct Annotation {
    url_citation: Source,
}

#[derive(Deserialize)]
struct Source {
    url: Option<String>,
    title: Option<String>,
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    snippet: Option<String>,
    #[serde(default)]
    start_index: Option<u64>,
    #[serde(default)]
    end_index: Option<u64>,
}

impl Source {
    fn citation(self, raw: Option<&RawJson>) -> Citation {
        // A place of no length is how servers say that they know none.
        let place = self.start_index.zip(self.end_index).filter(|(start, end)| end > start);
        Citation {
            url: self.url,
            title: self.title.filter(|title| !title.is_empty()),
            quote: self.content.or(self.snippet).filter(|quote| !quote.is_empty()),
            start: place.map(|(start, _)| start),
            end: place.map(|(_, end)| end),
            raw: raw.map(|raw| (NAME, raw.clone())),
        }
    }
}

/// One of the `annotations`; of a kind that is not known here, it stays as it is.
pub(super) fn read(raw: &RawJson) -> Citation {
    match serde_json::from_str::<Annotation>(raw.as_str()) {
        Ok(annotation) => annotation.url_citation.citation(Some(raw)),
        Err(_) => Citation { raw: Some((NAME, raw.clone())), ..Citation::default() },
    }
}

/// `search_results`, or only the addresses where there are none.
pub(super) fn sources(results: Option<Vec<RawJson>>, addresses: Option<Vec<String>>) -> Vec<Citation> {
    let results = results.unwrap_or_default();
    if results.is_empty() {
        let addresses = addresses.unwrap_or_default().into_iter();
        return addresses.map(|url| Citation { url: Some(url), ..Citation::default() }).collect();
    }
    results
        .iter()
        .filter_map(|raw| serde_json::from_str::<Source>(raw.as_str()).ok())
        .map(|source| source.citation(None))
        .collect()
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Written<'a> {
    Raw(&'a RawJson),
    Url {
        #[serde(rename = "type")]
        kind: &'static str,
        url_citation: UrlCitation<'a>,
    },
}

#[derive(Serialize)]
pub(super) struct UrlCitation<'a> {
    url: &'a str,
    title: &'a str,
    start_index: u64,
    end_index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

/// `None`: the source has no address, and this dialect no word for any other.
pub(super) fn write(citation: &Citation) -> Option<Written<'_>> {
    if let Some((NAME, raw)) = &citation.raw {
        return Some(Written::Raw(raw));
    }
    Some(Written::Url {
        kind: "url_citation",
        url_citation: UrlCitation {
            url: citation.url.as_deref()?,
            title: citation.title.as_deref().unwrap_or_default(),
            start_index: citation.start.unwrap_or(0),
            end_index: citation.end.unwrap_or(0),
            content: citation.quote.as_deref(),
        },
    })
}
