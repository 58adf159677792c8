//! One binary for all integration tests of the dialects.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod decode;
mod encode;
mod laws;
mod outline;
mod render;
mod rewrite;
mod tape;
mod typed;
