//! Writing policies: one entity at a time, never over somebody else's change, never into a state that contradicts
//! itself.

use std::sync::Arc;

use bytes::Bytes;
use farebox_bus::{Bucket, Bus, Entry, StoreError, topology};
use farebox_policy::{Known, NAME_MAX, Policies, PolicyFault, PolicyFaults, is_name};
use farebox_proto::v1;
use prost::Message;

use crate::{
    entity::{self, Entity, Kind},
    error::DirectoryError,
    fixed::Fixed,
};

/// How often a write is tried again that others came before.
const TRIES: usize = 16;

/// A stored entity. Its revision is named by who changes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept<E> {
    pub entity: E,
    pub revision: u64,
}

/// Where policies are written. Whoever uses it has checked that its caller may.
#[derive(Clone)]
pub struct Store {
    bucket: Bucket,
    fixed: Fixed,
}

impl Store {
    /// `fixed`: what the config file says, which cannot be changed here.
    pub fn new(bus: &Bus, fixed: impl Into<Fixed>) -> Store {
        Store { bucket: bus.bucket(topology::POLICY), fixed: fixed.into() }
    }

    /// What the config file says.
    pub fn fixed(&self) -> Arc<Policies> {
        self.fixed.now()
    }

    /// Whether the config file says it.
    pub fn is_fixed(&self, kind: Kind, name: &str) -> bool {
        entity::has(&self.fixed.now(), kind, name)
    }

    pub async fn get<E: Entity>(&self, name: &str) -> Result<Option<Kept<E>>, DirectoryError> {
        if !is_name(name) {
            return Ok(None);
        }
        match self.bucket.entry(&E::KIND.key(name)).await? {
            Some(Entry { value: Some(value), revision, .. }) => kept(name, value, revision).map(Some),
            _ => Ok(None),
        }
    }

    /// Everything of a kind that is stored, by name. What cannot be read is left out, and said in the log.
    pub async fn list<E: Entity>(&self) -> Result<Vec<Kept<E>>, DirectoryError> {
        let mut list = Vec::new();
        for Entry { key, value, revision } in self.bucket.entries().await?.0 {
            let (Some((kind, name)), Some(value)) = (Kind::of(&key), value) else { continue };
            if kind != E::KIND {
                continue;
            }
            match kept(name, value, revision) {
                Ok(kept) => list.push(kept),
                Err(error) => tracing::error!(%error, "a stored policy was left out of a list"),
            }
        }
        Ok(list)
    }

    /// Stores an entity and returns its revision. `expected`: the revision that it replaces; 0: there is none.
    pub async fn put<E: Entity>(&self, entity: &E, expected: u64) -> Result<u64, DirectoryError> {
        let value = Bytes::from(entity.encode_to_vec());
        self.write(E::KIND, entity.name(), expected, Some(value), &v1::Change::default()).await
    }

    /// Removes an entity. Who did it and why stays in the audit.
    pub async fn delete<E: Entity>(
        &self,
        name: &str,
        expected: u64,
        change: &v1::Change,
    ) -> Result<u64, DirectoryError> {
        if expected == 0 {
            return Err(DirectoryError::NotFound { kind: E::KIND, name: name.to_owned() });
        }
        self.write(E::KIND, name, expected, None, change).await
    }

    /// The whole is read, checked with the change, and the change is stored only if the whole is still the same.
    async fn write(
        &self,
        kind: Kind,
        name: &str,
        expected: u64,
        value: Option<Bytes>,
        change: &v1::Change,
    ) -> Result<u64, DirectoryError> {
        if !is_name(name) {
            return Err(DirectoryError::Name { kind, name: name.chars().take(NAME_MAX).collect() });
        }
        if self.is_fixed(kind, name) {
            return Err(DirectoryError::Fixed { kind, name: name.to_owned() });
        }
        let key = kind.key(name);
        for _ in 0..TRIES {
            let (entries, revision) = self.bucket.entries().await?;
            let present = entries.iter().find(|entry| entry.key == key && entry.value.is_some());
            let found = present.map_or(0, |entry| entry.revision);
            if found != expected {
                return Err(DirectoryError::Conflict { kind, name: name.to_owned(), expected, found });
            }
            self.check(&entries, kind, name, value.as_ref())?;
            let written = match &value {
                Some(value) => self.bucket.put_unchanged(&key, value.clone(), revision).await,
                None => self.bucket.delete_unchanged(&key, change.encode_to_vec().into(), revision).await,
            };
            match written {
                Err(StoreError::WrongLastSequence { .. }) => {}
                other => return Ok(other?),
            }
        }
        Err(DirectoryError::Busy)
    }

    /// Whether the change is readable and brings no new fault. What was wrong before does not stand in its way.
    fn check(&self, entries: &[Entry], kind: Kind, name: &str, value: Option<&Bytes>) -> Result<(), DirectoryError> {
        let mut policies = (*self.fixed.now()).clone();
        for Entry { key, value, .. } in entries {
            let (Some((kind, name)), Some(value)) = (Kind::of(key), value) else { continue };
            if !self.is_fixed(kind, name) {
                // One that cannot be read holds nowhere, so it is in nobody's way.
                let _ = entity::put(&mut policies, kind, name, value);
            }
        }
        let before = faults(&policies);
        match value {
            Some(value) => entity::put(&mut policies, kind, name, value).map_err(DirectoryError::Invalid)?,
            None => entity::remove(&mut policies, kind, name),
        }
        let new: Vec<PolicyFault> = faults(&policies).into_iter().filter(|fault| !before.contains(fault)).collect();
        if new.is_empty() { Ok(()) } else { Err(DirectoryError::Invalid(PolicyFaults(new))) }
    }
}

fn faults(policies: &Policies) -> Vec<PolicyFault> {
    // Models and providers may change while farebox runs: rules for ones that are not there hold nothing up.
    policies.check(&Known::default())
}

fn kept<E: Entity>(name: &str, value: Bytes, revision: u64) -> Result<Kept<E>, DirectoryError> {
    let entity = E::decode(value).map_err(|error| DirectoryError::Damaged {
        kind: E::KIND,
        name: name.to_owned(),
        reason: error.to_string(),
    })?;
    Ok(Kept { entity, revision })
}
