//! A row whose amounts have been read.

use std::sync::Arc;

use farebox_types::{Money, Timestamp};
use jiff::{civil::Date, tz::TimeZone};

use crate::{
    PriceError, PriceRow, RateCard, Rates, SearchContext, ServiceTier, TierRates,
    rates::Factor,
    row::{Amount, Amounts, WindowRow},
    window::Window,
};

#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) row: Arc<PriceRow>,
    /// First instant, and first instant after.
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
    card: RateCard,
    windows: Vec<(Window, Change)>,
    regions: Vec<(String, Factor)>,
    searches: Vec<(SearchContext, i64)>,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Factor(Factor),
    Standard(Rates),
}

impl Listed {
    /// Nothing costs anything.
    pub(crate) fn free(row: &Arc<PriceRow>) -> Listed {
        Listed {
            row: Arc::clone(row),
            from: Timestamp(i64::MIN),
            until: Timestamp(i64::MAX),
            card: RateCard::default(),
            windows: Vec::new(),
            regions: Vec::new(),
            searches: Vec::new(),
        }
    }

    pub(crate) fn read(row: &PriceRow) -> Result<Listed, PriceError> {
        if row.models.is_empty() {
            return Err(PriceError::NoModel { row: row.name() });
        }
        let (from, until) = row.period()?;
        let standard = row.rates(&row.amounts, None)?;
        let mut tiers: Vec<TierRates> = Vec::new();
        for tier in &row.tiers {
            let unknown = || PriceError::Tier { row: row.name(), tier: tier.service_tier.clone() };
            let known = TierRates {
                tier: ServiceTier::of(&tier.service_tier).ok_or_else(unknown)?,
                above: tier.above,
                inclusive: tier.inclusive,
                rates: row.rates(&tier.amounts, Some(standard))?,
            };
            let twice = tiers.iter().any(|t| (t.tier, t.above) == (known.tier, known.above));
            if twice || (known.tier == ServiceTier::Standard && known.above == 0) {
                return Err(PriceError::TierTwice { row: row.name(), tier: known.tier, above: known.above });
            }
            tiers.push(known);
        }
        let windows = row.windows.iter().map(|window| row.window(window, standard)).collect::<Result<_, _>>()?;
        let regions = row.regions.iter().map(|r| Ok((r.region.clone(), row.factor(&r.factor)?)));
        let searches = row.search_context.iter().map(|(size, text)| Ok((*size, row.amount(Amount::PerSearch, text)?)));
        Ok(Listed {
            from,
            until,
            card: RateCard::new(standard, tiers),
            windows,
            regions: regions.collect::<Result<_, PriceError>>()?,
            searches: searches.collect::<Result<_, PriceError>>()?,
            row: Arc::new(row.clone()),
        })
    }

    pub(crate) fn holds(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.until
    }

    /// Whether both hold at the same time in the same place.
    pub(crate) fn overlaps(&self, other: &Listed) -> bool {
        self.row.region == other.row.region && self.from < other.until && other.from < self.until
    }

    pub(crate) fn card(&self, at: Timestamp, region: Option<&str>, search: Option<SearchContext>) -> RateCard {
        let mut card = match self.windows.iter().find(|(window, _)| window.contains(at)) {
            None => self.card.clone(),
            Some((_, Change::Factor(factor))) => self.card.map(|rates| rates.times(*factor)),
            Some((_, Change::Standard(rates))) => RateCard::new(*rates, self.card.tiers().to_vec()),
        };
        if let Some((_, factor)) = self.regions.iter().find(|(pattern, _)| matches(pattern, region)) {
            card = card.map(|rates| rates.times(*factor));
        }
        if let Some((_, cost)) = self.searches.iter().find(|(size, _)| Some(*size) == search) {
            card = match self.row.amounts.contains_key(&Amount::PerSearch) {
                true => card.map(|rates| Rates { per_search: *cost, ..*rates }),
                false => card.map(|rates| Rates { per_request: *cost, ..*rates }),
            };
        }
        card
    }

    /// What makes two rows the same price, in any spelling of their amounts.
    pub(crate) fn essence(&self) -> String {
        let Listed { row, from, until, card, windows, regions, searches } = self;
        let facts = (&row.region, &row.also, row.mode, row.context_window, row.max_output);
        format!("{from:?} {until:?} {card:?} {windows:?} {regions:?} {searches:?} {facts:?}")
    }
}

/// Whether a region's name is the one of a pattern, or begins as it does.
pub(crate) fn matches(pattern: &str, region: Option<&str>) -> bool {
    let Some(region) = region else { return false };
    pattern.strip_suffix('*').map_or(pattern == region, |start| region.starts_with(start))
}

impl PriceRow {
    /// How errors call it.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.provider, self.models.first().map_or("?", String::as_str))
    }

    /// The rates that these amounts of the row make: the standard ones, or others that hold in place of them.
    fn rates(&self, amounts: &Amounts, standard: Option<Rates>) -> Result<Rates, PriceError> {
        let mut rates = Rates::default();
        for amount in Amount::ALL {
            let given = amounts.get(&amount).map(|text| self.amount(amount, text)).transpose()?;
            let around = amount.around().map(|around| *rates.of(around));
            let before = standard.map(|mut standard| *standard.of(amount));
            let named = self.amounts.contains_key(&amount);
            *rates.of(amount) = match (given, around, before) {
                (Some(given), ..) => given,
                (None, Some(around), Some(before)) if named => around.max(before),
                (None, Some(around), _) => around,
                (None, None, Some(before)) => before,
                (None, None, None) if amount.is_for_tokens() => {
                    return Err(PriceError::Missing { row: self.name(), field: amount.as_str() });
                }
                (None, None, None) => 0,
            };
        }
        Ok(rates)
    }

    fn amount(&self, amount: Amount, text: &str) -> Result<i64, PriceError> {
        let field = amount.as_str();
        let money: Money = text.parse().map_err(|source| PriceError::Amount { row: self.name(), field, source })?;
        let most = Money::usd(9_000_000).picos();
        match i64::try_from(money.picos()) {
            Ok(picos) if picos >= 0 && money.picos() <= most => Ok(picos),
            _ => Err(PriceError::Range { row: self.name(), field }),
        }
    }

    fn factor(&self, text: &str) -> Result<Factor, PriceError> {
        Factor::read(text).ok_or_else(|| PriceError::Factor { row: self.name(), factor: text.to_owned() })
    }

    fn window(&self, written: &WindowRow, standard: Rates) -> Result<(Window, Change), PriceError> {
        let bad = || PriceError::Window { row: self.name() };
        let window = Window::read(&written.hours, &written.weekdays).ok_or_else(bad)?;
        let change = match &written.factor {
            Some(factor) if written.amounts.is_empty() => Change::Factor(self.factor(factor)?),
            None if !written.amounts.is_empty() => Change::Standard(self.rates(&written.amounts, Some(standard))?),
            _ => return Err(bad()),
        };
        Ok((window, change))
    }

    fn period(&self) -> Result<(Timestamp, Timestamp), PriceError> {
        let start_of = |day: Date| day.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp().as_millisecond());
        let bad = || PriceError::Period { row: self.name() };
        let from = self.from.map(start_of).transpose().map_err(|_| bad())?;
        let until = self.until.map(start_of).transpose().map_err(|_| bad())?;
        let (from, until) = (from.unwrap_or(i64::MIN), until.unwrap_or(i64::MAX));
        if from >= until {
            return Err(bad());
        }
        Ok((Timestamp(from), Timestamp(until)))
    }
}
