//! One call, in no provider's words.

use std::borrow::Cow;

use indexmap::IndexMap;
use serde::Serialize;

use crate::{dialect::DialectName, error::EncodeError, json::RawJson};

/// Members that farebox has no word for, as the caller wrote them. They reach a provider of the same dialect only.
pub type Extra = IndexMap<String, RawJson>;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Call {
    /// The model as the caller named it; empty where it named none.
    pub model: String,
    pub messages: Vec<Message>,
    pub tools: Vec<Tool>,
    /// Tools that are no functions of the caller: built into a provider, or of a kind that came later.
    pub native_tools: Vec<NativeTool>,
    /// Groups of tools as their caller wrote them. What is in them stands in `tools` and `native_tools`, too.
    pub tool_groups: Vec<RawJson>,
    pub tool_choice: Option<ToolChoice>,
    pub parallel_tool_calls: Option<bool>,
    pub response_format: Option<ResponseFormat>,
    pub max_output_tokens: Option<u64>,
    pub sampling: Sampling,
    pub stop: Vec<String>,
    /// How many answers to the same call.
    pub n: Option<u32>,
    pub logprobs: Option<bool>,
    pub top_logprobs: Option<u32>,
    pub reasoning: Option<ReasoningRequest>,
    pub stream: bool,
    /// Whether the caller wants to see usage at the end of a streamed answer.
    pub include_usage: bool,
    pub user: Option<String>,
    pub metadata: Option<RawJson>,
    pub service_tier: Option<String>,
    /// What of its own dialect's trials the caller takes part in (`anthropic-beta`). They reach a provider of the same
    /// dialect only, and no other needs to say that it leaves them out.
    pub betas: Vec<String>,
    /// Whose words `extra` holds, here and in messages, parts and tools; `None`: nobody's.
    pub dialect: Option<DialectName>,
    pub extra: Extra,
}

impl Call {
    /// Whether one of the native tools must be called, or may have to be: a choice in a form of its own dialect's.
    pub(crate) fn demands_native(&self) -> bool {
        match &self.tool_choice {
            Some(ToolChoice::Named(name)) => !self.tools.iter().any(|tool| tool.name == *name),
            Some(ToolChoice::Required) => self.tools.is_empty(),
            Some(ToolChoice::Auto | ToolChoice::None) => false,
            None => self.extra.contains_key("tool_choice"),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sampling {
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<u64>,
    pub seed: Option<i64>,
    pub frequency_penalty: Option<f64>,
    pub presence_penalty: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    System,
    Developer,
    User,
    Assistant,
    /// Carries results of tools, nothing else.
    Tool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub role: Role,
    pub name: Option<String>,
    pub parts: Vec<Part>,
    pub extra: Extra,
}

impl Message {
    pub fn new(role: Role, parts: Vec<Part>) -> Message {
        Message { role, name: None, parts, extra: Extra::new() }
    }

    pub fn text(role: Role, text: impl Into<String>) -> Message {
        Message::new(role, vec![Part::text(text)])
    }
}

/// One piece of a message or of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub content: Content,
    /// Everything up to here is worth a place in the provider's prompt cache.
    pub cache: Option<CacheMark>,
    /// Gemini's proof of the reasoning behind this part; it goes back with the part, to Gemini only.
    pub signature: Option<String>,
    /// What the part's text leans on.
    pub citations: Vec<Citation>,
    pub extra: Extra,
}

impl Part {
    pub fn text(text: impl Into<String>) -> Part {
        Part::from(Content::Text(text.into()))
    }
}

impl Part {
    pub(crate) fn with_extra(content: Content, extra: Extra) -> Part {
        Part { extra, ..Part::from(content) }
    }
}

impl From<Content> for Part {
    fn from(content: Content) -> Part {
        Part { content, cache: None, signature: None, citations: Vec::new(), extra: Extra::new() }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    Text(String),
    /// The model's own words for why it will not answer.
    Refusal(String),
    Image(Media),
    /// A document: PDF, plain text and the like.
    File(Media),
    Audio(Media),
    ToolCall(ToolCall),
    ToolResult(ToolResult),
    Reasoning(Reasoning),
    /// A block that only its own dialect understands, whole: server tools, citations of a search, …
    Other {
        dialect: DialectName,
        kind: String,
        raw: RawJson,
    },
}

/// How long the provider is asked to keep a prompt in its cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMark {
    /// Five minutes, or the provider's only lifetime.
    Short,
    /// One hour.
    Long,
}

/// Where a piece of an answer's text comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Citation {
    pub url: Option<String>,
    pub title: Option<String>,
    /// Words of the source.
    pub quote: Option<String>,
    /// The place in the part's text, in characters: first, and first after.
    pub start: Option<u64>,
    pub end: Option<u64>,
    /// The source as its own dialect writes it, whole.
    pub raw: Option<(DialectName, RawJson)>,
}

/// Bytes of an image, a document or a recording, or where to find them.
#[derive(Clone, Debug, PartialEq)]
pub struct Media {
    pub source: Source,
    pub name: Option<String>,
    /// How closely to look: OpenAI's `detail`.
    pub detail: Option<String>,
}

impl From<Source> for Media {
    fn from(source: Source) -> Media {
        Media { source, name: None, detail: None }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Url(String),
    /// `data` is base64, as it travels in every dialect.
    Base64 {
        media_type: String,
        data: String,
    },
    /// Plain text that stands in for a file's bytes.
    Text(String),
    /// An upload known to the provider under this id.
    Uploaded(String),
}

impl Source {
    /// Splits `data:<media type>;base64,<data>`; anything else is an address.
    pub(crate) fn of_url(url: String) -> Source {
        let split = url.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("data:")).and_then(|_| {
            let (head, data) = url[5..].split_once(',')?;
            let media_type = head.strip_suffix(";base64")?;
            Some(Source::Base64 { media_type: media_type.to_owned(), data: data.to_owned() })
        });
        split.unwrap_or(Source::Url(url))
    }

