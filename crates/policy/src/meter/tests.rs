use farebox_types::Span;
use proptest::{prelude::*, strategy::Strategy as Generates};

use super::*;
use crate::limit::Strategy;

const MINUTE: i64 = 60_000;

fn rate(allowed: u64, period_ms: u64, strategy: Strategy) -> Rate {
    Rate { allowed, period: Span::from_millis(period_ms), strategy }
}

fn requests(allowed: u64, strategy: Strategy) -> Meter {
    Meter::new(Measure::Requests, rate(allowed, 60_000, strategy))
}

/// As many single takes as there is room for.
fn fill(meter: &mut Meter, at: i64) -> u64 {
    let mut taken = 0;
    while meter.room(Timestamp(at)) > 0 {
        meter.take(1, Timestamp(at));
        taken += 1;
    }
    taken
}

#[test]
fn a_hundred_a_minute_pass_in_every_window_of_its_kind() {
    let mut fixed = requests(100, Strategy::FixedWindow);
    assert_eq!([0, 59_999, 60_000, 60_001].map(|at| fill(&mut fixed, at)), [100, 0, 100, 0]);
    let mut sliding = requests(100, Strategy::SlidingWindow);
    for _ in 0..40 {
        sliding.take(1, Timestamp(0));
    }
    assert_eq!([59_999, 60_000, 119_998, 119_999].map(|at| fill(&mut sliding, at)), [60, 40, 0, 60]);
    let mut bucket = requests(100, Strategy::TokenBucket { burst: 150 });
    // One flows in each 600 ms.
    assert_eq!([0, 599, 600, 1_799, 1_800].map(|at| fill(&mut bucket, at)), [150, 0, 1, 1, 1]);
    assert_eq!(fill(&mut bucket, 10 * MINUTE), 150);
    let mut concurrent = Meter::new(Measure::Concurrent, rate(3, 0, Strategy::FixedWindow));
    assert_eq!(fill(&mut concurrent, 0), 3);
    assert_eq!(fill(&mut concurrent, 10 * MINUTE), 0);
    concurrent.give_back(1, Timestamp(0));
    assert_eq!(fill(&mut concurrent, 10 * MINUTE), 1);
}

#[test]
fn a_refusal_says_when_to_come_back() {
    let millis = |meter: &Meter, amount, at| {
        meter.retry_after(amount, Timestamp(at)).map(|after| u64::try_from(after.as_millis()).unwrap())
    };
    let mut fixed = requests(10, Strategy::FixedWindow);
    fixed.take(8, Timestamp(MINUTE + 5));
    assert_eq!([2, 3, 11].map(|amount| millis(&fixed, amount, MINUTE + 1_000)), [Some(0), Some(59_000), None]);
    let mut sliding = requests(10, Strategy::SlidingWindow);
    sliding.take(4, Timestamp(1_000));
    sliding.take(6, Timestamp(2_000));
    let after = [1, 4, 5, 10, 11].map(|amount| millis(&sliding, amount, 3_000));
    assert_eq!(after, [Some(58_000), Some(58_000), Some(59_000), Some(59_000), None]);
    let mut bucket = requests(60, Strategy::TokenBucket { burst: 10 });
    bucket.take(10, Timestamp(0));
    assert_eq!([1, 10, 11].map(|amount| millis(&bucket, amount, 500)), [Some(500), Some(9_500), None]);
    let mut concurrent = Meter::new(Measure::Concurrent, rate(1, 0, Strategy::FixedWindow));
    concurrent.take(1, Timestamp(0));
    assert_eq!(millis(&concurrent, 1, 0), None);
    for (meter, reset) in [(&fixed, 59_000), (&bucket, 0), (&concurrent, 0)] {
        assert_eq!(meter.reset(Timestamp(MINUTE + 1_000)), Duration::from_millis(reset), "{meter:?}");
    }
    assert_eq!(sliding.reset(Timestamp(3_000)), Duration::from_secs(59));
    assert!(!sliding.is_idle(Timestamp(61_999)) && sliding.is_idle(Timestamp(62_000)));
    assert!(!bucket.is_idle(Timestamp(9_999)) && bucket.is_idle(Timestamp(10_000)));
}

