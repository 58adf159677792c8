//! All rates of one model at one time, and what a call costs by them.

use std::cmp::Reverse;

use farebox_proto::v1;
use farebox_types::Usage;

use crate::{Breakdown, Rates, ServiceTier};

/// The rates that one call may be priced with: the standard ones, and those that hold in their place in a service tier or
/// with a long context. Of one call all buckets have the rates of one tier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateCard {
    standard: Rates,
    /// The highest threshold first.
    tiers: Vec<TierRates>,
}

/// Rates for a service tier, for inputs above a threshold, or for both together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierRates {
    pub tier: ServiceTier,
    /// Input tokens, cached ones included, above which the whole call has these rates; 0: any.
    pub above: u64,
    /// The threshold itself belongs to these rates too.
    pub inclusive: bool,
    pub rates: Rates,
}

impl TierRates {
    pub(crate) fn covers(&self, total_input: u64) -> bool {
        total_input > self.above || self.above == 0 || (self.inclusive && total_input == self.above)
    }
}

impl RateCard {
    pub fn new(standard: Rates, mut tiers: Vec<TierRates>) -> RateCard {
        tiers.sort_by_key(|tier| (tier.tier, Reverse(tier.above)));
        RateCard { standard, tiers }
    }

    pub fn standard(&self) -> &Rates {
        &self.standard
    }

    pub fn tiers(&self) -> &[TierRates] {
        &self.tiers
    }

    /// The rates of a call with so many input tokens, cached ones included, that was served in the tier of this word.
    pub fn rates(&self, total_input: u64, served: &str) -> &Rates {
        let matching = |wanted| self.tiers.iter().find(|t| t.tier == wanted && t.covers(total_input));
        let tier = self.priced_as(served).unwrap_or_default();
        matching(tier).or_else(|| matching(ServiceTier::Standard)).map_or(&self.standard, |t| &t.rates)
    }

    /// The tier that a provider's word is priced as. `None`: the word is unknown or has no price here, so that the
    /// standard one is taken.
    pub fn priced_as(&self, served: &str) -> Option<ServiceTier> {
        let tier = ServiceTier::of(served)?;
        (tier == ServiceTier::Standard || self.tiers.iter().any(|t| t.tier == tier)).then_some(tier)
    }

    /// Every rate changed alike, the ones that are not for tokens left out.
    pub(crate) fn map(&self, change: impl Fn(&Rates) -> Rates) -> RateCard {
        let tiers = self.tiers.iter().map(|t| TierRates { rates: change(&t.rates), ..*t }).collect();
        RateCard { standard: change(&self.standard), tiers }
    }
}

impl From<Rates> for RateCard {
    fn from(standard: Rates) -> RateCard {
        RateCard { standard, tiers: Vec::new() }
    }
}

/// As a deployment of a plan carries it.
impl From<&v1::Deployment> for RateCard {
    fn from(deployment: &v1::Deployment) -> RateCard {
        // A tier that this program has no word for is one that it never prices a call in.
        let tiers = deployment.rate_tiers.iter().filter_map(|tier| {
            Some(TierRates {
                tier: ServiceTier::of(&tier.service_tier)?,
                above: tier.input_above,
                inclusive: tier.inclusive,
                rates: tier.rates.unwrap_or_default().into(),
            })
        });
        RateCard::new(deployment.rates.unwrap_or_default().into(), tiers.collect())
    }
}

impl From<&RateCard> for Vec<v1::RateTier> {
    fn from(card: &RateCard) -> Vec<v1::RateTier> {
        let word = |tier: ServiceTier| match tier {
            ServiceTier::Standard => String::new(),
            other => other.as_str().to_owned(),
        };
        card.tiers
            .iter()
            .map(|t| v1::RateTier {
                service_tier: word(t.tier),
                input_above: t.above,
                inclusive: t.inclusive,
                rates: Some(t.rates.into()),
            })
            .collect()
    }
}

/// The cost of `usage`, served in the tier of this word. What was not reported costs nothing here: whether that may be
/// believed is for the caller to say.
pub fn price(usage: &Usage, card: &RateCard, served: &str) -> Breakdown {
    let tier = card.priced_as(served);
    Breakdown {
        tier: tier.unwrap_or_default(),
        tier_unpriced: tier.is_none(),
        ..card.rates(usage.total_input(), served).price(usage)
    }
}
