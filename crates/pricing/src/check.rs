//! A price file, checked before it is used.

use std::ops::Range;

use crate::{PriceError, PriceRow, listed::Listed};

/// What is wrong with a price file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceFault {
    /// From 1.
    pub line: usize,
    pub message: String,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    #[serde(default)]
    price: Vec<toml::Spanned<toml::Table>>,
}

/// The rows of a price file (`[[price]]` tables in TOML), or all that is wrong with it.
pub fn read_prices(text: &str) -> Result<Vec<PriceRow>, Vec<PriceFault>> {
    let line_of = |span: Option<Range<usize>>| {
        let before = span.and_then(|span| text.get(..span.start)).unwrap_or_default();
        before.matches('\n').count() + 1
    };
    let tables: Tables = toml::from_str(text).map_err(|error| {
        let message = error.message().to_owned();
        vec![PriceFault { line: line_of(error.span()), message }]
    })?;
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    let mut known: Vec<Listed> = Vec::new();
    for table in tables.price {
        let line = line_of(Some(table.span()));
        let mut fault = |message: String| faults.push(PriceFault { line, message });
        let row: PriceRow = match table.into_inner().try_into() {
            Ok(row) => row,
            Err(error) => {
                fault(error.message().to_owned());
                continue;
            }
        };
        match Listed::read(&row) {
            Err(error) => fault(told(&error)),
            Ok(listed) => {
                for model in &row.models {
                    let same = |other: &&Listed| other.row.provider == row.provider && other.row.models.contains(model);
                    if known.iter().filter(same).any(|other| other.overlaps(&listed)) {
                        fault(PriceError::Overlap { row: format!("{}/{model}", row.provider) }.to_string());
                    }
                }
                known.push(listed);
            }
        }
        rows.push(row);
    }
    if faults.is_empty() { Ok(rows) } else { Err(faults) }
}

/// With its cause.
fn told(error: &PriceError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
