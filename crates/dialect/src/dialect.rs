//! The two halves of a dialect, what they are given, and where to find them.

use std::fmt;

use bytes::Bytes;
use farebox_types::Fault;
use http::{HeaderMap, Method, StatusCode, header::CONTENT_TYPE};

pub use crate::name::{DialectName, Operation, UnknownDialect};
use crate::{
    anthropic_messages::{AnthropicCountTokens, AnthropicMessages},
    bedrock_converse::BedrockConverse,
    canonical::{Call, Completion, EmbedCall, Embeddings, Ending, Event, Ranking, Refusal, RerankCall, Truncated},
    cohere::{CohereChat, CohereEmbed, CohereRerank},
    error::{BadRequest, DecodeError, EncodeError},
    framing::{Frame, Framing},
    gemini::Gemini,
    gemini_embeddings::GeminiEmbeddings,
    ollama_chat::OllamaChat,
    openai_chat::OpenAiChat,
    openai_completions::OpenAiCompletions,
    openai_embeddings::OpenAiEmbeddings,
    openai_responses::OpenAiResponses,
    rewrite::Edit,
    titan_embeddings::TitanEmbeddings,
};

/// [`Operation::Generate`], towards a provider.
pub trait ProviderDialect: Send + Sync {
    fn name(&self) -> DialectName;

    /// The call as a request of this dialect: method, path below the provider's base URL, the dialect's own headers
    /// and the body. Base URL, credentials and the provider's headers are added by whoever sends it.
    fn encode(&self, call: &Call, target: &Target) -> Result<Encoded, EncodeError>;

    /// The closed list of what changes in a body that its caller wrote in this dialect. Dialects that no caller may
    /// speak have none.
    fn edits(&self, _passing: &Passing<'_>) -> Vec<Edit<'static>> {
        Vec::new()
    }

    /// What a caller of this dialect says in headers and its provider has to hear.
    fn headers(&self, _passing: &Passing<'_>) -> HeaderMap {
        HeaderMap::new()
    }

    /// The request around a body that is already in this dialect.
    fn request(&self, target: &Target, stream: bool, body: Bytes) -> Result<http::Request<Bytes>, EncodeError>;

    /// A whole answer with a status of success.
    fn decode(&self, head: &Head, body: &[u8]) -> Result<Completion, DecodeError>;

    /// An answer with any other status. It never fails: what cannot be read is an upstream error with the raw body.
    fn decode_error(&self, head: &Head, body: &[u8]) -> Refusal;

    /// How a streamed answer of this target is cut into frames. A frame's data is what a caller of the same dialect
    /// would read.
    fn framing(&self, target: &Target, limits: &StreamLimits) -> Box<dyn Framing>;

    /// A decoder for one streamed answer, framing included. It may also watch bytes that are passed through untouched.
    fn decoder(&self, target: &Target, limits: &StreamLimits) -> Box<dyn StreamDecoder>;

    /// Whether a frame of the answer is handed on to a caller of the same dialect.
    fn passes(&self, _frame: Frame<'_>, _include_usage: bool) -> bool {
        true
    }

    /// Counting tokens through the provider, where this API family has an endpoint for it.
    fn counting(&self) -> Option<&'static dyn CountDialect> {
        None
    }
}

/// [`Operation::CountTokens`], towards a provider: an endpoint beside the one that answers.
pub trait CountDialect: Send + Sync {
    fn name(&self) -> DialectName;

    fn encode(&self, call: &Call, target: &Target) -> Result<Encoded, EncodeError>;

    /// The closed list of what changes in a body that its caller wrote in this dialect.
    fn edits(&self, _call: &Call, _target: &Target) -> Vec<Edit<'static>> {
        Vec::new()
    }

    /// The request around a body that is already in this dialect.
    fn request(&self, call: &Call, target: &Target, body: Bytes) -> Result<http::Request<Bytes>, EncodeError>;

    /// Tokens of the input.
    fn decode(&self, body: &[u8]) -> Result<u64, DecodeError>;
}

/// [`Operation::Embed`], towards a provider.
pub trait EmbedDialect: Send + Sync {
    fn name(&self) -> DialectName;

    fn encode(&self, call: &EmbedCall, target: &Target) -> Result<Encoded, EncodeError>;

