//! Messages in, decisions out: what one batch of the guard's mail leads to, before it is stored.

use std::time::Duration;

use farebox_bus::Delivery;
use farebox_proto::v1::{self, ledger_entry::Entry};
use farebox_types::{ErrorKind, Fault, ReservationId, Timestamp};
use prost::{Message, bytes::Bytes};

use crate::{leases::Leases, ledger::Ledger};

/// All that a guard knows while it leads.
pub(crate) struct State {
    pub(crate) guard_id: String,
    pub(crate) ledger: Ledger,
    pub(crate) leases: Leases,
    pub(crate) lease: Duration,
}

/// What has been decided and may be told once it is stored.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) entries: Vec<v1::LedgerEntry>,
    /// Where to, and what.
    pub(crate) replies: Vec<(String, Bytes)>,
}

/// The times a batch is decided at.
#[derive(Clone, Copy)]
pub(crate) struct Now {
    pub(crate) wall: Timestamp,
    /// Since this guard began to lead.
    pub(crate) leading: Duration,
}

impl Batch {
    fn reply<R: Message>(&mut self, delivery: &Delivery, reply: &R) {
        if let Some(to) = &delivery.reply {
            self.replies.push((to.clone(), reply.encode_to_vec().into()));
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
            "release" => self.release(delivery, batch),
            "heartbeat" => self.heartbeat(delivery, now, batch),
            "lookup" => self.lookup(delivery, batch),
            "budgets" => {
                batch.reply(delivery, &v1::BudgetStatusReply { budgets: self.ledger.status(), ..Default::default() });
            }
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
        let decision = self.ledger.reserve(request, self.lease, now.wall);
        if let Some(v1::LedgerEntry { entry: Some(Entry::Reserved(reserved)) }) = &decision.entry
            && let Some(Ok(id)) = reserved.request.as_ref().map(|r| r.reservation_id.parse())
        {
            self.leases.grant(id, now.leading);
        }
        batch.entries.extend(decision.entry);
        batch.reply(delivery, &decision.reply);
    }

    fn settle(&mut self, delivery: &Delivery, now: Now, batch: &mut Batch) {
        let Ok(request) = v1::SettleRequest::decode(delivery.payload.clone()) else {
            let result = Some(v1::settle_reply::Result::Error(undecodable()));
            return batch.reply(delivery, &v1::SettleReply { result });
        };
        let id = request.reservation_id.clone();
        let decision = self.ledger.settle(request, now.wall);
        if let Some(v1::settle_reply::Result::Closed(closed)) = &decision.reply.result {
            tracing::warn!(reservation = id, first = ?closed.outcome(), "a late end of a call was refused");
        }
        self.record_end(&id, decision.entry, batch);
        batch.reply(delivery, &decision.reply);
    }

    fn amend(&mut self, delivery: &Delivery, now: Now, batch: &mut Batch) {
        let Ok(request) = v1::AmendRequest::decode(delivery.payload.clone()) else {
            let result = Some(v1::amend_reply::Result::Refused(undecodable()));
            return batch.reply(delivery, &v1::AmendReply { result });
        };
        let id = request.reservation_id.clone();
        let decision = self.ledger.amend(request, self.lease, now.wall);
        match decision.entry {
            Some(v1::LedgerEntry { entry: Some(Entry::Ended(_)) }) => self.record_end(&id, decision.entry, batch),
            entry => batch.entries.extend(entry),
        }
        batch.reply(delivery, &decision.reply);
    }

    fn release(&mut self, delivery: &Delivery, batch: &mut Batch) {
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
        let decision = self.ledger.release(id);
        self.record_end(&id.to_string(), decision.entry, batch);
        batch.reply(delivery, &decision.reply);
    }

    fn heartbeat(&mut self, delivery: &Delivery, now: Now, batch: &mut Batch) {
        let Ok(beat) = v1::HeartbeatRequest::decode(delivery.payload.clone()) else {
            return;
        };
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
        batch.reply(delivery, &reply);
    }

    fn lookup(&mut self, delivery: &Delivery, batch: &mut Batch) {
        let Ok(request) = v1::LookupRequest::decode(delivery.payload.clone()) else {
            return;
        };
        let existing = self.ledger.lookup(&request.project, &request.request_id);
        batch.reply(delivery, &v1::LookupReply { existing });
    }

    /// Ends what belongs to silent workers. Returns what their callers are owed, for after the batch is stored.
    pub(crate) fn expire(&mut self, now: Now, batch: &mut Batch) -> Vec<Orphan> {
        let mut orphans = Vec::new();
        for id in self.leases.expired(now.leading) {
            let Some(decision) = self.ledger.lose(id, now.wall) else {
                continue;
            };
            if let Some(v1::LedgerEntry { entry: Some(Entry::Ended(v1::Ended { fact: Some(fact), .. })) }) =
                &decision.entry
            {
                tracing::warn!(reservation = %id, call = fact.call_id, "the holder of a call fell silent: lost");
                orphans.push(Orphan { request: decision.reply, fact: fact.clone() });
            }
            batch.entries.extend(decision.entry);
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

    fn record_end(&mut self, id: &str, entry: Option<v1::LedgerEntry>, batch: &mut Batch) {
        let Some(entry) = entry else { return };
        if let Ok(id) = id.parse() {
            self.leases.end(&id);
        }
        if let Some(Entry::Ended(v1::Ended { fact: Some(fact), .. })) = &entry.entry {
            let (cost, bound) = (v1::Money::of(&fact.cost), v1::Money::of(&fact.bound));
            if cost > bound {
                tracing::warn!(call = fact.call_id, %cost, %bound, "a call was billed above its reservation");
            }
        }
        batch.entries.push(entry);
    }
}

/// A call whose holder is gone, and whose caller still waits.
pub(crate) struct Orphan {
    pub(crate) request: v1::ReserveRequest,
    pub(crate) fact: v1::CallFact,
}

fn undecodable() -> v1::Error {
    Fault::new(ErrorKind::Internal, "the message to the guard is not what its subject stands for").into()
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
