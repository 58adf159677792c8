//! The command line as an agent: it speaks the contract over the bus like any other caller and has no other way in.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 used wrongly, 3 no connection. What was asked for goes to standard output,
//! everything said about it to standard error.

mod answer;
mod call;
mod connect;
mod fact;
pub(crate) mod failure;
mod output;
mod period;
mod progress;
mod recent;
mod request;
mod table;
mod usage;
mod watch;

pub(crate) use call::CallArgs;
pub(crate) use connect::GivenKey;
pub(crate) use fact::line as call_line;
pub(crate) use failure::Failure;
#[cfg(test)]
pub(crate) use output::captured;
pub(crate) use output::{Output, clean};
pub(crate) use period::{Moment, wall};
pub(crate) use recent::{RecentArgs, table as calls_table};
pub(crate) use table::{Align, render};
pub(crate) use usage::{By, UsageArgs, as_table as usage_table};
pub(crate) use watch::WatchArgs;
