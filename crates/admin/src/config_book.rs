//! The configs that were applied while farebox ran, each a whole document, and their history.
//!
//! Guarantees: only a document without faults is written, and only if nobody wrote since it was checked; the same request
//! again under its id changes nothing. A document is kept as it was given: its secrets are references, which is checked.
//!
//! Not here: what a config says. That is known where all roles are put together, and comes as a [`ConfigReader`].

use std::sync::Arc;

use bytes::Bytes;
use farebox_bus::{Bucket, StoreError, StreamError, topology};
use farebox_proto::v1 as wire;
use prost::Message;
use sha2::{Digest, Sha256};

use crate::v1;

/// Reads documents as the roles do.
pub trait ConfigReader: Send + Sync + 'static {
    /// At which paths a document would change what is in force here; or everything that is wrong with it.
    fn check(&self, document: &str) -> Result<Vec<String>, Vec<v1::ConfigFault>>;

    /// The same for one that was in force before: what cannot change while farebox runs is not looked at.
    fn check_again(&self, document: &str) -> Result<Vec<String>, Vec<v1::ConfigFault>>;

    /// The config of this process: its revision, and all of it with the source of each value.
    fn show(&self) -> (u64, String);
}

/// Why a config is not applied.
#[derive(Debug, thiserror::Error)]
pub enum ConfigRefusal {
    #[error("the config cannot be used, it has {} fault(s)", .0.len())]
    Faults(Vec<v1::ConfigFault>),
    #[error("the document has {given} bytes, and {allowed} are allowed: raise `nats.storage.config_max_bytes`")]
    TooLarge { given: usize, allowed: usize },
    #[error("the config was changed since, its revision is {present}, not {wanted}: read it again, then apply")]
    Changed { wanted: u64, present: u64 },
    #[error("the request id `{id}` was used before for another request: choose a new one")]
    OtherRequest { id: String },
    #[error("revision {revision} of the config is not kept")]
    Unknown { revision: u64 },
    #[error(transparent)]
    Read(#[from] StreamError),
    #[error(transparent)]
    Write(StoreError),
}

/// See the module's head.
pub struct ConfigBook {
    bucket: Bucket,
    reader: Arc<dyn ConfigReader>,
    document_max: usize,
}

impl ConfigBook {
    /// `storage_max`: what the bucket may hold in all, as `nats.storage.config_max_bytes` says.
    pub fn new(bucket: Bucket, reader: Arc<dyn ConfigReader>, storage_max: u64) -> ConfigBook {
        /// What is kept besides a document: reason, names, digests.
        const AROUND: u64 = 4096;
        let each = (storage_max / topology::CONFIG_HISTORY).saturating_sub(AROUND);
        ConfigBook { bucket, reader, document_max: usize::try_from(each).unwrap_or(usize::MAX) }
    }

    pub fn reader(&self) -> &dyn ConfigReader {
        self.reader.as_ref()
    }

    /// What is kept, newest first, with documents.
    pub async fn revisions(&self) -> Result<Vec<v1::ConfigRevision>, StreamError> {
        let entries = self.bucket.history(topology::CONFIG_KEY).await?;
        Ok(entries.into_iter().rev().map(|entry| read(entry.revision, entry.value)).collect())
    }

    pub async fn revision(&self, number: u64) -> Result<v1::ConfigRevision, ConfigRefusal> {
        let kept = self.revisions().await?.into_iter().find(|kept| kept.revision == number);
        kept.ok_or(ConfigRefusal::Unknown { revision: number })
    }

    /// Applies a document, if the newest revision is `expected`; 0: whichever it is.
    pub async fn apply(
        &self,
        document: String,
        change: wire::Change,
        expected: u64,
    ) -> Result<v1::ConfigRevision, ConfigRefusal> {
        if document.len() > self.document_max {
            return Err(ConfigRefusal::TooLarge { given: document.len(), allowed: self.document_max });
        }
        let applied = wire::AppliedConfig { document, change: Some(change), ..Default::default() };
        self.write(applied, expected, |document| self.reader.check(document)).await
    }

