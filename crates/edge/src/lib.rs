//! The HTTP edge: programs that speak OpenAI's or Anthropic's API point their base URL here.
//!
//! **Does.** Takes HTTP/1.1 and HTTP/2, finds out who is calling, turns a request into an `EdgeRequest` on the bus and what
//! comes back into the answer that the caller's SDK expects: whole or as server-sent events, errors in the caller's own shape,
//! farebox's facts in headers.
//!
//! **Guarantees.** Every request ends: with the whole answer, or with a typed error, inside the stream once it has begun. An
//! answer that is not complete never ends like one that is. A client that goes is noticed, and its call stopped (or read to
//! its end, where that costs little: `worker.drain_up_to`). Bodies, headers, times and connections are bounded ([`Options`]), and what one
//! project or address may have of them.
//!
//! **Does not.** It holds no provider's logic and no key of a provider, reads no body (intake does; it looks whether a stream is
//! asked for, only where nothing has come for `first_piece_wait`), routes nothing and decides about no budget.
//!
//! | module | its job |
//! |---|---|
//! | `service` | binds, serves connections, drains |
//! | `routes` | which path is which endpoint |
//! | `access` | who is calling |
//! | `ask` | an HTTP request as `EdgeRequest` |
//! | `call` | one call on the bus: what arrives, and the cancel when its caller has gone |
//! | `doubt` | whether its answer can still come after a loss of the connection |
//! | `whole`, `stream` | its answer as HTTP |
//! | `room` | room for requests and bodies, and each source's share of it |
//! | `held` | what a request holds until its answer is taken |
//! | `flow` | what waits for a client that reads slowly |
//! | `patience` | a connection whose client must take what is written |
//! | `facts` | headers that say what it took, and what is left |
//! | `failure` | an error in the caller's shape |
//! | `body` | the body of a request, whole and unpacked |
//! | `models`, `health` | what is answered here |
//! | `cors` | which web pages may call |

mod access;
mod app;
mod ask;
mod body;
mod call;
mod cors;
mod doubt;
mod error;
mod facts;
mod failure;
mod flow;
mod health;
mod held;
mod models;
mod options;
mod patience;
mod room;
mod routes;
mod service;
mod stream;
mod whole;

pub use app::{Deps, Offered};
pub use error::Error;
pub use health::{guard_answers, intake_answers, worker_answers};
pub use options::{CorsOptions, Options};
pub use service::Service;
