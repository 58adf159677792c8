//! The records that the ledger's state is made of.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use farebox_proto::v1;
use farebox_types::{CallId, Disposition, ErrorKind, Money, Outcome, ReservationId, Timestamp};

/// A reservation whose attempt has not ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Open {
    pub(crate) id: ReservationId,
    pub(crate) request: v1::ReserveRequest,
    /// The attempt that is covered now.
    pub(crate) attempt: v1::Attempt,
    pub(crate) holds: Vec<v1::Hold>,
    pub(crate) limit_holds: Vec<v1::LimitHold>,
    /// When it took them.
    pub(crate) attempt_began: Timestamp,
    pub(crate) attempts: u32,
    /// Cost of the attempts before this one.
    pub(crate) spent: Money,
    pub(crate) started: Timestamp,
}

impl Open {
    pub(crate) fn from_reserved(reserved: &v1::Reserved) -> Option<Open> {
        let mut request = reserved.request.clone()?;
        Some(Open {
            id: request.reservation_id.parse().ok()?,
            attempt: request.attempt.take()?,
            request,
            holds: reserved.holds.clone(),
            limit_holds: reserved.limit_holds.clone(),
            attempt_began: Timestamp(reserved.at_unix_ms),
            attempts: 1,
            spent: Money::ZERO,
            started: Timestamp(reserved.at_unix_ms),
        })
    }

    /// The fact of the open attempt, ended by `end`.
    pub(crate) fn fact(&self, end: &v1::AttemptEnd, now: Timestamp) -> v1::CallFact {
        let (request, attempt) = (&self.request, &self.attempt);
        v1::CallFact {
            call_id: attempt.call_id.clone(),
            request_id: request.request_id.clone(),
            reservation_id: request.reservation_id.clone(),
            attempt: self.attempts,
            principal: request.principal.clone(),
            labels: request.labels.clone(),
            model: attempt.model.clone(),
            provider: attempt.provider.clone(),
            upstream_model: attempt.upstream_model.clone(),
            served_model: end.served_model.clone(),
            outcome: end.outcome,
            error_kind: end.error_kind,
            usage: end.usage,
            cost: Some(end.cost.unwrap_or_default()),
            bound: attempt.bound,
            estimated: end.estimated,
            price_version: attempt.price_version.clone(),
            started_unix_ms: self.started.millis(),
            ended_unix_ms: now.millis(),
            latency_ms: end.latency_ms,
            first_token_ms: end.first_token_ms,
            stream: request.stream,
            cached: false,
            job: request.job,
            finish_reason: end.finish_reason.clone(),
            trace_id: request.trace_id.clone(),
            service_tier: end.service_tier.clone(),
            cost_reported: end.cost_reported,
        }
    }
}

/// How a reservation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) call_id: CallId,
    pub(crate) outcome: Outcome,
    pub(crate) error_kind: Option<ErrorKind>,
}

impl Closed {
    /// Whether it ended by this.
    pub(crate) fn is_of(&self, end: &v1::AttemptEnd) -> bool {
        end.call_id.parse() == Ok(self.call_id) && v1::Outcome::from(self.outcome) == end.outcome()
    }

    /// Whether a job that ended so is worth another run.
    pub(crate) fn may_run_again(&self) -> bool {
        self.error_kind.is_some_and(|kind| kind.disposition() == Disposition::Nak)
    }
}

/// How long ends are remembered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Retention {
    /// Ended reservations, for repeats of the same message.
    pub(crate) reservations: Duration,
    pub(crate) reservations_max: usize,
    /// Request ids that callers chose.
    pub(crate) requests: Duration,
    pub(crate) requests_max: usize,
}

/// Ended reservations, the newest of them.
#[derive(Debug, PartialEq)]
pub(crate) struct Closings {
    retention: Retention,
    by_id: HashMap<ReservationId, Closed>,
    order: VecDeque<(Timestamp, ReservationId)>,
}

impl Closings {
    pub(crate) fn new(retention: Retention) -> Closings {
        Closings { retention, by_id: HashMap::new(), order: VecDeque::new() }
    }

    pub(crate) fn get(&self, id: &ReservationId) -> Option<&Closed> {
        self.by_id.get(id)
    }

    pub(crate) fn insert(&mut self, id: ReservationId, closed: Closed, at: Timestamp) {
        self.by_id.insert(id, closed);
        self.order.push_back((at, id));
        while let Some((ended, oldest)) = self.order.front().copied() {
            let fresh = ended.after(self.retention.reservations) > at;
            if fresh && self.order.len() <= self.retention.reservations_max {
                break;
            }
            self.order.pop_front();
            self.by_id.remove(&oldest);
        }
    }

