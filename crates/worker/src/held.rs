//! What this worker holds, and until when it may act on it.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
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
    /// The guard has heard that this worker has it.
    is_known: Arc<AtomicBool>,
    /// Until when the guard keeps it for whoever takes it.
    kept_until: Arc<Mutex<Instant>>,
    /// It is read to its end when its caller goes.
    drains: bool,
    /// Nobody waits for its answer any more.
    is_forsaken: Arc<AtomicBool>,
}

/// What a cancel did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancelled {
    /// The call stops.
    Stops,
    /// It had been stopped before.
    Before,
    /// Its caller has gone, and it is read to its end.
    Drains,
}

impl Handle {
    fn new(kept_until: Instant, drains: bool) -> Handle {
        Handle {
            drains,
            is_forsaken: Arc::default(),
            stop: watch::Sender::new(None),
            woken: CancellationToken::new(),
            is_known: Arc::default(),
            kept_until: Arc::new(Mutex::new(kept_until)),
        }
    }

    /// Whether this worker's lease covers it: work that lay about for longer than a lease may have been ended before
    /// anyone could name it.
    fn is_covered(&self) -> bool {
        self.is_known.load(Ordering::Acquire)
            || Instant::now() < *self.kept_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It was admitted without a guard: there is nobody who could have ended it.
    pub(crate) fn needs_no_guard(&self) {
        self.is_known.store(true, Ordering::Release);
    }

    /// Whether its caller has gone, while it may go on.
    pub(crate) fn is_forsaken(&self) -> bool {
        self.is_forsaken.load(Ordering::Relaxed)
    }

    /// Its caller asks for an end, or has gone without a word.
    pub(crate) fn cancel(&self, caller_gone: bool) -> Cancelled {
        if caller_gone && self.drains && self.why().is_none() {
            self.is_forsaken.store(true, Ordering::Relaxed);
            return Cancelled::Drains;
        }
        if self.stop(Stop::Cancelled) { Cancelled::Stops } else { Cancelled::Before }
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
    /// How long the guard keeps what nobody has named yet.
    lease: Mutex<Duration>,
}

impl Held {
    pub(crate) fn new() -> Held {
        Held { inner: Mutex::new(Inner::default()), valid_until: watch::Sender::new(None), lease: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // No code that can panic runs under this lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `age`: how long ago the request came in, which is before its reservation was granted. `drains`: it is read to its
    /// end when its caller goes.
    pub(crate) fn take(
        &self,
        id: ReservationId,
        project: Project,
        request: RequestId,
        age: Duration,
        drains: bool,
    ) -> Handle {
        let lease = *self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = Handle::new(Instant::now() + lease.saturating_sub(age), drains);
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

    /// Stops the call of a request, if it runs here. `caller_gone`: nobody asked for it, there is only nobody left.
    pub(crate) fn cancel(&self, project: &Project, request: &RequestId, caller_gone: bool) -> Option<Cancelled> {
        let inner = self.inner();
        let key = (project.clone(), request.clone());
        let handle = inner.by_request.get(&key).and_then(|id| inner.running.get(id));
        handle.map(|handle| handle.cancel(caller_gone))
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
            if let Some(handle) = inner.running.get(id) {
                // Who sees this sees also whether it was closed before.
                handle.is_known.store(true, Ordering::Release);
            }
        }
        for id in ended {
            inner.ended.remove(id);
        }
    }

    pub(crate) fn renew(&self, sent: Instant, lease: Duration) {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = lease;
        self.valid_until.send_replace(Some(sent + lease));
    }

    /// No guard leads, and the next one gives everyone a whole lease first: what is covered now stays so for a lease.
    pub(crate) fn outlast(&self, asked: Instant, lease: Duration) {
        for handle in self.inner().running.values().filter(|handle| handle.is_covered()) {
            *handle.kept_until.lock().unwrap_or_else(PoisonError::into_inner) = asked + lease;
        }
        self.renew(asked, lease);
    }

    /// Whether this worker may act now.
    pub(crate) fn is_valid(&self) -> bool {
        self.valid_until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Whether this worker may act for a call now.
    pub(crate) fn may_act(&self, handle: &Handle) -> bool {
        self.is_valid() && handle.is_covered()
    }

    /// Waits until this worker may act for a call. It may not from when its lease has run out by its own clock until the
    /// guard has answered again: meanwhile the guard may have ended its calls and answered their callers.
    pub(crate) async fn valid(&self, handle: &Handle) {
        let mut lease = self.valid_until.subscribe();
        while !self.may_act(handle) {
            lease.borrow_and_update();
            if self.may_act(handle) || lease.changed().await.is_err() {
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
        let handle = held.take(ReservationId::generate(), acme.clone(), request("r"), Duration::ZERO, false);
        assert_eq!(held.cancel(&other, &request("r"), false), None);
        assert_eq!(handle.why(), None);
        assert_eq!(held.cancel(&acme, &request("r"), true), Some(Cancelled::Stops));
        assert_eq!(held.cancel(&acme, &request("r"), false), Some(Cancelled::Before));
        assert_eq!(handle.why(), Some(Stop::Cancelled));
        assert!(handle.woken.is_cancelled());
    }

    #[test]
    fn a_call_that_may_drain_goes_on_without_its_caller_and_stops_when_asked_to() {
        let held = Held::new();
        let acme = Project::parse("acme").unwrap();
        let handle = held.take(ReservationId::generate(), acme.clone(), request("r"), Duration::ZERO, true);
        assert_eq!(held.cancel(&acme, &request("r"), true), Some(Cancelled::Drains));
        assert_eq!((handle.why(), handle.is_forsaken(), handle.woken.is_cancelled()), (None, true, false));
        assert_eq!(held.cancel(&acme, &request("r"), false), Some(Cancelled::Stops));
        assert_eq!(handle.why(), Some(Stop::Cancelled));
    }

    #[test]
    fn a_closed_call_stays_silent() {
        let held = Held::new();
        let acme = Project::parse("acme").unwrap();
        let id = ReservationId::generate();
        let handle = held.take(id, acme.clone(), request("r"), Duration::ZERO, false);
        held.close(&id);
        held.cancel(&acme, &request("r"), false);
        assert_eq!(handle.why(), Some(Stop::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_lease_nothing_may_be_sent() {
        const LEASE: Duration = Duration::from_secs(6);
        let held = Held::new();
        let id = ReservationId::generate();
        assert!(!held.is_valid());
        held.renew(Instant::now(), LEASE);
        let handle = held.take(id, Project::parse("acme").unwrap(), request("r"), Duration::ZERO, false);
        held.valid(&handle).await;
        held.told(&[id], &[]);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert!(!held.may_act(&handle));
        let renewal = async {
            held.renew(Instant::now(), LEASE);
        };
        tokio::join!(held.valid(&handle), renewal);
        assert!(held.may_act(&handle));
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_lay_about_for_a_lease_waits_until_the_guard_has_heard_of_it() {
        const LEASE: Duration = Duration::from_secs(6);
        let held = Held::new();
        held.renew(Instant::now(), LEASE);
        let (acme, id) = (Project::parse("acme").unwrap(), ReservationId::generate());
        let fresh = held.take(ReservationId::generate(), acme.clone(), request("fresh"), Duration::from_secs(1), false);
        let stale = held.take(id, acme, request("stale"), LEASE, false);
        assert!(held.may_act(&fresh));
        assert!(!held.may_act(&stale), "the lease of this worker does not cover what the guard may have ended before");
        let answer = async {
            held.told(&[id], &[]);
            held.renew(Instant::now(), LEASE);
        };
        tokio::join!(held.valid(&stale), answer);
        assert!(held.may_act(&stale));
        // Without a guard, which could have ended it, nobody need have named it.
        tokio::time::advance(Duration::from_secs(4)).await;
        held.outlast(Instant::now(), LEASE);
        tokio::time::advance(Duration::from_secs(4)).await;
        assert!(held.may_act(&fresh));
    }

    #[test]
    fn what_was_taken_and_ended_between_two_heartbeats_is_told_as_ended() {
        let held = Held::new();
        let (acme, id) = (Project::parse("acme").unwrap(), ReservationId::generate());
        held.take(id, acme.clone(), request("r"), Duration::ZERO, false);
        held.end(id, &acme, &request("r"));
        assert_eq!(held.news(false), (vec![], vec![id]));
        held.told(&[], &[id]);
        assert_eq!(held.news(false), (vec![], vec![]));
    }
}
