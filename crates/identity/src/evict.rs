//! Connections that were let in under what no longer holds are ended: of revoked and changed keys, and of projects that
//! are disabled or gone.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use farebox_bus::{ANONYMOUS, Bus};
use farebox_directory::Directory;
use farebox_policy::{Key, KeyId, Policies};
use farebox_types::{Clock, Project, Timestamp};
use futures::future::join_all;
use tokio::time::{Instant, sleep_until};

use crate::{
    connections::{self, Connection, Filter, Listing},
    error::IdentityError,
    keyring::Keyring,
    options::Options,
};

/// With more changes at once, all connections are looked at.
const FILTERS_MAX: usize = 32;

/// Ends connections.
pub(crate) struct Evictor {
    /// A connection of the system account.
    system: Bus,
    keyring: Keyring,
    directory: Directory,
    clock: Arc<dyn Clock>,
    options: Options,
    /// What connections are too old for, now and at a time to come.
    outdated: Vec<Outdated>,
    later: Vec<Outdated>,
    /// Accounts whose connections are none of callers'.
    own: [String; 3],
}

/// Connections of a key that are older than a change of it: from `due` on, they end.
#[derive(Debug)]
struct Outdated {
    key: KeyId,
    account: String,
    changed: Instant,
    due: Timestamp,
}

