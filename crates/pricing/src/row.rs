//! One row of the price table, as it is written.

use farebox_types::{Money, Timestamp};
use jiff::{civil::Date, tz::TimeZone};

use crate::{Rates, error::PriceError};

/// The price of some models of one provider for a span of days. Amounts are decimals in US dollars for a million tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceRow {
    pub provider: String,
    /// Every name that has this price, spelled out.
    pub models: Vec<String>,
    /// The first day (UTC) on which it holds; without it, it always did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub from: Option<Date>,
    /// The first day (UTC) on which it no longer holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub until: Option<Date>,
    pub input: String,
    pub output: String,
    /// Without it: as `input`. So are the other input buckets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_5m: Option<String>,
    /// Without it: as `cache_write_5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<String>,
    /// Without it: as `output`. So are the other output buckets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_input: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_output: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_input: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_output: Option<String>,
    /// In US dollars for one request, on top of the tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_request: Option<String>,
    /// Tokens that fit into one call, in and out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window: Option<u64>,
    /// The most tokens that one answer can have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output: Option<u64>,
    /// Where the figures were taken from.
    #[serde(default)]
    pub source: String,
    /// When they were last compared with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub checked: Option<Date>,
}

impl PriceRow {
    /// How errors call it.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.provider, self.models.first().map_or("?", String::as_str))
    }

    pub(crate) fn rates(&self) -> Result<Rates, PriceError> {
        let read = |field, text: &str| self.amount(field, text);
        let or = |field, text: &Option<String>, otherwise| match text {
            Some(text) => read(field, text),
            None => Ok(otherwise),
        };
        let input = read("input", &self.input)?;
        let output = read("output", &self.output)?;
        let cache_write_5m = or("cache_write_5m", &self.cache_write_5m, input)?;
        Ok(Rates {
            input,
            cache_read: or("cache_read", &self.cache_read, input)?,
            cache_write_5m,
            cache_write_1h: or("cache_write_1h", &self.cache_write_1h, cache_write_5m)?,
            output,
            reasoning: or("reasoning", &self.reasoning, output)?,
            audio_input: or("audio_input", &self.audio_input, input)?,
            audio_output: or("audio_output", &self.audio_output, output)?,
            image_input: or("image_input", &self.image_input, input)?,
            image_output: or("image_output", &self.image_output, output)?,
            per_request: or("per_request", &self.per_request, 0)?,
            cache_read_audio: or("cache_read", &self.cache_read, input)?,
            per_search: 0,
        })
    }

    fn amount(&self, field: &'static str, text: &str) -> Result<i64, PriceError> {
        let money: Money = text.parse().map_err(|source| PriceError::Amount { row: self.name(), field, source })?;
        let most = Money::usd(9_000_000).picos();
        match i64::try_from(money.picos()) {
            Ok(picos) if picos >= 0 && money.picos() <= most => Ok(picos),
            _ => Err(PriceError::Range { row: self.name(), field }),
        }
    }

    /// First instant, and first instant after.
    pub(crate) fn period(&self) -> Result<(Timestamp, Timestamp), PriceError> {
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
