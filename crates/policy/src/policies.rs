//! One state of all rules.

use std::{collections::BTreeMap, fmt};

use farebox_types::{Project, Timestamp};

use crate::{
    budget::{Budget, Window},
    call::CallScope,
    key::{Key, KeyFault, KeyId, KeyText, Pepper},
    limit::Limit,
    tenant::{KeyGroup, Organisation, ProjectPolicy},
};

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

/// Everything that is wrong, each with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PolicyFaults(pub Vec<PolicyFault>);

impl fmt::Display for PolicyFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, PolicyFault { path, message }) in self.0.iter().enumerate() {
            write!(f, "{}{path}: {message}", if index > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

/// Where a field (with its dot) of a named thing stands.
pub(crate) fn at(section: &str, name: &str, field: &str) -> String {
    let quote = if name.is_empty() || name.contains(['.', '[', '"']) { "\"" } else { "" };
    format!("{section}.{quote}{name}{quote}{field}")
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
        if key.project.as_ref().is_some_and(|project| self.is_disabled(project)) {
            return Err(KeyFault::Disabled);
        }
        Ok(())
    }

    /// A project that has no entry is not.
    pub fn is_disabled(&self, project: &Project) -> bool {
        self.projects.get(project.as_str()).is_some_and(|policy| policy.disabled)
    }

    /// The budgets that a call counts in at a time, each with the window it counts in.
    pub fn budgets_for(&self, call: &CallScope<'_>, at: Timestamp) -> Vec<(&Budget, Window)> {
        let of = |budget: &Budget| budget.windows(call, at);
        self.budgets.values().flat_map(|budget| of(budget).into_iter().map(move |window| (budget, window))).collect()
    }

    /// The limits that hold for a call, each with what it counts the call under.
    pub fn limits_for(&self, call: &CallScope<'_>) -> Vec<(&Limit, String)> {
        Limit::in_force(&self.limits.values().collect::<Vec<_>>(), call)
    }

    /// The limit that holds for a call instead of a default one.
    pub fn stands_back(&self, limit: &Limit, call: &CallScope<'_>) -> Option<&Limit> {
        let all: Vec<&Limit> = self.limits.values().collect();
        limit.scope.counted(call).iter().find_map(|counted| limit.stands_back(counted, &all, call))
    }
}

#[cfg(test)]
mod tests;
