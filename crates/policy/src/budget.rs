//! Budgets: limits on spend over time.

use farebox_types::{Money, Timestamp};

use crate::{period::Period, scope::Scope};

/// A share, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permille(pub u32);

/// What happens to a call whose bound does not fit into what a hard budget has left, once running calls were waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenShort {
    #[default]
    Refuse,
    /// Its output is limited to what fits, not below so many tokens.
    Clamp { floor: u64 },
}

/// What happens to calls of a budget when no guard can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    Closed,
    Open,
    /// So much may be spent in all until a guard is back.
    Grace(Money),
}

/// More room for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raise {
    pub by: Money,
    pub from: Timestamp,
    pub until: Timestamp,
    pub reason: String,
    /// Key id of the admin.
    pub admin: String,
    /// Only for this subject; empty: for all.
    pub subject: String,
}

/// A limit on spend. A hard one is never exceeded by what is settled and reserved together, unless a provider bills a
/// call above its bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    pub name: String,
    pub scope: Scope,
    pub period: Period,
    /// IANA name of the time zone in which calendar periods begin; empty: UTC.
    pub time_zone: String,
    pub limit: Money,
    /// As it was written, e.g. `100 EUR`.
    pub limit_text: String,
    /// Announced once in a window each.
    pub alert: Vec<Permille>,
    pub hard: bool,
    pub when_short: WhenShort,
    /// What is reserved for a call whose cost nothing bounds; without one, a hard budget refuses such calls.
    pub unbounded_ceiling: Option<Money>,
    pub unreachable: Unreachable,
    pub raises: Vec<Raise>,
}

/// One window of one budget for one subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    pub budget: String,
    pub subject: String,
    /// Empty for budgets without a period; else e.g. `2026-11-21`, or the slice of a rolling period.
    pub window: String,
}
