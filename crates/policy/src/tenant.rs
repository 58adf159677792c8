//! Organisations, projects and groups of keys.

use std::collections::BTreeMap;

use farebox_types::{Project, Secret};

/// What several projects belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Organisation {
    pub name: String,
    pub metadata: BTreeMap<String, String>,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectPolicy {
    pub name: Project,
    /// Empty: none.
    pub organisation: String,
    /// Model aliases that its keys may ask for; empty: all. `*` at the end stands for anything.
    pub models: Vec<String>,
    /// The project's own keys for providers, by the provider's name in the config.
    pub provider_keys: BTreeMap<String, Secret>,
    /// Nobody of it is served.
    pub disabled: bool,
    pub metadata: BTreeMap<String, String>,
}

/// A named group of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyGroup {
    pub name: String,
    pub description: String,
}
