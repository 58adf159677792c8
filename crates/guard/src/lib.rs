//! The guard: the one writer of budgets.
//!
//! It admits a call by a reservation in all budgets of the call or in none, and records how each attempt ended, once.
//! Every batch of decisions is one message of the ledger stream (`farebox.v1.ledger.<shard>`), written behind a fence
//! and stored before anyone is answered; a restart replays it.
//!
//! The rules are those of its directory, which may change at any time; a record in the ledger says all that a replay needs,
//! so that the rules of that time need not be known.
//!
//! Guarantees: settled and reserved money of a hard budget's window exceed its limit only where a provider billed a call
//! above what was reserved, where a raise has ended, or where the budget allows to go on without a guard; limits let
//! through what they say, with any number of intakes; what has no room now, and may have it once running calls have ended,
//! waits a bounded time before its output is limited or it is refused; the first end of an attempt is its end; when a worker
//! has been silent for a lease, its calls end as `lost` at their reserved bound, the fact is published and the callers are
//! told, in this order; what was admitted while no guard led is taken over. Two guards never decide at the same time: a
//! lease says who tries, the fence says who may write.
//!
//! Not here: prices (intake pins them, workers compute with them), and rows (accounting derives them from the ledger).
//!
//! Subjects: answers `farebox.v1.guard.<shard>.{reserve,amend,settle,release,heartbeat,lookup,budgets,books}`;
//! takes over `farebox.v1.grace.<shard>`; publishes `llm.call.<call id>`, `llm.event.<call id>` and `llm.alert.<budget>`, and
//! to the callers of lost calls on their reply subjects and `llm.response.<request id>`.

mod announce;
mod error;
mod handler;
mod leases;
mod ledger;
mod options;
mod rules;
mod service;
mod waiting;

pub use error::Error;
pub use options::Options;
pub use service::{Deps, Service};
