//! Leases: who holds which reservation, and who has fallen silent. Not stored: after a restart everyone has a full
//! lease to show up again.

use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map::Entry},
    time::Duration,
};

use farebox_types::ReservationId;

/// Times are durations since the guard began to lead.
pub(crate) struct Leases {
    lease: Duration,
    /// Held by no worker.
    unclaimed: HashMap<ReservationId, Unclaimed>,
    /// The same, oldest first. What says another time than `unclaimed` is out of date.
    granted: VecDeque<(Duration, ReservationId)>,
    workers: HashMap<String, Worker>,
    holder: HashMap<ReservationId, String>,
}

struct Unclaimed {
    /// From when its lease runs.
    since: Duration,
    /// A worker had it and is done with it.
    given_up: bool,
}

#[derive(Default)]
struct Worker {
    seen: Duration,
    holds: HashSet<ReservationId>,
}

impl Leases {
    pub(crate) fn new(lease: Duration) -> Leases {
        Leases {
            lease,
            unclaimed: HashMap::new(),
            granted: VecDeque::new(),
            workers: HashMap::new(),
            holder: HashMap::new(),
        }
    }

    pub(crate) fn grant(&mut self, id: ReservationId, now: Duration) {
        if let Entry::Vacant(free) = self.unclaimed.entry(id) {
            free.insert(Unclaimed { since: now, given_up: false });
            self.granted.push_back((now, id));
        }
    }

    /// Whether a worker has named this reservation.
    pub(crate) fn is_claimed(&self, id: &ReservationId) -> bool {
        self.holder.contains_key(id) || self.unclaimed.get(id).is_some_and(|unclaimed| unclaimed.given_up)
    }

    /// A worker is done with this reservation: what ends it is under way, or was lost. It has one more lease to arrive.
    pub(crate) fn give_up(&mut self, worker: &str, id: ReservationId, now: Duration) {
        match self.holder.get(&id) {
            Some(holder) if holder == worker => {}
            // Another worker has it by now.
            Some(_) => return,
            None if self.is_claimed(&id) => return,
            // Taken and ended between two heartbeats.
            None => {}
        }
        self.end(&id);
        self.unclaimed.insert(id, Unclaimed { since: now, given_up: true });
        self.granted.push_back((now, id));
    }

    pub(crate) fn knows(&self, worker: &str) -> bool {
        self.workers.contains_key(worker)
    }

    pub(crate) fn beat(&mut self, worker: &str, now: Duration) {
        self.workers.entry(worker.to_owned()).or_default().seen = now;
    }

    pub(crate) fn claim(&mut self, worker: &str, id: ReservationId) {
        self.end(&id);
        self.holder.insert(id, worker.to_owned());
        self.workers.entry(worker.to_owned()).or_default().holds.insert(id);
    }

    pub(crate) fn end(&mut self, id: &ReservationId) {
        self.unclaimed.remove(id);
        if let Some(worker) = self.holder.remove(id)
            && let Some(worker) = self.workers.get_mut(&worker)
        {
            worker.holds.remove(id);
        }
    }

    /// Gives everyone a full lease again.
    pub(crate) fn forgive(&mut self, now: Duration) {
        self.workers.values_mut().for_each(|worker| worker.seen = now);
        self.unclaimed.values_mut().for_each(|unclaimed| unclaimed.since = now);
        self.granted = self.unclaimed.keys().map(|id| (now, *id)).collect();
    }

    /// Reservations whose holder has been silent for a lease, or that nobody has named for one.
    pub(crate) fn expired(&mut self, now: Duration) -> Vec<ReservationId> {
        let mut expired = Vec::new();
        while let Some((at, id)) = self.granted.front().copied() {
            let current = self.unclaimed.get(&id).is_some_and(|unclaimed| unclaimed.since == at);
            if at + self.lease > now && current {
                break;
            }
            self.granted.pop_front();
            if current {
                self.unclaimed.remove(&id);
                expired.push(id);
            }
        }
        let lease = self.lease;
        let silent: Vec<String> =
            self.workers.iter().filter(|(_, w)| w.seen + lease <= now).map(|(name, _)| name.clone()).collect();
        for name in silent {
            if let Some(worker) = self.workers.remove(&name) {
                for id in worker.holds {
                    self.holder.remove(&id);
                    expired.push(id);
                }
            }
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_silent_worker_loses_what_it_holds_and_a_live_one_does_not() {
        let mut leases = Leases::new(LEASE);
        let (a, b) = (ReservationId::generate(), ReservationId::generate());
        leases.grant(a, at(0));
        leases.grant(b, at(0));
        leases.beat("w1", at(1));
        leases.claim("w1", a);
        leases.beat("w2", at(1));
        leases.claim("w2", b);
        leases.beat("w2", at(5));
        assert_eq!(leases.expired(at(5)), vec![]);
        assert_eq!(leases.expired(at(6)), vec![a]);
        assert_eq!(leases.expired(at(7)), vec![], "once only");
        assert!(leases.is_claimed(&b));
    }

    #[test]
    fn what_nobody_takes_expires_after_a_lease() {
        let mut leases = Leases::new(LEASE);
        let (a, b) = (ReservationId::generate(), ReservationId::generate());
        leases.grant(a, at(0));
        leases.grant(b, at(1));
        leases.end(&a);
        assert_eq!(leases.expired(at(5)), vec![]);
        assert_eq!(leases.expired(at(6)), vec![b]);
    }

    #[test]
    fn what_a_worker_is_done_with_has_one_more_lease_to_end() {
        let mut leases = Leases::new(LEASE);
        let (a, b, c) = (ReservationId::generate(), ReservationId::generate(), ReservationId::generate());
        for id in [a, b, c] {
            leases.grant(id, at(0));
        }
        leases.beat("w1", at(1));
        leases.claim("w1", a);
        leases.claim("w1", b);
        leases.give_up("w1", a, at(4));
        leases.give_up("w1", b, at(4));
        leases.give_up("w1", c, at(4));
        // Its settlement arrives.
        leases.end(&b);
        // A repeated heartbeat buys nothing.
        leases.give_up("w1", a, at(6));
        assert!(leases.is_claimed(&a), "nobody but a worker can say that it was not used");
        leases.beat("w1", at(8));
        assert_eq!(leases.expired(at(8)), vec![]);
        assert_eq!(leases.expired(at(9)), vec![a, c]);
    }

    #[test]
    fn what_another_worker_has_by_now_is_not_given_up() {
        let mut leases = Leases::new(LEASE);
        let a = ReservationId::generate();
        leases.grant(a, at(0));
        leases.beat("w1", at(0));
        leases.claim("w1", a);
        leases.give_up("w1", a, at(1));
        leases.beat("w2", at(2));
        leases.claim("w2", a);
        leases.give_up("w1", a, at(3));
        leases.beat("w2", at(6));
        assert_eq!(leases.expired(at(9)), vec![]);
        assert_eq!(leases.expired(at(11)), vec![a]);
    }
}
