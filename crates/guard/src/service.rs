//! The guard's loop: collect mail, decide, store, tell.

mod snapshots;
mod takeover;
mod write;

use std::{pin::pin, sync::Arc, task::Poll, time::Duration};

use farebox_bus::{Bus, Delivery, Headers, Lease, LeaseOptions, Subscription, topology};
use farebox_directory::Directory;
use farebox_proto::{
    subjects::{self, Tenancy},
    v1,
};
use farebox_runtime::Drain;
use farebox_types::Clock;
use futures::poll;
use prost::{Message, bytes::Bytes};
use tokio::{
    task::yield_now,
    time::{Instant, interval, sleep, sleep_until, timeout},
};

use crate::{
    announce::Announcer,
    error::Error,
    handler::{Batch, Now, Orphan, State, alerts, facts, parts},
    leases::Leases,
    ledger::{Ledger, Retention, Terms},
    options::Options,
    rules::Rules,
    waiting::Waiting,
};
use write::Write;

/// What the guard needs from outside.
#[derive(Clone)]
pub struct Deps {
    pub bus: Bus,
    pub tenancy: Tenancy,
    pub clock: Arc<dyn Clock>,
    /// The rules: they may change at any time.
    pub directory: Directory,
    /// Names this process in the ledger; a new one for each start.
    pub guard_id: String,
}

/// The guard.
pub struct Service {
    options: Options,
    deps: Deps,
}

/// Heartbeats are received apart from all else, so that they need not wait behind it. What has another group's name gets
/// its own copy.
const HEARTBEATS: &str = "guard-heartbeats";
const SHARD: u32 = subjects::SHARD;
/// Between two tries of a store or of the lead.
const PAUSE: Duration = Duration::from_millis(100);

impl Service {
    pub fn create(options: Options, deps: Deps) -> Service {
        Service { options, deps }
    }

    /// Leads whenever no other guard does, until the drain.
    pub async fn run(self, drain: Drain) -> Result<(), Error> {
        let mut term = 0;
        loop {
            let lease = tokio::select! {
                lease = self.lead() => lease,
                () = drain.signaled() => return Ok(()),
            };
            term += 1;
            let led = match Leading::begin(&self.options, &self.deps, term).await {
                Ok(mut leading) => leading.run(&drain, &lease).await,
                Err(error) => Err(error),
            };
            lease.release().await;
            match led {
                Ok(()) => return Ok(()),
                Err(error @ Error::Damaged { .. }) => return Err(error),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                    tracing::warn!(%error, cause, "not leading the ledger now, trying again");
                }
            }
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = drain.signaled() => return Ok(()),
            }
        }
    }

    /// Waits until no other guard leads.
    async fn lead(&self) -> Lease {
        let options = LeaseOptions { ttl: self.options.lead_ttl.into(), ..LeaseOptions::default() };
        let bucket = self.deps.bus.bucket(topology::LEASES);
        bucket.acquire(&topology::guard_lease(SHARD), &self.deps.guard_id, &options).await
    }
}

/// One term of leadership.
struct Leading<'a> {
    options: &'a Options,
    deps: &'a Deps,
    announcer: Announcer,
    mail: Subscription,
    heartbeats: Subscription,
    state: State,
    /// Decided while the batch before was being stored: the state has it, the ledger not yet. Whatever is decided next
    /// is added to it.
    ahead: Batch,
    /// Mail that came meanwhile and has to wait for what else is in the grace stream.
    put_off: Vec<Delivery>,
    /// Sequence of the newest message of the ledger: the fence of the next one.
    last_sequence: u64,
    began: Instant,
    /// When it was last certain that no other guard leads.
    confirmed: Instant,
    /// Counts the leads of this process.
    term: u64,
    batches: u64,
    /// Bytes written to the ledger since its state was last stored.
    since_snapshot: usize,
    /// Sequence of the newest message of all snapshots, also of unfinished ones: the fence of the next one.
    snapshot_sequence: u64,
    snapshots: u64,
}

