//! The worker: calls providers.
//!
//! It takes admitted work, executes its plan (encode, call, decode, relay, retry, fall back), answers the caller, and
//! has the guard record how each attempt ended. It is the only role with provider keys.
//!
//! Guarantees: no provider is called without a reservation: the one function that opens a request takes it by value; an
//! attempt is settled whether the caller is still there or not; a stream without the provider's own end is an error,
//! never an answer; a call at whose address nobody listens any more is stopped; a worker whose lease has run out by its own clock sends nothing until the guard has answered.
//!
//! Not here: routing, prices (pinned in the plan), budgets.
//!
//! Subjects: takes `farebox.v1.work.default`; hears `llm.cancel.<request id>` and `farebox.v1.cancel`; publishes to the
//! caller's reply subject and, for answers that are kept, on `llm.response.<request id>`.

mod attempt;
mod billing;
mod counts;
mod error;
mod guard;
mod heartbeat;
mod held;
mod hush;
mod keys;
mod listeners;
mod options;
mod reply;
mod reservation;
mod run;
mod sent;
mod service;
mod upstream;

pub use error::Error;
pub use keys::ProjectSecrets;
pub use options::Options;
pub use service::{Deps, Service};
pub use upstream::{ClientError, Connection, Upstream};
