//! The policies of this moment, in memory, in every role: those of the config file, and those that admins keep in the
//! bucket `farebox-policy`.
//!
//! Guarantees: reading never waits and never does I/O; a change that was stored is here within a second; when changes
//! can no longer be heard, that is said ([`Stale`]) rather than guessed. A stored entry that cannot be read changes
//! nothing, and none replaces what the config file says. Of two writers, one is told that the other was first.
//!
//! Not here: what policies mean (`policy`), and who may change them (`admin`).

mod access;
mod audit;
mod entity;
mod error;
mod fixed;
mod live;
mod options;
mod store;

use std::{sync::Arc, time::Duration};

use farebox_policy::Policies;
use tokio::sync::watch;

pub use access::{Access, Denied, Keys, Models};
pub use audit::{Audit, Changed, Record};
pub use entity::{Entity, Kind};
pub use error::DirectoryError;
pub use fixed::Fixed;
pub use live::Live;
pub use options::Options;
pub use store::{Kept, Store};

/// When to come back to who could not tell.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Changes cannot be heard: what is known may be out of date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("keys and rules cannot be read right now: try again later")]
pub struct Stale;

/// Where roles read policies. Clones share one state.
#[derive(Clone, Debug)]
pub struct Directory {
    policies: watch::Receiver<Arc<Policies>>,
    fresh: watch::Receiver<bool>,
    /// Of policies that do not change: keeps their channels open.
    _fixed: Option<Arc<Feed>>,
}

/// What a directory is told.
#[derive(Debug)]
pub struct Feed {
    policies: watch::Sender<Arc<Policies>>,
    fresh: watch::Sender<bool>,
}

impl Feed {
    pub fn policies(&self, policies: Policies) {
        self.policies.send_replace(Arc::new(policies));
    }

    pub fn fresh(&self, fresh: bool) {
        self.fresh.send_replace(fresh);
    }
}

impl Directory {
    /// Policies that do not change.
    pub fn fixed(policies: Policies) -> Directory {
        let (feed, directory) = Directory::fed(policies);
        feed.fresh(true);
        Directory { _fixed: Some(Arc::new(feed)), ..directory }
    }

    /// A directory that knows what its feed tells. Stale until it is told that it is fresh.
    pub fn fed(policies: Policies) -> (Feed, Directory) {
        let (policies, heard) = watch::channel(Arc::new(policies));
        let (fresh, is_fresh) = watch::channel(false);
        (Feed { policies, fresh }, Directory { policies: heard, fresh: is_fresh, _fixed: None })
    }

    /// What holds now.
    pub fn read(&self) -> Result<Arc<Policies>, Stale> {
        if *self.fresh.borrow() { Ok(self.newest()) } else { Err(Stale) }
    }

    /// The newest that was heard, however long ago.
    pub fn newest(&self) -> Arc<Policies> {
        self.policies.borrow().clone()
    }

    /// Says when something has changed.
    pub fn changes(&self) -> watch::Receiver<Arc<Policies>> {
        self.policies.clone()
    }
}
