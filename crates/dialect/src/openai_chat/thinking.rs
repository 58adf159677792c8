//! How hard to think, in the words of each server: `reasoning_effort`
//! (<https://platform.openai.com/docs/api-reference/chat/create#chat-create-reasoning_effort>), OpenRouter's `reasoning`
//! object (<https://openrouter.ai/docs/guides/best-practices/reasoning-tokens>), the switch of Z.ai, DeepSeek and Moonshot
//! (<https://docs.z.ai/guides/capabilities/thinking>) and that of DashScope
//! (<https://www.alibabacloud.com/help/en/model-studio/deep-thinking>).

use serde::Serialize;

use super::types::NAME;
use crate::{
    canonical::{Call, ReasoningRequest},
    dialect::{Quirk, Target},
    notes::Notes,
    rewrite::Edit,
};

/// The members of the request that say it; the target has words for some of them only.
#[derive(Default, Serialize)]
pub(super) struct Thinking {
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Reasoning>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Switch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enable_thinking: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_budget: Option<u64>,
}

#[derive(Serialize)]
struct Reasoning {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exclude: Option<bool>,
}

#[derive(Serialize)]
struct Switch {
    #[serde(rename = "type")]
    kind: &'static str,
}

/// Members by which callers of this dialect say it in a server's own words; then these count.
const OWN_WORDS: [&str; 3] = ["thinking", "enable_thinking", "thinking_budget"];

fn own_words(call: &Call) -> bool {
    call.dialect == Some(NAME) && OWN_WORDS.iter().any(|own| call.extra.contains_key(*own))
}

pub(super) fn plan(call: &Call, target: &Target, notes: &mut Notes) -> Thinking {
    let Some(asked) = call.reasoning.as_ref().filter(|_| !own_words(call)) else { return Thinking::default() };
    let effort = asked.effort.as_ref().map(|effort| effort.as_str().to_owned());
    if target.has(Quirk::ReasoningObject) {
        // One of the two: the budget says it exactly.
        let reasoning = Reasoning {
            effort: effort.filter(|_| asked.budget_tokens.is_none()),
            max_tokens: asked.budget_tokens,
            enabled: asked.adaptive.then_some(true),
            exclude: (asked.summary.as_deref() == Some("none")).then_some(true),
        };
        return Thinking { reasoning: Some(reasoning), ..Thinking::default() };
    }
    let Some(on) = asked.is_on() else { return Thinking::default() };
    if target.has(Quirk::EnableThinking) {
        if on && asked.budget_tokens.is_none() {
            unsaid(asked, notes);
        }
        let thinking_budget = asked.budget_tokens.filter(|_| on);
        return Thinking { enable_thinking: Some(on), thinking_budget, ..Thinking::default() };
    }
    if target.has(Quirk::ThinkingSwitch) {
        if on {
            unsaid(asked, notes);
        }
        let kind = if on { "enabled" } else { "disabled" };
        return Thinking { thinking: Some(Switch { kind }), ..Thinking::default() };
    }
    let nearest = asked.budget_tokens.filter(|_| effort.is_none()).map(|budget| notes.nearest(budget));
    Thinking { reasoning_effort: effort.or(nearest.map(|nearest| nearest.as_str().to_owned())), ..Thinking::default() }
}

fn unsaid(asked: &ReasoningRequest, notes: &mut Notes) {
    if !asked.adaptive {
        notes.say("thinking was switched on; how much of it was left to the provider, which has no word for it");
    }
}

/// A caller's `reasoning_effort` for a server that calls it otherwise, unless the caller knows the server's own word.
pub(super) fn edits(call: &Call, target: &Target) -> Vec<Edit<'static>> {
    if call.reasoning.is_none() || !(target.has(Quirk::ThinkingSwitch) || target.has(Quirk::EnableThinking)) {
        return Vec::new();
    }
    let mut edits = vec![Edit::remove("reasoning_effort"), Edit::remove("reasoning")];
    let plan = plan(call, target, &mut Notes::new(NAME, target));
    if let Some(Switch { kind }) = plan.thinking {
        edits.push(Edit::set("thinking", format!("{{\"type\":\"{kind}\"}}")));
    }
    if let Some(on) = plan.enable_thinking {
        edits.push(Edit::set("enable_thinking", on.to_string()));
    }
    if let Some(budget) = plan.thinking_budget {
        edits.push(Edit::set("thinking_budget", budget.to_string()));
    }
    edits
}
