//! How entries change the state. Decisions use the same steps, so that a replay gives the same state.

use farebox_proto::v1::{self, ledger_entry::Entry};
use farebox_types::{Money, Outcome, ReservationId, Timestamp};

use super::{
    Ledger,
    state::{Closed, Open},
};

impl Ledger {
    /// Adds one entry to the state: the only way in which it changes.
    pub(crate) fn apply(&mut self, entry: &v1::LedgerEntry) {
        match &entry.entry {
            Some(Entry::Reserved(reserved)) => self.begin(reserved),
            Some(Entry::Amended(amended)) => {
                if let (Some(id), Some(fact)) = (id(&amended.reservation_id), &amended.fact) {
                    self.end_attempt(&id, fact);
                    self.begin_attempt(&id, amended, Timestamp(fact.ended_unix_ms));
                }
            }
            Some(Entry::Ended(ended)) => {
                if let (Some(id), Some(fact)) = (id(&ended.reservation_id), &ended.fact) {
                    self.end_attempt(&id, fact);
                    self.close(&id, fact);
                }
            }
            Some(Entry::Released(released)) => {
                if let Some(id) = id(&released.reservation_id) {
                    self.undo(&id);
                }
            }
            Some(Entry::Alerted(alerted)) => {
                if let Some(alert) = &alerted.alert {
                    self.windows.announce(alert);
                }
            }
            None => {}
        }
    }

    pub(super) fn record(&mut self, entry: Entry) -> v1::LedgerEntry {
        let entry = v1::LedgerEntry { entry: Some(entry) };
        self.apply(&entry);
        entry
    }

    fn begin(&mut self, reserved: &v1::Reserved) {
        let Some(open) = Open::from_reserved(reserved) else {
            return;
        };
        open.holds.iter().for_each(|hold| self.windows.hold(hold, open.started));
        open.limit_holds.iter().for_each(|hold| self.meters.take(hold, open.started));
        self.requests.open(&open.request, open.id, open.started);
        self.open.insert(open.id, open);
    }

    /// Settles the open attempt. Returns what was set aside for it. What follows closes the reservation or covers another.
    pub(super) fn end_attempt(&mut self, id: &ReservationId, fact: &v1::CallFact) -> Vec<v1::Hold> {
        let Some(open) = self.open.get_mut(id) else { return Vec::new() };
        let (cost, at) = (v1::Money::of(&fact.cost), Timestamp(fact.ended_unix_ms));
        let holds = std::mem::take(&mut open.holds);
        holds.iter().for_each(|hold| self.windows.settle(hold, cost, at));
        open.limit_holds.iter().for_each(|hold| self.meters.end(hold, open.attempt_began, fact));
        open.spent += cost;
        let project = open.request.principal.as_ref().map_or("", |principal| &principal.project);
        self.books.add(project, open.started, cost);
        holds
    }

    fn begin_attempt(&mut self, id: &ReservationId, amended: &v1::Amended, at: Timestamp) {
        let (Some(open), Some(next)) = (self.open.get_mut(id), &amended.next) else {
            return;
        };
        amended.holds.iter().for_each(|hold| self.windows.hold(hold, at));
        amended.limit_holds.iter().for_each(|hold| self.meters.take(hold, at));
        open.holds.clone_from(&amended.holds);
        open.limit_holds.clone_from(&amended.limit_holds);
        open.attempt = next.clone();
        open.attempt_began = at;
        open.attempts += 1;
    }

    pub(super) fn close(&mut self, id: &ReservationId, fact: &v1::CallFact) {
        // The ledger holds only call ids that were read as such when they were admitted.
        let Ok(call_id) = fact.call_id.parse() else { return };
        let Some(open) = self.open.remove(id) else { return };
        let ended_at = Timestamp(fact.ended_unix_ms);
        let closed = Closed {
            call_id,
            outcome: fact.outcome().known().unwrap_or(Outcome::Error),
            error_kind: fact.error_kind().known(),
        };
        self.requests.close(&open.request, id, &closed, ended_at);
        self.closed.insert(*id, closed, ended_at);
        self.requests.forget_before(ended_at);
    }

    fn undo(&mut self, id: &ReservationId) {
        let Some(open) = self.open.remove(id) else { return };
        open.holds.iter().for_each(|hold| self.windows.settle(hold, Money::ZERO, open.started));
        open.limit_holds.iter().for_each(|hold| self.meters.undo(hold, open.attempt_began));
        self.requests.remove(&open.request, id);
    }
}

fn id(text: &str) -> Option<ReservationId> {
    text.parse().ok()
}