impl<'a> Leading<'a> {
    /// Replays the ledger. Mail that comes meanwhile waits.
    async fn begin(options: &'a Options, deps: &'a Deps, term: u64) -> Result<Leading<'a>, Error> {
        let began = Instant::now();
        let heartbeats = deps.bus.subscribe(&subjects::heartbeat(SHARD), Some(HEARTBEATS)).await?;
        let mail = deps.bus.subscribe(&subjects::guard_all(SHARD), Some(subjects::GUARD_QUEUE)).await?;
        let mut leading = Leading {
            options,
            deps,
            announcer: Announcer {
                bus: deps.bus.clone(),
                tenancy: deps.tenancy,
                json_events: options.json_events,
                operators: options.operators_project.clone(),
                keep_timeout: options.keep_timeout.into(),
                keep_inflight: options.keep_inflight,
            },
            mail,
            heartbeats,
            state: State {
                guard_id: deps.guard_id.clone(),
                rules: Rules::new(deps.directory.newest(), options.operators_project.clone()),
                ledger: Ledger::new(terms(options)),
                leases: Leases::new(options.lease.into()),
                waiting: Waiting::new(options.waiting_max, options.waiting_max_per_key),
                lease: options.lease.into(),
                status_max: options.status_max.len(),
            },
            ahead: Batch::default(),
            put_off: Vec::new(),
            last_sequence: 0,
            began,
            confirmed: began,
            term,
            batches: 0,
            since_snapshot: 0,
            snapshot_sequence: 0,
            snapshots: 0,
        };
        leading.replay().await?;
        Ok(leading)
    }

    async fn replay(&mut self) -> Result<(), Error> {
        let through = self.restore().await?;
        self.last_sequence = through;
        let mut replay = self.deps.bus.read_from(topology::LEDGER, &subjects::ledger(SHARD), through + 1).await?;
        let mut newest_batch = None;
        let mut orphans = Vec::new();
        let mut entries = 0;
        while let Some(message) = replay.next().await? {
            let batch = v1::LedgerBatch::decode(message.payload.clone())
                .map_err(|error| Error::Damaged { sequence: message.sequence, reason: error.to_string() })?;
            if batch.previous_sequence > self.last_sequence {
                return Err(self.missing(batch.previous_sequence, message.sequence).await?);
            }
            orphans = self.state.reapply(&batch.entries);
            entries += batch.entries.len();
            self.last_sequence = message.sequence;
            self.since_snapshot += message.payload.len();
            newest_batch = Some(batch);
        }
        // What one batch has to tell is sent before the next batch is stored, on the same connection: only that of the
        // newest batch can be missing. Receivers know a fact by its call id, an alert by its message id; a kept answer
        // stays the first one, and a caller who hears of a lost call twice has dropped the inbox of the first time.
        if let Some(batch) = newest_batch {
            self.tell(&batch.entries, &orphans).await;
        }
        for id in self.state.ledger.open_ids().collect::<Vec<_>>() {
            self.state.leases.grant(id, self.began.elapsed());
        }
        tracing::info!(
            snapshot = through,
            entries,
            open = self.state.ledger.open_count(),
            sequence = self.last_sequence,
            "leading the ledger"
        );
        Ok(())
    }

    /// Why the batches before `sequence` are not there: trimmed behind a snapshot taken meanwhile, or lost.
    async fn missing(&self, previous: u64, sequence: u64) -> Result<Error, Error> {
        let snapshot = self.deps.bus.last_by_subject(topology::LEDGER, &subjects::ledger_snapshot(SHARD)).await?;
        if snapshot.is_some_and(|newest| newest.sequence != self.snapshot_sequence) {
            return Ok(Error::SteppedDown);
        }
        let reason = format!(
            "it follows message {previous}, but what was stored after message {} is not there: restore the stream from \
             a backup, or delete it to begin anew, without what was spent so far",
            self.last_sequence
        );
        Ok(Error::Damaged { sequence, reason })
    }

    async fn run(&mut self, drain: &Drain, lease: &Lease) -> Result<(), Error> {
        self.take_over(lease).await?;
        let mut tick = interval(self.options.expiry_interval.get().max(Duration::from_millis(1)));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last_tick = Instant::now();
        loop {
            let alarm = self.state.waiting.alarm().map(|alarm| self.began + alarm);
            tokio::select! {
                biased;
                () = lease.lost() => return Err(Error::LeadLost),
                () = rung(alarm) => self.wake(lease).await?,
                _ = tick.tick() => {
                    // Who stood still cannot say that others were silent: their heartbeats may be waiting here.
                    let stood_still = last_tick.elapsed() > self.state.lease / 2;
                    last_tick = Instant::now();
                    if stood_still {
                        self.state.leases.forgive(self.began.elapsed());
                    } else {
                        self.expire(lease).await?;
                    }
                    // Whoever saw no guard may be slow to write.
                    self.take_over(lease).await?;
                }
                batch = self.heartbeats.next_batch(self.options.batch_max) => {
                    if batch.is_empty() {
                        return Err(Error::Disconnected);
                    }
                    self.decide(&batch, lease).await?;
                }
                batch = self.mail.next_batch(self.options.batch_max) => {
                    if batch.is_empty() {
                        return Err(Error::Disconnected);
                    }
                    self.decide(&without_heartbeats(batch), lease).await?;
                }
                // What is waiting is still decided. Workers settle during their drain.
                () = drain.signaled() => return self.finish(lease).await,
                () = std::future::ready(()), if self.has_begun() => self.decide(&[], lease).await?,
            }
        }
    }

    /// Decides what is waiting already; then nobody is listened to any more.
    async fn finish(&mut self, lease: &Lease) -> Result<(), Error> {
        self.heartbeats.stop().await;
        self.mail.stop().await;
        loop {
            let batch = self.heartbeats.next_batch(self.options.batch_max).await;
            if batch.is_empty() {
                break;
            }
            self.decide(&batch, lease).await?;
        }
        loop {
            let batch = self.mail.next_batch(self.options.batch_max).await;
            if batch.is_empty() && !self.has_begun() {
                return Ok(());
            }
            self.decide(&without_heartbeats(batch), lease).await?;
        }
    }

    /// Whether the next batch has begun already, while the one before was being stored.
    fn has_begun(&self) -> bool {
        !self.ahead.is_empty() || !self.put_off.is_empty()
    }

    fn now(&self) -> Now {
        Now { wall: self.deps.clock.now(), leading: self.began.elapsed() }
    }

    /// The rules and the time of the next decisions.
    fn turn(&mut self) -> Now {
        self.state.rules.refresh(self.deps.directory.newest());
        self.now()
    }

    /// Decides about calls that have waited.
    async fn wake(&mut self, lease: &Lease) -> Result<(), Error> {
        let now = self.turn();
        let mut batch = std::mem::take(&mut self.ahead);
        self.state.wake(now, &mut batch);
        self.commit(batch, now, Vec::new(), lease).await
    }

    async fn decide(&mut self, mail: &[Delivery], lease: &Lease) -> Result<(), Error> {
        let put_off = std::mem::take(&mut self.put_off);
        if put_off.iter().chain(mail).any(|delivery| self.state.is_foreign(delivery)) {
            self.take_over(lease).await?;
        }
        let now = self.turn();
        let mut batch = std::mem::take(&mut self.ahead);
        for delivery in put_off.iter().chain(mail) {
            self.state.handle(delivery, now, &mut batch);
        }
        self.commit(batch, now, Vec::new(), lease).await
    }

    async fn expire(&mut self, lease: &Lease) -> Result<(), Error> {
        let now = self.turn();
        let mut batch = std::mem::take(&mut self.ahead);
        let orphans = self.state.expire(now, &mut batch);
        // Another guard may lead since, and workers may have heard from it, or from none.
        if !orphans.is_empty() && !self.still_leads(lease).await? {
            return Err(Error::LeadLost);
        }
        self.commit(batch, now, orphans, lease).await
    }

    /// Stores what was decided; only then is anyone told. Decisions that are too much for one message follow each other, each
    /// with the orphans that it records as lost: these are in the order of the entries.
    async fn commit(&mut self, batch: Batch, now: Now, mut orphans: Vec<Orphan>, lease: &Lease) -> Result<(), Error> {
        // A question is answered from the state as this batch leaves it.
        let may_go_on = batch.questions.is_empty();
        let mut parts = parts(batch.entries, self.deps.bus.max_payload() / 2);
        let last = parts.pop().unwrap_or_default();
        for part in parts {
            let part = self.record(part, now, may_go_on).await?;
            // At once: after a restart only what the newest message has to tell is told again.
            let lost = facts(&part).filter(|fact| fact.outcome() == v1::Outcome::Lost).count();
            let rest = orphans.split_off(lost.min(orphans.len()));
            self.tell(&part, &std::mem::replace(&mut orphans, rest)).await;
        }
        let last = if !last.is_empty() {
            self.record(last, now, may_go_on).await?
        } else if batch.replies.is_empty() && batch.questions.is_empty() || !self.leads(lease).await? {
            // Who asked asks again.
            return Ok(());
        } else {
            last
        };
        let answer = |(to, question)| (to, self.state.answer(&question, self.last_sequence, now.wall));
        let answers: Vec<(String, Bytes)> = batch.questions.into_iter().map(answer).collect();
        for (to, reply) in batch.replies.into_iter().chain(answers) {
            // Who asked asks again when no reply comes, and gets the recorded one.
            if let Err(error) = self.deps.bus.publish(&to, Headers::new(), reply).await {
                tracing::debug!(%error, "a reply was not sent");
            }
        }
        self.tell(&last, &orphans).await;
        self.snapshot().await
    }

    /// Adds entries to the ledger. Where it may, it decides meanwhile what comes next.
    async fn record(
        &mut self,
        entries: Vec<v1::LedgerEntry>,
        now: Now,
        may_go_on: bool,
    ) -> Result<Vec<v1::LedgerEntry>, Error> {
        let record = v1::LedgerBatch {
            entries,
            at_unix_ms: now.wall.millis(),
            guard_id: self.deps.guard_id.clone(),
            previous_sequence: self.last_sequence,
        };
        let payload: Bytes = record.encode_to_vec().into();
        self.since_snapshot += payload.len();
        self.confirmed = Instant::now();
        self.batches += 1;
        let write = Write {
            options: self.options,
            bus: &self.deps.bus,
            // An id that was used before, in an earlier lead of this process, would be taken for a repetition and dropped.
            id: format!("{}-{}-{}", self.deps.guard_id, self.term, self.batches),
            after: self.last_sequence,
            payload,
        };
        // A snapshot holds what is stored and no more.
        self.last_sequence = if may_go_on && !self.snapshot_is_due() {
            self.decide_during(write.store()).await?
        } else {
            write.store().await?
        };
        Ok(record.entries)
    }

    /// Decides what comes in while a batch is being stored.
    async fn decide_during<T>(&mut self, storing: impl Future<Output = T>) -> T {
        let mut storing = pin!(storing);
        // It is to be on its way before anything else is done.
        if let Poll::Ready(stored) = poll!(&mut storing) {
            return stored;
        }
        yield_now().await;
        loop {
            let room = self.options.batch_max.saturating_sub(self.ahead.replies.len());
            tokio::select! {
                biased;
                stored = &mut storing => return stored,
                mail = self.mail.next_batch(room), if room > 0 && self.put_off.is_empty() => {
                    let now = self.turn();
                    if mail.is_empty() {
                        // The end, which is looked at by who waits for mail and nothing else.
                        return storing.await;
                    }
                    let mail = without_heartbeats(mail);
                    if mail.iter().any(|delivery| self.state.is_foreign(delivery)) {
                        self.put_off = mail;
                    } else {
                        mail.iter().for_each(|delivery| self.state.handle(delivery, now, &mut self.ahead));
                    }
                }
            }
        }
    }

    /// What stored entries have to tell.
    async fn tell(&self, entries: &[v1::LedgerEntry], orphans: &[Orphan]) {
        for fact in facts(entries) {
            self.announcer.fact(fact).await;
        }
        for alert in alerts(entries) {
            self.announcer.alert(alert).await;
        }
        self.announcer.orphans(orphans).await;
    }

    /// Whether it is certain enough that no other guard leads to answer without a write: what another one decided since
    /// would be missing in the answer. A stored batch proves the same through its fence.
    async fn leads(&mut self, lease: &Lease) -> Result<bool, Error> {
        if !lease.is_held() {
            return Err(Error::LeadLost);
        }
        let ttl = self.options.lead_ttl.get();
        let enough = self.options.lead_check.get().min(ttl / 2);
        if self.confirmed.elapsed() < enough {
            return Ok(true);
        }
        self.still_leads(lease).await
    }

    /// The same, asked now.
    async fn still_leads(&mut self, lease: &Lease) -> Result<bool, Error> {
        if !lease.is_held() {
            return Err(Error::LeadLost);
        }
        let ttl = self.options.lead_ttl.get();
        let asked = Instant::now();
        let bucket = self.deps.bus.bucket(topology::LEASES);
        match timeout(ttl / 4, bucket.entry(&topology::guard_lease(SHARD))).await {
            Ok(Ok(Some(entry))) if entry.value.as_deref() == Some(self.deps.guard_id.as_bytes()) => {
                self.confirmed = asked;
                Ok(asked.elapsed() < ttl / 2)
            }
            Ok(Ok(_)) => Err(Error::LeadLost),
            // Not known now. The lease itself ends if this lasts.
            Ok(Err(_)) | Err(_) => Ok(false),
        }
    }
}

fn terms(options: &Options) -> Terms {
    Terms {
        lease: options.lease.into(),
        wait_for_holds: options.wait_for_holds.into(),
        limit_wait: options.limit_wait.into(),
        retention: Retention {
            reservations: options.closed_memory.into(),
            reservations_max: options.closed_memory_max,
            requests: options.request_memory.into(),
            requests_max: options.request_memory_max,
        },
    }
}

async fn rung(alarm: Option<Instant>) {
    match alarm {
        Some(alarm) => sleep_until(alarm).await,
        None => std::future::pending().await,
    }
}

/// These have come, and are answered, on a subscription of their own.
fn without_heartbeats(mut mail: Vec<Delivery>) -> Vec<Delivery> {
    let heartbeat = subjects::heartbeat(SHARD);
    mail.retain(|delivery| delivery.subject != heartbeat);
    mail
}
