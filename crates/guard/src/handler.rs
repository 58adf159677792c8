//! Messages in, decisions out: what one batch of the guard's mail leads to, before it is stored.

use std::time::Duration;

use farebox_bus::Delivery;
use farebox_proto::v1::{self, ledger_entry::Entry};
use farebox_types::{ErrorKind, Fault, ReservationId, Timestamp};
use prost::{Message, bytes::Bytes};

use crate::{
    leases::Leases,
    ledger::{Admission, Decision, Ledger, Memory, Scarce, Wait},
    rules::Rules,
    waiting::{Parked, Waiting},
};

/// All that a guard knows while it leads.
pub(crate) struct State {
    pub(crate) guard_id: String,
    pub(crate) rules: Rules,
    pub(crate) ledger: Ledger,
    pub(crate) leases: Leases,
    pub(crate) waiting: Waiting,
    pub(crate) lease: Duration,
    /// The largest reply about budgets and limits.
    pub(crate) status_max: usize,
}

/// What has been decided and may be told once it is stored.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) entries: Vec<v1::LedgerEntry>,
    /// Where to, and what.
    pub(crate) replies: Vec<(String, Bytes)>,
    /// What is answered from the state once it is stored.
    pub(crate) questions: Vec<(String, Question)>,
}

/// A question about the state.
pub(crate) enum Question {
    Status(v1::BudgetStatusRequest),
    Books,
}

/// The times a batch is decided at.
#[derive(Clone, Copy)]
pub(crate) struct Now {
    pub(crate) wall: Timestamp,
    /// Since this guard began to lead.
    pub(crate) leading: Duration,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.replies.is_empty() && self.questions.is_empty()
    }

    fn reply<R: Message>(&mut self, delivery: &Delivery, reply: &R) {
        self.reply_to(delivery.reply.as_deref(), reply);
    }

    fn reply_to<R: Message>(&mut self, to: Option<&str>, reply: &R) {
        if let Some(to) = to {
            self.replies.push((to.to_owned(), reply.encode_to_vec().into()));
        }
    }
}

impl State {
    /// Decides one message. The state changes at once; the reply waits in the batch until its entries are stored.
    pub(crate) fn handle(&mut self, delivery: &Delivery, now: Now, batch: &mut Batch) {
        let asked = delivery.subject.rsplit('.').next().unwrap_or_default();
        match asked {
            "reserve" => self.reserve(delivery, now, batch),
            "settle" => self.settle(delivery, now, batch),
            "amend" => self.amend(delivery, now, batch),
            "release" => self.release(delivery, now, batch),
            "heartbeat" => self.heartbeat(delivery, now, batch),
            "lookup" => self.lookup(delivery, batch),
            "budgets" | "books" => self.ask(delivery, asked, batch),
            _ => tracing::debug!(subject = delivery.subject, "message on an unknown subject"),
        }
    }

    fn reserve(&mut self, delivery: &Delivery, now: Now, batch: &mut Batch) {
        let request = match v1::ReserveRequest::decode(delivery.payload.clone()) {
            Ok(request) => request,
            Err(_) => {
                let result = Some(v1::reserve_reply::Result::Refused(undecodable()));
                return batch.reply(delivery, &v1::ReserveReply { result });
            }
        };
        self.admit_or_park(request, delivery.reply.clone(), now, batch);
    }

    fn admit_or_park(&mut self, request: v1::ReserveRequest, reply_to: Option<String>, now: Now, batch: &mut Batch) {
        // Who has asked before and waits is told where it listens now.
        if self.waiting.is_asked_again(&request.reservation_id, reply_to.as_deref()) {
            return;
        }
        let may_wait = self.waiting.has_place(&request);
        if let Err((request, wait)) = self.admit(request, reply_to.as_deref(), may_wait, now, batch) {
            let until = now.leading + wait.within.min(Timestamp(request.deadline_unix_ms).remaining(now.wall));
            self.waiting.park(Parked { request, reply_to, until }, wait, now.leading);
        }
    }

