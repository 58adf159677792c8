//! Reservations while no guard leads, by leave of the call's budgets.
//!
//! Guarantees: nothing is reserved here while a guard leads; what is reserved is stored before a worker hears of it, and a
//! guard that leads later takes it over; where a budget allows an amount, all intakes together reserve no more than that
//! for each of its subjects until then.
//!
//! Not here: limits, which only a guard can count, and requests whose ids their callers chose: that such a one is not paid
//! twice only the ledger can tell.

use std::sync::{Arc, Mutex as Lock, PoisonError};

use farebox_bus::{Bus, Fence, Headers, StoreError, StreamError, topology};
use farebox_directory::Directory;
use farebox_policy::{CallScope, Unreachable};
use farebox_proto::{
    subjects::{self, SHARD},
    v1::{self, grace_entry::Entry},
};
use farebox_types::{CallId, Clock, ErrorKind, Fault, Money, ReservationId, Timestamp};
use prost::Message;
use tokio::{sync::Mutex, time::Instant};

use crate::options::{Options, WithoutGuard};

/// What the answer of such a call says.
pub(crate) const WARNING: &str = "no guard could be reached: this call was admitted because its budgets allow that";

/// Reserves without a guard.
pub(crate) struct Grace {
    bus: Bus,
    clock: Arc<dyn Clock>,
    directory: Directory,
    options: Options,
    /// Since when no guard has answered; and whether that has been said.
    away: Lock<Option<(Instant, bool)>>,
    /// The newest entry that this intake knows. One of its calls writes at a time.
    newest: Mutex<Option<Newest>>,
}

/// What the next entry follows.
#[derive(Clone, Default)]
struct Newest {
    sequence: u64,
    totals: Vec<v1::Hold>,
}

/// What became of an entry.
enum Written {
    Stored,
    /// A guard leads: nothing is reserved here.
    AGuardLeads,
    Not(Fault),
    /// It may be stored.
    Unclear(Fault),
}

/// What a call's budgets say to going on without a guard.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Leave {
    at: Timestamp,
    /// What is set aside for it, and is its cost if it is lost.
    bound: Money,
    holds: Vec<v1::Hold>,
    /// Of the budgets that allow an amount: what this call takes of it, for all windows together, and the most.
    counted: Vec<(v1::Hold, Money)>,
}

/// A call that was reserved without a guard, under ids of its own: the guard may yet find the question it never answered.
pub(crate) struct Graced {
    pub(crate) reservation: ReservationId,
    pub(crate) call: CallId,
    pub(crate) bound: Money,
}

impl Grace {
    pub(crate) fn new(bus: Bus, clock: Arc<dyn Clock>, directory: Directory, options: Options) -> Grace {
        Grace { bus, clock, directory, options, away: Lock::new(None), newest: Mutex::new(None) }
    }

