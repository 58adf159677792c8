//! `provider/model`.

use std::{borrow::Cow, fmt, str::FromStr};

/// A model at a provider, as the config names it: `anthropic/claude-sonnet-4-20250514`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The provider's name in the config.
    pub provider: String,
    /// The model's name at the provider. It may hold slashes of its own.
    pub model: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no target: write `provider/model`, as in `openai/gpt-4o`")]
pub struct InvalidTarget(String);

impl Target {
    pub fn parse(given: &str) -> Result<Target, InvalidTarget> {
        match given.split_once('/') {
            Some((provider, model))
                if !provider.is_empty() && !model.is_empty() && !given.contains(char::is_whitespace) =>
            {
                Ok(Target { provider: provider.to_owned(), model: model.to_owned() })
            }
            _ => Err(InvalidTarget(given.chars().take(80).collect())),
        }
    }
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(given: &str) -> Result<Target, InvalidTarget> {
        Target::parse(given)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

impl serde::Serialize for Target {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Target {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Target, D::Error> {
        let given = String::deserialize(from)?;
        Target::parse(&given).map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Target {
    fn schema_name() -> Cow<'static, str> {
        "Target".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[^/\\s]+/\\S+$",
            "description": "A model at a provider: `provider/model`."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_slash_separates() {
        let target = Target::parse("local/meta/llama-3").unwrap();
        assert_eq!((target.provider.as_str(), target.model.as_str()), ("local", "meta/llama-3"));
        assert_eq!(target.to_string(), "local/meta/llama-3");
        for bad in ["", "gpt-4", "/gpt-4", "openai/", "openai/gpt 4"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }
}
