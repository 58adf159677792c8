//! Key-value buckets: a stream in which the last message of a key is its value.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use farebox_types::Timestamp;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    connect::Bus,
    error::{StoreError, StreamError},
    headers::{self, Headers},
    jetstream::code,
    store::{Fence, Stored},
    stream::{Discard, StoredMessage, StreamSpec},
};

/// How a bucket is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketSpec {
    pub name: String,
    pub max_bytes: u64,
    /// Values of each key that are kept, the newest included.
    pub history: u64,
    /// Keys may carry a time to live; the mark of an expired one stays this long.
    pub key_ttl: Option<Duration>,
    pub replicas: u8,
}

impl BucketSpec {
    pub fn new(name: &str, max_bytes: u64) -> BucketSpec {
        BucketSpec { name: name.to_owned(), max_bytes, history: 1, key_ttl: None, replicas: 1 }
    }

    /// The stream behind the bucket.
    pub fn stream(&self) -> StreamSpec {
        let subjects = format!("$KV.{}.>", self.name);
        StreamSpec {
            discard: Discard::New,
            max_msgs_per_subject: Some(self.history),
            message_ttl: self.key_ttl,
            allow_rollup: true,
            replicas: self.replicas,
            ..StreamSpec::new(&format!("KV_{}", self.name), &[&subjects], self.max_bytes)
        }
    }
}

/// The newest value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    /// `None`: deleted or expired.
    pub value: Option<Bytes>,
    /// Grows with every write to the bucket; to be named in a conditional write.
    pub revision: u64,
}

/// One write to a bucket, as its stream holds it, or a stream that is copied from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub bucket: String,
    pub key: String,
    /// The value; of a deletion, what was said with it.
    pub payload: Bytes,
    pub deleted: bool,
    /// The revision that it made.
    pub revision: u64,
    /// Its place in the stream that it was read from.
    pub sequence: u64,
    pub at: Timestamp,
}

impl Write {
    /// `None`: the message is of no bucket.
    pub fn read(message: StoredMessage) -> Option<Write> {
        let (bucket, key) = message.subject.strip_prefix("$KV.")?.split_once('.')?;
        // The stream that it was copied from, its sequence there, and more.
        let copied = message.headers.get(headers::COPIED_FROM).and_then(|from| from.split(' ').nth(1)?.parse().ok());
        Some(Write {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            deleted: is_gone(&message),
            revision: copied.unwrap_or(message.sequence),
            sequence: message.sequence,
            at: message.time,
            payload: message.payload,
        })
    }
}

/// A bucket. Keys are subject tokens: letters, digits, `-`, `_`, `=`, `/` and dots between them.
#[derive(Clone)]
pub struct Bucket {
    pub(crate) bus: Bus,
    name: String,
    within: Duration,
}

impl Bus {
    /// Makes the bucket, or changes it to be as wanted.
    pub async fn ensure_bucket(&self, spec: &BucketSpec) -> Result<Bucket, StreamError> {
        self.ensure_stream(&spec.stream()).await?;
        Ok(self.bucket(&spec.name))
    }

    /// A bucket that exists already.
    pub fn bucket(&self, name: &str) -> Bucket {
        Bucket { bus: self.clone(), name: name.to_owned(), within: self.0.options.api_timeout.get() }
    }
}

