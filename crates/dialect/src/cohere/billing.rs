//! `billed_units` is what Cohere charges; `tokens` beside it is what the model went through, with Cohere's own prompts,
//! which it does not charge: <https://docs.cohere.com/v2/docs/how-does-cohere-pricing-work>.

use farebox_types::Usage;
use serde::{Deserialize, Deserializer, de};
use serde_json::Number;

/// `usage` of a conversation, `meta` of the other endpoints.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Metered {
    #[serde(default)]
    billed_units: Option<Units>,
    #[serde(default)]
    tokens: Option<Units>,
    #[serde(default)]
    cached_tokens: Option<Count>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Units {
    #[serde(default)]
    input_tokens: Option<Count>,
    #[serde(default)]
    output_tokens: Option<Count>,
    #[serde(default)]
    image_tokens: Option<Count>,
    #[serde(default)]
    images: Option<Count>,
    #[serde(default)]
    search_units: Option<Count>,
}

/// A whole number; the API declares floats.
#[derive(Clone, Copy, Debug)]
struct Count(u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Count, D::Error> {
        let text = Number::deserialize(from)?.to_string();
        let whole = text.strip_suffix(".0").unwrap_or(&text);
        whole.parse().map(Count).map_err(|_| de::Error::custom(format!("`{text}` is no count")))
    }
}

fn plain(count: Option<Count>) -> Option<u64> {
    count.map(|count| count.0)
}

impl Metered {
    /// The buckets hold what is billed, so that their sum is `billed_units` and not `tokens`. `cached_tokens` are a share
    /// of `tokens` and get no discount: they say nothing of what is billed, and may even exceed it.
    ///
    /// Servers of one's own that speak this API bill nothing and may report `tokens` alone: there those count.
    pub(super) fn usage(&self) -> Usage {
        if let Some(billed) = &self.billed_units {
            return Usage {
                input: plain(billed.input_tokens),
                output: plain(billed.output_tokens),
                // Embed 4 bills images by tokens, beside those of texts; older models bill them by the piece.
                image_input: plain(billed.image_tokens.or(billed.images)),
                searches: plain(billed.search_units),
                ..Usage::default()
            };
        }
        let Some(tokens) = &self.tokens else {
            return Usage::default();
        };
        let input = plain(tokens.input_tokens);
        let cached = plain(self.cached_tokens).map(|cached| cached.min(input.unwrap_or(0)));
        Usage {
            input: input.map(|input| input - cached.unwrap_or(0)),
            cache_read: cached,
            output: plain(tokens.output_tokens),
            image_input: plain(tokens.image_tokens),
            ..Usage::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Usage {
        serde_json::from_str::<Metered>(json).unwrap().usage()
    }

    #[test]
    fn what_is_billed_counts_not_what_was_processed() {
        let usage = of(r#"{"billed_units":{"input_tokens":12,"output_tokens":7.0},
            "tokens":{"input_tokens":507,"output_tokens":10},"cached_tokens":448}"#);
        assert_eq!(usage, Usage { input: Some(12), output: Some(7), ..Usage::default() });
        let usage = of(r#"{"billed_units":{"search_units":3}}"#);
        assert_eq!(usage, Usage { searches: Some(3), ..Usage::default() });
    }

    #[test]
    fn images_are_billed_by_tokens_or_by_the_piece() {
        let usage = of(r#"{"billed_units":{"input_tokens":4,"image_tokens":258}}"#);
        assert_eq!(usage, Usage { input: Some(4), image_input: Some(258), ..Usage::default() });
        assert_eq!(of(r#"{"billed_units":{"images":1}}"#).image_input, Some(1));
    }

    #[test]
    fn a_server_that_bills_nothing_reports_tokens() {
        let usage = of(r#"{"tokens":{"input_tokens":50,"output_tokens":9},"cached_tokens":48}"#);
        assert_eq!((usage.input, usage.cache_read, usage.output), (Some(2), Some(48), Some(9)));
        assert_eq!(of("{}"), Usage::default());
        for wrong in [r#"{"tokens":{"input_tokens":-1}}"#, r#"{"tokens":{"input_tokens":1.5}}"#] {
            assert!(serde_json::from_str::<Metered>(wrong).is_err());
        }
    }
}
