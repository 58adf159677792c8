//! Fuzzing of the dialects: inputs made by changing what is on tape, and laws that hold for every one of them.
//!
//! **Does.** [`targets`] lists a target for each decoder, parser and body editor; [`Fuzzer`] draws inputs for them from a
//! seed. The same seed draws the same inputs. An input that breaks a law is made smaller while it still does.
//!
//! **Does not.** It has no feedback from coverage: that takes a nightly compiler. What makes up for it is that inputs
//! are changed in their own form: frames, JSON values, checksums.

mod corpus;
mod frames;
mod fuzzer;
mod grammar;
mod json;
mod mutate;
mod targets;

pub use self::{
    fuzzer::{Failure, Fuzzer},
    grammar::grammar,
    targets::{Target, targets},
};
