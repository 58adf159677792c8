//! The directory over a real nats-server.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod live;
mod store;
mod world;
