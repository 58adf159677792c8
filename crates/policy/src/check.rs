//! What is wrong with a set of rules as a whole.

use std::collections::BTreeSet;

use farebox_types::{Money, Span};

use crate::{
    budget::{Budget, Permille, Unreachable, WhenShort},
    key::{Key, KeyId},
    limit::{Limit, Measure, Strategy},
    period::Period,
    policies::{Policies, PolicyFault, at},
    scope::{Dimension, Pick, Scope},
};

/// Names from outside of the rules that they may refer to. None: not known here, and not looked at.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Model aliases.
    pub models: Option<BTreeSet<String>>,
    pub providers: Option<BTreeSet<String>>,
}

/// The highest share of a limit that an alert makes sense at: spend ends a little above a limit at most.
const ALERT_MAX: Permille = Permille(1500);
/// The longest name, in bytes.
pub const NAME_MAX: usize = 64;
/// The project of callers without a key: it needs no entry.
const DEFAULT_PROJECT: &str = "default";
const ROLLING_MAX: Span = Span::from_secs(366 * 86_400);

/// Whether an organisation, a group, a budget or the like may be named so.
pub fn is_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

impl Policies {
    /// Everything that is wrong. Rules without a fault say what they seem to say.
    pub fn check(&self, known: &Known) -> Vec<PolicyFault> {
        let mut check = Check { policies: self, known, faults: Vec::new() };
        for (name, project) in &self.projects {
            check.project(name, project);
        }
        for (name, section) in self
            .organisations
            .keys()
            .map(|name| (name, "organisations"))
            .chain(self.groups.keys().map(|n| (n, "groups")))
        {
            check.name(section, name);
        }
        for key in self.keys.values() {
            check.key(key);
        }
        for budget in self.budgets.values() {
            check.budget(budget);
            check.nesting(budget);
            check.shadowed_budget(budget);
        }
        for limit in self.limits.values() {
            check.limit(limit);
            check.shadowed_limit(limit);
        }
        check.faults
    }
}

struct Check<'a> {
    policies: &'a Policies,
    known: &'a Known,
    faults: Vec<PolicyFault>,
}

