//! The loop of the one accountant that writes: pull, look up what is doubtful, insert, acknowledge.

use std::time::Duration;

use farebox_bus::{ConsumerSpec, Lease, Pulled, Puller, topology};
use farebox_clickhouse::{CallRow, Certainty, Error as ClickHouseError, Term};
use farebox_proto::{subjects, v1};
use farebox_runtime::Drain;
use farebox_types::ErrorKind;
use prost::Message;
use tokio::time::sleep;

use crate::{
    error::Error,
    options::Options,
    rows::{by_month, doubtful, missing, rows_of, token},
    service::Deps,
};

/// The durable consumer on the ledger stream. Up to its ack floor every row is stored: what lies below may be trimmed.
pub const CONSUMER: &str = "accounting";

/// Why the loop ended.
pub(crate) enum End {
    Drained,
    /// Another accountant writes now, or may soon.
    SteppedDown,
}

/// One lead.
pub(crate) struct Writer<'a> {
    options: &'a Options,
    deps: &'a Deps,
    puller: Puller,
    /// Delivered and not acknowledged: kept while ClickHouse is away, so that it is all that is.
    held: Vec<Pulled>,
    /// Why writing does not work: each change is logged once.
    failing: Option<ErrorKind>,
    pause: Duration,
}

/// What a term knows.
struct Ground {
    term: Term,
    incarnation: u64,
    /// No row has a sequence above it.
    high: u64,
}

