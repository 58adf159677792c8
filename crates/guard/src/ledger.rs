//! The ledger: a state machine without I/O.
//!
//! A decision ([`Ledger::reserve`], [`Ledger::amend`], …) reads the state and yields a reply and, where something
//! changes, an entry, which has then been applied. The state is the sum of all entries ([`Ledger::apply`]), so a replay
//! of the stored stream gives the same state. Nobody may be answered before the entries are stored.
//!
//! Invariants: settled plus reserved money of a window exceeds its limit only when a bill came out above its bound; an
//! attempt ends once; a reservation has one open attempt.

mod grace;
mod snapshot;
mod state;

use std::{collections::HashMap, time::Duration};

use farebox_proto::v1::{self, ledger_entry::Entry};
use farebox_types::{CallId, ErrorKind, Fault, Money, Outcome, ReservationId, Timestamp};

use crate::budget::{Budget, Window};
pub(crate) use snapshot::newest;
pub(crate) use state::Retention;
use state::{Closed, Closings, Open, Requests, Spend};

/// Reservations, budget windows and the ends of calls.
pub(crate) struct Ledger {
    budgets: Vec<Budget>,
    open: HashMap<ReservationId, Open>,
    closed: Closings,
    requests: Requests,
    windows: HashMap<Window, Spend>,
}

/// An answer, and what must be stored before it may be sent.
#[derive(Debug, PartialEq)]
pub(crate) struct Decision<R> {
    pub(crate) reply: R,
    pub(crate) entry: Option<v1::LedgerEntry>,
}

impl<R> Decision<R> {
    fn unchanged(reply: R) -> Decision<R> {
        Decision { reply, entry: None }
    }
}

impl Ledger {
    pub(crate) fn new(budgets: Vec<Budget>, retention: Retention) -> Ledger {
        Ledger {
            budgets,
            open: HashMap::new(),
            closed: Closings::new(retention),
            requests: Requests::new(retention),
            windows: HashMap::new(),
        }
    }

    /// Covers the first attempt of a request, in all its budgets or in none. Idempotent by reservation id.
    pub(crate) fn reserve(
        &mut self,
        request: v1::ReserveRequest,
        lease: Duration,
        now: Timestamp,
    ) -> Decision<v1::ReserveReply> {
        use v1::reserve_reply::Result;
        let refuse =
            |fault: Fault| Decision::unchanged(v1::ReserveReply { result: Some(Result::Refused(fault.into())) });
        let Ok(id) = request.reservation_id.parse::<ReservationId>() else {
            return refuse(malformed("reservation_id"));
        };
        if self.open.contains_key(&id) {
            return Decision::unchanged(v1::ReserveReply { result: Some(Result::Granted(granted(lease, vec![]))) });
        }
        if let Some(closed) = self.closed.get(&id) {
            let existing = existing(id, Some(closed));
            return Decision::unchanged(v1::ReserveReply { result: Some(Result::Existing(existing)) });
        }
        match self.known_request(&request) {
            Ok(None) => {}
            Ok(Some(existing)) => {
                return Decision::unchanged(v1::ReserveReply { result: Some(Result::Existing(existing)) });
            }
            Err(fault) => return refuse(fault),
        }
        let Some(attempt) = &request.attempt else {
            return refuse(malformed("attempt"));
        };
        if attempt.call_id.parse::<CallId>().is_err() {
            return refuse(malformed("attempt.call_id"));
        }
        if now >= Timestamp(request.deadline_unix_ms) {
            return refuse(Fault::new(ErrorKind::DeadlineExceeded, "the deadline passed before the call was admitted"));
        }
        let bound = v1::Money::of(&attempt.bound);
        if let Err(fault) = within_max_cost(request.max_cost, Money::ZERO, bound) {
            return refuse(fault);
        }
        let windows = self.windows_of(&request, now);
        let left = match self.fits(&windows, bound, &[], Money::ZERO) {
            Ok(left) => left,
            Err(fault) => return refuse(fault),
        };
        let holds = windows.iter().map(|(window, _)| window.hold(bound)).collect();
        let entry = Entry::Reserved(v1::Reserved {
            request: Some(request),
            holds,
            at_unix_ms: now.millis(),
            ..Default::default()
        });
        let reply = v1::ReserveReply { result: Some(Result::Granted(granted(lease, left))) };
        Decision { reply, entry: Some(self.record(entry)) }
    }

