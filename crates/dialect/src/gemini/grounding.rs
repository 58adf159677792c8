//! What an answer leans on: grounding supports with their chunks, and citations.

use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::types::{CitationMetadata, Grounding, NAME, Segment, Support};
use crate::{canonical::Citation, json::RawJson};

/// The sources of one candidate, to be placed once the text is whole. A later report replaces an earlier one.
#[derive(Debug, Default)]
pub(super) struct Sources {
    supports: Vec<Support>,
    chunks: Vec<RawJson>,
    cited: Vec<RawJson>,
}

/// A chunk is of one kind (`web`, `retrievedContext`, `maps`); all kinds have the same members.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk {
    #[serde(alias = "retrievedContext", alias = "maps", alias = "image")]
    web: Option<Origin>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Origin {
    #[serde(alias = "sourceUri")]
    uri: Option<String>,
    title: Option<String>,
    text: Option<String>,
}

/// An entry of `citationMetadata`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cited {
    uri: Option<String>,
    title: Option<String>,
    start_index: Option<usize>,
    end_index: Option<usize>,
}

impl Sources {
    pub(super) fn ground(&mut self, grounding: Grounding<'_>) {
        let chunks = owned(grounding.grounding_chunks);
        if !chunks.is_empty() {
            self.chunks = chunks;
            self.supports = grounding.grounding_supports.unwrap_or_default();
        }
    }

    pub(super) fn cite(&mut self, citations: CitationMetadata<'_>) {
        self.cited = owned(citations.citation_sources);
    }

    /// The citations of this text, and nothing left. Chunks that no support names stand for the whole text.
    pub(super) fn take(&mut self, text: &str) -> Vec<Citation> {
        let Sources { supports, chunks, cited } = std::mem::take(self);
        let mut out = Vec::new();
        for support in &supports {
            let place = support.segment.as_ref().and_then(|segment| locate(text, segment));
            let indices = support.grounding_chunk_indices.iter().flatten();
            out.extend(indices.filter_map(|index| chunks.get(*index)).map(|raw| grounded(raw, place.as_ref())));
        }
        if supports.is_empty() {
            out.extend(chunks.iter().map(|raw| grounded(raw, None)));
        }
        out.extend(cited.into_iter().map(|raw| recited(text, raw)));
        out
    }
}

fn owned(raw: Option<Vec<&RawValue>>) -> Vec<RawJson> {
    raw.into_iter().flatten().map(RawJson::from).collect()
}

fn grounded(raw: &RawJson, place: Option<&Range<u64>>) -> Citation {
    let origin = serde_json::from_str::<Chunk>(raw.as_str()).ok().and_then(|chunk| chunk.web);
    let (url, title, quote) = origin.map_or((None, None, None), |o| (o.uri, o.title, o.text));
    Citation {
        url,
        title,
        quote,
        start: place.map(|p| p.start),
        end: place.map(|p| p.end),
        raw: Some((NAME, raw.clone())),
    }
}

fn recited(text: &str, raw: RawJson) -> Citation {
    let Ok(cited) = serde_json::from_str::<Cited>(raw.as_str()) else {
        return Citation { raw: Some((NAME, raw)), ..Citation::default() };
    };
    let place = characters(text, cited.start_index.unwrap_or(0)..cited.end_index.unwrap_or(0));
    Citation {
        url: cited.uri,
        title: cited.title,
        quote: None,
        start: place.as_ref().map(|p| p.start),
        end: place.map(|p| p.end),
        raw: Some((NAME, raw)),
    }
}

/// Where a segment stands, in characters. Its offsets count only if its own words are found there: they may be meant
/// for a text that came in other parts.
fn locate(text: &str, segment: &Segment) -> Option<Range<u64>> {
    let bytes = segment.start_index.unwrap_or(0)..segment.end_index.unwrap_or(0);
    let Some(words) = segment.text.as_deref().filter(|words| !words.is_empty()) else {
        return characters(text, bytes);
    };
    if text.get(bytes.clone()) == Some(words) {
        return characters(text, bytes);
    }
    let at = text.find(words)?;
    characters(text, at..at + words.len())
}

fn characters(text: &str, bytes: Range<usize>) -> Option<Range<u64>> {
    let count = |piece: &str| u64::try_from(piece.chars().count()).unwrap_or(u64::MAX);
    let start = count(text.get(..bytes.start)?);
    let length = count(text.get(bytes).filter(|piece| !piece.is_empty())?);
    Some(start..start.saturating_add(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, segment: &str) -> Option<Range<u64>> {
        locate(text, &serde_json::from_str(segment).unwrap())
    }

    #[test]
    fn bytes_become_characters_and_words_win() {
        let text = "Ebbe über Föhr.";
        assert_eq!(place(text, r#"{"startIndex":5,"endIndex":10,"text":"über"}"#), Some(5..9));
        assert_eq!(place(text, r#"{"endIndex":4}"#), Some(0..4));
        assert_eq!(place(text, r#"{"startIndex":90,"endIndex":95,"text":"Föhr"}"#), Some(10..14));
        assert_eq!(place(text, r#"{"startIndex":6,"endIndex":9}"#), None);
        assert_eq!(place(text, r#"{"startIndex":0,"endIndex":3,"text":"Sylt"}"#), None);
        assert_eq!(place(text, r#"{"startIndex":9,"endIndex":3}"#), None);
        assert_eq!(place(text, "{}"), None);
    }
}
