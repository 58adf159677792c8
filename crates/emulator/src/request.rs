//! The little that the emulator reads of a request.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// The fields that matter, of both dialects.
#[derive(serde::Deserialize)]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    pub(crate) model: Cow<'a, str>,
    #[serde(default)]
    pub(crate) stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(borrow, default)]
    messages: Option<&'a RawValue>,
    #[serde(borrow, default)]
    system: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
    #[serde(default)]
    pub(crate) max_tokens: Option<u64>,
    #[serde(default)]
    max_completion_tokens: Option<u64>,
}

#[derive(serde::Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

#[derive(serde::Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Option<Content<'a>>,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Parts(#[serde(borrow)] Vec<Part<'a>>),
    Other(serde::de::IgnoredAny),
}

#[derive(serde::Deserialize)]
struct Part<'a> {
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
}

impl<'a> Request<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Request<'a>, String> {
        serde_json::from_slice(body).map_err(|e| e.to_string())
    }

    pub(crate) fn streams(&self) -> bool {
        self.stream == Some(true)
    }

    pub(crate) fn wants_usage(&self) -> bool {
        self.stream_options.as_ref().is_some_and(|o| o.include_usage == Some(true))
    }

    pub(crate) fn has_messages(&self) -> bool {
        self.messages.is_some_and(|m| m.get() != "[]" && m.get() != "null")
    }

    pub(crate) fn output_limit(&self) -> Option<u64> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    pub(crate) fn prompt_tokens(&self) -> u64 {
        let raw = [self.messages, self.system, self.tools];
        tokens(raw.into_iter().flatten().map(|v| v.get().len()).sum()).max(1)
    }

    /// The text of the last message, where it has some.
    pub(crate) fn last_text(&self) -> Option<String> {
        let messages: Vec<Message<'_>> = serde_json::from_str(self.messages?.get()).ok()?;
        match messages.last()?.content.as_ref()? {
            Content::Text(text) => Some(text.to_string()),
            Content::Parts(parts) => parts.iter().find_map(|p| p.text.as_ref()).map(|t| t.to_string()),
            Content::Other(_) => None,
        }
    }
}

/// One token per four bytes, rounded up.
pub(crate) fn tokens(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(4)).unwrap_or(u64::MAX)
}
