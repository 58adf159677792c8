//! A token bucket that can take back.

use std::collections::VecDeque;

use farebox_proto::v1;
use farebox_types::Timestamp;

use crate::limit::Rate;

/// How full a token bucket is. Amounts are in units times milliseconds of the period, so that nothing is ever rounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    allowed: i128,
    period: i128,
    capacity: i128,
    /// What it lacked to be full at `seen`.
    lacking: i128,
    /// When something was taken last.
    pub(super) seen: Timestamp,
    /// When something was taken last while it was full.
    since: Timestamp,
    /// What it lacked just before takes, where it never lacked less later: rising. What is given back can only be as much
    /// as was lacking at all times since; the rest has overflowed.
    lows: VecDeque<Low>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Low {
    at: Timestamp,
    lacking: i128,
}

impl Bucket {
    pub(super) fn new(rate: Rate, burst: u64) -> Bucket {
        let period = i128::from(rate.millis());
        Bucket {
            allowed: i128::from(rate.allowed),
            period,
            capacity: i128::from(burst).saturating_mul(period),
            lacking: 0,
            seen: Timestamp(i64::MIN),
            since: Timestamp(i64::MIN),
            lows: VecDeque::new(),
        }
    }

    pub(super) fn room(&self, now: Timestamp) -> u64 {
        whole(self.capacity.saturating_sub(self.lacking(now)), self.period)
    }

    /// What it lacks to be full, in whole units.
    pub(super) fn used(&self, now: Timestamp) -> u64 {
        up(self.lacking(now), self.period)
    }

    /// In milliseconds; none: there is never so much in it.
    pub(super) fn until_room(&self, amount: u64, now: Timestamp) -> Option<u64> {
        let wanted = self.scaled(amount);
        let short = self.lacking(now).saturating_add(wanted).saturating_sub(self.capacity).max(0);
        if wanted > self.capacity { None } else { self.inflow_time(short, now) }
    }

    /// In milliseconds.
    pub(super) fn until_full(&self, now: Timestamp) -> Option<u64> {
        self.inflow_time(self.lacking(now), now)
    }

    pub(super) fn take(&mut self, amount: u64, at: Timestamp) {
        let now = at.max(self.seen);
        let lacking = self.lacking(now);
        if lacking == 0 {
            self.since = now;
            self.lows.clear();
        } else if self.lows.back().is_none_or(|low| low.at < now) {
            while self.lows.back().is_some_and(|low| low.lacking >= lacking) {
                self.lows.pop_back();
            }
            self.lows.push_back(Low { at: now, lacking });
        }
        if self.lows.len() > super::Meter::MOMENTS_MAX {
            self.merge();
        }
        self.lacking = lacking.saturating_add(self.scaled(amount));
        self.seen = now;
    }

    pub(super) fn correct(&mut self, reserved: u64, actual: u64, taken_at: Timestamp) {
        let counts = taken_at >= self.since;
        let (more, mut less) =
            (self.scaled(actual.saturating_sub(reserved)), self.scaled(reserved.saturating_sub(actual)));
        // It was full since: what was taken has long flowed in again. What nobody knew of is owed all the same.
        if !counts {
            less = 0;
        }
        for low in self.lows.iter_mut().filter(|low| counts && low.at > taken_at) {
            less = less.min(low.lacking);
            low.lacking = low.lacking.saturating_add(more) - less;
        }
        self.lacking = self.lacking.saturating_add(more) - less.min(self.lacking);
    }

    pub(super) fn store(&self, state: &mut v1::LimitState) {
        let micros = |amount| i64::try_from(amount).unwrap_or(i64::MAX);
        state.lacking_micros = micros(up(self.lacking.saturating_mul(MICROS), self.period));
        state.at_unix_ms = self.seen.millis();
        let low = |low: &Low| v1::LimitTaken {
            at_unix_ms: low.at.millis(),
            amount: 0,
            lacking_micros: micros(whole(low.lacking.saturating_mul(MICROS), self.period)),
        };
        let full = v1::LimitTaken { at_unix_ms: self.since.millis(), ..Default::default() };
        state.taken = std::iter::once(full).chain(self.lows.iter().map(low)).collect();
    }

    pub(super) fn restore(&mut self, state: &v1::LimitState) {
        let scaled = |micros: i64| i128::from(micros).saturating_mul(self.period);
        let low = |taken: &v1::LimitTaken| Low {
            at: Timestamp(taken.at_unix_ms),
            lacking: scaled(taken.lacking_micros) / MICROS,
        };
        let mut lows = state.taken.iter().map(low);
        self.since = lows.next().map_or(Timestamp(state.at_unix_ms), |full| full.at);
        self.lows = lows.collect();
        self.lacking = i128::from(up(scaled(state.lacking_micros), MICROS));
        self.seen = Timestamp(state.at_unix_ms);
    }

    pub(super) fn lacking(&self, now: Timestamp) -> i128 {
        let millis = i128::from(now.millis().saturating_sub(self.seen.millis()).max(0));
        self.lacking.saturating_sub(millis.saturating_mul(self.allowed)).max(0)
    }

    fn scaled(&self, amount: u64) -> i128 {
        i128::from(amount).saturating_mul(self.period)
    }

    /// A clock that went back has to come to where it was first.
    fn inflow_time(&self, lacking: i128, now: Timestamp) -> Option<u64> {
        let behind = u64::try_from(self.seen.millis().saturating_sub(now.millis())).unwrap_or(0);
        let millis = up(lacking, self.allowed.max(1)).saturating_add(behind);
        (self.allowed > 0 || lacking == 0).then_some(if lacking == 0 { 0 } else { millis })
    }

    /// Halves the number of lows: of two neighbours the lower one counts, up to the later moment.
    fn merge(&mut self) {
        let lows: Vec<Low> = self.lows.drain(..).collect();
        self.lows = lows.chunks(2).map(|pair| Low { at: pair[pair.len() - 1].at, ..pair[0] }).collect();
    }
}

const MICROS: i128 = 1_000_000;

fn whole(amount: i128, of: i128) -> u64 {
    u64::try_from(amount.max(0) / of).unwrap_or(u64::MAX)
}

/// Rounded up.
fn up(amount: i128, of: i128) -> u64 {
    whole(amount.saturating_add(of - 1), of)
}