    /// Ends the open attempt and covers the next one, in one step. Idempotent by the next call id. Where the next
    /// attempt does not fit, the attempt ends all the same and the reservation with it.
    pub(crate) fn amend(
        &mut self,
        request: v1::AmendRequest,
        lease: Duration,
        now: Timestamp,
    ) -> Decision<v1::AmendReply> {
        use v1::amend_reply::Result;
        let refuse = |fault: Fault| Decision::unchanged(v1::AmendReply { result: Some(Result::Refused(fault.into())) });
        let Ok(id) = request.reservation_id.parse::<ReservationId>() else {
            return refuse(malformed("reservation_id"));
        };
        let (Some(end), Some(next)) = (request.ended, request.next) else {
            return refuse(malformed("ended"));
        };
        let Some(open) = self.open.get(&id) else {
            let outcome = self.closed.get(&id).map_or(v1::Outcome::Unspecified, |closed| closed.outcome.into());
            let closed = v1::Closed { outcome: outcome.into() };
            return Decision::unchanged(v1::AmendReply { result: Some(Result::Closed(closed)) });
        };
        if open.attempt.call_id == next.call_id {
            return Decision::unchanged(v1::AmendReply { result: Some(Result::Granted(granted(lease, vec![]))) });
        }
        if open.attempt.call_id != end.call_id || next.call_id.parse::<CallId>().is_err() {
            return refuse(malformed("ended.call_id"));
        }
        let (cost, bound) = (v1::Money::of(&end.cost), v1::Money::of(&next.bound));
        let windows = self.windows_of(&open.request, now);
        let fits = within_max_cost(open.request.max_cost, open.spent + cost, bound)
            .and_then(|()| self.fits(&windows, bound, &open.holds, cost));
        let fact = open.fact(&end, now);
        match fits {
            Ok(left) => {
                let holds = windows.iter().map(|(window, _)| window.hold(bound)).collect();
                let entry = Entry::Amended(v1::Amended {
                    reservation_id: id.to_string(),
                    fact: Some(fact),
                    next: Some(next),
                    holds,
                    ..Default::default()
                });
                let reply = v1::AmendReply { result: Some(Result::Granted(granted(lease, left))) };
                Decision { reply, entry: Some(self.record(entry)) }
            }
            Err(fault) => {
                let entry = Entry::Ended(v1::Ended { reservation_id: id.to_string(), fact: Some(fact) });
                let reply = v1::AmendReply { result: Some(Result::Refused(fault.into())) };
                Decision { reply, entry: Some(self.record(entry)) }
            }
        }
    }

    /// Ends the open attempt and its reservation. The first end wins; the same end again is accepted again.
    pub(crate) fn settle(&mut self, request: v1::SettleRequest, now: Timestamp) -> Decision<v1::SettleReply> {
        use v1::settle_reply::Result;
        let closed = |outcome: v1::Outcome| v1::SettleReply {
            result: Some(Result::Closed(v1::Closed { outcome: outcome.into() })),
        };
        let fault = |field| v1::SettleReply { result: Some(Result::Error(malformed(field).into())) };
        let Ok(id) = request.reservation_id.parse::<ReservationId>() else {
            return Decision::unchanged(fault("reservation_id"));
        };
        let Some(end) = request.end else {
            return Decision::unchanged(fault("end"));
        };
        let Some(open) = self.open.get(&id) else {
            let reply = match self.closed.get(&id) {
                Some(c) if end.call_id.parse() == Ok(c.call_id) && v1::Outcome::from(c.outcome) == end.outcome() => {
                    v1::SettleReply { result: Some(Result::Settled(v1::Settled {})) }
                }
                Some(c) => closed(c.outcome.into()),
                None => closed(v1::Outcome::Unspecified),
            };
            return Decision::unchanged(reply);
        };
        if open.attempt.call_id != end.call_id {
            return Decision::unchanged(fault("end.call_id"));
        }
        if end.outcome().known().is_none() {
            return Decision::unchanged(fault("end.outcome"));
        }
        let fact = open.fact(&end, now);
        let entry = Entry::Ended(v1::Ended { reservation_id: id.to_string(), fact: Some(fact) });
        let reply = v1::SettleReply { result: Some(Result::Settled(v1::Settled {})) };
        Decision { reply, entry: Some(self.record(entry)) }
    }

    /// Gives back a reservation that nobody took. The caller of this knows that no worker has claimed it.
    pub(crate) fn release(&mut self, id: ReservationId) -> Decision<v1::ReleaseReply> {
        if !self.open.contains_key(&id) {
            return Decision::unchanged(v1::ReleaseReply { released: false, error: None });
        }
        let entry = Entry::Released(v1::Released { reservation_id: id.to_string() });
        let reply = v1::ReleaseReply { released: true, error: None };
        Decision { reply, entry: Some(self.record(entry)) }
    }

