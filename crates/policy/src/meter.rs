//! The counter of one limit for one subject.
//!
//! Exact: what may pass follows from what was taken, in whole units; no span of its kind ever holds more than the limit
//! unless more was taken than there was room for. Time never goes back for it: an earlier moment than that of the last
//! take counts as that one. Bounded: beyond [`Meter::MOMENTS_MAX`] moments neighbours count together, which errs on the
//! side of the limit.

mod bucket;

use std::{collections::VecDeque, time::Duration};

use farebox_proto::v1;
use farebox_types::Timestamp;

use self::bucket::Bucket;
use crate::limit::{Measure, Rate, Strategy};

/// What is counted of one limit for one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    measure: Measure,
    rate: Rate,
    count: Count,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Count {
    /// Calls at the same time.
    Open(u64),
    Fixed {
        /// When the window begins.
        window: Timestamp,
        used: u64,
    },
    Sliding(Sliding),
    Bucket(Bucket),
}

/// What was taken when, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sliding(VecDeque<Taken>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Taken {
    at: Timestamp,
    amount: u64,
}

impl Meter {
    /// The most moments that are told apart.
    pub const MOMENTS_MAX: usize = 1024;

    pub fn new(measure: Measure, rate: Rate) -> Meter {
        let count = match (measure, rate.strategy) {
            (Measure::Concurrent, _) => Count::Open(0),
            (_, Strategy::FixedWindow) => Count::Fixed { window: Timestamp(i64::MIN), used: 0 },
            (_, Strategy::SlidingWindow) => Count::Sliding(Sliding::default()),
            (_, Strategy::TokenBucket { burst }) => Count::Bucket(Bucket::new(rate, burst)),
        };
        Meter { measure, rate, count }
    }

    pub fn measure(&self) -> Measure {
        self.measure
    }

    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// How much may be taken now.
    pub fn room(&self, now: Timestamp) -> u64 {
        match &self.count {
            Count::Bucket(bucket) => bucket.room(now),
            _ => self.rate.allowed.saturating_sub(self.used(now)),
        }
    }

    /// What counts now.
    pub fn used(&self, now: Timestamp) -> u64 {
        match &self.count {
            Count::Open(open) => *open,
            Count::Fixed { window, used } => {
                if self.window(now) > *window {
                    0
                } else {
                    *used
                }
            }
            Count::Sliding(sliding) => {
                sliding.live(self.rate, now).map(|taken| taken.amount).fold(0, u64::saturating_add)
            }
            Count::Bucket(bucket) => bucket.used(now),
        }
    }

    /// Counts `amount`, whether there is room or not: whoever asks for room first never takes too much.
    pub fn take(&mut self, amount: u64, at: Timestamp) {
        let now = self.window(at);
        match &mut self.count {
            _ if amount == 0 => {}
            Count::Open(open) => *open = open.saturating_add(amount),
            Count::Fixed { window, used } if now > *window => (*window, *used) = (now, amount),
            Count::Fixed { used, .. } => *used = used.saturating_add(amount),
            Count::Sliding(sliding) => sliding.take(self.rate, amount, at),
            Count::Bucket(bucket) => bucket.take(amount, at),
        }
    }

    /// What was taken then was never used. Where it no longer counts, nothing changes.
    pub fn give_back(&mut self, amount: u64, taken_at: Timestamp) {
        self.correct(amount, 0, taken_at);
    }

    /// The truth about what was taken as an estimate. It may be more than there was room for.
    pub fn correct(&mut self, reserved: u64, actual: u64, taken_at: Timestamp) {
        let then = self.window(taken_at);
        let corrected = |amount: u64| amount.saturating_add(actual).saturating_sub(reserved);
        match &mut self.count {
            Count::Open(open) => *open = corrected(*open),
            Count::Fixed { window, used } if then >= *window => *used = corrected(*used),
            Count::Fixed { .. } => {}
            Count::Sliding(sliding) => sliding.correct(self.rate, corrected, taken_at),
            Count::Bucket(bucket) => bucket.correct(reserved, actual, taken_at),
        }
    }

    /// How long until there is room for `amount`, by the clock of `now`, if nothing else is taken; none: only other calls'
    /// ends make room, or nothing ever does.
    pub fn retry_after(&self, amount: u64, now: Timestamp) -> Option<Duration> {
        let mut room = self.room(now);
        if room >= amount {
            return Some(Duration::ZERO);
        }
        match &self.count {
            Count::Bucket(bucket) => bucket.until_room(amount, now).map(Duration::from_millis),
            Count::Open(_) => None,
            _ if amount > self.rate.allowed => None,
            Count::Fixed { window, .. } => Some(self.rate.over(*window).remaining(now)),
            Count::Sliding(sliding) => {
                let freed = sliding.live(self.rate, now).find(|taken| {
                    room = room.saturating_add(taken.amount);
                    room >= amount
                });
                freed.map(|taken| self.rate.over(taken.at).remaining(now))
            }
        }
    }

    /// How long until all of it is there again, if nothing else is taken; zero for calls at a time.
    pub fn reset(&self, now: Timestamp) -> Duration {
        match &self.count {
            Count::Open(_) => Duration::ZERO,
            Count::Fixed { .. } if self.used(now) == 0 => Duration::ZERO,
            Count::Fixed { window, .. } => self.rate.over(*window).remaining(now),
            Count::Sliding(sliding) => {
                let last = sliding.live(self.rate, now).last();
                last.map_or(Duration::ZERO, |last| self.rate.over(last.at).remaining(now))
            }
            Count::Bucket(bucket) => bucket.until_full(now).map_or(Duration::MAX, Duration::from_millis),
        }
    }

