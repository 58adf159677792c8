//! The response object towards a caller, and its output items.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;

use super::{
    FOREIGN_REASONING, NAME,
    groups::Own,
    request::{WireChoice, WireFormat, WireTool, own_tools},
    usage,
};
use crate::{
    canonical::{
        Call, Choice, Citation, Completion, Content, FinishReason, Media, Part, ResponseFormat, Source, ToolChoice,
        sealed,
    },
    dialect::Stamp,
    json::RawJson,
};

/// The members that a caller's library expects, asked for or not.
#[derive(Serialize)]
pub(super) struct Response<'a> {
    id: &'a str,
    object: &'static str,
    created_at: i64,
    status: &'a str,
    error: Option<()>,
    incomplete_details: Option<Incomplete<'a>>,
    instructions: Option<()>,
    max_output_tokens: Option<u64>,
    metadata: Cow<'a, RawJson>,
    model: &'a str,
    output: &'a [RawJson],
    parallel_tool_calls: bool,
    previous_response_id: Option<()>,
    reasoning: Reasoning<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'a str>,
    store: bool,
    temperature: Option<f64>,
    text: Text<'a>,
    tool_choice: WireChoice<'a>,
    tools: Vec<WireTool<'a>>,
    top_p: Option<f64>,
    truncation: &'static str,
    usage: Option<usage::Rendered>,
    user: Option<&'a str>,
}

#[derive(Serialize)]
struct Incomplete<'a> {
    reason: &'a str,
}

#[derive(Serialize)]
struct Reasoning<'a> {
    effort: Option<&'a str>,
    summary: Option<&'a str>,
}

#[derive(Serialize)]
struct Text<'a> {
    format: WireFormat<'a>,
}

/// How far an answer has come: `status`, and why it is not complete. A refusal in words is a complete answer.
pub(super) fn status(done: &Completion) -> (&str, Option<&str>) {
    let refuses = |choice: &Choice| choice.parts.iter().any(|part| matches!(part.content, Content::Refusal(_)));
    let in_words = || done.choices.first().is_some_and(refuses);
    match done.finish() {
        Some(FinishReason::Refusal) if !in_words() => ("incomplete", Some("content_filter")),
        Some(FinishReason::Length | FinishReason::Pause) => ("incomplete", Some("max_output_tokens")),
        Some(FinishReason::ContentFilter) => ("incomplete", Some("content_filter")),
        Some(FinishReason::Other(word)) => ("incomplete", Some(word)),
        _ => ("completed", None),
    }
}

/// `done`: what is known of the answer besides its items; `None`: it has just begun.
pub(super) fn response<'a>(
    call: &'a Call,
    stamp: &'a Stamp,
    model: &'a str,
    output: &'a [RawJson],
    done: Option<&'a Completion>,
) -> Response<'a> {
    let (status, reason) = done.map_or(("in_progress", None), status);
    let asked = call.reasoning.as_ref();
    Response {
        id: &stamp.id,
        object: "response",
        created_at: stamp.created,
        status,
        error: None,
        incomplete_details: reason.map(|reason| Incomplete { reason }),
        instructions: None,
        max_output_tokens: call.max_output_tokens,
        metadata: call.metadata.as_ref().map_or_else(|| Cow::Owned(empty_object()), Cow::Borrowed),
        model: stamp.model.as_deref().unwrap_or(model),
        output,
        parallel_tool_calls: call.parallel_tool_calls.unwrap_or(true),
        previous_response_id: None,
        reasoning: Reasoning {
            effort: asked.and_then(|asked| asked.effort.as_ref()).map(|effort| effort.as_str()),
            summary: asked.and_then(|asked| asked.summary.as_deref()),
        },
        service_tier: done.and_then(|done| done.service_tier.as_deref()),
        store: false,
        temperature: call.sampling.temperature,
        text: Text { format: WireFormat::from(call.response_format.as_ref().unwrap_or(&ResponseFormat::Text)) },
        tool_choice: WireChoice::of(call.tool_choice.as_ref().unwrap_or(&ToolChoice::Auto), &call.tools),
        tools: own_tools(call),
        top_p: call.sampling.top_p,
        truncation: "disabled",
        usage: done.and_then(|done| usage::render(&done.usage)),
        user: call.user.as_deref(),
    }
}

fn empty_object() -> RawJson {
    RawJson::new("{}").expect("it is valid JSON")
}

/// One output item. Each part of an answer is an item of its own.
#[derive(Serialize)]
pub(super) struct Item<'a> {
    id: String,
    #[serde(flatten)]
    kind: ItemKind<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ItemKind<'a> {
    Message {
        status: &'static str,
        role: &'static str,
        content: Vec<ContentPart<'a>>,
    },
    FunctionCall {
        status: &'static str,
        call_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'a str>,
        name: &'a str,
        arguments: &'a str,
    },
    Reasoning {
        summary: Vec<ContentPart<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        encrypted_content: Option<String>,
    },
    ImageGenerationCall {
        status: &'static str,
        result: &'a str,
    },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ContentPart<'a> {
    OutputText { text: &'a str, annotations: Vec<Cow<'a, RawJson>>, logprobs: &'a [RawJson] },
    Refusal { refusal: &'a str },
    SummaryText { text: &'a str },
}

#[derive(Serialize)]
struct UrlCitation<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    url: &'a str,
    title: &'a str,
    start_index: u64,
    end_index: u64,
}

/// `None`: this dialect has no word for it.
pub(super) fn annotation(citation: &Citation) -> Option<Cow<'_, RawJson>> {
    if let Some((NAME, raw)) = &citation.raw {
        return Some(Cow::Borrowed(raw));
    }
    let wire = UrlCitation {
        kind: "url_citation",
        url: citation.url.as_deref()?,
        title: citation.title.as_deref().unwrap_or_default(),
        start_index: citation.start.unwrap_or(0),
        end_index: citation.end.unwrap_or(0),
    };
    Some(Cow::Owned(raw(&wire)))
}