    fn edits(&self, _target: &Target) -> Vec<Edit<'static>> {
        Vec::new()
    }

    fn request(&self, target: &Target, body: Bytes) -> Result<http::Request<Bytes>, EncodeError>;

    fn decode(&self, head: &Head, body: &[u8]) -> Result<Embeddings, DecodeError>;

    fn decode_error(&self, head: &Head, body: &[u8]) -> Refusal;
}

/// [`Operation::Rerank`], towards a provider.
pub trait RerankDialect: Send + Sync {
    fn name(&self) -> DialectName;

    fn encode(&self, call: &RerankCall, target: &Target) -> Result<Encoded, EncodeError>;

    fn edits(&self, _target: &Target) -> Vec<Edit<'static>> {
        Vec::new()
    }

    fn request(&self, target: &Target, body: Bytes) -> Result<http::Request<Bytes>, EncodeError>;

    fn decode(&self, head: &Head, body: &[u8]) -> Result<Ranking, DecodeError>;

    fn decode_error(&self, head: &Head, body: &[u8]) -> Refusal;
}

/// A provider's half of a dialect, by what it does.
#[derive(Clone, Copy)]
pub enum Provider {
    Generate(&'static dyn ProviderDialect),
    Embed(&'static dyn EmbedDialect),
    Rerank(&'static dyn RerankDialect),
}

/// [`Operation::Generate`], towards a caller.
pub trait CallerDialect: Send + Sync {
    fn name(&self) -> DialectName;

    fn parse(&self, headers: &HeaderMap, body: &[u8]) -> Result<Call, BadRequest>;

    fn render(&self, call: &Call, completion: &Completion, stamp: &Stamp) -> Bytes;

    fn renderer(&self, call: &Call, stamp: &Stamp) -> Box<dyn StreamEncoder>;

    fn render_error(&self, fault: &Fault) -> (StatusCode, Bytes);
}

/// [`Operation::CountTokens`], towards a caller.
pub trait CountCaller: Send + Sync {
    fn name(&self) -> DialectName;

    fn parse(&self, headers: &HeaderMap, body: &[u8]) -> Result<Call, BadRequest>;

    fn render(&self, tokens: u64) -> Bytes;

    fn render_error(&self, fault: &Fault) -> (StatusCode, Bytes);
}

/// [`Operation::Embed`], towards a caller.
pub trait EmbedCaller: Send + Sync {
    fn name(&self) -> DialectName;

    fn parse(&self, headers: &HeaderMap, body: &[u8]) -> Result<EmbedCall, BadRequest>;

    /// `Err`: the provider's vectors cannot be written as the caller wants them.
    fn render(&self, call: &EmbedCall, answer: &Embeddings, stamp: &Stamp) -> Result<Bytes, DecodeError>;

    /// A rendered answer with the tokens that were counted for it, where it says none.
    fn counted(&self, answer: Bytes, input: u64) -> Bytes;

    fn render_error(&self, fault: &Fault) -> (StatusCode, Bytes);
}

/// [`Operation::Rerank`], towards a caller.
pub trait RerankCaller: Send + Sync {
    fn name(&self) -> DialectName;

    fn parse(&self, headers: &HeaderMap, body: &[u8]) -> Result<RerankCall, BadRequest>;

    fn render(&self, call: &RerankCall, answer: &Ranking, stamp: &Stamp) -> Bytes;

    fn render_error(&self, fault: &Fault) -> (StatusCode, Bytes);
}

/// A caller's half of a dialect, by what it does.
#[derive(Clone, Copy)]
pub enum Caller {
    Generate(&'static dyn CallerDialect),
    Embed(&'static dyn EmbedCaller),
    Rerank(&'static dyn RerankCaller),
    CountTokens(&'static dyn CountCaller),
}

impl Caller {
    pub fn generate(self) -> Option<&'static dyn CallerDialect> {
        if let Caller::Generate(dialect) = self { Some(dialect) } else { None }
    }
}

impl Provider {
    pub fn name(self) -> DialectName {
        match self {
            Provider::Generate(dialect) => dialect.name(),
            Provider::Embed(dialect) => dialect.name(),
            Provider::Rerank(dialect) => dialect.name(),
        }
    }

    pub fn generate(self) -> Option<&'static dyn ProviderDialect> {
        if let Provider::Generate(dialect) = self { Some(dialect) } else { None }
    }
}

/// Bytes of one streamed answer in, events out. A fed error is final: every later call gives it again.
pub trait StreamDecoder: Send {
    /// `seen` gets each frame that is a part of the answer, the terminal one included: what follows it, is corrupt or an
    /// error is none.
    fn watch(&mut self, bytes: &[u8], out: &mut Vec<Event>, seen: &mut dyn FnMut(Frame<'_>))
    -> Result<(), DecodeError>;

    /// The connection has ended. Call it once.
    fn watch_end(&mut self, out: &mut Vec<Event>, seen: &mut dyn FnMut(Frame<'_>)) -> Result<Ending, Truncated>;

    /// Whether the provider's terminal event (or its error) has been seen: nothing of worth can follow.
    fn is_done(&self) -> bool;

    /// Without a look at the frames.
    fn feed(&mut self, bytes: &[u8], out: &mut Vec<Event>) -> Result<(), DecodeError> {
        self.watch(bytes, out, &mut |_| {})
    }

    /// Without a look at the last frame.
    fn finish(&mut self, out: &mut Vec<Event>) -> Result<Ending, Truncated> {
        self.watch_end(out, &mut |_| {})
    }
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
    /// The most that the model writes, where it is known. A call that is translated asks for no more.
    pub max_output_tokens: Option<u64>,
    /// The model is known not to reason. A call that is translated does not ask it to.
    pub never_reasons: bool,
    pub unsupported: OnUnsupported,
    pub hosting: Hosting,
    pub quirks: Vec<Quirk>,
}

impl Target {
    pub const DEFAULT_MAX_OUTPUT_TOKENS: u64 = 4096;

    pub fn new(model: impl Into<String>) -> Target {
        Target {
            model: model.into(),
            path: None,
            default_max_output_tokens: Self::DEFAULT_MAX_OUTPUT_TOKENS,
            max_output_tokens: None,
            never_reasons: false,
            unsupported: OnUnsupported::Drop,
            hosting: Hosting::Own,
            quirks: Vec::new(),
        }
    }

    pub fn has(&self, quirk: Quirk) -> bool {
        self.quirks.contains(&quirk)
    }

    /// A POST of JSON to the dialect's own path, or to the target's where it has one.
    pub(crate) fn post(&self, path: &str, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
        http::Request::builder()
            .method(Method::POST)
            .uri(self.path.as_deref().unwrap_or(path))
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| EncodeError::Write(error.to_string()))
    }
}

/// Whose servers speak the dialect. A cloud that hosts another company's models puts its own envelope around their
/// dialect: other paths, the model in the path, other frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hosting {
    /// The dialect's own company, or who is compatible with it.
    #[default]
    Own,
    /// Google's Vertex AI: <https://cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude>.
    Vertex,
    /// Amazon Bedrock's InvokeModel:
    /// <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages.html>.
    Bedrock,
}

/// A caller's own body on its way through to a provider of the same dialect.
#[derive(Clone, Copy, Debug)]
pub struct Passing<'a> {
    /// As it is understood; `stream` says what is sent.
    pub call: &'a Call,
    /// What the body itself says.
    pub asked_stream: bool,
    pub defaults: Defaults,
    pub target: &'a Target,
}

impl Passing<'_> {
    /// The output limit where the caller gave none, under the first of these names; and none of them above what the call
    /// was clamped to.
    pub(crate) fn limits(&self, names: &[&'static str]) -> Vec<Edit<'static>> {
        let Defaults { clamp, .. } = self.defaults;
        match (self.call.max_output_tokens, names.first()) {
            (None, Some(first)) => {
                self.defaults.limit(None).map(|limit| Edit::set(first, limit.to_string())).into_iter().collect()
            }
            _ => clamp.iter().flat_map(|clamp| names.iter().map(|name| Edit::lower(name, *clamp))).collect(),
        }
    }
}

/// What is said for a call beside its caller.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Defaults {
    /// The config's, for calls that have none.
    pub max_output_tokens: Option<u64>,
    /// The config's, likewise.
    pub temperature: Option<f64>,
    /// No call has more output than this, whatever its caller says: its budget has no more.
    pub clamp: Option<u64>,
}

impl Defaults {
    /// The output limit of a call whose caller says `said`.
    pub(crate) fn limit(&self, said: Option<u64>) -> Option<u64> {
        let limit = said.or(self.max_output_tokens);
        self.clamp.map_or(limit, |clamp| Some(limit.map_or(clamp, |limit| limit.min(clamp))))
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

/// Where a provider, or some of its models, differ from the dialect. Each has a tape that shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quirk {
    /// Knows `max_tokens` only, not `max_completion_tokens`.
    MaxTokens,
    /// Refuses `stream_options`.
    NoStreamOptions,
    /// Has no JSON mode and no JSON schema of its own: both are emulated by a tool that the model must call.
    JsonByTool,
    /// Has a JSON mode, but no JSON schema: the schema is emulated by a tool that the model must call.
    SchemaByTool,
    /// Refuses `temperature`, `top_p` and the penalties (reasoning models).
    NoSampling,
    /// Takes one of `temperature` and `top_p`, not both.
    OneSampling,
    /// Knows no `developer` role: it is sent as `system`.
    NoDeveloper,
    /// Takes `cache_control` marks in the parts of messages, as Anthropic does (OpenRouter, DashScope).
    CacheControl,
    /// Says what it charges in `usage.cost`, once it is asked to (`usage: {include: true}`; OpenRouter).
    AsksForCost,
    /// Thinks by `reasoning: {effort, max_tokens}` in place of `reasoning_effort`, and takes the reasoning and the images
    /// of earlier answers back, with their proofs (OpenRouter).
    ReasoningObject,
    /// Thinks by `thinking: {type: enabled | disabled}`, and takes its reasoning back as `reasoning_content` (Z.ai,
    /// DeepSeek, Moonshot).
    ThinkingSwitch,
    /// Thinks by `enable_thinking` and `thinking_budget`, and takes its reasoning back as `reasoning_content` (DashScope).
    EnableThinking,
    /// Takes its reasoning of earlier answers back as `reasoning` (Cerebras).
    TakesReasoning,
    /// Decides itself how much it thinks, by effort (Anthropic's `adaptive`); a budget in tokens is refused.
    AdaptiveThinking,
    /// Its stream ends without `[DONE]`: the last chunk with a finish reason and usage is its end.
    NoDone,
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

/// The half towards providers; `None` for what only callers speak.
pub fn provider_dialect(name: DialectName) -> Option<Provider> {
    match name {
        DialectName::OpenAiChat => Some(Provider::Generate(&OpenAiChat)),
        DialectName::OpenAiEmbeddings => Some(Provider::Embed(&OpenAiEmbeddings)),
        DialectName::OpenAiResponses => Some(Provider::Generate(&OpenAiResponses)),
        DialectName::OpenAiCompletions => Some(Provider::Generate(&OpenAiCompletions)),
        DialectName::AnthropicMessages => Some(Provider::Generate(&AnthropicMessages)),
        DialectName::CohereChat => Some(Provider::Generate(&CohereChat)),
        DialectName::CohereEmbed => Some(Provider::Embed(&CohereEmbed)),
        DialectName::CohereRerank => Some(Provider::Rerank(&CohereRerank)),
        DialectName::BedrockConverse => Some(Provider::Generate(&BedrockConverse)),
        DialectName::Gemini => Some(Provider::Generate(&Gemini)),
        DialectName::GeminiEmbeddings => Some(Provider::Embed(&GeminiEmbeddings)),
        DialectName::OllamaChat => Some(Provider::Generate(&OllamaChat)),
        DialectName::TitanEmbeddings => Some(Provider::Embed(&TitanEmbeddings)),
        _ => None,
    }
}

/// The half towards callers, for the dialects that callers may speak.
pub fn caller_dialect(name: DialectName) -> Option<Caller> {
    match name {
        DialectName::OpenAiChat => Some(Caller::Generate(&OpenAiChat)),
        DialectName::OpenAiEmbeddings => Some(Caller::Embed(&OpenAiEmbeddings)),
        DialectName::CohereRerank => Some(Caller::Rerank(&CohereRerank)),
        DialectName::AnthropicMessages => Some(Caller::Generate(&AnthropicMessages)),
        DialectName::AnthropicCountTokens => Some(Caller::CountTokens(&AnthropicCountTokens)),
        DialectName::OpenAiResponses => Some(Caller::Generate(&OpenAiResponses)),
        DialectName::OpenAiCompletions => Some(Caller::Generate(&OpenAiCompletions)),
        _ => None,
    }
}
