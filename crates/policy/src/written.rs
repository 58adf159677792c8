//! The sections of the config about tenants, keys, budgets and limits.

use std::collections::BTreeMap;

use farebox_types::{Money, Project, Secret, Span, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    budget::{Budget, Permille, Unreachable, WhenShort},
    convert::{network, span},
    forms::{Amount, Moment, Unreached},
    key::{AdminRole, Key, KeyHash, KeyId, Pins},
    limit::{Limit, Measure, Rate, Strategy},
    period::{Calendar, Period, Zone},
    policies::{Policies, PolicyFault, at},
    scope::{Dimension, Pick, Scope},
    tenant::{KeyGroup, Organisation, ProjectPolicy},
};

/// What several projects belong to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OrganisationOptions {
    pub metadata: BTreeMap<String, String>,
}

/// A tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProjectOptions {
    pub organisation: Option<String>,
    /// Models that its keys may ask for; empty: all. `*` at the end stands for anything.
    pub models: Vec<String>,
    /// The project's own keys for providers, by the provider's name.
    pub provider_keys: BTreeMap<String, Secret>,
    /// Nobody of it is served.
    pub disabled: bool,
    pub metadata: BTreeMap<String, String>,
}

/// A named group of keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GroupOptions {
    pub description: String,
}

/// A key, for set-ups that need no admin API. Its id is the name it stands under.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyOptions {
    /// Where its text `fb-<id>-<secret>` is kept.
    pub key: Secret,
    /// The project it acts for.
    pub project: Option<Project>,
    /// What it may do in the admin API, instead of acting for a project: viewer, operator or owner.
    pub role: Option<RoleName>,
    /// For people.
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub groups: Vec<String>,
    /// Models that it may ask for; empty: those of the project.
    #[serde(default)]
    pub models: Vec<String>,
    /// Subjects of its account that it may use on the bus; empty: all that any caller may.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// Addresses and networks that it may come from; empty: all.
    #[serde(default)]
    pub addresses: Vec<String>,
    pub expires: Option<Moment>,
    /// Labels that its calls have, whatever the caller says.
    #[serde(default)]
    pub pins: PinOptions,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RoleName {
    Viewer,
    Operator,
    Owner,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PinOptions {
    pub actor: String,
    pub task: String,
    pub session: String,
    pub end_user: String,
}

/// A limit on spend over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetOptions {
    pub name: String,
    /// What it counts by; absent: everything together.
    #[serde(default)]
    pub scope: Scope,
    pub limit: Option<Amount>,
    /// Short for `limit` and `period: day`.
    pub daily_limit_usd: Option<Money>,
    /// How long it lasts; absent where it counts by tasks or sessions: as long as those live.
    pub period: Option<Period>,
    /// Where calendar periods begin; absent: UTC.
    #[serde(default)]
    pub time_zone: Zone,
    /// Shares of the limit, each announced once in a window.
    #[serde(default)]
    pub alert: Vec<Permille>,
    /// Short for one `alert`, as an amount.
    pub warn_at_usd: Option<Money>,
    /// Whether it refuses calls that do not fit. If not, it lets them through and says so.
    #[serde(default)]
    pub hard: bool,
    /// What happens to a call that does not fit.
    #[serde(default)]
    pub when_short: WhenShortName,
    /// The fewest tokens that a call's output is limited to. Only with `when_short: clamp`.
    pub clamp_floor: Option<u64>,
    /// What is reserved for a call whose cost nothing bounds; absent: a hard budget refuses such calls.
    pub unbounded_ceiling: Option<Amount>,
    /// What happens when no guard can be reached; absent: closed where it is hard, else open.
    pub unreachable: Option<Unreached>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WhenShortName {
    #[default]
    Refuse,
    /// Its output is limited to what fits.
    Clamp,
}

/// A limit on how often, how much or how many at a time: one of `requests`, `tokens` and `concurrent`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitOptions {
    pub name: String,
    /// What it counts by; absent: everything together.
    #[serde(default)]
    pub scope: Scope,
    pub requests: Option<u64>,
    /// Input and output.
    pub tokens: Option<u64>,
    /// Calls at the same time.
    pub concurrent: Option<u64>,
    /// minute, hour, day, or a span such as 10s. Not with `concurrent`.
    pub per: Option<String>,
    #[serde(default)]
    pub strategy: StrategyName,
    /// The most that a token bucket holds; absent: as much as flows in in one period.
    pub burst: Option<u64>,
    /// Holds only where no other limit of the same measure names the key (or project, …) itself.
    #[serde(default)]
    pub default: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StrategyName {
    /// Windows that begin with each minute, hour or day (UTC).
    #[default]
    FixedWindow,
    /// Every span of the period's length, wherever it begins.
    SlidingWindow,
    /// It flows in evenly, and up to `burst` is kept.
    TokenBucket,
}

/// All sections together.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    pub organisations: &'a BTreeMap<String, OrganisationOptions>,
    pub projects: &'a BTreeMap<String, ProjectOptions>,
    pub groups: &'a BTreeMap<String, GroupOptions>,
    pub keys: &'a BTreeMap<String, KeyOptions>,
    pub budgets: &'a [BudgetOptions],
    pub limits: &'a [LimitOptions],
    /// US dollars for one unit.
    pub currencies: &'a BTreeMap<String, Money>,
}

