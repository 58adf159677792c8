//! How a farebox process lives and ends: named tasks, one drain signal, OS signals and the ready file.
//!
//! **Does.** [`Tasks`] spawns every task of the process under a name and waits for all of them at the end.
//! [`Drain`] is the one signal that says "take nothing new, finish what is in flight"; its [`DrainTrigger`] gives it.
//! [`Tasks::run`] ties them together with Ctrl-C and SIGTERM. [`write_ready_file`] tells scripts where to connect.
//! [`listener`] takes connections, in TLS where the config says so; [`bounds`] says what is wrong with options like theirs;
//! [`shares`] counts what one source holds of what all share.
//!
//! **Guarantees.** A task that fails or panics drains the whole process, and the error names it. A task that does not
//! end within the drain timeout is aborted, and the error names it. Nothing here is global.
//!
//! **Does not.** It starts no runtime and calls no `exit`: the binary does.

pub mod bounds;
mod drain;
pub mod listener;
mod ready;
pub mod shares;
mod signals;
mod tasks;
mod tls;

pub use drain::{Drain, DrainTrigger, drain};
pub use ready::{ReadyFileError, write_ready_file};
pub use signals::Signals;
pub use tasks::{RunError, TaskFailure, TaskOutput, Tasks};
