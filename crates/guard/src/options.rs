//! Options of the guard.

use farebox_policy::{Budget, Calendar, Dimension, Period, Permille, Pick, Scope, Unreachable, WhenShort, Zone};
use farebox_types::{ByteSize, Money, Project, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Budgets, leases and bounds of the guard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The most that all calls of a calendar day (UTC) together may cost; absent: no limit.
    pub max_cost_per_day: Option<Money>,
    /// The most that one task of a project may cost, as long as it lives; absent: no limit. Calls without a task id
    /// are not counted.
    pub max_cost_per_task: Option<Money>,
    /// How long a worker may be silent before its calls are recorded as lost.
    pub lease: Span,
    /// How often silent workers are looked for.
    pub expiry_interval: Span,
    /// The most decisions that are stored in one message.
    pub batch_max: usize,
    /// How long one attempt to store a batch may take before it is tried again.
    pub store_timeout: Span,
    /// How long a batch is tried in all before the guard gives up leading.
    pub store_deadline: Span,
    /// How long the guard takes at most to keep the answers to lost calls before it goes on; their callers are told all
    /// the same.
    pub keep_timeout: Span,
    /// How many of them are written at a time.
    pub keep_inflight: usize,
    /// How long the lead lasts when the guard that holds it dies.
    pub lead_ttl: Span,
    /// How long the guard answers what needs no write before it asks again whether it still leads; half of `lead_ttl` at
    /// most. Who was stopped and goes on has missed that another leads now.
    pub lead_check: Span,
    /// How long ended reservations are remembered, so that a repeated message is recognised.
    pub closed_memory: Span,
    /// The most of them that are remembered.
    pub closed_memory_max: usize,
    /// How long request ids that callers chose are remembered.
    pub request_memory: Span,
    /// The most of them that are remembered.
    pub request_memory_max: usize,
    /// How long a call waits for room that running calls may give back, before its output is limited or it is refused.
    /// Shorter than `intake.guard_deadline`.
    pub wait_for_holds: Span,
    /// How long a call waits for a deployment whose own limits have no room; longer waits are refused at once.
    pub limit_wait: Span,
    /// The most calls that wait at a time; more are decided at once.
    pub waiting_max: usize,
    /// The most of them that are of one key, or of one project without a key: nobody takes the places of all others.
    pub waiting_max_per_key: usize,
    /// How long a task's spend is remembered after its last call.
    pub task_memory: Span,
    /// The most windows of tasks, sessions and the like that are remembered for budgets that are not hard; the longest
    /// idle ones are forgotten first.
    pub task_memory_max: usize,
    /// For how many days the sums by project and day are kept that rows are compared with.
    pub books_days: u32,
    /// The largest reply about budgets and limits.
    pub status_max: ByteSize,
    /// After so much was written to the ledger, its state is stored and what lies before it is removed, once accounting
    /// has it.
    pub snapshot_every: ByteSize,
    /// The largest single message of such a snapshot.
    pub snapshot_part: ByteSize,
    /// Whether each call fact is also published as JSON on `llm.event.<call id>`.
    pub json_events: bool,
    /// The project of those who run farebox: told of budgets and limits that count calls of several projects together, in
    /// answers to its calls and by alerts, and of differences between the ledger and its rows.
    pub operators_project: Project,
}

impl Options {
    /// The budgets that `max_cost_per_day` and `max_cost_per_task` are short for.
    pub fn budgets(&self) -> impl Iterator<Item = Budget> {
        let hard = |name: &str, scope, period, limit: Money| Budget {
            name: name.to_owned(),
            scope: Scope(scope),
            period,
            time_zone: Zone::default(),
            limit,
            limit_text: format!("{limit} USD"),
            alert: vec![Permille(1000)],
            hard: true,
            when_short: WhenShort::Refuse,
            unbounded_ceiling: None,
            unreachable: Unreachable::Closed,
            raises: Vec::new(),
        };
        let day = self
            .max_cost_per_day
            .map(|limit| hard("max_cost_per_day", Vec::new(), Period::Calendar(Calendar::Day), limit));
        let task = self
            .max_cost_per_task
            .map(|limit| hard("max_cost_per_task", vec![(Dimension::Task, Pick::Each)], Period::Lifetime, limit));
        day.into_iter().chain(task)
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            max_cost_per_day: None,
            max_cost_per_task: None,
            lease: Span::from_secs(6),
            expiry_interval: Span::from_millis(500),
            batch_max: 512,
            store_timeout: Span::from_secs(2),
            store_deadline: Span::from_secs(30),
            keep_timeout: Span::from_secs(1),
            keep_inflight: 64,
            lead_ttl: Span::from_secs(2),
            lead_check: Span::from_secs(1),
            closed_memory: Span::from_secs(60),
            closed_memory_max: 50_000,
            request_memory: Span::from_secs(24 * 60 * 60),
            request_memory_max: 200_000,
            wait_for_holds: Span::from_secs(2),
            limit_wait: Span::from_secs(2),
            waiting_max: 4096,
            waiting_max_per_key: 512,
            task_memory: Span::from_secs(30 * 24 * 60 * 60),
            task_memory_max: 200_000,
            books_days: 40,
            status_max: ByteSize(512 * 1024),
            snapshot_every: ByteSize(32 * 1024 * 1024),
            snapshot_part: ByteSize(512 * 1024),
            json_events: true,
            operators_project: Project::default_project(),
        }
    }
}
