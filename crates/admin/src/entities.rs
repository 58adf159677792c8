//! Entities as the API manages them: one at a time, each change with its record, the same request twice only once.

use std::convert::Infallible;

use farebox_directory::{Audit, DirectoryError, Entity, Kept, Kind, Store};
use farebox_policy::{Budget, Key, KeyGroup, Limit, Organisation, Policies, PolicyFault, PolicyFaults, ProjectPolicy};
use farebox_proto::v1 as wire;
use farebox_types::ErrorKind;

use crate::{deed::Deed, paging::Page, refusal::Refusal};

/// An entity that the API manages.
pub(crate) trait Managed: Entity {
    fn change_mut(&mut self) -> &mut Option<wire::Change>;

    /// Empties what nobody is shown.
    fn hide(&mut self);

    /// Without what nobody is shown.
    fn shown(mut self) -> Self {
        self.hide();
        if let Some(change) = self.change_mut() {
            change.request_digest.clear();
        }
        self
    }

    /// What is wrong with it by itself, by field.
    fn faults(&self) -> Vec<PolicyFault>;

    /// All that the config file says.
    fn fixed(policies: &Policies) -> Vec<Self>;
}

/// What a conversion says is wrong.
struct Found(Vec<PolicyFault>);

impl From<PolicyFaults> for Found {
    fn from(faults: PolicyFaults) -> Found {
        Found(faults.0)
    }
}

/// Some entities cannot be wrong.
impl From<Infallible> for Found {
    fn from(never: Infallible) -> Found {
        match never {}
    }
}

macro_rules! managed {
    ($wire:ty, $rule:ty, $set:ident $(, $hidden:ident)*) => {
        impl Managed for $wire {
            fn change_mut(&mut self) -> &mut Option<wire::Change> {
                &mut self.change
            }

            fn hide(&mut self) {
                $(self.$hidden.clear();)*
            }

            fn faults(&self) -> Vec<PolicyFault> {
                <$rule>::try_from(self).err().map(|faults| Found::from(faults).0).unwrap_or_default()
            }

            fn fixed(policies: &Policies) -> Vec<Self> {
                policies.$set.values().map(Into::into).collect()
            }
        }
    };
}

managed!(wire::Organisation, Organisation, organisations);
managed!(wire::Project, ProjectPolicy, projects);
managed!(wire::KeyGroup, KeyGroup, groups);
managed!(wire::Key, Key, keys, hash, previous_hash);
managed!(wire::Budget, Budget, budgets);
managed!(wire::Limit, Limit, limits);

/// What is kept, and what changes it.
#[derive(Clone)]
pub(crate) struct Entities {
    pub(crate) store: Store,
    pub(crate) audit: Audit,
    /// How often a change is tried again that another one came before.
    pub(crate) retries: u32,
}

impl Entities {
    /// One of the store or of the config file.
    pub(crate) async fn get<E: Managed>(&self, name: &str) -> Result<Kept<E>, Refusal> {
        let fixed = || E::fixed(&self.store.fixed()).into_iter().find(|entity| entity.name() == name);
        match self.store.get::<E>(name).await? {
            Some(kept) => Ok(kept),
            None => fixed().map(from_file).ok_or_else(|| Refusal::not_found(E::KIND.as_str(), name)),
        }
    }

    /// A page of those that are wanted, and the token of the next one.
    pub(crate) async fn list<E: Managed>(
        &self,
        page: &Page,
        wanted: impl Fn(&E) -> bool,
    ) -> Result<(Vec<Kept<E>>, String), Refusal> {
        let mut all = self.store.list::<E>().await?;
        all.retain(|kept| !self.store.is_fixed(E::KIND, kept.entity.name()));
        all.extend(E::fixed(&self.store.fixed()).into_iter().map(from_file));
        all.retain(|kept| wanted(&kept.entity));
        all.sort_unstable_by(|one, other| one.entity.name().cmp(other.entity.name()));
        Ok(page.of(all, |kept| kept.entity.name().to_owned()))
    }

    pub(crate) async fn create<E: Managed>(&self, deed: &Deed, entity: E) -> Result<Kept<E>, Refusal> {
        let (kind, name) = (E::KIND.as_str(), entity.name().to_owned());
        let mut entity = entity;
        *entity.change_mut() = Some(deed.change());
        if let Some(done) = self.done_before(deed, &name).await? {
            return done.ok_or_else(|| Refusal::exists(kind, &name));
        }
        fits(&entity)?;
        match self.store.put(&entity, 0).await {
            Ok(revision) => Ok(Kept { entity, revision }),
            Err(DirectoryError::Conflict { .. }) => {
                // By somebody else, or by this request's twin.
                let done = self.done_before(deed, &name).await?.flatten();
                done.ok_or_else(|| Refusal::exists(kind, &name))
            }
            Err(DirectoryError::Fixed { .. }) => Err(Refusal::exists(kind, &name)),
            Err(error) => Err(refused(error, E::KIND, &name)),
        }
    }

