//! The generated list of prices: one row a line, found by name at the start, read when it is asked for.
//!
//! `tools/catalogue/generate.py` writes it; docs/prices.md says from what.

use std::collections::{BTreeMap, HashMap};

use crate::{PriceError, PriceRow, listed::Listed};

pub(crate) const TEXT: &str = include_str!("../data/catalogue.jsonl");

/// Lines by provider and model. Reading all of them at the start would take ten times as long as this.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalogue {
    lines: BTreeMap<&'static str, HashMap<&'static str, Vec<&'static str>>>,
}

#[derive(serde::Deserialize)]
struct Names {
    provider: &'static str,
    models: Vec<&'static str>,
}

impl Catalogue {
    pub(crate) fn index() -> Result<Catalogue, PriceError> {
        let mut catalogue = Catalogue::default();
        for (text, line) in TEXT.lines().zip(1..) {
            let names: Names = serde_json::from_str(text).map_err(|source| PriceError::Line { line, source })?;
            let models = catalogue.lines.entry(names.provider).or_default();
            for model in names.models {
                models.entry(model).or_default().push(text);
            }
        }
        Ok(catalogue)
    }

    /// The rows of a model. One that cannot be read is no price: a test reads them all.
    pub(crate) fn rows(&self, provider: &str, model: &str) -> Vec<Listed> {
        let lines = self.lines.get(provider).and_then(|models| models.get(model));
        let read = |text: &&str| Listed::read(&serde_json::from_str::<PriceRow>(text).ok()?).ok();
        lines.into_iter().flatten().filter_map(read).collect()
    }

    pub(crate) fn providers(&self) -> impl Iterator<Item = &str> {
        self.lines.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_good_row_and_no_two_hold_at_once() {
        let mut seen: HashMap<(String, String), Vec<Listed>> = HashMap::new();
        for (text, line) in TEXT.lines().zip(1..) {
            let row: PriceRow = serde_json::from_str(text).unwrap_or_else(|e| panic!("line {line}: {e}"));
            assert!(!row.source.is_empty() && row.checked.is_some() && row.mode.is_some(), "line {line}");
            let listed = Listed::read(&row).unwrap_or_else(|e| panic!("line {line}: {e}"));
            for model in &row.models {
                let others = seen.entry((row.provider.clone(), model.clone())).or_default();
                assert!(!others.iter().any(|other| other.overlaps(&listed)), "line {line}: {model}");
                others.push(listed.clone());
            }
        }
        assert!(seen.len() > 5000, "{}", seen.len());
    }
}
