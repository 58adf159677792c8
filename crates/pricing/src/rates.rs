//! Rates, and the arithmetic on them.

use farebox_proto::v1;
use farebox_types::{Money, Usage};

/// The prices that a call is bound to: pico-dollars for a million units of a bucket, `per_request` in pico-dollars for
/// one request. The same fields as the contract's `Rates`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rates {
    pub input: i64,
    pub cache_read: i64,
    pub cache_write_5m: i64,
    pub cache_write_1h: i64,
    pub output: i64,
    pub reasoning: i64,
    pub audio_input: i64,
    pub audio_output: i64,
    pub image_input: i64,
    pub image_output: i64,
    pub per_request: i64,
    pub cache_read_audio: i64,
    /// For one search.
    pub per_search: i64,
}

impl Rates {
    fn dearest_input(&self) -> i64 {
        self.input
            .max(self.cache_read)
            .max(self.cache_write_5m)
            .max(self.cache_write_1h)
            .max(self.audio_input)
            .max(self.image_input)
            .max(self.cache_read_audio)
    }

    fn dearest_output(&self) -> i64 {
        self.output.max(self.reasoning).max(self.audio_output).max(self.image_output)
    }
}

impl From<Rates> for v1::Rates {
    fn from(r: Rates) -> v1::Rates {
        v1::Rates {
            input: r.input,
            cache_read: r.cache_read,
            cache_write_5m: r.cache_write_5m,
            cache_write_1h: r.cache_write_1h,
            output: r.output,
            reasoning: r.reasoning,
            audio_input: r.audio_input,
            audio_output: r.audio_output,
            image_input: r.image_input,
            image_output: r.image_output,
            per_request: r.per_request,
            cache_read_audio: r.cache_read_audio,
            per_search: r.per_search,
        }
    }
}

impl From<v1::Rates> for Rates {
    fn from(r: v1::Rates) -> Rates {
        Rates {
            input: r.input,
            cache_read: r.cache_read,
            cache_write_5m: r.cache_write_5m,
            cache_write_1h: r.cache_write_1h,
            output: r.output,
            reasoning: r.reasoning,
            audio_input: r.audio_input,
            audio_output: r.audio_output,
            image_input: r.image_input,
            image_output: r.image_output,
            per_request: r.per_request,
            cache_read_audio: r.cache_read_audio,
            per_search: r.per_search,
        }
    }
}

/// What a call cost, by bucket.
///
/// `total` is rounded once, from the exact sum. The buckets are rounded each for itself, for people to read: where a
/// rate is finer than a pico-dollar for one token, their sum may differ from `total` in the last digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breakdown {
    pub input: Money,
    pub cache_read: Money,
    pub cache_write_5m: Money,
    pub cache_write_1h: Money,
    pub output: Money,
    pub reasoning: Money,
    pub audio_input: Money,
    pub audio_output: Money,
    pub image_input: Money,
    pub image_output: Money,
    pub cache_read_audio: Money,
    pub searches: Money,
    pub per_request: Money,
    pub total: Money,
}

/// Tokens × rate, in pico-dollars × 10⁶.
fn micropicos(tokens: u64, rate: i64) -> i128 {
    // Rates end at 9·10¹⁸, so only an absurd count of tokens saturates, and then upwards.
    i128::from(tokens).saturating_mul(i128::from(rate))
}

const MILLION: i128 = 1_000_000;

/// Half away from zero, to a whole pico-dollar.
fn rounded(micropicos: i128) -> Money {
    let half = if micropicos < 0 { -MILLION / 2 } else { MILLION / 2 };
    Money::from_picos(micropicos.saturating_add(half) / MILLION)
}

