//! A whole answer, and the output items that whole and streamed answers are made of.

use serde::Deserialize;
use serde_json::{Number, value::RawValue};

use super::{NAME, usage};
use crate::{
    canonical::{Choice, Citation, Completion, Content, FinishReason, Part, Reasoning, ToolCall},
    error::DecodeError,
    json::{Object, RawJson},
    openai_error as error,
};

/// The response object.
#[derive(Deserialize)]
pub(super) struct Answer<'a> {
    pub(super) id: Option<String>,
    pub(super) model: Option<String>,
    created_at: Option<Number>,
    pub(super) status: Option<String>,
    incomplete_details: Option<Incomplete>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) output: Option<Vec<&'a RawValue>>,
    usage: Option<usage::Wire>,
    pub(super) service_tier: Option<String>,
    tool_usage: Option<ToolUsage>,
}

#[derive(Deserialize)]
struct Incomplete {
    reason: Option<String>,
}

#[derive(Deserialize)]
struct ToolUsage {
    web_search: Option<SearchUsage>,
}

#[derive(Deserialize)]
struct SearchUsage {
    num_requests: Option<u64>,
}

impl Answer<'_> {
    /// Unix seconds; some servers write them with a fraction.
    pub(super) fn created(&self) -> Option<i64> {
        let number = self.created_at.as_ref()?;
        number.as_i64().or_else(|| number.to_string().split('.').next()?.parse().ok())
    }

    pub(super) fn failed(&self) -> bool {
        self.error.is_some() || self.status.as_deref() == Some("failed")
    }

    /// `None`: it is still being made, or nothing is said.
    pub(super) fn finish(&self, calls_tools: bool) -> Option<FinishReason> {
        match self.status.as_deref()? {
            "completed" if calls_tools => Some(FinishReason::ToolCalls),
            "completed" => Some(FinishReason::Stop),
            "queued" | "in_progress" => None,
            "incomplete" => {
                let reason = self.incomplete_details.as_ref().and_then(|details| details.reason.as_deref());
                Some(match reason {
                    Some("max_output_tokens") => FinishReason::Length,
                    Some("content_filter") => FinishReason::ContentFilter,
                    other => FinishReason::Other(other.unwrap_or("incomplete").to_owned()),
                })
            }
            other => Some(FinishReason::Other(other.to_owned())),
        }
    }

    /// `None`: not reported. `searches`: what the items show, where the provider does not say how many it bills.
    pub(super) fn usage(&self, searches: u64) -> Option<farebox_types::Usage> {
        let said = self.tool_usage.as_ref().and_then(|tools| tools.web_search.as_ref()?.num_requests);
        let searches = said.filter(|said| *said > 0).or((searches > 0).then_some(searches));
        let usage = self.usage.as_ref().map(usage::normalise);
        (usage.is_some() || searches.is_some()).then(|| farebox_types::Usage { searches, ..usage.unwrap_or_default() })
    }
}

/// One piece of an output item, with the log probabilities of its text.
pub(super) struct Piece {
    pub(super) part: Part,
    pub(super) logprobs: Vec<RawJson>,
}

impl From<Content> for Piece {
    fn from(content: Content) -> Piece {
        Piece { part: Part::from(content), logprobs: Vec::new() }
    }
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct MessageItem<'a> {
    #[serde(borrow)]
    content: Option<Vec<ContentPart<'a>>>,
}

#[derive(Deserialize)]
struct ContentPart<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    text: Option<String>,
    refusal: Option<String>,
    #[serde(borrow)]
    annotations: Option<Vec<&'a RawValue>>,
    logprobs: Option<Vec<RawJson>>,
}

