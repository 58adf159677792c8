//! Who changed what: every change of a policy or the config, as it was stored.

use std::fmt;

use bytes::Bytes;
use farebox_bus::{Bus, StreamError, Write, topology};
use farebox_proto::v1;
use farebox_types::Timestamp;
use prost::Message;

use crate::entity::{Entity, Kind, change_of};

/// What was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    Entity(Kind),
    /// The config of all.
    Config,
}

impl Changed {
    pub fn all() -> impl Iterator<Item = Changed> {
        Kind::ALL.into_iter().map(Changed::Entity).chain([Changed::Config])
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Changed::Entity(kind) => kind.as_str(),
            Changed::Config => "config",
        }
    }
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name under which the config is changed.
const CONFIG_NAME: &str = "farebox";

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its place: in the audit, or where it was read from the entities themselves, the revision that it made.
    pub sequence: u64,
    /// The revision that it made.
    pub revision: u64,
    pub at: Timestamp,
    pub kind: Changed,
    /// Or a key's id.
    pub name: String,
    pub change: v1::Change,
    /// The entity or applied config after it; none: it was deleted.
    pub value: Option<Bytes>,
}

/// Sequences that are looked through in one go, from the newest back.
const WINDOW: u64 = 500;

/// Reads what was changed.
#[derive(Clone)]
pub struct Audit {
    bus: Bus,
}

impl Audit {
    pub fn new(bus: &Bus) -> Audit {
        Audit { bus: bus.clone() }
    }

    /// The newest wanted changes before a sequence, newest first, `max` at most.
    pub async fn newest(
        &self,
        before: u64,
        max: usize,
        wanted: impl Fn(&Record) -> bool,
    ) -> Result<Vec<Record>, StreamError> {
        let info = self.bus.stream_info(topology::AUDIT).await?;
        let mut until = before.min(info.last_sequence.saturating_add(1));
        let mut found = Vec::new();
        while until > info.first_sequence.max(1) && found.len() < max {
            let from = until.saturating_sub(WINDOW).max(info.first_sequence).max(1);
            let mut replay = self.bus.read_from(topology::AUDIT, ">", from).await?;
            let mut window = Vec::new();
            while let Some(message) = replay.next().await?.filter(|message| message.sequence < until) {
                window.extend(Write::read(message).and_then(record).filter(&wanted));
            }
            found.extend(window.into_iter().rev());
            until = from;
        }
        found.truncate(max);
        Ok(found)
    }

    /// The last changes of one entity that are still kept with it, oldest first.
    pub async fn of<E: Entity>(&self, name: &str) -> Result<Vec<Record>, StreamError> {
        let writes = self.bus.bucket(topology::POLICY).writes(&E::KIND.key(name)).await?;
        Ok(writes.into_iter().filter_map(record).collect())
    }
}

fn record(write: Write) -> Option<Record> {
    let (kind, name) = match write.bucket.as_str() {
        topology::POLICY => Kind::of(&write.key).map(|(kind, name)| (Changed::Entity(kind), name))?,
        topology::CONFIG if write.key == topology::CONFIG_KEY => (Changed::Config, CONFIG_NAME),
        _ => return None,
    };
    let (change, value) = match write.deleted {
        true => (v1::Change::decode(write.payload).unwrap_or_default(), None),
        false => (change(kind, &write.payload), Some(write.payload)),
    };
    Some(Record {
        sequence: write.sequence,
        revision: write.revision,
        at: write.at,
        kind,
        name: name.to_owned(),
        change,
        value,
    })
}

fn change(kind: Changed, value: &Bytes) -> v1::Change {
    match kind {
        Changed::Entity(kind) => change_of(kind, value),
        Changed::Config => {
            v1::AppliedConfig::decode(value.clone()).ok().and_then(|applied| applied.change).unwrap_or_default()
        }
    }
}
