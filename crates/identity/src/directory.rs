//! Where keys are looked up: the seam behind which they will be kept.

use std::collections::HashMap;

use farebox_types::Project;

/// Whose key it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyIdentity {
    pub project: Project,
    /// Names the key without revealing it: letters, digits, `-` and `_`.
    pub key_id: String,
}

/// Knows whose key a text is. Reads memory only: it is asked while a client waits to be let in.
pub trait KeyDirectory: Send + Sync + 'static {
    fn find(&self, key: &str) -> Option<KeyIdentity>;
}

/// There are no keys: only callers without any are let in.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoKeys;

impl KeyDirectory for NoKeys {
    fn find(&self, _key: &str) -> Option<KeyIdentity> {
        None
    }
}

/// A fixed list of keys, for tests.
#[derive(Clone, Default)]
pub struct StaticKeys(HashMap<String, KeyIdentity>);

impl StaticKeys {
    #[must_use]
    pub fn with(mut self, key: &str, project: &Project, key_id: &str) -> StaticKeys {
        let identity = KeyIdentity { project: project.clone(), key_id: key_id.to_owned() };
        self.0.insert(key.to_owned(), identity);
        self
    }
}

impl KeyDirectory for StaticKeys {
    fn find(&self, key: &str) -> Option<KeyIdentity> {
        self.0.get(key).cloned()
    }
}
