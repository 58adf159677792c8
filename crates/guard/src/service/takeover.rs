//! Taking over what intakes reserved while no guard led.
//!
//! What is taken over is stored before it is removed from the grace stream, and nothing else is decided in between: a guard
//! that dies there has left both, and the next one finds those reservations open in the ledger.

use std::collections::BTreeMap;

use farebox_bus::{Delivery, Lease, StoredMessage, topology};
use farebox_proto::{
    subjects,
    v1::{self, alert, grace_entry, ledger_entry::Entry},
};
use farebox_types::{Money, ReservationId};
use prost::Message;

use super::{Leading, SHARD};
use crate::{
    error::Error,
    handler::{Batch, Now, State},
};

impl Leading<'_> {
    /// Takes over what is in the grace stream now.
    pub(super) async fn take_over(&mut self, lease: &Lease) -> Result<(), Error> {
        let subject = subjects::grace(SHARD);
        let mut waiting = self.deps.bus.read_from(topology::GRACE, &subject, 1).await?;
        loop {
            let messages = waiting.next_batch().await?;
            if messages.is_empty() {
                return Ok(());
            }
            for messages in messages.chunks(self.options.batch_max.max(1)) {
                let now = self.now();
                let mut batch = std::mem::take(&mut self.ahead);
                self.state.take_over(messages, now, &mut batch);
                self.commit(batch, now, Vec::new(), lease).await?;
                let last = messages.last().map_or(0, |message| message.sequence);
                self.deps.bus.purge_up_to(topology::GRACE, &subject, last).await?;
            }
        }
    }
}

impl State {
    /// Whether a message is about a reservation that the ledger does not know: it may be one to be taken over first.
    pub(super) fn is_foreign(&self, delivery: &Delivery) -> bool {
        let foreign = |id: &String| id.parse::<ReservationId>().is_ok_and(|id| !self.ledger.knows(&id));
        match delivery.subject.rsplit('.').next() {
            // All three begin with the shard and the reservation id.
            Some("settle" | "amend" | "release") => v1::ReleaseRequest::decode(delivery.payload.clone())
                .is_ok_and(|request| foreign(&request.reservation_id)),
            Some("heartbeat") => v1::HeartbeatRequest::decode(delivery.payload.clone())
                .is_ok_and(|beat| beat.taken.iter().chain(&beat.ended).any(foreign)),
            _ => false,
        }
    }

    fn take_over(&mut self, messages: &[StoredMessage], now: Now, batch: &mut Batch) {
        let mut reserved = Reserved::default();
        for message in messages {
            let entry = v1::GraceEntry::decode(message.payload.clone()).ok().and_then(|read| read.entry);
            match entry {
                Some(grace_entry::Entry::Reserved(entry)) => {
                    let Some((id, entry)) = self.ledger.take_over(entry) else { continue };
                    reserved.count(&entry);
                    self.leases.grant(id, now.leading);
                    batch.entries.push(entry);
                }
                Some(grace_entry::Entry::Released(released)) => match released.reservation_id.parse() {
                    Ok(id) if !self.leases.is_claimed(&id) => {
                        let released = self.ledger.release(id);
                        self.leases.end(&id);
                        batch.entries.extend(released.entries);
                    }
                    _ => {}
                },
                None => tracing::error!(sequence = message.sequence, "a message of the grace stream cannot be read"),
            }
        }
        batch.entries.extend(reserved.alerts(now));
    }
}

/// What was taken over at a time.
#[derive(Default)]
struct Reserved {
    calls: u64,
    by_budget: BTreeMap<String, (u64, Money)>,
}

impl Reserved {
    fn count(&mut self, entry: &v1::LedgerEntry) {
        let Some(Entry::Reserved(reserved)) = &entry.entry else { return };
        self.calls += 1;
        for hold in &reserved.holds {
            let (calls, amount) = self.by_budget.entry(hold.budget.clone()).or_default();
            *calls += 1;
            *amount += v1::Money::of(&hold.amount);
        }
    }

    /// People hear of it for each budget that let them through.
    fn alerts(self, now: Now) -> Vec<v1::LedgerEntry> {
        if self.calls > 0 {
            tracing::warn!(calls = self.calls, "taken over: calls that were reserved while no guard led");
        }
        let alert = |(budget, (calls, amount)): (String, (u64, Money))| {
            let message = format!(
                "{calls} calls that may cost ${amount} together were reserved while no guard led, as budget `{budget}` \
                 allows"
            );
            let alert = v1::Alert {
                kind: alert::Kind::Grace.into(),
                rule: budget,
                at_unix_ms: now.wall.millis(),
                message,
                ..Default::default()
            };
            v1::LedgerEntry { entry: Some(Entry::Alerted(v1::Alerted { alert: Some(alert) })) }
        };
        self.by_budget.into_iter().map(alert).collect()
    }
}