impl Check<'_> {
    fn fault(&mut self, path: String, message: impl Into<String>) {
        self.faults.push(PolicyFault { path, message: message.into() });
    }

    fn fault_if(&mut self, wrong: bool, section: &str, name: &str, field: &str, message: &str) {
        if wrong {
            self.fault(at(section, name, field), message);
        }
    }

    fn name(&mut self, section: &str, name: &str) {
        let field = if matches!(section, "budgets" | "limits") { ".name" } else { "" };
        let message = format!("`{name}` is no name: use 1 to {NAME_MAX} letters, digits, `-` or `_`");
        self.fault_if(!is_name(name), section, name, field, &message);
    }

    /// Models of a project or key: known ones, or the beginning of some.
    fn models(&mut self, path: &dyn Fn(&str) -> String, models: &[String]) {
        let Some(known) = &self.known.models else { return };
        for (index, model) in models.iter().enumerate() {
            let found = match model.strip_suffix('*') {
                Some(start) => known.iter().any(|known| known.starts_with(start)),
                None => known.contains(model),
            };
            if !found {
                self.faults.push(PolicyFault {
                    path: path(&format!(".models[{index}]")),
                    message: format!("there is no model `{model}`: add it under `models:`, or correct the name"),
                });
            }
        }
    }

    fn project(&mut self, name: &str, project: &crate::tenant::ProjectPolicy) {
        let organisation = &project.organisation;
        if !organisation.is_empty() && !self.policies.organisations.contains_key(organisation) {
            self.fault(at("projects", name, ".organisation"), missing("organisation", "organisations", organisation));
        }
        self.models(&|field| at("projects", name, field), &project.models);
        for provider in project.provider_keys.keys() {
            if self.known.providers.as_ref().is_some_and(|known| !known.contains(provider)) {
                let field = format!(".provider_keys.{provider}");
                self.fault(at("projects", name, &field), missing("provider", "providers", provider));
            }
        }
    }

    fn has_project(&self, project: &str) -> bool {
        project == DEFAULT_PROJECT || self.policies.projects.contains_key(project)
    }

    fn key(&mut self, key: &Key) {
        let id = key.id.as_str();
        match (&key.project, key.role) {
            (Some(project), None) if !self.has_project(project.as_str()) => {
                self.fault(at("keys", id, ".project"), missing("project", "projects", project.as_str()));
            }
            (Some(_), None) | (None, Some(_)) => {}
            (None, None) => {
                self.fault(at("keys", id, ""), "a key acts for a `project`, or has a `role` in the admin API")
            }
            (Some(_), Some(_)) => {
                let message = "an admin's key acts for no project: leave out `project`, or `role`, and make two keys";
                self.fault(at("keys", id, ".role"), message);
            }
        }
        for (index, group) in key.groups.iter().enumerate() {
            if !self.policies.groups.contains_key(group) {
                self.fault(at("keys", id, &format!(".groups[{index}]")), missing("group", "groups", group));
            }
        }
        self.models(&|field| at("keys", id, field), &key.models);
    }

    fn scope(&mut self, section: &str, name: &str, scope: &Scope) {
        let mut seen = BTreeSet::new();
        for (dimension, pick) in &scope.0 {
            let what = dimension.as_str();
            let field = format!(".scope.{what}");
            self.fault_if(!seen.insert(*dimension), section, name, &field, &format!("`{what}` stands here twice"));
            let Pick::Any(values) = pick else { continue };
            let empty = values.is_empty() || values.iter().any(String::is_empty);
            self.fault_if(empty, section, name, &field, "name what counts, or write \"*\" for each by itself");
            let mixed = values.iter().any(|value| value == "*");
            self.fault_if(mixed, section, name, &field, "\"*\" is for each by itself and stands alone");
            for value in values.iter().filter(|value| !value.is_empty() && *value != "*") {
                if let Some((what, section_of)) = self.unmatched(*dimension, value) {
                    self.fault(at(section, name, &field), missing(what, section_of, value));
                }
            }
        }
    }

    /// What a value of a scope should be and where it should stand, if it does not.
    fn unmatched(&self, dimension: Dimension, value: &str) -> Option<(&'static str, &'static str)> {
        let rules = self.policies;
        let unknown =
            |known: &Option<BTreeSet<String>>, name: &str| known.as_ref().is_some_and(|known| !known.contains(name));
        let (is_unmatched, section) = match dimension {
            Dimension::Organisation => (!rules.organisations.contains_key(value), "organisations"),
            Dimension::Project => (!self.has_project(value), "projects"),
            Dimension::Key => (KeyId::parse(value).is_none_or(|id| !rules.keys.contains_key(&id)), "keys"),
            Dimension::Group => (!rules.groups.contains_key(value), "groups"),
            Dimension::Model => (unknown(&self.known.models, value), "models"),
            Dimension::Provider => (unknown(&self.known.providers, value), "providers"),
            Dimension::Deployment => {
                let provider = value.split_once('/').map_or("", |(provider, _)| provider);
                (unknown(&self.known.providers, provider), "providers")
            }
            Dimension::Actor | Dimension::Task | Dimension::Session | Dimension::EndUser | Dimension::Tag => {
                return None;
            }
        };
        is_unmatched.then_some((dimension.as_str(), section))
    }

    fn budget(&mut self, budget: &Budget) {
        let name = &budget.name;
        self.name("budgets", name);
        self.scope("budgets", name, &budget.scope);
        let mut wrong = |is: bool, field: &str, message: &str| self.fault_if(is, "budgets", name, field, message);
        wrong(budget.limit < Money::ZERO, ".limit", "a limit cannot be below zero");
        for (index, share) in budget.alert.iter().enumerate() {
            let field = format!(".alert[{index}]");
            let senseless = share.0 == 0 || *share > ALERT_MAX;
            wrong(senseless, &field, "an alert is at a share of the limit, above 0 and up to 1.5, such as 0.8");
            wrong(budget.alert[..index].contains(share), &field, "this share stands here twice");
        }
        let clamps = budget.when_short != WhenShort::Refuse;
        wrong(clamps && !budget.hard, ".when_short", "only a hard budget clamps: add `hard: true`");
        wrong(budget.when_short == WhenShort::Clamp { floor: 0 }, ".clamp_floor", "an answer has at least 1 token");
        if let Some(ceiling) = budget.unbounded_ceiling {
            wrong(!budget.hard, ".unbounded_ceiling", "only a hard budget refuses such calls: add `hard: true`");
            wrong(ceiling <= Money::ZERO, ".unbounded_ceiling", "it has to be above zero");
            wrong(ceiling > budget.limit, ".unbounded_ceiling", "it is above the limit: no such call would ever fit");
        }
        if let Unreachable::Grace(grace) = budget.unreachable {
            wrong(grace <= Money::ZERO, ".unreachable", "an amount of grace is above zero: write closed for none");
            wrong(!budget.hard, ".unreachable", "a budget that is not hard needs no grace: it is open");
        }
        match budget.period {
            Period::Rolling(span) => {
                let fits = (Period::ROLLING_MIN..=ROLLING_MAX).contains(&span);
                wrong(!fits, ".period", "a rolling period is between 1m and 366d");
            }
            Period::Lifetime => {
                let lives = |d: &Dimension| matches!(d, Dimension::Task | Dimension::Session);
                let counted = budget.scope.0.iter().any(|(dimension, _)| lives(dimension));
                wrong(!counted, ".period", "only a task or a session has a lifetime: write total for no end");
            }
            Period::Total | Period::Calendar(_) => {}
        }
        let calendar = matches!(budget.period, Period::Calendar(_));
        wrong(
            !calendar && !budget.time_zone.as_str().is_empty(),
            ".time_zone",
            "only calendar periods have a time zone",
        );
        for (index, raise) in budget.raises.iter().enumerate() {
            let field = format!(".raises[{index}]");
            wrong(raise.by <= Money::ZERO, &format!("{field}.by"), "a raise is above zero");
            wrong(raise.until <= raise.from, &format!("{field}.until"), "a raise ends after it begins");
            wrong(raise.reason.trim().is_empty(), &format!("{field}.reason"), "say why");
        }
    }

    /// Whoever only has to say another task to have another budget needs one that does not depend on what is said.
    fn nesting(&mut self, budget: &Budget) {
        if !budget.hard || !budget.scope.is_declared() || self.is_pinned(&budget.scope) {
            return;
        }
        let above =
            |other: &&Budget| other.hard && !other.scope.is_declared() && self.covers(&other.scope, &budget.scope);
        if self.policies.budgets.values().any(|other| above(&other)) {
            return;
        }
        let declared: Vec<&str> =
            budget.scope.0.iter().filter(|(dimension, _)| dimension.is_declared()).map(|(d, _)| d.as_str()).collect();
        let declared = declared.join(" and ");
        let message = format!(
            "callers say {declared} themselves and could say another one to escape it: add a hard budget over the same calls \
             that does not count by it, such as `{{ name: all-of-{}, scope: {}, limit: …, period: day, hard: true }}`, or \
             have the keys that it names pin {declared}",
            budget.name,
            self.suggested(&budget.scope),
        );
        self.fault(at("budgets", &budget.name, ".scope"), message);
    }

    /// The same calls, without what is declared.
    fn suggested(&self, scope: &Scope) -> String {
        let term = |(dimension, pick): &(Dimension, Pick)| match pick {
            Pick::Each => format!("{}: \"*\"", dimension.as_str()),
            Pick::Any(values) => format!("{}: [{}]", dimension.as_str(), values.join(", ")),
        };
        let terms: Vec<String> = scope.0.iter().filter(|(dimension, _)| !dimension.is_declared()).map(term).collect();
        if terms.is_empty() { "everything".to_owned() } else { format!("{{ {} }}", terms.join(", ")) }
    }

    /// Whether all keys that it names say for their callers what it counts by.
    fn is_pinned(&self, scope: &Scope) -> bool {
        let Some(Pick::Any(keys)) = scope.pick(Dimension::Key) else { return false };
        let pins = |key: &Key, dimension: Dimension| match dimension {
            Dimension::Actor => !key.pins.actor.is_empty(),
            Dimension::Task => !key.pins.task_id.is_empty(),
            Dimension::Session => !key.pins.session_id.is_empty(),
            Dimension::EndUser => !key.pins.end_user.is_empty(),
            _ => !dimension.is_declared(),
        };
        keys.iter().all(|key| {
            let key = KeyId::parse(key).and_then(|id| self.policies.keys.get(&id));
            key.is_some_and(|key| scope.0.iter().all(|(dimension, _)| pins(key, *dimension)))
        })
    }

    /// Whether every call that `inner` may count, whatever its caller says, is counted by `outer`.
    fn covers(&self, outer: &Scope, inner: &Scope) -> bool {
        outer.0.iter().all(|(dimension, pick)| {
            let always = matches!(
                dimension,
                Dimension::Project | Dimension::Model | Dimension::Provider | Dimension::Deployment
            );
            match pick {
                Pick::Each => always || inner.pick(*dimension).is_some(),
                Pick::Any(_) => self
                    .restricted(inner, *dimension)
                    .is_some_and(|values| values.iter().all(|value| pick.takes(*dimension, value))),
            }
        })
    }

    /// The only values that calls of a scope can have in a dimension; none: it does not say.
    fn restricted(&self, scope: &Scope, dimension: Dimension) -> Option<Vec<String>> {
        if let Some(Pick::Any(values)) = scope.pick(dimension) {
            return Some(values.clone());
        }
        let rules = self.policies;
        match dimension {
            Dimension::Project => {
                let project = |key: &String| Some(rules.keys.get(&KeyId::parse(key)?)?.project.as_ref()?.to_string());
                self.restricted(scope, Dimension::Key)?.iter().map(project).collect()
            }
            Dimension::Organisation => {
                let organisation = |project: &String| Some(rules.projects.get(project)?.organisation.clone());
                self.restricted(scope, Dimension::Project)?.iter().map(organisation).collect()
            }
            _ => None,
        }
    }

    fn shadowed_budget(&mut self, budget: &Budget) {
        let same = |other: &&Budget| {
            other.name != budget.name
                && other.hard
                && other.scope == budget.scope
                && other.period == budget.period
                && other.time_zone == budget.time_zone
        };
        let tighter = |other: &&Budget| {
            let twin = budget.hard && other.limit == budget.limit && other.name < budget.name;
            other.limit < budget.limit || twin
        };
        // One that only warns matters as long as one of its alerts is reached.
        let alerts = |limit: Money| {
            let picos = |share: &Permille| budget.limit.picos().saturating_mul(i128::from(share.0)) / 1000;
            !budget.hard && budget.alert.iter().any(|share| picos(share) <= limit.picos())
        };
        let found = self.policies.budgets.values().filter(same).filter(tighter).find(|other| !alerts(other.limit));
        if let Some(other) = found {
            let message = format!(
                "it can never matter: `{}` allows {} for the same calls and time: leave one of them out",
                other.name, other.limit_text
            );
            self.fault(at("budgets", &budget.name, ".limit"), message);
        }
    }

    fn limit(&mut self, limit: &Limit) {
        let (name, rate) = (&limit.name, &limit.rate);
        self.name("limits", name);
        self.scope("limits", name, &limit.scope);
        let mut wrong = |is: bool, field: &str, message: &str| self.fault_if(is, "limits", name, field, message);
        wrong(rate.allowed == 0, "", "0 would let nothing through: at least 1");
        let at_a_time = limit.measure == Measure::Concurrent;
        let fixed = rate.strategy == Strategy::FixedWindow;
        wrong(at_a_time && !fixed, ".strategy", "calls at a time have no window: leave it out");
        let short = !at_a_time && rate.period < Span::from_secs(1);
        wrong(short, ".per", "a period is at least 1s");
        wrong(
            rate.strategy == Strategy::TokenBucket { burst: 0 },
            ".burst",
            "a bucket that holds nothing lets nothing through",
        );
        let each = limit.scope.0.iter().any(|(_, pick)| *pick == Pick::Each);
        let message =
            "a default is for each key, project, … that has no limit of its own: count by one, such as `scope: key`";
        wrong(limit.default && !each, ".default", message);
    }

    fn shadowed_limit(&mut self, limit: &Limit) {
        let same = |other: &&Limit| {
            other.name != limit.name
                && other.measure == limit.measure
                && other.scope == limit.scope
                && other.rate.period == limit.rate.period
                && std::mem::discriminant(&other.rate.strategy) == std::mem::discriminant(&limit.rate.strategy)
                // A default one steps back where this one may hold.
                && (!other.default || limit.default)
        };
        let most = |limit: &Limit| match limit.rate.strategy {
            Strategy::TokenBucket { burst } => (limit.rate.allowed, burst),
            _ => (limit.rate.allowed, 0),
        };
        let tighter = |other: &&Limit| {
            let (theirs, ours) = (most(other), most(limit));
            let twin = theirs == ours && (other.default != limit.default || other.name < limit.name);
            theirs.0 <= ours.0 && theirs.1 <= ours.1 && (theirs != ours || twin)
        };
        if let Some(other) = self.policies.limits.values().filter(same).find(tighter) {
            let allowed = other.rate.allowed;
            let message = format!(
                "it can never matter: `{}` allows {allowed} for the same calls and time: leave one of them out",
                other.name
            );
            self.fault(at("limits", &limit.name, ""), message);
        }
    }
}

fn missing(what: &str, section: &str, name: &str) -> String {
    format!("there is no {what} `{name}`: add it under `{section}:`, or correct the name")
}

#[cfg(test)]
mod tests;
