use farebox_types::{ErrorKind, MoneyError};

/// A price row, or a table of them, that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PriceError {
    #[error("the price table is not readable")]
    Table(#[from] toml::de::Error),
    #[error("the price row of {row} names no model: give at least one in `models`")]
    NoModel { row: String },
    #[error("the price of {row} has a bad `{field}`")]
    Amount {
        row: String,
        field: &'static str,
        #[source]
        source: MoneyError,
    },
    #[error("the price of {row} has a bad `{field}`: it must lie between 0 and 9000000 USD for a million tokens")]
    Range { row: String, field: &'static str },
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
