//! Cohere's API, version 2: chat, embed and rerank share what they bill and how they refuse.

mod billing;
mod chat;
mod embed;
mod error;
mod rerank;

pub(crate) use chat::CohereChat;
pub(crate) use embed::CohereEmbed;
pub(crate) use rerank::CohereRerank;

use std::borrow::Cow;

use crate::{
    canonical::{Media, Source},
    error::EncodeError,
    notes::Notes,
};

/// An image's address, or the image itself as a data URL.
fn image_url<'a>(media: &'a Media, notes: &Notes) -> Result<Cow<'a, str>, EncodeError> {
    match &media.source {
        Source::Url(url) => Ok(Cow::Borrowed(url)),
        Source::Base64 { media_type, data } => Ok(Cow::Owned(format!("data:{media_type};base64,{data}"))),
        Source::Text(_) | Source::Uploaded(_) => Err(notes.unsupported("an uploaded image")),
    }
}
