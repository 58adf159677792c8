//! The API families of LLM providers, as pure functions: bytes in, values out.
//!
//! **Does.** A [`ProviderDialect`] turns a canonical [`Call`] into a provider's request and the provider's bytes into a
//! [`Completion`] or a row of [`Event`]s; a [`CallerDialect`] does the same towards a caller. [`outline`] reads what
//! routing needs from a body, [`rewrite`] changes single members of it and leaves every other byte as it was.
//!
//! **Guarantees.** No clock, no socket, no async, no logging. Any cut of a stream's bytes gives the same events. A
//! stream without the provider's own terminal event is [`Truncated`]: a finish is never invented. [`Usage`] comes in
//! disjoint buckets; usage that a stream repeats replaces the earlier value.
//!
//! **Does not.** It knows no provider (base URL, key, extra headers: `farebox-providers`), no price and no retry.
//!
//! | dialect | towards callers | towards providers |
//! |---|---|---|
//! | `openai-chat` | yes | yes |
//! | `openai-embeddings` | yes | yes |
//! | `anthropic-messages` | yes | yes |
//! | `anthropic-count-tokens` | yes | beside `anthropic-messages` |
//! | `cohere-chat` | | yes |
//! | `openai-responses` | yes | yes |
//! | `openai-completions` | yes | yes |
//! | `cohere-embed` | | yes |
//! | `cohere-rerank` | yes | yes |
//! | `bedrock-converse` | | yes |
//! | `gemini` | | yes |
//! | `gemini-embeddings` | | yes |
//! | `ollama-chat` | | yes |
//! | `titan-embeddings` | | yes |
//!
//! `tests/it/snapshots` shows every kind of call in every dialect (`calls`), and answers of every dialect as every
//! caller reads them (`answers`).
//!
//! Callers without a dialect speak the typed messages of the contract: [`typed`].
//!
//! [`Usage`]: farebox_types::Usage

mod anthropic_messages;
mod bedrock_converse;
mod beside;
mod canonical;
mod cohere;
mod decoder;
mod dialect;
pub mod emulate;
mod error;
mod exchange;
mod framing;
mod gemini;
mod gemini_embeddings;
pub mod http_stream;
mod json;
mod name;
mod notes;
mod ollama_chat;
mod openai_chat;
mod openai_completions;
mod openai_embeddings;
mod openai_error;
mod openai_responses;
mod outline;
mod path;
mod refusal;
mod replay;
mod rewrite;
mod titan_embeddings;
mod tool_names;
pub mod typed;

pub use beside::{Beside, Heard, heard};
pub use canonical::{
    CacheMark, Call, Choice, Citation, Collector, Completion, Content, Delta, Effort, EmbedCall, EmbedInput,
    EmbedPurpose, Embeddings, Ending, Event, Extra, FinishReason, Grouped, Media, Message, NativeTool, Part, PartId,
    PartKind, Ranked, Ranking, Reasoning, ReasoningRequest, Refusal, RerankCall, RerankDocument, ResponseFormat, Role,
    Sampling, Source, Tool, ToolCall, ToolChoice, ToolResult, Truncated, Vector, VectorEncoding,
};
pub use dialect::{
    Caller, CallerDialect, CountCaller, CountDialect, Defaults, DialectName, EmbedCaller, EmbedDialect, Encoded, Head,
    Hosting, OnUnsupported, Operation, Passing, Provider, ProviderDialect, Quirk, RerankCaller, RerankDialect, Stamp,
    StreamDecoder, StreamEncoder, StreamLimits, Target, UnknownDialect, Warning, caller_dialect, provider_dialect,
};
pub use error::{BadRequest, DecodeError, EncodeError, FrameError, Oversize, RewriteError};
pub use exchange::{Answer, Asked, Exchange, Facts, Relay};
pub use framing::{Frame, Framing, sse};
pub use json::RawJson;
pub use outline::{Outline, outline};
pub use path::segment;
pub use replay::as_stream;
pub use rewrite::{Edit, rewrite};
