//! Streams: what they look like, and reading and trimming them.

use std::time::Duration;

use bytes::Bytes;
use farebox_types::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    connect::Bus,
    delivery::{Delivery, Status},
    error::{CallError, StreamError},
    headers::{self, Headers},
    jetstream::code,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Messages stay until a limit removes them.
    Limits,
    /// A message is gone once it is acknowledged.
    WorkQueue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// A full stream forgets its oldest message.
    Old,
    /// A full stream refuses new messages.
    New,
}

/// How a stream is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSpec {
    pub name: String,
    pub subjects: Vec<String>,
    pub retention: Retention,
    pub discard: Discard,
    /// `None`: no limit.
    pub max_age: Option<Duration>,
    pub max_bytes: u64,
    /// `None`: no limit.
    pub max_messages: Option<u64>,
    /// `None`: no limit.
    pub max_msgs_per_subject: Option<u64>,
    /// How long message ids are remembered.
    pub duplicate_window: Duration,
    pub replicas: u8,
    /// Messages may carry a time to live of their own; markers of expired ones stay this long.
    pub message_ttl: Option<Duration>,
    /// A message may replace all earlier ones of its subject.
    pub allow_rollup: bool,
    /// Streams that everything is copied from, in their order.
    pub sources: Vec<String>,
}

impl StreamSpec {
    /// A file stream that keeps everything below `max_bytes` and forgets the oldest.
    pub fn new(name: &str, subjects: &[&str], max_bytes: u64) -> StreamSpec {
        StreamSpec {
            name: name.to_owned(),
            subjects: subjects.iter().map(|s| (*s).to_owned()).collect(),
            retention: Retention::Limits,
            discard: Discard::Old,
            max_age: None,
            max_bytes,
            max_messages: None,
            max_msgs_per_subject: None,
            duplicate_window: Duration::from_secs(120),
            replicas: 1,
            message_ttl: None,
            allow_rollup: false,
            sources: Vec::new(),
        }
    }

    fn config(&self) -> Value {
        let limit = |limit: Option<u64>| limit.map_or(json!(-1), |l| json!(l));
        let max_age = self.max_age.map_or(0, nanos);
        // The server refuses a window longer than the age.
        let window =
            if max_age == 0 { nanos(self.duplicate_window) } else { nanos(self.duplicate_window).min(max_age) };
        let mut config = json!({
            "name": self.name,
            "subjects": self.subjects,
            "retention": match self.retention { Retention::Limits => "limits", Retention::WorkQueue => "workqueue" },
            "discard": match self.discard { Discard::Old => "old", Discard::New => "new" },
            "storage": "file",
            "max_age": max_age,
            "max_bytes": self.max_bytes,
            "max_msgs": limit(self.max_messages),
            "max_msgs_per_subject": limit(self.max_msgs_per_subject),
            "max_msg_size": -1,
            "max_consumers": -1,
            "duplicate_window": window,
            "num_replicas": self.replicas.max(1),
            "allow_direct": true,
            "allow_rollup_hdrs": self.allow_rollup,
            "sources": self.sources.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
        });
        if let (Some(ttl), Some(map)) = (self.message_ttl, config.as_object_mut()) {
            map.insert("allow_msg_ttl".to_owned(), json!(true));
            map.insert("subject_delete_marker_ttl".to_owned(), json!(nanos(ttl)));
        }
        config
    }
}

pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// What the server knows about a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// Sequence of the oldest message; one above `last_sequence` when there is none.
    pub first_sequence: u64,
    pub last_sequence: u64,
    pub messages: u64,
    pub bytes: u64,
    /// When the stream was made, in microseconds since the epoch: tells it from a later one of the same name, whose
    /// sequences begin again at 1.
    pub incarnation: u64,
}

/// A message of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    pub subject: String,
    pub sequence: u64,
    /// When the server stored it.
    pub time: Timestamp,
    pub headers: Headers,
    pub payload: Bytes,
}

