//! Private inboxes: one wildcard subscription per connection, and a table of who waits for what.
//!
//! The client's own request function keeps its entry for ever when no answer comes. Here every entry belongs to a
//! [`Slot`], and dropping the slot removes it, whichever way the wait ended.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::{mpsc, oneshot};

use crate::{counters::Counters, delivery::Delivery};

/// The server forbade the publish that an entry waits for.
#[derive(Debug)]
pub(crate) struct Forbidden;

pub(crate) type Answer = Result<Delivery, Forbidden>;

enum Entry {
    One { subject: String, to: oneshot::Sender<Answer> },
    Many { to: mpsc::Sender<Delivery>, overflowed: Arc<AtomicBool> },
}

/// Everybody who waits on this connection.
pub(crate) struct Waiting {
    prefix: String,
    next: AtomicU64,
    entries: Mutex<HashMap<u64, Entry>>,
    counters: Arc<Counters>,
}

impl Waiting {
    pub(crate) fn new(prefix: String, counters: Arc<Counters>) -> Arc<Waiting> {
        Arc::new(Waiting { prefix, next: AtomicU64::new(1), entries: Mutex::default(), counters })
    }

    /// The subject that the dispatcher subscribes to.
    pub(crate) fn wildcard(&self) -> String {
        format!("{}.*", self.prefix)
    }

    /// A subject beside these inboxes: what comes there is for a subscription of its own.
    pub(crate) fn beside(&self, name: &str) -> String {
        format!("{}.{name}.all", self.prefix)
    }

    /// Whether a subject is one of these inboxes.
    pub(crate) fn is_own(&self, subject: &str) -> bool {
        subject.strip_prefix(self.prefix.as_str()).is_some_and(|rest| rest.starts_with('.'))
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// A place for one answer to a publish on `subject`.
    pub(crate) fn one(self: &Arc<Self>, subject: &str) -> (Slot, oneshot::Receiver<Answer>) {
        let (to, from) = oneshot::channel();
        (self.add(Entry::One { subject: subject.to_owned(), to }), from)
    }

    /// A place for many messages.
    pub(crate) fn many(self: &Arc<Self>, capacity: usize) -> Inbox {
        let (to, from) = mpsc::channel(capacity.max(1));
        let overflowed = Arc::new(AtomicBool::new(false));
        let slot = self.add(Entry::Many { to, overflowed: overflowed.clone() });
        Inbox { slot, from, overflowed }
    }

    fn add(self: &Arc<Self>, entry: Entry) -> Slot {
        let token = self.next.fetch_add(1, Relaxed);
        self.lock().insert(token, entry);
        Slot { waiting: self.clone(), token }
    }

    /// Hands a message to whoever waits for it.
    pub(crate) fn deliver(&self, message: Delivery) {
        let token = message.subject.get(self.prefix.len() + 1..).and_then(|t| u64::from_str_radix(t, 16).ok());
        let mut entries = self.lock();
        let Some(token) = token else { return };
        match entries.get(&token) {
            None => self.counters.late_replies.add_one(),
            Some(Entry::One { .. }) => {
                if let Some(Entry::One { to, .. }) = entries.remove(&token) {
                    // The waiter may have gone between our look-up and now; its slot cleans up either way.
                    let _ = to.send(Ok(message));
                }
            }
            Some(Entry::Many { to, overflowed }) => {
                if let Err(mpsc::error::TrySendError::Full(_)) = to.try_send(message) {
                    // A message is lost, so the stream is worth nothing any more: end it rather than hide a gap.
                    overflowed.store(true, Relaxed);
                    self.counters.inbox_overflows.add_one();
                    entries.remove(&token);
                }
            }
        }
    }

    /// Ends every wait for an answer to a publish on `subject`: the server forbade it.
    pub(crate) fn forbid(&self, subject: &str) {
        let mut entries = self.lock();
        let hit = |entry: &Entry| matches!(entry, Entry::One { subject: s, .. } if s == subject);
        let tokens: Vec<u64> = entries.iter().filter(|(_, e)| hit(e)).map(|(t, _)| *t).collect();
        for token in tokens {
            if let Some(Entry::One { to, .. }) = entries.remove(&token) {
                let _ = to.send(Err(Forbidden));
            }
        }
    }

    /// Ends every wait: the connection is closed for good.
    pub(crate) fn close(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        // Nothing panics while the lock is held, and the map is whole after each single operation.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One entry in the table; gone when this is dropped.
pub(crate) struct Slot {
    waiting: Arc<Waiting>,
    token: u64,
}

impl Slot {
    pub(crate) fn subject(&self) -> String {
        format!("{}.{:x}", self.waiting.prefix, self.token)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.token);
    }
}

/// A private inbox for many messages: a subject to be written into a request, and what arrives there.
pub struct Inbox {
    slot: Slot,
    from: mpsc::Receiver<Delivery>,
    overflowed: Arc<AtomicBool>,
}

impl Inbox {
    /// The subject that others publish to.
    pub fn subject(&self) -> String {
        self.slot.subject()
    }

    /// The next message in the order of its publisher; `None` when the inbox ended: see [`Inbox::overflowed`].
    pub async fn next(&mut self) -> Option<Delivery> {
        self.from.recv().await
    }

    /// A message that is already here.
    pub fn try_next(&mut self) -> Option<Delivery> {
        self.from.try_recv().ok()
    }

    /// Whether the inbox ended because it was full: at least one message is lost.
    pub fn overflowed(&self) -> bool {
        self.overflowed.load(Relaxed)
    }
}
