//! What the bucket holds: `KIND.NAME`, each the protobuf entity of the contract.

use std::fmt;

use bytes::Bytes;
use farebox_policy::{Key, KeyId, Policies, PolicyFault, PolicyFaults};
use farebox_proto::v1;

/// What an entity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Organisation,
    Project,
    Group,
    Key,
    Budget,
    Limit,
}

impl Kind {
    pub const ALL: [Kind; 6] = [Kind::Organisation, Kind::Project, Kind::Group, Kind::Key, Kind::Budget, Kind::Limit];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Organisation => "organisation",
            Kind::Project => "project",
            Kind::Group => "group",
            Kind::Key => "key",
            Kind::Budget => "budget",
            Kind::Limit => "limit",
        }
    }

    /// Where one of this name stands in the bucket.
    pub(crate) fn key(self, name: &str) -> String {
        format!("{self}.{name}")
    }

    /// Kind and name of what stands under a key of the bucket.
    pub(crate) fn of(key: &str) -> Option<(Kind, &str)> {
        let (kind, name) = key.split_once('.')?;
        Some((Kind::ALL.into_iter().find(|known| known.as_str() == kind)?, name))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An entity of the contract.
pub trait Entity: prost::Message + Default + Clone {
    const KIND: Kind;

    fn name(&self) -> &str;

    /// Who changed it last.
    fn change(&self) -> Option<&v1::Change>;
}

macro_rules! entity {
    ($wire:ty, $kind:ident, $name:ident) => {
        impl Entity for $wire {
            const KIND: Kind = Kind::$kind;

            fn name(&self) -> &str {
                let Self { $name: name, .. } = self;
                name
            }

            fn change(&self) -> Option<&v1::Change> {
                self.change.as_ref()
            }
        }
    };
}

entity!(v1::Organisation, Organisation, name);
entity!(v1::Project, Project, name);
entity!(v1::KeyGroup, Group, name);
entity!(v1::Key, Key, id);
entity!(v1::Budget, Budget, name);
entity!(v1::Limit, Limit, name);

/// Reads what stands under a name.
fn read<W: Entity>(name: &str, value: &Bytes) -> Result<W, PolicyFaults> {
    let fault = |message: String| PolicyFaults(vec![PolicyFault { path: format!("{}.{name}", W::KIND), message }]);
    let wire = W::decode(value.clone()).map_err(|error| fault(error.to_string()))?;
    if wire.name() == name { Ok(wire) } else { Err(fault(format!("it says that it is `{}`", wire.name()))) }
}

/// Who changed an entity last, as it says itself.
pub(crate) fn change_of(kind: Kind, value: &Bytes) -> v1::Change {
    fn read<W: Entity>(value: &Bytes) -> Option<v1::Change> {
        W::decode(value.clone()).ok()?.change().cloned()
    }
    let change = match kind {
        Kind::Organisation => read::<v1::Organisation>(value),
        Kind::Project => read::<v1::Project>(value),
        Kind::Group => read::<v1::KeyGroup>(value),
        Kind::Key => read::<v1::Key>(value),
        Kind::Budget => read::<v1::Budget>(value),
        Kind::Limit => read::<v1::Limit>(value),
    };
    change.unwrap_or_default()
}

/// Puts an entity into a set of policies, in the place of the one of its name. One that cannot be read changes nothing.
pub(crate) fn put(policies: &mut Policies, kind: Kind, name: &str, value: &Bytes) -> Result<(), PolicyFaults> {
    let named = || name.to_owned();
    match kind {
        Kind::Organisation => {
            policies.organisations.insert(named(), (&read::<v1::Organisation>(name, value)?).into());
        }
        Kind::Project => {
            policies.projects.insert(named(), (&read::<v1::Project>(name, value)?).try_into()?);
        }
        Kind::Group => {
            policies.groups.insert(named(), (&read::<v1::KeyGroup>(name, value)?).into());
        }
        Kind::Key => {
            let key = Key::try_from(&read::<v1::Key>(name, value)?)?;
            policies.keys.insert(key.id.clone(), key);
        }
        Kind::Budget => {
            policies.budgets.insert(named(), (&read::<v1::Budget>(name, value)?).try_into()?);
        }
        Kind::Limit => {
            policies.limits.insert(named(), (&read::<v1::Limit>(name, value)?).try_into()?);
        }
    }
    Ok(())
}

/// Takes an entity out of a set of policies.
pub(crate) fn remove(policies: &mut Policies, kind: Kind, name: &str) {
    match kind {
        Kind::Organisation => drop(policies.organisations.remove(name)),
        Kind::Project => drop(policies.projects.remove(name)),
        Kind::Group => drop(policies.groups.remove(name)),
        Kind::Key => drop(KeyId::parse(name).and_then(|id| policies.keys.remove(&id))),
        Kind::Budget => drop(policies.budgets.remove(name)),
        Kind::Limit => drop(policies.limits.remove(name)),
    }
}

/// What is stored, under what the config says: of a name that both have, the config's.
pub(crate) fn under(mut stored: Policies, fixed: &Policies) -> Policies {
    stored.organisations.extend(fixed.organisations.clone());
    stored.projects.extend(fixed.projects.clone());
    stored.groups.extend(fixed.groups.clone());
    stored.keys.extend(fixed.keys.clone());
    stored.budgets.extend(fixed.budgets.clone());
    stored.limits.extend(fixed.limits.clone());
    stored
}

/// Whether a set of policies has an entity.
pub(crate) fn has(policies: &Policies, kind: Kind, name: &str) -> bool {
    match kind {
        Kind::Organisation => policies.organisations.contains_key(name),
        Kind::Project => policies.projects.contains_key(name),
        Kind::Group => policies.groups.contains_key(name),
        Kind::Key => KeyId::parse(name).is_some_and(|id| policies.keys.contains_key(&id)),
        Kind::Budget => policies.budgets.contains_key(name),
        Kind::Limit => policies.limits.contains_key(name),
    }
}
