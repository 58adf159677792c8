//! Decisions: what is asked, held against state and rules.

use farebox_proto::v1::{self, ledger_entry::Entry};
use farebox_types::{CallId, ErrorKind, Fault, ReservationId, Timestamp};

use super::{
    Decision, Ledger, Wait,
    cover::{Asker, Before, Cover, Uncovered},
    existing,
    state::{Closed, Open},
};
use crate::rules::Rules;

/// What comes of a call that asks to be admitted.
pub(crate) enum Admission {
    Decided(Decision<v1::ReserveReply>),
    /// It may fit once others have ended: it is asked again then, or without leave to wait.
    Wait(Box<v1::ReserveRequest>, Wait),
}

impl Ledger {
    /// Covers one attempt of a request, in all its budgets and limits or in none. Idempotent by reservation id.
    pub(crate) fn reserve(
        &mut self,
        request: v1::ReserveRequest,
        rules: &Rules,
        now: Timestamp,
        may_wait: bool,
    ) -> Admission {
        if let Some(result) = self.known(&request, now) {
            return Admission::Decided(Decision::unchanged(v1::ReserveReply { result: Some(result) }));
        }
        let asker = Asker { request: &request, admitted: now, now, before: None };
        let attempts: Vec<&v1::Attempt> = request.attempt.iter().chain(&request.alternatives).collect();
        match self.cover(rules, &asker, &attempts, may_wait) {
            Err(Uncovered::Wait(wait)) => Admission::Wait(Box::new(request), wait),
            Err(Uncovered::Refused(refusal)) => {
                let entries = self.alert_of_refusal(rules, &request, now, &refusal.spent, now);
                let result = Some(v1::reserve_reply::Result::Refused(refusal.error));
                Admission::Decided(Decision { reply: v1::ReserveReply { result }, entries })
            }
            Ok(cover) => {
                let mut granted = self.granted(&cover);
                let request = v1::ReserveRequest { attempt: Some(cover.attempt), alternatives: Vec::new(), ..request };
                let reserved = v1::Reserved {
                    request: Some(request),
                    holds: cover.holds,
                    at_unix_ms: now.millis(),
                    limit_holds: cover.limit_holds,
                };
                let entries = vec![self.record(Entry::Reserved(reserved))];
                granted.limits = self.meters.left(&cover.told_limits, now);
                let result = Some(v1::reserve_reply::Result::Granted(granted));
                Admission::Decided(Decision { reply: v1::ReserveReply { result }, entries })
            }
        }
    }

    /// Ends the open attempt and covers the next one, in one step. Idempotent by the next call id. Where no next attempt
    /// fits now, nothing has changed: who holds the call answers its caller and ends it then, as any other. Nothing waits
    /// here: the answer has begun to be late.
    pub(crate) fn amend(
        &mut self,
        request: v1::AmendRequest,
        rules: &Rules,
        now: Timestamp,
    ) -> Decision<v1::AmendReply> {
        use v1::amend_reply::Result;
        let refuse = |fault: Fault| Decision::unchanged(v1::AmendReply { result: Some(Result::Refused(fault.into())) });
        let Ok(id) = request.reservation_id.parse::<ReservationId>() else {
            return refuse(malformed("reservation_id"));
        };
        let (Some(end), Some(next)) = (&request.ended, &request.next) else {
            return refuse(malformed("ended"));
        };
        let Some(open) = self.open.get(&id) else {
            let outcome = self.closed.get(&id).map_or(v1::Outcome::Unspecified, |closed| closed.outcome.into());
            let closed = v1::Closed { outcome: outcome.into() };
            return Decision::unchanged(v1::AmendReply { result: Some(Result::Closed(closed)) });
        };
        let attempts: Vec<&v1::Attempt> = [next].into_iter().chain(&request.alternatives).collect();
        if attempts.iter().any(|attempt| attempt.call_id == open.attempt.call_id) {
            let granted = self.granted_before(open, &attempts);
            return Decision::unchanged(v1::AmendReply { result: Some(Result::Granted(granted)) });
        }
        let valid = |attempt: &&v1::Attempt| attempt.call_id.parse::<CallId>().is_ok();
        if open.attempt.call_id != end.call_id || !attempts.iter().all(valid) {
            return refuse(malformed("ended.call_id"));
        }
        self.end_and_cover(id, end, &attempts, rules, now)
    }

    fn end_and_cover(
        &mut self,
        id: ReservationId,
        end: &v1::AttemptEnd,
        attempts: &[&v1::Attempt],
        rules: &Rules,
        now: Timestamp,
    ) -> Decision<v1::AmendReply> {
        use v1::amend_reply::Result;
        let open = self.open.get(&id).expect("amend found it");
        let (fact, holds) = (open.fact(end, now), open.holds.clone());
        let before = Before { open, fact: &fact };
        let asker = Asker { request: &open.request, admitted: open.started, now, before: Some(before) };
        let (result, entries) = match self.cover(rules, &asker, attempts, false) {
            Ok(cover) => {
                let mut granted = self.granted(&cover);
                let amended = v1::Amended {
                    reservation_id: id.to_string(),
                    fact: Some(fact.clone()),
                    next: Some(cover.attempt),
                    holds: cover.holds,
                    limit_holds: cover.limit_holds,
                };
                let mut entries = vec![self.record(Entry::Amended(amended))];
                entries.extend(self.alert_of_end(rules, &fact, &holds, now));
                granted.limits = self.meters.left(&cover.told_limits, now);
                (Result::Granted(granted), entries)
            }
            Err(Uncovered::Refused(refusal)) => {
                let (request, admitted) = (open.request.clone(), open.started);
                let entries = self.alert_of_refusal(rules, &request, admitted, &refusal.spent, now);
                (Result::Refused(refusal.error), entries)
            }
            Err(Uncovered::Wait(_)) => unreachable!("it had no leave to wait"),
        };
        Decision { reply: v1::AmendReply { result: Some(result) }, entries }
    }

