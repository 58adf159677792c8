#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod process;
mod proxy;
mod servers;
mod tape;
