//! The admin API: keys, tenants, budgets, limits, models, calls, the config and the record of changes, over gRPC.
//!
//! **Does.** [`Service`] serves the services of `proto/farebox/admin/v1`, with the standard health and reflection
//! services beside them, in plain text or TLS.
//!
//! **Guarantees.** Nothing but health and reflection is answered to anybody without credentials, and every method needs a
//! role. A change is stored only if everything still fits together, only over what its author has seen, and with who made
//! it and why; the same request twice is done once. A key's text is in the one answer that makes it; hashes are in none.
//! Keys that cannot be checked right now are `UNAVAILABLE`, never `UNAUTHENTICATED`.
//!
//! **Does not.** It counts nothing (guard and accounting do) and keeps nothing (`directory` does). What rules mean is in
//! `policy`.
//!
//! Subjects: asks `farebox.v1.guard.<shard>.budgets`, `farebox.v1.usage` and `farebox.v1.accounting.check`; hears
//! `llm.<project>.call.*`.

mod api;
mod audit;
mod budgets;
mod calls;
mod config;
mod config_book;
mod deed;
mod entities;
mod error;
mod gate;
mod health;
mod incoming;
mod keys;
mod limits;
mod models;
mod options;
mod paging;
mod refusal;
mod service;
mod tenants;

pub use api::Offers;
pub use config_book::{ConfigBook, ConfigReader, ConfigRefusal};
pub use error::Error;
pub use gate::{MASTER, MASTER_MIN};
pub use options::Options;
pub use refusal::DOMAIN;
pub use service::{Deps, Nameable, Service};

/// The generated messages, clients and servers of `proto/farebox/admin/v1`.
#[expect(clippy::allow_attributes, reason = "generated servers have them")]
pub mod v1 {
    tonic::include_proto!("farebox.admin.v1");
}

/// The compiled descriptor set of the API, for reflection.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/farebox.admin.v1.binpb"));
