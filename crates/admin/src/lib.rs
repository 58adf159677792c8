//! The admin API: keys, tenants, budgets, limits, models, calls and the record of changes, over gRPC.

mod config_book;

pub use config_book::{ConfigBook, ConfigReader, ConfigRefusal};

/// The generated messages, clients and servers of `proto/farebox/admin/v1`.
pub mod v1 {
    tonic::include_proto!("farebox.admin.v1");
}

/// The compiled descriptor set of the API, for reflection.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/farebox.admin.v1.binpb"));