/// The content of a message's only part.
pub(super) fn content<'a>(part: &'a Part, logprobs: &'a [RawJson]) -> ContentPart<'a> {
    match &part.content {
        Content::Refusal(refusal) => ContentPart::Refusal { refusal },
        Content::Reasoning(reasoning) => ContentPart::SummaryText { text: &reasoning.text },
        Content::Text(text) => ContentPart::OutputText {
            text,
            annotations: part.citations.iter().filter_map(annotation).collect(),
            logprobs,
        },
        _ => ContentPart::OutputText { text: "", annotations: Vec::new(), logprobs },
    }
}

/// The item of a part under its number; whole, or as it is announced. `None`: the part has no place in this dialect.
pub(super) fn item<'a>(
    call: &'a Call,
    part: &'a Part,
    logprobs: &'a [RawJson],
    stamp: &Stamp,
    number: usize,
    whole: bool,
) -> Option<Item<'a>> {
    let status = if whole { "completed" } else { "in_progress" };
    let (prefix, kind) = match &part.content {
        Content::Text(_) | Content::Refusal(_) => {
            let content = if whole { vec![content(part, logprobs)] } else { Vec::new() };
            ("msg", ItemKind::Message { status, role: "assistant", content })
        }
        Content::ToolCall(made) => {
            let arguments = match whole {
                true if made.arguments.trim().is_empty() => "{}",
                _ => &made.arguments,
            };
            let (namespace, name) = Own::of(&call.tools).name(&made.name);
            ("fc", ItemKind::FunctionCall { status, call_id: &made.id, namespace, name, arguments })
        }
        Content::Reasoning(reasoning) => {
            let encrypted_content = match reasoning.origin {
                Some(NAME) => reasoning.encrypted.clone(),
                _ => sealed::of_reasoning(reasoning),
            };
            let summary = if reasoning.text.is_empty() { Vec::new() } else { vec![content(part, &[])] };
            (FOREIGN_REASONING, ItemKind::Reasoning { summary, encrypted_content })
        }
        Content::Image(Media { source: Source::Base64 { data, .. }, .. }) => {
            ("ig", ItemKind::ImageGenerationCall { status, result: data })
        }
        _ => return None,
    };
    let id = own_id(part).map_or_else(|| item_id(prefix, stamp, number), str::to_owned);
    Some(Item { id, kind })
}

/// What this API's provider has sealed is bound to the id that it gave: it refuses it under another one.
fn own_id(part: &Part) -> Option<&str> {
    match &part.content {
        Content::Reasoning(reasoning) if reasoning.origin == Some(NAME) => reasoning.id.as_deref(),
        _ => None,
    }
}

pub(super) fn item_id(prefix: &str, stamp: &Stamp, number: usize) -> String {
    format!("{prefix}_{}_{number}", stamp.id)
}

/// The proof behind a tool call, as an item behind the call.
pub(super) fn proof<'a>(part: &Part, stamp: &Stamp, number: usize) -> Option<Item<'a>> {
    let (Content::ToolCall(call), Some(signature)) = (&part.content, &part.signature) else {
        return None;
    };
    let encrypted_content = Some(sealed::of_call(&call.id, signature));
    let kind = ItemKind::Reasoning { summary: Vec::new(), encrypted_content };
    Some(Item { id: item_id(FOREIGN_REASONING, stamp, number), kind })
}

impl Item<'_> {
    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

pub(super) fn raw(value: &impl Serialize) -> RawJson {
    let text = serde_json::to_string(value).expect("strings, numbers and checked JSON can always be written");
    RawJson::new(text).expect("what was just written is valid JSON")
}

pub(super) fn whole(call: &Call, completion: &Completion, stamp: &Stamp) -> Bytes {
    let mut output: Vec<RawJson> = Vec::new();
    let choice = completion.choices.first();
    let mut probabilities = choice.and_then(|choice| choice.logprobs.as_ref()).map(listed).unwrap_or_default();
    for part in choice.map(|choice| choice.parts.as_slice()).unwrap_or_default() {
        if let Content::Other { dialect: NAME, raw, .. } = &part.content {
            output.push(raw.clone());
            continue;
        }
        // They are not told apart by part: the first text takes them all.
        let logprobs = match &part.content {
            Content::Text(_) => std::mem::take(&mut probabilities),
            _ => Vec::new(),
        };
        output.extend(item(call, part, &logprobs, stamp, output.len(), true).map(|item| raw(&item)));
        output.extend(proof(part, stamp, output.len()).map(|item| raw(&item)));
    }
    let response = response(call, stamp, &completion.model, &output, Some(completion));
    Bytes::from(raw(&response).as_str().to_owned())
}

/// Log probabilities in the form that all dialects share, one by one.
pub(super) fn listed(raw: &RawJson) -> Vec<RawJson> {
    #[derive(serde::Deserialize)]
    struct Logprobs {
        content: Option<Vec<RawJson>>,
    }
    serde_json::from_str::<Logprobs>(raw.as_str()).ok().and_then(|l| l.content).unwrap_or_default()
}
