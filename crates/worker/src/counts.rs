//! Token counts that providers have given: the same question gets the same answer, and need not be asked again.

use moka::sync::Cache;
use sha2::{Digest, Sha256};

use crate::{attempt::Job, options::Options};

pub(crate) struct Counts(Cache<[u8; 32], u64>);

impl Counts {
    pub(crate) fn new(options: &Options) -> Counts {
        let cache = Cache::builder().max_capacity(options.count_cache_entries);
        Counts(cache.time_to_live(options.count_cache_ttl.get()).build())
    }

    pub(crate) fn find(&self, job: &Job<'_>) -> Option<u64> {
        self.0.get(&key(job))
    }

    pub(crate) fn keep(&self, job: &Job<'_>, tokens: u64) {
        self.0.insert(key(job), tokens);
    }
}

/// Whom it was asked of, and the words of the question.
fn key(job: &Job<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(format!("{}\n{}\n", job.deployment.provider, job.deployment.model));
    hash.update(job.asked.bytes());
    hash.finalize().into()
}
