//! Every stream and bucket that farebox needs: what it holds, how long, how much, and what happens when it is full.

use std::time::Duration;

use farebox_proto::subjects::{self, Tenancy};
use farebox_types::{ByteSize, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    bucket::BucketSpec,
    connect::Bus,
    error::StreamError,
    objects,
    stream::{Discard, Retention, StreamSpec},
};

/// The guard's decisions, in the order in which they were made.
pub const LEDGER: &str = "FAREBOX_LEDGER";
/// What intakes reserved while no guard led, until one has taken it over.
pub const GRACE: &str = "FAREBOX_GRACE";
/// One fact per attempt, for whoever comes late: alerts, a console. Rows are made from the ledger.
pub const CALLS: &str = "FAREBOX_CALLS";
/// Jobs that wait for capacity or are being worked on.
pub const JOBS: &str = "FAREBOX_JOBS";
/// Final answers of jobs and of requests without a reply subject.
pub const RESULTS: &str = "FAREBOX_RESULTS";
/// Bodies too large for one message.
pub const BODIES: &str = "farebox-bodies";
/// What was applied to the config while farebox ran, and its history.
pub const CONFIG: &str = "farebox-config";
/// The one key of that bucket.
pub const CONFIG_KEY: &str = "applied";
/// Configs that are kept: the most that a bucket keeps of one key.
pub const CONFIG_HISTORY: u64 = 64;
/// Who leads what.
pub const LEASES: &str = "farebox-leases";
/// Organisations, projects, keys, budgets and limits.
pub const POLICY: &str = "farebox-policy";
/// Every change of a policy or the config, copied from where they are kept: no change lacks its record.
pub const AUDIT: &str = "FAREBOX_AUDIT";

/// The key of the lease in [`LEASES`] that the guard who leads a shard holds.
pub fn guard_lease(shard: u32) -> String {
    format!("guard-{shard}")
}

const MIB: u64 = 1024 * 1024;

/// Sizes and ages of what is stored. The server reserves the sizes, so their sum must fit on its disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StorageOptions {
    /// Copies of every stream in a cluster: 1, 3 or 5.
    pub replicas: u8,
    /// When the ledger is full, hard budgets refuse. The guard trims it behind its snapshots.
    pub ledger_max_bytes: ByteSize,
    /// When it is full, no further call is admitted while no guard leads, whatever its budgets allow.
    pub grace_max_bytes: ByteSize,
    /// When it is full, the oldest facts go; rows are made from the ledger, not from them.
    pub calls_max_bytes: ByteSize,
    pub calls_max_age: Span,
    /// When it is full, new jobs are refused.
    pub jobs_max_bytes: ByteSize,
    /// When so many jobs wait, new ones are refused.
    pub jobs_max_messages: u64,
    /// Jobs older than this are gone. Above `intake.max_deadline`, so that each has had its answer by then.
    pub jobs_max_age: Span,
    /// When it is full, the oldest results go.
    pub results_max_bytes: ByteSize,
    pub results_max_age: Span,
    /// When it is full, new large bodies are refused.
    pub bodies_max_bytes: ByteSize,
    pub bodies_max_age: Span,
    /// Of all configs that were applied and are kept; one alone has a sixty-fourth of it.
    pub config_max_bytes: ByteSize,
    /// When it is full, policies (keys, budgets, …) can no longer be changed.
    pub policy_max_bytes: ByteSize,
    /// When it is full, the oldest records of changes go.
    pub audit_max_bytes: ByteSize,
    pub audit_max_age: Span,
    /// How long message ids are remembered: a repeated write within it is stored once.
    pub duplicate_window: Span,
}

