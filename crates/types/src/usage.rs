//! What a call used, in buckets that do not overlap.

/// Units used, by bucket. The buckets are disjoint: every billed unit stands in exactly one of them.
///
/// `None`: the provider did not report it. `Some(0)`: it reported zero. Usage that a stream repeats replaces the
/// earlier value, it is never added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Usage {
    /// Input tokens that neither were read from nor written to the provider's prompt cache.
    pub input: Option<u64>,
    /// Input tokens read from the provider's prompt cache.
    pub cache_read: Option<u64>,
    /// Input tokens written to the prompt cache for five minutes (or the provider's only lifetime).
    pub cache_write_5m: Option<u64>,
    /// Input tokens written to the prompt cache for one hour.
    pub cache_write_1h: Option<u64>,
    /// Output tokens without the separately reported reasoning, audio and image tokens.
    pub output: Option<u64>,
    /// Output tokens spent on reasoning, where the provider says how many.
    pub reasoning: Option<u64>,
    pub audio_input: Option<u64>,
    pub audio_output: Option<u64>,
    pub image_input: Option<u64>,
    pub image_output: Option<u64>,
    /// Audio tokens read from the provider's prompt cache.
    pub cache_read_audio: Option<u64>,
    /// Searches that the provider made, and search units of a reranking. They are no tokens.
    pub searches: Option<u64>,
}

impl Usage {
    /// All tokens that went in. A provider may report any number: sums stop at the largest.
    pub fn total_input(&self) -> u64 {
        sum([
            self.input,
            self.cache_read,
            self.cache_write_5m,
            self.cache_write_1h,
            self.audio_input,
            self.image_input,
            self.cache_read_audio,
        ])
    }

    /// All tokens that came out.
    pub fn total_output(&self) -> u64 {
        sum([self.output, self.reasoning, self.audio_output, self.image_output])
    }

    pub fn total(&self) -> u64 {
        self.total_input().saturating_add(self.total_output())
    }

    /// Whether the provider reported anything at all.
    pub fn is_reported(&self) -> bool {
        *self != Usage::default()
    }
}

fn sum<const N: usize>(buckets: [Option<u64>; N]) -> u64 {
    buckets.into_iter().flatten().fold(0, u64::saturating_add)
}
