//! The ledger's state in its stream, so that a restart need not replay everything and what lies before it can be removed.

use farebox_bus::{Fence, Headers, StoreError, topology};
use farebox_proto::{subjects, v1};
use prost::Message;

use super::{Leading, SHARD};
use crate::{
    error::Error,
    ledger::{Memory, newest},
};

impl Leading<'_> {
    /// Takes over the newest snapshot. Returns the sequence up to which it holds the ledger; 0 without one.
    pub(super) async fn restore(&mut self) -> Result<u64, Error> {
        let subject = subjects::ledger_snapshot(SHARD);
        let mut stored = self.deps.bus.read_from(topology::LEDGER, &subject, 1).await?;
        let mut parts = Vec::new();
        while let Some(message) = stored.next().await? {
            let part = v1::SnapshotPart::decode(message.payload)
                .map_err(|error| Error::Damaged { sequence: message.sequence, reason: error.to_string() })?;
            parts.push(part);
            self.snapshot_sequence = message.sequence;
        }
        let Some((through, parts)) = newest(parts) else { return Ok(0) };
        self.state.ledger.restore(parts);
        Ok(through)
    }

    pub(super) fn snapshot_is_due(&self) -> bool {
        self.since_snapshot >= self.options.snapshot_every.len()
    }

    /// Stores the state once enough was written since the last time, and removes what lies before it.
    pub(super) async fn snapshot(&mut self) -> Result<(), Error> {
        // What was decided and is not stored yet is in the state, too: the next batch has it stored before others are decided.
        if !self.snapshot_is_due() || !self.ahead.is_empty() {
            return Ok(());
        }
        self.since_snapshot = 0;
        self.snapshots += 1;
        let memory = Memory {
            tasks: self.options.task_memory.into(),
            tasks_max: self.options.task_memory_max,
            books_days: self.options.books_days,
        };
        self.state.forget(self.deps.clock.now(), memory);
        let id = format!("{}-{}-{}", self.deps.guard_id, self.term, self.snapshots);
        let parts = self.state.ledger.snapshot(&id, self.last_sequence, self.options.snapshot_part.len());
        match self.store_snapshot(parts).await {
            Err(error @ Error::SteppedDown) => Err(error),
            Err(error) => {
                // The ledger itself is whole: the next try comes after as much again.
                tracing::warn!(%error, "the ledger was not trimmed");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Each part is written behind the fence of the part before. Who was overtaken by another guard writes none, or not
    /// all, and so removes nothing: what the other one has stored may be all that is left of the ledger.
    async fn store_snapshot(&mut self, parts: Vec<v1::SnapshotPart>) -> Result<(), Error> {
        let bus = &self.deps.bus;
        let subject = subjects::ledger_snapshot(SHARD);
        let mut first = None;
        for part in parts {
            let payload = part.encode_to_vec().into();
            let fence = Fence::after_subject_seq(self.snapshot_sequence);
            let within = self.options.store_timeout.into();
            // A part whose receipt was lost also ends here, the next time: leading anew finds out what is stored.
            let stored = match bus.store(&subject, Headers::new(), fence, payload, within).await {
                Err(StoreError::WrongLastSequence { .. }) => return Err(Error::SteppedDown),
                stored => stored?,
            };
            self.snapshot_sequence = stored.sequence;
            first.get_or_insert(stored.sequence);
        }
        let Some(first) = first else { return Ok(()) };
        bus.purge_up_to(topology::LEDGER, &subject, first - 1).await?;
        // What accounting has not made rows of yet stays. The newest batch stays in any case: its sequence is the fence.
        let Some(floor) = bus.acknowledged(topology::LEDGER).await? else { return Ok(()) };
        let up_to = floor.min(self.last_sequence.saturating_sub(1));
        let removed = bus.purge_up_to(topology::LEDGER, &subjects::ledger(SHARD), up_to).await?;
        tracing::info!(through = self.last_sequence, removed, "the ledger was trimmed");
        Ok(())
    }
}
