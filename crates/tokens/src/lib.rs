//! How many tokens a text has, where its provider does not say.
//!
//! **Does.** Texts for OpenAI's models are counted with their own tokenizers (tiktoken). Other makers do not publish
//! theirs, or not in this form: their tokens are estimated from the count of `o200k_base` by a factor for the family,
//! chosen so that the estimate errs high. `docs/tokens.md` has the factors with their measured error.
//!
//! **Guarantees.** No I/O and no panic on any text. A count of nothing is nothing. Long texts take time that grows with
//! their length, up to [`COUNTED_MAX`]; beyond, the rest is taken to be like the beginning.
//!
//! **Does not.** It knows text only: what images cost, and what a provider adds around messages, is not in it. The first
//! count in a process builds the tokenizer, which takes some hundred milliseconds and about 40 MB.

mod family;

pub use family::{Encoding, Family, family};

/// The longest text that is counted in full, in bytes.
pub const COUNTED_MAX: usize = 1024 * 1024;

/// Tokens of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub tokens: u64,
    /// Counted with the model's own tokenizer, not estimated.
    pub exact: bool,
}

/// Counts a text for a model, by its name at its provider.
pub fn count(model: &str, text: &str) -> Count {
    let family = family(model);
    if text.is_empty() {
        return Count { tokens: 0, exact: true };
    }
    let mut end = text.len().min(COUNTED_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let base = u128::from(family.encoding.count(&text[..end]));
    // Longer texts are scaled up, and everything by the family's factor; both round up.
    let (whole, counted) = (text.len() as u128, (end.max(1)) as u128);
    let tokens = (base * whole * u128::from(family.percent)).div_ceil(counted * 100);
    let exact = family.percent == 100 && end == text.len();
    Count { tokens: u64::try_from(tokens).unwrap_or(u64::MAX), exact }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openai_texts_are_counted_exactly() {
        // Figures of OpenAI's own tokenizer.
        for (model, text, tokens) in [
            ("gpt-4o", "hello world", 2),
            ("openai/gpt-4o-mini", "hello world", 2),
            ("gpt-4", "tiktoken is great!", 6),
            ("gpt-3.5-turbo", "antidisestablishmentarianism", 6),
            ("gpt-4o", "お誕生日おめでとう", 8),
            ("gpt-4", "お誕生日おめでとう", 9),
            ("text-embedding-3-small", "tiktoken is great!", 6),
        ] {
            assert_eq!(count(model, text), Count { tokens, exact: true }, "{model}: {text}");
        }
    }

    #[test]
    fn others_are_estimated_upwards() {
        let text = "The ferry leaves the north pier at seven, weather permitting.";
        let base = count("gpt-4o", text).tokens;
        for model in ["claude-sonnet-4-5", "gemini-2.5-pro", "meta-llama/llama-3.3-70b", "something-new"] {
            let estimate = count(model, text);
            assert!(!estimate.exact && estimate.tokens > base, "{model}: {estimate:?} of {base}");
        }
    }

    #[test]
    fn a_long_text_is_scaled_and_never_cut_in_a_letter() {
        let text = "é".repeat(COUNTED_MAX);
        let half = count("gpt-4o", &text[..COUNTED_MAX]);
        let whole = count("gpt-4o", &text);
        assert!(half.exact && !whole.exact);
        assert_eq!(whole.tokens, half.tokens * 2);
        assert_eq!(count("claude-opus-4-8", ""), Count { tokens: 0, exact: true });
    }

    #[test]
    fn special_words_are_plain_text() {
        assert!(count("gpt-4o", "<|endoftext|>").tokens > 1);
    }
}
