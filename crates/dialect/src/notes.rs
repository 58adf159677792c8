//! What a caller is told about what did not reach the provider as written.

use crate::{
    dialect::{DialectName, OnUnsupported, Target, Warning},
    error::EncodeError,
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

    /// Something was changed without loss of meaning that matters enough to refuse.
    pub(crate) fn say(&mut self, sentence: impl Into<String>) {
        let warning = Warning(sentence.into());
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
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
