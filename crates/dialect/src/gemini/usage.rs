//! `promptTokenCount` includes what was read from the cache; tool use and thoughts stand beside the prompt and the
//! answer. Audio in both directions and images out have rates of their own.

use farebox_types::Usage;

use super::{
    model::Generation,
    types::{ModalityTokens, Usage as Wire, Word},
};

pub(super) fn normalise(wire: &Wire, searches: Option<u64>) -> Usage {
    let prompt = wire.prompt_token_count;
    let cached = wire.cached_content_token_count.map(|cached| cached.min(prompt.unwrap_or(cached)));
    let cached_audio = of(&wire.cache_tokens_details, AUDIO, cached);
    let fresh = prompt.map(|prompt| prompt - cached.unwrap_or(0).min(prompt));
    let prompt_audio = of(&wire.prompt_tokens_details, AUDIO, prompt)
        .map(|audio| audio.saturating_sub(cached_audio.unwrap_or(0)).min(fresh.unwrap_or(0)));
    let tool_audio = of(&wire.tool_use_prompt_tokens_details, AUDIO, wire.tool_use_prompt_token_count);
    let audio_input = plus(prompt_audio, tool_audio);
    let answer = wire.candidates_token_count;
    let audio_output = of(&wire.candidates_tokens_details, AUDIO, answer);
    let image_output = of(&wire.candidates_tokens_details, IMAGE, answer)
        .map(|image| image.min(answer.unwrap_or(0) - audio_output.unwrap_or(0)));
    let mut usage = Usage {
        input: less(plus(fresh, wire.tool_use_prompt_token_count), audio_input),
        cache_read: less(cached, cached_audio),
        cache_read_audio: cached_audio,
        audio_input,
        output: less(less(answer, audio_output), image_output),
        audio_output,
        image_output,
        reasoning: wire.thoughts_token_count,
        searches,
        ..Usage::default()
    };
    // What the total counts and no other member does is output that was not broken down.
    let rest = wire.total_token_count.map_or(0, |total| total.saturating_sub(usage.total()));
    if rest > 0 {
        usage.output = plus(usage.output, Some(rest));
    }
    usage
}

/// What was embedded: images and sound have rates of their own there.
pub(crate) fn embedded(wire: &Wire) -> Usage {
    let prompt = wire.prompt_token_count;
    let audio_input = of(&wire.prompt_tokens_details, AUDIO, prompt);
    let text = less(prompt, audio_input);
    let image_input = of(&wire.prompt_tokens_details, IMAGE, text);
    Usage { input: less(text, image_input), audio_input, image_input, ..Usage::default() }
}

/// Searches as they are billed: since generation 3 each query, before it each prompt that was grounded.
pub(super) fn searches(model: &str, queries: &[String]) -> u64 {
    let count = queries.iter().filter(|query| !query.is_empty()).count();
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    match Generation::of(model) {
        Some(generation) if generation < Generation::THREE => count.min(1),
        _ => count,
    }
}

/// The tier that served the call, in the Gemini API's words.
pub(super) fn tier(wire: &Wire) -> Option<String> {
    let of_traffic = |Word(word): &Word| match word.strip_prefix("ON_DEMAND") {
        Some("") => "standard".to_owned(),
        Some(tier) => tier.trim_start_matches('_').to_lowercase(),
        None => word.to_lowercase(),
    };
    wire.service_tier.clone().or_else(|| wire.traffic_type.as_ref().map(of_traffic))
}

/// A modality's name and number.
type Modality = [&'static str; 2];
const AUDIO: Modality = ["AUDIO", "4"];
const IMAGE: Modality = ["IMAGE", "2"];

/// Tokens of one modality, at most as many as the total that they are part of.
fn of(details: &Option<Vec<ModalityTokens>>, modality: Modality, total: Option<u64>) -> Option<u64> {
    let of_it = |d: &&ModalityTokens| d.modality.as_ref().is_some_and(|Word(word)| modality.contains(&word.as_str()));
    let found: Vec<u64> = details.iter().flatten().filter(of_it).filter_map(|d| d.token_count).collect();
    (!found.is_empty())
        .then(|| found.iter().fold(0, |sum: u64, more| sum.saturating_add(*more)).min(total.unwrap_or(0)))
}

fn plus(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        (a, b) => a.or(b),
    }
}

