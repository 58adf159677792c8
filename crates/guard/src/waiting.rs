//! Calls that wait for what others may give back: who is asked again when, in the order in which they came.
//!
//! Not stored: who waits asks again, also another guard.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque, hash_map::Entry},
    time::Duration,
};

use farebox_proto::v1;

use crate::ledger::{Scarce, Wait};

/// A call that waits. Times are durations since the guard began to lead.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) request: Box<v1::ReserveRequest>,
    pub(crate) reply_to: Option<String>,
    /// When it is decided, however things stand.
    pub(crate) until: Duration,
}

/// Calls that wait. Each has a number: who came first has the lower one, however often it is asked again.
pub(crate) struct Waiting {
    max: usize,
    max_per_key: usize,
    next: u64,
    parked: BTreeMap<u64, Place>,
    by_reservation: HashMap<String, u64>,
    /// How many wait of each key.
    by_key: HashMap<Key, usize>,
    /// How much is wanted of what, and by whom.
    wants: HashMap<Scarce, BTreeMap<u64, i128>>,
    alarms: BTreeSet<(Duration, u64)>,
    /// Whose wait was over a short time ago, oldest first: who missed the answer asks again, and does not wait again.
    over: VecDeque<(Duration, String)>,
    waited: HashSet<String>,
}

/// Whose calls are counted together: project and key id, which is empty where there are no keys.
type Key = (String, String);

fn key(request: &v1::ReserveRequest) -> Key {
    let principal = request.principal.as_ref();
    principal.map(|principal| (principal.project.clone(), principal.key_id.clone())).unwrap_or_default()
}

struct Place {
    call: Parked,
    wait: Wait,
    alarm: Duration,
}

/// For how long it is known who has waited: longer than who asks waits before it asks again.
const ASKS_AGAIN: Duration = Duration::from_secs(10);

impl Waiting {
    pub(crate) fn new(max: usize, max_per_key: usize) -> Waiting {
        Waiting {
            max,
            max_per_key,
            next: 0,
            parked: BTreeMap::new(),
            by_reservation: HashMap::new(),
            by_key: HashMap::new(),
            wants: HashMap::new(),
            alarms: BTreeSet::new(),
            over: VecDeque::new(),
            waited: HashSet::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }

    /// Whether a call may wait: there is a place, also for its key, and it has not waited yet.
    pub(crate) fn has_place(&self, request: &v1::ReserveRequest) -> bool {
        let of_key = self.by_key.get(&key(request)).copied().unwrap_or_default();
        self.parked.len() < self.max && of_key < self.max_per_key && !self.waited.contains(&request.reservation_id)
    }

    pub(crate) fn len(&self) -> u64 {
        u64::try_from(self.parked.len()).unwrap_or(u64::MAX)
    }

    pub(crate) fn park(&mut self, call: Parked, wait: Wait, now: Duration) {
        self.next += 1;
        self.park_again(self.next, call, wait, now);
    }

    /// Puts a call back where it was.
    pub(crate) fn park_again(&mut self, number: u64, call: Parked, wait: Wait, now: Duration) {
        // What comes free by itself may be taken by another: it is then asked again at the end only.
        let retry = wait.retry.filter(|retry| !retry.is_zero()).map(|retry| now + retry);
        let alarm = retry.map_or(call.until, |retry| retry.min(call.until));
        for want in &wait.wants {
            let wanted = self.wants.entry(want.of.clone()).or_default().entry(number).or_insert(want.amount);
            *wanted = want.amount.min(*wanted);
        }
        self.alarms.insert((alarm, number));
        self.by_reservation.insert(call.request.reservation_id.clone(), number);
        *self.by_key.entry(key(&call.request)).or_default() += 1;
        self.parked.insert(number, Place { call, wait, alarm });
    }

    /// Whether this call waits already; the answer goes to where it was asked last.
    pub(crate) fn is_asked_again(&mut self, reservation: &str, reply_to: Option<&str>) -> bool {
        let place = self.by_reservation.get(reservation).and_then(|number| self.parked.get_mut(number));
        place.map(|place| place.call.reply_to = reply_to.map(str::to_owned)).is_some()
    }

    /// Nobody waits for this answer any more.
    pub(crate) fn give_up(&mut self, reservation: &str) -> bool {
        let number = self.by_reservation.get(reservation).copied();
        number.and_then(|number| self.take(number)).is_some()
    }

    /// Takes out the first call after `after` for which there is enough.
    pub(crate) fn next_for(&mut self, scarce: &Scarce, room: i128, after: Option<u64>) -> Option<(u64, Parked)> {
        let from = after.map_or(0, |after| after + 1);
        let mut wanted = self.wants.get(scarce)?.range(from..);
        let (number, _) = wanted.find(|(_, amount)| **amount <= room)?;
        let number = *number;
        Some((number, self.take(number)?))
    }

    /// When the next alarm is.
    pub(crate) fn alarm(&self) -> Option<Duration> {
        Some(self.alarms.first()?.0)
    }

    /// Takes out a call whose alarm is due.
    pub(crate) fn due(&mut self, now: Duration) -> Option<(u64, Parked)> {
        let (at, number) = *self.alarms.first()?;
        if at > now {
            return None;
        }
        let call = self.take(number)?;
        if call.until <= now {
            self.is_over(&call.request.reservation_id, now);
        }
        Some((number, call))
    }

    fn is_over(&mut self, reservation: &str, now: Duration) {
        while let Some((_, oldest)) = self.over.pop_front_if(|(at, _)| *at + ASKS_AGAIN <= now) {
            self.waited.remove(&oldest);
        }
        self.over.push_back((now, reservation.to_owned()));
        self.waited.insert(reservation.to_owned());
    }

    fn take(&mut self, number: u64) -> Option<Parked> {
        let place = self.parked.remove(&number)?;
        self.by_reservation.remove(&place.call.request.reservation_id);
        if let Entry::Occupied(mut of_key) = self.by_key.entry(key(&place.call.request)) {
            *of_key.get_mut() -= 1;
            if *of_key.get() == 0 {
                of_key.remove();
            }
        }
        self.alarms.remove(&(place.alarm, number));
        for want in &place.wait.wants {
            if let Some(wanted) = self.wants.get_mut(&want.of) {
                wanted.remove(&number);
                if wanted.is_empty() {
                    self.wants.remove(&want.of);
                }
            }
        }
        Some(place.call)
    }
}
