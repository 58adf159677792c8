//! The admin API over gRPC, on a real NATS server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod calls;
mod config;
mod deadline;
mod gate;
mod grpcurl;
mod keys;
mod rules;
mod tls;
mod world;