    /// [`Source::of_url`] backwards; `None`: it is no address.
    pub(crate) fn url(&self) -> Option<Cow<'_, str>> {
        match self {
            Source::Url(url) => Some(Cow::Borrowed(url)),
            Source::Base64 { media_type, data } => Some(Cow::Owned(format!("data:{media_type};base64,{data}"))),
            Source::Text(_) | Source::Uploaded(_) => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// JSON text as the model wrote it, never parsed and printed again: its digits and order are the model's.
    pub arguments: String,
}

impl ToolCall {
    /// The arguments for dialects that carry them as an object, not as text.
    pub(crate) fn object(&self) -> Result<RawJson, EncodeError> {
        let text = if self.arguments.trim().is_empty() { "{}" } else { self.arguments.trim() };
        RawJson::new(text).filter(RawJson::is_object).ok_or_else(|| EncodeError::Invalid {
            field: format!("the arguments of tool call `{}`", self.id),
            problem: "they must be the text of one JSON object".to_owned(),
        })
    }
}

/// The id of a call in letters, digits, `_` and `-`: some APIs take no other, and other dialects' ids hold more. Call and
/// result get the same.
pub(crate) fn plain_id(given: &str) -> Cow<'_, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if given.chars().all(fits) {
        return Cow::Borrowed(given);
    }
    Cow::Owned(given.chars().map(|c| if fits(c) { c } else { '_' }).collect())
}

#[derive(Clone, Debug, PartialEq)]
pub struct ToolResult {
    /// Which [`ToolCall`] this answers.
    pub call_id: String,
    pub is_error: bool,
    /// Text, images and documents.
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasoning {
    pub text: String,
    /// The provider's proof that the text is its own; without it the text cannot be sent back.
    pub signature: Option<String>,
    /// Reasoning that only the provider can read; `text` may hold a summary of it.
    pub encrypted: Option<String>,
    /// The provider's id of this piece (OpenAI responses: `rs_…`).
    pub id: Option<String>,
    /// Whose `signature` or `encrypted` it is; no other dialect is sent them. `None`: not known.
    pub origin: Option<DialectName>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tool {
    pub name: String,
    pub description: Option<String>,
    /// JSON Schema of the arguments; `None`: the tool takes none.
    pub parameters: Option<RawJson>,
    pub strict: Option<bool>,
    pub cache: Option<CacheMark>,
    /// What its caller calls it, where it stands in a group; `name` is farebox's own then.
    pub grouped: Option<Grouped>,
    pub extra: Extra,
}

/// A function by its group and its name in there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grouped {
    pub group: String,
    pub name: String,
}

impl Tool {
    /// The schema of the arguments for dialects that want one of a tool without arguments, too.
    pub(crate) fn schema(&self) -> Schema<'_> {
        self.parameters.as_ref().map_or(Schema::EMPTY, Schema::Given)
    }
}

