//! Rates, and the arithmetic on them.

use farebox_proto::v1;
use farebox_types::{Money, Usage};

use crate::{ServiceTier, row::Amount};

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
    pub(crate) fn of(&mut self, amount: Amount) -> &mut i64 {
        match amount {
            Amount::Input => &mut self.input,
            Amount::Output => &mut self.output,
            Amount::CacheRead => &mut self.cache_read,
            Amount::CacheWrite5m => &mut self.cache_write_5m,
            Amount::CacheWrite1h => &mut self.cache_write_1h,
            Amount::Reasoning => &mut self.reasoning,
            Amount::AudioInput => &mut self.audio_input,
            Amount::AudioOutput => &mut self.audio_output,
            Amount::ImageInput => &mut self.image_input,
            Amount::ImageOutput => &mut self.image_output,
            Amount::CacheReadAudio => &mut self.cache_read_audio,
            Amount::PerRequest => &mut self.per_request,
            Amount::PerSearch => &mut self.per_search,
        }
    }

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
    /// The tier whose rates these are.
    pub tier: ServiceTier,
    /// The tier that served is unknown or has no price, and the standard one was taken in its place.
    pub tier_unpriced: bool,
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

fn rounded_up(micropicos: i128) -> Money {
    Money::from_picos(micropicos.saturating_add(MILLION - 1) / MILLION)
}

impl Rates {
    /// The cost of `usage` at these rates, whatever tier they are of.
    pub fn price(&self, usage: &Usage) -> Breakdown {
        let mut sum: i128 = 0;
        let mut bucket = |tokens: Option<u64>, rate: i64| {
            let exact = micropicos(tokens.unwrap_or(0), rate);
            sum = sum.saturating_add(exact);
            rounded(exact)
        };
        let mut breakdown = Breakdown {
            input: bucket(usage.input, self.input),
            cache_read: bucket(usage.cache_read, self.cache_read),
            cache_write_5m: bucket(usage.cache_write_5m, self.cache_write_5m),
            cache_write_1h: bucket(usage.cache_write_1h, self.cache_write_1h),
            output: bucket(usage.output, self.output),
            reasoning: bucket(usage.reasoning, self.reasoning),
            audio_input: bucket(usage.audio_input, self.audio_input),
            audio_output: bucket(usage.audio_output, self.audio_output),
            image_input: bucket(usage.image_input, self.image_input),
            image_output: bucket(usage.image_output, self.image_output),
            cache_read_audio: bucket(usage.cache_read_audio, self.cache_read_audio),
            searches: self.searched(usage.searches.unwrap_or(0)),
            per_request: Money::from_picos(i128::from(self.per_request)),
            ..Breakdown::default()
        };
        breakdown.total = rounded(sum).saturating_add(breakdown.searches).saturating_add(breakdown.per_request);
        breakdown
    }

    /// The most that so many tokens of input and searches cost at these rates, with the request's own fee.
    pub(crate) fn without_output(&self, input_max: u64, searches_max: u64) -> Money {
        let apart = self.searched(searches_max).saturating_add(Money::from_picos(i128::from(self.per_request)));
        rounded_up(micropicos(input_max, self.dearest_input())).saturating_add(apart)
    }

    /// The most that one token costs in each of so many answers.
    pub(crate) fn output_token(&self, answers: u64) -> Money {
        rounded_up(micropicos(answers, self.dearest_output()))
    }

    /// The rates for tokens times a factor. What does not come out even is rounded up.
    pub(crate) fn times(&self, factor: Factor) -> Rates {
        let mut rates = *self;
        for amount in Amount::ALL.into_iter().filter(|amount| amount.is_for_tokens()) {
            let rate = rates.of(amount);
            *rate = factor.of(*rate);
        }
        rates
    }

    fn searched(&self, searches: u64) -> Money {
        Money::from_picos(i128::from(searches).saturating_mul(i128::from(self.per_search)))
    }
}

/// An exact decimal that prices are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Factor {
    picos: i128,
}

impl Factor {
    /// Above 0, at most 100.
    pub(crate) fn read(text: &str) -> Option<Factor> {
        let picos = text.parse::<Money>().ok()?.picos();
        (picos > 0 && picos <= 100 * Money::PICOS_PER_USD).then_some(Factor { picos })
    }

    fn of(self, rate: i64) -> i64 {
        let exact = i128::from(rate).saturating_mul(self.picos);
        let up = exact.saturating_add(Money::PICOS_PER_USD - 1) / Money::PICOS_PER_USD;
        i64::try_from(up).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_once_and_half_away_from_zero() {
        let rates = Rates { input: 500_000, output: 499_999, ..Rates::default() };
        let one = |input, output| {
            let usage = Usage { input: Some(input), output: Some(output), ..Usage::default() };
            rates.price(&usage)
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
        assert!(rates.without_output(u64::MAX, u64::MAX) > Money::usd(1_000_000));
        assert!(rates.output_token(u64::MAX) > Money::usd(1_000_000));
    }

    #[test]
    fn a_factor_rounds_up_and_leaves_fees_alone() {
        let rates = Rates { input: 3, output: 10, per_request: 7, per_search: 9, ..Rates::default() };
        let dearer = rates.times(Factor::read("1.1").unwrap());
        assert_eq!((dearer.input, dearer.output, dearer.per_request, dearer.per_search), (4, 11, 7, 9));
        for bad in ["0", "-1", "101", "x"] {
            assert_eq!(Factor::read(bad), None, "{bad}");
        }
    }
}
