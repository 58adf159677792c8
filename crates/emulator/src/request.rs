//! The little that the emulator reads of a request.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// The fields that matter, of all dialects.
#[derive(serde::Deserialize)]
pub(crate) struct Request<'a> {
    /// Empty where neither body nor path names one.
    #[serde(borrow, default)]
    pub(crate) model: Cow<'a, str>,
    #[serde(default)]
    pub(crate) stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(borrow, default, alias = "input", alias = "contents", alias = "requests")]
    messages: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "instructions", alias = "systemInstruction")]
    system: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "generateContentRequest")]
    tools: Option<&'a RawValue>,
    #[serde(default)]
    pub(crate) max_tokens: Option<u64>,
    #[serde(default, alias = "max_output_tokens")]
    max_completion_tokens: Option<u64>,
    #[serde(default, rename = "generationConfig")]
    generation: Option<Generation>,
}

#[derive(serde::Deserialize)]
struct Generation {
    #[serde(default, rename = "maxOutputTokens")]
    limit: Option<u64>,
}

#[derive(serde::Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

#[derive(serde::Deserialize)]
struct Message<'a> {
    #[serde(borrow, default, alias = "parts")]
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
    /// `named` is what the path says of model and streaming, where the dialect says it there.
    pub(crate) fn parse(body: &'a [u8], named: Option<(&'a str, bool)>) -> Result<Request<'a>, String> {
        let mut request: Request<'a> = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        if let Some((model, stream)) = named {
            (request.model, request.stream) = (Cow::Borrowed(model), Some(stream));
        }
        if request.model.is_empty() { Err("missing field `model`".to_owned()) } else { Ok(request) }
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
        self.max_completion_tokens.or(self.max_tokens).or_else(|| self.generation.as_ref()?.limit)
    }

    pub(crate) fn prompt_tokens(&self) -> u64 {
        let raw = [self.messages, self.system, self.tools];
        tokens(raw.into_iter().flatten().map(|v| v.get().len()).sum()).max(1)
    }

    /// The text of the last message, where it has some.
    pub(crate) fn last_text(&self) -> Option<String> {
        let raw = self.messages?.get();
        if raw.starts_with('"') {
            return serde_json::from_str(raw).ok();
        }
        let messages: Vec<Message<'_>> = serde_json::from_str(raw).ok()?;
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