#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Schema<'a> {
    Given(&'a RawJson),
    Empty {
        #[serde(rename = "type")]
        kind: &'static str,
        properties: Nothing,
    },
}

#[derive(Serialize)]
pub(crate) struct Nothing {}

impl Schema<'_> {
    pub(crate) const EMPTY: Schema<'static> = Schema::Empty { kind: "object", properties: Nothing {} };
}

/// A tool that only its own dialect understands, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct NativeTool {
    pub dialect: DialectName,
    pub kind: String,
    pub raw: RawJson,
    /// It stands in a group, which goes to its own dialect whole.
    pub grouped: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    Auto,
    None,
    Required,
    Named(String),
}

#[derive(Clone, Debug, PartialEq)]
pub enum ResponseFormat {
    Text,
    JsonObject,
    JsonSchema { name: String, description: Option<String>, schema: Option<RawJson>, strict: Option<bool> },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReasoningRequest {
    pub effort: Option<Effort>,
    pub budget_tokens: Option<u64>,
    /// The model decides how much (Anthropic's `adaptive`, Gemini's budget of -1).
    pub adaptive: bool,
    /// Whether, or how (`auto`, `concise`, `detailed`), the reasoning is shown; `none`: not at all.
    pub summary: Option<String>,
}

/// How hard to think.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    XHigh,
    Max,
    /// A word that came later than this code; it reaches a provider of the same dialect.
    Other(String),
}

impl Effort {
    pub fn as_str(&self) -> &str {
        match self {
            Effort::None => "none",
            Effort::Minimal => "minimal",
            Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High => "high",
            Effort::XHigh => "xhigh",
            Effort::Max => "max",
            Effort::Other(word) => word,
        }
    }
}

impl Effort {
    /// The tokens that it stands for where a provider counts them: Google's table, the one that is published
    /// (<https://ai.google.dev/gemini-api/docs/openai#thinking>). `None` for words that are not known.
    pub(crate) fn budget(&self) -> Option<u64> {
        Some(match self {
            Effort::None => 0,
            Effort::Minimal | Effort::Low => 1024,
            Effort::Medium => 8192,
            Effort::High => 24_576,
            Effort::XHigh | Effort::Max => 32_768,
            Effort::Other(_) => return None,
        })
    }

    /// The effort, of those that all providers with efforts know, whose budget is nearest.
    pub(crate) fn nearest(budget: u64) -> Effort {
        match budget {
            0 => Effort::None,
            1..=4608 => Effort::Low,
            4609..=16_384 => Effort::Medium,
            _ => Effort::High,
        }
    }
}

impl ReasoningRequest {
    /// Tokens: as the caller counted them, or as many as its effort stands for; a medium lot where neither says.
    pub(crate) fn budget(&self) -> u64 {
        let effort = self.effort.as_ref().unwrap_or(&Effort::Medium);
        self.budget_tokens.or(effort.budget()).or(Effort::Medium.budget()).unwrap_or_default()
    }

    /// The smallest budget that is worth one.
    pub(crate) const MIN_BUDGET: u64 = 1024;

    /// The same with a budget below an output limit, or without thinking where that leaves too little; `None`: it is below
    /// as it stands.
    pub(crate) fn below(&self, limit: u64) -> Option<ReasoningRequest> {
        self.budget_tokens.filter(|budget| *budget > 0 && *budget >= limit)?;
        if limit <= Self::MIN_BUDGET {
            return Some(ReasoningRequest {
                budget_tokens: Some(0),
                effort: Some(Effort::None),
                adaptive: false,
                ..self.clone()
            });
        }
        Some(ReasoningRequest { budget_tokens: Some(limit - 1), ..self.clone() })
    }

    /// Whether any thinking is asked for; `None`: nothing is said.
    pub(crate) fn is_on(&self) -> Option<bool> {
        match (&self.effort, self.budget_tokens) {
            (_, Some(budget)) => Some(budget > 0),
            (Some(effort), None) => Some(*effort != Effort::None),
            (None, None) => self.adaptive.then_some(true),
        }
    }
}

impl From<&str> for Effort {
    fn from(word: &str) -> Effort {
        match word {
            "none" => Effort::None,
            "minimal" => Effort::Minimal,
            "low" => Effort::Low,
            "medium" => Effort::Medium,
            "high" => Effort::High,
            "xhigh" => Effort::XHigh,
            "max" => Effort::Max,
            other => Effort::Other(other.to_owned()),
        }
    }
}
