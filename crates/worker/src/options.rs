//! Options of the worker.

use farebox_types::{ByteSize, Money, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::keys::ProjectSecrets;

/// Capacity, timeouts and bounds of one worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Calls that run at the same time; more are refused and offered elsewhere.
    pub max_in_flight: usize,
    /// How often the guard hears from this worker. Well below the guard's lease.
    pub heartbeat_interval: Span,
    /// How long one message to the guard may take before it is sent again.
    pub guard_timeout: Span,
    /// How long the guard is asked for a further attempt, and how long beyond its deadline an answer waits for a guard that
    /// lets this worker speak.
    pub guard_deadline: Span,
    /// How long the end of a call is sent again before the worker gives up and lets the lease run out. Long: while no guard
    /// leads it keeps ends, so that calls are not recorded as lost.
    pub settle_deadline: Span,
    /// How long a connection to a provider may take to be made.
    pub connect_timeout: Span,
    /// How long a provider may take until the first byte of an answer.
    pub first_token_timeout: Span,
    /// How long a stream may be silent between two pieces. A slow stream that is alive is left alone.
    pub idle_timeout: Span,
    /// How long one attempt may take in all.
    pub total_timeout: Span,
    /// The largest answer that is accepted from a provider.
    pub answer_max: ByteSize,
    /// The largest single frame of a provider's stream.
    pub frame_max: ByteSize,
    /// How many output tokens a stream that ends before its end (cancelled, cut, too late) is billed for beyond what was read
    /// of it: what the provider may have made by the time it notices. Never above the output limit and the bound.
    pub cut_margin: u64,
    /// Pause before the first retry; it doubles with each further one.
    pub retry_pause: Span,
    /// The longest pause before a retry, also where a provider asks for a longer one.
    pub retry_pause_max: Span,
    /// Unused connections to one provider that are kept open.
    pub idle_connections: usize,
    /// How long the end of a complete stream's connection is waited for, so that it can be used again.
    pub connection_reuse_wait: Span,
    /// Token counts of providers that are kept.
    pub count_cache_entries: u64,
    /// How long they are kept.
    pub count_cache_ttl: Span,
    /// Key files that are kept in memory, each until it changes.
    pub key_files_max: u64,
    pub project_secrets: ProjectSecrets,
    /// A call whose caller has gone without a word is read to its end if it costs this at most, so that its true usage is known; a
    /// dearer one is cancelled. 0: every one is.
    pub drain_up_to: Money,
    /// How long nobody may listen where an answer goes before its caller counts as gone. Above what a client takes to connect
    /// again. 0: for ever.
    pub listener_patience: Span,
    /// How long running calls may take to end after the drain began.
    pub drain_timeout: Span,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            max_in_flight: 1024,
            heartbeat_interval: Span::from_secs(1),
            guard_timeout: Span::from_secs(3),
            guard_deadline: Span::from_secs(60),
            settle_deadline: Span::from_secs(60 * 60),
            connect_timeout: Span::from_secs(5),
            first_token_timeout: Span::from_secs(60),
            idle_timeout: Span::from_secs(30),
            total_timeout: Span::from_secs(600),
            answer_max: ByteSize(32 * 1024 * 1024),
            frame_max: ByteSize(8 * 1024 * 1024),
            cut_margin: 512,
            retry_pause: Span::from_millis(250),
            retry_pause_max: Span::from_secs(10),
            idle_connections: 64,
            connection_reuse_wait: Span::from_millis(50),
            count_cache_entries: 10_000,
            count_cache_ttl: Span::from_secs(3600),
            key_files_max: 1024,
            project_secrets: ProjectSecrets::default(),
            drain_up_to: Money::ZERO,
            listener_patience: Span::from_secs(15),
            drain_timeout: Span::from_secs(20),
        }
    }
}
