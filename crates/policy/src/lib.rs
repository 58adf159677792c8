//! Who may do what, and how much: organisations, projects, keys, budgets and limits, as values.
//!
//! Guarantees: everything here is a pure function of its arguments. A [`Policies`] is one state of all rules, checked as
//! a whole; which windows of which budgets a call falls into follows from the rule, the call and the time alone.
//!
//! Not here: where policies are kept and watched (`directory`), who counts (`guard`), and who asks (`intake`).

mod budget;
mod call;
mod check;
mod convert;
mod forms;
mod key;
mod limit;
mod meter;
mod owner;
mod period;
mod policies;
mod scope;
mod tenant;
mod written;

pub use budget::{Budget, Permille, Raise, Unreachable, WhenShort, Window};
pub use call::CallScope;
pub use check::{Known, NAME_MAX, is_name};
pub use key::{AdminRole, Key, KeyFault, KeyHash, KeyId, KeyText, NoKey, Pepper, Pins};
pub use limit::{Limit, Measure, Rate, Strategy};
pub use meter::Meter;
pub use period::{Calendar, Period, UnknownPeriod, UnknownZone, Zone};
pub use policies::{Policies, PolicyFault, PolicyFaults};
pub use scope::{Dimension, Pick, Scope};
pub use tenant::{KeyGroup, Organisation, ProjectPolicy};
pub use written::{
    BudgetOptions, GroupOptions, KeyOptions, LimitOptions, OrganisationOptions, ProjectOptions, Written,
};
