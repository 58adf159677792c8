//! `inputTokens` excludes what was read from or written to the cache; `totalTokens` includes it. Disjoint already.

use farebox_types::Usage;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Wire {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_write_input_tokens: Option<u64>,
    cache_details: Option<Vec<Detail>>,
}

/// Tokens written to the cache, by lifetime.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Detail {
    ttl: Option<String>,
    input_tokens: Option<u64>,
}

pub(super) fn normalise(wire: &Wire) -> Usage {
    let (cache_write_5m, cache_write_1h) = writes(wire);
    Usage {
        input: wire.input_tokens,
        cache_read: wire.cache_read_input_tokens,
        cache_write_5m,
        cache_write_1h,
        output: wire.output_tokens,
        ..Usage::default()
    }
}

/// Where the total and the details differ, the total counts, and the hour's share (which costs more) is kept as far as
/// it fits.
fn writes(wire: &Wire) -> (Option<u64>, Option<u64>) {
    let by = |hour: bool| {
        let details = wire.cache_details.iter().flatten().filter(|d| (d.ttl.as_deref() == Some("1h")) == hour);
        details.filter_map(|d| d.input_tokens).reduce(u64::saturating_add)
    };
    match (wire.cache_write_input_tokens, by(true)) {
        (Some(total), Some(hour)) => (Some(total - hour.min(total)), Some(hour.min(total))),
        (Some(total), None) => (Some(total), None),
        (None, hour) => (by(false), hour),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(json: &str) -> Usage {
        normalise(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn the_buckets_are_the_total() {
        let usage = usage(
            r#"{"inputTokens":11,"outputTokens":90,"cacheReadInputTokens":40,"cacheReadInputTokenCount":40,
                "cacheWriteInputTokens":300,"cacheWriteInputTokenCount":300,"totalTokens":441,"serverToolUsage":{},
                "cacheDetails":[{"ttl":"5m","inputTokens":100},{"ttl":"1h","inputTokens":200}]}"#,
        );
        let expected = Usage {
            input: Some(11),
            cache_read: Some(40),
            cache_write_5m: Some(100),
            cache_write_1h: Some(200),
            output: Some(90),
            ..Usage::default()
        };
        assert_eq!(usage, expected);
        assert_eq!(usage.total(), 441);
    }

    #[test]
    fn the_total_of_writes_counts() {
        let split = |json| {
            let usage = usage(json);
            (usage.cache_write_5m, usage.cache_write_1h)
        };
        assert_eq!(split(r#"{"cacheWriteInputTokens":30}"#), (Some(30), None));
        let more = r#"{"cacheWriteInputTokens":30,"cacheDetails":[{"ttl":"1h","inputTokens":40},{"inputTokens":9}]}"#;
        assert_eq!(split(more), (Some(0), Some(30)));
        assert_eq!(split(r#"{"cacheDetails":[{"ttl":"5m","inputTokens":7}]}"#), (Some(7), None));
        assert_eq!(split(r#"{"inputTokens":null,"cacheDetails":null}"#), (None, None));
    }
}