impl<'a> Writer<'a> {
    pub(crate) async fn create(options: &'a Options, deps: &'a Deps) -> Result<Writer<'a>, Error> {
        let spec = ConsumerSpec {
            ack_wait: options.ack_wait.get(),
            // Redelivered ones count too: room for a batch in flight and the one of an accountant that died.
            max_ack_pending: u32::try_from(options.batch_messages.saturating_mul(4)).unwrap_or(u32::MAX),
            filter: Some(subjects::ledger(subjects::SHARD)),
        };
        let puller = deps.bus.consumer(topology::LEDGER, CONSUMER, &spec).await?;
        Ok(Writer { options, deps, puller, held: Vec::new(), failing: None, pause: options.retry_min.get() })
    }

    /// Writes until the drain, or until another accountant does.
    pub(crate) async fn run(&mut self, drain: &Drain, lease: &Lease) -> Result<End, Error> {
        let end = self.terms(drain, lease).await;
        // So that the next accountant need not wait for them.
        for delivery in self.held.drain(..) {
            let _ = delivery.nak(Duration::ZERO).await;
        }
        end
    }

    async fn terms(&mut self, drain: &Drain, lease: &Lease) -> Result<End, Error> {
        loop {
            let begun = tokio::select! {
                begun = self.begin() => begun,
                () = drain.signaled() => return Ok(End::Drained),
                () = lease.lost() => return Ok(End::SteppedDown),
            };
            let ended = match begun {
                Ok(ground) => self.write(ground, drain, lease).await,
                Err(error) => Err(error),
            };
            match ended {
                Ok(end) => return Ok(end),
                Err(error) if error.is_fatal() => return Err(error),
                Err(Error::ClickHouse(ClickHouseError::Fenced)) => {
                    tracing::warn!("another accountant writes to ClickHouse: stepping down");
                    return Ok(End::SteppedDown);
                }
                Err(Error::NewStream) => {
                    tracing::warn!("the ledger stream was made anew: reading it from its beginning");
                    self.held.clear();
                }
                Err(error) => self.fails(&error),
            }
            tokio::select! {
                () = sleep(self.pause) => self.pause = (self.pause * 2).min(self.options.retry_max.get()),
                () = drain.signaled() => return Ok(End::Drained),
                () = lease.lost() => return Ok(End::SteppedDown),
            }
        }
    }

    /// After this nothing that was sent before can change what is in ClickHouse.
    async fn begin(&self) -> Result<Ground, Error> {
        let clickhouse = &self.deps.clickhouse;
        clickhouse.migrate().await?;
        let term = clickhouse.open_term(&self.deps.accountant_id, self.deps.clock.now()).await?;
        let incarnation = self.deps.bus.stream_info(topology::LEDGER).await?.incarnation;
        let high = clickhouse.highest_sequence(incarnation).await?;
        if self.failing.is_none() {
            tracing::info!(term = term.number(), incarnation, high, "writing calls to ClickHouse");
        }
        Ok(Ground { term, incarnation, high })
    }

    async fn write(&mut self, mut ground: Ground, drain: &Drain, lease: &Lease) -> Result<End, Error> {
        loop {
            if self.held.is_empty() {
                let bytes = self.options.batch_bytes.len();
                let within = self.options.flush_interval.get();
                tokio::select! {
                    biased;
                    () = lease.lost() => return Ok(End::SteppedDown),
                    () = drain.signaled() => return Ok(End::Drained),
                    batch = self.puller.batch(self.options.batch_messages, bytes, within) => self.held = batch,
                }
            }
            if self.held.is_empty() {
                continue;
            }
            tokio::select! {
                stored = self.store(&mut ground) => stored?,
                // What becomes of the insert is looked up by the next accountant.
                () = long_after(drain, self.options.drain_grace.get()) => return Ok(End::Drained),
            }
            self.works();
            for delivery in self.held.drain(..) {
                // A lost one means another delivery, whose rows are found to be there.
                if let Err(error) = delivery.ack().await {
                    tracing::debug!(%error, "an acknowledgement was not sent");
                }
            }
        }
    }

    /// Makes sure that all rows of what is held are in ClickHouse. Any failure ends the term: what happened is looked up
    /// in the next one.
    async fn store(&self, ground: &mut Ground) -> Result<(), Error> {
        // Sequences begin again with a new stream of the same name.
        if self.deps.bus.stream_info(topology::LEDGER).await?.incarnation != ground.incarnation {
            return Err(Error::NewStream);
        }
        let rows = self.rows(ground.incarnation)?;
        let present = match doubtful(&rows, ground.high) {
            sequences if sequences.is_empty() => Default::default(),
            sequences => self.deps.clickhouse.positions(ground.incarnation, &sequences).await?,
        };
        let found = present.len();
        let rows = missing(rows, present);
        let count = rows.len();
        let last = rows.iter().map(|row| row.ledger_sequence).max().unwrap_or_default();
        for month in by_month(rows) {
            let token = token(ground.term.number(), &month);
            self.deps.clickhouse.insert_calls(&ground.term, &month, &token).await?;
        }
        ground.high = ground.high.max(last);
        tracing::debug!(messages = self.held.len(), rows = count, found, "a batch is in ClickHouse");
        Ok(())
    }

    fn rows(&self, incarnation: u64) -> Result<Vec<CallRow>, Error> {
        let mut rows = Vec::new();
        for delivery in &self.held {
            let sequence = delivery.sequence;
            let batch = v1::LedgerBatch::decode(delivery.payload.clone())
                .map_err(|error| Error::Damaged { sequence, reason: error.to_string() })?;
            rows.extend(rows_of(batch, incarnation, sequence));
        }
        Ok(rows)
    }

    fn works(&mut self) {
        self.pause = self.options.retry_min.get();
        if self.failing.take().is_some() {
            tracing::info!("writing calls to ClickHouse works again");
        }
    }

    fn fails(&mut self, error: &Error) {
        if self.failing.replace(error.kind()) == Some(error.kind()) {
            tracing::debug!(%error, "calls cannot be written yet");
            return;
        }
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        match error {
            // Somebody has to do something.
            Error::ClickHouse(source) if source.certainty() == Certainty::Final => {
                tracing::error!(%error, cause, "calls are not written; they wait in the ledger, nothing is lost");
            }
            _ => tracing::warn!(%error, cause, "calls are not written now; they wait in the ledger, nothing is lost"),
        }
    }
}

async fn long_after(drain: &Drain, grace: Duration) {
    drain.signaled().await;
    sleep(grace).await;
}