    /// Whether it is as good as new: nothing is lost when it is forgotten, once no open call counts in it.
    pub fn is_idle(&self, now: Timestamp) -> bool {
        self.used(now) == 0
    }

    /// Another rate from now on. What was taken counts on: as before where only the amount of a window changes, else as if
    /// it had been taken now.
    pub fn change(&mut self, rate: Rate, now: Timestamp) {
        let same_windows =
            Rate { allowed: rate.allowed, ..self.rate } == rate && !matches!(self.count, Count::Bucket(_));
        if same_windows || rate == self.rate {
            self.rate = rate;
            return;
        }
        let used = self.used(now);
        *self = Meter::new(self.measure, rate);
        self.take(used, now);
    }

    /// To be stored; of a token bucket rounded to a millionth of a unit, on the side of the limit.
    pub fn state(&self, limit: &str, subject: &str) -> v1::LimitState {
        let hold = self.rate.hold(limit, subject, self.measure, 0);
        let mut state = v1::LimitState {
            limit: hold.limit,
            subject: hold.subject,
            measure: hold.measure,
            strategy: hold.strategy,
            period_ms: hold.period_ms,
            allowed: hold.allowed,
            burst: hold.burst,
            ..Default::default()
        };
        let taken = |at: Timestamp, amount| v1::LimitTaken { at_unix_ms: at.millis(), amount, ..Default::default() };
        match &self.count {
            Count::Open(open) => state.taken = vec![taken(Timestamp(0), *open)],
            Count::Fixed { window, used } => state.taken = vec![taken(*window, *used)],
            Count::Sliding(Sliding(all)) => state.taken = all.iter().map(|one| taken(one.at, one.amount)).collect(),
            Count::Bucket(bucket) => bucket.store(&mut state),
        }
        state
    }

    /// What was stored; none where it has no measure.
    pub fn restore(state: &v1::LimitState) -> Option<Meter> {
        let hold = v1::LimitHold {
            measure: state.measure,
            strategy: state.strategy,
            period_ms: state.period_ms,
            allowed: state.allowed,
            burst: state.burst,
            ..Default::default()
        };
        let (measure, rate) = Rate::of(&hold)?;
        let mut meter = Meter::new(measure, rate);
        let taken = |one: &v1::LimitTaken| Taken { at: Timestamp(one.at_unix_ms), amount: one.amount };
        let mut all = state.taken.iter().map(taken);
        match &mut meter.count {
            Count::Open(open) => *open = all.map(|one| one.amount).sum(),
            Count::Fixed { window, used } => {
                if let Some(one) = all.next_back() {
                    (*window, *used) = (one.at, one.amount);
                }
            }
            Count::Sliding(sliding) => sliding.0.extend(all),
            Count::Bucket(bucket) => bucket.restore(state),
        }
        Some(meter)
    }

    /// The fixed window of a moment.
    fn window(&self, at: Timestamp) -> Timestamp {
        let period = self.rate.millis();
        Timestamp(at.millis().div_euclid(period).saturating_mul(period))
    }
}

impl Sliding {
    fn clock(&self, now: Timestamp) -> Timestamp {
        self.0.back().map_or(now, |last| now.max(last.at))
    }

    fn live(&self, rate: Rate, now: Timestamp) -> impl Iterator<Item = &Taken> {
        let now = self.clock(now);
        self.0.iter().skip_while(move |taken| rate.over(taken.at) <= now)
    }

    fn take(&mut self, rate: Rate, amount: u64, at: Timestamp) {
        let at = self.clock(at);
        let over = self.0.iter().take_while(|taken| rate.over(taken.at) <= at).count();
        self.0.drain(..over);
        match self.0.back_mut().filter(|last| last.at == at) {
            Some(last) => last.amount = last.amount.saturating_add(amount),
            None => self.0.push_back(Taken { at, amount }),
        }
        if self.0.len() > Meter::MOMENTS_MAX {
            self.merge(rate);
        }
    }

    fn correct(&mut self, rate: Rate, corrected: impl Fn(u64) -> u64, taken_at: Timestamp) {
        if rate.over(taken_at) <= self.clock(taken_at) {
            return;
        }
        // Zeros stay: the last one also says how late it was.
        if let Some(taken) = self.0.iter_mut().find(|taken| taken.at >= taken_at) {
            taken.amount = corrected(taken.amount);
        }
    }

    /// Halves the number of moments: what lies in one slice of the period counts as of its last moment.
    fn merge(&mut self, rate: Rate) {
        let kept = i64::try_from(Meter::MOMENTS_MAX / 2).unwrap_or(i64::MAX);
        let slice = rate.millis() / kept + 1;
        let index = |at: Timestamp| at.millis().div_euclid(slice);
        let mut merged: VecDeque<Taken> = VecDeque::with_capacity(Meter::MOMENTS_MAX + 1);
        for taken in self.0.drain(..) {
            match merged.back_mut().filter(|last| index(last.at) == index(taken.at)) {
                Some(last) => *last = Taken { at: taken.at, amount: last.amount.saturating_add(taken.amount) },
                None => merged.push_back(taken),
            }
        }
        self.0 = merged;
    }
}

#[cfg(test)]
mod tests;
