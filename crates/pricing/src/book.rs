//! The price book: which price holds for which model, when and where.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    sync::Arc,
};

use farebox_types::Timestamp;
use sha2::{Digest, Sha256};

use crate::{
    PriceError, PriceRow, RateCard, SearchContext,
    catalogue::{self, Catalogue},
    listed::{self, Listed},
    names,
};

/// Corrections of the catalogue, and prices that it does not have. They are reviewed, and win.
const HAND_KEPT: &str = include_str!("../data/prices.toml");

/// Hexadecimal digits of a version: enough to tell the books of one installation apart.
const VERSION_DIGITS: usize = 12;

/// All known prices. Built once and shared; building it fails as a whole, so that a bad row never takes the place of a
/// good one.
#[derive(Clone, Debug)]
pub struct PriceBook {
    /// A model that stands here has these prices and none of the catalogue.
    own: BTreeMap<String, HashMap<String, Vec<Listed>>>,
    catalogue: Catalogue,
    version: String,
}

/// The price of one model at one time in one place.
#[derive(Clone, Debug)]
pub struct Priced {
    pub card: RateCard,
    /// The row that the price stands in, with what else is known of the model.
    pub entry: Arc<PriceRow>,
    /// Of the book that the price comes from.
    pub version: String,
    listed: Listed,
    at: Timestamp,
    region: Option<String>,
}

impl Priced {
    /// Of a model that nobody bills.
    fn free(version: String, at: Timestamp) -> Priced {
        let (card, entry) = (RateCard::default(), Arc::new(PriceRow::default()));
        Priced { card, listed: Listed::free(&entry), entry, version, at, region: None }
    }

    /// With what a search costs when this much context was asked for.
    pub fn with_search_context(self, size: SearchContext) -> Priced {
        let card = self.listed.card(self.at, self.region.as_deref(), Some(size));
        Priced { card, ..self }
    }
}

/// A price file: `[[price]]` tables.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    price: Vec<PriceRow>,
}

impl PriceBook {
    /// The built-in prices. An error would be a fault of the build, and a test would have found it.
    pub fn built_in() -> Result<PriceBook, PriceError> {
        PriceBook::with_overrides(&[])
    }

    /// The built-in prices, in which a model that `overrides` names has the prices given there, and only those.
    pub fn with_overrides(overrides: &[PriceRow]) -> Result<PriceBook, PriceError> {
        let table: Table = toml::from_str(HAND_KEPT)?;
        let mut book = PriceBook::of(&table.price)?;
        let own = PriceBook::of(overrides)?;
        book.catalogue = Catalogue::index()?;
        let mut digest = Sha256::new_with_prefix(catalogue::TEXT);
        digest.update(HAND_KEPT);
        digest.update(&own.version);
        book.version = hexadecimal(&digest.finalize());
        for (provider, models) in own.own {
            book.own.entry(provider).or_default().extend(models);
        }
        Ok(book)
    }

    /// These rows and nothing else.
    pub fn of(rows: &[PriceRow]) -> Result<PriceBook, PriceError> {
        let mut own: BTreeMap<String, HashMap<String, Vec<Listed>>> = BTreeMap::new();
        let mut lines: Vec<String> = Vec::new();
        for row in rows {
            let listed = Listed::read(row)?;
            let models = own.entry(row.provider.clone()).or_default();
            for model in &row.models {
                let periods = models.entry(model.clone()).or_default();
                if periods.iter().any(|other| other.overlaps(&listed)) {
                    return Err(PriceError::Overlap { row: format!("{}/{model}", row.provider) });
                }
                lines.push(format!("{}\t{model}\t{}", row.provider, listed.essence()));
                periods.push(listed.clone());
            }
        }
        lines.sort_unstable();
        let version = hexadecimal(&Sha256::digest(lines.join("\n")));
        Ok(PriceBook { own, catalogue: Catalogue::default(), version })
    }

    /// The price that holds at `at` in `region`, or `None`: then nobody knows it, and it is not zero.
    pub fn card(&self, provider: &str, model: &str, at: Timestamp, region: Option<&str>) -> Option<Priced> {
        let rows = self.listed(provider, model);
        let here = |listed: &&Listed| match &listed.row.region {
            Some(pattern) => listed.holds(at) && listed::matches(pattern, region),
            None => listed.holds(at),
        };
        // A price of the region's own comes before the one for everywhere.
        let listed = rows.iter().filter(here).max_by_key(|listed| listed.row.region.is_some())?.clone();
        Some(Priced {
            card: listed.card(at, region, None),
            entry: Arc::clone(&listed.row),
            version: self.version.clone(),
            listed,
            at,
            region: region.map(str::to_owned),
        })
    }

    /// What a model costs that nobody bills: one's own, or a question that is free.
    pub fn free(&self, at: Timestamp) -> Priced {
        Priced::free(self.version.clone(), at)
    }

    /// All rows of a name, of any time and place: spelled out, or of a form that its plain name also stands for.
    pub fn rows(&self, provider: &str, model: &str) -> Vec<Arc<PriceRow>> {
        self.listed(provider, model).into_iter().map(|listed| listed.row).collect()
    }

    /// All providers that have prices, in order.
    pub fn providers(&self) -> Vec<&str> {
        let all: BTreeSet<&str> = self.own.keys().map(String::as_str).chain(self.catalogue.providers()).collect();
        all.into_iter().collect()
    }

    /// Names the content: two books with the same prices have the same version.
    pub fn version(&self) -> &str {
        &self.version
    }

    fn listed(&self, provider: &str, model: &str) -> Vec<Listed> {
        let exact = self.spelled_out(provider, model);
        if !exact.is_empty() {
            return exact;
        }
        let plainer = names::plainer(model).map(|(plain, form)| {
            let mut rows = self.spelled_out(provider, plain);
            rows.retain(|listed| listed.row.also.contains(&form));
            rows
        });
        plainer.into_iter().find(|rows| !rows.is_empty()).unwrap_or_default()
    }

    fn spelled_out(&self, provider: &str, model: &str) -> Vec<Listed> {
        match self.own.get(provider).and_then(|models| models.get(model)) {
            Some(rows) => rows.clone(),
            None => self.catalogue.rows(provider, model),
        }
    }
}

fn hexadecimal(digest: &[u8]) -> String {
    let mut hex = String::new();
    for byte in digest {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex.truncate(VERSION_DIGITS);
    hex
}