#[test]
fn the_truth_replaces_the_estimate() {
    for strategy in [Strategy::FixedWindow, Strategy::SlidingWindow] {
        let mut meter = Meter::new(Measure::Tokens, rate(100, 60_000, strategy));
        meter.take(60, Timestamp(0));
        meter.take(10, Timestamp(10));
        meter.correct(60, 20, Timestamp(0));
        assert_eq!(meter.room(Timestamp(10)), 70, "{strategy:?}");
        meter.correct(10, 500, Timestamp(10));
        assert_eq!(meter.room(Timestamp(20)), 0, "{strategy:?}");
        // What no longer counts cannot be corrected.
        meter.take(5, Timestamp(2 * MINUTE));
        meter.correct(500, 1000, Timestamp(10));
        meter.give_back(500, Timestamp(10));
        assert_eq!(meter.room(Timestamp(2 * MINUTE)), 95, "{strategy:?}");
    }
    let mut bucket = Meter::new(Measure::Tokens, rate(60, 60_000, Strategy::TokenBucket { burst: 100 }));
    bucket.take(100, Timestamp(0));
    bucket.correct(100, 30, Timestamp(0));
    assert_eq!(bucket.room(Timestamp(10_000)), 80);
    bucket.correct(30, 230, Timestamp(0));
    assert_eq!((bucket.room(Timestamp(130_000)), bucket.room(Timestamp(131_000))), (0, 1));
    // Full since: nothing comes back, but what nobody knew of is owed.
    bucket.take(1, Timestamp(10 * MINUTE));
    bucket.give_back(50, Timestamp(0));
    assert_eq!(bucket.room(Timestamp(10 * MINUTE)), 99);
    bucket.correct(0, 9, Timestamp(0));
    assert_eq!(bucket.room(Timestamp(10 * MINUTE)), 90);
}

#[test]
fn a_clock_that_goes_back_frees_nothing() {
    for strategy in [Strategy::FixedWindow, Strategy::SlidingWindow, Strategy::TokenBucket { burst: 5 }] {
        let mut meter = requests(5, strategy);
        assert_eq!(fill(&mut meter, 10 * MINUTE), 5);
        assert_eq!(fill(&mut meter, 5 * MINUTE), 0, "{strategy:?}");
        assert_eq!(fill(&mut meter, 11 * MINUTE), 5, "{strategy:?}");
    }
}

#[test]
fn a_changed_rate_counts_what_was_taken() {
    let mut meter = requests(10, Strategy::FixedWindow);
    meter.take(8, Timestamp(0));
    meter.change(rate(20, 60_000, Strategy::FixedWindow), Timestamp(1));
    assert_eq!((meter.room(Timestamp(1)), meter.room(Timestamp(MINUTE))), (12, 20));
    meter.change(rate(20, 60_000, Strategy::SlidingWindow), Timestamp(1_000));
    assert_eq!((meter.room(Timestamp(60_999)), meter.room(Timestamp(61_000))), (12, 20));
    meter.change(rate(60, 60_000, Strategy::TokenBucket { burst: 10 }), Timestamp(2_000));
    assert_eq!((meter.room(Timestamp(2_000)), meter.room(Timestamp(5_000))), (2, 5));
    meter.change(rate(60, 60_000, Strategy::TokenBucket { burst: 9 }), Timestamp(5_500));
    assert_eq!((meter.room(Timestamp(5_500)), meter.room(Timestamp(60_000))), (4, 9));
}

#[test]
fn many_moments_are_few_and_never_let_more_through() {
    let mut sliding = requests(10_000, Strategy::SlidingWindow);
    for at in 0..MINUTE {
        if at % 6 == 0 {
            sliding.take(1, Timestamp(at));
        }
    }
    assert!(sliding.state("", "").taken.len() <= Meter::MOMENTS_MAX);
    // A slice late at most.
    let room = sliding.room(Timestamp(MINUTE + 30_000));
    assert!((4_950..=5_001).contains(&room), "{room}");
    assert_eq!(sliding.room(Timestamp(2 * MINUTE)), 10_000);
    let mut bucket = requests(10_000, Strategy::TokenBucket { burst: 20_000 });
    for at in 0..20_000 {
        bucket.take(1, Timestamp(at));
    }
    assert!(bucket.state("", "").taken.len() <= Meter::MOMENTS_MAX);
    // 20,000 were taken, and 3,333.2 flowed in since the first.
    assert_eq!(bucket.room(Timestamp(19_999)), 3_333);
    bucket.give_back(1, Timestamp(10_000));
    assert_eq!(bucket.room(Timestamp(19_999)), 3_334);
}

/// What happens to a meter.
#[derive(Clone, Debug)]
enum Step {
    /// Time moves, backwards too; then so much is wanted.
    Take { wait: i64, amount: u64 },
    /// Which of those that were taken, and what it came out as.
    Correct { which: usize, share: u64 },
}

fn steps() -> impl Generates<Value = Vec<Step>> {
    let take = (-500..3_000_i64, 1..6_u64).prop_map(|(wait, amount)| Step::Take { wait, amount });
    let correct = (0..64_usize, 0..100_u64).prop_map(|(which, share)| Step::Correct { which, share });
    proptest::collection::vec(prop_oneof![4 => take, 1 => correct], 1..200)
}

