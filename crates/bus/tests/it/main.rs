//! The bus over a real nats-server.

mod calls;
mod connection;
mod durable;
mod jobs;
mod leases;
mod server;
