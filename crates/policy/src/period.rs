//! How long a budget lasts, and which of its windows a moment falls into. Nothing is ever reset: the next window is
//! another window.

use farebox_types::Span;

/// A calendar period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Calendar {
    Minute,
    Hour,
    Day,
    /// From Monday.
    Week,
    Month,
}

/// How long a budget lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// As long as what it counts by lives: a task, a session.
    Lifetime,
    /// For ever.
    Total,
    /// In the budget's time zone.
    Calendar(Calendar),
    /// The span that ends now.
    Rolling(Span),
}
