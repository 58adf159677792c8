//! Whose model it is, and the wire types of answers.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::{DialectName, Quirk, Target};

pub(super) const NAME: DialectName = DialectName::BedrockConverse;

/// Whose model answers, as its id tells: what the API has no member for goes to the model in its maker's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Claude,
    Nova,
    Nova2,
    OpenAi,
    Qwen,
    Other,
    /// An ARN that does not name the model behind it.
    Hidden,
}

impl Family {
    pub(super) fn of(target: &Target) -> Family {
        let model = target.model.as_str();
        let marks = [
            ("anthropic.", Family::Claude),
            ("amazon.nova-2", Family::Nova2),
            ("amazon.nova", Family::Nova),
            ("openai.", Family::OpenAi),
            ("qwen.", Family::Qwen),
        ];
        if let Some((_, family)) = marks.into_iter().find(|(mark, _)| model.contains(mark)) {
            return family;
        }
        match model.starts_with("arn:") {
            true if target.has(Quirk::AdaptiveThinking) => Family::Claude,
            true => Family::Hidden,
            false => Family::Other,
        }
    }
}

/// One block of an answer. Which member it has is what it is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Block<'a> {
    pub(super) text: Option<String>,
    #[serde(borrow)]
    pub(super) tool_use: Option<ToolUse<'a>>,
    pub(super) reasoning_content: Option<Reasoning>,
    #[serde(borrow)]
    pub(super) citations_content: Option<Cited<'a>>,
    pub(super) image: Option<Image>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolUse<'a> {
    pub(super) tool_use_id: String,
    pub(super) name: String,
    #[serde(default, borrow)]
    pub(super) input: Option<&'a RawValue>,
    /// `server_tool_use`: the provider calls it and answers it.
    #[serde(default, rename = "type")]
    pub(super) kind: Option<String>,
}

impl ToolUse<'_> {
    pub(super) fn is_the_providers(&self) -> bool {
        self.kind.as_deref() == Some("server_tool_use")
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Reasoning {
    pub(super) reasoning_text: Option<ReasoningText>,
    pub(super) redacted_content: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ReasoningText {
    pub(super) text: Option<String>,
    pub(super) signature: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Cited<'a> {
    pub(super) content: Option<Vec<Text>>,
    #[serde(borrow)]
    pub(super) citations: Option<Vec<&'a RawValue>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Text {
    pub(super) text: Option<String>,
}

/// The texts in a row.
pub(super) fn joined(texts: Option<Vec<Text>>) -> String {
    texts.unwrap_or_default().into_iter().filter_map(|text| text.text).collect()
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Citation {
    pub(super) title: Option<String>,
    pub(super) source: Option<String>,
    pub(super) source_content: Option<Vec<Text>>,
    pub(super) location: Option<Location>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Location {
    pub(super) web: Option<Web>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Web {
    pub(super) url: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Image {
    pub(super) format: String,
    pub(super) source: ImageSource,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ImageSource {
    pub(super) bytes: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ServiceTier {
    #[serde(default, rename = "type")]
    pub(super) kind: Option<String>,
}
