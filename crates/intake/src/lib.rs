//! Intake: where requests enter.
//!
//! It reads a caller's message, takes who is calling from the connection, decides which models may serve, has the guard
//! reserve the money, and hands the call to the pool of workers. It stores jobs and runs them. It has no provider's key
//! and opens no connection to a provider.
//!
//! Guarantees: a request is admitted with a reservation or refused with a reason; what is reserved is the most that it can
//! cost, and of what has no bound the guard is told why; work that nobody took is given back;
//! a request id that was used before is attached to or answered from what is stored, never paid twice; a job is
//! acknowledged only once its final answer is stored; while no guard leads, only that is admitted whose budgets allow it,
//! and no more than they allow.
//!
//! Not here: budgets (guard), providers (worker).
//!
//! Subjects: answers `llm.request`, `llm.job`, `llm.result.<request id>`, and `llm.cancel.<request id>` for jobs that wait;
//! `farebox.v1.edge.{request,cancel,lookup}` of the HTTP edge; offers work on `farebox.v1.work.default`, says cancels to
//! workers on `farebox.v1.cancel`.

mod admit;
mod answer;
mod authorise;
mod cancel;
mod edge;
mod error;
mod explain;
mod grace;
mod jobs;
mod live;
mod options;
mod queries;
mod request;
mod route;
mod said;
mod service;
mod size;

pub use error::Error;
pub use explain::{Explained, Question, explain};
pub use options::{Options, WithoutGuard};
pub use route::Routes;
pub use service::{Deps, Service};