    /// Replaces what is there by what `edit` makes of it.
    pub(crate) async fn update<E: Managed>(
        &self,
        deed: &Deed,
        name: &str,
        edit: impl Fn(&E) -> Result<E, Refusal>,
    ) -> Result<Kept<E>, Refusal> {
        for _ in 0..=self.retries {
            if let Some(Some(done)) = self.done_before(deed, name).await? {
                return Ok(done);
            }
            let kept = self.present::<E>(deed, name).await?;
            let mut entity = edit(&kept.entity)?;
            *entity.change_mut() = Some(deed.change());
            fits(&entity)?;
            match self.store.put(&entity, kept.revision).await {
                Ok(revision) => return Ok(Kept { entity, revision }),
                Err(DirectoryError::Conflict { .. }) => {}
                Err(error) => return Err(refused(error, E::KIND, name)),
            }
        }
        Err(DirectoryError::Busy.into())
    }

    /// Removes what `may_go` lets go.
    pub(crate) async fn delete<E: Managed>(
        &self,
        deed: &Deed,
        name: &str,
        may_go: impl Fn(&E) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        for _ in 0..=self.retries {
            if self.done_before::<E>(deed, name).await?.is_some() {
                return Ok(());
            }
            let kept = self.present::<E>(deed, name).await?;
            may_go(&kept.entity)?;
            match self.store.delete::<E>(name, kept.revision, &deed.change()).await {
                Ok(_) => return Ok(()),
                Err(DirectoryError::Conflict { .. }) => {}
                Err(error) => return Err(refused(error, E::KIND, name)),
            }
        }
        Err(DirectoryError::Busy.into())
    }

    /// What is there to be changed, as the client believes it to be.
    async fn present<E: Managed>(&self, deed: &Deed, name: &str) -> Result<Kept<E>, Refusal> {
        let kept = self.get::<E>(name).await?;
        if kept.revision == 0 {
            return Err(DirectoryError::Fixed { kind: E::KIND, name: name.to_owned() }.into());
        }
        if deed.revision != 0 && deed.revision != kept.revision {
            return Err(Refusal::revision(E::KIND.as_str(), name, deed.revision, kept.revision));
        }
        Ok(kept)
    }

    /// What this very request did when it came before: what the entity was then, or that it was gone.
    async fn done_before<E: Managed>(&self, deed: &Deed, name: &str) -> Result<Option<Option<Kept<E>>>, Refusal> {
        if !deed.can_repeat() {
            return Ok(None);
        }
        for past in self.audit.of::<E>(name).await? {
            if deed.is(&past.change)? {
                let entity = past.value.and_then(|value| E::decode(value).ok());
                return Ok(Some(entity.map(|entity| Kept { entity, revision: past.sequence })));
            }
        }
        Ok(None)
    }
}

/// Refuses what cannot be, by itself.
fn fits<E: Managed>(entity: &E) -> Result<(), Refusal> {
    let faults = entity.faults();
    if faults.is_empty() {
        return Ok(());
    }
    let path = |fault: &PolicyFault| format!("{}.{}", E::KIND, fault.path);
    Err(Refusal::fields(faults.iter().map(|fault| (path(fault), fault.message.clone())).collect()))
}

fn from_file<E>(entity: E) -> Kept<E> {
    Kept { entity, revision: 0 }
}

/// Why a change was not stored, with the fields as the request names them.
fn refused(error: DirectoryError, kind: Kind, name: &str) -> Refusal {
    match error {
        DirectoryError::Name { .. } => Refusal::field(&format!("{kind}.{}", name_field(kind)), error.to_string()),
        DirectoryError::Invalid(faults) => invalid(faults.0, kind, name),
        error => error.into(),
    }
}

fn name_field(kind: Kind) -> &'static str {
    if kind == Kind::Key { "id" } else { "name" }
}

/// Faults of the entity itself are wrong fields; those of others stand in its way.
fn invalid(faults: Vec<PolicyFault>, kind: Kind, name: &str) -> Refusal {
    let own = format!("{kind}s.{name}");
    let mut fields = Vec::new();
    let mut others = Vec::new();
    for PolicyFault { path, message } in faults {
        match path.strip_prefix(&own) {
            Some("") => fields.push((kind.to_string(), message)),
            Some(rest) if rest.starts_with(['.', '[']) => fields.push((format!("{kind}{rest}"), message)),
            _ => others.push((path, message)),
        }
    }
    if fields.is_empty() { Refusal::in_the_way("REFERENCE", others) } else { Refusal::fields(fields) }
}

impl From<DirectoryError> for Refusal {
    fn from(error: DirectoryError) -> Refusal {
        let message = error.to_string();
        match error {
            DirectoryError::NotFound { kind, name } => Refusal::not_found(kind.as_str(), &name),
            DirectoryError::Conflict { kind, name, expected, found } => {
                Refusal::revision(kind.as_str(), &name, expected, found)
            }
            DirectoryError::Fixed { kind, name } => {
                Refusal::in_the_way("CONFIG_FILE", vec![(format!("{kind}/{name}"), message)])
            }
            error => {
                if error.kind() == ErrorKind::Internal {
                    tracing::error!(%error, "a stored thing cannot be read");
                }
                Refusal::new(error.kind(), message)
            }
        }
    }
}