    /// Decides about a call, unless it should wait.
    fn admit(
        &mut self,
        request: v1::ReserveRequest,
        reply_to: Option<&str>,
        may_wait: bool,
        now: Now,
        batch: &mut Batch,
    ) -> Result<(), (Box<v1::ReserveRequest>, Wait)> {
        let decision = match self.ledger.reserve(request, &self.rules, now.wall, may_wait) {
            Admission::Decided(decision) => decision,
            Admission::Wait(request, wait) => return Err((request, wait)),
        };
        for entry in &decision.entries {
            if let Some(Entry::Reserved(reserved)) = &entry.entry
                && let Some(Ok(id)) = reserved.request.as_ref().map(|r| r.reservation_id.parse())
            {
                self.leases.grant(id, now.leading);
            }
        }
        batch.entries.extend(decision.entries);
        batch.reply_to(reply_to, &decision.reply);
        Ok(())
    }

    /// Asks again for those that wait for one of these.
    fn came_free(&mut self, freed: &[Scarce], now: Now, batch: &mut Batch) {
        for scarce in freed {
            let mut after = None;
            loop {
                let room = self.ledger.room(scarce, &self.rules, now.wall);
                let Some((number, parked)) = self.waiting.next_for(scarce, room, after) else { break };
                after = Some(number);
                self.ask_again(number, parked, true, now, batch);
            }
        }
    }

    /// Decides about those whose wait is over, or for whom something has come free by itself.
    pub(crate) fn wake(&mut self, now: Now, batch: &mut Batch) {
        while let Some((number, parked)) = self.waiting.due(now.leading) {
            let may_wait = parked.until > now.leading;
            self.ask_again(number, parked, may_wait, now, batch);
        }
    }

    fn ask_again(&mut self, number: u64, parked: Parked, may_wait: bool, now: Now, batch: &mut Batch) {
        let Parked { request, reply_to, until } = parked;
        if let Err((request, wait)) = self.admit(*request, reply_to.as_deref(), may_wait, now, batch) {
            self.waiting.park_again(number, Parked { request, reply_to, until }, wait, now.leading);
        }
    }

    fn settle(&mut self, delivery: &Delivery, now: Now, batch: &mut Batch) {
        let Ok(request) = v1::SettleRequest::decode(delivery.payload.clone()) else {
            let result = Some(v1::settle_reply::Result::Error(undecodable()));
            return batch.reply(delivery, &v1::SettleReply { result });
        };
        self.end(request, delivery.reply.as_deref(), now, batch);
    }

    fn end(&mut self, request: v1::SettleRequest, reply_to: Option<&str>, now: Now, batch: &mut Batch) {
        let id = request.reservation_id.clone();
        let freed = self.freed_by(&id);
        let Decision { reply, entries } = self.ledger.settle(request, &self.rules, now.wall);
        if let Some(v1::settle_reply::Result::Closed(closed)) = &reply.result {
            tracing::warn!(reservation = id, first = ?closed.outcome(), "a late end of a call was refused");
        }
        self.record(&id, entries, batch);
        batch.reply_to(reply_to, &reply);
        self.came_free(&freed, now, batch);
    }

    fn amend(&mut self, delivery: &Delivery, now: Now, batch: &mut Batch) {
        let Ok(request) = v1::AmendRequest::decode(delivery.payload.clone()) else {
            let result = Some(v1::amend_reply::Result::Refused(undecodable()));
            return batch.reply(delivery, &v1::AmendReply { result });
        };
        let id = request.reservation_id.clone();
        let freed = self.freed_by(&id);
        let decision = self.ledger.amend(request, &self.rules, now.wall);
        self.record(&id, decision.entries, batch);
        batch.reply(delivery, &decision.reply);
        self.came_free(&freed, now, batch);
    }

