//! Budgets: limits on spend over time.

use farebox_proto::v1;
use farebox_types::{Money, Timestamp};

use crate::{
    call::CallScope,
    period::{Period, Zone},
    scope::Scope,
};

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
    /// Where calendar periods begin.
    pub time_zone: Zone,
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

impl Budget {
    /// The windows that a call counts in at a time: none where the budget does not apply to it, several where it is in
    /// several groups or has several tags.
    pub fn windows(&self, call: &CallScope<'_>, at: Timestamp) -> Vec<Window> {
        let subjects = self.scope.subjects(call);
        if subjects.is_empty() {
            return Vec::new();
        }
        let window = self.period.window(&self.time_zone, at);
        let of = |subject| Window { budget: self.name.clone(), subject, window: window.clone() };
        subjects.into_iter().map(of).collect()
    }

    /// The oldest window whose spend counts at a time, see [`Period::oldest_window`].
    pub fn oldest_window(&self, at: Timestamp) -> String {
        self.period.oldest_window(&self.time_zone, at)
    }

    /// What it sets aside for an attempt that costs `bound` at most, or, where nothing bounds its cost, so much as far as is
    /// known; none: it takes no such attempt.
    pub fn sets_aside(&self, bound: Money, is_bounded: bool) -> Option<Money> {
        match self.unbounded_ceiling {
            _ if is_bounded => Some(bound),
            Some(ceiling) => Some(ceiling.max(bound)),
            None => (!self.hard).then_some(bound),
        }
    }

    /// When room may come back by itself; none: never.
    pub fn ends(&self, at: Timestamp) -> Option<Timestamp> {
        self.period.ends(&self.time_zone, at)
    }

    /// The limit for a subject at a time, with the raises of that time.
    pub fn limit_at(&self, subject: &str, at: Timestamp) -> Money {
        let raises = self.raises.iter().filter(|raise| raise.from <= at && at < raise.until);
        let raises = raises.filter(|raise| raise.subject.is_empty() || raise.subject == subject);
        raises.fold(self.limit, |limit, raise| limit.saturating_add(raise.by))
    }
}

impl Window {
    /// A part of it that is set aside.
    pub fn hold(&self, amount: Money) -> v1::Hold {
        v1::Hold {
            budget: self.budget.clone(),
            subject: self.subject.clone(),
            window: self.window.clone(),
            amount: Some(amount.into()),
        }
    }
}