impl Default for StorageOptions {
    fn default() -> StorageOptions {
        StorageOptions {
            replicas: 1,
            ledger_max_bytes: ByteSize(2048 * MIB),
            grace_max_bytes: ByteSize(64 * MIB),
            calls_max_bytes: ByteSize(256 * MIB),
            calls_max_age: Span::from_secs(24 * 3600),
            jobs_max_bytes: ByteSize(512 * MIB),
            jobs_max_messages: 100_000,
            jobs_max_age: Span::from_secs(25 * 3600),
            results_max_bytes: ByteSize(512 * MIB),
            results_max_age: Span::from_secs(24 * 3600),
            bodies_max_bytes: ByteSize(512 * MIB),
            bodies_max_age: Span::from_secs(3600),
            config_max_bytes: ByteSize(64 * MIB),
            policy_max_bytes: ByteSize(64 * MIB),
            audit_max_bytes: ByteSize(64 * MIB),
            audit_max_age: Span::from_secs(400 * 24 * 3600),
            duplicate_window: Span::from_secs(120),
        }
    }
}

/// The streams, bodies included.
pub fn streams(tenancy: Tenancy, options: &StorageOptions) -> Vec<StreamSpec> {
    let base = |name: &str, subject: &str, max_bytes: u64| StreamSpec {
        replicas: options.replicas,
        duplicate_window: options.duplicate_window.get(),
        ..StreamSpec::new(name, &[subject], max_bytes)
    };
    vec![
        StreamSpec { discard: Discard::New, ..base(LEDGER, subjects::LEDGER_ALL, options.ledger_max_bytes.0) },
        StreamSpec { discard: Discard::New, ..base(GRACE, subjects::GRACE_ALL, options.grace_max_bytes.0) },
        StreamSpec {
            max_age: Some(options.calls_max_age.get()),
            ..base(CALLS, &tenancy.calls(), options.calls_max_bytes.0)
        },
        StreamSpec {
            retention: Retention::WorkQueue,
            discard: Discard::New,
            max_messages: Some(options.jobs_max_messages),
            max_age: Some(options.jobs_max_age.get()),
            ..base(JOBS, subjects::JOBS_ALL, options.jobs_max_bytes.0)
        },
        StreamSpec {
            max_age: Some(options.results_max_age.get()),
            max_msgs_per_subject: Some(1),
            ..base(RESULTS, &tenancy.responses(), options.results_max_bytes.0)
        },
        StreamSpec {
            subjects: Vec::new(),
            sources: vec![policy(options).stream().name, config(options).stream().name],
            max_age: Some(options.audit_max_age.get()),
            ..base(AUDIT, "", options.audit_max_bytes.0)
        },
        objects::bodies_spec(BODIES, options.bodies_max_bytes.0, options.bodies_max_age.get(), options.replicas),
    ]
}

/// The buckets.
pub fn buckets(options: &StorageOptions) -> Vec<BucketSpec> {
    let leases = BucketSpec {
        // Marks of expired leases only need to outlive a look-up.
        key_ttl: Some(Duration::from_secs(60)),
        replicas: options.replicas,
        ..BucketSpec::new(LEASES, MIB)
    };
    vec![leases, config(options), policy(options)]
}

fn config(options: &StorageOptions) -> BucketSpec {
    BucketSpec {
        history: CONFIG_HISTORY,
        replicas: options.replicas,
        ..BucketSpec::new(CONFIG, options.config_max_bytes.0)
    }
}

fn policy(options: &StorageOptions) -> BucketSpec {
    BucketSpec {
        // The audit is copied from it: a value that is replaced at once must still be there when the copy is made.
        history: 16,
        replicas: options.replicas,
        ..BucketSpec::new(POLICY, options.policy_max_bytes.0)
    }
}

/// Makes everything that is missing and changes what differs. Safe to run by every role at every start.
pub async fn ensure_topology(bus: &Bus, tenancy: Tenancy, options: &StorageOptions) -> Result<(), StreamError> {
    // A stream is copied from a bucket.
    for spec in buckets(options) {
        bus.ensure_bucket(&spec).await?;
    }
    for spec in streams(tenancy, options) {
        bus.ensure_stream(&spec).await?;
    }
    Ok(())
}
