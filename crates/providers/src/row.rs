//! The built-in providers.

use std::collections::{BTreeMap, HashMap};

use farebox_dialect::{DialectName, Hosting, Quirk};

const BUILT_IN: &str = include_str!("../data/providers.toml");

/// How the key travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer <key>`.
    Bearer,
    /// The key alone in the header of this name.
    Header(http::HeaderName),
}

/// Whether a provider wants a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyNeed {
    Required,
    Optional,
    None,
}

/// One kind of provider.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) kind: String,
    /// Not empty.
    pub(crate) dialects: Vec<DialectName>,
    pub(crate) quirks: Vec<(Quirk, Vec<String>)>,
    pub(crate) paths: BTreeMap<DialectName, String>,
    pub(crate) hosting: Hosting,
    pub(crate) base_url: Option<String>,
    pub(crate) base_at_run_time: bool,
    pub(crate) auth: Auth,
    pub(crate) key: KeyNeed,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) prices: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    provider: Vec<Written>,
}

/// A row as it stands in the file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kind: String,
    dialects: Vec<DialectName>,
    #[serde(default)]
    quirks: HashMap<Quirk, Vec<String>>,
    #[serde(default)]
    paths: BTreeMap<DialectName, String>,
    #[serde(default)]
    hosting: Hosting,
    base_url: Option<String>,
    #[serde(default)]
    base_at_run_time: bool,
    auth: String,
    key: KeyNeed,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    prices: Option<String>,
}

fn rows() -> Vec<Row> {
    // The file is part of the build, and `every_row_can_be_read` reads it.
    let table: Table = toml::from_str(BUILT_IN).expect("the built-in provider table is well-formed");
    let row = |written: Written| Row {
        dialects: written.dialects,
        quirks: written.quirks.into_iter().collect(),
        paths: written.paths,
        hosting: written.hosting,
        auth: match written.auth.as_str() {
            "bearer" => Auth::Bearer,
            name => Auth::Header(name.parse().expect("the built-in providers name valid headers")),
        },
        kind: written.kind,
        base_url: written.base_url,
        base_at_run_time: written.base_at_run_time,
        key: written.key,
        headers: written.headers,
        prices: written.prices,
    };
    table.provider.into_iter().map(row).collect()
}

pub(crate) fn row(kind: &str) -> Option<Row> {
    rows().into_iter().find(|row| row.kind == kind)
}

/// The kinds that a config can name.
pub fn known_kinds() -> Vec<String> {
    rows().into_iter().map(|row| row.kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_can_be_read() {
        let kinds = known_kinds();
        assert_eq!(kinds, ["openai", "anthropic", "openai-compatible", "anthropic-compatible", "demo"]);
        for row in rows() {
            assert!(!row.dialects.is_empty(), "{}", row.kind);
            if let Some(base) = &row.base_url {
                assert!(base.starts_with("https://") && !base.ends_with('/'), "{base}");
                assert!(!row.base_at_run_time, "{}", row.kind);
            }
        }
    }
}
