//! One row of a price list, as it is written.

use std::collections::BTreeMap;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The price of some models of one provider for a span of days. Amounts are decimals in US dollars for a million tokens;
/// `per_request` and `per_search` are for one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PriceRow {
    pub provider: String,
    /// Every name that has this price, spelled out.
    pub models: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The first day (UTC) on which it holds; without it, it always did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub from: Option<Date>,
    /// The first day (UTC) on which it no longer holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub until: Option<Date>,
    /// Where it holds, as [`RegionRow::region`] is written; without it, wherever no other row does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(flatten)]
    pub amounts: Amounts,
    /// What a search costs by the size of its context, where `per_search` is only what counts when nothing is said. Of a
    /// row without `per_search`, what a request costs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub search_context: BTreeMap<SearchContext, String>,
    /// Prices in a service tier, or with a long context.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<TierRow>,
    /// Prices at some times of the day. The first that holds counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<WindowRow>,
    /// What the prices for tokens are multiplied with in some regions. The first that matches counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<RegionRow>,
    /// Other forms of the names that have this price too, if no row spells them out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<NameForm>,
    /// Tokens that fit into one call, in and out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window: Option<u64>,
    /// The most tokens that one answer can have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<Capability>,
    /// When the provider stops to serve it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub deprecated: Option<Date>,
    /// Where the figures were taken from.
    #[serde(default)]
    pub source: String,
    /// When they were last compared with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub checked: Option<Date>,
}

/// Amounts by name, as text: nothing rounds them. Any other name is refused.
pub type Amounts = BTreeMap<Amount, String>;

/// What has a price of its own. One that is absent costs what the bucket around it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    Input,
    Output,
    /// As `input`. So are the other input buckets.
    CacheRead,
    #[serde(rename = "cache_write_5m")]
    CacheWrite5m,
    /// As `cache_write_5m`.
    #[serde(rename = "cache_write_1h")]
    CacheWrite1h,
    /// As `output`. So are the other output buckets.
    Reasoning,
    AudioInput,
    AudioOutput,
    ImageInput,
    ImageOutput,
    /// As `cache_read`.
    CacheReadAudio,
    /// For one request, on top of the tokens.
    PerRequest,
    /// For one search.
    PerSearch,
}

impl Amount {
    /// A bucket comes after the one around it.
    pub const ALL: [Amount; 13] = [
        Amount::Input,
        Amount::Output,
        Amount::CacheRead,
        Amount::CacheWrite5m,
        Amount::CacheWrite1h,
        Amount::Reasoning,
        Amount::AudioInput,
        Amount::AudioOutput,
        Amount::ImageInput,
        Amount::ImageOutput,
        Amount::CacheReadAudio,
        Amount::PerRequest,
        Amount::PerSearch,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Amount::Input => "input",
            Amount::Output => "output",
            Amount::CacheRead => "cache_read",
            Amount::CacheWrite5m => "cache_write_5m",
            Amount::CacheWrite1h => "cache_write_1h",
            Amount::Reasoning => "reasoning",
            Amount::AudioInput => "audio_input",
            Amount::AudioOutput => "audio_output",
            Amount::ImageInput => "image_input",
            Amount::ImageOutput => "image_output",
            Amount::CacheReadAudio => "cache_read_audio",
            Amount::PerRequest => "per_request",
            Amount::PerSearch => "per_search",
        }
    }

    pub(crate) fn is_for_tokens(self) -> bool {
        !matches!(self, Amount::PerRequest | Amount::PerSearch)
    }

    /// The bucket whose price counts where this one has none.
    pub(crate) fn around(self) -> Option<Amount> {
        match self {
            Amount::CacheRead | Amount::CacheWrite5m | Amount::AudioInput | Amount::ImageInput => Some(Amount::Input),
            Amount::CacheWrite1h => Some(Amount::CacheWrite5m),
            Amount::CacheReadAudio => Some(Amount::CacheRead),
            Amount::Reasoning | Amount::AudioOutput | Amount::ImageOutput => Some(Amount::Output),
            Amount::Input | Amount::Output | Amount::PerRequest | Amount::PerSearch => None,
        }
    }
}

/// Prices in place of the standard ones. A bucket without a price here costs what the bucket around it costs here, and
/// not less than in the standard tier where that names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TierRow {
    /// `batch`, `flex`, `priority`, …; without it, the standard tier.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service_tier: String,
    /// Input tokens, cached ones included, above which the whole call has these prices.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub above: u64,
    /// The threshold itself belongs to these prices too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub inclusive: bool,
    #[serde(flatten)]
    pub amounts: Amounts,
}

/// Prices at some times of the day: `factor` times the others, or amounts in place of the standard ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WindowRow {
    /// UTC, like `16:30-00:30`: the first minute is in it, the last one is not. `24:00` is the end of the day.
    pub hours: Vec<String>,
    /// 1 is Monday, 7 is Sunday, in UTC; without them, every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weekdays: Vec<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<String>,
    #[serde(flatten)]
    pub amounts: Amounts,
}

/// What prices are multiplied with in a region.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegionRow {
    /// A region's name, or the beginning of some with a `*` after it.
    pub region: String,
    pub factor: String,
}

/// What a model is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Chat,
    Responses,
    Completion,
    Embedding,
    Rerank,
}

/// What a model can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    Tools,
    ParallelTools,
    Vision,
    Pdf,
    AudioInput,
    AudioOutput,
    Video,
    JsonSchema,
    Reasoning,
    PromptCaching,
    WebSearch,
    ComputerUse,
}

/// How much of the web a search puts before the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SearchContext {
    Low,
    Medium,
    High,
}

/// A form of a model's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NameForm {
    /// With a date behind it: `-2026-11-21`, `-20261121`, `@20261121`.
    Dated,
    /// With the word of a region before it: `us.`, `eu.`, `apac.`, `global.`, …
    Placed,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !value
}