    fn release(&mut self, delivery: &Delivery, now: Now, batch: &mut Batch) {
        let id = v1::ReleaseRequest::decode(delivery.payload.clone())
            .ok()
            .and_then(|request| request.reservation_id.parse::<ReservationId>().ok());
        let Some(id) = id else {
            return batch.reply(delivery, &v1::ReleaseReply { released: false, error: Some(undecodable()) });
        };
        if self.leases.is_claimed(&id) {
            let fault = Fault::new(ErrorKind::Conflict, "a worker holds this reservation: only it can end it");
            return batch.reply(delivery, &v1::ReleaseReply { released: false, error: Some(fault.into()) });
        }
        let text = id.to_string();
        if self.waiting.give_up(&text) {
            return batch.reply(delivery, &v1::ReleaseReply { released: true, error: None });
        }
        let freed = self.freed_by(&text);
        let decision = self.ledger.release(id);
        self.record(&text, decision.entries, batch);
        batch.reply(delivery, &decision.reply);
        self.came_free(&freed, now, batch);
    }

    /// What the end of a reservation's attempt may give to those that wait; nothing where nobody does.
    fn freed_by(&self, id: &str) -> Vec<Scarce> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        id.parse().map(|id| self.ledger.takes(&id)).unwrap_or_default()
    }

    fn ask(&mut self, delivery: &Delivery, asked: &str, batch: &mut Batch) {
        let Some(reply_to) = &delivery.reply else { return };
        let question = match asked {
            "books" => Question::Books,
            _ => Question::Status(v1::BudgetStatusRequest::decode(delivery.payload.clone()).unwrap_or_default()),
        };
        batch.questions.push((reply_to.clone(), question));
    }

    /// Answers from the state, which is that of this position of the ledger.
    pub(crate) fn answer(&self, question: &Question, sequence: u64, now: Timestamp) -> Bytes {
        match question {
            Question::Status(asked) => {
                let status = self.ledger.status(&self.rules, asked, self.status_max, now);
                let waiting = self.waiting.len();
                v1::BudgetStatusReply { sequence, waiting, ..status }.encode_to_vec().into()
            }
            Question::Books => v1::BooksReply { sequence, ..self.ledger.books() }.encode_to_vec().into(),
        }
    }

    pub(crate) fn forget(&mut self, now: Timestamp, memory: Memory) {
        self.ledger.forget(&self.rules, now, memory);
    }

    fn heartbeat(&mut self, delivery: &Delivery, now: Now, batch: &mut Batch) {
        if let Ok(beat) = v1::HeartbeatRequest::decode(delivery.payload.clone()) {
            self.hear(beat, delivery.reply.as_deref(), now, batch);
        }
    }

    fn hear(&mut self, beat: v1::HeartbeatRequest, reply_to: Option<&str>, now: Now, batch: &mut Batch) {
        let known = self.leases.knows(&beat.worker_id);
        self.leases.beat(&beat.worker_id, now.leading);
        let mut closed = Vec::new();
        // First: what it ended and took again since then, it holds.
        for id in beat.ended.iter().filter_map(|id| id.parse().ok()) {
            if self.ledger.is_open(&id) {
                self.leases.give_up(&beat.worker_id, id, now.leading);
            }
        }
        for id in beat.taken {
            match id.parse::<ReservationId>() {
                Ok(parsed) if self.ledger.is_open(&parsed) => self.leases.claim(&beat.worker_id, parsed),
                _ => closed.push(id),
            }
        }
        let reply = v1::HeartbeatReply {
            guard_id: self.guard_id.clone(),
            send_complete: !known && !beat.complete,
            closed,
            lease_ms: u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX),
        };
        batch.reply_to(reply_to, &reply);
    }

    fn lookup(&mut self, delivery: &Delivery, batch: &mut Batch) {
        let Ok(request) = v1::LookupRequest::decode(delivery.payload.clone()) else {
            return;
        };
        let (project, id) = (&request.project, &request.request_id);
        let running = || self.ledger.running(project, id).filter(|_| request.made_here);
        let existing = self.ledger.lookup(project, id).or_else(running);
        batch.reply(delivery, &v1::LookupReply { existing });
    }

    /// Ends what belongs to silent workers. Returns what their callers are owed, for after the batch is stored: in the order
    /// of its entries.
    pub(crate) fn expire(&mut self, now: Now, batch: &mut Batch) -> Vec<Orphan> {
        let mut orphans = Vec::new();
        for id in self.leases.expired(now.leading) {
            let freed = self.freed_by(&id.to_string());
            let Some(Decision { reply: (request, fact), entries }) = self.ledger.lose(id, &self.rules, now.wall) else {
                continue;
            };
            tracing::warn!(reservation = %id, call = fact.call_id, "the holder of a call fell silent: lost");
            orphans.push(Orphan { request, fact });
            batch.entries.extend(entries);
            self.came_free(&freed, now, batch);
        }
        orphans
    }

    /// Takes over a stored batch. Returns what the callers of the calls are owed that it recorded as lost.
    pub(crate) fn reapply(&mut self, entries: &[v1::LedgerEntry]) -> Vec<Orphan> {
        let mut orphans = Vec::new();
        for entry in entries {
            if let Some(Entry::Ended(v1::Ended { reservation_id, fact: Some(fact) })) = &entry.entry
                && fact.outcome() == v1::Outcome::Lost
                && let Ok(id) = reservation_id.parse()
                && let Some(request) = self.ledger.request(&id)
            {
                orphans.push(Orphan { request: request.clone(), fact: fact.clone() });
            }
            self.ledger.apply(entry);
        }
        orphans
    }

    /// Keeps what was decided about a reservation for its batch.
    fn record(&mut self, id: &str, entries: Vec<v1::LedgerEntry>, batch: &mut Batch) {
        let closes = |entry: &v1::LedgerEntry| matches!(entry.entry, Some(Entry::Ended(_) | Entry::Released(_)));
        if entries.iter().any(closes)
            && let Ok(id) = id.parse()
        {
            self.leases.end(&id);
        }
        for fact in facts(&entries) {
            let (cost, bound) = (v1::Money::of(&fact.cost), v1::Money::of(&fact.bound));
            if cost > bound {
                tracing::warn!(call = fact.call_id, %cost, %bound, "a call was billed above its reservation");
            }
        }
        batch.entries.extend(entries);
    }
}

