//! The two halves of a dialect, what they are given, and where to find them.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use farebox_types::Fault;
use http::{HeaderMap, StatusCode};

use crate::{
    anthropic_messages::AnthropicMessages,
    canonical::{Call, Completion, Ending, Event, Refusal, Truncated},
    error::{BadRequest, DecodeError, EncodeError},
    openai_chat::OpenAiChat,
};

/// An API family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DialectName {
    OpenAiChat,
    AnthropicMessages,
}

impl DialectName {
    pub const ALL: [DialectName; 2] = [DialectName::OpenAiChat, DialectName::AnthropicMessages];

    pub const fn as_str(self) -> &'static str {
        match self {
            DialectName::OpenAiChat => "openai-chat",
            DialectName::AnthropicMessages => "anthropic-messages",
        }
    }
}

impl fmt::Display for DialectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no dialect: use openai-chat or anthropic-messages")]
pub struct UnknownDialect(String);

impl FromStr for DialectName {
    type Err = UnknownDialect;

    fn from_str(given: &str) -> Result<DialectName, UnknownDialect> {
        DialectName::ALL
            .into_iter()
            .find(|d| d.as_str() == given)
            .ok_or_else(|| UnknownDialect(given.chars().take(40).collect()))
    }
}

/// One API family, towards a provider.
pub trait ProviderDialect: Send + Sync {
    fn name(&self) -> DialectName;

    /// The call as a request of this dialect: method, path below the provider's base URL, the dialect's own headers
    /// and the body. Base URL, credentials and the provider's headers are added by whoever sends it.
    fn encode(&self, call: &Call, target: &Target) -> Result<Encoded, EncodeError>;

    /// The same request around a body that is already in this dialect (the caller's own bytes, edited in place).
    fn request(&self, target: &Target, body: Bytes) -> Result<http::Request<Bytes>, EncodeError>;

    /// A whole answer with a status of success.
    fn decode(&self, head: &Head, body: &[u8]) -> Result<Completion, DecodeError>;

    /// An answer with any other status. It never fails: what cannot be read is an upstream error with the raw body.
    fn decode_error(&self, head: &Head, body: &[u8]) -> Refusal;

    /// A decoder for one streamed answer. It may also watch bytes that are passed through untouched.
    fn decoder(&self, limits: &StreamLimits) -> Box<dyn StreamDecoder>;
}

/// One API family, towards a caller.
pub trait CallerDialect: Send + Sync {
    fn name(&self) -> DialectName;

    fn parse(&self, headers: &HeaderMap, body: &[u8]) -> Result<Call, BadRequest>;

    fn render(&self, call: &Call, completion: &Completion, stamp: &Stamp) -> Bytes;

    fn renderer(&self, call: &Call, stamp: &Stamp) -> Box<dyn StreamEncoder>;

    fn render_error(&self, fault: &Fault) -> (StatusCode, Bytes);
}

/// Bytes of one streamed answer in, events out. A fed error is final: every later call gives it again.
pub trait StreamDecoder: Send {
    fn feed(&mut self, bytes: &[u8], out: &mut Vec<Event>) -> Result<(), DecodeError>;

    /// Whether the provider's terminal event (or its error) has been seen: nothing of worth can follow.
    fn is_done(&self) -> bool;

    /// The connection has ended. Call it once.
    fn finish(&mut self, out: &mut Vec<Event>) -> Result<Ending, Truncated>;
}

/// Events in, chunks of a streamed answer out: one JSON object each, without framing (see [`crate::sse`]).
pub trait StreamEncoder: Send {
    fn name(&self) -> DialectName;

    fn encode(&mut self, event: &Event, out: &mut Vec<Bytes>);

    /// The stream is complete: what stands after the last event (OpenAI: the usage chunk, where the call asked for it).
    fn finish(&mut self, out: &mut Vec<Bytes>);
}

/// What the encoder must know of the place a call goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The model's name at the provider.
    pub model: String,
    /// Path below the provider's base URL, where it is not the dialect's own.
    pub path: Option<String>,
    /// Output limit for a call that names none, for dialects that require one.
    pub default_max_output_tokens: u64,
    pub unsupported: OnUnsupported,
    pub quirks: Vec<Quirk>,
}

impl Target {
    pub const DEFAULT_MAX_OUTPUT_TOKENS: u64 = 4096;

    pub fn new(model: impl Into<String>) -> Target {
        Target {
            model: model.into(),
            path: None,
            default_max_output_tokens: Self::DEFAULT_MAX_OUTPUT_TOKENS,
            unsupported: OnUnsupported::Drop,
            quirks: Vec::new(),
        }
    }

    pub(crate) fn has(&self, quirk: Quirk) -> bool {
        self.quirks.contains(&quirk)
    }
}

/// What happens to a parameter the dialect has no word for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnsupported {
    /// Left out, with a [`Warning`].
    #[default]
    Drop,
    /// The call is refused.
    Refuse,
}

/// Where a provider differs from its dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quirk {
    /// Knows `max_tokens` only, not `max_completion_tokens`.
    MaxTokens,
    /// Refuses `stream_options`.
    NoStreamOptions,
}

/// A request, and what the caller should be told about how it came to be.
#[derive(Debug)]
pub struct Encoded {
    pub request: http::Request<Bytes>,
    pub warnings: Vec<Warning>,
}

/// Something of the call did not reach the provider as the caller wrote it. One sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(pub String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Status and headers of a provider's answer.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
}

/// What an answer needs besides its content. Ids and times are made by whoever has a clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Id of the answer as the caller sees it.
    pub id: String,
    /// Unix seconds.
    pub created: i64,
    /// The model's name as the caller sees it; `None`: the provider's own.
    pub model: Option<String>,
}

/// Bounds of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    pub max_frame_bytes: usize,
}

impl Default for StreamLimits {
    fn default() -> StreamLimits {
        StreamLimits { max_frame_bytes: 8 * 1024 * 1024 }
    }
}

/// The half towards providers. Every dialect has one.
pub fn provider_dialect(name: DialectName) -> &'static dyn ProviderDialect {
    match name {
        DialectName::OpenAiChat => &OpenAiChat,
        DialectName::AnthropicMessages => &AnthropicMessages,
    }
}

/// The half towards callers, for the dialects that callers may speak.
pub fn caller_dialect(name: DialectName) -> Option<&'static dyn CallerDialect> {
    match name {
        DialectName::OpenAiChat => Some(&OpenAiChat),
        DialectName::AnthropicMessages => None,
    }
}
