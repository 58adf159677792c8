//! The real servers that `farebox up` starts itself, nats-server and ClickHouse: where they come from, how they are
//! started, watched and ended.
//!
//! Guarantees:
//! - what is fetched is pinned by version and SHA-256, unpacked aside and renamed into place under a file lock: a
//!   cache directory holds a whole part or none, whatever died on the way;
//! - `start` returns when the server answers, with the address it really listens on, or says why it does not;
//! - on Linux a server dies with the process that started it, even at SIGKILL; a dropped handle kills its server.
//!
//! Does not: write nats-server's config, speak NATS or SQL, restart what died (its owner is told), name a registry's
//! host (`pip` and `npm` are used as the machine has them set up).
//!
//! The one crate with unsafe code: [`serve_chdb`] loads the ClickHouse library, and [`Child`] prepares a process
//! between fork and exec.

mod chdb;
mod child;
mod clickhouse;
mod error;
mod fetch;
mod limits;
mod nats;
mod net;
mod unpack;

pub use chdb::{ServeError, ServeOptions, serve_chdb};
pub use child::{Child, ChildSpec, Exit};
pub use clickhouse::{ClickHouse, ClickHouseEngine, ClickHouseOptions, Launcher};
pub use error::PartsError;
pub use fetch::{Fetch, Progress};
pub use limits::Limits;
pub use nats::{NatsInfo, NatsOptions, NatsServer};
pub use net::free_port;
pub use rustix::process::Signal;
