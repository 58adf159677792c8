//! The config in force: what the file says, or what was applied over it while farebox ran.
//!
//! Every process with roles watches the bucket `farebox-config`. A role makes of a config what it needs of it ([`Live::made`])
//! and acts by that from then on; what has begun goes on with what it began with. A config that a role cannot use is
//! said, and the role stays with the one before it.

mod reader;

use std::sync::Arc;

use anyhow::{Context, Result};
use farebox_bus::{Bucket, Bus, Entry, topology};
use farebox_config::{FileSource, Loaded};
use farebox_proto::v1;
use farebox_runtime::Tasks;
use prost::Message;
use tokio::sync::watch;

use crate::config::{Base, Config};

/// A config, and which it is.
pub(crate) struct InForce {
    pub(crate) config: Loaded<Config>,
    /// 0: nothing is applied, the file alone says what holds.
    pub(crate) revision: u64,
}

/// Follows the config. Clones share one state.
#[derive(Clone)]
pub(crate) struct Live {
    base: Arc<Base>,
    /// What was applied before this process started, the oldest first.
    known: Arc<Vec<Entry>>,
    newest: watch::Receiver<Arc<InForce>>,
    tasks: Tasks,
}

impl Live {
    /// Finds out what is in force, and goes on watching it.
    pub(crate) async fn start(base: Base, bus: &Bus, tasks: &Tasks) -> Result<Live> {
        let bucket = bus.bucket(topology::CONFIG);
        let known = bucket.history(topology::CONFIG_KEY).await.context("cannot read what was applied to the config")?;
        let first = newest_usable(&base, &known)?;
        match first.revision {
            0 => tracing::info!("the config is that of the file: nothing is applied over it"),
            revision => {
                tracing::info!(revision, "the config is an applied one: the file's sections it has do not count")
            }
        }
        let (sender, newest) = watch::channel(Arc::new(first));
        let (base, drain) = (Arc::new(base), tasks.drain());
        let watched = base.clone();
        tasks.spawn("config", async move {
            tokio::select! {
                followed = follow(bucket, &watched, sender) => followed,
                () = drain.signaled() => Ok(()),
            }
        });
        Ok(Live { base, known: Arc::new(known), newest, tasks: tasks.clone() })
    }

    /// What a role makes of the config, now and after every change.
    pub(crate) fn made<T: Send + Sync + 'static>(
        &self,
        role: &'static str,
        mut make: impl FnMut(&InForce, Option<&T>) -> Result<T> + Send + 'static,
    ) -> Result<watch::Receiver<Arc<T>>> {
        let mut newest = self.newest.clone();
        let now = newest.borrow_and_update().clone();
        let (sender, made) = watch::channel(Arc::new(self.first(role, &now, &mut make)?));
        let drain = self.tasks.drain();
        self.tasks.spawn("config of a role", async move {
            loop {
                tokio::select! {
                    changed = newest.changed() => if changed.is_err() { return },
                    () = drain.signaled() => return,
                }
                let now = newest.borrow_and_update().clone();
                let before = sender.borrow().clone();
                match make(&now, Some(&before)) {
                    Ok(made) => {
                        sender.send_replace(Arc::new(made));
                        tracing::info!(role, revision = now.revision, "another config is in force");
                    }
                    Err(error) => cannot_use(role, now.revision, &error),
                }
            }
        });
        Ok(made)
    }

    /// What a role begins with: it may be behind the newest config, as it would be if it had not been restarted.
    fn first<T>(
        &self,
        role: &'static str,
        now: &InForce,
        make: &mut impl FnMut(&InForce, Option<&T>) -> Result<T>,
    ) -> Result<T> {
        let mut failed = match make(now, None) {
            Ok(made) => return Ok(made),
            Err(error) => error,
        };
        if now.revision == 0 {
            return Err(failed);
        }
        cannot_use(role, now.revision, &failed);
        for entry in self.known.iter().rev().filter(|entry| entry.revision < now.revision) {
            match read(&self.base, entry).and_then(|before| make(&before, None)) {
                Ok(made) => return Ok(made),
                Err(error) => failed = error,
            }
        }
        let file = InForce { config: self.base.load()?, revision: 0 };
        make(&file, None).context(failed.to_string())
    }
}

fn cannot_use(role: &str, revision: u64, error: &anyhow::Error) {
    tracing::error!(role, revision, "this config cannot be used here, the one before it stays: {error:#}");
}

/// The config of an entry of the bucket.
fn read(base: &Base, entry: &Entry) -> Result<InForce> {
    let applied = match &entry.value {
        Some(value) => {
            v1::AppliedConfig::decode(value.clone()).context("it is not written as this farebox reads it")?
        }
        None => v1::AppliedConfig { file_alone: true, ..Default::default() },
    };
    if applied.file_alone {
        return Ok(InForce { config: base.load()?, revision: 0 });
    }
    let document = FileSource { name: format!("revision {}", entry.revision), text: applied.document };
    Ok(InForce { config: base.with(document)?, revision: entry.revision })
}

fn newest_usable(base: &Base, known: &[Entry]) -> Result<InForce> {
    for entry in known.iter().rev() {
        match read(base, entry) {
            Ok(found) => return Ok(found),
            Err(error) => cannot_use("all", entry.revision, &error),
        }
    }
    Ok(InForce { config: base.load()?, revision: 0 })
}

/// Reads every change, for as long as the process lives.
async fn follow(bucket: Bucket, base: &Base, sender: watch::Sender<Arc<InForce>>) -> Result<()> {
    let mut watch = bucket.watch().await?;
    let mut heard = sender.borrow().revision;
    loop {
        let entry = watch.next().await;
        if entry.key != topology::CONFIG_KEY || entry.revision == heard {
            continue;
        }
        heard = entry.revision;
        match read(base, &entry) {
            // The start has read the file, and an interruption repeats what is known.
            Ok(now) if now.revision == sender.borrow().revision => {}
            Ok(now) => {
                sender.send_replace(Arc::new(now));
            }
            Err(error) => cannot_use("all", entry.revision, &error),
        }
    }
}
