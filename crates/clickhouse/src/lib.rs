//! ClickHouse: the table of calls, written exactly once and asked with bound parameters, over HTTP.
//!
//! Guarantees:
//! - an insert belongs to a [`Term`] and is refused by ClickHouse itself once a later term has begun; [`Client::open_term`]
//!   returns when no insert of an earlier term is running, so what is read after it does not change by itself;
//! - an insert goes out as RowBinary in one piece, with a deduplication token; every error says whether it may have
//!   happened all the same ([`Error::certainty`]);
//! - money is a `Decimal(38, 12)`, from an integer to an integer: no float touches it;
//! - the schema grows by numbered migrations that only add; a schema newer than this program is refused.
//!
//! Not here: which rows are written and when (`farebox-accounting`), a server (`farebox-parts`), TLS, rollups: every
//! question is answered from `calls`.

mod calls;
mod client;
mod error;
mod options;
mod rowbinary;
mod schema;
mod term;
mod usage;

pub use calls::{CallRow, Position};
pub use client::Client;
pub use error::{Certainty, Error};
pub use options::Options;
pub use term::Term;
pub use usage::{DaySum, GroupBy, Period, UsageSum};
