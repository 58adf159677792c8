//! The ledger's state as messages, so that a restart need not replay everything and the stream can be trimmed.
//!
//! Ended reservations are in it for as long as they are remembered: whoever repeats a message, a `reserve` above all, may
//! reach the next guard with it, and must not get another reservation for the same call.

use std::{cmp::Reverse, time::Duration};

use farebox_proto::v1;
use farebox_types::{ReservationId, Timestamp};
use prost::Message;

use super::{
    Ledger,
    state::{Closed, Known, Open},
};
use crate::rules::Rules;

impl Ledger {
    /// The state, in parts of about `part_bytes`. `id` is used for no other snapshot.
    pub(crate) fn snapshot(&self, id: &str, through_sequence: u64, part_bytes: usize) -> Vec<v1::SnapshotPart> {
        let mut parts = Parts { part_bytes, bytes: 0, done: Vec::new(), filling: v1::SnapshotPart::default() };
        for open in self.open.values() {
            let open = open.to_message();
            parts.add(open.encoded_len(), |part| part.open.push(open));
        }
        for (budget, subject, window, spend) in self.windows.iter() {
            let spent = v1::SpentWindow {
                budget: budget.to_owned(),
                subject: subject.to_owned(),
                window: window.to_owned(),
                settled: Some(spend.settled.into()),
                last_unix_ms: spend.last.millis(),
                announced_permille: spend.announced.clone(),
            };
            parts.add(spent.encoded_len(), |part| part.spent.push(spent));
        }
        for (limit, subject, meter) in self.meters.iter() {
            let state = meter.state(limit, subject);
            parts.add(state.encoded_len(), |part| part.limits.push(state));
        }
        for day in self.books.to_messages() {
            parts.add(day.encoded_len(), |part| part.books.push(day));
        }
        for known in self.requests.to_messages() {
            parts.add(known.encoded_len(), |part| part.requests.push(known));
        }
        for ended in self.closed.to_messages() {
            parts.add(ended.encoded_len(), |part| part.ended.push(ended));
        }
        parts.finish(id, through_sequence)
    }

    /// Takes over the state of all parts of a snapshot.
    pub(crate) fn restore(&mut self, parts: Vec<v1::SnapshotPart>) {
        for part in parts {
            for spent in part.spent {
                let spend = self.windows.spend_mut(&spent.budget, &spent.subject, &spent.window);
                spend.settled += v1::Money::of(&spent.settled);
                spend.last = spend.last.max(Timestamp(spent.last_unix_ms));
                spend.announced = spent.announced_permille;
            }
            for open in part.open.iter().filter_map(Open::from_message) {
                // What it took of limits is in their states.
                open.holds.iter().for_each(|hold| self.windows.hold(hold, Timestamp::default()));
                self.requests.open(&open.request, open.id, open.started);
                self.open.insert(open.id, open);
            }
            part.limits.iter().for_each(|state| self.meters.restore(state));
            part.books.iter().for_each(|day| self.books.restore(day));
            part.requests.into_iter().for_each(|known| self.requests.restore(known));
            part.ended.iter().for_each(|ended| self.closed.restore(ended));
        }
    }

    /// Forgets what no decision can ask for any more.
    pub(crate) fn forget(&mut self, rules: &Rules, now: Timestamp, memory: Memory) {
        self.windows.forget(rules, now, memory.tasks, memory.tasks_max);
        self.meters.forget(now);
        self.books.forget(now, memory.books_days);
    }
}

/// How long what has ended is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// What lasts as long as a task, a session or the like, after it was used last.
    pub(crate) tasks: Duration,
    /// The most of it, of budgets that are not hard.
    pub(crate) tasks_max: usize,
    pub(crate) books_days: u32,
}

/// Parts being filled.
struct Parts {
    part_bytes: usize,
    bytes: usize,
    done: Vec<v1::SnapshotPart>,
    filling: v1::SnapshotPart,
}

impl Parts {
    fn add(&mut self, bytes: usize, add: impl FnOnce(&mut v1::SnapshotPart)) {
        if self.bytes + bytes > self.part_bytes && self.bytes > 0 {
            self.done.push(std::mem::take(&mut self.filling));
            self.bytes = 0;
        }
        // Room for the field's own tag and length.
        self.bytes += bytes + 8;
        add(&mut self.filling);
    }

