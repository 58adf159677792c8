//! The price book: which price holds for which model, when.

use std::{collections::HashMap, fmt::Write as _};

use farebox_types::Timestamp;
use sha2::{Digest, Sha256};

use crate::{PriceError, PriceRow, Rates};

const BUILT_IN: &str = include_str!("../data/prices.toml");

/// Hexadecimal digits of a version: enough to tell the books of one installation apart.
const VERSION_DIGITS: usize = 12;

/// All known prices. Cheap to look into; built once and shared.
#[derive(Clone, Debug)]
pub struct PriceBook {
    prices: HashMap<String, HashMap<String, Vec<Dated>>>,
    version: String,
}

#[derive(Clone, Debug)]
struct Dated {
    from: Timestamp,
    until: Timestamp,
    rates: Rates,
    context_window: Option<u64>,
    max_output: Option<u64>,
}

/// The price of one model at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Priced {
    pub rates: Rates,
    /// Tokens that fit into one call, in and out.
    pub context_window: Option<u64>,
    /// The most tokens that one answer can have.
    pub max_output: Option<u64>,
    /// Of the book that the price comes from.
    pub version: String,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    price: Vec<PriceRow>,
}

impl PriceBook {
    /// The built-in table. An error would be a fault of the build, and a test would have found it.
    pub fn built_in() -> Result<PriceBook, PriceError> {
        PriceBook::with_overrides(&[])
    }

    /// The built-in table, in which a model that `overrides` names has the prices given there, and only those.
    pub fn with_overrides(overrides: &[PriceRow]) -> Result<PriceBook, PriceError> {
        let table: Table = toml::from_str(BUILT_IN)?;
        let mut book = PriceBook::of(&table.price)?;
        let own = PriceBook::of(overrides)?;
        for (provider, models) in own.prices {
            book.prices.entry(provider).or_default().extend(models);
        }
        book.version = book.digest();
        Ok(book)
    }

    /// A table of these rows and nothing else.
    pub fn of(rows: &[PriceRow]) -> Result<PriceBook, PriceError> {
        let mut prices: HashMap<String, HashMap<String, Vec<Dated>>> = HashMap::new();
        for row in rows {
            if row.models.is_empty() {
                return Err(PriceError::NoModel { row: row.name() });
            }
            let (from, until) = row.period()?;
            let dated = Dated {
                from,
                until,
                rates: row.rates()?,
                context_window: row.context_window,
                max_output: row.max_output,
            };
            let models = prices.entry(row.provider.clone()).or_default();
            for model in &row.models {
                let periods = models.entry(model.clone()).or_default();
                if periods.iter().any(|other| other.from < until && from < other.until) {
                    return Err(PriceError::Overlap { row: format!("{}/{model}", row.provider) });
                }
                periods.push(dated.clone());
            }
        }
        let mut book = PriceBook { prices, version: String::new() };
        book.version = book.digest();
        Ok(book)
    }

    /// The price that holds at `at`, or `None`: then nobody knows it, and it is not zero.
    pub fn rates(&self, provider: &str, model: &str, at: Timestamp) -> Option<Priced> {
        let periods = self.prices.get(provider)?.get(model)?;
        let dated = periods.iter().find(|p| p.from <= at && at < p.until)?;
        Some(Priced {
            rates: dated.rates,
            context_window: dated.context_window,
            max_output: dated.max_output,
            version: self.version.clone(),
        })
    }

    /// Names the content: two books with the same prices have the same version.
    pub fn version(&self) -> &str {
        &self.version
    }

    fn digest(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        for (provider, models) in &self.prices {
            for (model, periods) in models {
                for p in periods {
                    let r = &p.rates;
                    lines.push(format!(
                        "{provider}\t{model}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
                        p.from.millis(),
                        p.until.millis(),
                        r.input,
                        r.cache_read,
                        r.cache_write_5m,
                        r.cache_write_1h,
                        r.output,
                        r.reasoning,
                        r.audio_input,
                        r.audio_output,
                        r.image_input,
                        r.image_output,
                        r.per_request,
                    ));
                }
            }
        }
        lines.sort_unstable();
        let digest = Sha256::digest(lines.join("\n"));
        let mut hex = String::new();
        for byte in digest {
            // Writing to a string does not fail.
            let _ = write!(hex, "{byte:02x}");
        }
        hex.truncate(VERSION_DIGITS);
        hex
    }
}