fn less(whole: Option<u64>, part: Option<u64>) -> Option<u64> {
    whole.map(|whole| whole.saturating_sub(part.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(json: &str) -> Wire {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn buckets_by_cache_and_modality() {
        let usage = normalise(
            &wire(
                r#"{"promptTokenCount":1000,"cachedContentTokenCount":400,"toolUsePromptTokenCount":30,
                    "candidatesTokenCount":1350,"thoughtsTokenCount":70,"totalTokenCount":2450,
                    "promptTokensDetails":[{"modality":"TEXT","tokenCount":700},{"modality":"AUDIO","tokenCount":300}],
                    "cacheTokensDetails":[{"modality":"TEXT","tokenCount":300},{"modality":"AUDIO","tokenCount":100}],
                    "candidatesTokensDetails":[{"modality":"IMAGE","tokenCount":1290}]}"#,
            ),
            Some(2),
        );
        let expected = Usage {
            input: Some(430),
            cache_read: Some(300),
            cache_read_audio: Some(100),
            audio_input: Some(200),
            output: Some(60),
            image_output: Some(1290),
            reasoning: Some(70),
            searches: Some(2),
            ..Usage::default()
        };
        assert_eq!(usage, expected);
        assert_eq!(usage.total(), 2450);
    }

    #[test]
    fn details_never_exceed_their_totals() {
        let usage = normalise(
            &wire(
                r#"{"promptTokenCount":10,"cachedContentTokenCount":90,"candidatesTokenCount":5,"totalTokenCount":15,
                    "promptTokensDetails":[{"modality":4,"tokenCount":18446744073709551615}],
                    "candidatesTokensDetails":[{"modality":"IMAGE","tokenCount":9},{"modality":"AUDIO","tokenCount":3}]}"#,
            ),
            None,
        );
        assert_eq!((usage.total(), usage.audio_output, usage.image_output), (15, Some(3), Some(2)));
    }

    #[test]
    fn the_total_is_never_undercut() {
        let usage = normalise(&wire(r#"{"promptTokenCount":10,"totalTokenCount":25}"#), None);
        assert_eq!((usage.input, usage.output, usage.total()), (Some(10), Some(15), 25));
        assert_eq!(normalise(&wire(r#"{"trafficType":"ON_DEMAND"}"#), None), Usage::default());
    }

    #[test]
    fn embedded_media_stand_apart() {
        let usage = embedded(&wire(
            r#"{"promptTokenCount":300,"promptTokenDetails":[{"modality":"TEXT","tokenCount":10},
                {"modality":"IMAGE","tokenCount":258},{"modality":"AUDIO","tokenCount":32}]}"#,
        ));
        assert_eq!((usage.input, usage.image_input, usage.audio_input), (Some(10), Some(258), Some(32)));
    }

    #[test]
    fn searches_by_generation() {
        let queries = ["tides".to_owned(), String::new(), "ferries".to_owned()];
        for (model, expected) in [("gemini-2.5-pro", 1), ("gemini-3-flash-preview", 2), ("gemini-pro-latest", 2)] {
            assert_eq!(searches(model, &queries), expected, "{model}");
        }
        assert_eq!(searches("gemini-2.5-pro", &[]), 0);
    }

    #[test]
    fn tiers_in_one_set_of_words() {
        for (json, expected) in [
            (r#"{"serviceTier":"priority"}"#, Some("priority")),
            (r#"{"trafficType":"ON_DEMAND"}"#, Some("standard")),
            (r#"{"trafficType":"ON_DEMAND_FLEX"}"#, Some("flex")),
            (r#"{"trafficType":"PROVISIONED_THROUGHPUT"}"#, Some("provisioned_throughput")),
            ("{}", None),
        ] {
            assert_eq!(tier(&wire(json)).as_deref(), expected);
        }
    }
}
