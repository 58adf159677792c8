//! Accounts, callout and permissions over a real nats-server in operator mode.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod callers;
mod changes;
mod roles;
mod world;