#[derive(Deserialize)]
struct CallItem {
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct ReasoningItem {
    id: Option<String>,
    summary: Option<Vec<Words>>,
    content: Option<Vec<Words>>,
    encrypted_content: Option<String>,
}

#[derive(Deserialize)]
struct Words {
    text: Option<String>,
}

#[derive(Deserialize)]
struct SearchItem {
    action: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    #[serde(rename = "type")]
    kind: Option<String>,
}

fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, String> {
    serde_json::from_str(raw.get()).map_err(|error| format!("an output item cannot be read: {error}"))
}

/// The pieces of an item. Those of a message keep their places; an empty text stands for one that says nothing.
pub(super) fn pieces(raw: &RawValue) -> Result<Vec<Piece>, String> {
    let Kind { kind } = read(raw)?;
    match kind.as_str() {
        "message" => {
            let message: MessageItem<'_> = read(raw)?;
            Ok(message.content.unwrap_or_default().into_iter().map(content_part).collect())
        }
        "function_call" => {
            let call: CallItem = read(raw)?;
            let (Some(id), Some(name)) = (call.call_id, call.name) else {
                return Err("a function call has no `call_id` or no `name`".to_owned());
            };
            let arguments = call.arguments.unwrap_or_default();
            Ok(vec![Piece::from(Content::ToolCall(ToolCall { id, name, arguments }))])
        }
        "reasoning" => Ok(vec![Piece::from(Content::Reasoning(reasoning(raw)?))]),
        _ => Ok(vec![Piece::from(Content::Other { dialect: NAME, kind, raw: RawJson::from(raw) })]),
    }
}

pub(super) fn reasoning(raw: &RawValue) -> Result<Reasoning, String> {
    let item: ReasoningItem = read(raw)?;
    let text = |words: Option<Vec<Words>>| {
        let words: Vec<String> = words.unwrap_or_default().into_iter().filter_map(|words| words.text).collect();
        words.join("\n\n")
    };
    // Where both are given they are the same thoughts twice.
    let summary = text(item.summary);
    Ok(Reasoning {
        text: if summary.is_empty() { text(item.content) } else { summary },
        encrypted: item.encrypted_content.filter(|sealed| !sealed.is_empty()),
        id: item.id,
        origin: Some(NAME),
        ..Reasoning::default()
    })
}

fn content_part(part: ContentPart<'_>) -> Piece {
    let content = match part.kind.as_deref() {
        Some("refusal") => Content::Refusal(part.refusal.unwrap_or_default()),
        _ => Content::Text(part.text.unwrap_or_default()),
    };
    let mut piece = Piece::from(content);
    piece.part.citations = part.annotations.unwrap_or_default().into_iter().map(citation).collect();
    piece.logprobs = part.logprobs.unwrap_or_default();
    piece
}

pub(super) fn citation(raw: &RawValue) -> Citation {
    #[derive(Default, Deserialize)]
    struct Annotation {
        url: Option<String>,
        title: Option<String>,
        filename: Option<String>,
        start_index: Option<u64>,
        end_index: Option<u64>,
    }
    let annotation: Annotation = serde_json::from_str(raw.get()).unwrap_or_default();
    Citation {
        url: annotation.url,
        title: annotation.title.or(annotation.filename),
        quote: None,
        start: annotation.start_index,
        end: annotation.end_index,
        raw: Some((NAME, RawJson::from(raw))),
    }
}

/// Whether this piece says nothing at all.
pub(super) fn is_empty(piece: &Piece) -> bool {
    matches!(&piece.part.content, Content::Text(text) | Content::Refusal(text) if text.is_empty())
}

/// Whether OpenAI bills this item as a search: opening a page and looking within one are free
/// (<https://platform.openai.com/docs/guides/tools-web-search#output-and-citations>).
pub(super) fn is_search(part: &Part) -> bool {
    let Content::Other { kind, raw, .. } = &part.content else {
        return false;
    };
    kind == "web_search_call"
        && serde_json::from_str::<SearchItem>(raw.as_str())
            .is_ok_and(|item| item.action.and_then(|action| action.kind).is_none_or(|kind| kind == "search"))
}

/// Log probabilities in the form that all dialects share.
pub(super) fn logprobs(items: &[RawJson]) -> Option<RawJson> {
    let items: Vec<&str> = items.iter().map(RawJson::as_str).collect();
    (!items.is_empty()).then(|| RawJson::new(format!("{{\"content\":[{}],\"refusal\":null}}", items.join(","))))?
}

fn corrupt(problem: impl ToString) -> DecodeError {
    DecodeError::Corrupt { dialect: NAME, problem: problem.to_string() }
}

pub(super) fn decode(body: &[u8]) -> Result<Completion, DecodeError> {
    let answer: Answer<'_> = serde_json::from_slice(body).map_err(corrupt)?;
    if answer.failed() {
        let refusal = error::in_place(answer.error.map_or("{}", RawValue::get));
        return Err(DecodeError::refused(refusal, answer.usage(0)));
    }
    let output = answer.output.as_deref().ok_or_else(|| corrupt("it has no `output`"))?;
    let (mut parts, mut probabilities, mut searches) = (Vec::new(), Vec::new(), 0);
    for raw in output {
        for piece in pieces(raw).map_err(corrupt)?.into_iter().filter(|piece| !is_empty(piece)) {
            searches += u64::from(is_search(&piece.part));
            probabilities.extend(piece.logprobs);
            parts.push(piece.part);
        }
    }
    let calls_tools = parts.iter().any(|part| matches!(part.content, Content::ToolCall(_)));
    let mut rest: Object<'_> = serde_json::from_slice(body).map_err(corrupt)?;
    for known in
        ["id", "object", "model", "created_at", "status", "error", "output", "usage", "service_tier", "tool_usage"]
    {
        rest.take(known);
    }
    Ok(Completion {
        created: answer.created(),
        choices: vec![Choice {
            parts,
            finish: answer.finish(calls_tools),
            logprobs: logprobs(&probabilities),
            ..Choice::default()
        }],
        usage: answer.usage(searches).unwrap_or_default(),
        id: answer.id.unwrap_or_default(),
        model: answer.model.unwrap_or_default(),
        service_tier: answer.service_tier,
        reported_cost: None,
        extra: rest.into_extra(),
    })
}
