//! Between the rules and the messages they are stored and managed as.

use std::{collections::BTreeMap, fmt::Display};

use farebox_proto::v1;
use farebox_types::{Money, Project, Span, Timestamp};

use crate::{
    budget::{Budget, Permille, Raise, Unreachable, WhenShort},
    forms::Amount,
    key::{AdminRole, Key, KeyHash, KeyId, Pins},
    limit::{Limit, Measure, Rate, Strategy},
    policies::{PolicyFault, PolicyFaults},
    scope::{Dimension, Pick, Scope},
    tenant::{KeyGroup, Organisation, ProjectPolicy},
};

/// Reads fields and remembers what is wrong with them.
#[derive(Default)]
struct Reader(Vec<PolicyFault>);

impl Reader {
    fn fault(&mut self, path: impl Into<String>, message: impl Display) {
        self.0.push(PolicyFault { path: path.into(), message: message.to_string() });
    }

    fn read<T, E: Display>(&mut self, path: &str, read: Result<T, E>) -> Option<T> {
        read.map_err(|error| self.fault(path, error)).ok()
    }

    fn scope(&mut self, terms: &[v1::ScopeTerm]) -> Scope {
        let mut read = |(index, term): (usize, &v1::ScopeTerm)| {
            let Some(dimension) = Dimension::ALL.into_iter().find(|known| v1_dimension(*known) == term.dimension())
            else {
                self.fault(format!("scope[{index}].dimension"), "say what is counted by, such as project or key");
                return None;
            };
            let pick = if term.values.is_empty() { Pick::Each } else { Pick::Any(term.values.clone()) };
            Some((dimension, pick))
        };
        Scope::new(terms.iter().enumerate().filter_map(&mut read).collect())
    }

    fn money(&mut self, path: &str, amount: &v1::Money) -> Money {
        let one_sign = amount.pico == 0 || amount.usd == 0 || (amount.pico < 0) == (amount.usd < 0);
        if !one_sign || i128::from(amount.pico).abs() >= Money::PICOS_PER_USD {
            self.fault(path, "usd and pico are of one sign, and pico is smaller than 10^12");
        }
        Money::from(*amount)
    }

    fn hash(&mut self, path: &str, bytes: &[u8]) -> Option<KeyHash> {
        self.read(path, bytes.try_into().map(KeyHash).map_err(|_| "a hash has 32 bytes"))
    }

    /// What was read, if nothing is wrong.
    fn done<T>(self, read: Option<T>) -> Result<T, PolicyFaults> {
        match read {
            Some(read) if self.0.is_empty() => Ok(read),
            _ => Err(PolicyFaults(self.0)),
        }
    }
}

fn v1_dimension(dimension: Dimension) -> v1::scope_term::Dimension {
    use v1::scope_term::Dimension as Wire;
    match dimension {
        Dimension::Organisation => Wire::Organisation,
        Dimension::Project => Wire::Project,
        Dimension::Key => Wire::Key,
        Dimension::Group => Wire::Group,
        Dimension::Actor => Wire::Actor,
        Dimension::Task => Wire::Task,
        Dimension::Session => Wire::Session,
        Dimension::EndUser => Wire::EndUser,
        Dimension::Tag => Wire::Tag,
        Dimension::Model => Wire::Model,
        Dimension::Provider => Wire::Provider,
        Dimension::Deployment => Wire::Deployment,
    }
}

fn v1_scope(scope: &Scope) -> Vec<v1::ScopeTerm> {
    let term = |(dimension, pick): &(Dimension, Pick)| v1::ScopeTerm {
        dimension: v1_dimension(*dimension).into(),
        values: if let Pick::Any(values) = pick { values.clone() } else { Vec::new() },
    };
    scope.0.iter().map(term).collect()
}

fn moment(unix_ms: i64) -> Option<Timestamp> {
    (unix_ms != 0).then_some(Timestamp(unix_ms))
}

fn unix_ms(moment: Option<Timestamp>) -> i64 {
    moment.map(Timestamp::millis).unwrap_or_default()
}

/// An amount as text. Rates of other currencies are the config file's.
fn dollars(text: &str) -> Result<Money, String> {
    if text.is_empty() {
        return Err("a budget needs a limit".to_owned());
    }
    let amount: Amount = text.parse()?;
    amount
        .usd(&BTreeMap::new())
        .map_err(|_| format!("`{text}`: write US dollars, other currencies stand in the config"))
}

impl TryFrom<&v1::Budget> for Budget {
    type Error = PolicyFaults;

