//! The policies of this moment, in memory, in every role.
//!
//! Guarantees: reading never waits and never does I/O; a change that was stored is here within a second; when changes
//! can no longer be heard, that is said ([`Stale`]) rather than guessed.
//!
//! Not here: what policies mean (`policy`), and who may change them (`admin`).

use std::sync::Arc;

use farebox_policy::Policies;
use tokio::sync::watch;

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
    _fixed: Option<Arc<(watch::Sender<Arc<Policies>>, watch::Sender<bool>)>>,
}

impl Directory {
    /// Policies that do not change.
    pub fn fixed(policies: Policies) -> Directory {
        let (policies, heard) = watch::channel(Arc::new(policies));
        let (fresh, is_fresh) = watch::channel(true);
        Directory { policies: heard, fresh: is_fresh, _fixed: Some(Arc::new((policies, fresh))) }
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