impl StoredMessage {
    /// `None` when the delivery does not say which stored message it is.
    pub(crate) fn from_direct(delivery: Delivery) -> Option<StoredMessage> {
        let sequence = delivery.header_u64(headers::SEQUENCE)?;
        let subject = delivery.headers.get(headers::SUBJECT)?.to_owned();
        let time = delivery.headers.get(headers::TIME_STAMP).and_then(parse_time).unwrap_or_default();
        Some(StoredMessage { subject, sequence, time, headers: delivery.headers, payload: delivery.payload })
    }
}

fn parse_time(text: &str) -> Option<Timestamp> {
    Some(Timestamp(text.parse::<jiff::Timestamp>().ok()?.as_millisecond()))
}

#[derive(Deserialize)]
struct InfoAnswer {
    created: String,
    config: Value,
    state: StateAnswer,
}

#[derive(Deserialize)]
struct StateAnswer {
    messages: u64,
    bytes: u64,
    first_seq: u64,
    last_seq: u64,
}

#[derive(Serialize)]
struct Empty {}

impl Bus {
    /// Makes the stream, or changes it to be as wanted; refuses what cannot be changed.
    pub async fn ensure_stream(&self, spec: &StreamSpec) -> Result<(), StreamError> {
        self.ensure_config(&spec.name, spec.config()).await
    }

