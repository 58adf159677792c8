//! `prompt_tokens` and `completion_tokens` are totals; their details are shares of them. Ours are disjoint. Compatible
//! servers count some things beside the totals, and some say what the answer costs.

use farebox_types::{Money, Usage};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::types::lenient;
use crate::openai_responses::usage::share;

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(super) struct Wire {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
    #[serde(default)]
    total_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    completion_tokens_details: Option<CompletionDetails>,
    /// What was cached, by other names: Moonshot and Together, DeepSeek, Mistral.
    #[serde(skip_serializing, default)]
    cached_tokens: Option<u64>,
    #[serde(skip_serializing, default)]
    prompt_cache_hit_tokens: Option<u64>,
    #[serde(skip_serializing, default)]
    num_cached_tokens: Option<u64>,
    /// Perplexity bills these and counts them in no total: <https://docs.perplexity.ai/getting-started/pricing>.
    #[serde(skip_serializing, default)]
    reasoning_tokens: Option<u64>,
    #[serde(skip_serializing, default)]
    citation_tokens: Option<u64>,
    #[serde(skip_serializing, default)]
    num_search_queries: Option<u64>,
    /// xAI's live search is billed by the source.
    #[serde(skip_serializing, default)]
    num_sources_used: Option<u64>,
    #[serde(skip_serializing, default, deserialize_with = "lenient")]
    server_tool_use: Option<ServerTools>,
    #[serde(skip_serializing, default, deserialize_with = "lenient")]
    server_tool_use_details: Option<ServerTools>,
    /// OpenRouter's number, Perplexity's object with a `total_cost`.
    #[serde(skip_serializing, default, deserialize_with = "amount")]
    cost: Option<Money>,
    /// DeepInfra's name for it.
    #[serde(skip_serializing, default, deserialize_with = "amount")]
    estimated_cost: Option<Money>,
    #[serde(skip_serializing, default, deserialize_with = "lenient")]
    cost_details: Option<CostDetails>,
    /// The model's own provider is paid with a key of the account's owner, beside `cost`.
    #[serde(skip_serializing, default, deserialize_with = "lenient")]
    is_byok: Option<bool>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq)]
struct PromptDetails {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cached_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cache_write_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    audio_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image_tokens: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq)]
struct CompletionDetails {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reasoning_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    audio_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image_tokens: Option<u64>,
}

/// OpenRouter's searches: <https://openrouter.ai/docs/guides/features/server-tools/web-search>.
#[derive(Clone, Copy, Debug, Deserialize)]
struct ServerTools {
    #[serde(default)]
    web_search_requests: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct CostDetails {
    #[serde(default, deserialize_with = "amount")]
    upstream_inference_cost: Option<Money>,
}

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
    if let (Some(input), Some(read)) = (&mut input, wire.citation_tokens) {
        *input = input.saturating_add(read);
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
        searches: searches(wire),
        ..Usage::default()
    }
}

fn cached(wire: &Wire) -> Option<u64> {
    let detail = wire.prompt_tokens_details.and_then(|details| details.cached_tokens);
    detail.or(wire.cached_tokens).or(wire.prompt_cache_hit_tokens).or(wire.num_cached_tokens)
}

fn searches(wire: &Wire) -> Option<u64> {
    let tools = wire.server_tool_use_details.or(wire.server_tool_use).and_then(|tools| tools.web_search_requests);
    tools.or(wire.num_search_queries).or(wire.num_sources_used)
}

/// Reasoning beside the completion instead of within it. Perplexity names it beside everything; elsewhere the total gives
/// it away, whether it is named (xAI) or not (Google).
fn reasoning_apart(wire: &Wire) -> Option<u64> {
    let said = wire.prompt_tokens?.checked_add(wire.completion_tokens?)?;
    if let Some(beside) = wire.reasoning_tokens.filter(|_| wire.completion_tokens_details.is_none()) {
        return Some(beside);
    }
    let unnamed = wire.total_tokens?.checked_sub(said).filter(|unnamed| *unnamed > 0)?;
    let reasoning = wire.completion_tokens_details.and_then(|details| details.reasoning_tokens).filter(|r| *r > 0);
    reasoning.is_none_or(|reasoning| reasoning == unnamed).then_some(unnamed)
}

/// What the provider says the answer costs.
pub(super) fn cost(wire: &Wire) -> Option<Money> {
    let upstream = wire.cost_details.and_then(|details| details.upstream_inference_cost);
    let beside = upstream.filter(|_| wire.is_byok == Some(true)).unwrap_or(Money::ZERO);
    Some(wire.cost.or(wire.estimated_cost)?.saturating_add(beside))
}