/// A call whose holder is gone, or may be, and whose caller still waits.
pub(crate) struct Orphan {
    pub(crate) request: v1::ReserveRequest,
    pub(crate) fact: v1::CallFact,
}

fn undecodable() -> v1::Error {
    Fault::new(ErrorKind::Internal, "the message to the guard is not what its subject stands for").into()
}

/// Entries in the same order, in parts of at most so many bytes as they are stored. What is larger is alone.
pub(crate) fn parts(entries: Vec<v1::LedgerEntry>, bytes: usize) -> Vec<Vec<v1::LedgerEntry>> {
    let mut parts: Vec<Vec<v1::LedgerEntry>> = Vec::new();
    let mut room = 0;
    for entry in entries {
        // With the field's own tag and length.
        let length = entry.encoded_len() + 8;
        match parts.last_mut().filter(|_| length <= room) {
            Some(part) => part.push(entry),
            None => {
                parts.push(vec![entry]);
                room = bytes;
            }
        }
        room = room.saturating_sub(length);
    }
    parts
}

/// The facts of the attempts that entries end.
pub(crate) fn facts(entries: &[v1::LedgerEntry]) -> impl Iterator<Item = &v1::CallFact> {
    entries.iter().filter_map(|entry| match &entry.entry {
        Some(Entry::Ended(ended)) => ended.fact.as_ref(),
        Some(Entry::Amended(amended)) => amended.fact.as_ref(),
        _ => None,
    })
}

/// What entries have people be told of.
pub(crate) fn alerts(entries: &[v1::LedgerEntry]) -> impl Iterator<Item = &v1::Alert> {
    entries.iter().filter_map(|entry| match &entry.entry {
        Some(Entry::Alerted(alerted)) => alerted.alert.as_ref(),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
