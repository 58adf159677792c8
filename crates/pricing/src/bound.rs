//! The most that a call can cost, before it is made.

use farebox_proto::v1;
use farebox_types::Money;

use crate::{RateCard, Rates, ServiceTier};

/// What the cost of one call can come to, as far as anything limits it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// It never costs more.
    Bounded(Most),
    /// Nothing in the request limits its cost.
    Unbounded {
        /// What it is, naming the field.
        reason: String,
        /// The part of the cost that is known.
        known: Money,
    },
}

/// The most that a call costs: `fixed`, and `per_token` for each token of its output limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Most {
    /// All but the output.
    pub fixed: Money,
    /// One token of the output limit, in all answers together, rounded up to a pico-dollar.
    pub per_token: Money,
    /// The output limit of one answer.
    pub max_tokens: u64,
}

/// How much of everything one call can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub input: u64,
    /// The output limit of one answer.
    pub max_tokens: u64,
    /// Answers to the one call.
    pub answers: u64,
    pub searches: u64,
}

impl Most {
    pub fn amount(&self) -> Money {
        let output = self.per_token.picos().saturating_mul(i128::from(self.max_tokens));
        self.fixed.saturating_add(Money::from_picos(output))
    }
}

impl Bound {
    /// What is reserved where no budget asks for more.
    pub fn known(&self) -> Money {
        match self {
            Bound::Bounded(most) => most.amount(),
            Bound::Unbounded { known, .. } => *known,
        }
    }

    /// How the bound depends on the output limit; `None`: lowering that would not bound it, or there is no output.
    pub fn output(&self) -> Option<v1::OutputShare> {
        match self {
            Bound::Bounded(most) if most.max_tokens > 0 => Some(v1::OutputShare {
                fixed: Some(most.fixed.into()),
                per_token: Some(most.per_token.into()),
                max_tokens: most.max_tokens,
            }),
            Bound::Bounded(_) | Bound::Unbounded { .. } => None,
        }
    }

    /// Why nothing limits the cost; empty where something does.
    pub fn reason(&self) -> &str {
        match self {
            Bound::Bounded(_) => "",
            Bound::Unbounded { reason, .. } => reason,
        }
    }
}

/// The most that one call of this extent can cost when it is served in the standard tier or in one of `tiers`: never below
/// [`crate::price`] of any usage within it, whatever its output limit is lowered to. Of the rates that may hold, the dearest
/// count.
pub fn bound(card: &RateCard, extent: Extent, tiers: &[&str]) -> Most {
    let possible = |tier| tier == ServiceTier::Standard || tiers.iter().any(|word| ServiceTier::of(word) == Some(tier));
    let reachable = card.tiers().iter().filter(|t| possible(t.tier) && t.covers(extent.input)).map(|t| &t.rates);
    let most = |part: fn(&Rates, Extent) -> Money| {
        reachable.clone().chain([card.standard()]).map(|rates| part(rates, extent)).max().unwrap_or_default()
    };
    Most {
        fixed: most(|rates, extent| rates.without_output(extent.input, extent.searches)),
        per_token: most(|rates, extent| rates.output_token(extent.answers)),
        max_tokens: extent.max_tokens,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TierRates;

    fn extent(max_tokens: u64) -> Extent {
        Extent { input: 10, max_tokens, answers: 3, searches: 0 }
    }

    #[test]
    fn all_answers_and_the_dearest_tier_count_for_a_token() {
        let standard = Rates { input: 1_000_000, output: 2_000_000, reasoning: 3_000_000, ..Rates::default() };
        let flex = TierRates {
            tier: ServiceTier::Flex,
            above: 0,
            inclusive: false,
            rates: Rates { input: 4_000_000, output: 1_000_000, ..Rates::default() },
        };
        let card = RateCard::new(standard, vec![flex]);
        let most = bound(&card, extent(7), &["flex"]);
        assert_eq!((most.fixed.picos(), most.per_token.picos(), most.amount().picos()), (40, 9, 40 + 7 * 9));
        assert_eq!(bound(&card, extent(7), &[]).fixed.picos(), 10);
    }

    #[test]
    fn a_token_is_rounded_up() {
        let card = RateCard::from(Rates { output: 1, ..Rates::default() });
        assert_eq!(bound(&card, extent(5), &[]).amount().picos(), 5);
    }

    #[test]
    fn what_the_guard_is_told_adds_up_to_the_bound() {
        let bounded = Bound::Bounded(Most { fixed: Money::usd(1), per_token: Money::from_picos(3), max_tokens: 5 });
        assert_eq!(bounded.output().map(|share| share.bound()), Some(bounded.known()));
        let most = Most { fixed: Money::usd(1), ..Most::default() };
        assert_eq!(Bound::Bounded(most).output(), None, "without output there is nothing to lower");
        assert_eq!(Bound::Unbounded { reason: "`tools`".into(), known: Money::usd(1) }.output(), None);
    }
}
