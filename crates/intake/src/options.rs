//! Options of intake.

use farebox_types::{ByteSize, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bounds of requests, and how jobs are run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Requests that are being admitted at the same time; more are answered with `unavailable`.
    pub max_in_flight: usize,
    /// The largest body of a request.
    pub body_max: ByteSize,
    /// The longest label (actor, task id, session, end user, tag), in bytes.
    pub label_max: ByteSize,
    /// The most tags of one request.
    pub tags_max: usize,
    /// Deadline of a live request that names none.
    pub default_deadline: Span,
    /// Deadline of a job that names none.
    pub default_job_deadline: Span,
    /// The latest deadline that is accepted; later ones are brought down to it.
    pub max_deadline: Span,
    /// How long one message to the guard may take before it is sent again.
    pub guard_timeout: Span,
    /// How long the guard is asked in all before the request is refused.
    pub guard_deadline: Span,
    /// How long no guard may have answered before a call goes on without one, where all its budgets allow that
    /// (`unreachable`).
    pub grace_after: Span,
    /// What becomes of calls that count in no budget while no guard leads.
    pub without_guard: WithoutGuard,
    /// How often a reservation without a guard is written again when another intake was first.
    pub grace_tries: usize,
    /// How long a reservation is given back that the guard did not confirm. Not below the guard's lease: what is not
    /// given back in time counts as spent.
    pub release_deadline: Span,
    /// How long after an offer a worker's refusal is still heard. Who takes the work answers nothing.
    pub offer_wait: Span,
    /// How long a worker is looked for before the request is refused.
    pub worker_deadline: Span,
    /// Pause between two offers of the same work.
    pub offer_pause: Span,
    /// Output limit that is set for a model whose own is not known, where the caller gives none.
    pub assumed_max_output_tokens: u64,
    /// Output tokens that an answer is expected to have whose caller gives no limit: what limits on tokens are held for until
    /// the truth is known.
    pub assumed_answer_tokens: u64,
    /// The most other deployments that are named to the guard, for calls whose first one has no room in its provider's limits.
    pub alternatives_max: usize,
    /// Input tokens that a provider may add for tools.
    pub tool_overhead_tokens: u64,
    /// The most input tokens that one image or recording in the body may cost beyond its bytes.
    pub media_tokens_max: u64,
    /// The most input tokens that one document in the body may cost beyond its bytes: providers read its pages as text
    /// and as images, and it is compressed.
    pub document_tokens_max: u64,
    /// Searches that are reserved for an answer of a model that searches the web of its own accord.
    pub searches_max: u64,
    /// The most answers (`n`) that one request may ask for.
    pub choices_max: u64,
    /// Jobs that one intake runs at the same time.
    pub jobs_in_flight: u32,
    /// How long a job may go without a sign of life from its intake before another one takes it.
    pub job_ack_wait: Span,
    /// How often a job is run before it is given up with a final answer.
    pub job_runs_max: u64,
    /// Pause before a job is run again; it doubles with each run, up to 32 times.
    pub job_retry_pause: Span,
    /// The longest pause between two tries to start a job while a part of farebox is away.
    pub job_wait_max: Span,
    /// How long storing a job or an answer may take.
    pub store_timeout: Span,
    /// How long the answer of a call that has ended already is waited for.
    pub result_wait: Span,
}

/// What becomes of a call while no guard leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WithoutGuard {
    /// It is refused.
    #[default]
    Closed,
    /// It goes on.
    Open,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            max_in_flight: 8192,
            body_max: ByteSize(32 * 1024 * 1024),
            label_max: ByteSize(256),
            tags_max: 32,
            default_deadline: Span::from_secs(600),
            default_job_deadline: Span::from_secs(24 * 60 * 60),
            max_deadline: Span::from_secs(24 * 60 * 60),
            guard_timeout: Span::from_secs(2),
            guard_deadline: Span::from_secs(10),
            grace_after: Span::from_secs(2),
            without_guard: WithoutGuard::Closed,
            grace_tries: 100,
            release_deadline: Span::from_secs(10),
            offer_wait: Span::from_millis(300),
            worker_deadline: Span::from_secs(3),
            offer_pause: Span::from_millis(50),
            assumed_max_output_tokens: 16_384,
            assumed_answer_tokens: 1_000,
            alternatives_max: 8,
            tool_overhead_tokens: 1_024,
            media_tokens_max: 8_192,
            document_tokens_max: 524_288,
            searches_max: 32,
            choices_max: 128,
            jobs_in_flight: 64,
            job_ack_wait: Span::from_secs(30),
            job_runs_max: 5,
            job_retry_pause: Span::from_millis(500),
            job_wait_max: Span::from_secs(10),
            store_timeout: Span::from_secs(3),
            result_wait: Span::from_secs(3),
        }
    }
}
