//! The ledger: a state machine without I/O.
//!
//! A decision ([`Ledger::reserve`], [`Ledger::amend`], …) reads the state and the rules and yields a reply and, where
//! something changes, entries, which have then been applied. The state is the sum of all entries ([`Ledger::apply`]), and
//! a replay needs no rules: so it gives the same state, whatever the rules are by then. Nobody may be answered before the
//! entries are stored.
//!
//! Invariants: settled plus reserved money of a hard budget's window exceeds its limit only when a bill came out above
//! what was reserved, or a raise ended; an attempt ends once; a reservation has one open attempt.

mod alerts;
mod apply;
mod books;
mod cover;
mod decide;
mod grace;
mod meters;
mod snapshot;
mod state;
mod status;
mod told;
mod windows;

use std::{collections::HashMap, time::Duration};

use farebox_proto::v1;
use farebox_types::ReservationId;

use books::Books;
pub(crate) use cover::{Scarce, Wait};
pub(crate) use decide::Admission;
use meters::Meters;
pub(crate) use snapshot::{Memory, newest};
pub(crate) use state::Retention;
use state::{Closed, Closings, Open, Requests};
use windows::Windows;

/// Reservations, what they take of budgets and limits, and the ends of calls.
pub(crate) struct Ledger {
    terms: Terms,
    open: HashMap<ReservationId, Open>,
    closed: Closings,
    requests: Requests,
    windows: Windows,
    meters: Meters,
    books: Books,
}

/// What holds for all decisions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) lease: Duration,
    /// How long it is worth to wait for what running calls may give back.
    pub(crate) wait_for_holds: Duration,
    /// How long it is worth to wait for a deployment's own limit.
    pub(crate) limit_wait: Duration,
    pub(crate) retention: Retention,
}

/// An answer, and what must be stored before it may be sent.
#[derive(Debug, PartialEq)]
pub(crate) struct Decision<R> {
    pub(crate) reply: R,
    pub(crate) entries: Vec<v1::LedgerEntry>,
}

impl<R> Decision<R> {
    fn unchanged(reply: R) -> Decision<R> {
        Decision { reply, entries: Vec::new() }
    }
}

impl Ledger {
    pub(crate) fn new(terms: Terms) -> Ledger {
        Ledger {
            terms,
            open: HashMap::new(),
            closed: Closings::new(terms.retention),
            requests: Requests::new(terms.retention),
            windows: Windows::default(),
            meters: Meters::default(),
            books: Books::default(),
        }
    }

    /// What is known of a request id.
    pub(crate) fn lookup(&self, project: &str, request_id: &str) -> Option<v1::Existing> {
        let known = self.requests.get(project, request_id)?;
        Some(existing(known.reservation, known.closed.as_ref()))
    }

    /// What runs for a request whose id farebox made.
    pub(crate) fn running(&self, project: &str, request_id: &str) -> Option<v1::Existing> {
        self.requests.made_here(project, request_id).map(|id| existing(id, None))
    }

    pub(crate) fn is_open(&self, id: &ReservationId) -> bool {
        self.open.contains_key(id)
    }

    /// What asked for an open reservation.
    pub(crate) fn request(&self, id: &ReservationId) -> Option<&v1::ReserveRequest> {
        Some(&self.open.get(id)?.request)
    }

    pub(crate) fn open_ids(&self) -> impl Iterator<Item = ReservationId> {
        self.open.keys().copied()
    }

    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// What an open reservation gives back, at least in part, when its attempt ends.
    pub(crate) fn takes(&self, id: &ReservationId) -> Vec<Scarce> {
        let Some(open) = self.open.get(id) else { return Vec::new() };
        let budgets =
            open.holds.iter().map(|hold| Scarce::Budget { name: hold.budget.clone(), subject: hold.subject.clone() });
        let limits = open.limit_holds.iter().map(|hold| Scarce::Limit {
            name: hold.limit.clone(),
            subject: hold.subject.clone(),
            measure: hold.measure,
        });
        budgets.chain(limits).collect()
    }
}

fn existing(id: ReservationId, closed: Option<&Closed>) -> v1::Existing {
    v1::Existing {
        reservation_id: id.to_string(),
        open: closed.is_none(),
        outcome: closed.map_or(v1::Outcome::Unspecified, |c| c.outcome.into()).into(),
        error_kind: closed.and_then(|c| c.error_kind).map_or(v1::ErrorKind::Unspecified, v1::ErrorKind::from).into(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