    async fn ensure_config(&self, name: &str, wanted: Value) -> Result<(), StreamError> {
        match self.raw_info(name).await {
            Ok(info) => return self.update_stream(name, &info.config, wanted).await,
            Err(StreamError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let created = self.api::<_, Value>(name, &format!("$JS.API.STREAM.CREATE.{name}"), &wanted).await;
        match created {
            // Somebody else made it at the same moment, perhaps with other settings.
            Err(StreamError::Refused { code: code::NAME_IN_USE, .. }) => {
                let info = self.raw_info(name).await?;
                self.update_stream(name, &info.config, wanted).await
            }
            other => other.map(|_| ()),
        }
    }

    async fn update_stream(&self, name: &str, present: &Value, wanted: Value) -> Result<(), StreamError> {
        let incompatible = |reason: String| StreamError::Incompatible { stream: name.to_owned(), reason };
        for key in ["retention", "storage"] {
            if present[key] != wanted[key] {
                return Err(incompatible(format!("{key} is {}, wanted {}", present[key], wanted[key])));
            }
        }
        let Value::Object(wanted) = wanted else {
            return Ok(());
        };
        // A false flag, a zero or an empty list is left out of what the server reports.
        let same = |key: &str, value: &Value| {
            let given = &present[key];
            given == value || given.is_null() && [json!(false), json!(0), json!([])].contains(value)
        };
        if wanted.iter().all(|(key, value)| same(key, value)) {
            return Ok(());
        }
        // What is not ours to decide (placement, metadata, …) stays as the operator of the server set it.
        let mut merged = present.clone();
        if let Some(map) = merged.as_object_mut() {
            map.extend(wanted);
        }
        let updated = self.api::<_, Value>(name, &format!("$JS.API.STREAM.UPDATE.{name}"), &merged).await;
        match updated {
            Err(StreamError::Refused { reason, .. }) => Err(incompatible(reason)),
            other => other.map(|_| ()),
        }
    }

    async fn raw_info(&self, stream: &str) -> Result<InfoAnswer, StreamError> {
        self.api(stream, &format!("$JS.API.STREAM.INFO.{stream}"), &Empty {}).await
    }

    pub async fn stream_info(&self, stream: &str) -> Result<StreamInfo, StreamError> {
        let info = self.raw_info(stream).await?;
        let created = info.created.parse::<jiff::Timestamp>().map_err(|e| StreamError::Call {
            stream: stream.to_owned(),
            source: CallError::Decode { subject: "created".to_owned(), reason: e.to_string() },
        })?;
        Ok(StreamInfo {
            first_sequence: info.state.first_seq,
            last_sequence: info.state.last_seq,
            messages: info.state.messages,
            bytes: info.state.bytes,
            incarnation: u64::try_from(created.as_microsecond()).unwrap_or_default(),
        })
    }

    /// The newest message on a subject, which may hold wildcards.
    pub async fn last_by_subject(&self, stream: &str, subject: &str) -> Result<Option<StoredMessage>, StreamError> {
        self.direct_get(stream, &json!({ "last_by_subj": subject })).await
    }

    /// The message with this sequence, unless it was removed.
    pub async fn get(&self, stream: &str, sequence: u64) -> Result<Option<StoredMessage>, StreamError> {
        self.direct_get(stream, &json!({ "seq": sequence })).await
    }

    async fn direct_get(&self, stream: &str, request: &Value) -> Result<Option<StoredMessage>, StreamError> {
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        let failed = |source: CallError| StreamError::Call { stream: stream.to_owned(), source };
        let within = self.0.options.api_timeout.get();
        let body = Bytes::from(request.to_string());
        let answer = match self.request(&subject, Headers::new(), body, within).await {
            // Nobody serves direct reads of a stream that is not there.
            Err(CallError::NoResponders { .. }) => {
                return Err(StreamError::NotFound { stream: stream.to_owned() });
            }
            other => other.map_err(failed)?,
        };
        match answer.status {
            Some(Status::NOT_FOUND) => Ok(None),
            Some(Status(code)) => Err(StreamError::Refused {
                stream: stream.to_owned(),
                code: u64::from(code),
                reason: answer.description.unwrap_or_default(),
            }),
            None => StoredMessage::from_direct(answer).map(Some).ok_or_else(|| {
                failed(CallError::Decode { subject, reason: "the answer names no sequence".to_owned() })
            }),
        }
    }

    /// Removes the messages on `subject` with sequences up to and including `sequence`. Returns how many.
    pub async fn purge_up_to(&self, stream: &str, subject: &str, sequence: u64) -> Result<u64, StreamError> {
        #[derive(Deserialize)]
        struct Purged {
            purged: u64,
        }
        let request = json!({ "filter": subject, "seq": sequence.saturating_add(1) });
        let purged: Purged = self.api_once(stream, &format!("$JS.API.STREAM.PURGE.{stream}"), &request).await?;
        Ok(purged.purged)
    }

    /// The sequence up to which every durable consumer of a stream has acknowledged; `None` when it has no consumer.
    /// Asked once: who trims by it must not be held up, and trims again later.
    pub async fn acknowledged(&self, stream: &str) -> Result<Option<u64>, StreamError> {
        #[derive(Deserialize)]
        struct Floor {
            stream_seq: u64,
        }
        #[derive(Deserialize)]
        struct Consumer {
            ack_floor: Floor,
        }
        #[derive(Deserialize)]
        struct List {
            #[serde(default)]
            consumers: Vec<Consumer>,
        }
        let list: List = self.api_once(stream, &format!("$JS.API.CONSUMER.LIST.{stream}"), &json!({})).await?;
        Ok(list.consumers.iter().map(|consumer| consumer.ack_floor.stream_seq).min())
    }

    /// Removes one message. `false` when it was not there.
    pub async fn delete(&self, stream: &str, sequence: u64) -> Result<bool, StreamError> {
        let request = json!({ "seq": sequence, "no_erase": true });
        let deleted = self.api_once::<_, Value>(stream, &format!("$JS.API.STREAM.MSG.DELETE.{stream}"), &request).await;
        match deleted {
            Ok(_) => Ok(true),
            Err(StreamError::Refused { code: code::SEQUENCE_NOT_FOUND | code::MESSAGE_NOT_FOUND, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a stream and everything in it.
    pub async fn delete_stream(&self, stream: &str) -> Result<(), StreamError> {
        self.api_once::<_, Value>(stream, &format!("$JS.API.STREAM.DELETE.{stream}"), &Empty {}).await.map(|_| ())
    }
}
