//! One state of all rules.

use std::collections::BTreeMap;

use crate::{
    budget::Budget,
    key::{Key, KeyFault, KeyId, KeyText, Pepper},
    limit::Limit,
    tenant::{KeyGroup, Organisation, ProjectPolicy},
};
use farebox_types::Timestamp;

/// Everything that is known of tenants, keys, budgets and limits at one moment. By name, or by id for keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies {
    pub organisations: BTreeMap<String, Organisation>,
    pub projects: BTreeMap<String, ProjectPolicy>,
    pub groups: BTreeMap<String, KeyGroup>,
    pub keys: BTreeMap<KeyId, Key>,
    pub budgets: BTreeMap<String, Budget>,
    pub limits: BTreeMap<String, Limit>,
}

/// What is wrong with a set of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFault {
    /// Where, as the config would say it: `budgets.per-task.scope`.
    pub path: String,
    pub message: String,
}

impl Policies {
    /// The key that a text opens, at a time.
    pub fn open(&self, text: &KeyText, pepper: &Pepper, now: Timestamp) -> Result<&Key, KeyFault> {
        let key = self.keys.get(&text.id).ok_or(KeyFault::Unknown)?;
        let hash = text.hash(pepper);
        let previous = key.previous.is_some_and(|(previous, until)| previous == hash && now < until);
        if key.hash != hash && !previous {
            return Err(KeyFault::Unknown);
        }
        self.usable(key, now)?;
        Ok(key)
    }

    /// Whether a key that was opened before still is.
    pub fn usable(&self, key: &Key, now: Timestamp) -> Result<(), KeyFault> {
        if key.revoked.is_some() {
            return Err(KeyFault::Revoked);
        }
        if key.expires.is_some_and(|expires| expires <= now) {
            return Err(KeyFault::Expired);
        }
        let disabled = |name: &farebox_types::Project| self.projects.get(name.as_str()).is_some_and(|p| p.disabled);
        if key.project.as_ref().is_some_and(disabled) {
            return Err(KeyFault::Disabled);
        }
        Ok(())
    }
}
