//! The dialects by name, and what each asks a provider to do.

use std::{fmt, str::FromStr};

use farebox_proto::v1;

/// One endpoint of an API family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DialectName {
    OpenAiChat,
    OpenAiResponses,
    OpenAiCompletions,
    OpenAiEmbeddings,
    AnthropicMessages,
    AnthropicCountTokens,
    Gemini,
    GeminiEmbeddings,
    BedrockConverse,
    TitanEmbeddings,
    CohereChat,
    CohereEmbed,
    CohereRerank,
    OllamaChat,
}

/// What a dialect asks a provider to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Answer a conversation.
    Generate,
    /// Turn texts into vectors.
    Embed,
    /// Order documents by their worth to a query.
    Rerank,
    /// Say how many tokens a conversation has. It costs nothing.
    CountTokens,
}

impl DialectName {
    pub const ALL: [DialectName; 14] = {
        use DialectName::*;
        [
            OpenAiChat,
            OpenAiResponses,
            OpenAiCompletions,
            OpenAiEmbeddings,
            AnthropicMessages,
            AnthropicCountTokens,
            Gemini,
            GeminiEmbeddings,
            BedrockConverse,
            TitanEmbeddings,
            CohereChat,
            CohereEmbed,
            CohereRerank,
            OllamaChat,
        ]
    };

    pub const fn as_str(self) -> &'static str {
        match self {
            DialectName::OpenAiChat => "openai-chat",
            DialectName::OpenAiResponses => "openai-responses",
            DialectName::OpenAiCompletions => "openai-completions",
            DialectName::OpenAiEmbeddings => "openai-embeddings",
            DialectName::AnthropicMessages => "anthropic-messages",
            DialectName::AnthropicCountTokens => "anthropic-count-tokens",
            DialectName::Gemini => "gemini",
            DialectName::GeminiEmbeddings => "gemini-embeddings",
            DialectName::BedrockConverse => "bedrock-converse",
            DialectName::TitanEmbeddings => "titan-embeddings",
            DialectName::CohereChat => "cohere-chat",
            DialectName::CohereEmbed => "cohere-embed",
            DialectName::CohereRerank => "cohere-rerank",
            DialectName::OllamaChat => "ollama-chat",
        }
    }

    pub const fn operation(self) -> Operation {
        match self {
            DialectName::OpenAiChat
            | DialectName::OpenAiResponses
            | DialectName::OpenAiCompletions
            | DialectName::AnthropicMessages
            | DialectName::Gemini
            | DialectName::BedrockConverse
            | DialectName::CohereChat
            | DialectName::OllamaChat => Operation::Generate,
            DialectName::OpenAiEmbeddings
            | DialectName::GeminiEmbeddings
            | DialectName::TitanEmbeddings
            | DialectName::CohereEmbed => Operation::Embed,
            DialectName::CohereRerank => Operation::Rerank,
            DialectName::AnthropicCountTokens => Operation::CountTokens,
        }
    }
}

impl fmt::Display for DialectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for DialectName {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<DialectName, D::Error> {
        let given = <std::borrow::Cow<'_, str>>::deserialize(from)?;
        given.parse().map_err(serde::de::Error::custom)
    }
}

impl serde::Serialize for DialectName {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is no dialect; there are: {}", DialectName::ALL.map(DialectName::as_str).join(", "))]
pub struct UnknownDialect {
    given: String,
}

impl FromStr for DialectName {
    type Err = UnknownDialect;

    fn from_str(given: &str) -> Result<DialectName, UnknownDialect> {
        DialectName::ALL
            .into_iter()
            .find(|d| d.as_str() == given)
            .ok_or_else(|| UnknownDialect { given: given.chars().take(40).collect() })
    }
}

impl From<DialectName> for v1::Dialect {
    fn from(name: DialectName) -> v1::Dialect {
        match name {
            DialectName::OpenAiChat => v1::Dialect::OpenaiChat,
            DialectName::OpenAiResponses => v1::Dialect::OpenaiResponses,
            DialectName::OpenAiCompletions => v1::Dialect::OpenaiCompletions,
            DialectName::OpenAiEmbeddings => v1::Dialect::OpenaiEmbeddings,
            DialectName::AnthropicMessages => v1::Dialect::AnthropicMessages,
            DialectName::AnthropicCountTokens => v1::Dialect::AnthropicCountTokens,
            DialectName::Gemini => v1::Dialect::Gemini,
            DialectName::GeminiEmbeddings => v1::Dialect::GeminiEmbeddings,
            DialectName::BedrockConverse => v1::Dialect::BedrockConverse,
            DialectName::TitanEmbeddings => v1::Dialect::TitanEmbeddings,
            DialectName::CohereChat => v1::Dialect::CohereChat,
            DialectName::CohereEmbed => v1::Dialect::CohereEmbed,
            DialectName::CohereRerank => v1::Dialect::CohereRerank,
            DialectName::OllamaChat => v1::Dialect::OllamaChat,
        }
    }
}

impl DialectName {
    /// The dialect of the contract; `None` where the field says unspecified.
    pub fn known(given: v1::Dialect) -> Option<DialectName> {
        DialectName::ALL.into_iter().find(|name| v1::Dialect::from(*name) == given)
    }
}