/// A number, a string, or an object that holds the sum. Read from its text: no float touches it.
fn amount<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Money>, D::Error> {
    #[derive(Deserialize)]
    struct Sum<'a> {
        #[serde(borrow)]
        total_cost: &'a RawValue,
    }
    let raw = Box::<RawValue>::deserialize(from)?;
    let text = serde_json::from_str::<Sum<'_>>(raw.get()).map_or(raw.get(), |sum| sum.total_cost.get());
    Ok(dollars(text.trim_matches('"')))
}

/// A decimal number, with or without an exponent. Providers print binary fractions: what is finer than
/// [`Money`] is rounded to the nearest.
fn dollars(text: &str) -> Option<Money> {
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let all: String = [whole, part].concat();
    if all.is_empty() || all.len() > 60 || !all.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // The number of digits before the point, once it is written in pico-dollars.
    let places = i32::try_from(whole.len()).ok()?.checked_add(exponent)?.checked_add(12)?;
    if !(0..=36).contains(&places) {
        return (places < 0 || all.bytes().all(|b| b == b'0')).then_some(Money::ZERO);
    }
    let places = usize::try_from(places).ok()?;
    let kept = format!("{:0<places$}", &all[..places.min(all.len())]);
    let picos: i128 = if kept.is_empty() { 0 } else { kept.parse().ok()? };
    let up = all.as_bytes().get(places).is_some_and(|digit| *digit >= b'5');
    Some(Money::from_picos(picos + i128::from(up)))
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
            (five, hour) => Some(five.unwrap_or(0).saturating_add(hour.unwrap_or(0))),
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
    fn absurd_figures_do_not_wrap() {
        let usage = Usage { cache_write_5m: Some(u64::MAX), cache_write_1h: Some(9), ..Usage::default() };
        let wire = render(&usage).unwrap();
        let written = wire.prompt_tokens_details.unwrap().cache_write_tokens;
        assert_eq!((wire.prompt_tokens, written), (Some(u64::MAX), Some(u64::MAX)));
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
    fn what_perplexity_bills_beside_its_total_is_counted() {
        let usage = of(r#"{"prompt_tokens":19,"completion_tokens":498,"total_tokens":517,"citation_tokens":1000,
            "num_search_queries":48,"reasoning_tokens":9530}"#);
        assert_eq!((usage.input, usage.output, usage.reasoning), (Some(1019), Some(498), Some(9530)));
        assert_eq!(usage.searches, Some(48));
    }

    #[test]
    fn costs_are_read_as_decimals() {
        let cost = |json: &str| cost(&serde_json::from_str(json).unwrap()).map(|cost| cost.to_string());
        for (json, expected) in [
            (r#"{"cost":0.00435825}"#, Some("0.00435825")),
            (r#"{"cost":4.25e-06}"#, Some("0.00000425")),
            (r#"{"cost":1.5E+1}"#, Some("15")),
            (r#"{"cost":0.0076509169000000005}"#, Some("0.0076509169")),
            (r#"{"cost":0.0000000000015}"#, Some("0.000000000002")),
            (r#"{"cost":3e-40}"#, Some("0")),
            (r#"{"cost":0}"#, Some("0")),
            (r#"{"cost":"0.25"}"#, Some("0.25")),
            (r#"{"cost":{"input_tokens_cost":0.1,"total_cost":0.006}}"#, Some("0.006")),
            (r#"{"estimated_cost":1.2e-5}"#, Some("0.000012")),
            (r#"{"cost":0.01,"is_byok":true,"cost_details":{"upstream_inference_cost":0.2}}"#, Some("0.21")),
            (r#"{"cost":0.01,"is_byok":false,"cost_details":{"upstream_inference_cost":0.2}}"#, Some("0.01")),
            (r#"{"cost":null}"#, None),
            (r#"{"cost":-1}"#, None),
            (r#"{"cost":"free"}"#, None),
            (r#"{"cost":1e99}"#, None),
            ("{}", None),
        ] {
            assert_eq!(cost(json).as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn searches_are_counted_where_they_are_billed() {
        for json in [
            r#"{"server_tool_use_details":{"web_search_requests":2}}"#,
            r#"{"server_tool_use":{"web_search_requests":2}}"#,
            r#"{"num_search_queries":2}"#,
            r#"{"num_sources_used":2}"#,
        ] {
            assert_eq!(of(json).searches, Some(2), "{json}");
        }
    }

    #[test]
    fn rendering_gives_the_totals_back() {
        let json = r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,"prompt_tokens_details":{"cached_tokens":64},"completion_tokens_details":{"reasoning_tokens":30}}"#;
        assert_eq!(serde_json::to_string(&render(&of(json)).unwrap()).unwrap(), json);
        assert!(render(&Usage::default()).is_none());
    }
}
