//! A worker over a real NATS server.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod edge;
mod grants;
mod listeners;
mod world;
