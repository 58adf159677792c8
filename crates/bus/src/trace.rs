//! Who hears a message: the servers that it passes are asked to say what they do with it.

use std::{collections::HashMap, future::pending};

use bytes::Bytes;
use serde::Deserialize;

use crate::{
    connect::Bus,
    error::{PublishError, SubscribeError},
    headers::Headers,
    near::Reach,
    subscribe::Subscription,
};

const TRACE_DEST: &str = "Nats-Trace-Dest";
const TRACE_ONLY: &str = "Nats-Trace-Only";
/// The first server that knows these headers. Older ones would deliver a message that is only to be traced.
const TRACES_SINCE: (u32, u32) = (2, 11);
/// Answers to another account go this way.
const OTHER_ACCOUNT: &str = "_R_.";
/// Kinds of connections, by the servers' numbers.
const CLIENT: u8 = 0;
const SERVERS: [u8; 3] = [1, 2, 4];

/// How it can be found out who listens on a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    /// Not at all: this very connection listens there.
    Never,
    /// By [`Bus::who_listens`].
    Aside,
    /// By [`Bus::publish_traced`] alone. The listener is in another account: a server that has nothing to deliver there
    /// forgets the way.
    WithMessage,
}

impl Bus {
    /// How it can be found out who listens on a subject.
    pub fn asking(&self, subject: &str) -> Asking {
        match subject {
            own if self.0.waiting.is_own(own) => Asking::Never,
            other if other.starts_with(OTHER_ACCOUNT) => Asking::WithMessage,
            _ => Asking::Aside,
        }
    }

    /// Whether the server can say who hears a message.
    pub fn can_trace(&self) -> bool {
        let version = self.0.client.server_info().version;
        let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
        numbers.next().zip(numbers.next()).is_some_and(|version| version >= TRACES_SINCE)
    }

    /// Asks who listens on a subject of this account. Nobody hears the question; the answer comes to [`Traces`].
    pub async fn who_listens(&self, subject: &str) -> Result<(), PublishError> {
        let headers = Headers::new().with(TRACE_DEST, &self.traces_go_to()).with(TRACE_ONLY, "true");
        self.send_within(Reach::Far, subject, None, headers, Bytes::new()).await
    }

    /// Publishes a message and asks who hears it; the answer comes to [`Traces`].
    pub async fn publish_traced(&self, subject: &str, headers: Headers, payload: Bytes) -> Result<(), PublishError> {
        let headers = headers.with(TRACE_DEST, &self.traces_go_to());
        self.send_within(Reach::Far, subject, None, headers, payload).await
    }

    /// What is said of this connection's traced messages. One at a time.
    pub async fn traces(&self) -> Result<Traces, SubscribeError> {
        Ok(Traces { said: self.subscribe(&self.traces_go_to(), None).await?, found: HashMap::new() })
    }

    fn traces_go_to(&self) -> String {
        self.0.waiting.beside("traces")
    }
}

/// What the servers said of traced messages.
pub struct Traces {
    said: Subscription,
    found: HashMap<String, Found>,
}

impl Traces {
    /// Listens until it is dropped, which loses nothing.
    pub async fn gather(&mut self) {
        while let Some(said) = self.said.next().await {
            if let Ok(trace) = serde_json::from_slice::<Trace>(&said.payload)
                && let Some(subject) = trace.subject()
            {
                self.found.entry(subject.to_owned()).or_default().add(&trace);
            }
        }
        pending().await
    }

    /// Of each subject asked about since the last time, whether somebody listens. One of which not all that was to be said has
    /// come is absent.
    pub fn take(&mut self) -> HashMap<String, bool> {
        let found = std::mem::take(&mut self.found);
        found.into_iter().filter_map(|(subject, found)| Some((subject, found.somebody()?))).collect()
    }
}

/// What one server did with a message.
#[derive(Deserialize)]
struct Trace {
    /// To how many servers it was sent on.
    #[serde(default)]
    hops: usize,
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    what: String,
    /// Of the connection that it came from or went to.
    kind: Option<u8>,
    #[serde(default)]
    subj: String,
    error: Option<String>,
}

impl Trace {
    /// What it was published on; the first event is its arrival.
    fn subject(&self) -> Option<&str> {
        self.events.first().filter(|event| event.what == "in").map(|event| event.subj.as_str())
    }

    /// Whether it came from who published it.
    fn begins(&self) -> bool {
        self.events.first().is_some_and(|event| event.kind == Some(CLIENT))
    }

    /// Whatever is not known to be no listener is taken for one.
    fn has_listener(&self) -> bool {
        self.events.iter().any(|event| {
            let passes = match event.what.as_str() {
                "in" => true,
                "eg" => event.kind.is_some_and(|kind| SERVERS.contains(&kind)),
                _ => false,
            };
            !passes || event.error.is_some()
        })
    }
}

/// What is known of the messages on one subject.
#[derive(Default)]
struct Found {
    messages: usize,
    hops: usize,
    traces: usize,
    listener: bool,
}

impl Found {
    fn add(&mut self, trace: &Trace) {
        self.messages += usize::from(trace.begins());
        self.hops += trace.hops;
        self.traces += 1;
        self.listener |= trace.has_listener();
    }

    fn somebody(&self) -> Option<bool> {
        let complete = self.messages > 0 && self.traces == self.messages + self.hops;
        (self.listener || complete).then_some(self.listener)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(traces: &[&str]) -> Option<bool> {
        let mut found = Found::default();
        traces.iter().for_each(|text| found.add(&serde_json::from_str(text).unwrap()));
        found.somebody()
    }

    const SENT: &str = r#"{"events":[{"type":"in","kind":0,"subj":"a"}]}"#;
    const SENT_ON: &str = r#"{"hops":1,"events":[{"type":"in","kind":0,"subj":"a"},{"type":"eg","kind":1}]}"#;
    const ARRIVED: &str = r#"{"events":[{"type":"in","kind":1,"subj":"a"}]}"#;

    #[test]
    fn nobody_listens_only_where_every_server_says_so() {
        let listener = r#"{"events":[{"type":"in","kind":1,"subj":"a"},{"type":"eg","kind":0,"sub":"a"}]}"#;
        let import = r#"{"events":[{"type":"in","kind":0,"subj":"a"},{"type":"si","acc":"P"}]}"#;
        let refused = r#"{"events":[{"type":"in","kind":0,"subj":"a"},{"type":"eg","kind":4,"error":"no support"}]}"#;
        let unheard_of = r#"{"events":[{"type":"in","kind":0,"subj":"a"},{"type":"new"}]}"#;
        let cases: [(&[&str], _); 9] = [
            (&[], None),
            (&[SENT], Some(false)),
            (&[SENT_ON], None),
            (&[ARRIVED], None),
            (&[SENT_ON, ARRIVED], Some(false)),
            (&[SENT_ON, listener], Some(true)),
            (&[import], Some(true)),
            (&[refused], Some(true)),
            (&[unheard_of], Some(true)),
        ];
        for (traces, expected) in cases {
            assert_eq!(found(traces), expected, "{traces:?}");
        }
    }
}