/// The output limit that a call is not clamped below, where the config does not say.
const CLAMP_FLOOR: u64 = 256;

impl Written<'_> {
    /// The rules, as far as they can be read, and what is wrong with the rest. `hash` finds the hash of a key by its
    /// reference; whoever only checks the config has it say anything.
    pub fn policies(
        &self,
        hash: &mut dyn FnMut(&KeyId, &Secret) -> Result<KeyHash, String>,
    ) -> (Policies, Vec<PolicyFault>) {
        let mut faults = Vec::new();
        let mut policies = Policies::default();
        for (name, given) in self.organisations {
            let organisation = Organisation { name: name.clone(), metadata: given.metadata.clone() };
            policies.organisations.insert(name.clone(), organisation);
        }
        for (name, given) in self.projects {
            match Project::parse(name) {
                Ok(project) => drop(policies.projects.insert(name.clone(), given.policy(project))),
                Err(error) => faults.push(PolicyFault { path: at("projects", name, ""), message: error.to_string() }),
            }
        }
        for (name, given) in self.groups {
            let group = KeyGroup { name: name.clone(), description: given.description.clone() };
            policies.groups.insert(name.clone(), group);
        }
        for (id, given) in self.keys {
            match given.key(id, hash) {
                Ok(key) => drop(policies.keys.insert(key.id.clone(), key)),
                Err(wrong) => {
                    faults.extend(wrong.into_iter().map(|(field, message)| fault(at("keys", id, field), message)))
                }
            }
        }
        for (index, given) in self.budgets.iter().enumerate() {
            let at = |field: &str| format!("budgets[{index}]{field}");
            match given.budget(self.currencies) {
                Err((field, message)) => faults.push(fault(at(field), message)),
                Ok(budget) if policies.budgets.contains_key(&budget.name) => {
                    faults.push(fault(at(".name"), format!("there are two budgets called `{}`", budget.name)));
                }
                Ok(budget) => drop(policies.budgets.insert(budget.name.clone(), budget)),
            }
        }
        for (index, given) in self.limits.iter().enumerate() {
            let at = |field: &str| format!("limits[{index}]{field}");
            match given.limit() {
                Err((field, message)) => faults.push(fault(at(field), message)),
                Ok(limit) if policies.limits.contains_key(&limit.name) => {
                    faults.push(fault(at(".name"), format!("there are two limits called `{}`", limit.name)));
                }
                Ok(limit) => drop(policies.limits.insert(limit.name.clone(), limit)),
            }
        }
        (policies, faults)
    }

    /// A fault of the rules, with the path that it has in the config: budgets and limits are lists there.
    pub fn placed(&self, fault: PolicyFault) -> PolicyFault {
        let budgets = self.budgets.iter().map(|budget| ("budgets", &budget.name)).enumerate();
        let limits = self.limits.iter().map(|limit| ("limits", &limit.name)).enumerate();
        let found = budgets.chain(limits).find_map(|(index, (section, name))| {
            let rest = fault.path.strip_prefix(&at(section, name, ""))?;
            (rest.is_empty() || rest.starts_with(['.', '['])).then(|| format!("{section}[{index}]{rest}"))
        });
        PolicyFault { path: found.unwrap_or(fault.path), message: fault.message }
    }
}

