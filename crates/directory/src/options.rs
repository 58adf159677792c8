//! Options of the directory.

use farebox_types::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How keys and rules are followed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// How long keys and rules are believed when nobody can say whether they have changed; then requests are answered
    /// with `unavailable`. Above what a NATS cluster takes to find a new leader.
    pub stale_after: Span,
    /// How often it is checked that no change was missed.
    pub check_interval: Span,
    /// How long a change that is known to be there may take to arrive before it is asked for anew.
    pub late_after: Span,
}

impl Default for Options {
    fn default() -> Options {
        Options { stale_after: Span::from_secs(15), check_interval: Span::from_secs(1), late_after: Span::from_secs(1) }
    }
}
