#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod check;
mod clickhouse;
mod crashes;
mod usage;
mod world;
