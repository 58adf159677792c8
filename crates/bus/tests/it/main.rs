//! The bus over a real nats-server.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod api;
mod calls;
mod connection;
mod durable;
mod jobs;
mod leases;
mod roads;
mod server;
mod traces;
