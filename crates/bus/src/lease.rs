//! Leases: who may try to lead. A lease says who tries; the fence of a durable write says who may.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    bucket::Bucket,
    connect::Bus,
    error::{StoreError, StreamError},
};

/// How a lease is taken and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseOptions {
    /// After this long without a renewal others may take it. Whole seconds, from one on.
    pub ttl: Duration,
    /// How often one who waits looks again.
    pub poll: Duration,
}

impl Default for LeaseOptions {
    fn default() -> LeaseOptions {
        LeaseOptions { ttl: Duration::from_secs(2), poll: Duration::from_millis(150) }
    }
}

/// A lease that is held. Renewed every third of its time; given back when dropped.
pub struct Lease {
    bucket: Bucket,
    key: String,
    bus: Bus,
    /// The revision we hold; 0 once it is lost.
    held: watch::Receiver<u64>,
    _renewal: JoinSet<()>,
}

impl Bucket {
    /// Waits until the lease `key` is free and takes it. `holder` is what others see; it must be unique to the process.
    pub async fn acquire(&self, key: &str, holder: &str, options: &LeaseOptions) -> Lease {
        let taken_at = loop {
            let began = Instant::now();
            match self.try_take(key, holder, options.ttl).await {
                Ok(Some(revision)) => break (revision, began),
                Ok(None) => {}
                Err(error) => tracing::debug!(key, error, "cannot take a lease: trying again"),
            }
            sleep(options.poll).await;
        };
        let (revision, began) = taken_at;
        let (tell, held) = watch::channel(revision);
        let mut renewal = JoinSet::new();
        let renewer = Renewer {
            bucket: self.clone(),
            key: key.to_owned(),
            holder: holder.to_owned(),
            ttl: options.ttl,
            revision,
            renewed: began,
        };
        renewal.spawn(renewer.run(tell));
        Lease { bucket: self.clone(), key: key.to_owned(), bus: self.bus.clone(), held, _renewal: renewal }
    }

    /// Whether nobody holds the lease `key`. What its next holder does comes after this.
    pub async fn is_free(&self, key: &str) -> Result<bool, StreamError> {
        Ok(self.get(key).await?.is_none())
    }

    /// `None`: somebody else holds it.
    async fn try_take(&self, key: &str, holder: &str, ttl: Duration) -> Result<Option<u64>, String> {
        let entry = self.entry(key).await.map_err(|e: StreamError| e.to_string())?;
        let revision = match entry {
            None => 0,
            // Ours from an attempt whose receipt was lost, or free.
            Some(entry) if entry.value.as_ref().is_none_or(|v| v == holder.as_bytes()) => entry.revision,
            Some(_) => return Ok(None),
        };
        match self.update_with_ttl(key, Bytes::from(holder.to_owned()), revision, ttl).await {
            Ok(revision) => Ok(Some(revision)),
            Err(StoreError::WrongLastSequence { .. }) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }
}

struct Renewer {
    bucket: Bucket,
    key: String,
    holder: String,
    ttl: Duration,
    revision: u64,
    /// When the last renewal that worked was begun: the server counts from no earlier.
    renewed: Instant,
}

impl Renewer {
    async fn run(mut self, tell: watch::Sender<u64>) {
        let mut pause = self.ttl / 3;
        loop {
            sleep(pause).await;
            let began = Instant::now();
            let left = (self.renewed + self.ttl).saturating_duration_since(began);
            match tokio::time::timeout(left, self.renew()).await {
                Ok(Ok(revision)) => {
                    self.revision = revision;
                    self.renewed = began;
                    pause = self.ttl / 3;
                    tell.send_replace(revision);
                }
                Ok(Err(true)) => break,
                // Not known: try again soon, for as long as the lease is ours by our own clock.
                Ok(Err(false)) => pause = (self.ttl / 20).max(Duration::from_millis(10)),
                Err(_) => break,
            }
        }
        tracing::warn!(key = %self.key, holder = %self.holder, "lost a lease");
        tell.send_replace(0);
    }

    /// `Err(true)`: lost for certain.
    async fn renew(&mut self) -> Result<u64, bool> {
        let value = Bytes::from(self.holder.clone());
        match self.bucket.update_with_ttl(&self.key, value, self.revision, self.ttl).await {
            Ok(revision) => Ok(revision),
            Err(StoreError::WrongLastSequence { .. }) => match self.bucket.entry(&self.key).await {
                // A renewal whose receipt was lost: ours all the same.
                Ok(Some(entry)) if entry.value.as_deref() == Some(self.holder.as_bytes()) => {
                    self.revision = entry.revision;
                    Err(false)
                }
                Ok(_) => Err(true),
                Err(_) => Err(false),
            },
            Err(_) => Err(false),
        }
    }
}

impl Lease {
    /// Whether it is still held, by our own clock.
    pub fn is_held(&self) -> bool {
        *self.held.borrow() != 0
    }

    /// Returns when the lease is lost.
    pub async fn lost(&self) {
        let mut held = self.held.clone();
        // The renewal task lives as long as `self`: the channel cannot close before.
        let _ = held.wait_for(|revision| *revision == 0).await;
    }

    /// Gives it back, so that the next one need not wait.
    pub async fn release(self) {
        let revision = *self.held.borrow();
        if revision != 0 {
            drop(self);
        }
    }
}

impl Drop for Lease {
    /// Gives it back as well as a drop can: without waiting. A lost message only means that the next one waits for
    /// the time to run out.
    fn drop(&mut self) {
        self._renewal.abort_all();
        let revision = *self.held.borrow();
        if revision == 0 {
            return;
        }
        let (subject, headers) = self.bucket.delete_message(&self.key, revision);
        let _ = self.bus.publish(&subject, headers, Bytes::new()).now_or_never();
    }
}
