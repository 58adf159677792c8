//! Whether and how long to think. The API refuses thinking beside several other wishes; the caller's own come first.

use crate::{
    canonical::{Call, Content, Effort, Role, ToolChoice},
    dialect::Target,
};

/// The smallest budget the API takes.
const MIN_BUDGET: u64 = 1024;

pub(super) struct Thinking {
    pub(super) budget: Option<u64>,
    pub(super) max_tokens: u64,
    /// Why thinking that was asked for is left out.
    pub(super) dropped: Option<&'static str>,
}

pub(super) fn plan(call: &Call, target: &Target) -> Thinking {
    let limit = call.max_output_tokens.unwrap_or(target.default_max_output_tokens);
    let Some(wanted) = wanted(call) else {
        return Thinking { budget: None, max_tokens: limit, dropped: None };
    };
    let without = |reason| Thinking { budget: None, max_tokens: limit, dropped: Some(reason) };
    if matches!(call.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_))) {
        return without("a tool is forced");
    }
    if in_a_tool_turn_without_proof(call) {
        return without("the turn began without signed reasoning");
    }
    let wanted = wanted.max(MIN_BUDGET);
    if call.max_output_tokens.is_none() {
        // Nobody limited the output: the budget comes on top of the limit that stands in for one.
        return Thinking { budget: Some(wanted), max_tokens: limit.saturating_add(wanted), dropped: None };
    }
    if limit <= MIN_BUDGET {
        return without("the output limit leaves no room for it");
    }
    Thinking { budget: Some(wanted.min(limit - 1)), max_tokens: limit, dropped: None }
}

fn wanted(call: &Call) -> Option<u64> {
    let asked = call.reasoning.as_ref()?;
    if asked.budget_tokens.is_some() {
        return asked.budget_tokens.filter(|budget| *budget > 0);
    }
    match asked.effort.as_ref()? {
        Effort::None => None,
        Effort::Minimal | Effort::Low => Some(1024),
        Effort::Medium | Effort::Other(_) => Some(4096),
        Effort::High => Some(16_384),
        Effort::XHigh | Effort::Max => Some(32_768),
    }
}

/// Between a tool call and its result the API wants the reasoning that led to the call, with its signature.
fn in_a_tool_turn_without_proof(call: &Call) -> bool {
    let last = call.messages.iter().rfind(|m| m.role == Role::Assistant);
    last.is_some_and(|message| {
        let calls = message.parts.iter().any(|p| matches!(p.content, Content::ToolCall(_)));
        let proof = message
            .parts
            .iter()
            .any(|p| matches!(&p.content, Content::Reasoning(r) if r.signature.is_some() || r.encrypted.is_some()));
        calls && !proof
    })
}
