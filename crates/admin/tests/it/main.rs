//! The admin API over gRPC, on a real NATS server.

mod calls;
mod config;
mod gate;
mod grpcurl;
mod keys;
mod rules;
mod tls;
mod world;
