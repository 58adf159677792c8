//! Logs, and the trace context that travels with a call.
//!
//! **Does.** [`init`] installs the process's subscriber: text or JSON lines on standard error. [`TraceContext`] reads and
//! writes W3C `traceparent` and makes child spans.
//!
//! **Guarantees.** A broken `traceparent` is never passed on. Randomness is given by the caller.
//!
//! **Does not.** It exports nothing yet: spans leave the process as log lines only.

mod logs;
mod trace;

pub use logs::{Format, InitError, Options, init};
pub use trace::{InvalidTraceParent, TRACEPARENT, TraceContext};