    /// The guard has answered.
    pub(crate) fn heard(&self) {
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The guard has not answered what it was asked then.
    pub(crate) fn unheard(&self, asked: Instant) {
        self.away.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((asked, false));
    }

    /// Whether no guard has answered for long enough to go on without one where that is allowed.
    pub(crate) fn is_due(&self) -> bool {
        let away = *self.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.is_some_and(|(since, _)| since.elapsed() >= self.options.grace_after.get())
    }

    /// Leave to go on without a guard, where all budgets of the call give it.
    pub(crate) fn leave(&self, ask: &v1::ReserveRequest) -> Option<Leave> {
        if ask.job || !ask.body_digest.is_empty() {
            return None;
        }
        let attempt = ask.attempt.as_ref()?;
        if ask.max_cost.is_some() && v1::Money::of(&ask.max_cost) < v1::Money::of(&attempt.bound) {
            return None;
        }
        let call = CallScope {
            principal: ask.principal.as_ref()?,
            labels: ask.labels.as_ref()?,
            model: &attempt.model,
            provider: &attempt.provider,
            upstream_model: &attempt.upstream_model,
        };
        let policies = self.directory.newest();
        let at = self.clock.now();
        let budgets = policies.budgets_for(&call, at);
        if budgets.is_empty() && self.options.without_guard == WithoutGuard::Closed {
            return None;
        }
        // It has one cost, which may be lost in all budgets: none sets aside less than another.
        let mut bound = v1::Money::of(&attempt.bound);
        for (budget, _) in &budgets {
            bound = bound.max(budget.sets_aside(bound, attempt.unbounded.is_empty())?);
        }
        let mut leave = Leave { at, bound, holds: Vec::new(), counted: Vec::new() };
        for (budget, window) in budgets {
            let hold = window.hold(bound);
            match budget.unreachable {
                Unreachable::Closed => return None,
                Unreachable::Open => {}
                Unreachable::Grace(most) => {
                    leave.counted.push((v1::Hold { window: String::new(), ..hold.clone() }, most));
                }
            }
            leave.holds.push(hold);
        }
        Some(leave)
    }

    /// Stores a reservation of the same call under new ids. None: a guard leads and is to be asked.
    pub(crate) async fn reserve(&self, ask: &v1::ReserveRequest, leave: &Leave) -> Result<Option<Graced>, Fault> {
        let (reservation, call) = (ReservationId::generate(), CallId::generate());
        let mut request = ask.clone();
        request.reservation_id = reservation.to_string();
        request.alternatives.clear();
        if let Some(attempt) = &mut request.attempt {
            attempt.call_id = call.to_string();
            attempt.bound = Some(leave.bound.into());
        }
        let reserved = v1::Reserved {
            request: Some(request),
            holds: leave.holds.clone(),
            at_unix_ms: leave.at.millis(),
            limit_holds: Vec::new(),
        };
        let written = self.write(Entry::Reserved(reserved), |totals| with(totals, leave)).await;
        match written {
            Written::Stored => {
                self.say_once();
                Ok(Some(Graced { reservation, call, bound: leave.bound }))
            }
            Written::AGuardLeads => Ok(None),
            Written::Not(fault) => Err(fault),
            Written::Unclear(fault) => {
                self.release(reservation).await;
                Err(fault)
            }
        }
    }

    /// Gives back what no worker took. There is no more room for others then: the totals may have begun anew since.
    pub(crate) async fn release(&self, reservation: ReservationId) {
        let released = v1::Released { reservation_id: reservation.to_string() };
        let written = self.write(Entry::Released(released), |totals| Ok(totals.to_vec())).await;
        if let Written::Not(fault) | Written::Unclear(fault) = written {
            tracing::warn!(%reservation, error = fault.message, "a reservation without a guard was not given back");
        }
    }

    /// Writes an entry behind the newest one, whose totals `next` carries on.
    async fn write(&self, entry: Entry, next: impl Fn(&[v1::Hold]) -> Result<Vec<v1::Hold>, Fault>) -> Written {
        let subject = subjects::grace(SHARD);
        let mut known = self.newest.lock().await;
        for _ in 0..self.options.grace_tries {
            // In this order: what a guard takes over from now on is no longer the newest when this is written.
            let newest = match known.take() {
                Some(newest) => Ok(newest),
                None => self.read_newest().await,
            };
            let newest = match newest {
                Ok(newest) => newest,
                Err(error) => return Written::Not(unwritten(&error)),
            };
            if matches!(entry, Entry::Reserved(_)) {
                match self.a_guard_leads().await {
                    Ok(false) => {}
                    Ok(true) => return Written::AGuardLeads,
                    Err(error) => return Written::Not(unwritten(&error)),
                }
            }
            let totals = match next(&newest.totals) {
                Ok(totals) => totals,
                Err(fault) => {
                    *known = Some(newest);
                    return Written::Not(fault);
                }
            };
            let message = v1::GraceEntry { entry: Some(entry.clone()), totals: totals.clone() };
            let fence = Fence::after_subject_seq(newest.sequence);
            let within = self.options.store_timeout.get();
            match self.bus.store(&subject, Headers::new(), fence, message.encode_to_vec().into(), within).await {
                Ok(stored) => {
                    *known = Some(Newest { sequence: stored.sequence, totals });
                    return Written::Stored;
                }
                // Another intake was first, or a guard has taken over what was there.
                Err(StoreError::WrongLastSequence { .. }) => {}
                Err(error) if error.is_unclear() => return Written::Unclear(unwritten(&error)),
                Err(error) => return Written::Not(unwritten(&error)),
            }
        }
        Written::Not(unwritten(&"other intakes were always first"))
    }

    async fn read_newest(&self) -> Result<Newest, StreamError> {
        let newest = self.bus.last_by_subject(topology::GRACE, &subjects::grace(SHARD)).await?;
        Ok(newest.map_or_else(Newest::default, |message| Newest {
            sequence: message.sequence,
            totals: v1::GraceEntry::decode(message.payload).map(|entry| entry.totals).unwrap_or_default(),
        }))
    }

    async fn a_guard_leads(&self) -> Result<bool, StreamError> {
        Ok(!self.bus.bucket(topology::LEASES).is_free(&topology::guard_lease(SHARD)).await?)
    }

    fn say_once(&self) {
        if let Some((_, said)) = &mut *self.away.lock().unwrap_or_else(PoisonError::into_inner)
            && !std::mem::replace(said, true)
        {
            tracing::warn!("no guard leads: calls go on without one where all their budgets allow it");
        }
    }
}

/// The totals with what a call takes, where that is allowed.
fn with(totals: &[v1::Hold], leave: &Leave) -> Result<Vec<v1::Hold>, Fault> {
    let mut totals = totals.to_vec();
    for (hold, most) in &leave.counted {
        let same = |total: &&mut v1::Hold| (&total.budget, &total.subject) == (&hold.budget, &hold.subject);
        let total = match totals.iter_mut().find(same) {
            Some(total) => {
                let sum = v1::Money::of(&total.amount) + v1::Money::of(&hold.amount);
                total.amount = Some(sum.into());
                sum
            }
            None => {
                totals.push(hold.clone());
                v1::Money::of(&hold.amount)
            }
        };
        if total > *most {
            return Err(spent());
        }
    }
    Ok(totals)
}

/// No name and no amount: the budget may be others' as well.
fn spent() -> Fault {
    let message = "no guard answers, and what a budget of this call allows without one is used up: try again later, or start \
                   `farebox guard`";
    Fault::new(ErrorKind::Unavailable, message).retry_after(std::time::Duration::from_secs(2))
}

fn unwritten(reason: &dyn std::fmt::Display) -> Fault {
    let message = format!(
        "no guard answers, and what its budgets allow without one cannot be written now ({reason}): try again later"
    );
    Fault::new(ErrorKind::Unavailable, message).retry_after(std::time::Duration::from_secs(2))
}