impl Evictor {
    pub(crate) fn new(
        system: Bus,
        keyring: Keyring,
        directory: Directory,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Evictor {
        let own = [keyring.farebox(), keyring.system(), keyring.callout()].map(|key| key.public_key());
        Evictor { system, keyring, directory, clock, options, outdated: Vec::new(), later: Vec::new(), own }
    }

    /// Follows the changes for ever.
    pub(crate) async fn follow(mut self) {
        let mut changes = self.directory.changes();
        let mut before = changes.borrow_and_update().clone();
        // Keys may have been revoked while nobody followed.
        let mut looks = Looks::at_all();
        loop {
            self.take_due(&mut looks);
            let changed = async {
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            // Given up and begun anew when something changes meanwhile: to look twice does no harm.
            let look = async {
                sleep_until(looks.at.min(self.next_due())).await;
                if Instant::now() < looks.at { None } else { Some(self.look(&looks).await) }
            };
            tokio::select! {
                () = changed => {
                    let now = changes.borrow_and_update().clone();
                    looks.add(self.compare(&before, &now));
                    before = now;
                }
                ended = look => if let Some(ended) = ended {
                    looks.looked(ended == 0, self.options.sweep_interval.get());
                    if looks.is_idle() {
                        self.outdated.clear();
                    }
                }
            }
        }
    }

    fn account(&self, project: &Project) -> String {
        self.keyring.project(project).public_key()
    }

    /// Which connections a change may have ended.
    fn compare(&mut self, before: &Policies, now: &Policies) -> BTreeSet<Filter> {
        let mut filters = BTreeSet::new();
        for (name, policy) in &before.projects {
            if now.projects.get(name).is_none_or(|now| now.disabled) {
                filters.insert(Filter { account: Some(self.account(&policy.name)), user: None });
            }
        }
        for (id, key) in &before.keys {
            let (Some(project), after) = (&key.project, now.keys.get(id)) else { continue };
            if after == Some(key) {
                continue;
            }
            let account = self.account(project);
            if let Some(due) = after.and_then(|after| outdates(key, after, self.clock.now())) {
                self.later.push(Outdated { key: id.clone(), account: account.clone(), changed: Instant::now(), due });
            }
            filters.insert(Filter { account: Some(account), user: Some(id.to_string()) });
        }
        filters
    }

    fn next_due(&self) -> Instant {
        let now = self.clock.now();
        let next = self.later.iter().map(|old| old.due.remaining(now)).min();
        Instant::now() + next.unwrap_or(self.options.sweep_interval.get())
    }

    fn take_due(&mut self, looks: &mut Looks) {
        let now = self.clock.now();
        let (due, later) = self.later.drain(..).partition(|old| old.due <= now);
        self.later = later;
        let due: Vec<Outdated> = due;
        let filter = |old: &Outdated| Filter { account: Some(old.account.clone()), user: Some(old.key.to_string()) };
        looks.add(due.iter().map(filter).collect());
        self.outdated.extend(due);
    }

    /// Ends what must not stay, of the connections in question. Returns how many.
    async fn look(&self, looks: &Looks) -> usize {
        let policies = self.directory.newest();
        let filters = looks.filters();
        join_all(filters.iter().map(|filter| self.look_at(filter, &policies))).await.into_iter().sum()
    }

    async fn look_at(&self, filter: &Filter, policies: &Policies) -> usize {
        let mut ended = 0;
        match self.end(filter, policies, &mut ended).await {
            Ok(()) => ended,
            Err(error) => {
                tracing::warn!(%error, "connections cannot be looked at: it is tried again");
                ended + 1
            }
        }
    }

    async fn end(&self, filter: &Filter, policies: &Policies, ended: &mut usize) -> Result<(), IdentityError> {
        let asked = Instant::now();
        let mut listing = Listing::ask(&self.system, filter, &self.options).await?;
        while let Some(found) = listing.next().await? {
            for connection in found.iter().filter(|connection| !self.may_stay(connection, policies, asked)) {
                tracing::info!(key_id = connection.user, "a connection is ended: what let it in holds no more");
                connections::end(&self.system, connection, &self.options).await;
                *ended += 1;
            }
        }
        Ok(())
    }

    fn may_stay(&self, connection: &Connection, policies: &Policies, asked: Instant) -> bool {
        // Without an account it is not let in yet: the callout decides, and a later look sees what it has become.
        if connection.account.is_empty() || self.own.contains(&connection.account) {
            return true;
        }
        if connection.user == ANONYMOUS {
            let default = Project::default_project();
            return !policies.is_disabled(&default)
                && self.options.anonymous
                && connection.account == self.account(&default);
        }
        let Some(key) = KeyId::parse(&connection.user).and_then(|id| policies.keys.get(&id)) else { return false };
        let of_its_project = key.project.as_ref().is_some_and(|project| self.account(project) == connection.account);
        // By the time on the way, a younger one may be taken for too old: it comes back.
        let too_old = |old: &Outdated| old.key == key.id && connection.age > asked.duration_since(old.changed);
        of_its_project
            && policies.usable(key, self.clock.now()).is_ok()
            && key.comes_from(connection.host)
            && !self.outdated.iter().any(too_old)
    }
}

/// When connections end that were made with a key as it was before; `None`: they may stay.
fn outdates(before: &Key, after: &Key, now: Timestamp) -> Option<Timestamp> {
    if before.subjects != after.subjects || after.expires.is_some() && before.expires != after.expires {
        return Some(now);
    }
    if before.hash == after.hash {
        return None;
    }
    let overlap = after.previous.filter(|(hash, _)| *hash == before.hash).map(|(_, until)| until);
    Some(overlap.unwrap_or(now))
}

/// Which connections are looked at, and when: after a change until nothing is left to end, and a few times more, as the
/// other callouts may have heard of it a little later; else all of them now and then.
struct Looks {
    /// `None`: all.
    filters: Option<BTreeSet<Filter>>,
    /// How many times in a row there was nothing to end.
    quiet: usize,
    at: Instant,
}

impl Looks {
    /// Pauses after the first quiet look, the second, …
    const AGAIN: [Duration; 3] = [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];

    fn at_all() -> Looks {
        Looks { filters: None, quiet: 0, at: Instant::now() }
    }

    fn add(&mut self, more: BTreeSet<Filter>) {
        if more.is_empty() {
            return;
        }
        if self.is_idle() {
            self.filters = Some(BTreeSet::new());
        }
        if let Some(filters) = &mut self.filters {
            filters.extend(more);
            if filters.len() > FILTERS_MAX {
                self.filters = None;
            }
        }
        self.quiet = 0;
        self.at = Instant::now();
    }

    fn looked(&mut self, nothing: bool, sweep_interval: Duration) {
        self.quiet = if nothing { self.quiet + 1 } else { 0 };
        if self.is_idle() {
            self.filters = None;
        }
        let pause = match self.quiet.checked_sub(1) {
            None => Duration::ZERO,
            Some(quiet) => Looks::AGAIN.get(quiet).copied().unwrap_or(sweep_interval),
        };
        self.at = Instant::now() + pause;
    }

    fn is_idle(&self) -> bool {
        self.quiet > Looks::AGAIN.len()
    }

    fn filters(&self) -> Vec<Filter> {
        match &self.filters {
            None => vec![Filter::default()],
            Some(filters) => filters.iter().cloned().collect(),
        }
    }
}
