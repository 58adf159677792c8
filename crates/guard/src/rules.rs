//! The rules of one moment, laid out so that a call's budgets and limits are found without looking at all there are.

use std::{collections::HashMap, sync::Arc};

use farebox_policy::{Budget, CallScope, Dimension, Limit, Pick, Policies, Scope};
use farebox_types::Project;

/// What rules name that hold for few calls only. Not what callers declare: `Scope` knows how those compare.
const NAMED: [Dimension; 7] = [
    Dimension::Organisation,
    Dimension::Project,
    Dimension::Key,
    Dimension::Group,
    Dimension::Model,
    Dimension::Provider,
    Dimension::Deployment,
];

/// One state of all rules.
pub(crate) struct Rules {
    policies: Arc<Policies>,
    budgets: Index,
    limits: Index,
    /// The project of those who run farebox.
    operators: Project,
}

impl Rules {
    pub(crate) fn new(policies: Arc<Policies>, operators: Project) -> Rules {
        let budgets = Index::of(policies.budgets.values().map(|budget| (&*budget.name, &budget.scope)));
        let limits = Index::of(policies.limits.values().map(|limit| (&*limit.name, &limit.scope)));
        Rules { policies, budgets, limits, operators }
    }

    /// Takes over rules that have changed.
    pub(crate) fn refresh(&mut self, newest: Arc<Policies>) {
        if !Arc::ptr_eq(&self.policies, &newest) {
            *self = Rules::new(newest, self.operators.clone());
        }
    }

    pub(crate) fn budget(&self, name: &str) -> Option<&Budget> {
        self.policies.budgets.get(name)
    }

    /// The budgets that a call counts in, each with what it counts the call under.
    pub(crate) fn budgets<'a>(&'a self, call: &CallScope<'_>) -> Vec<(&'a Budget, String)> {
        let budgets = self.budgets.find(call).into_iter().filter_map(|name| self.budget(name));
        budgets
            .flat_map(|budget| budget.scope.subjects(call).into_iter().map(move |subject| (budget, subject)))
            .collect()
    }

    /// The limits that hold for a call, each with what it counts the call under.
    pub(crate) fn limits<'a>(&'a self, call: &CallScope<'_>) -> Vec<(&'a Limit, String)> {
        let limits = self.limits.find(call).into_iter().filter_map(|name| self.policies.limits.get(name));
        Limit::in_force(&limits.collect::<Vec<_>>(), call)
    }

    /// The project that a rule belongs to which counts a call of `caller`; none: those who run farebox.
    pub(crate) fn owner<'a>(&self, scope: &Scope, caller: &'a str) -> Option<&'a str> {
        self.policies.owner(scope, caller)
    }

    /// Whether `caller` is told of a rule that counts its call, by name and with amounts.
    pub(crate) fn tells(&self, scope: &Scope, caller: &str) -> bool {
        self.owner(scope, caller).unwrap_or(self.operators.as_str()) == caller
    }
}

/// Names of rules, by what they hold for.
#[derive(Default)]
struct Index {
    /// Those that hold only for calls with this in this dimension.
    named: HashMap<Dimension, HashMap<String, Vec<String>>>,
    /// All others.
    others: Vec<String>,
}

impl Index {
    fn of<'a>(rules: impl Iterator<Item = (&'a str, &'a Scope)>) -> Index {
        let mut index = Index::default();
        for (name, scope) in rules {
            let values = scope.0.iter().find_map(|(dimension, pick)| match pick {
                Pick::Any(values) if NAMED.contains(dimension) => Some((*dimension, values)),
                _ => None,
            });
            match values {
                Some((dimension, values)) => {
                    for value in values {
                        let of_value = index.named.entry(dimension).or_default().entry(value.clone()).or_default();
                        of_value.push(name.to_owned());
                    }
                }
                None => index.others.push(name.to_owned()),
            }
        }
        index
    }

    /// The rules that may hold for a call, by name: all that do, and few that do not.
    fn find(&self, call: &CallScope<'_>) -> Vec<&str> {
        let mut names: Vec<&str> = self.others.iter().map(String::as_str).collect();
        for (dimension, by_value) in &self.named {
            let of_call = call.values(*dimension);
            names.extend(of_call.iter().filter_map(|value| by_value.get(value)).flatten().map(String::as_str));
        }
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use farebox_policy::{Measure, Rate, Strategy};
    use farebox_proto::v1;
    use farebox_types::Span;

    use super::*;

    fn limit(name: &str, terms: Vec<(Dimension, Pick)>, default: bool) -> (String, Limit) {
        let rate = Rate { allowed: 1, period: Span::from_secs(60), strategy: Strategy::FixedWindow };
        let limit = Limit { name: name.to_owned(), scope: Scope(terms), measure: Measure::Requests, rate, default };
        (name.to_owned(), limit)
    }

    /// A thousand keys with a limit each, and three limits that name no key.
    #[test]
    fn a_call_looks_at_no_limit_of_another_key_and_the_same_hold_as_among_all() {
        let any = |dimension, value: &str| (dimension, Pick::Any(vec![value.to_owned()]));
        let others = [
            limit("each-key", vec![(Dimension::Key, Pick::Each)], true),
            limit("all", Vec::new(), false),
            limit("tasks", vec![any(Dimension::Task, "t")], false),
        ];
        let own =
            (0..1000).map(|key| limit(&format!("own-{key}"), vec![any(Dimension::Key, &format!("k{key}"))], false));
        let policies = Arc::new(Policies { limits: own.chain(others).collect(), ..Policies::default() });
        let rules = Rules::new(Arc::clone(&policies), Project::default_project());
        let labels = v1::Labels { task_id: "t".into(), ..v1::Labels::default() };
        for (key, found, held) in [
            ("k7", &["all", "each-key", "own-7", "tasks"][..], &["all", "own-7", "tasks"][..]),
            ("without", &["all", "each-key", "tasks"], &["all", "each-key", "tasks"]),
        ] {
            let principal = v1::Principal { project: "acme".into(), key_id: key.into(), ..v1::Principal::default() };
            let call =
                CallScope { principal: &principal, labels: &labels, model: "m", provider: "p", upstream_model: "m" };
            assert_eq!(rules.limits.find(&call), found);
            assert_eq!(rules.limits(&call), policies.limits_for(&call));
            assert_eq!(rules.limits(&call).iter().map(|(limit, _)| &*limit.name).collect::<Vec<_>>(), held);
        }
    }
}
