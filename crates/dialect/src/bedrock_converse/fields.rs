//! Output limit, sampling and thinking: what the API has a member for, and what goes to the model in its maker's words
//! (`additionalModelRequestFields`).
//!
//! | models | thinking | `top_k` |
//! |---|---|---|
//! | Claude | `thinking: {type, budget_tokens}`, or `adaptive` and `output_config.effort` | `top_k` |
//! | Nova 2 | `reasoningConfig: {type, maxReasoningEffort}` | `inferenceConfig.topK` |
//! | gpt-oss | `reasoning_effort` | |
//! | Qwen | `reasoning_config` | |

use serde::Serialize;
use serde_json::{Value, json};

use super::types::{Family, NAME};
use crate::{
    canonical::{Call, Content, Effort, Extra, ReasoningRequest, Role, ToolChoice},
    dialect::{Quirk, Target},
    error::EncodeError,
    json::RawJson,
    notes::Notes,
};

/// The smallest budget that Claude takes.
const MIN_BUDGET: u64 = 1024;

#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) inference: Inference<'a>,
    pub(super) additional: Extra,
}

#[derive(Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Inference<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
}

impl Inference<'_> {
    pub(super) fn is_empty(&self) -> bool {
        *self == Inference::default()
    }
}

impl<'a> Fields<'a> {
    pub(super) fn plan(call: &'a Call, target: &Target, notes: &mut Notes) -> Result<Fields<'a>, EncodeError> {
        let family = Family::of(target);
        let mut fields = Fields::default();
        fields.inference.max_tokens = call.max_output_tokens;
        fields.inference.stop_sequences = &call.stop;
        let thinks = fields.think(call, target, family, notes)?;
        fields.sample(call, target, family, thinks, notes)?;
        Ok(fields)
    }

    /// Whether thinking limits the sampling: it does for Claude.
    fn think(&mut self, call: &Call, target: &Target, family: Family, notes: &mut Notes) -> Result<bool, EncodeError> {
        let Some(asked) = call.reasoning.as_ref().filter(|asked| asked.is_on() == Some(true)) else {
            return Ok(false);
        };
        match family {
            Family::Claude => return self.think_as_claude(call, asked, target, notes),
            Family::Nova2 => {
                let kept = self.inference.max_tokens.is_some()
                    || call.sampling.temperature.is_some()
                    || call.sampling.top_p.is_some();
                let effort = match level(asked) {
                    // The model refuses the highest effort beside any of these.
                    "high" if kept => {
                        notes
                            .say("reasoning was lowered to medium: beside an output limit or sampling high is refused");
                        "medium"
                    }
                    level => level,
                };
                self.put("reasoningConfig", json!({"type": "enabled", "maxReasoningEffort": effort}));
            }
            Family::OpenAi => self.put("reasoning_effort", json!(level(asked))),
            // Two steps are all there are.
            Family::Qwen => self.put("reasoning_config", json!(if level(asked) == "low" { "low" } else { "high" })),
            Family::Nova | Family::Other | Family::Hidden => {
                notes.drop("reasoning, for a model whose words for it are not known,")?;
            }
        }
        Ok(false)
    }

    fn think_as_claude(
        &mut self,
        call: &Call,
        asked: &ReasoningRequest,
        target: &Target,
        notes: &mut Notes,
    ) -> Result<bool, EncodeError> {
        let limit = call.max_output_tokens;
        let adaptive = target.has(Quirk::AdaptiveThinking);
        let obstacle = if matches!(call.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_))) {
            Some("a tool is forced")
        } else if in_a_tool_turn_without_proof(call) {
            Some("the turn began without signed reasoning")
        } else if !adaptive && limit.is_some_and(|limit| limit <= MIN_BUDGET) {
            Some("the output limit leaves no room for it")
        } else {
            None
        };
        if let Some(reason) = obstacle {
            notes.drop(&format!("reasoning, because {reason},"))?;
            return Ok(false);
        }
        if adaptive {
            self.put("thinking", json!({"type": "adaptive"}));
            if let Some(effort) = asked.effort.as_ref().map(claude_effort) {
                self.put("output_config", json!({"effort": effort}));
            }
            return Ok(true);
        }
        let wanted = asked.budget().max(MIN_BUDGET);
        let budget = limit.map_or(wanted, |limit| wanted.min(limit - 1));
        self.put("thinking", json!({"type": "enabled", "budget_tokens": budget}));
        Ok(true)
    }

    fn sample(
        &mut self,
        call: &Call,
        target: &Target,
        family: Family,
        thinks: bool,
        notes: &mut Notes,
    ) -> Result<(), EncodeError> {
        let sampling = &call.sampling;
        let none = target.has(Quirk::NoSampling);
        if let Some(given) = sampling.temperature {
            if none || thinks && given != 1.0 {
                notes.drop("`temperature`")?;
            } else if !thinks {
                if given > 1.0 {
                    notes.say(format!("`temperature` {given} was lowered to 1, the most that {NAME} takes"));
                }
                self.inference.temperature = Some(given.min(1.0));
            }
        }
        if let Some(given) = sampling.top_p {
            let second = target.has(Quirk::OneSampling) && self.inference.temperature.is_some();
            if none || second || thinks && given < 0.95 {
                notes.drop("`top_p`")?;
            } else {
                self.inference.top_p = Some(given);
            }
        }
        match (sampling.top_k, family) {
            (None, _) => {}
            (Some(k), Family::Claude) if !thinks && !none => self.put("top_k", json!(k)),
            (Some(k), Family::Nova | Family::Nova2) => self.put("inferenceConfig", json!({"topK": k})),
            (Some(_), _) => notes.drop("`top_k`")?,
        }
        Ok(())
    }

    fn put(&mut self, name: &str, value: Value) {
        self.additional.extend(RawJson::new(value.to_string()).map(|raw| (name.to_owned(), raw)));
    }
}

/// One of the three steps that most models know.
fn level(asked: &ReasoningRequest) -> &'static str {
    match Effort::nearest(asked.budget()) {
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        _ => "high",
    }
}

fn claude_effort(effort: &Effort) -> &str {
    match effort {
        Effort::Minimal => "low",
        effort => effort.as_str(),
    }
}

/// Between a tool call and its result Claude wants the reasoning that led to the call, with its signature.
fn in_a_tool_turn_without_proof(call: &Call) -> bool {
    let last = call.messages.iter().rfind(|message| message.role == Role::Assistant);
    last.is_some_and(|message| {
        let calls = message.parts.iter().any(|part| matches!(part.content, Content::ToolCall(_)));
        let proof = message.parts.iter().any(|part| match &part.content {
            Content::Reasoning(r) => r.origin == Some(NAME) && (r.signature.is_some() || r.encrypted.is_some()),
            _ => false,
        });
        calls && !proof
    })
}
