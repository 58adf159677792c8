//! What a caller may, by its key and its project.

use std::sync::Arc;

use farebox_policy::{Key, KeyFault, KeyId, Pins, Policies};
use farebox_types::{ErrorKind, Fault, Project, Timestamp};

use crate::{Directory, Stale};

/// Whose keys the NATS server lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// farebox's own: every caller with a user name has one.
    Own,
    /// The server has users of its own: a name that is no key's is just a name.
    Foreign,
}

/// A caller that may come in. What it may besides is read from here.
#[derive(Clone, Debug)]
pub struct Access {
    policies: Arc<Policies>,
    project: Project,
    key: Option<KeyId>,
}

/// Why a caller may not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error(transparent)]
    Stale(#[from] Stale),
    #[error(transparent)]
    Key(#[from] KeyFault),
    #[error("this project is disabled")]
    Disabled,
}

impl Denied {
    pub fn kind(self) -> ErrorKind {
        match self {
            Denied::Stale(_) => ErrorKind::Unavailable,
            Denied::Key(fault) => fault.kind(),
            Denied::Disabled => ErrorKind::Forbidden,
        }
    }
}

impl From<Denied> for Fault {
    fn from(denied: Denied) -> Fault {
        let fault = Fault::new(denied.kind(), denied.to_string());
        if denied.kind() == ErrorKind::Unavailable { fault.retry_after(crate::RETRY_AFTER) } else { fault }
    }
}

impl Directory {
    /// Whether a caller may come in now, whom the server let in before with a key, or without one.
    pub fn access(
        &self,
        project: &Project,
        key_id: Option<&str>,
        keys: Keys,
        now: Timestamp,
    ) -> Result<Access, Denied> {
        // Who has no key has nothing that could have been revoked unheard.
        let policies = if key_id.is_some() && keys == Keys::Own { self.read()? } else { self.newest() };
        if policies.is_disabled(project) {
            return Err(Denied::Disabled);
        }
        let known = key_id.and_then(KeyId::parse).and_then(|id| policies.keys.get(&id));
        let key = match (known, keys) {
            (Some(key), _) => {
                policies.usable(key, now)?;
                if key.project.as_ref() != Some(project) {
                    return Err(KeyFault::Unknown.into());
                }
                Some(key.id.clone())
            }
            (None, Keys::Own) if key_id.is_some() => return Err(KeyFault::Unknown.into()),
            (None, _) => None,
        };
        Ok(Access { policies, project: project.clone(), key })
    }
}

impl Access {
    fn key(&self) -> Option<&Key> {
        self.policies.keys.get(self.key.as_ref()?)
    }

    /// Empty: the project belongs to none.
    pub fn organisation(&self) -> &str {
        self.policies.projects.get(self.project.as_str()).map_or("", |policy| &policy.organisation)
    }

    pub fn groups(&self) -> &[String] {
        self.key().map_or(&[], |key| &key.groups)
    }

    pub fn pins(&self) -> Option<&Pins> {
        self.key().map(|key| &key.pins)
    }

    /// Which models may be asked for.
    pub fn models(&self) -> Models {
        let of_project = self.policies.projects.get(self.project.as_str()).map(|policy| policy.models.clone());
        let of_key = self.key().map(|key| key.models.clone());
        Models([of_project, of_key].into_iter().flatten().filter(|list| !list.is_empty()).collect())
    }
}

/// The models that a caller may ask for: those in every list. No list: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Models(Vec<Vec<String>>);

impl Models {
    pub fn allow(&self, alias: &str) -> bool {
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => alias.starts_with(start),
            None => pattern == alias,
        };
        self.0.iter().all(|list| list.iter().any(fits))
    }

    /// `forbidden` for a model that is not allowed, with those that are.
    pub fn check(&self, alias: &str) -> Result<(), Fault> {
        if self.allow(alias) {
            return Ok(());
        }
        // The narrowest list says best what is left: that of the key, where it has one.
        let list = self.0.last().map(|list| list.join(", ")).unwrap_or_default();
        let message = format!("the model `{alias}` is not open to this key: it may ask for {list}");
        Err(Fault::new(ErrorKind::Forbidden, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models(lists: &[&[&str]]) -> Models {
        Models(lists.iter().map(|list| list.iter().map(|name| (*name).to_owned()).collect()).collect())
    }

    #[test]
    fn a_model_must_be_in_every_list() {
        let cases: [(&[&[&str]], &str, bool); 8] = [
            (&[], "any", true),
            (&[&["gpt-4o"]], "gpt-4o", true),
            (&[&["gpt-4o"]], "gpt-4o-mini", false),
            (&[&["gpt-*"]], "gpt-4o-mini", true),
            (&[&["*"]], "any", true),
            (&[&["gpt-*"], &["gpt-4o", "claude"]], "gpt-4o", true),
            (&[&["gpt-*"], &["gpt-4o", "claude"]], "claude", false),
            (&[&["a*b"]], "axb", false),
        ];
        for (lists, alias, allowed) in cases {
            assert_eq!(models(lists).allow(alias), allowed, "{lists:?} {alias}");
        }
        let refused = models(&[&["gpt-*"], &["gpt-4o", "fast"]]).check("claude").unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Forbidden);
        assert!(refused.message.contains("`claude`") && refused.message.contains("gpt-4o, fast"), "{refused}");
    }

    #[test]
    fn who_cannot_know_says_unavailable_and_when_to_come_back() {
        let (_feed, stale) = Directory::fed(Policies::default());
        let default = Project::default_project();
        let denied = stale.access(&default, Some("k1"), Keys::Own, Timestamp(0)).unwrap_err();
        let fault = Fault::from(denied);
        assert_eq!((fault.kind, fault.retry_after.is_some()), (ErrorKind::Unavailable, true));
        assert!(stale.access(&default, None, Keys::Own, Timestamp(0)).is_ok());
        let known = Directory::fixed(Policies::default());
        let denied = known.access(&default, Some("k1"), Keys::Own, Timestamp(0)).unwrap_err();
        assert_eq!(denied.kind(), ErrorKind::Unauthenticated);
        assert!(known.access(&default, Some("k1"), Keys::Foreign, Timestamp(0)).is_ok());
    }
}
