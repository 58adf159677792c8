//! Which tokenizer a model has, or which stands in for it.

use tiktoken_rs::{CoreBPE, cl100k_base_singleton, o200k_base_singleton, p50k_base_singleton, r50k_base_singleton};

/// A tokenizer of OpenAI's: <https://github.com/openai/tiktoken>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    O200k,
    Cl100k,
    P50k,
    R50k,
}

impl Encoding {
    pub(crate) fn count(self, text: &str) -> u64 {
        let bpe: &CoreBPE = match self {
            Encoding::O200k => o200k_base_singleton(),
            Encoding::Cl100k => cl100k_base_singleton(),
            Encoding::P50k => p50k_base_singleton(),
            Encoding::R50k => r50k_base_singleton(),
        };
        bpe.count_ordinary(text) as u64
    }
}

/// How a family of models is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    pub name: &'static str,
    pub encoding: Encoding,
    /// Of the encoding's count; 100: the encoding is the models' own.
    pub percent: u32,
}

const fn own(name: &'static str, encoding: Encoding) -> Family {
    Family { name, encoding, percent: 100 }
}

const fn like(name: &'static str, percent: u32) -> Family {
    Family { name, encoding: Encoding::O200k, percent }
}

/// Beginnings of model names, behind a provider's or region's prefix; the first that fits counts. The factors stand in
/// `docs/tokens.md` with what they were measured against.
const FAMILIES: &[(&[&str], Family)] = &[
    (
        &["gpt-4o", "chatgpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "gpt-oss", "o1", "o3", "o4", "codex-mini"],
        own("openai o200k", Encoding::O200k),
    ),
    (
        &["gpt-4", "gpt-3.5", "gpt-35", "text-embedding-3", "text-embedding-ada-002", "davinci-002", "babbage-002"],
        own("openai cl100k", Encoding::Cl100k),
    ),
    (&["text-davinci-003", "text-davinci-002", "code-davinci"], own("openai p50k", Encoding::P50k)),
    (&["text-davinci", "text-curie", "text-babbage", "text-ada"], own("openai r50k", Encoding::R50k)),
    (
        &["claude-opus-4-7", "claude-opus-4-8", "claude-sonnet-5", "claude-opus-5", "claude-haiku-5"],
        like("claude 4.7+", 165),
    ),
    (&["claude-opus-4-6", "claude-sonnet-4-6", "claude-4.6"], like("claude 4.6", 130)),
    (&["claude"], like("claude", 120)),
    (&["gemini", "gemma"], like("gemini", 125)),
    (&["nova", "titan"], like("nova", 110)),
    (&["llama", "meta-llama"], like("llama", 110)),
    (&["mistral", "mixtral", "ministral", "magistral", "codestral", "devstral", "pixtral"], like("mistral", 117)),
    (&["deepseek"], like("deepseek", 110)),
    (&["qwen", "qwq"], like("qwen", 110)),
    (&["command", "embed-", "rerank", "aya"], like("cohere", 120)),
];

const OTHER: Family = like("other", 130);

/// The family of a model, by its name at its provider.
pub fn family(model: &str) -> Family {
    let name = model.to_ascii_lowercase();
    // `us.anthropic.claude-…`, `openai/gpt-4o`, `accounts/fireworks/models/llama-…`: any part may be the model's own name.
    let parts = || {
        let cuts = name.char_indices().filter(|(_, c)| matches!(c, '/' | '.' | ':')).map(|(at, _)| at + 1);
        std::iter::once(0).chain(cuts).map(|at| &name[at..])
    };
    FAMILIES
        .iter()
        .find(|(beginnings, _)| parts().any(|part| beginnings.iter().any(|beginning| part.starts_with(beginning))))
        .map_or(OTHER, |(_, family)| *family)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_their_family() {
        for (model, name) in [
            ("gpt-4o-2024-08-06", "openai o200k"),
            ("gpt-4-0613", "openai cl100k"),
            ("openai/o3-mini", "openai o200k"),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude"),
            ("anthropic/claude-opus-4-8", "claude 4.7+"),
            ("accounts/fireworks/models/llama-v3p3-70b-instruct", "llama"),
            ("amazon.nova-pro-v1:0", "nova"),
            ("models/gemini-2.5-flash", "gemini"),
            ("Qwen/Qwen3-235B", "qwen"),
            ("house-model-1", "other"),
        ] {
            assert_eq!(family(model).name, name, "{model}");
        }
    }
}
