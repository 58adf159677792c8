//! The built-in providers.

use std::collections::{BTreeMap, HashMap};

use farebox_dialect::{DialectName, Hosting, Quirk};
use serde::de::Error as _;

const BUILT_IN: &str = include_str!("../data/providers.toml");

/// How a request shows whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer <key>`.
    Bearer,
    /// The key alone in the header of this name.
    Header(http::HeaderName),
    /// Amazon's signature, version 4; a Bedrock API key goes as a bearer token.
    SigV4,
    /// A bearer token of a Google service account or workload identity.
    Google,
}

impl<'de> serde::Deserialize<'de> for Auth {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Auth, D::Error> {
        Ok(match String::deserialize(from)?.as_str() {
            "bearer" => Auth::Bearer,
            "sigv4" => Auth::SigV4,
            "google" => Auth::Google,
            header => Auth::Header(header.parse().map_err(D::Error::custom)?),
        })
    }
}

/// Whether a provider wants a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyNeed {
    Required,
    Optional,
    None,
}

/// One kind of provider, as it stands in the file.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    pub(crate) kind: String,
    /// Not empty.
    pub(crate) dialects: Vec<DialectName>,
    /// Dialects that only these models speak.
    #[serde(default)]
    pub(crate) only: HashMap<DialectName, Vec<String>>,
    /// Dialects that these models do not speak.
    #[serde(default)]
    pub(crate) except: HashMap<DialectName, Vec<String>>,
    #[serde(default)]
    pub(crate) quirks: HashMap<Quirk, Vec<String>>,
    #[serde(default)]
    pub(crate) paths: HashMap<DialectName, String>,
    /// In place of `paths`, where the config names an `api_version`.
    #[serde(default)]
    pub(crate) versioned_paths: HashMap<DialectName, String>,
    #[serde(default)]
    pub(crate) hosting: Hosting,
    pub(crate) base_url: Option<String>,
    /// Put behind an `api_base` that has no path, where no `api_version` is given.
    pub(crate) base_path: Option<String>,
    #[serde(default)]
    pub(crate) base_at_run_time: bool,
    pub(crate) auth: Auth,
    pub(crate) key: KeyNeed,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) prices: Option<String>,
    /// Models that search the web of their own accord, and bill it.
    #[serde(default)]
    pub(crate) searches: Vec<String>,
    /// What the provider says that a call cost is its cost.
    #[serde(default)]
    pub(crate) reports_cost: bool,
    /// A model without a price costs nothing.
    #[serde(default)]
    pub(crate) free: bool,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    provider: Vec<Row>,
}

fn rows() -> Vec<Row> {
    // The file is part of the build, and `every_row_can_be_read` reads it.
    let table: Table = toml::from_str(BUILT_IN).expect("the built-in provider table is well-formed");
    table.provider
}

pub(crate) fn row(kind: &str) -> Option<Row> {
    rows().into_iter().find(|row| row.kind == kind)
}

/// The kinds that a config can name.
pub fn known_kinds() -> Vec<String> {
    rows().into_iter().map(|row| row.kind).collect()
}

/// Whether a name matches a pattern in which `*` stands for any characters.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(first) else { return false };
    (0..=name.len()).filter(|at| name.is_char_boundary(*at)).any(|at| matches(rest, &name[at..]))
}

impl Row {
    /// Whether `model` is spoken to in `dialect` here.
    pub(crate) fn speaks(&self, dialect: DialectName, model: &str) -> bool {
        let named = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, model));
        self.dialects.contains(&dialect)
            && self.only.get(&dialect).is_none_or(|patterns| named(patterns))
            && !self.except.get(&dialect).is_some_and(|patterns| named(patterns))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_can_be_read() {
        let mut seen = BTreeSet::new();
        for row in rows() {
            assert!(seen.insert(row.kind.clone()), "{} stands there twice", row.kind);
            assert!(!row.dialects.is_empty(), "{}", row.kind);
            for dialect in row.only.keys().chain(row.except.keys()).chain(row.paths.keys()) {
                assert!(row.dialects.contains(dialect), "{}: {dialect} is none of its dialects", row.kind);
            }
            if let Some(base) = &row.base_url {
                let local = base.starts_with("http://127.0.0.1:");
                assert!((base.starts_with("https://") || local) && !base.ends_with('/'), "{base}");
                assert!(!row.base_at_run_time, "{}", row.kind);
            }
        }
        let wanted = "openai azure anthropic gemini vertex bedrock cohere perplexity deepseek mistral groq xai openrouter \
                      together fireworks cerebras moonshot qwen zai nvidia huggingface ollama vllm llama-cpp lm-studio \
                      openai-compatible anthropic-compatible demo";
        for kind in wanted.split_whitespace() {
            assert!(seen.contains(kind), "there is no row for {kind}");
        }
    }

    #[test]
    fn a_pattern_matches_whole_names() {
        for (pattern, name, hit) in [
            ("*", "any", true),
            ("o1*", "o1-mini", true),
            ("o1*", "gpt-o1", false),
            ("a*b*c", "a1b2c", true),
            ("a*b", "abc", false),
            ("a", "a", true),
            ("*é*", "aéb", true),
        ] {
            assert_eq!(matches(pattern, name), hit, "{pattern} {name}");
        }
    }
}
