//! What a budget or limit counts by.

use crate::call::CallScope;

/// One property of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    Organisation,
    Project,
    Key,
    Group,
    Actor,
    Task,
    Session,
    EndUser,
    Tag,
    Model,
    Provider,
    /// `PROVIDER/UPSTREAM_MODEL`
    Deployment,
}

impl Dimension {
    pub const ALL: [Dimension; 12] = [
        Dimension::Organisation,
        Dimension::Project,
        Dimension::Key,
        Dimension::Group,
        Dimension::Actor,
        Dimension::Task,
        Dimension::Session,
        Dimension::EndUser,
        Dimension::Tag,
        Dimension::Model,
        Dimension::Provider,
        Dimension::Deployment,
    ];

    /// As the config says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Dimension::Organisation => "organisation",
            Dimension::Project => "project",
            Dimension::Key => "key",
            Dimension::Group => "group",
            Dimension::Actor => "actor",
            Dimension::Task => "task",
            Dimension::Session => "session",
            Dimension::EndUser => "end_user",
            Dimension::Tag => "tag",
            Dimension::Model => "model",
            Dimension::Provider => "provider",
            Dimension::Deployment => "deployment",
        }
    }

    /// Whether callers say it themselves, unproven: who wants to escape a budget over it leaves it out or makes one up.
    pub fn is_declared(self) -> bool {
        matches!(self, Dimension::Actor | Dimension::Task | Dimension::Session | Dimension::EndUser | Dimension::Tag)
    }
}

/// Which calls of a dimension count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pick {
    /// All that have one, each by itself.
    Each,
    /// Those with one of these, together.
    Any(Vec<String>),
}

/// What a rule counts by; empty: all calls together. Every term must hold.
///
/// In config: nothing or `everything`; `task` (each task by itself); `[project, model]` (each pair by itself);
/// `{ project: acme, actor: "*" }` (each actor of one project); `{ key: [k1, k2] }` (two keys together).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope(pub Vec<(Dimension, Pick)>);

impl Scope {
    /// What the call is counted under: none where the rule does not apply to it; one empty text for rules that count
    /// all their calls together; several where it is in several groups or has several tags.
    pub fn subjects(&self, call: &CallScope<'_>) -> Vec<String> {
        let mut subjects = vec![String::new()];
        for (dimension, pick) in &self.0 {
            let values = call.values(*dimension);
            match pick {
                Pick::Any(wanted) => {
                    let bare = |value: &String| match value.split_once('/') {
                        // `task`, `session` and `end_user` carry their project.
                        Some((_, rest)) if dimension.is_declared() && *dimension != Dimension::Tag => rest.to_owned(),
                        _ => value.clone(),
                    };
                    if !values.iter().any(|value| wanted.contains(value) || wanted.contains(&bare(value))) {
                        return Vec::new();
                    }
                }
                Pick::Each => {
                    subjects = subjects
                        .iter()
                        .flat_map(|subject| values.iter().map(move |value| joined(subject, value)))
                        .collect();
                }
            }
        }
        subjects
    }

    /// Whether it counts by something that callers say themselves.
    pub fn is_declared(&self) -> bool {
        self.0.iter().any(|(dimension, _)| dimension.is_declared())
    }
}

fn joined(subject: &str, value: &str) -> String {
    if subject.is_empty() { value.to_owned() } else { format!("{subject} {value}") }
}
