//! Durable consumers that are pulled from, and go on by themselves.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use farebox_types::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    connect::{Bus, random_token},
    delivery::{Delivery, Status},
    error::{CallError, ConsumeError, StreamError},
    headers::Headers,
    jetstream::code,
    stream::nanos,
    subscribe::Subscription,
};

/// How a durable consumer is to be. It begins at the oldest message, each is acknowledged by itself, and what is not is
/// delivered again for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerSpec {
    /// A message that is not acknowledged within this time is delivered again.
    pub ack_wait: Duration,
    /// Messages that may be delivered and not acknowledged; more are held back.
    pub max_ack_pending: u32,
    /// Only messages on this subject.
    pub filter: Option<String>,
}

impl Default for ConsumerSpec {
    fn default() -> ConsumerSpec {
        ConsumerSpec { ack_wait: Duration::from_secs(30), max_ack_pending: 1_000, filter: None }
    }
}

/// Where a consumer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// Everything up to this stream sequence is acknowledged.
    pub ack_floor: u64,
    /// The last stream sequence delivered.
    pub delivered: u64,
    /// Delivered and not acknowledged.
    pub ack_pending: u64,
    /// Not delivered yet.
    pub pending: u64,
}

#[derive(Deserialize)]
struct Position {
    #[serde(default)]
    stream_seq: u64,
}

#[derive(Deserialize)]
struct InfoAnswer {
    delivered: Position,
    ack_floor: Position,
    num_ack_pending: u64,
    num_pending: u64,
}

impl Bus {
    /// Makes the durable consumer, or changes it to be as wanted, and returns what pulls from it.
    pub async fn consumer(&self, stream: &str, durable: &str, spec: &ConsumerSpec) -> Result<Puller, StreamError> {
        self.ensure_consumer(stream, durable, spec).await?;
        let prefix = format!("_INBOX.{}", random_token());
        let subscribed = self.subscribe(&format!("{prefix}.*"), None).await;
        let deliveries = subscribed.map_err(|_| StreamError::Call {
            stream: stream.to_owned(),
            source: CallError::Disconnected { subject: prefix.clone() },
        })?;
        Ok(Puller {
            prefix,
            deliveries,
            pulls: 0,
            bus: self.clone(),
            stream: stream.to_owned(),
            durable: durable.to_owned(),
            spec: spec.clone(),
            generation: self.0.link.generation(),
            pull: None,
        })
    }