    fn try_from(given: &v1::Budget) -> Result<Budget, PolicyFaults> {
        let mut reader = Reader::default();
        let scope = reader.scope(&given.scope);
        let period = reader.read("period", given.period.parse());
        let time_zone = reader.read("time_zone", given.time_zone.parse());
        let limit = match &given.limit {
            Some(limit) => Some(reader.money("limit", limit)),
            None => reader.read("limit", dollars(&given.limit_text)),
        };
        let unbounded_ceiling = given.unbounded_ceiling.as_ref().map(|most| reader.money("unbounded_ceiling", most));
        let grace = given.grace.as_ref().map(|grace| reader.money("grace", grace));
        let unreachable = match (given.unreachable(), given.hard) {
            (v1::Unreachable::Unspecified, true) | (v1::Unreachable::Closed, _) => Unreachable::Closed,
            (v1::Unreachable::Unspecified, false) | (v1::Unreachable::Open, _) => Unreachable::Open,
            (v1::Unreachable::Grace, _) => Unreachable::Grace(grace.unwrap_or_default()),
        };
        match (given.unreachable(), grace) {
            (v1::Unreachable::Grace, None) => reader.fault("grace", "say how much may be spent"),
            (v1::Unreachable::Grace, _) | (_, None) => {}
            (_, Some(_)) => reader.fault("grace", "an amount of grace needs `unreachable: grace`"),
        }
        let mut raise = |(index, raise): (usize, &v1::BudgetRaise)| {
            let by = raise.by.unwrap_or_default();
            let by = reader.money(&format!("raises[{index}].by"), &by);
            let (from, until) = (Timestamp(raise.from_unix_ms), Timestamp(raise.until_unix_ms));
            let (reason, admin, subject) = (raise.reason.clone(), raise.admin.clone(), raise.subject.clone());
            Raise { by, from, until, reason, admin, subject }
        };
        let raises = given.raises.iter().enumerate().map(&mut raise).collect();
        let read = || {
            let limit = limit?;
            Some(Budget {
                name: given.name.clone(),
                scope,
                period: period?,
                time_zone: time_zone?,
                limit,
                limit_text: if given.limit_text.is_empty() { format!("{limit} USD") } else { given.limit_text.clone() },
                alert: given.alert_permille.iter().copied().map(Permille).collect(),
                hard: given.hard,
                when_short: match given.clamp_floor {
                    0 => WhenShort::Refuse,
                    floor => WhenShort::Clamp { floor },
                },
                unbounded_ceiling,
                unreachable,
                raises,
            })
        };
        let read = read();
        reader.done(read)
    }
}

/// Without who changed it last.
impl From<&Budget> for v1::Budget {
    fn from(budget: &Budget) -> v1::Budget {
        let raise = |raise: &Raise| v1::BudgetRaise {
            by: Some(raise.by.into()),
            from_unix_ms: raise.from.millis(),
            until_unix_ms: raise.until.millis(),
            reason: raise.reason.clone(),
            admin: raise.admin.clone(),
            subject: raise.subject.clone(),
        };
        let (unreachable, grace) = match budget.unreachable {
            Unreachable::Closed => (v1::Unreachable::Closed, None),
            Unreachable::Open => (v1::Unreachable::Open, None),
            Unreachable::Grace(amount) => (v1::Unreachable::Grace, Some(amount.into())),
        };
        v1::Budget {
            name: budget.name.clone(),
            scope: v1_scope(&budget.scope),
            period: budget.period.to_string(),
            time_zone: budget.time_zone.as_str().to_owned(),
            limit: Some(budget.limit.into()),
            limit_text: budget.limit_text.clone(),
            alert_permille: budget.alert.iter().map(|share| share.0).collect(),
            hard: budget.hard,
            clamp_floor: match budget.when_short {
                WhenShort::Refuse => 0,
                WhenShort::Clamp { floor } => floor,
            },
            unbounded_ceiling: budget.unbounded_ceiling.map(v1::Money::from),
            unreachable: unreachable.into(),
            grace,
            raises: budget.raises.iter().map(raise).collect(),
            change: None,
        }
    }
}

impl TryFrom<&v1::Limit> for Limit {
    type Error = PolicyFaults;

