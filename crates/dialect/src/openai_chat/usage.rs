//! `prompt_tokens` and `completion_tokens` are totals; their details are shares of them. Ours are disjoint.

use farebox_types::Usage;

use super::types::{CompletionDetails, PromptDetails, Usage as Wire};

pub(super) fn normalise(wire: &Wire) -> Usage {
    let prompt = wire.prompt_tokens_details.unwrap_or_default();
    let completion = wire.completion_tokens_details.unwrap_or_default();
    let mut input = wire.prompt_tokens;
    let mut output = wire.completion_tokens;
    let mut reasoning = completion.reasoning_tokens;
    if let Some(apart) = reasoning_apart(wire) {
        output = output.map(|output| output.saturating_add(apart));
        reasoning = Some(apart);
    }
    Usage {
        cache_read: share(&mut input, cached(wire)),
        cache_write_5m: share(&mut input, prompt.cache_write_tokens),
        cache_write_1h: None,
        audio_input: share(&mut input, prompt.audio_tokens),
        image_input: share(&mut input, prompt.image_tokens),
        input,
        reasoning: share(&mut output, reasoning),
        audio_output: share(&mut output, completion.audio_tokens),
        image_output: share(&mut output, completion.image_tokens),
        output,
        ..Usage::default()
    }
}

fn cached(wire: &Wire) -> Option<u64> {
    let detail = wire.prompt_tokens_details.and_then(|details| details.cached_tokens);
    detail.or(wire.cached_tokens).or(wire.prompt_cache_hit_tokens).or(wire.num_cached_tokens)
}

/// Some compatible servers count reasoning beside the completion instead of within it, and some do not name it at all;
/// their total gives it away.
fn reasoning_apart(wire: &Wire) -> Option<u64> {
    let said = wire.prompt_tokens?.checked_add(wire.completion_tokens?)?;
    let unnamed = wire.total_tokens?.checked_sub(said).filter(|unnamed| *unnamed > 0)?;
    let reasoning = wire.completion_tokens_details.and_then(|details| details.reasoning_tokens).filter(|r| *r > 0);
    reasoning.is_none_or(|reasoning| reasoning == unnamed).then_some(unnamed)
}

/// Moves a detail out of what is left of its total. A detail never takes more than is left, so that the buckets
/// always add up to the provider's total.
fn share(left: &mut Option<u64>, detail: Option<u64>) -> Option<u64> {
    let Some(left) = left else { return detail };
    let taken = detail?.min(*left);
    *left -= taken;
    Some(taken)
}

/// Back to totals. `None` when nothing was reported.
pub(super) fn render(usage: &Usage) -> Option<Wire> {
    if !usage.is_reported() {
        return None;
    }
    let prompt = PromptDetails {
        cached_tokens: usage.cache_read,
        cache_write_tokens: match (usage.cache_write_5m, usage.cache_write_1h) {
            (None, None) => None,
            (five, hour) => Some(five.unwrap_or(0) + hour.unwrap_or(0)),
        },
        audio_tokens: usage.audio_input,
        image_tokens: usage.image_input,
    };
    let completion = CompletionDetails {
        reasoning_tokens: usage.reasoning,
        audio_tokens: usage.audio_output,
        image_tokens: usage.image_output,
    };
    Some(Wire {
        prompt_tokens: Some(usage.total_input()),
        completion_tokens: Some(usage.total_output()),
        total_tokens: Some(usage.total()),
        prompt_tokens_details: (prompt != PromptDetails::default()).then_some(prompt),
        completion_tokens_details: (completion != CompletionDetails::default()).then_some(completion),
        ..Wire::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Usage {
        normalise(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn details_are_taken_out_of_their_totals() {
        let usage = of(r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,
            "prompt_tokens_details":{"cached_tokens":64,"audio_tokens":6},
            "completion_tokens_details":{"reasoning_tokens":30,"audio_tokens":5,"accepted_prediction_tokens":2}}"#);
        assert_eq!((usage.input, usage.cache_read, usage.audio_input), (Some(30), Some(64), Some(6)));
        assert_eq!((usage.output, usage.reasoning, usage.audio_output), (Some(15), Some(30), Some(5)));
        assert_eq!(usage.total(), 150);
    }

    #[test]
    fn not_reported_is_not_zero() {
        let usage = of(r#"{"prompt_tokens":7,"completion_tokens":0,"total_tokens":7}"#);
        assert_eq!(usage, Usage { input: Some(7), output: Some(0), ..Usage::default() });
        assert_eq!(of(r#"{"prompt_tokens":7,"prompt_tokens_details":{"cached_tokens":0}}"#).cache_read, Some(0));
    }

    #[test]
    fn buckets_never_exceed_the_total() {
        let usage = of(r#"{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13,
            "prompt_tokens_details":{"cached_tokens":8,"audio_tokens":8},"completion_tokens_details":{"reasoning_tokens":9}}"#);
        assert_eq!((usage.total_input(), usage.total_output()), (10, 3));
    }

    #[test]
    fn reasoning_beside_the_completion_is_seen_by_the_total() {
        let usage = of(r#"{"prompt_tokens":10,"completion_tokens":3,"total_tokens":53,
            "completion_tokens_details":{"reasoning_tokens":40}}"#);
        assert_eq!((usage.output, usage.reasoning, usage.total()), (Some(3), Some(40), 53));
    }

    #[test]
    fn reasoning_that_is_not_named_is_seen_by_the_total() {
        let usage = of(r#"{"prompt_tokens":10,"completion_tokens":3,"total_tokens":53}"#);
        assert_eq!((usage.output, usage.reasoning, usage.total()), (Some(3), Some(40), 53));
        let usage = of(
            r#"{"prompt_tokens":10,"completion_tokens":3,"total_tokens":53,"completion_tokens_details":{"reasoning_tokens":0}}"#,
        );
        assert_eq!((usage.output, usage.reasoning, usage.total()), (Some(3), Some(40), 53));
    }

    #[test]
    fn what_was_cached_may_stand_beside_the_totals() {
        for name in ["cached_tokens", "prompt_cache_hit_tokens", "num_cached_tokens"] {
            let usage = of(&format!(r#"{{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13,"{name}":8}}"#));
            assert_eq!((usage.input, usage.cache_read), (Some(2), Some(8)), "{name}");
        }
        let usage =
            of(r#"{"prompt_tokens":10,"prompt_cache_hit_tokens":8,"prompt_tokens_details":{"cached_tokens":8}}"#);
        assert_eq!((usage.input, usage.cache_read), (Some(2), Some(8)));
    }

    #[test]
    fn rendering_gives_the_totals_back() {
        let json = r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,"prompt_tokens_details":{"cached_tokens":64},"completion_tokens_details":{"reasoning_tokens":30}}"#;
        assert_eq!(serde_json::to_string(&render(&of(json)).unwrap()).unwrap(), json);
        assert!(render(&Usage::default()).is_none());
    }
}
