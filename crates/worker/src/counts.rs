//! Token counts that providers have given: the same question gets the same answer, and need not be asked again.

use bytes::Bytes;
use moka::sync::Cache;
use sha2::{Digest, Sha256};

use crate::{attempt::Job, options::Options};

/// A number, and little more: what is longer is not kept.
const LONGEST: usize = 1024;

/// The answers as their callers read them.
pub(crate) struct Counts(Cache<[u8; 32], Bytes>);

impl Counts {
    pub(crate) fn new(options: &Options) -> Counts {
        let cache = Cache::builder().max_capacity(options.count_cache_entries);
        Counts(cache.time_to_live(options.count_cache_ttl.get()).build())
    }

    pub(crate) fn find(&self, job: &Job<'_>) -> Option<Bytes> {
        self.0.get(&key(job))
    }

    pub(crate) fn keep(&self, job: &Job<'_>, answer: &Bytes) {
        if answer.len() <= LONGEST {
            self.0.insert(key(job), Bytes::copy_from_slice(answer));
        }
    }
}

/// Whom it was asked of, and the words of the question, with those beside it.
fn key(job: &Job<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(format!("{}\n{}\n", job.deployment.provider, job.deployment.model));
    hash.update(format!("{:?}\n", job.asked.beside()));
    hash.update(job.asked.bytes());
    hash.finalize().into()
}
