//! `input_tokens` excludes what was read from or written to the cache: disjoint already, but for the thinking within
//! `output_tokens`.

use farebox_types::Usage;

use super::types::{CacheCreation, Iteration, Usage as Wire};

pub(super) fn normalise(wire: &Wire) -> Usage {
    let (cache_write_5m, cache_write_1h) = writes(wire.cache_creation_input_tokens, wire.cache_creation);
    let thinking = wire.output_tokens_details.and_then(|d| d.thinking_tokens);
    let reasoning = match (thinking, wire.output_tokens) {
        (Some(thinking), Some(output)) => Some(thinking.min(output)),
        (thinking, None) => thinking,
        (None, _) => None,
    };
    let mut usage = Usage {
        input: wire.input_tokens,
        cache_read: wire.cache_read_input_tokens,
        cache_write_5m,
        cache_write_1h,
        output: wire.output_tokens.map(|output| output - reasoning.unwrap_or(0)),
        reasoning,
        ..Usage::default()
    };
    // A compaction is billed, and stands in no total of the message.
    for iteration in wire.iterations.iter().flatten().filter(|i| i.kind == "compaction") {
        add(&mut usage, iteration);
    }
    usage
}

/// The total of cache writes by lifetime. Where both are said and differ, the total counts and the hour's share
/// (which costs more) is kept as far as it fits.
fn writes(total: Option<u64>, split: Option<CacheCreation>) -> (Option<u64>, Option<u64>) {
    match (total, split) {
        (Some(total), Some(CacheCreation { ephemeral_1h_input_tokens: Some(hour), .. })) => {
            let hour = hour.min(total);
            (Some(total - hour), Some(hour))
        }
        (None, Some(split)) => (split.ephemeral_5m_input_tokens, split.ephemeral_1h_input_tokens),
        (total, _) => (total, None),
    }
}

fn add(usage: &mut Usage, more: &Iteration) {
    let (five, hour) = writes(more.cache_creation_input_tokens, more.cache_creation);
    for (bucket, more) in [
        (&mut usage.input, more.input_tokens),
        (&mut usage.cache_read, more.cache_read_input_tokens),
        (&mut usage.cache_write_5m, five),
        (&mut usage.cache_write_1h, hour),
        (&mut usage.output, more.output_tokens),
    ] {
        if let Some(more) = more {
            *bucket = Some(bucket.unwrap_or(0).saturating_add(more));
        }
    }
}

/// What a later report says replaces what was said before, member by member; what it leaves out still stands.
pub(super) fn replace(known: &mut Wire, later: Wire) {
    fn put<T>(known: &mut Option<T>, later: Option<T>) {
        if later.is_some() {
            *known = later;
        }
    }
    put(&mut known.input_tokens, later.input_tokens);
    put(&mut known.cache_read_input_tokens, later.cache_read_input_tokens);
    put(&mut known.cache_creation_input_tokens, later.cache_creation_input_tokens);
    put(&mut known.cache_creation, later.cache_creation);
    put(&mut known.output_tokens, later.output_tokens);
    put(&mut known.output_tokens_details, later.output_tokens_details);
    put(&mut known.service_tier, later.service_tier);
    put(&mut known.iterations, later.iterations);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(json: &str) -> Wire {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn buckets_by_lifetime_and_thinking() {
        let usage = normalise(&wire(
            r#"{"input_tokens":11,"cache_creation_input_tokens":300,"cache_read_input_tokens":40,"output_tokens":90,
                "cache_creation":{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":200},
                "output_tokens_details":{"thinking_tokens":60},"service_tier":"standard"}"#,
        ));
        let expected = Usage {
            input: Some(11),
            cache_read: Some(40),
            cache_write_5m: Some(100),
            cache_write_1h: Some(200),
            output: Some(30),
            reasoning: Some(60),
            ..Usage::default()
        };
        assert_eq!(usage, expected);
    }

    #[test]
    fn a_later_report_replaces() {
        let mut known = wire(
            r#"{"input_tokens":5,"cache_creation_input_tokens":20,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":20},"output_tokens":1}"#,
        );
        replace(&mut known, wire(r#"{"input_tokens":9,"cache_creation_input_tokens":30,"output_tokens":70}"#));
        let usage = normalise(&known);
        assert_eq!((usage.input, usage.output), (Some(9), Some(70)));
        assert_eq!((usage.cache_write_5m, usage.cache_write_1h, usage.cache_read), (Some(10), Some(20), None));
    }

    #[test]
    fn a_compaction_is_billed_too() {
        let usage = normalise(&wire(
            r#"{"input_tokens":50,"output_tokens":7,"iterations":[
                {"type":"compaction","input_tokens":1000,"output_tokens":200},
                {"type":"message","input_tokens":50,"output_tokens":7}]}"#,
        ));
        assert_eq!((usage.input, usage.output), (Some(1050), Some(207)));
    }
}