    /// Removes a durable consumer; it is no error when there is none.
    pub async fn delete_consumer(&self, stream: &str, durable: &str) -> Result<(), StreamError> {
        let subject = format!("$JS.API.CONSUMER.DELETE.{stream}.{durable}");
        match self.api::<_, Value>(stream, &subject, &json!({})).await {
            Ok(_) | Err(StreamError::Refused { code: code::CONSUMER_NOT_FOUND, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn consumer_answer(&self, stream: &str, durable: &str) -> Result<InfoAnswer, StreamError> {
        self.api(stream, &format!("$JS.API.CONSUMER.INFO.{stream}.{durable}"), &json!({})).await
    }

    async fn ensure_consumer(&self, stream: &str, durable: &str, spec: &ConsumerSpec) -> Result<(), StreamError> {
        let mut subject = format!("$JS.API.CONSUMER.CREATE.{stream}.{durable}");
        if let Some(filter) = &spec.filter {
            subject = format!("{subject}.{filter}");
        }
        let request = json!({ "stream_name": stream, "config": config_of(durable, spec), "action": "" });
        match self.api::<_, Value>(stream, &subject, &request).await {
            Err(StreamError::Refused { reason, .. }) => {
                Err(StreamError::Incompatible { stream: format!("{stream}, consumer {durable}"), reason })
            }
            other => other.map(|_| ()),
        }
    }
}

fn config_of(durable: &str, spec: &ConsumerSpec) -> Value {
    let mut config = json!({
        "durable_name": durable,
        "name": durable,
        "ack_policy": "explicit",
        "ack_wait": nanos(spec.ack_wait),
        "max_ack_pending": spec.max_ack_pending.max(1),
        "max_deliver": -1,
        "replay_policy": "instant",
        "deliver_policy": "all",
    });
    if let (Some(filter), Some(map)) = (&spec.filter, config.as_object_mut()) {
        map.insert("filter_subject".to_owned(), json!(filter));
    }
    config
}

/// Pulls batches from a durable consumer.
///
/// Whatever ends a pull (a reconnect, a server restart, a lost consumer), the next one repairs it and goes on. A pull
/// that was begun and dropped half-way goes on with the next call: no delivered message is lost to a `select!`.
pub struct Puller {
    bus: Bus,
    stream: String,
    durable: String,
    spec: ConsumerSpec,
    generation: watch::Receiver<u64>,
    /// Deliveries keep the subject under which they were stored, so they need a subscription of their own; only what
    /// the server says about a pull arrives on that pull's own subject, `<prefix>.<pull>`.
    deliveries: Subscription,
    prefix: String,
    pulls: u64,
    pull: Option<Pull>,
}

struct Pull {
    subject: String,
    got: VecDeque<Pulled>,
    wanted: usize,
    heartbeat: Duration,
}

enum Step {
    /// The server has ended the pull, or it is complete.
    Done,
    /// The pull is lost and must be sent again.
    Again,
    /// The consumer is not there any more.
    Repair(String),
}

impl Puller {
    /// Waits until `max_messages` are here or `expires` has passed, whichever comes first. Empty when nothing came.
    pub async fn batch(&mut self, max_messages: usize, max_bytes: usize, expires: Duration) -> Vec<Pulled> {
        let until = Instant::now() + expires;
        let mut pause = Duration::from_millis(10);
        let mut max_bytes = max_bytes;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.pull.is_none() && (left.is_zero() || !self.send_pull(max_messages, max_bytes, left).await) {
                if left.is_zero() {
                    return Vec::new();
                }
                sleep_until((Instant::now() + pause).min(until)).await;
                pause = (pause * 2).min(self.bus.0.options.consumer_pause_max.get());
                continue;
            }
            let step = self.receive().await;
            let got = self.pull.take().map(|pull| pull.got).unwrap_or_default();
            if !got.is_empty() {
                return got.into();
            }
            match step {
                Step::Done => return Vec::new(),
                Step::Again => max_bytes = usize::MAX,
                Step::Repair(reason) => {
                    self.bus.0.link.counters.consumer_repairs.add_one();
                    tracing::warn!(stream = %self.stream, consumer = %self.durable, reason, "making a consumer again");
                    let repaired = self.bus.ensure_consumer(&self.stream, &self.durable, &self.spec).await;
                    if let Err(error) = repaired {
                        tracing::debug!(stream = %self.stream, consumer = %self.durable, %error, "not yet");
                        sleep_until((Instant::now() + pause).min(until)).await;
                        pause = (pause * 2).min(self.bus.0.options.consumer_pause_max.get());
                    }
                }
            }
        }
    }

    /// Waits for one message.
    pub async fn next(&mut self, expires: Duration) -> Option<Pulled> {
        self.batch(1, usize::MAX, expires).await.pop()
    }

    pub async fn info(&self) -> Result<ConsumerInfo, StreamError> {
        let answer = self.bus.consumer_answer(&self.stream, &self.durable).await?;
        Ok(ConsumerInfo {
            ack_floor: answer.ack_floor.stream_seq,
            delivered: answer.delivered.stream_seq,
            ack_pending: answer.num_ack_pending,
            pending: answer.num_pending,
        })
    }

    async fn send_pull(&mut self, wanted: usize, max_bytes: usize, expires: Duration) -> bool {
        let wanted = wanted.max(1);
        // The server takes no heartbeat above half of the time that the pull may last.
        let heartbeat = self.bus.0.options.pull_heartbeat.get().min(expires / 2);
        let mut request = json!({ "batch": wanted, "expires": nanos(expires) });
        if let Some(map) = request.as_object_mut() {
            if heartbeat >= Duration::from_millis(100) {
                map.insert("idle_heartbeat".to_owned(), json!(nanos(heartbeat)));
            }
            if max_bytes < usize::MAX {
                map.insert("max_bytes".to_owned(), json!(max_bytes));
            }
        }
        // Before the pull is sent: a reconnect from here on loses it.
        self.generation.borrow_and_update();
        self.pulls += 1;
        let reply = format!("{}.{}", self.prefix, self.pulls);
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.stream, self.durable);
        let body = Bytes::from(request.to_string());
        let sent = self.bus.send(&subject, Some(reply.clone()), Headers::new(), body).await;
        if sent.is_ok() {
            self.pull = Some(Pull { subject: reply, got: VecDeque::new(), wanted, heartbeat });
        }
        sent.is_ok()
    }

    async fn receive(&mut self) -> Step {
        let Some(pull) = &mut self.pull else {
            return Step::Again;
        };
        loop {
            let silent_until = Instant::now() + (pull.heartbeat * 3).max(Duration::from_secs(1));
            let delivery = tokio::select! {
                biased;
                delivery = self.deliveries.next() => delivery,
                // Fails only when the connection is gone for good; the subscription ends then too.
                _ = self.generation.changed() => return Step::Again,
                () = sleep_until(silent_until) => return Step::Repair("no heartbeat".to_owned()),
            };
            let Some(delivery) = delivery else {
                return Step::Repair("the connection is closed".to_owned());
            };
            match delivery.status {
                None => {
                    pull.got.extend(Pulled::from_delivery(&self.bus, delivery));
                    if pull.got.len() >= pull.wanted {
                        return Step::Done;
                    }
                }
                // What is said about an earlier pull, which was given up, does not matter any more.
                Some(_) if delivery.subject != pull.subject => {}
                Some(Status(100)) => {}
                Some(status) => return end_of_pull(status, delivery.description.unwrap_or_default()),
            }
        }
    }
}

fn end_of_pull(status: Status, description: String) -> Step {
    let said = description.to_ascii_lowercase();
    match status {
        Status(408) | Status::NOT_FOUND => Step::Done,
        Status(409) if said.contains("batch completed") => Step::Done,
        // The next message alone is above the limit: it is pulled without one.
        Status(409) if said.contains("maxbytes") => Step::Again,
        Status(code) => Step::Repair(format!("{code} {description}")),
    }
}

/// A message of a consumer. Nothing happens to it until it is acknowledged, refused or its time runs out.
#[derive(Clone)]
pub struct Pulled {
    pub subject: String,
    pub headers: Headers,
    pub payload: Bytes,
    /// Its place in the stream.
    pub sequence: u64,
    /// How often it was delivered, this time included.
    pub delivered: u64,
    /// Messages that wait behind it.
    pub pending: u64,
    /// When the stream stored it.
    pub time: Timestamp,
    ack: String,
    bus: Bus,
}

impl std::fmt::Debug for Pulled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the payload, which may be a prompt.
        write!(f, "Pulled({} #{}, delivery {})", self.subject, self.sequence, self.delivered)
    }
}