fn fault(path: String, message: impl Into<String>) -> PolicyFault {
    PolicyFault { path, message: message.into() }
}

/// What is wrong with which field, the field with its dot.
type Wrong = (&'static str, String);

fn wrong(field: &'static str) -> impl Fn(&str) -> Wrong {
    move |message| (field, message.to_owned())
}

impl ProjectOptions {
    fn policy(&self, name: Project) -> ProjectPolicy {
        ProjectPolicy {
            name,
            organisation: self.organisation.clone().unwrap_or_default(),
            models: self.models.clone(),
            provider_keys: self.provider_keys.clone(),
            disabled: self.disabled,
            metadata: self.metadata.clone(),
        }
    }
}

impl KeyOptions {
    fn key(
        &self,
        id: &str,
        hash: &mut dyn FnMut(&KeyId, &Secret) -> Result<KeyHash, String>,
    ) -> Result<Key, Vec<Wrong>> {
        let id = KeyId::parse(id).ok_or_else(|| {
            let message = format!("a key's id has 1 to {} lower-case letters, digits or `_`", KeyId::MAX_LEN);
            vec![("", message)]
        })?;
        let mut faults = Vec::new();
        let addresses = self.addresses.iter().map(|address| network(address));
        let addresses = addresses.collect::<Result<_, _>>().map_err(|error| faults.push((".addresses", error)));
        let hash = hash(&id, &self.key).map_err(|error| faults.push((".key", error)));
        let (Ok(addresses), Ok(hash)) = (addresses, hash) else { return Err(faults) };
        Ok(Key {
            id,
            project: self.project.clone(),
            name: self.name.clone(),
            hash,
            previous: None,
            groups: self.groups.clone(),
            expires: self.expires.map(|moment| moment.0),
            revoked: None,
            models: self.models.clone(),
            subjects: self.subjects.clone(),
            addresses,
            pins: Pins {
                actor: self.pins.actor.clone(),
                task_id: self.pins.task.clone(),
                session_id: self.pins.session.clone(),
                end_user: self.pins.end_user.clone(),
            },
            metadata: self.metadata.clone(),
            created: Timestamp(0),
            role: self.role.map(|role| match role {
                RoleName::Viewer => AdminRole::Viewer,
                RoleName::Operator => AdminRole::Operator,
                RoleName::Owner => AdminRole::Owner,
            }),
        })
    }
}

impl BudgetOptions {
    fn budget(&self, rates: &BTreeMap<String, Money>) -> Result<Budget, Wrong> {
        let (limit, written) = match (&self.limit, self.daily_limit_usd) {
            (Some(limit), None) => (limit.usd(rates).map_err(|error| (".limit", error))?, limit.to_string()),
            (None, Some(daily)) => (daily, Amount::from(daily).to_string()),
            (None, None) => return Err(wrong("")("a budget needs a `limit`, such as `limit: 20 USD`")),
            (Some(_), Some(_)) => {
                return Err(wrong(".daily_limit_usd")("it has a `limit` already: leave one of them out"));
            }
        };
        let mut alert = self.alert.clone();
        if let Some(warn) = self.warn_at_usd {
            let share =
                warn.picos().saturating_mul(1000).checked_div(limit.picos()).and_then(|s| u32::try_from(s).ok());
            alert.push(Permille(share.ok_or_else(|| wrong(".warn_at_usd")("it is no part of the limit"))?));
        }
        let amount = |field, amount: &Amount| amount.usd(rates).map_err(|error| (field, error));
        Ok(Budget {
            name: self.name.clone(),
            scope: self.scope.clone(),
            period: self.period()?,
            time_zone: self.time_zone.clone(),
            limit,
            limit_text: written,
            alert,
            hard: self.hard,
            when_short: match (self.when_short, self.clamp_floor) {
                (WhenShortName::Refuse, None) => WhenShort::Refuse,
                (WhenShortName::Refuse, Some(_)) => return Err(wrong(".clamp_floor")("it needs `when_short: clamp`")),
                (WhenShortName::Clamp, floor) => WhenShort::Clamp { floor: floor.unwrap_or(CLAMP_FLOOR) },
            },
            unbounded_ceiling: self
                .unbounded_ceiling
                .as_ref()
                .map(|most| amount(".unbounded_ceiling", most))
                .transpose()?,
            unreachable: match &self.unreachable {
                Some(Unreached::Grace(grace)) => Unreachable::Grace(amount(".unreachable", grace)?),
                Some(Unreached::Open) => Unreachable::Open,
                Some(Unreached::Closed) => Unreachable::Closed,
                None if self.hard => Unreachable::Closed,
                None => Unreachable::Open,
            },
            raises: Vec::new(),
        })
    }

    fn period(&self) -> Result<Period, Wrong> {
        let lives = |(dimension, pick): &(Dimension, Pick)| {
            matches!(dimension, Dimension::Task | Dimension::Session) && *pick == Pick::Each
        };
        match (self.period, self.daily_limit_usd) {
            (None, Some(_)) => Ok(Period::Calendar(Calendar::Day)),
            (Some(_), Some(_)) => Err(wrong(".period")("`daily_limit_usd` is for a day already: write `limit`")),
            (Some(period), None) => Ok(period),
            (None, None) if self.scope.0.iter().any(lives) => Ok(Period::Lifetime),
            (None, None) => Err(wrong("")("say how long it lasts: `period: day`, `month`, `rolling 24h`, `total`, …")),
        }
    }
}

impl LimitOptions {
    fn limit(&self) -> Result<Limit, Wrong> {
        let given = [
            (Measure::Requests, self.requests),
            (Measure::Tokens, self.tokens),
            (Measure::Concurrent, self.concurrent),
        ];
        let given: Vec<(Measure, u64)> = given.into_iter().filter_map(|(measure, n)| Some((measure, n?))).collect();
        let [(measure, allowed)] = given[..] else {
            return Err(wrong("")("a limit needs exactly one of `requests`, `tokens` and `concurrent`"));
        };
        let period = match (measure, &self.per) {
            (Measure::Concurrent, None) => Span::ZERO,
            (Measure::Concurrent, Some(_)) => return Err(wrong(".per")("calls at a time have no period")),
            (_, Some(per)) => span(per).map_err(|error| (".per", error))?,
            (_, None) => return Err(wrong("")("say in what time: `per: minute`, `hour` or `day`")),
        };
        let strategy = match (self.strategy, self.burst) {
            (StrategyName::TokenBucket, burst) => Strategy::TokenBucket { burst: burst.unwrap_or(allowed) },
            (_, Some(_)) => return Err(wrong(".burst")("only a token bucket (`strategy: token-bucket`) has a burst")),
            (StrategyName::FixedWindow, None) => Strategy::FixedWindow,
            (StrategyName::SlidingWindow, None) => Strategy::SlidingWindow,
        };
        let rate = Rate { allowed, period, strategy };
        Ok(Limit { name: self.name.clone(), scope: self.scope.clone(), measure, rate, default: self.default })
    }
}

#[cfg(test)]
pub(crate) mod tests;
