//! The service tiers that prices are known for, and the providers' words for them.

use std::fmt;

/// How fast or how late a provider serves a call, where that changes the price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceTier {
    #[default]
    Standard,
    Batch,
    Flex,
    Priority,
    /// Capacity that was bought ahead.
    Scale,
    Performance,
    Fast,
    Ultrafast,
    Balanced,
}

/// Every word that is known, the tier's own name first.
const WORDS: [(&str, ServiceTier); 22] = [
    ("standard", ServiceTier::Standard),
    ("batch", ServiceTier::Batch),
    ("flex", ServiceTier::Flex),
    ("priority", ServiceTier::Priority),
    ("scale", ServiceTier::Scale),
    ("performance", ServiceTier::Performance),
    ("fast", ServiceTier::Fast),
    ("ultrafast", ServiceTier::Ultrafast),
    ("balanced", ServiceTier::Balanced),
    ("", ServiceTier::Standard),
    // OpenAI and Bedrock say `default`, Groq and Gemini `on_demand`, Anthropic asks for `standard_only`.
    ("default", ServiceTier::Standard),
    ("auto", ServiceTier::Standard),
    ("on_demand", ServiceTier::Standard),
    ("on-demand", ServiceTier::Standard),
    ("standard_only", ServiceTier::Standard),
    ("traffic_type_unspecified", ServiceTier::Standard),
    ("batches", ServiceTier::Batch),
    ("on_demand_flex", ServiceTier::Flex),
    ("on_demand_priority", ServiceTier::Priority),
    ("provisioned_throughput", ServiceTier::Scale),
    ("reserved", ServiceTier::Scale),
    ("ultra_fast", ServiceTier::Ultrafast),
];

impl ServiceTier {
    /// The tier that a provider's word means, in any case of its letters. `None`: nobody knows the word.
    pub fn of(word: &str) -> Option<ServiceTier> {
        WORDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, tier)| *tier)
    }

    pub fn as_str(self) -> &'static str {
        WORDS.iter().find(|(_, tier)| *tier == self).map_or("standard", |(word, _)| word)
    }
}

impl fmt::Display for ServiceTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
