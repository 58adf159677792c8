//! The rules of one moment, laid out so that a call's budgets are found without looking at all there are.

use std::{collections::HashMap, sync::Arc};

use farebox_policy::{Budget, CallScope, Dimension, Limit, Pick, Policies};

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
    /// Names of the budgets that hold only for calls with this in this dimension.
    named: HashMap<Dimension, HashMap<String, Vec<String>>>,
    /// Names of all other budgets.
    others: Vec<String>,
}

impl Rules {
    pub(crate) fn new(policies: Arc<Policies>) -> Rules {
        let mut named: HashMap<Dimension, HashMap<String, Vec<String>>> = HashMap::new();
        let mut others = Vec::new();
        for budget in policies.budgets.values() {
            let names = budget.scope.0.iter().find_map(|(dimension, pick)| match pick {
                Pick::Any(values) if NAMED.contains(dimension) => Some((*dimension, values)),
                _ => None,
            });
            match names {
                Some((dimension, values)) => {
                    for value in values {
                        let of_value = named.entry(dimension).or_default().entry(value.clone()).or_default();
                        of_value.push(budget.name.clone());
                    }
                }
                None => others.push(budget.name.clone()),
            }
        }
        Rules { policies, named, others }
    }

    /// Takes over rules that have changed.
    pub(crate) fn refresh(&mut self, newest: Arc<Policies>) {
        if !Arc::ptr_eq(&self.policies, &newest) {
            *self = Rules::new(newest);
        }
    }

    pub(crate) fn budget(&self, name: &str) -> Option<&Budget> {
        self.policies.budgets.get(name)
    }

    /// The budgets that a call counts in, each with what it counts the call under.
    pub(crate) fn budgets<'a>(&'a self, call: &CallScope<'_>) -> Vec<(&'a Budget, String)> {
        let mut names: Vec<&str> = self.others.iter().map(String::as_str).collect();
        for (dimension, by_value) in &self.named {
            let of_call = call.values(*dimension);
            names.extend(of_call.iter().filter_map(|value| by_value.get(value)).flatten().map(String::as_str));
        }
        names.sort_unstable();
        names.dedup();
        let budgets = names.into_iter().filter_map(|name| self.budget(name));
        budgets
            .flat_map(|budget| budget.scope.subjects(call).into_iter().map(move |subject| (budget, subject)))
            .collect()
    }

    /// The limits that hold for a call, each with what it counts the call under.
    pub(crate) fn limits<'a>(&'a self, call: &CallScope<'_>) -> Vec<(&'a Limit, String)> {
        self.policies.limits_for(call)
    }

    /// Whether all calls of a budget's window are of one project.
    pub(crate) fn is_of_one_project(&self, budget: &Budget) -> bool {
        // What callers declare is counted by project.
        let nested = |(dimension, pick): &(Dimension, Pick)| {
            matches!(dimension, Dimension::Task | Dimension::Session | Dimension::EndUser) && *pick == Pick::Each
        };
        budget.scope.0.iter().any(nested) || self.policies.is_of_one_project(&budget.scope)
    }
}
