//! Recorded exchanges with providers, and whether the dialects read them as they are.
//!
//! **Does.** [`meaning`] reads from the raw bytes of an exchange what it says: text, tool calls, finish, usage, error.
//! [`check`] decodes the same bytes with `farebox-dialect` and compares. [`mutate`] changes the bytes a little and
//! expects the comparison to fail, so that a green one means something.
//!
//! **Guarantees.** What is expected shares no code with what is checked: [`meaning`] and `wire` know `serde_json` and
//! nothing of farebox. A directory that nobody has seen before is read as far as it goes: what cannot be checked is
//! counted with its reason.
//!
//! **Does not.** It calls nobody and keeps nothing.

mod carried;
pub mod check;
pub mod exchange;
pub mod family;
pub mod meaning;
pub mod mutate;
pub mod report;
mod wire;
