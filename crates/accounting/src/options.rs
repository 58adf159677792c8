//! Options of accounting.

use farebox_types::{ByteSize, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Batches, waits and bounds of accounting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The most ledger messages that are written together.
    pub batch_messages: usize,
    /// The most bytes of ledger messages that are written together: what is held in memory while ClickHouse is away.
    pub batch_bytes: ByteSize,
    /// How long a row may wait for others before it is written.
    pub flush_interval: Span,
    /// How long the lead lasts when the accountant that holds it dies.
    pub lead_ttl: Span,
    /// How long a ledger message may be worked on before the bus delivers it again, as after a crash.
    pub ack_wait: Span,
    /// How long to wait before ClickHouse is tried again after a failure, at first.
    pub retry_min: Span,
    /// The longest such wait.
    pub retry_max: Span,
    /// How long an insert under way may still take at the end of the process; then it is left to the next accountant.
    pub drain_grace: Span,
    /// The most questions that are answered at a time; more wait.
    pub questions_max: usize,
    /// The most groups in one answer; the most expensive ones come first.
    pub groups_max: u32,
    /// The most single calls in one answer.
    pub recent_max: u32,
    /// How often the guard's books are held against the rows.
    pub check_interval: Span,
    /// How long the guard is asked for its books, and how long rows may take to come as far as they.
    pub check_patience: Span,
    /// How many days are compared, today included. Fewer than rows and books are kept.
    pub check_days: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            batch_messages: 2_000,
            batch_bytes: ByteSize(4 * 1024 * 1024),
            flush_interval: Span::from_millis(500),
            lead_ttl: Span::from_secs(4),
            ack_wait: Span::from_secs(5),
            retry_min: Span::from_millis(200),
            retry_max: Span::from_secs(5),
            drain_grace: Span::from_secs(3),
            questions_max: 4,
            groups_max: 1_000,
            recent_max: 1_000,
            check_interval: Span::from_secs(300),
            check_patience: Span::from_secs(10),
            check_days: 7,
        }
    }
}
