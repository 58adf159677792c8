//! One binary for all integration tests of the dialects.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod anthropic;
mod anthropic_hosted;
mod bedrock;
mod bedrock_answers;
mod calls;
mod claude_code;
mod cohere;
mod decode;
mod embeddings;
mod emulate;
mod encode;
mod errors;
mod exchange;
mod gemini;
mod gemini_answers;
mod gemini_embeddings;
mod golden;
mod hostile;
mod http_stream;
mod laws;
mod matrix;
mod ollama;
mod openai_chat;
mod openai_completions;
mod openai_responses;
mod outline;
mod render;
mod rerank;
mod rewrite;
mod tape;
mod titan;
mod tool_groups;
mod typed;

use farebox_dialect::{
    Caller, CallerDialect, DialectName, Provider, ProviderDialect, caller_dialect, provider_dialect,
};

pub(crate) fn provider(name: DialectName) -> &'static dyn ProviderDialect {
    provider_dialect(name).and_then(Provider::generate).unwrap()
}

pub(crate) fn caller(name: DialectName) -> &'static dyn CallerDialect {
    caller_dialect(name).and_then(Caller::generate).unwrap()
}

/// Every dialect in which a provider answers conversations.
pub(crate) fn generating() -> impl Iterator<Item = DialectName> {
    DialectName::ALL.into_iter().filter(|name| provider_dialect(*name).and_then(Provider::generate).is_some())
}
