//! What this worker holds, and until when it may act on it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use farebox_types::{Project, RequestId, ReservationId};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// Why a call must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The caller asked for it.
    Cancelled,
    /// This worker shuts down: the call may be made again elsewhere.
    Leaving,
    /// The guard has ended it: nothing more may be sent.
    Closed,
}

/// A running call, as others see it.
#[derive(Clone)]
pub(crate) struct Handle {
    stop: watch::Sender<Option<Stop>>,
    pub(crate) woken: CancellationToken,
}

impl Handle {
    fn new() -> Handle {
        Handle { stop: watch::Sender::new(None), woken: CancellationToken::new() }
    }

    /// Whether this is news.
    fn stop(&self, why: Stop) -> bool {
        // The first reason counts, except that a closed call stays silent whatever came before.
        let new = self.stop.send_if_modified(|now| match (*now, why) {
            (None, _) | (Some(Stop::Cancelled | Stop::Leaving), Stop::Closed) => {
                *now = Some(why);
                true
            }
            _ => false,
        });
        self.woken.cancel();
        new
    }

    pub(crate) fn why(&self) -> Option<Stop> {
        *self.stop.borrow()
    }
}

#[derive(Default)]
struct Inner {
    by_request: HashMap<(Project, RequestId), ReservationId>,
    running: HashMap<ReservationId, Handle>,
    /// Not yet named in a heartbeat that was answered.
    taken: HashSet<ReservationId>,
    ended: HashSet<ReservationId>,
}

/// All calls of this worker, and its lease.
pub(crate) struct Held {
    inner: Mutex<Inner>,
    /// By this worker's own clock, counted from when the heartbeat was sent.
    valid_until: watch::Sender<Option<Instant>>,
}

impl Held {
    pub(crate) fn new() -> Held {
        Held { inner: Mutex::new(Inner::default()), valid_until: watch::Sender::new(None) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // No code that can panic runs under this lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn take(&self, id: ReservationId, project: Project, request: RequestId) -> Handle {
        let handle = Handle::new();
        let mut inner = self.inner();
        inner.by_request.insert((project, request), id);
        inner.running.insert(id, handle.clone());
        inner.taken.insert(id);
        handle
    }

    pub(crate) fn end(&self, id: ReservationId, project: &Project, request: &RequestId) {
        let mut inner = self.inner();
        if inner.running.remove(&id).is_none() {
            return;
        }
        let key = (project.clone(), request.clone());
        if inner.by_request.get(&key) == Some(&id) {
            inner.by_request.remove(&key);
        }
        inner.taken.remove(&id);
        inner.ended.insert(id);
    }

    /// Stops the call of a request, if it runs here; and whether that is news.
    pub(crate) fn cancel(&self, project: &Project, request: &RequestId) -> Option<bool> {
        let inner = self.inner();
        let key = (project.clone(), request.clone());
        let handle = inner.by_request.get(&key).and_then(|id| inner.running.get(id));
        handle.map(|handle| handle.stop(Stop::Cancelled))
    }

    /// The guard has ended this one.
    pub(crate) fn close(&self, id: &ReservationId) {
        if let Some(handle) = self.inner().running.get(id) {
            handle.stop(Stop::Closed);
        }
    }

    /// Stops everything: the process ends.
    pub(crate) fn leave(&self) {
        self.inner().running.values().for_each(|handle| {
            handle.stop(Stop::Leaving);
        });
    }

    pub(crate) fn running(&self) -> usize {
        self.inner().running.len()
    }

    /// What the next heartbeat says: everything held, or what is new.
    pub(crate) fn news(&self, complete: bool) -> (Vec<ReservationId>, Vec<ReservationId>) {
        let inner = self.inner();
        let taken =
            if complete { inner.running.keys().copied().collect() } else { inner.taken.iter().copied().collect() };
        (taken, inner.ended.iter().copied().collect())
    }

    /// The guard has heard these.
    pub(crate) fn told(&self, taken: &[ReservationId], ended: &[ReservationId]) {
        let mut inner = self.inner();
        for id in taken {
            inner.taken.remove(id);
        }
        for id in ended {
            inner.ended.remove(id);
        }
    }

    pub(crate) fn renew(&self, sent: Instant, lease: Duration) {
        self.valid_until.send_replace(Some(sent + lease));
    }

    /// Whether this worker may act now.
    pub(crate) fn is_valid(&self) -> bool {
        self.valid_until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until this worker may act. It may not from when its lease has run out by its own clock until the guard
    /// has answered again: meanwhile the guard may have ended its calls and answered their callers.
    pub(crate) async fn valid(&self) {
        let mut lease = self.valid_until.subscribe();
        while !self.is_valid() {
            lease.borrow_and_update();
            if self.is_valid() || lease.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str) -> RequestId {
        RequestId::parse(name).unwrap()
    }

    #[test]
    fn a_cancel_reaches_only_calls_of_its_project() {
        let held = Held::new();
        let (acme, other) = (Project::parse("acme").unwrap(), Project::parse("other").unwrap());
        let handle = held.take(ReservationId::generate(), acme.clone(), request("r"));
        assert_eq!(held.cancel(&other, &request("r")), None);
        assert_eq!(handle.why(), None);
        assert_eq!(held.cancel(&acme, &request("r")), Some(true));
        assert_eq!(held.cancel(&acme, &request("r")), Some(false), "it was stopped before");
        assert_eq!(handle.why(), Some(Stop::Cancelled));
        assert!(handle.woken.is_cancelled());
    }

    #[test]
    fn a_closed_call_stays_silent() {
        let held = Held::new();
        let acme = Project::parse("acme").unwrap();
        let id = ReservationId::generate();
        let handle = held.take(id, acme.clone(), request("r"));
        held.close(&id);
        held.cancel(&acme, &request("r"));
        assert_eq!(handle.why(), Some(Stop::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_lease_nothing_may_be_sent() {
        let held = Held::new();
        assert!(!held.is_valid());
        held.renew(Instant::now(), Duration::from_secs(6));
        held.valid().await;
        tokio::time::advance(Duration::from_secs(7)).await;
        assert!(!held.is_valid());
        let renewal = async {
            held.renew(Instant::now(), Duration::from_secs(6));
        };
        tokio::join!(held.valid(), renewal);
        assert!(held.is_valid());
    }

    #[test]
    fn what_was_taken_and_ended_between_two_heartbeats_is_told_as_ended() {
        let held = Held::new();
        let (acme, id) = (Project::parse("acme").unwrap(), ReservationId::generate());
        held.take(id, acme.clone(), request("r"));
        held.end(id, &acme, &request("r"));
        assert_eq!(held.news(false), (vec![], vec![id]));
        held.told(&[], &[id]);
        assert_eq!(held.news(false), (vec![], vec![]));
    }
}
