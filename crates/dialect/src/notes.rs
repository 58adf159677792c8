//! What a caller is told about what did not reach the provider as written.

use crate::{
    canonical::{Call, Effort, Media, ToolChoice},
    dialect::{DialectName, OnUnsupported, Target, Warning},
    error::EncodeError,
    json::RawJson,
};

/// Collects the warnings of one encoding, and refuses where the target's policy says so.
pub(crate) struct Notes {
    dialect: DialectName,
    policy: OnUnsupported,
    warnings: Vec<Warning>,
}

impl Notes {
    pub(crate) fn new(dialect: DialectName, target: &Target) -> Notes {
        Notes { dialect, policy: target.unsupported, warnings: Vec::new() }
    }

    /// Something is left out, because the dialect has no place for it: a warning, or a refusal where the target says so.
    pub(crate) fn drop(&mut self, what: &str) -> Result<(), EncodeError> {
        if self.policy == OnUnsupported::Refuse {
            return Err(self.unsupported(what));
        }
        self.say(format!("{what} was left out: {} has no place for it", self.dialect));
        Ok(())
    }

    /// Something is left out, because the model does not take it, though its dialect has a place for it.
    pub(crate) fn refused_by_target(&mut self, what: &str, model: &str) -> Result<(), EncodeError> {
        if self.policy == OnUnsupported::Refuse {
            return Err(self.unsupported(format!("{what} of {model}")));
        }
        self.say(format!("{what} was left out: {model} does not take it"));
        Ok(())
    }

    /// The call's tools in words of this dialect. A model can do without those of another one, unless it must call one or
    /// has no others: then it would make up what they would have found.
    pub(crate) fn native_tools<'a>(&mut self, call: &'a Call) -> Result<Vec<&'a RawJson>, EncodeError> {
        let (own, foreign): (Vec<_>, Vec<_>) = call.native_tools.iter().partition(|tool| tool.dialect == self.dialect);
        let named = foreign.iter().map(|tool| format!("the tool `{}` of {}", tool.kind, tool.dialect));
        let named: Vec<String> = named.collect();
        if !named.is_empty() && call.demands_native() {
            return Err(self.unsupported(format!("{}, as `tool_choice` demands", named.join(" or "))));
        }
        let may_call = call.tool_choice != Some(ToolChoice::None);
        if !named.is_empty() && may_call && call.tools.is_empty() && own.is_empty() {
            return Err(self.unsupported(format!("{}, and the call offers no other", named.join(" or "))));
        }
        named.iter().try_for_each(|tool| self.drop(tool))?;
        Ok(own.into_iter().map(|tool| &tool.raw).collect())
    }

    /// Whom the call is for, as OpenAI takes it: it refuses a longer name, and Claude Code's is one.
    pub(crate) fn user<'a>(&mut self, call: &'a Call) -> Result<Option<&'a str>, EncodeError> {
        const LONGEST: usize = 64;
        let user = call.user.as_deref();
        if call.dialect != Some(self.dialect) && user.is_some_and(|user| user.chars().count() > LONGEST) {
            self.drop("`user` of more than 64 characters")?;
            return Ok(None);
        }
        Ok(user)
    }

    /// The tier in OpenAI's words, where Anthropic's are others.
    pub(crate) fn service_tier<'a>(&mut self, call: &'a Call) -> Result<Option<&'a str>, EncodeError> {
        let tier = call.service_tier.as_deref();
        if call.dialect == Some(DialectName::AnthropicMessages) && tier.is_some_and(|tier| tier != "auto") {
            self.drop("`service_tier`")?;
            return Ok(None);
        }
        Ok(tier)
    }

    /// Something was changed without loss of meaning that matters enough to refuse.
    pub(crate) fn say(&mut self, sentence: impl Into<String>) {
        let warning = Warning(sentence.into());
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// An image goes to a dialect that has no word for how closely to look.
    pub(crate) fn no_detail(&mut self, image: &Media) {
        if image.detail.as_deref().is_some_and(|detail| detail != "auto") {
            self.say("`detail` of an image was left out");
        }
    }

    /// A budget goes to a dialect that knows efforts only.
    pub(crate) fn nearest(&mut self, budget: u64) -> Effort {
        let nearest = Effort::nearest(budget);
        self.say(format!("a reasoning budget of {budget} tokens became the effort `{}`", nearest.as_str()));
        nearest
    }

    /// What cannot be left out without changing what is asked for.
    pub(crate) fn unsupported(&self, what: impl Into<String>) -> EncodeError {
        unsupported(self.dialect, what)
    }

    pub(crate) fn into_warnings(self) -> Vec<Warning> {
        self.warnings
    }
}

pub(crate) fn unsupported(dialect: DialectName, what: impl Into<String>) -> EncodeError {
    EncodeError::Unsupported { dialect, what: what.into() }
}