    fn try_from(given: &v1::Limit) -> Result<Limit, PolicyFaults> {
        let mut reader = Reader::default();
        let scope = reader.scope(&given.scope);
        let measure = match given.measure() {
            v1::LimitMeasure::Unspecified => None,
            v1::LimitMeasure::Requests => Some(Measure::Requests),
            v1::LimitMeasure::Tokens => Some(Measure::Tokens),
            v1::LimitMeasure::Concurrent => Some(Measure::Concurrent),
        };
        let measure =
            reader.read("measure", measure.ok_or("say what is counted: requests, tokens or concurrent calls"));
        let period = match (measure, given.period.as_str()) {
            (Some(Measure::Concurrent), "") => Some(Span::ZERO),
            (Some(Measure::Concurrent), _) => {
                reader.fault("period", "calls at a time have no period");
                None
            }
            (_, text) => reader.read("period", span(text)),
        };
        let strategy = match (given.strategy.as_str(), given.burst) {
            ("" | "fixed-window", _) => Some(Strategy::FixedWindow),
            ("sliding-window", _) => Some(Strategy::SlidingWindow),
            ("token-bucket", 0) => Some(Strategy::TokenBucket { burst: given.allowed }),
            ("token-bucket", burst) => Some(Strategy::TokenBucket { burst }),
            _ => None,
        };
        let strategy = reader.read("strategy", strategy.ok_or("write fixed-window, sliding-window or token-bucket"));
        if given.burst > 0 && !matches!(strategy, Some(Strategy::TokenBucket { .. })) {
            reader.fault("burst", "only a token bucket (`strategy: token-bucket`) has a burst");
        }
        let read = || {
            Some(Limit {
                name: given.name.clone(),
                scope,
                measure: measure?,
                rate: Rate { allowed: given.allowed, period: period?, strategy: strategy? },
                default: given.default,
            })
        };
        let read = read();
        reader.done(read)
    }
}

/// Without who changed it last.
impl From<&Limit> for v1::Limit {
    fn from(limit: &Limit) -> v1::Limit {
        let (strategy, burst) = match limit.rate.strategy {
            Strategy::FixedWindow => ("fixed-window", 0),
            Strategy::SlidingWindow => ("sliding-window", 0),
            Strategy::TokenBucket { burst } => ("token-bucket", burst),
        };
        let named = NAMED_SPANS.iter().find(|(_, span)| *span == limit.rate.period);
        v1::Limit {
            name: limit.name.clone(),
            scope: v1_scope(&limit.scope),
            measure: v1::LimitMeasure::from(limit.measure).into(),
            allowed: limit.rate.allowed,
            period: match limit.measure {
                Measure::Concurrent => String::new(),
                _ => named.map_or_else(|| limit.rate.period.to_string(), |(name, _)| (*name).to_owned()),
            },
            strategy: strategy.to_owned(),
            burst,
            default: limit.default,
            change: None,
        }
    }
}

const NAMED_SPANS: [(&str, Span); 3] =
    [("minute", Span::from_secs(60)), ("hour", Span::from_secs(3600)), ("day", Span::from_secs(86_400))];

/// The period of a limit: `minute`, `hour`, `day`, or a span such as `10s`.
pub(crate) fn span(text: &str) -> Result<Span, String> {
    let named = NAMED_SPANS.iter().find(|(name, _)| *name == text).map(|(_, span)| *span);
    let span = named.or_else(|| text.parse().ok()).filter(|span: &Span| !span.is_zero());
    span.ok_or_else(|| format!("`{text}` is no period of a limit: write minute, hour, day, or a span such as 10s"))
}

impl TryFrom<&v1::Key> for Key {
    type Error = PolicyFaults;

    fn try_from(given: &v1::Key) -> Result<Key, PolicyFaults> {
        let mut reader = Reader::default();
        let wrong = format!("use 1 to {} lower-case letters, digits or `_`", KeyId::MAX_LEN);
        let id = reader.read("id", KeyId::parse(&given.id).ok_or(wrong));
        let project = match given.project.as_str() {
            "" => None,
            project => reader.read("project", Project::parse(project)),
        };
        let hash = reader.hash("hash", &given.hash);
        let previous = match &given.previous_hash[..] {
            [] => None,
            bytes => reader.hash("previous_hash", bytes).map(|hash| (hash, Timestamp(given.previous_until_unix_ms))),
        };
        let mut addresses = Vec::with_capacity(given.addresses.len());
        for (index, address) in given.addresses.iter().enumerate() {
            addresses.extend(reader.read(&format!("addresses[{index}]"), network(address)));
        }
        let pins = given.pins.clone().unwrap_or_default();
        if !pins.tags.is_empty() {
            reader.fault("pins.tags", "tags cannot be pinned");
        }
        let role = match given.role() {
            v1::AdminRole::Unspecified => None,
            v1::AdminRole::Viewer => Some(AdminRole::Viewer),
            v1::AdminRole::Operator => Some(AdminRole::Operator),
            v1::AdminRole::Owner => Some(AdminRole::Owner),
        };
        let read = || {
            Some(Key {
                id: id?,
                project,
                name: given.name.clone(),
                hash: hash?,
                previous,
                groups: given.groups.clone(),
                expires: moment(given.expires_unix_ms),
                revoked: moment(given.revoked_unix_ms),
                models: given.models.clone(),
                subjects: given.subjects.clone(),
                addresses,
                pins: Pins {
                    actor: pins.actor,
                    task_id: pins.task_id,
                    session_id: pins.session_id,
                    end_user: pins.end_user,
                },
                metadata: given.metadata.clone(),
                created: Timestamp(given.created_unix_ms),
                role,
            })
        };
        let read = read();
        reader.done(read)
    }
}

