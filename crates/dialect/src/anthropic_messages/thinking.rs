//! Whether and how long to think: <https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking>.
//!
//! What a caller of this dialect asked for is said again. For others the API's conditions hold: it refuses thinking
//! beside several other wishes, and the caller's own come first.

use serde::Serialize;

use super::types::NAME;
use crate::{
    canonical::{Call, Content, Effort, ReasoningRequest, Role, ToolChoice},
    dialect::{Quirk, Target},
    rewrite::Edit,
};

/// The smallest budget the API takes.
const MIN_BUDGET: u64 = ReasoningRequest::MIN_BUDGET;

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Mode {
    Disabled,
    Enabled {
        budget_tokens: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        display: Option<&'static str>,
    },
    Adaptive {
        #[serde(skip_serializing_if = "Option::is_none")]
        display: Option<&'static str>,
    },
}

pub(super) struct Thinking<'a> {
    pub(super) mode: Option<Mode>,
    pub(super) effort: Option<&'a str>,
    pub(super) max_tokens: u64,
    /// Why thinking that was asked for is left out.
    pub(super) dropped: Option<&'static str>,
}

impl Thinking<'_> {
    pub(super) fn thinks(&self) -> bool {
        matches!(self.mode, Some(Mode::Enabled { .. } | Mode::Adaptive { .. }))
    }
}

/// `limit`: the output limit for a call that names none.
pub(super) fn plan<'a>(call: &'a Call, target: &Target, limit: u64) -> Thinking<'a> {
    let nothing =
        Thinking { mode: None, effort: None, max_tokens: call.max_output_tokens.unwrap_or(limit), dropped: None };
    let Some(asked) = &call.reasoning else {
        return nothing;
    };
    let own = call.dialect == Some(NAME);
    let adaptive = target.has(Quirk::AdaptiveThinking);
    if asked.is_on() == Some(false) {
        // Where thinking is off by default, there may be no word for it.
        return Thinking { mode: (own || adaptive).then_some(Mode::Disabled), ..nothing };
    }
    let display = asked.summary.as_deref().map(|word| if word == "none" { "omitted" } else { "summarized" });
    if adaptive || (own && asked.adaptive) {
        let silent = own && !asked.adaptive && asked.budget_tokens.is_none();
        let mode = (!silent).then_some(Mode::Adaptive { display });
        return if own { own_words(asked, mode, nothing) } else { self_chosen(call, asked, mode, nothing) };
    }
    if own {
        let mode = asked.budget_tokens.map(|budget_tokens| Mode::Enabled { budget_tokens, display });
        return own_words(asked, mode, nothing);
    }
    budgeted(call, asked, nothing)
}

/// A caller's own budget, below the limit that its call was clamped to: the API refuses any other.
pub(super) fn within(call: &Call, clamp: u64) -> Option<Edit<'static>> {
    let budget = call.reasoning.as_ref()?.below(clamp)?.budget_tokens;
    Some(match budget.filter(|budget| *budget > 0) {
        Some(budget) => Edit::set_in("thinking", "budget_tokens", budget.to_string()),
        None => Edit::set("thinking", r#"{"type":"disabled"}"#),
    })
}

/// The limit stays as it is, even where the budget does not fit into it: what a call can cost was reserved by it.
fn own_words<'a>(asked: &'a ReasoningRequest, mode: Option<Mode>, nothing: Thinking<'a>) -> Thinking<'a> {
    let effort = asked.effort.as_ref().map(Effort::as_str);
    let effort = effort.or_else(|| matches!(mode, Some(Mode::Adaptive { .. })).then(|| effort_of(asked)).flatten());
    Thinking { mode, effort, ..nothing }
}

/// The model decides, by effort. It wants no proof of earlier reasoning.
fn self_chosen<'a>(
    call: &Call,
    asked: &'a ReasoningRequest,
    mode: Option<Mode>,
    nothing: Thinking<'a>,
) -> Thinking<'a> {
    if is_forced(call) {
        return Thinking { dropped: Some("a tool is forced"), ..nothing };
    }
    let room = if call.max_output_tokens.is_none() { asked.is_on().map_or(0, |_| asked.budget()) } else { 0 };
    let max_tokens = nothing.max_tokens.saturating_add(room);
    Thinking { mode, effort: effort_of(asked), max_tokens, dropped: None }
}

fn budgeted<'a>(call: &Call, asked: &'a ReasoningRequest, nothing: Thinking<'a>) -> Thinking<'a> {
    if asked.is_on().is_none() {
        return nothing;
    }
    let limit = nothing.max_tokens;
    let without = |reason| Thinking { mode: None, effort: None, max_tokens: limit, dropped: Some(reason) };
    if is_forced(call) {
        return without("a tool is forced");
    }
    if in_a_tool_turn_without_proof(call) {
        return without("the turn began without signed reasoning");
    }
    let wanted = asked.budget().max(MIN_BUDGET);
    let enabled = |budget_tokens| Some(Mode::Enabled { budget_tokens, display: None });
    if call.max_output_tokens.is_none() {
        // Nobody limited the output: the budget comes on top of the limit that stands in for one.
        return Thinking { mode: enabled(wanted), max_tokens: limit.saturating_add(wanted), ..nothing };
    }
    if limit <= MIN_BUDGET {
        return without("the output limit leaves no room for it");
    }
    Thinking { mode: enabled(wanted.min(limit - 1)), ..nothing }
}

/// The API's word; `None`: the model's own default.
fn effort_of(asked: &ReasoningRequest) -> Option<&'static str> {
    let nearest = asked.budget_tokens.map(Effort::nearest);
    match asked.effort.as_ref().or(nearest.as_ref())? {
        Effort::Minimal | Effort::Low => Some("low"),
        Effort::Medium => Some("medium"),
        Effort::High => Some("high"),
        Effort::XHigh => Some("xhigh"),
        Effort::Max => Some("max"),
        Effort::None | Effort::Other(_) => None,
    }
}

fn is_forced(call: &Call) -> bool {
    matches!(call.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)))
}

/// Between a tool call and its result the API wants the reasoning that led to the call, with its signature.
fn in_a_tool_turn_without_proof(call: &Call) -> bool {
    let last = call.messages.iter().rfind(|m| m.role == Role::Assistant);
    last.is_some_and(|message| {
        let calls = message.parts.iter().any(|p| matches!(p.content, Content::ToolCall(_)));
        let proof = message.parts.iter().any(|p| {
            matches!(&p.content, Content::Reasoning(r)
                if r.origin.is_none_or(|origin| origin == NAME) && (r.signature.is_some() || r.encrypted.is_some()))
        });
        calls && !proof
    })
}
