//! Limits: how often, how many tokens, how many at a time.

use farebox_proto::v1;
use farebox_types::{Span, Timestamp};

use crate::{
    call::CallScope,
    scope::{Counted, Pick, Scope},
};

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

impl Limit {
    /// Those of these limits that hold for a call, each with what it counts the call under. All that the call might count
    /// in must be among them: a default one stands back for another.
    pub fn in_force<'a>(limits: &[&'a Limit], call: &CallScope<'_>) -> Vec<(&'a Limit, String)> {
        let mut held = Vec::new();
        for limit in limits {
            let counted = limit.scope.counted(call).into_iter();
            let counted = counted.filter(|counted| limit.stands_back(counted, limits, call).is_none());
            held.extend(counted.map(|counted| (*limit, counted.subject)));
        }
        held
    }

    /// The limit that holds instead of this default one: it counts the same by the same dimensions, and names what the
    /// default one would count the call under.
    pub(crate) fn stands_back<'a>(
        &self,
        counted: &Counted,
        limits: &[&'a Limit],
        call: &CallScope<'_>,
    ) -> Option<&'a Limit> {
        if !self.default {
            return None;
        }
        let instead = |own: &Limit| {
            !own.default
                && own.measure == self.measure
                && own.scope.0.len() == self.scope.0.len()
                && self.scope.0.iter().all(|(dimension, _)| own.scope.pick(*dimension).is_some())
                && own.scope.0.iter().any(|(_, pick)| matches!(pick, Pick::Any(_)))
                && counted
                    .values
                    .iter()
                    .all(|(of, value)| own.scope.pick(*of).is_some_and(|pick| pick.takes(*of, value)))
                && !own.scope.counted(call).is_empty()
        };
        limits.iter().copied().find(|own| instead(own))
    }
}

impl Rate {
    /// Length of the period in milliseconds, at least one.
    pub(crate) fn millis(self) -> i64 {
        i64::try_from(self.period.millis()).unwrap_or(i64::MAX).max(1)
    }

    /// When what was taken in a moment, or in the window that begins there, no longer counts.
    pub(crate) fn over(self, moment: Timestamp) -> Timestamp {
        Timestamp(moment.millis().saturating_add(self.millis()))
    }

    /// A part of a limit that is taken, with all that a replay needs.
    pub fn hold(self, limit: &str, subject: &str, measure: Measure, amount: u64) -> v1::LimitHold {
        let (strategy, burst) = match self.strategy {
            Strategy::FixedWindow => (v1::LimitStrategy::FixedWindow, 0),
            Strategy::SlidingWindow => (v1::LimitStrategy::SlidingWindow, 0),
            Strategy::TokenBucket { burst } => (v1::LimitStrategy::TokenBucket, burst),
        };
        v1::LimitHold {
            limit: limit.to_owned(),
            subject: subject.to_owned(),
            measure: v1::LimitMeasure::from(measure).into(),
            amount,
            strategy: strategy.into(),
            period_ms: self.period.millis(),
            allowed: self.allowed,
            burst,
        }
    }

    /// How a part that was taken is counted; none where it does not say.
    pub fn of(hold: &v1::LimitHold) -> Option<(Measure, Rate)> {
        let measure = match hold.measure() {
            v1::LimitMeasure::Unspecified => return None,
            v1::LimitMeasure::Requests => Measure::Requests,
            v1::LimitMeasure::Tokens => Measure::Tokens,
            v1::LimitMeasure::Concurrent => Measure::Concurrent,
        };
        let strategy = match hold.strategy() {
            v1::LimitStrategy::Unspecified | v1::LimitStrategy::FixedWindow => Strategy::FixedWindow,
            v1::LimitStrategy::SlidingWindow => Strategy::SlidingWindow,
            v1::LimitStrategy::TokenBucket => Strategy::TokenBucket { burst: hold.burst },
        };
        Some((measure, Rate { allowed: hold.allowed, period: Span::from_millis(hold.period_ms), strategy }))
    }
}

impl From<Measure> for v1::LimitMeasure {
    fn from(measure: Measure) -> v1::LimitMeasure {
        match measure {
            Measure::Requests => v1::LimitMeasure::Requests,
            Measure::Tokens => v1::LimitMeasure::Tokens,
            Measure::Concurrent => v1::LimitMeasure::Concurrent,
        }
    }
}