/// A network, or one address of it.
pub(crate) fn network(text: &str) -> Result<ipnet::IpNet, String> {
    let one = || text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
    let wrong = |_| format!("`{text}` is neither an address nor a network: write 10.1.2.3 or 10.0.0.0/8");
    text.parse::<ipnet::IpNet>().or_else(|_| one()).map_err(wrong)
}

/// Without who changed it last.
impl From<&Key> for v1::Key {
    fn from(key: &Key) -> v1::Key {
        let previous = key.previous.as_ref();
        let role = match key.role {
            None => v1::AdminRole::Unspecified,
            Some(AdminRole::Viewer) => v1::AdminRole::Viewer,
            Some(AdminRole::Operator) => v1::AdminRole::Operator,
            Some(AdminRole::Owner) => v1::AdminRole::Owner,
        };
        v1::Key {
            id: key.id.as_str().to_owned(),
            project: key.project.as_ref().map(ToString::to_string).unwrap_or_default(),
            name: key.name.clone(),
            hash: key.hash.0.to_vec().into(),
            previous_hash: previous.map(|(hash, _)| hash.0.to_vec()).unwrap_or_default().into(),
            previous_until_unix_ms: previous.map(|(_, until)| until.millis()).unwrap_or_default(),
            groups: key.groups.clone(),
            expires_unix_ms: unix_ms(key.expires),
            revoked_unix_ms: unix_ms(key.revoked),
            models: key.models.clone(),
            subjects: key.subjects.clone(),
            addresses: key.addresses.iter().map(ToString::to_string).collect(),
            pins: (key.pins != Pins::default()).then(|| v1::Labels {
                actor: key.pins.actor.clone(),
                task_id: key.pins.task_id.clone(),
                session_id: key.pins.session_id.clone(),
                end_user: key.pins.end_user.clone(),
                tags: Vec::new(),
            }),
            metadata: key.metadata.clone(),
            created_unix_ms: key.created.millis(),
            role: role.into(),
            change: None,
        }
    }
}

impl TryFrom<&v1::Project> for ProjectPolicy {
    type Error = PolicyFaults;

    fn try_from(given: &v1::Project) -> Result<ProjectPolicy, PolicyFaults> {
        let mut reader = Reader::default();
        let name = reader.read("name", Project::parse(&given.name));
        let mut provider_keys = std::collections::BTreeMap::new();
        for (provider, secret) in &given.provider_keys {
            let secret = reader.read(&format!("provider_keys.{provider}"), secret.parse());
            provider_keys.extend(secret.map(|secret| (provider.clone(), secret)));
        }
        let read = name.map(|name| ProjectPolicy {
            name,
            organisation: given.organisation.clone(),
            models: given.models.clone(),
            provider_keys,
            disabled: given.disabled,
            metadata: given.metadata.clone(),
        });
        reader.done(read)
    }
}

/// Without who changed it last.
impl From<&ProjectPolicy> for v1::Project {
    fn from(project: &ProjectPolicy) -> v1::Project {
        let keys = project.provider_keys.iter();
        v1::Project {
            name: project.name.to_string(),
            organisation: project.organisation.clone(),
            models: project.models.clone(),
            provider_keys: keys.map(|(provider, secret)| (provider.clone(), secret.to_string())).collect(),
            disabled: project.disabled,
            metadata: project.metadata.clone(),
            change: None,
        }
    }
}

impl From<&v1::Organisation> for Organisation {
    fn from(given: &v1::Organisation) -> Organisation {
        Organisation { name: given.name.clone(), metadata: given.metadata.clone() }
    }
}

/// Without who changed it last.
impl From<&Organisation> for v1::Organisation {
    fn from(organisation: &Organisation) -> v1::Organisation {
        let Organisation { name, metadata } = organisation.clone();
        v1::Organisation { name, metadata, change: None }
    }
}

impl From<&v1::KeyGroup> for KeyGroup {
    fn from(given: &v1::KeyGroup) -> KeyGroup {
        KeyGroup { name: given.name.clone(), description: given.description.clone() }
    }
}

/// Without who changed it last.
impl From<&KeyGroup> for v1::KeyGroup {
    fn from(group: &KeyGroup) -> v1::KeyGroup {
        let KeyGroup { name, description } = group.clone();
        v1::KeyGroup { name, description, change: None }
    }
}

#[cfg(test)]
mod tests;
