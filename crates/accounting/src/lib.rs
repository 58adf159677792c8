//! Accounting: one row in ClickHouse for every attempt that the guard's ledger has ended, and answers about them.
//!
//! It reads the ledger itself, not the facts that are published about it: a row comes from the very message that made
//! the end durable. A row's identity is its place in the ledger: stream incarnation, sequence, index of the entry.
//!
//! Guarantees: a ledger message is acknowledged after all of its rows are stored; a row that may already be there is
//! looked up before it is written, and nothing that was sent earlier can still arrive then (a term in ClickHouse ends
//! all writers before it). So every end has exactly one row, whatever is killed when. While ClickHouse is away one batch
//! is held in memory and the rest waits in the ledger.
//!
//! What the guard's books say was spent is held against the rows from time to time, and whenever somebody asks; a difference
//! is announced on `llm.alert.books`.
//!
//! Not here: prices (the worker computed them), rollups (questions are answered from the rows), other alerts.
//!
//! Subjects: consumes `farebox.v1.ledger.<shard>` (durable consumer [`CONSUMER`]); answers `llm.usage` of each project, and
//! `farebox.v1.usage` and `farebox.v1.accounting.check` to farebox's own roles; asks `farebox.v1.guard.<shard>.books`.

mod check;
mod error;
mod options;
mod questions;
mod rows;
mod service;
mod writer;

pub use error::Error;
pub use options::Options;
pub use rows::{call_fact, rows_of};
pub use service::{Deps, Service};
pub use writer::CONSUMER;