    /// Ends a reservation whose holder has fallen silent: its cost is the bound. The reply is what its caller is owed.
    pub(crate) fn lose(&mut self, id: ReservationId, now: Timestamp) -> Option<Decision<v1::ReserveRequest>> {
        let open = self.open.get(&id)?;
        let end = v1::AttemptEnd {
            call_id: open.attempt.call_id.clone(),
            outcome: v1::Outcome::Lost.into(),
            error_kind: v1::ErrorKind::Lost.into(),
            cost: open.attempt.bound,
            latency_ms: u64::try_from(now.millis() - open.started.millis()).unwrap_or_default(),
            ..Default::default()
        };
        let (fact, reply) = (open.fact(&end, now), open.request.clone());
        let entry = Entry::Ended(v1::Ended { reservation_id: id.to_string(), fact: Some(fact) });
        Some(Decision { reply, entry: Some(self.record(entry)) })
    }

    /// What is known of a request id.
    pub(crate) fn lookup(&self, project: &str, request_id: &str) -> Option<v1::Existing> {
        let known = self.requests.get(project, request_id)?;
        Some(existing(known.reservation, known.closed.as_ref()))
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

    pub(crate) fn status(&self) -> Vec<v1::BudgetStatus> {
        let limit = |name: &str| self.budgets.iter().find(|budget| budget.name == name).map(|b| b.limit);
        self.windows
            .iter()
            .map(|(window, spend)| v1::BudgetStatus {
                budget: window.budget.clone(),
                subject: window.subject.clone(),
                window: window.window.clone(),
                limit: limit(&window.budget).map(Into::into),
                settled: Some(spend.settled.into()),
                reserved: Some(spend.reserved.into()),
                ..Default::default()
            })
            .collect()
    }

    fn record(&mut self, entry: Entry) -> v1::LedgerEntry {
        let entry = v1::LedgerEntry { entry: Some(entry) };
        self.apply(&entry);
        entry
    }

    /// Adds one entry to the state: the only way in which it changes.
    pub(crate) fn apply(&mut self, entry: &v1::LedgerEntry) {
        match &entry.entry {
            Some(Entry::Reserved(reserved)) => self.apply_reserved(reserved),
            Some(Entry::Amended(amended)) => self.apply_amended(amended),
            Some(Entry::Ended(ended)) => self.apply_ended(ended),
            Some(Entry::Released(released)) => self.apply_released(released),
            Some(Entry::Alerted(_)) | None => {}
        }
    }

    fn apply_reserved(&mut self, reserved: &v1::Reserved) {
        let Some(open) = Open::from_reserved(reserved) else {
            return;
        };
        take_holds(&mut self.windows, &open.holds, open.started);
        self.requests.open(&open.request, open.id, open.started);
        self.open.insert(open.id, open);
    }

    fn apply_amended(&mut self, amended: &v1::Amended) {
        let Ok(id) = amended.reservation_id.parse::<ReservationId>() else {
            return;
        };
        let (Some(open), Some(next)) = (self.open.get_mut(&id), &amended.next) else {
            return;
        };
        let fact = amended.fact.as_ref();
        let cost = fact.map(|fact| v1::Money::of(&fact.cost)).unwrap_or_default();
        let at = fact.map(|fact| Timestamp(fact.ended_unix_ms)).unwrap_or_default();
        let before = std::mem::replace(&mut open.holds, amended.holds.clone());
        open.attempt = next.clone();
        open.attempts += 1;
        open.spent += cost;
        settle_holds(&mut self.windows, &before, cost, at);
        take_holds(&mut self.windows, &amended.holds, at);
    }

    fn apply_ended(&mut self, ended: &v1::Ended) {
        let Ok(id) = ended.reservation_id.parse::<ReservationId>() else {
            return;
        };
        let Some(fact) = &ended.fact else { return };
        // The ledger holds only call ids that were read as such when they were admitted.
        let Ok(call_id) = fact.call_id.parse() else { return };
        let Some(open) = self.open.remove(&id) else { return };
        let ended_at = Timestamp(fact.ended_unix_ms);
        settle_holds(&mut self.windows, &open.holds, v1::Money::of(&fact.cost), ended_at);
        let closed = Closed {
            call_id,
            outcome: fact.outcome().known().unwrap_or(Outcome::Error),
            error_kind: fact.error_kind().known(),
        };
        self.requests.close(&open.request, &id, &closed, ended_at);
        self.closed.insert(id, closed, ended_at);
        self.requests.forget_before(ended_at);
    }

    fn apply_released(&mut self, released: &v1::Released) {
        let Ok(id) = released.reservation_id.parse::<ReservationId>() else {
            return;
        };
        let Some(open) = self.open.remove(&id) else { return };
        settle_holds(&mut self.windows, &open.holds, Money::ZERO, open.started);
        self.requests.remove(&open.request, &id);
    }

    /// Whether the request id was used before: a conflict, something to attach to, or free.
    fn known_request(&self, request: &v1::ReserveRequest) -> Result<Option<v1::Existing>, Fault> {
        if request.body_digest.is_empty() {
            return Ok(None);
        }
        let project = request.principal.as_ref().map(|p| p.project.as_str()).unwrap_or_default();
        let Some(known) = self.requests.get(project, &request.request_id) else {
            return Ok(None);
        };
        if known.digest != request.body_digest {
            let message = format!(
                "request id `{}` was used before with another body: choose a new id for a new request",
                request.request_id
            );
            return Err(Fault::new(ErrorKind::Conflict, message));
        }
        // A job runs again after it failed in passing, or after its worker died: whether that run was billed cannot be
        // known.
        let again = request.job && known.closed.as_ref().is_some_and(Closed::may_run_again);
        Ok(if again { None } else { Some(existing(known.reservation, known.closed.as_ref())) })
    }

    fn windows_of(&self, request: &v1::ReserveRequest, now: Timestamp) -> Vec<(Window, Money)> {
        self.budgets.iter().filter_map(|b| Some((b.window(request, now)?, b.limit))).collect()
    }

    /// Whether `bound` fits into every window once `returning` is given back and `cost` is spent for it.
    fn fits(
        &self,
        windows: &[(Window, Money)],
        bound: Money,
        returning: &[v1::Hold],
        cost: Money,
    ) -> Result<Vec<v1::BudgetLeft>, Fault> {
        let mut lefts = Vec::with_capacity(windows.len());
        for (window, limit) in windows {
            let spend = self.windows.get(window).copied().unwrap_or_default();
            let returned = returning.iter().find(|hold| Window::from(*hold) == *window);
            let used = spend.settled
                + spend.reserved
                + returned.map(|hold| cost - v1::Money::of(&hold.amount)).unwrap_or_default();
            let left = *limit - used;
            if bound > left {
                return Err(over_budget(window, *limit, left, bound, spend.reserved));
            }
            lefts.push(v1::BudgetLeft {
                budget: window.budget.clone(),
                limit: Some((*limit).into()),
                left: Some((left - bound).into()),
            });
        }
        Ok(lefts)
    }
}

fn take_holds(windows: &mut HashMap<Window, Spend>, holds: &[v1::Hold], at: Timestamp) {
    for hold in holds {
        let spend = windows.entry(hold.into()).or_default();
        spend.reserved += v1::Money::of(&hold.amount);
        spend.touch(at);
    }
}

fn settle_holds(windows: &mut HashMap<Window, Spend>, holds: &[v1::Hold], cost: Money, at: Timestamp) {
    for hold in holds {
        let spend = windows.entry(hold.into()).or_default();
        spend.reserved -= v1::Money::of(&hold.amount);
        spend.settled += cost;
        spend.touch(at);
    }
}

fn granted(lease: Duration, budgets: Vec<v1::BudgetLeft>) -> v1::Granted {
    v1::Granted { lease_ms: u64::try_from(lease.as_millis()).unwrap_or(u64::MAX), budgets, ..Default::default() }
}

fn existing(id: ReservationId, closed: Option<&Closed>) -> v1::Existing {
    v1::Existing {
        reservation_id: id.to_string(),
        open: closed.is_none(),
        outcome: closed.map_or(v1::Outcome::Unspecified, |c| c.outcome.into()).into(),
        error_kind: closed.and_then(|c| c.error_kind).map_or(v1::ErrorKind::Unspecified, v1::ErrorKind::from).into(),
    }
}

fn within_max_cost(max: Option<v1::Money>, spent: Money, bound: Money) -> Result<(), Fault> {
    let Some(max) = max.map(Money::from) else {
        return Ok(());
    };
    if spent + bound <= max {
        return Ok(());
    }
    let message = format!(
        "this request may cost up to ${bound} (after ${spent} already spent on it), more than its max_cost of ${max}: \
         raise max_cost or lower max_tokens"
    );
    Err(Fault::new(ErrorKind::OverBudget, message))
}

fn over_budget(window: &Window, limit: Money, left: Money, bound: Money, reserved: Money) -> Fault {
    let of = if window.subject.is_empty() { String::new() } else { format!(" of `{}`", window.subject) };
    let message = format!(
        "budget `{}`{of} has ${left} left of ${limit} (${reserved} reserved by running calls), this call may cost up to \
         ${bound}: lower max_tokens, wait for running calls to end, or raise the budget",
        window.budget
    );
    Fault::new(ErrorKind::OverBudget, message)
}

fn malformed(field: &str) -> Fault {
    Fault::new(ErrorKind::Internal, format!("field `{field}` of a message to the guard is missing or malformed"))
}

#[cfg(test)]
mod tests;