fn strategies() -> impl Generates<Value = Strategy> {
    prop_oneof![
        Just(Strategy::FixedWindow),
        Just(Strategy::SlidingWindow),
        (1..30_u64).prop_map(|burst| Strategy::TokenBucket { burst }),
    ]
}

/// Of which a millionth of what flows in is a whole number, so that a snapshot of a bucket is not rounded.
fn periods() -> impl Generates<Value = u64> {
    proptest::sample::select(&[1_000, 1_600, 2_000, 4_000, 8_000, 12_500, 20_000][..])
}

/// All that was ever taken, and what may be taken by the definition of the strategy.
struct Naive {
    rate: Rate,
    taken: Vec<(i64, u64)>,
}

impl Naive {
    fn room(&self, now: i64) -> u64 {
        let period = self.rate.millis();
        let sum =
            |counts: &dyn Fn(i64) -> bool| self.taken.iter().filter(|(at, _)| counts(*at)).map(|(_, n)| n).sum::<u64>();
        match self.rate.strategy {
            Strategy::FixedWindow => {
                self.rate.allowed.saturating_sub(sum(&|at| at.div_euclid(period) == now.div_euclid(period)))
            }
            Strategy::SlidingWindow => self.rate.allowed.saturating_sub(sum(&|at| at > now - period)),
            Strategy::TokenBucket { burst } => {
                let (mut level, mut then) = (i128::from(burst) * i128::from(period), i64::MIN / 4);
                for (at, amount) in self.taken.iter().copied().chain([(now, 0)]) {
                    let inflow = i128::from(at - then) * i128::from(self.rate.allowed);
                    level = (level + inflow).min(i128::from(burst) * i128::from(period));
                    level -= i128::from(amount) * i128::from(period);
                    then = at;
                }
                u64::try_from(level.max(0) / i128::from(period)).unwrap()
            }
        }
    }
}

proptest! {
    /// The same as the definition, after takes, corrections, snapshots and steps of the clock; and a span never holds more
    /// than its limit.
    #[test]
    fn a_meter_is_what_its_strategy_says(
        strategy in strategies(), allowed in 1..20_u64, period in periods(), steps in steps(), stored in 0..200_usize,
    ) {
        let rate = rate(allowed, period, strategy);
        let mut meter = Meter::new(Measure::Tokens, rate);
        let mut naive = Naive { rate, taken: Vec::new() };
        let most = if let Strategy::TokenBucket { burst } = strategy { burst } else { allowed };
        // The clock, and the latest time that it has shown at a take.
        let (mut clock, mut seen) = (1_000_000_i64, i64::MIN);
        for (index, step) in steps.into_iter().enumerate() {
            match step {
                Step::Take { wait, amount } => {
                    clock += wait;
                    let now = clock.max(seen);
                    let room = meter.room(Timestamp(clock));
                    prop_assert_eq!(room, naive.room(now));
                    let after = meter.retry_after(amount, Timestamp(clock));
                    if let Some(after) = after {
                        let then = clock + i64::try_from(after.as_millis()).unwrap();
                        prop_assert!(naive.room(then.max(seen)) >= amount);
                        prop_assert!(after.is_zero() || naive.room((then - 1).max(seen)) < amount);
                    }
                    if room >= amount {
                        meter.take(amount, Timestamp(clock));
                        naive.taken.push((now, amount));
                        seen = now;
                    } else {
                        prop_assert_ne!(after, Some(Duration::ZERO));
                    }
                }
                Step::Correct { which, share } if !naive.taken.is_empty() => {
                    let which = which % naive.taken.len();
                    let (at, reserved) = naive.taken[which];
                    let actual = reserved * share / 100;
                    meter.correct(reserved, actual, Timestamp(at));
                    naive.taken[which].1 = actual;
                }
                Step::Correct { .. } => {}
            }
            if index == stored {
                let restored = Meter::restore(&meter.state("l", "s")).unwrap();
                prop_assert_eq!(restored.room(Timestamp(clock.max(seen))), meter.room(Timestamp(clock.max(seen))));
                // A clock that goes back is another matter after a restart.
                clock = clock.max(seen);
                meter = restored;
            }
            let now = Timestamp(clock);
            let full = now.0 + i64::try_from(meter.reset(now).as_millis()).unwrap();
            prop_assert_eq!(meter.room(Timestamp(full)), most);
        }
        for (from, _) in &naive.taken {
            let span = |to: i64| naive.taken.iter().filter(|(at, _)| (*from..to).contains(at)).map(|(_, n)| n).sum::<u64>();
            if strategy == Strategy::SlidingWindow {
                prop_assert!(span(from + rate.millis()) <= allowed);
            }
        }
    }
}
