//! One message of the ledger, written behind the fence.

use farebox_bus::{Bus, Fence, Headers, StoreError, topology};
use farebox_proto::subjects;
use prost::bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::{PAUSE, SHARD};
use crate::{error::Error, options::Options};

pub(super) struct Write<'a> {
    pub(super) options: &'a Options,
    pub(super) bus: &'a Bus,
    pub(super) id: String,
    /// Sequence of the ledger's newest message.
    pub(super) after: u64,
    pub(super) payload: Bytes,
}

impl Write<'_> {
    /// Returns the message's sequence. An unclear try is repeated with the same id until it is clear.
    pub(super) async fn store(self) -> Result<u64, Error> {
        let subject = subjects::ledger(SHARD);
        let until = Instant::now() + self.options.store_deadline.into();
        let mut unclear = false;
        loop {
            let fence = Fence::after_subject_seq(self.after).with_id(self.id.clone());
            let within = self.options.store_timeout.into();
            match self.bus.store(&subject, Headers::new(), fence, self.payload.clone(), within).await {
                // A receipt for something else than this batch: nobody may be answered on it.
                Ok(stored) if stored.sequence <= self.after => return Err(Error::SteppedDown),
                Ok(stored) => return Ok(stored.sequence),
                Err(StoreError::WrongLastSequence { .. }) if unclear => return self.recognise(&subject).await,
                Err(StoreError::WrongLastSequence { .. }) => return Err(Error::SteppedDown),
                Err(error @ (StoreError::Full { .. } | StoreError::Forbidden { .. })) => {
                    return Err(error.into());
                }
                Err(error) if Instant::now() >= until => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%error, "a ledger batch is not stored yet, trying again");
                    unclear = true;
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// After an unclear try: whether the newest message of the ledger is the one that was to be written.
    async fn recognise(&self, subject: &str) -> Result<u64, Error> {
        match self.bus.last_by_subject(topology::LEDGER, subject).await? {
            Some(newest) if newest.payload == self.payload => Ok(newest.sequence),
            _ => Err(Error::SteppedDown),
        }
    }
}
