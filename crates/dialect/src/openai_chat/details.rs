//! `reasoning_details`: OpenRouter's documented form for reasoning that carries a proof
//! (<https://openrouter.ai/docs/guides/best-practices/reasoning-tokens>). It is read from providers and callers, and
//! written to callers next to `reasoning_content`, so that signed thinking survives the turns of a conversation.

use serde::{Deserialize, Serialize};

use crate::{
    canonical::{Reasoning, sealed},
    dialect::DialectName,
};

const TEXT: &str = "reasoning.text";
const SUMMARY: &str = "reasoning.summary";
const ENCRYPTED: &str = "reasoning.encrypted";

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(super) struct Detail {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    summary: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default)]
    format: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
}

/// One detail, in our words. What is empty is absent.
#[derive(Default)]
pub(super) struct Read {
    pub(super) text: Option<String>,
    pub(super) signature: Option<String>,
    pub(super) encrypted: Option<String>,
    pub(super) id: Option<String>,
    pub(super) origin: Option<DialectName>,
    pub(super) index: Option<u32>,
}

impl Detail {
    pub(super) fn read(self) -> Read {
        let full = |text: &String| !text.is_empty();
        let mut origin = match self.format.as_deref() {
            Some("anthropic-claude-v1") => Some(DialectName::AnthropicMessages),
            Some("openai-responses-v1" | "xai-responses-v1") => Some(DialectName::OpenAiResponses),
            Some("google-gemini-v1") => Some(DialectName::Gemini),
            _ => None,
        };
        let mut open = |seal: Option<String>| {
            let seal = seal.filter(full)?;
            let Some((name, payload)) = sealed::unseal(&seal) else { return Some(seal) };
            origin = Some(name);
            Some(payload.to_owned())
        };
        let (signature, encrypted) = (open(self.signature), open(self.data));
        Read {
            text: self.text.or(self.summary).filter(full),
            signature,
            encrypted,
            id: self.id.filter(full),
            origin,
            index: self.index,
        }
    }
}

/// The format that a seal of this origin has by name; `None`: it is sealed as farebox's own.
fn format(origin: Option<DialectName>) -> Option<&'static str> {
    match origin? {
        DialectName::AnthropicMessages => Some("anthropic-claude-v1"),
        DialectName::OpenAiResponses => Some("openai-responses-v1"),
        DialectName::Gemini => Some("google-gemini-v1"),
        _ => None,
    }
}

/// Whether OpenRouter may know the proof: by its format's name, or because it may be its own.
pub(super) fn is_known(reasoning: &Reasoning) -> bool {
    reasoning.origin.is_none() || format(reasoning.origin).is_some()
}

/// The blank detail of a piece of reasoning.
fn blank(kind: &str, origin: Option<DialectName>, index: u32) -> Detail {
    Detail {
        kind: kind.to_owned(),
        format: Some(format(origin).unwrap_or("unknown").to_owned()),
        index: Some(index),
        ..Detail::default()
    }
}

fn seal(origin: Option<DialectName>, payload: &str) -> String {
    match format(origin) {
        Some(_) => payload.to_owned(),
        None => sealed::by(origin, payload),
    }
}

pub(super) fn text(text: &str, origin: Option<DialectName>, index: u32) -> Detail {
    // What the Responses API shows of its reasoning is a summary.
    if origin == Some(DialectName::OpenAiResponses) {
        return Detail { summary: Some(text.to_owned()), ..blank(SUMMARY, origin, index) };
    }
    Detail { text: Some(text.to_owned()), ..blank(TEXT, origin, index) }
}

pub(super) fn signature(signature: &str, origin: Option<DialectName>, index: u32) -> Detail {
    Detail { signature: Some(seal(origin, signature)), ..blank(TEXT, origin, index) }
}

pub(super) fn encrypted(data: &str, id: Option<&str>, origin: Option<DialectName>, index: u32) -> Detail {
    Detail { data: Some(seal(origin, data)), id: id.map(str::to_owned), ..blank(ENCRYPTED, origin, index) }
}

/// Everything of one piece of reasoning.
pub(super) fn whole(reasoning: &Reasoning, index: u32) -> Vec<Detail> {
    let Reasoning { origin, id, .. } = reasoning;
    let mut details = Vec::new();
    if !reasoning.text.is_empty() || reasoning.signature.is_some() {
        let mut detail = text(&reasoning.text, *origin, index);
        detail.signature = reasoning.signature.as_deref().map(|signature| seal(*origin, signature));
        details.push(detail);
    }
    details.extend(reasoning.encrypted.as_deref().map(|data| encrypted(data, id.as_deref(), *origin, index)));
    details
}

/// The details of several pieces; none at all where nothing carries a proof.
pub(super) fn of<'a>(pieces: impl Iterator<Item = &'a Reasoning> + Clone) -> Vec<Detail> {
    if !pieces.clone().any(|piece| piece.signature.is_some() || piece.encrypted.is_some()) {
        return Vec::new();
    }
    pieces.zip(0..).flat_map(|(piece, index)| whole(piece, index)).collect()
}
