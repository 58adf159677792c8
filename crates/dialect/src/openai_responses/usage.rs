//! `input_tokens` and `output_tokens` are totals; their details are shares of them. Ours are disjoint. The older
//! endpoints call the same figures `prompt_tokens` and `completion_tokens`.

use farebox_types::Usage;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Wire {
    #[serde(alias = "prompt_tokens")]
    input_tokens: Option<u64>,
    #[serde(alias = "completion_tokens")]
    output_tokens: Option<u64>,
    total_tokens: Option<u64>,
    #[serde(alias = "prompt_tokens_details")]
    input_tokens_details: Option<InputDetails>,
    #[serde(alias = "completion_tokens_details")]
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct InputDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
    cache_write_tokens_details: Option<WriteDetails>,
    audio_tokens: Option<u64>,
    image_tokens: Option<u64>,
}

/// How long what was written is kept.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct WriteDetails {
    ttl_12h_tokens: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct OutputDetails {
    reasoning_tokens: Option<u64>,
    audio_tokens: Option<u64>,
    image_tokens: Option<u64>,
}

pub(crate) fn normalise(wire: &Wire) -> Usage {
    let read = wire.input_tokens_details.unwrap_or_default();
    let wrote = wire.output_tokens_details.unwrap_or_default();
    let (mut input, mut output, reasoning) = (wire.input_tokens, wire.output_tokens, wrote.reasoning_tokens);
    // Some compatible servers count reasoning beside the output; their total gives it away.
    let said = input.zip(output).and_then(|(input, output)| input.checked_add(output));
    let beside = said.zip(wire.total_tokens).and_then(|(said, total)| total.checked_sub(said));
    if beside.is_some_and(|beside| beside > 0 && reasoning == Some(beside)) {
        output = output.zip(beside).map(|(output, beside)| output.saturating_add(beside));
    }
    let long = read.cache_write_tokens_details.and_then(|details| details.ttl_12h_tokens).filter(|long| *long > 0);
    Usage {
        cache_read: share(&mut input, read.cached_tokens),
        cache_write_1h: share(&mut input, long),
        cache_write_5m: share(&mut input, read.cache_write_tokens.map(|all| all.saturating_sub(long.unwrap_or(0)))),
        audio_input: share(&mut input, read.audio_tokens),
        image_input: share(&mut input, read.image_tokens),
        input,
        reasoning: share(&mut output, reasoning),
        audio_output: share(&mut output, wrote.audio_tokens),
        image_output: share(&mut output, wrote.image_tokens),
        output,
        ..Usage::default()
    }
}

/// Moves a detail out of what is left of its total, never more than that: the buckets add up to the provider's total.
pub(crate) fn share(left: &mut Option<u64>, detail: Option<u64>) -> Option<u64> {
    let Some(left) = left else { return detail };
    let taken = detail?.min(*left);
    *left -= taken;
    Some(taken)
}

/// Usage as callers read it; they expect every member.
#[derive(Serialize)]
pub(super) struct Rendered {
    input_tokens: u64,
    input_tokens_details: RenderedInput,
    output_tokens: u64,
    output_tokens_details: RenderedOutput,
    total_tokens: u64,
}

#[derive(Serialize)]
struct RenderedInput {
    cached_tokens: u64,
    cache_write_tokens: u64,
}

#[derive(Serialize)]
struct RenderedOutput {
    reasoning_tokens: u64,
}

/// Back to totals. `None` when nothing was reported.
pub(super) fn render(usage: &Usage) -> Option<Rendered> {
    let sum = |a: Option<u64>, b: Option<u64>| a.unwrap_or(0).saturating_add(b.unwrap_or(0));
    usage.is_reported().then(|| Rendered {
        input_tokens: usage.total_input(),
        input_tokens_details: RenderedInput {
            cached_tokens: sum(usage.cache_read, usage.cache_read_audio),
            cache_write_tokens: sum(usage.cache_write_5m, usage.cache_write_1h),
        },
        output_tokens: usage.total_output(),
        output_tokens_details: RenderedOutput { reasoning_tokens: usage.reasoning.unwrap_or(0) },
        total_tokens: usage.total(),
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
        let usage = of(r#"{"input_tokens":100,"output_tokens":50,"total_tokens":150,
            "input_tokens_details":{"cached_tokens":64,"cache_write_tokens":16,"cache_write_tokens_details":{"ttl_30m_tokens":10,"ttl_12h_tokens":6}},
            "output_tokens_details":{"reasoning_tokens":30}}"#);
        assert_eq!((usage.input, usage.cache_read), (Some(20), Some(64)));
        assert_eq!((usage.cache_write_5m, usage.cache_write_1h), (Some(10), Some(6)));
        assert_eq!((usage.output, usage.reasoning, usage.total()), (Some(20), Some(30), 150));
    }

    #[test]
    fn not_reported_is_not_zero_and_no_detail_exceeds_its_total() {
        assert_eq!(of(r#"{"prompt_tokens":7}"#), Usage { input: Some(7), ..Usage::default() });
        let usage = of(r#"{"input_tokens":5,"output_tokens":3,"total_tokens":8,
            "input_tokens_details":{"cached_tokens":9},"output_tokens_details":{"reasoning_tokens":9}}"#);
        assert_eq!((usage.total_input(), usage.total_output()), (5, 3));
    }

    #[test]
    fn absurd_figures_do_not_wrap() {
        let usage = Usage { cache_read: Some(u64::MAX), cache_read_audio: Some(9), ..Usage::default() };
        let written = render(&usage).unwrap();
        assert_eq!((written.total_tokens, written.input_tokens_details.cached_tokens), (u64::MAX, u64::MAX));
    }

    #[test]
    fn reasoning_beside_the_output_is_seen_by_the_total() {
        let usage = of(r#"{"input_tokens":10,"output_tokens":3,"total_tokens":53,
            "output_tokens_details":{"reasoning_tokens":40}}"#);
        assert_eq!((usage.output, usage.reasoning, usage.total()), (Some(3), Some(40), 53));
    }
}
