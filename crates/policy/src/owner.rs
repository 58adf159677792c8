//! Whose a budget or limit is, and so who is told of it.
//!
//! A rule belongs to a project where all calls that it counts together are of that project; any other belongs to those who run
//! farebox. Callers are told by name and with amounts of what belongs to their project; of the rest, that it is there.

use farebox_types::Project;

use crate::{
    key::KeyId,
    policies::Policies,
    scope::{Dimension, Pick, Scope},
};

impl Policies {
    /// The project that a rule belongs to which counts a call of `caller`; none: those who run farebox.
    pub fn owner<'a>(&self, scope: &Scope, caller: &'a str) -> Option<&'a str> {
        scope.0.iter().any(|(dimension, pick)| self.is_of_one_project(*dimension, pick)).then_some(caller)
    }

    /// Whether no two calls of different projects are counted together by what has this term.
    fn is_of_one_project(&self, dimension: Dimension, pick: &Pick) -> bool {
        use Dimension as D;
        match (dimension, pick) {
            // What is a project's own is counted by project.
            (D::Project | D::Key | D::Task | D::Session | D::EndUser, Pick::Each) => true,
            (D::Project | D::Key, Pick::Any(one)) if one.len() == 1 => true,
            (D::Key, Pick::Any(keys)) => are_one(keys.iter().map(|key| self.project_of(key))),
            // `PROJECT/NAME`; a name alone is that of a task of any project.
            (D::Task | D::Session | D::EndUser, Pick::Any(names)) => {
                are_one(names.iter().map(|name| name.split_once('/').map(|(project, _)| project)))
            }
            _ => false,
        }
    }

    fn project_of(&self, key: &str) -> Option<&Project> {
        self.keys.get(&KeyId::parse(key)?)?.project.as_ref()
    }
}

/// Whether all of them are known, and the same.
fn are_one<T: PartialEq>(mut all: impl Iterator<Item = Option<T>>) -> bool {
    let Some(Some(first)) = all.next() else { return false };
    all.all(|other| other.as_ref() == Some(&first))
}

#[cfg(test)]
mod tests;