    /// Ends the open attempt and its reservation. The first end wins; the same end again is accepted again.
    pub(crate) fn settle(
        &mut self,
        request: v1::SettleRequest,
        rules: &Rules,
        now: Timestamp,
    ) -> Decision<v1::SettleReply> {
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
                Some(c) if c.is_of(&end) => v1::SettleReply { result: Some(Result::Settled(v1::Settled {})) },
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
        let entries = self.end(id, fact, rules, now);
        Decision { reply: v1::SettleReply { result: Some(Result::Settled(v1::Settled {})) }, entries }
    }

    /// Gives back a reservation that nobody took. The caller of this knows that no worker has claimed it.
    pub(crate) fn release(&mut self, id: ReservationId) -> Decision<v1::ReleaseReply> {
        if !self.open.contains_key(&id) {
            return Decision::unchanged(v1::ReleaseReply { released: false, error: None });
        }
        let entry = Entry::Released(v1::Released { reservation_id: id.to_string() });
        let reply = v1::ReleaseReply { released: true, error: None };
        Decision { reply, entries: vec![self.record(entry)] }
    }

    /// Ends a reservation whose holder has fallen silent: its cost is the bound. The reply is what its caller is owed.
    pub(crate) fn lose(
        &mut self,
        id: ReservationId,
        rules: &Rules,
        now: Timestamp,
    ) -> Option<Decision<(v1::ReserveRequest, v1::CallFact)>> {
        let open = self.open.get(&id)?;
        let end = v1::AttemptEnd {
            call_id: open.attempt.call_id.clone(),
            outcome: v1::Outcome::Lost.into(),
            error_kind: v1::ErrorKind::Lost.into(),
            cost: open.attempt.bound,
            latency_ms: u64::try_from(now.millis() - open.started.millis()).unwrap_or_default(),
            ..Default::default()
        };
        let reply = (open.request.clone(), open.fact(&end, now));
        let entries = self.end(id, reply.1.clone(), rules, now);
        Some(Decision { reply, entries })
    }

    fn end(&mut self, id: ReservationId, fact: v1::CallFact, rules: &Rules, now: Timestamp) -> Vec<v1::LedgerEntry> {
        let holds = self.end_attempt(&id, &fact);
        self.close(&id, &fact);
        let alerts = self.alert_of_end(rules, &fact, &holds, now);
        let ended = v1::Ended { reservation_id: id.to_string(), fact: Some(fact) };
        [entry(Entry::Ended(ended))].into_iter().chain(alerts).collect()
    }

    /// What is answered without looking at budgets: a repeated request, one whose id is known, one that makes no sense.
    fn known(&self, request: &v1::ReserveRequest, now: Timestamp) -> Option<v1::reserve_reply::Result> {
        use v1::reserve_reply::Result;
        let refuse = |fault: Fault| Some(Result::Refused(fault.into()));
        let Ok(id) = request.reservation_id.parse::<ReservationId>() else {
            return refuse(malformed("reservation_id"));
        };
        let attempts: Vec<&v1::Attempt> = request.attempt.iter().chain(&request.alternatives).collect();
        if let Some(open) = self.open.get(&id) {
            return Some(Result::Granted(self.granted_before(open, &attempts)));
        }
        if let Some(closed) = self.closed.get(&id) {
            return Some(Result::Existing(existing(id, Some(closed))));
        }
        match self.known_request(request) {
            Ok(None) => {}
            Ok(Some(existing)) => return Some(Result::Existing(existing)),
            Err(fault) => return refuse(fault),
        }
        if request.attempt.is_none() {
            return refuse(malformed("attempt"));
        }
        if attempts.iter().any(|attempt| attempt.call_id.parse::<CallId>().is_err()) {
            return refuse(malformed("attempt.call_id"));
        }
        if now >= Timestamp(request.deadline_unix_ms) {
            return refuse(Fault::new(ErrorKind::DeadlineExceeded, "the deadline passed before the call was admitted"));
        }
        None
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

    fn granted(&self, cover: &Cover) -> v1::Granted {
        v1::Granted {
            lease_ms: u64::try_from(self.terms.lease.as_millis()).unwrap_or(u64::MAX),
            budgets: cover.left.clone(),
            call_id: cover.attempt.call_id.clone(),
            bound: cover.attempt.bound,
            clamped_max_tokens: cover.clamped,
            warnings: cover.warnings.clone(),
            limits: Vec::new(),
        }
    }

    /// What was granted to an open attempt, told again to who asked for one of these.
    fn granted_before(&self, open: &Open, asked: &[&v1::Attempt]) -> v1::Granted {
        let max_tokens = |attempt: &v1::Attempt| attempt.output.as_ref().map(|output| output.max_tokens);
        let granted = max_tokens(&open.attempt);
        let asked = asked.iter().find(|attempt| attempt.call_id == open.attempt.call_id);
        let clamped = asked.is_some_and(|asked| max_tokens(asked) != granted);
        v1::Granted {
            lease_ms: u64::try_from(self.terms.lease.as_millis()).unwrap_or(u64::MAX),
            call_id: open.attempt.call_id.clone(),
            bound: open.attempt.bound,
            clamped_max_tokens: granted.filter(|_| clamped).unwrap_or_default(),
            ..Default::default()
        }
    }
}

fn entry(entry: Entry) -> v1::LedgerEntry {
    v1::LedgerEntry { entry: Some(entry) }
}

fn malformed(field: &str) -> Fault {
    Fault::new(ErrorKind::Internal, format!("field `{field}` of a message to the guard is missing or malformed"))
}