    fn finish(mut self, id: &str, through_sequence: u64) -> Vec<v1::SnapshotPart> {
        self.done.push(self.filling);
        let parts = u32::try_from(self.done.len()).unwrap_or(u32::MAX);
        for (at, part) in (0..).zip(&mut self.done) {
            (part.through_sequence, part.part, part.parts) = (through_sequence, at, parts);
            id.clone_into(&mut part.snapshot_id);
        }
        self.done
    }
}

/// The newest snapshot of which all parts are there.
pub(crate) fn newest(mut parts: Vec<v1::SnapshotPart>) -> Option<(u64, Vec<v1::SnapshotPart>)> {
    fn of(part: &v1::SnapshotPart) -> (Reverse<u64>, &str) {
        (Reverse(part.through_sequence), &part.snapshot_id)
    }
    parts.sort_by(|a, b| (of(a), a.part).cmp(&(of(b), b.part)));
    parts.dedup_by(|a, b| (of(a), a.part) == (of(b), b.part));
    let complete = parts.chunk_by(|a, b| of(a) == of(b)).find(|chunk| {
        let wanted = chunk.first().map_or(0, |first| first.parts);
        u32::try_from(chunk.len()) == Ok(wanted)
    })?;
    Some((complete.first()?.through_sequence, complete.to_vec()))
}

impl Open {
    fn to_message(&self) -> v1::OpenReservation {
        let request = v1::ReserveRequest { attempt: Some(self.attempt.clone()), ..self.request.clone() };
        let reserved = v1::Reserved {
            request: Some(request),
            holds: self.holds.clone(),
            at_unix_ms: self.started.millis(),
            ..Default::default()
        };
        v1::OpenReservation {
            reserved: Some(reserved),
            attempts: self.attempts,
            spent: Some(self.spent.into()),
            limit_holds: self.limit_holds.clone(),
            attempt_unix_ms: self.attempt_began.millis(),
        }
    }

    fn from_message(message: &v1::OpenReservation) -> Option<Open> {
        let open = Open::from_reserved(message.reserved.as_ref()?)?;
        let attempt_began = open.started.max(Timestamp(message.attempt_unix_ms));
        Some(Open {
            attempts: message.attempts,
            spent: v1::Money::of(&message.spent),
            limit_holds: message.limit_holds.clone(),
            attempt_began,
            ..open
        })
    }
}

impl Closed {
    /// Its end, apart from when that was.
    pub(super) fn to_message(&self, id: ReservationId) -> v1::EndedReservation {
        v1::EndedReservation {
            reservation_id: id.to_string(),
            call_id: self.call_id.to_string(),
            outcome: v1::Outcome::from(self.outcome).into(),
            error_kind: self.error_kind.map_or(v1::ErrorKind::Unspecified, v1::ErrorKind::from).into(),
            ended_unix_ms: 0,
        }
    }

    pub(super) fn from_message(message: &v1::EndedReservation) -> Option<Closed> {
        Some(Closed {
            call_id: message.call_id.parse().ok()?,
            outcome: message.outcome().known()?,
            error_kind: message.error_kind().known(),
        })
    }
}

impl Known {
    pub(super) fn to_message(&self, (project, request_id): &(String, String)) -> v1::KnownRequest {
        let closed = self.closed.as_ref();
        let error_kind = closed.and_then(|closed| closed.error_kind);
        v1::KnownRequest {
            project: project.clone(),
            request_id: request_id.clone(),
            reservation_id: self.reservation.to_string(),
            body_digest: self.digest.clone(),
            admitted_unix_ms: self.admitted.millis(),
            outcome: closed.map_or(v1::Outcome::Unspecified, |closed| closed.outcome.into()).into(),
            error_kind: error_kind.map_or(v1::ErrorKind::Unspecified, v1::ErrorKind::from).into(),
            call_id: closed.map(|closed| closed.call_id.to_string()).unwrap_or_default(),
            ended_unix_ms: 0,
        }
    }

    pub(super) fn from_message(message: &v1::KnownRequest) -> Option<Known> {
        let closed = match message.outcome().known() {
            Some(outcome) => {
                let error_kind = message.error_kind().known();
                Some(Closed { call_id: message.call_id.parse().ok()?, outcome, error_kind })
            }
            None => None,
        };
        let reservation: ReservationId = message.reservation_id.parse().ok()?;
        let digest = prost::bytes::Bytes::copy_from_slice(&message.body_digest);
        Some(Known { reservation, digest, admitted: Timestamp(message.admitted_unix_ms), closed })
    }
}
