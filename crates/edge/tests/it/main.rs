//! The edge over a real NATS server.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bodies;
mod calls;
mod connections;
mod listing;
mod raw;
mod shares;
mod streams;
mod world;