impl Pulled {
    /// `$JS.ACK.<stream>.<consumer>.<delivered>.<seq>.<consumer seq>.<time>.<pending>`, or with domain and account in
    /// front of the stream.
    fn from_delivery(bus: &Bus, delivery: Delivery) -> Option<Pulled> {
        let ack = delivery.reply?;
        let tokens: Vec<&str> = ack.split('.').collect();
        let base = match tokens.len() {
            9 => 4,
            11.. => 6,
            _ => return None,
        };
        let number = |at: usize| tokens.get(base + at)?.parse::<u64>().ok();
        let time = i64::try_from(number(3)? / 1_000_000).ok()?;
        Some(Pulled {
            subject: delivery.subject,
            headers: delivery.headers,
            payload: delivery.payload,
            delivered: number(0)?,
            sequence: number(1)?,
            time: Timestamp(time),
            pending: number(4)?,
            ack,
            bus: bus.clone(),
        })
    }

    /// Says that it is done. Not confirmed: a lost one means another delivery.
    pub async fn ack(&self) -> Result<(), ConsumeError> {
        self.say(Bytes::from_static(b"+ACK")).await
    }

    /// Says that it is done, and waits until the server knows.
    pub async fn double_ack(&self, within: Duration) -> Result<(), ConsumeError> {
        let said = self.bus.request(&self.ack, Headers::new(), Bytes::from_static(b"+ACK"), within).await;
        said.map(|_| ()).map_err(|source| ConsumeError::Ack { sequence: self.sequence, source })
    }

    /// Gives it back, to be delivered again after `delay`.
    pub async fn nak(&self, delay: Duration) -> Result<(), ConsumeError> {
        self.say(Bytes::from(format!("-NAK {}", json!({ "delay": nanos(delay) })))).await
    }

    /// Says that it is still being worked on: its time begins anew.
    pub async fn progress(&self) -> Result<(), ConsumeError> {
        self.say(Bytes::from_static(b"+WPI")).await
    }

    async fn say(&self, what: Bytes) -> Result<(), ConsumeError> {
        let sent = self.bus.publish(&self.ack, Headers::new(), what).await;
        sent.map_err(|source| ConsumeError::Send { sequence: self.sequence, source })
    }
}