/// The cost of `usage`. What was not reported costs nothing here: whether that may be believed is for the caller to say.
pub fn price(usage: &Usage, rates: &Rates) -> Breakdown {
    let mut sum: i128 = 0;
    let mut bucket = |tokens: Option<u64>, rate: i64| {
        let exact = micropicos(tokens.unwrap_or(0), rate);
        sum = sum.saturating_add(exact);
        rounded(exact)
    };
    let mut breakdown = Breakdown {
        input: bucket(usage.input, rates.input),
        cache_read: bucket(usage.cache_read, rates.cache_read),
        cache_write_5m: bucket(usage.cache_write_5m, rates.cache_write_5m),
        cache_write_1h: bucket(usage.cache_write_1h, rates.cache_write_1h),
        output: bucket(usage.output, rates.output),
        reasoning: bucket(usage.reasoning, rates.reasoning),
        audio_input: bucket(usage.audio_input, rates.audio_input),
        audio_output: bucket(usage.audio_output, rates.audio_output),
        image_input: bucket(usage.image_input, rates.image_input),
        image_output: bucket(usage.image_output, rates.image_output),
        cache_read_audio: bucket(usage.cache_read_audio, rates.cache_read_audio),
        searches: Money::from_picos(
            i128::from(usage.searches.unwrap_or(0)).saturating_mul(i128::from(rates.per_search)),
        ),
        per_request: Money::from_picos(i128::from(rates.per_request)),
        total: Money::ZERO,
    };
    breakdown.total = rounded(sum).saturating_add(breakdown.searches).saturating_add(breakdown.per_request);
    breakdown
}

/// The most that one call with at most these tokens can cost: never below [`price`] of any usage within them.
pub fn bound(rates: &Rates, input_tokens_max: u64, output_tokens_max: u64) -> Money {
    let exact = micropicos(input_tokens_max, rates.dearest_input())
        .saturating_add(micropicos(output_tokens_max, rates.dearest_output()));
    rounded(exact).saturating_add(Money::from_picos(i128::from(rates.per_request)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rounds_once_and_half_away_from_zero() {
        let rates = Rates { input: 500_000, output: 499_999, ..Rates::default() };
        let one = |input, output| {
            let usage = Usage { input: Some(input), output: Some(output), ..Usage::default() };
            price(&usage, &rates)
        };
        assert_eq!(one(1, 0).total, Money::from_picos(1));
        assert_eq!(one(0, 1).total, Money::ZERO);
        // Two halves make one pico, although each alone would be rounded up to one.
        let both = one(2, 1);
        assert_eq!((both.input, both.output), (Money::from_picos(1), Money::ZERO));
        assert_eq!(both.total, Money::from_picos(1));
        assert_eq!(one(1, 1).total, Money::from_picos(1));
    }

    #[test]
    fn absurd_counts_do_not_wrap() {
        let rates = Rates { input: i64::MAX, output: i64::MAX, ..Rates::default() };
        assert!(bound(&rates, u64::MAX, u64::MAX) > Money::usd(1_000_000));
    }

    proptest! {
        #[test]
        fn the_bound_holds_for_any_usage_within_the_totals(
            rates in prop::array::uniform12(0_i64..1_000_000_000_000_000),
            tokens in prop::array::uniform11(0_u64..2_000_000),
        ) {
            let rates = Rates {
                input: rates[0],
                cache_read: rates[1],
                cache_write_5m: rates[2],
                cache_write_1h: rates[3],
                output: rates[4],
                reasoning: rates[5],
                audio_input: rates[6],
                audio_output: rates[7],
                image_input: rates[8],
                image_output: rates[9],
                per_request: rates[10],
                cache_read_audio: rates[11],
                per_search: 0,
            };
            let usage = Usage {
                input: Some(tokens[0]),
                cache_read: Some(tokens[1]),
                cache_write_5m: Some(tokens[2]),
                cache_write_1h: Some(tokens[3]),
                output: Some(tokens[4]),
                reasoning: Some(tokens[5]),
                audio_input: Some(tokens[6]),
                audio_output: Some(tokens[7]),
                image_input: Some(tokens[8]),
                image_output: Some(tokens[9]),
                cache_read_audio: Some(tokens[10]),
                searches: None,
            };
            let bound = bound(&rates, usage.total_input(), usage.total_output());
            prop_assert!(bound >= price(&usage, &rates).total);
        }
    }
}
