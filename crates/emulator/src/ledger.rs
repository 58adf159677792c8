//! The emulator's own books: what a provider would put on its bill.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use crate::Usage;

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Chat completions and embeddings.
    OpenAi,
    OpenAiResponses,
    Anthropic,
    Gemini,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Still being answered.
    Open,
    /// The whole answer was handed to the connection.
    Answered,
    /// A fault of the script ended it: closed, or ended without its end.
    Cut,
    /// The caller went away first.
    ClientGone,
    /// An error was the answer.
    Error,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    /// Counts from 0, in order of arrival.
    pub seq: u64,
    /// The header `x-client-request-id`.
    pub call_id: Option<Arc<str>>,
    pub dialect: Dialect,
    pub model: Arc<str>,
    pub stream: bool,
    /// All input tokens, those of the cache included; 0 while unbilled.
    pub prompt_tokens: u64,
    pub cache_read_tokens: u64,
    pub cache_write_5m_tokens: u64,
    pub cache_write_1h_tokens: u64,
    /// All output tokens, reasoning included.
    pub completion_tokens: u64,
    pub reasoning_tokens: u64,
    /// What the provider searched by itself.
    pub searches: u64,
    pub billed: bool,
    pub state: State,
    /// The HTTP status that was sent, if one was.
    pub status: Option<u16>,
    /// When it arrived, since the emulator's start.
    pub at_ms: u64,
}

/// Exact sums over all requests, also over those whose entries are no longer kept. Tokens are those of ended requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Totals {
    pub requests: u64,
    pub open: u64,
    pub answered: u64,
    pub cut: u64,
    pub client_gone: u64,
    pub error: u64,
    pub billed: u64,
    pub prompt_tokens: u64,
    pub cache_read_tokens: u64,
    pub cache_write_5m_tokens: u64,
    pub cache_write_1h_tokens: u64,
    pub completion_tokens: u64,
    pub reasoning_tokens: u64,
}

/// A handle on the books; clones see the same ones.
#[derive(Clone, Debug)]
pub struct Ledger {
    books: Arc<Mutex<Books>>,
    start: Instant,
    bound: usize,
}

#[derive(Debug, Default)]
struct Books {
    totals: Totals,
    entries: VecDeque<Entry>,
}

impl Ledger {
    pub(crate) fn new(bound: usize) -> Ledger {
        Ledger { books: Arc::default(), start: Instant::now(), bound }
    }

    pub fn totals(&self) -> Totals {
        self.lock().totals
    }

    /// The entries that are kept, oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        self.since(0)
    }

    /// The kept entries from this sequence number on.
    pub fn since(&self, seq: u64) -> Vec<Entry> {
        self.lock().entries.iter().filter(|e| e.seq >= seq).cloned().collect()
    }

    pub fn by_call_id(&self, call_id: &str) -> Vec<Entry> {
        let books = self.lock();
        books.entries.iter().filter(|e| e.call_id.as_deref() == Some(call_id)).cloned().collect()
    }

    pub(crate) fn open(&self, mut entry: Entry) -> OpenEntry {
        entry.at_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut books = self.lock();
        entry.seq = books.totals.requests;
        books.totals.requests += 1;
        books.totals.open += 1;
        if self.bound > 0 {
            if books.entries.len() == self.bound {
                books.entries.pop_front();
            }
            books.entries.push_back(entry.clone());
        }
        drop(books);
        OpenEntry { ledger: self.clone(), entry }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, entry: &Entry) {
        let mut books = self.lock();
        let totals = &mut books.totals;
        totals.open -= 1;
        *match entry.state {
            State::Answered => &mut totals.answered,
            State::Cut => &mut totals.cut,
            State::Error => &mut totals.error,
            State::ClientGone | State::Open => &mut totals.client_gone,
        } += 1;
        totals.billed += u64::from(entry.billed);
        totals.prompt_tokens += entry.prompt_tokens;
        totals.cache_read_tokens += entry.cache_read_tokens;
        totals.cache_write_5m_tokens += entry.cache_write_5m_tokens;
        totals.cache_write_1h_tokens += entry.cache_write_1h_tokens;
        totals.completion_tokens += entry.completion_tokens;
        totals.reasoning_tokens += entry.reasoning_tokens;
        books.put(entry);
    }
}

impl Books {
    fn put(&mut self, entry: &Entry) {
        let Some(first) = self.entries.front().map(|e| e.seq) else {
            return;
        };
        let Some(index) = entry.seq.checked_sub(first).and_then(|i| usize::try_from(i).ok()) else {
            return;
        };
        if let Some(kept) = self.entries.get_mut(index) {
            kept.clone_from(entry);
        }
    }
}

/// A request that is being answered. Dropped without an end, its caller has gone away.
#[derive(Debug)]
pub(crate) struct OpenEntry {
    ledger: Ledger,
    entry: Entry,
}

impl OpenEntry {
    pub(crate) fn seq(&self) -> u64 {
        self.entry.seq
    }

    /// Bills the prompt and `output` tokens; shown at once, also while the answer is still going out.
    pub(crate) fn bill(&mut self, usage: &Usage, output: u64) {
        let entry = &mut self.entry;
        entry.billed = true;
        entry.prompt_tokens = usage.prompt();
        entry.cache_read_tokens = usage.cache_read;
        entry.cache_write_5m_tokens = usage.cache_write_5m;
        entry.cache_write_1h_tokens = usage.cache_write_1h;
        entry.completion_tokens = output;
        entry.reasoning_tokens = usage.reasoning.min(output);
        entry.searches = usage.searches;
    }

    /// Makes what was billed so far visible while the request is open.
    pub(crate) fn publish(&self) {
        self.ledger.lock().put(&self.entry);
    }

    pub(crate) fn status(&mut self, status: u16) {
        self.entry.status = Some(status);
    }

    pub(crate) fn end(mut self, state: State) {
        self.entry.state = state;
    }
}

impl Drop for OpenEntry {
    fn drop(&mut self) {
        if self.entry.state == State::Open {
            self.entry.state = State::ClientGone;
        }
        self.ledger.close(&self.entry);
    }
}
