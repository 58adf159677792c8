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

/// One thing that a rule counts a call under.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// What it is called: the values of the dimensions that are counted each by itself.
    pub(crate) subject: String,
    pub(crate) values: Vec<(Dimension, String)>,
}

impl Scope {
    /// In the order of the dimensions, so that it does not matter in which they were written.
    pub fn new(mut terms: Vec<(Dimension, Pick)>) -> Scope {
        terms.sort_by_key(|(dimension, _)| *dimension);
        Scope(terms)
    }

    /// What the call is counted under: none where the rule does not apply to it; one empty text for rules that count
    /// all their calls together; several where it is in several groups or has several tags.
    pub fn subjects(&self, call: &CallScope<'_>) -> Vec<String> {
        self.counted(call).into_iter().map(|counted| counted.subject).collect()
    }

    pub(crate) fn counted(&self, call: &CallScope<'_>) -> Vec<Counted> {
        let mut all = vec![Counted::default()];
        for (dimension, pick) in &self.0 {
            let values = call.values(*dimension);
            match pick {
                Pick::Any(_) if values.iter().any(|value| pick.takes(*dimension, value)) => {}
                Pick::Any(_) => return Vec::new(),
                Pick::Each => {
                    all = all.iter().flat_map(|c| values.iter().map(|value| c.with(*dimension, value))).collect();
                }
            }
        }
        all
    }

    /// Why the rule does not apply to a call; none: it does.
    pub fn unmet(&self, call: &CallScope<'_>) -> Option<String> {
        self.0.iter().find_map(|(dimension, pick)| {
            let (values, what) = (call.values(*dimension), dimension.as_str());
            match pick {
                _ if values.is_empty() => Some(format!("the call has no {what}")),
                Pick::Any(wanted) if !values.iter().any(|value| pick.takes(*dimension, value)) => {
                    Some(format!("its {what} is {}, not {}", values.join(", "), wanted.join(" or ")))
                }
                _ => None,
            }
        })
    }

    pub fn pick(&self, dimension: Dimension) -> Option<&Pick> {
        self.0.iter().find_map(|(of, pick)| (*of == dimension).then_some(pick))
    }

    /// Whether it counts by something that callers say themselves.
    pub fn is_declared(&self) -> bool {
        self.0.iter().any(|(dimension, _)| dimension.is_declared())
    }
}

impl Pick {
    /// Whether a value of the dimension, as [`CallScope::values`] has it, counts. What is a project's own (a task, a
    /// session, an end user) is named by itself, in whatever project, or as `PROJECT/NAME`.
    pub(crate) fn takes(&self, dimension: Dimension, value: &str) -> bool {
        let Pick::Any(wanted) = self else { return true };
        let of_project = matches!(dimension, Dimension::Task | Dimension::Session | Dimension::EndUser);
        let bare = value.split_once('/').map(|(_, bare)| bare).filter(|bare| of_project && !bare.contains('/'));
        wanted.iter().any(|wanted| wanted == value || Some(wanted.as_str()) == bare)
    }
}

impl Counted {
    fn with(&self, dimension: Dimension, value: &str) -> Counted {
        // A space separates: those within a value are written otherwise, so that no two subjects look the same.
        let word = value.replace('%', "%25").replace(' ', "%20");
        let subject = if self.subject.is_empty() { word } else { format!("{} {word}", self.subject) };
        let mut values = self.values.clone();
        values.push((dimension, value.to_owned()));
        Counted { subject, values }
    }
}

#[cfg(test)]
mod tests {
    use farebox_proto::v1;

    use super::*;

    fn each(dimension: Dimension) -> (Dimension, Pick) {
        (dimension, Pick::Each)
    }

    fn any(dimension: Dimension, values: &[&str]) -> (Dimension, Pick) {
        (dimension, Pick::Any(values.iter().map(|value| (*value).to_owned()).collect()))
    }

    #[test]
    fn a_call_is_counted_by_what_it_has() {
        let principal = v1::Principal {
            project: "acme".into(),
            key_id: "k1".into(),
            organisation: "umbrella".into(),
            groups: vec!["night".into(), "batch".into()],
            ..Default::default()
        };
        let labels = v1::Labels {
            actor: "team/writer".into(),
            task_id: "t1".into(),
            end_user: "eve/2".into(),
            tags: vec!["a b".into(), "b".into(), "a b".into()],
            ..Default::default()
        };
        let call = CallScope {
            principal: &principal,
            labels: &labels,
            model: "gpt",
            provider: "openai",
            upstream_model: "gpt-5",
        };
        use Dimension as D;
        for (scope, subjects) in [
            (vec![], &[""][..]),
            (vec![each(D::Project)], &["acme"]),
            (vec![each(D::Task)], &["acme/t1"]),
            // It has none.
            (vec![each(D::Session)], &[]),
            (vec![each(D::Project), each(D::Session)], &[]),
            (vec![each(D::Deployment)], &["openai/gpt-5"]),
            (vec![each(D::Group)], &["batch", "night"]),
            (vec![any(D::Group, &["batch", "night"])], &[""]),
            (vec![any(D::Group, &["day"])], &[]),
            // Spaces within do not separate.
            (vec![each(D::Tag)], &["a%20b", "b"]),
            (vec![each(D::Group), each(D::Tag)], &["batch a%20b", "batch b", "night a%20b", "night b"]),
            (vec![any(D::Project, &["acme"]), each(D::Actor)], &["team/writer"]),
            (vec![any(D::Project, &["other"]), each(D::Actor)], &[]),
            // A task is named with its project or without, an actor only in full.
            (vec![any(D::Task, &["t1"])], &[""]),
            (vec![any(D::Task, &["acme/t1"])], &[""]),
            (vec![any(D::Task, &["other/t1"])], &[]),
            (vec![any(D::Actor, &["writer"])], &[]),
            (vec![any(D::Actor, &["team/writer"])], &[""]),
            // Nobody counts as another project's by a name that looks like it.
            (vec![any(D::EndUser, &["eve/2"])], &[]),
            (vec![any(D::EndUser, &["acme/eve/2"])], &[""]),
        ] {
            let scope = Scope(scope);
            assert_eq!(scope.subjects(&call), subjects, "{scope:?}");
            assert_eq!(scope.unmet(&call).is_none(), !subjects.is_empty(), "{scope:?}");
        }
    }
}
