use farebox_types::{ErrorKind, MoneyError};

use crate::ServiceTier;

/// A price row, or a table of them, that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PriceError {
    #[error("the price table is not readable")]
    Table(#[from] toml::de::Error),
    #[error("line {line} of the price catalogue is not readable")]
    Line {
        line: usize,
        #[source]
        source: serde_json::Error,
    },
    #[error("the price row of {row} names no model: give at least one in `models`")]
    NoModel { row: String },
    #[error("the price of {row} has no `{field}`: without it, what a call costs is unknown")]
    Missing { row: String, field: &'static str },
    #[error("the price of {row} has a bad `{field}`")]
    Amount {
        row: String,
        field: &'static str,
        #[source]
        source: MoneyError,
    },
    #[error("the price of {row} has a bad `{field}`: it must lie between 0 and 9000000 USD")]
    Range { row: String, field: &'static str },
    #[error("the price of {row} has `{factor}` as a factor: it must be a decimal above 0 and at most 100")]
    Factor { row: String, factor: String },
    #[error("the price of {row} has a service tier `{tier}` that is not known here")]
    Tier { row: String, tier: String },
    #[error("the price of {row} has two prices for {tier} above {above} tokens")]
    TierTwice { row: String, tier: ServiceTier, above: u64 },
    #[error(
        "the price of {row} has a bad window: it needs `hours` like 16:30-00:30, `weekdays` from 1 to 7 if any, and \
         either `factor` or amounts"
    )]
    Window { row: String },
    #[error("the price of {row} holds for no day: `from` must be before `until`")]
    Period { row: String },
    #[error("two prices of {row} hold on the same day: give the earlier one an `until`")]
    Overlap { row: String },
}

impl PriceError {
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::BadRequest
    }
}
