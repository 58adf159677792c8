//! `prompt_tokens` and `completion_tokens` are totals; their details are shares of them. Ours are disjoint.

use farebox_types::Usage;

use super::types::{CompletionDetails, PromptDetails, Usage as Wire};

pub(super) fn normalise(wire: &Wire) -> Usage {
    let prompt = wire.prompt_tokens_details.unwrap_or_default();
    let completion = wire.completion_tokens_details.unwrap_or_default();
    let mut input = wire.prompt_tokens;
    let mut output = wire.completion_tokens;
    if reasoning_stands_apart(wire) {
        output = sum(output, completion.reasoning_tokens);
    }
    Usage {
        cache_read: share(&mut input, prompt.cached_tokens),
        cache_write_5m: share(&mut input, prompt.cache_write_tokens),
        cache_write_1h: None,
        audio_input: share(&mut input, prompt.audio_tokens),
        image_input: share(&mut input, prompt.image_tokens),
        input,
        reasoning: share(&mut output, completion.reasoning_tokens),
        audio_output: share(&mut output, completion.audio_tokens),
        image_output: share(&mut output, completion.image_tokens),
        output,
    }
}

/// Some compatible servers report reasoning beside the completion instead of within it; their total gives it away.
fn reasoning_stands_apart(wire: &Wire) -> bool {
    let reasoning = wire.completion_tokens_details.and_then(|d| d.reasoning_tokens).filter(|r| *r > 0);
    match (wire.prompt_tokens, wire.completion_tokens, reasoning, wire.total_tokens) {
        (Some(prompt), Some(completion), Some(reasoning), Some(total)) => {
            prompt.checked_add(completion).and_then(|sum| sum.checked_add(reasoning)) == Some(total)
        }
        _ => false,
    }
}

/// Moves a detail out of what is left of its total. A detail never takes more than is left, so that the buckets
/// always add up to the provider's total.
fn share(left: &mut Option<u64>, detail: Option<u64>) -> Option<u64> {
    let Some(left) = left else { return detail };
    let taken = detail?.min(*left);
    *left -= taken;
    Some(taken)
}

fn sum(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.map(|a| a.saturating_add(b.unwrap_or(0)))
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
    fn rendering_gives_the_totals_back() {
        let json = r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,"prompt_tokens_details":{"cached_tokens":64},"completion_tokens_details":{"reasoning_tokens":30}}"#;
        assert_eq!(serde_json::to_string(&render(&of(json)).unwrap()).unwrap(), json);
        assert!(render(&Usage::default()).is_none());
    }
}
