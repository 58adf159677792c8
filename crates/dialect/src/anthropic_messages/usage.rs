//! `input_tokens` excludes what was read from or written to the cache: disjoint already, but for the thinking within
//! `output_tokens`.

use farebox_types::Usage;
use serde::Serialize;

use super::types::{CacheCreation, Iteration, Usage as Wire};

pub(super) fn normalise(wire: &Wire) -> Usage {
    let (cache_write_5m, cache_write_1h) = writes(wire.cache_creation_input_tokens, wire.cache_creation);
    let mut usage = Usage {
        input: wire.input_tokens,
        cache_read: wire.cache_read_input_tokens,
        cache_write_5m,
        cache_write_1h,
        output: wire.output_tokens,
        searches: wire.server_tool_use.and_then(|tools| tools.web_search_requests),
        ..Usage::default()
    };
    if let Some(iterations) = wire.iterations.as_deref() {
        all_of(iterations, &mut usage);
    }
    let thinking = wire.output_tokens_details.and_then(|d| d.thinking_tokens);
    usage.reasoning = thinking.map(|thinking| usage.output.map_or(thinking, |output| thinking.min(output)));
    usage.output = usage.output.map(|output| output - usage.reasoning.unwrap_or(0));
    usage
}

/// What is billed is the sum of all samplings of the turn
/// (<https://docs.anthropic.com/en/docs/build-with-claude/compaction#understanding-usage>); the message's own totals
/// leave out compactions, advisors and declined attempts.
fn all_of(iterations: &[Iteration], usage: &mut Usage) {
    let mut sum = Usage::default();
    iterations.iter().for_each(|iteration| add(&mut sum, iteration));
    for (bucket, sum) in [
        (&mut usage.input, sum.input),
        (&mut usage.cache_read, sum.cache_read),
        (&mut usage.cache_write_5m, sum.cache_write_5m),
        (&mut usage.cache_write_1h, sum.cache_write_1h),
        (&mut usage.output, sum.output),
    ] {
        *bucket = (*bucket).max(sum);
    }
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
    put(&mut known.server_tool_use, later.server_tool_use);
    put(&mut known.service_tier, later.service_tier);
    put(&mut known.iterations, later.iterations);
}

#[derive(Serialize)]
pub(super) struct Written {
    input_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_creation: Option<Lifetimes>,
    output_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens_details: Option<Thinking>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_tool_use: Option<Searches>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<String>,
}

#[derive(Serialize)]
struct Lifetimes {
    ephemeral_5m_input_tokens: u64,
    ephemeral_1h_input_tokens: u64,
}

#[derive(Serialize)]
struct Thinking {
    thinking_tokens: u64,
}

#[derive(Serialize)]
struct Searches {
    web_search_requests: u64,
}

/// In this dialect's words: what has none of its own (audio, images) counts among the rest. Clients want a number
/// where nothing was reported.
pub(super) fn render(usage: &Usage, service_tier: Option<&str>) -> Written {
    let [five, hour] = [usage.cache_write_5m, usage.cache_write_1h].map(Option::unwrap_or_default);
    let sum = |a: Option<u64>, b: Option<u64>| a.unwrap_or(0).saturating_add(b.unwrap_or(0));
    Written {
        input_tokens: sum(usage.input, Some(sum(usage.audio_input, usage.image_input))),
        cache_creation_input_tokens: five.saturating_add(hour),
        cache_read_input_tokens: sum(usage.cache_read, usage.cache_read_audio),
        cache_creation: usage
            .cache_write_1h
            .map(|hour| Lifetimes { ephemeral_5m_input_tokens: five, ephemeral_1h_input_tokens: hour }),
        output_tokens: usage.total_output(),
        output_tokens_details: usage.reasoning.map(|thinking_tokens| Thinking { thinking_tokens }),
        server_tool_use: usage.searches.map(|web_search_requests| Searches { web_search_requests }),
        service_tier: service_tier.map(str::to_owned),
    }
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
    fn every_sampling_of_the_turn_is_billed() {
        let compaction = r#"{"input_tokens":50,"output_tokens":7,"iterations":[
            {"type":"compaction","input_tokens":1000,"output_tokens":200},
            {"type":"message","input_tokens":50,"output_tokens":7}]}"#;
        let advisor = r#"{"input_tokens":90,"output_tokens":30,"output_tokens_details":{"thinking_tokens":4},"iterations":[
            {"type":"message","input_tokens":40,"output_tokens":10},
            {"type":"advisor_message","model":"m2","input_tokens":70,"output_tokens":25},
            {"type":"message","input_tokens":50,"output_tokens":20}]}"#;
        for (json, input, output, reasoning) in [(compaction, 1050, 207, None), (advisor, 160, 51, Some(4))] {
            let usage = normalise(&wire(json));
            assert_eq!((usage.input, usage.output, usage.reasoning), (Some(input), Some(output), reasoning));
        }
    }

    #[test]
    fn absurd_figures_do_not_wrap() {
        let most = u64::MAX;
        let usage = normalise(&wire(&format!(
            r#"{{"input_tokens":{most},"cache_read_input_tokens":5,"cache_creation_input_tokens":{most},"output_tokens":{most}}}"#
        )));
        assert_eq!((usage.total_input(), usage.total_output(), usage.total()), (most, most, most));
        let written = render(&usage, None);
        assert_eq!((written.input_tokens, written.cache_creation_input_tokens), (most, most));
    }

    #[test]
    fn searches_are_no_tokens() {
        let usage = normalise(&wire(
            r#"{"input_tokens":5,"output_tokens":2,"server_tool_use":{"web_search_requests":3,"web_fetch_requests":1}}"#,
        ));
        assert_eq!((usage.searches, usage.total()), (Some(3), 7));
    }

    #[test]
    fn rendering_gives_every_token_back() {
        let usage = Usage {
            input: Some(1),
            cache_read: Some(20),
            cache_read_audio: Some(3),
            cache_write_5m: Some(400),
            cache_write_1h: Some(5000),
            audio_input: Some(60_000),
            output: Some(7),
            reasoning: Some(80),
            image_output: Some(900),
            searches: Some(2),
            ..Usage::default()
        };
        let again = normalise(&wire(&serde_json::to_string(&render(&usage, None)).unwrap()));
        assert_eq!((again.total_input(), again.total_output()), (usage.total_input(), usage.total_output()));
        assert_eq!((again.cache_write_5m, again.cache_write_1h, again.cache_read), (Some(400), Some(5000), Some(23)));
        assert_eq!((again.reasoning, again.searches), (Some(80), Some(2)));
        let nothing = serde_json::to_value(render(&Usage::default(), Some("standard"))).unwrap();
        assert_eq!((&nothing["input_tokens"], &nothing["service_tier"]), (&0.into(), &"standard".into()));
    }
}