impl Bucket {
    fn stream(&self) -> String {
        format!("KV_{}", self.name)
    }

    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.name)
    }

    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, StreamError> {
        Ok(self.entry(key).await?.and_then(|entry| entry.value))
    }

    /// The newest entry, also that of a deleted or expired key; `None` when there never was one.
    pub async fn entry(&self, key: &str) -> Result<Option<Entry>, StreamError> {
        let newest = self.bus.last_by_subject(&self.stream(), &self.subject(key)).await?;
        Ok(newest.map(|message| read_entry(key, message)))
    }

    /// The entries of a key that are kept, the oldest first.
    pub async fn history(&self, key: &str) -> Result<Vec<Entry>, StreamError> {
        let kept = self.bus.read_from(&self.stream(), &self.subject(key), 1).await?.collect().await?;
        Ok(kept.into_iter().map(|message| read_entry(key, message)).collect())
    }

    /// The writes of a key that are kept, the oldest first.
    pub async fn writes(&self, key: &str) -> Result<Vec<Write>, StreamError> {
        let kept = self.bus.read_from(&self.stream(), &self.subject(key), 1).await?.collect().await?;
        Ok(kept.into_iter().filter_map(Write::read).collect())
    }

    pub async fn put(&self, key: &str, value: Bytes) -> Result<u64, StoreError> {
        Ok(self.write(key, Headers::new(), Fence::none(), value).await?.sequence)
    }

    /// Writes only if `revision` is still the newest of this key; 0: if there never was one.
    pub async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, StoreError> {
        Ok(self.write(key, Headers::new(), Fence::after_subject_seq(revision), value).await?.sequence)
    }

    /// The same with a time to live, whole seconds from one on. The client's own way of writing one loses it when the
    /// key had expired before, so this is written by hand.
    pub(crate) async fn update_with_ttl(
        &self,
        key: &str,
        value: Bytes,
        revision: u64,
        ttl: Duration,
    ) -> Result<u64, StoreError> {
        let seconds = ttl.as_secs().max(1);
        let headers = Headers::new().with(headers::TTL, &format!("{seconds}s"));
        Ok(self.write(key, headers, Fence::after_subject_seq(revision), value).await?.sequence)
    }

    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let headers = Headers::new().with(headers::KV_OPERATION, "DEL");
        self.write(key, headers, Fence::none(), Bytes::new()).await.map(|_| ())
    }

    /// Writes only if nothing at all was written to the bucket since `revision`: whoever checked all of it then may rely
    /// on what was found.
    pub async fn put_unchanged(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, StoreError> {
        Ok(self.write(key, Headers::new(), unchanged_since(revision), value).await?.sequence)
    }

    /// Deletes under the same condition. `why` stays with the mark of the deletion, for whoever reads the stream.
    pub async fn delete_unchanged(&self, key: &str, why: Bytes, revision: u64) -> Result<u64, StoreError> {
        let headers = Headers::new().with(headers::KV_OPERATION, "DEL");
        Ok(self.write(key, headers, unchanged_since(revision), why).await?.sequence)
    }

    /// The newest entry of every key, deleted ones included, and a revision up to which at least they are that.
    pub async fn entries(&self) -> Result<(Vec<Entry>, u64), StreamError> {
        let revision = self.bus.stream_info(&self.stream()).await?.last_sequence;
        let prefix = self.subject("");
        let mut replay = self.bus.read_from(&self.stream(), &self.subject(">"), 1).await?;
        let mut newest = BTreeMap::new();
        while let Some(message) = replay.next().await? {
            let key = message.subject.strip_prefix(&prefix).unwrap_or_default().to_owned();
            newest.insert(key.clone(), read_entry(&key, message));
        }
        Ok((newest.into_values().collect(), revision))
    }

    /// The revision of the newest entry; 0 when there is none. Asked of the one server that takes the writes, so
    /// nothing that was written before is missing.
    pub async fn newest(&self) -> Result<u64, StreamError> {
        #[derive(Deserialize)]
        struct Message {
            seq: u64,
        }
        #[derive(Deserialize)]
        struct Found {
            message: Message,
        }
        let stream = self.stream();
        let ask = json!({ "last_by_subj": self.subject(">") });
        let found = self.bus.api::<_, Found>(&stream, &format!("$JS.API.STREAM.MSG.GET.{stream}"), &ask).await;
        match found {
            Ok(found) => Ok(found.message.seq),
            Err(StreamError::Refused { code: code::MESSAGE_NOT_FOUND, .. }) => Ok(0),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn delete_message(&self, key: &str, revision: u64) -> (String, Headers) {
        let headers = Headers::new()
            .with(headers::KV_OPERATION, "DEL")
            .with(headers::EXPECTED_LAST_SUBJECT_SEQ, &revision.to_string());
        (self.subject(key), headers)
    }

    async fn write(&self, key: &str, headers: Headers, fence: Fence, value: Bytes) -> Result<Stored, StoreError> {
        self.bus.store(&self.subject(key), headers, fence, value, self.within).await
    }

    /// Every key's present value, then every change, for as long as the connection lives. Tried again until
    /// `api_deadline` while the bucket is there and cannot be watched.
    pub async fn watch(&self) -> Result<Watch, StreamError> {
        let mut watch = Watch { bucket: self.clone(), inner: None };
        let options = &self.bus.0.options;
        let until = Instant::now() + options.api_deadline.get();
        loop {
            // Waits for JetStream, and says what is wrong with the bucket, which the client does not tell apart.
            self.bus.stream_info(&self.stream()).await?;
            let pause = options.reconnect_pause_max.get();
            match watch.open().await {
                Err(error) if Instant::now() + pause < until => {
                    tracing::warn!(bucket = %self.name, %error, "a bucket cannot be watched yet: trying again");
                }
                opened => return opened.map(|()| watch),
            }
            sleep(pause).await;
        }
    }
}

fn unchanged_since(revision: u64) -> Fence {
    Fence { expected_last_seq: Some(revision), ..Fence::default() }
}

/// Whether it deleted its key, or marks that the key has expired.
fn is_gone(message: &StoredMessage) -> bool {
    message.headers.get(headers::KV_OPERATION).is_some_and(|op| op != "PUT")
        || message.headers.get(headers::MARKER_REASON).is_some()
}

fn read_entry(key: &str, message: StoredMessage) -> Entry {
    let value = if is_gone(&message) { None } else { Some(message.payload) };
    Entry { key: key.to_owned(), value, revision: message.sequence }
}

/// See [`Bucket::watch`].
pub struct Watch {
    bucket: Bucket,
    inner: Option<async_nats::jetstream::kv::Watch>,
}

impl Watch {
    async fn open(&mut self) -> Result<(), StreamError> {
        let stream = self.bucket.stream();
        let failed = |reason: String| StreamError::Refused { stream: stream.clone(), code: 0, reason };
        let context = async_nats::jetstream::new(self.bucket.bus.0.client.clone());
        let store = context.get_key_value(&self.bucket.name).await.map_err(|e| failed(e.to_string()))?;
        self.inner = Some(store.watch_with_history(">").await.map_err(|e| failed(e.to_string()))?);
        Ok(())
    }

    /// The next change. After an interruption the present value of every key comes again first.
    pub async fn next(&mut self) -> Entry {
        let mut pause = Duration::from_millis(20);
        loop {
            let next = match &mut self.inner {
                Some(inner) => inner.next().await,
                None => None,
            };
            if let Some(Ok(entry)) = next {
                let gone = entry.operation != async_nats::jetstream::kv::Operation::Put;
                let value = if gone { None } else { Some(entry.value) };
                return Entry { key: entry.key, value, revision: entry.revision };
            }
            self.inner = None;
            if let Err(error) = self.open().await {
                tracing::debug!(bucket = %self.bucket.name, %error, "cannot watch a bucket: trying again");
            }
            sleep(pause).await;
            pause = (pause * 2).min(self.bucket.bus.0.options.consumer_pause_max.get());
        }
    }
}
