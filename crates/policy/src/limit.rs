//! Limits: how often, how many tokens, how many at a time.

use farebox_types::Span;

use crate::scope::Scope;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    Requests,
    Tokens,
    /// Calls at the same time.
    Concurrent,
}

/// How a window is laid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Windows that begin at whole multiples of the period since the Unix epoch.
    #[default]
    FixedWindow,
    /// Every span of the period's length, wherever it begins.
    SlidingWindow,
    /// `allowed` flows in evenly over the period; up to `burst` is kept.
    TokenBucket { burst: u64 },
}

/// How much in what time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    pub allowed: u64,
    /// Zero for calls at a time.
    pub period: Span,
    pub strategy: Strategy,
}

/// A limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub name: String,
    pub scope: Scope,
    pub measure: Measure,
    pub rate: Rate,
    /// Holds only where no other limit of the same measure names the key (or project, …) itself.
    pub default: bool,
}