    /// Applies the document of revision `to` again; 0: nothing is applied any more.
    pub async fn roll_back(
        &self,
        to: u64,
        change: wire::Change,
        expected: u64,
    ) -> Result<v1::ConfigRevision, ConfigRefusal> {
        let before = if to == 0 { None } else { Some(self.revision(to).await?) };
        let applied = wire::AppliedConfig {
            file_alone: before.as_ref().is_none_or(|before| before.file_alone),
            document: before.map(|before| before.document).unwrap_or_default(),
            restores: to,
            change: Some(change),
        };
        self.write(applied, expected, |document| self.reader.check_again(document)).await
    }

    async fn write(
        &self,
        applied: wire::AppliedConfig,
        expected: u64,
        check: impl FnOnce(&str) -> Result<Vec<String>, Vec<v1::ConfigFault>>,
    ) -> Result<v1::ConfigRevision, ConfigRefusal> {
        let kept = self.revisions().await?;
        if let Some(done) = repeated(&kept, &applied)? {
            return Ok(done);
        }
        let present = kept.first().map(|newest| newest.revision).unwrap_or_default();
        if expected != 0 && expected != present {
            return Err(ConfigRefusal::Changed { wanted: expected, present });
        }
        if !applied.file_alone {
            check(&applied.document).map_err(ConfigRefusal::Faults)?;
        }
        let value = applied.encode_to_vec().into();
        match self.bucket.update(topology::CONFIG_KEY, value, present).await {
            Ok(revision) => Ok(said(revision, applied)),
            Err(StoreError::WrongLastSequence { .. }) => {
                let newest = self.bucket.entry(topology::CONFIG_KEY).await?;
                let now = newest.map(|entry| entry.revision).unwrap_or_default();
                Err(ConfigRefusal::Changed { wanted: present, present: now })
            }
            Err(error) => Err(ConfigRefusal::Write(error)),
        }
    }
}

/// What the same request has done before.
fn repeated(
    kept: &[v1::ConfigRevision],
    wanted: &wire::AppliedConfig,
) -> Result<Option<v1::ConfigRevision>, ConfigRefusal> {
    let Some(asked) = wanted.change.as_ref().filter(|change| !change.request_id.is_empty()) else { return Ok(None) };
    let same = |change: &wire::Change| change.request_id == asked.request_id && change.by == asked.by;
    let Some(done) = kept.iter().find(|kept| kept.change.as_ref().is_some_and(same)) else { return Ok(None) };
    if done.change.as_ref().is_some_and(|change| change.request_digest == asked.request_digest) {
        return Ok(Some(done.clone()));
    }
    Err(ConfigRefusal::OtherRequest { id: asked.request_id.clone() })
}

/// What cannot be read stands for nothing: the roles act by none of it, either.
pub(crate) fn read(revision: u64, value: Option<Bytes>) -> v1::ConfigRevision {
    let applied = value.map(wire::AppliedConfig::decode);
    let applied = match applied {
        Some(Ok(applied)) => applied,
        Some(Err(_)) => wire::AppliedConfig::default(),
        None => wire::AppliedConfig { file_alone: true, ..Default::default() },
    };
    said(revision, applied)
}

/// As anybody is shown it: what tells requests apart is nobody's.
pub(crate) fn shown(mut kept: v1::ConfigRevision) -> v1::ConfigRevision {
    if let Some(change) = &mut kept.change {
        change.request_digest.clear();
    }
    kept
}

/// The same without the document.
pub(crate) fn brief(kept: v1::ConfigRevision) -> v1::ConfigRevision {
    shown(v1::ConfigRevision { document: String::new(), ..kept })
}

fn said(revision: u64, applied: wire::AppliedConfig) -> v1::ConfigRevision {
    v1::ConfigRevision {
        revision,
        file_alone: applied.file_alone,
        restores: applied.restores,
        digest: Sha256::digest(&applied.document).to_vec(),
        change: applied.change,
        document: applied.document,
    }
}
