//! Reading a stream back, in order and completely, in large batches.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    connect::Bus,
    delivery::Status,
    error::{CallError, StreamError},
    headers::Headers,
    stream::StoredMessage,
};

/// A walk through the messages on a subject, up to what was the newest when the walk began.
pub struct Replay {
    bus: Bus,
    stream: String,
    subject: String,
    next: u64,
    /// Messages that are asked for at a time.
    batch: usize,
    /// Sequence of the newest message when the walk began; nothing above it is promised.
    target: Option<u64>,
    ready: VecDeque<StoredMessage>,
}

impl Bus {
    /// Reads the messages on `subject` (wildcards allowed) from sequence `from` up to the newest one there is now.
    pub async fn read_from(&self, stream: &str, subject: &str, from: u64) -> Result<Replay, StreamError> {
        let newest = self.last_by_subject(stream, subject).await?;
        let target = newest.map(|m| m.sequence).filter(|s| *s >= from);
        Ok(Replay {
            bus: self.clone(),
            stream: stream.to_owned(),
            subject: subject.to_owned(),
            next: from.max(1),
            batch: self.0.options.replay_batch.max(1),
            target,
            ready: VecDeque::new(),
        })
    }
}

impl Replay {
    /// The same, with so many messages on their way at a time.
    pub(crate) fn by(self, batch: usize) -> Replay {
        Replay { batch, ..self }
    }

    /// The next message; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<StoredMessage>, StreamError> {
        if self.ready.is_empty() {
            self.fill().await?;
        }
        Ok(self.ready.pop_front())
    }

    /// The next messages, as many as one batch brings; empty at the end.
    pub async fn next_batch(&mut self) -> Result<Vec<StoredMessage>, StreamError> {
        if self.ready.is_empty() {
            self.fill().await?;
        }
        Ok(self.ready.drain(..).collect())
    }

    /// Everything that is left.
    pub async fn collect(mut self) -> Result<Vec<StoredMessage>, StreamError> {
        let mut all = Vec::new();
        loop {
            let batch = self.next_batch().await?;
            if batch.is_empty() {
                return Ok(all);
            }
            all.extend(batch);
        }
    }

    /// Fetches the next batch. A replica may lag behind: an empty answer below the target is asked again.
    async fn fill(&mut self) -> Result<(), StreamError> {
        let Some(target) = self.target else { return Ok(()) };
        let until = Instant::now() + self.bus.0.options.api_timeout.get();
        let mut pause = Duration::from_millis(5);
        while self.ready.is_empty() && self.next <= target {
            match self.fetch(until).await {
                Ok(()) if !self.ready.is_empty() => break,
                Ok(()) => {
                    // What was the newest may have been removed since then.
                    let newest = self.bus.last_by_subject(&self.stream, &self.subject).await?;
                    if newest.is_none_or(|m| m.sequence < self.next) {
                        self.target = None;
                        break;
                    }
                }
                Err(error) if Instant::now() + pause >= until => return Err(error),
                Err(error) => tracing::debug!(stream = %self.stream, %error, "reading a stream again"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
        Ok(())
    }

    async fn fetch(&mut self, until: Instant) -> Result<(), StreamError> {
        let options = &self.bus.0.options;
        let batch = self.batch;
        let subject = format!("$JS.API.DIRECT.GET.{}", self.stream);
        let failed = |source: CallError| StreamError::Call { stream: self.stream.clone(), source };
        let late = || failed(CallError::Timeout { subject: subject.clone(), after: options.api_timeout.get() });
        let mut inbox = self.bus.inbox_for(batch + 2);
        let request = json!({ "seq": self.next, "next_by_subj": self.subject, "batch": batch });
        let body = Bytes::from(request.to_string());
        let sent = self.bus.send(&subject, Some(inbox.subject()), Headers::new(), body).await;
        sent.map_err(|e| failed(CallError::Publish(e)))?;
        let mut got = VecDeque::new();
        loop {
            let Ok(Some(delivery)) = timeout_at(until, inbox.next()).await else {
                // What came before the loss is in order and without a gap.
                if got.is_empty() {
                    return Err(late());
                }
                break;
            };
            match delivery.status {
                Some(Status::END_OF_BATCH | Status::NOT_FOUND) => break,
                Some(Status::NO_RESPONDERS) => {
                    return Err(StreamError::NotFound { stream: self.stream.clone() });
                }
                Some(Status(code)) => {
                    let reason = delivery.description.unwrap_or_default();
                    return Err(StreamError::Refused { stream: self.stream.clone(), code: u64::from(code), reason });
                }
                None => {}
            }
            if let Some(message) = StoredMessage::from_direct(delivery) {
                got.push_back(message);
            }
        }
        if let Some(last) = got.back() {
            self.next = last.sequence + 1;
        }
        self.ready = got;
        Ok(())
    }
}
