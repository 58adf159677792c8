//! Which API an exchange is of: the list of what is checked, and of what is not, with the reason.

use crate::exchange::{Body, Exchange};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    Chat,
    Completions,
    Responses,
    Embeddings,
    Anthropic,
    AnthropicCount,
    Gemini,
    GeminiEmbed,
    GeminiCount,
    Converse,
    BedrockCount,
    TitanEmbed,
    CohereChat,
    CohereEmbed,
    CohereRerank,
    Ollama,
}

/// Whose envelope an exchange comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    Own,
    Vertex,
    /// `InvokeModel`: another API's body, and its stream in Amazon's frames.
    Invoke,
}

impl Family {
    /// `Err`: why exchanges of this kind are not checked.
    pub fn of(exchange: &Exchange) -> Result<(Family, Host), String> {
        let Exchange { provider, endpoint, .. } = exchange;
        let url = exchange.request.as_ref().map_or("", |request| request.url.as_str());
        let own = |family| Ok((family, Host::Own));
        match (provider.as_str(), endpoint.as_str()) {
            ("openai", "messages") => Err("messages of OpenAI's assistants: a listing of a thread, no call".to_owned()),
            (_, "models") => Err("a listing of models: no call".to_owned()),
            ("cohere", "chat") if url.contains("/v1/chat") => {
                Err("Cohere's first chat API: replaced by /v2/chat, which farebox speaks".to_owned())
            }
            ("bedrock", "invoke" | "invoke-stream") => invoked(exchange),
            ("vertex", "messages" | "rawPredict" | "streamRawPredict") => Ok((Family::Anthropic, Host::Vertex)),
            (_, "chat.completions") => own(Family::Chat),
            (_, "completions") => own(Family::Completions),
            (_, "responses") => own(Family::Responses),
            (_, "embeddings") => own(Family::Embeddings),
            (_, "messages") => own(Family::Anthropic),
            (_, "messages.count_tokens") => own(Family::AnthropicCount),
            (_, "generateContent" | "streamGenerateContent") => own(Family::Gemini),
            (_, "embedContent" | "batchEmbedContents" | "predict") => own(Family::GeminiEmbed),
            (_, "countTokens") => own(Family::GeminiCount),
            (_, "converse" | "converse-stream") => own(Family::Converse),
            (_, "bedrock.count-tokens") => own(Family::BedrockCount),
            (_, "chat") => own(Family::CohereChat),
            (_, "embed") => own(Family::CohereEmbed),
            (_, "rerank") => own(Family::CohereRerank),
            (_, "ollama.chat") => own(Family::Ollama),
            (provider, endpoint) => Err(format!("unknown endpoint `{endpoint}` of `{provider}`")),
        }
    }

    /// Whether the answer is one of words, which may be streamed.
    pub fn generates(self) -> bool {
        use Family::*;
        matches!(self, Chat | Completions | Responses | Anthropic | Gemini | Converse | CohereChat | Ollama)
    }
}

/// The dialect behind `InvokeModel` is the model's own.
fn invoked(exchange: &Exchange) -> Result<(Family, Host), String> {
    let model = exchange.model().unwrap_or_default();
    let family = match () {
        () if model.contains("anthropic.") => Family::Anthropic,
        // Without a model, its answer tells.
        () if model.contains("titan-embed") || model.is_empty() && answers(exchange, "inputTextTokenCount") => {
            Family::TitanEmbed
        }
        () if model.contains("cohere.embed") => Family::CohereEmbed,
        () => {
            let whose = ["nova", "titan", "cohere", "sagemaker"].into_iter().find(|whose| model.contains(whose));
            let whose = whose.map_or_else(|| format!("`{model}`"), |whose| format!("a `{whose}` model"));
            return Err(format!("InvokeModel of {whose}: farebox reaches it by Converse, or not at all"));
        }
    };
    Ok((family, Host::Invoke))
}

fn answers(exchange: &Exchange, member: &str) -> bool {
    matches!(&exchange.body, Body::Json(text) if text.contains(member))
}
