//! What farebox's tests start and steer: a real nats-server and a real ClickHouse on free ports, a `farebox` process,
//! a TCP proxy with faults, recorded exchanges for the provider emulator, and the comparison of its bill with the rows.
//!
//! Guarantees: everything listens on the loopback address and a free port; everything that was started ends with its
//! handle, and at the latest with the test process; waiting is waiting for a condition, with a name and a bound.
//!
//! Depends on no crate that it helps to test (but for the words of `types`), so that each of those can use it.

mod books;
mod clickhouse;
mod dice;
mod eventually;
mod nats;
mod ports;
mod process;
mod proxy;
mod servers;
mod tape;

pub use books::{Matched, Row, compare};
pub use clickhouse::TestClickHouse;
pub use dice::Dice;
pub use eventually::{PATIENCE, eventually};
pub use farebox_emulator as emulator;
pub use farebox_parts::Launcher;
pub use nats::{NatsBuilder, TestNats};
pub use ports::free_port;
pub use process::{Process, ProcessBuilder, has_ended};
pub use proxy::{Captured, Direction, FaultProxy};
pub use servers::{fetch_servers, nats_program};
pub use tape::{Expect, ExpectedToolCall, Tape, TapeRequest, TapeResponse};