    pub(super) fn to_messages(&self) -> impl Iterator<Item = v1::EndedReservation> {
        self.order.iter().filter_map(|(at, id)| {
            let closed = self.by_id.get(id)?;
            Some(v1::EndedReservation { ended_unix_ms: at.millis(), ..closed.to_message(*id) })
        })
    }

    pub(super) fn restore(&mut self, message: &v1::EndedReservation) {
        if let (Ok(id), Some(closed)) = (message.reservation_id.parse(), Closed::from_message(message)) {
            self.insert(id, closed, Timestamp(message.ended_unix_ms));
        }
    }
}

/// A request id that a caller chose.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) reservation: ReservationId,
    pub(crate) digest: prost::bytes::Bytes,
    pub(crate) admitted: Timestamp,
    pub(crate) closed: Option<Closed>,
}

/// Request ids by project: those that callers chose, which come with a digest, and those that farebox made, while they
/// run.
pub(crate) struct Requests {
    retention: Retention,
    by_id: HashMap<(String, String), Known>,
    made_here: HashMap<(String, String), ReservationId>,
    /// Those that have ended, in this order. Where the id was used again since, this names another reservation than
    /// `by_id` and says nothing any more.
    order: VecDeque<(Timestamp, ReservationId, (String, String))>,
}

impl Requests {
    pub(crate) fn new(retention: Retention) -> Requests {
        Requests { retention, by_id: HashMap::new(), made_here: HashMap::new(), order: VecDeque::new() }
    }

    pub(crate) fn get(&self, project: &str, request_id: &str) -> Option<&Known> {
        self.by_id.get(&(project.to_owned(), request_id.to_owned()))
    }

    /// What runs for an id that farebox made.
    pub(crate) fn made_here(&self, project: &str, request_id: &str) -> Option<ReservationId> {
        self.made_here.get(&(project.to_owned(), request_id.to_owned())).copied()
    }

    pub(crate) fn open(&mut self, request: &v1::ReserveRequest, reservation: ReservationId, at: Timestamp) {
        if request.body_digest.is_empty() {
            self.made_here.insert(key(request), reservation);
            return;
        }
        let known = Known {
            reservation,
            // A copy: the field itself keeps the whole message in memory.
            digest: prost::bytes::Bytes::copy_from_slice(&request.body_digest),
            admitted: at,
            closed: None,
        };
        self.by_id.insert(key(request), known);
    }

    pub(crate) fn close(&mut self, request: &v1::ReserveRequest, id: &ReservationId, closed: &Closed, at: Timestamp) {
        if request.body_digest.is_empty() {
            return self.remove(request, id);
        }
        let key = key(request);
        if let Some(known) = self.by_id.get_mut(&key)
            && known.reservation == *id
        {
            known.closed = Some(closed.clone());
            self.order.push_back((at, *id, key));
        }
    }

    pub(super) fn to_messages(&self) -> impl Iterator<Item = v1::KnownRequest> {
        let ended = self.order.iter().filter_map(|(at, id, key)| {
            let known = self.by_id.get(key).filter(|known| known.reservation == *id)?;
            Some(v1::KnownRequest { ended_unix_ms: at.millis(), ..known.to_message(key) })
        });
        let open = self.by_id.iter().filter(|(_, known)| known.closed.is_none());
        ended.chain(open.map(|(key, known)| known.to_message(key)))
    }

    pub(super) fn restore(&mut self, message: v1::KnownRequest) {
        let Some(known) = Known::from_message(&message) else { return };
        let key = (message.project, message.request_id);
        if known.closed.is_some() {
            let ended = Timestamp(message.ended_unix_ms).max(known.admitted);
            self.order.push_back((ended, known.reservation, key.clone()));
        }
        self.by_id.insert(key, known);
    }

    pub(crate) fn remove(&mut self, request: &v1::ReserveRequest, id: &ReservationId) {
        let key = key(request);
        if self.by_id.get(&key).is_some_and(|known| known.reservation == *id) {
            self.by_id.remove(&key);
        }
        if self.made_here.get(&key) == Some(id) {
            self.made_here.remove(&key);
        }
    }

    /// Forgets what ended longer ago than the retention at `now`, and the oldest of what is too much. What runs stays.
    pub(crate) fn forget_before(&mut self, now: Timestamp) {
        while let Some((ended, id, key)) = self.order.front() {
            if ended.after(self.retention.requests) > now && self.order.len() <= self.retention.requests_max {
                break;
            }
            if self.by_id.get(key).is_some_and(|known| known.reservation == *id) {
                self.by_id.remove(key);
            }
            self.order.pop_front();
        }
    }
}

fn key(request: &v1::ReserveRequest) -> (String, String) {
    let project = request.principal.as_ref().map(|p| p.project.clone()).unwrap_or_default();
    (project, request.request_id.clone())
}
