//! The command line as an admin: every function of the admin API as a command. It speaks gRPC like any other client
//! and has no other way in.
//!
//! Exit codes are those of the agent's commands. With `--json`, answers are the API's messages in protobuf's JSON form.

mod audit;
mod budget;
mod calls;
mod config;
mod connect;
mod desk;
mod entity;
mod in_force;
mod key;
mod limit;
mod model;
mod refusal;
mod scope;
mod tenant;
mod write;

pub(crate) use audit::AuditArgs;
pub(crate) use budget::BudgetArgs;
pub(crate) use calls::CallsArgs;
pub(crate) use config::ConfigCommand;
pub(crate) use connect::Access;
pub(crate) use in_force::in_force;
pub(crate) use key::KeyArgs;
pub(crate) use limit::LimitArgs;
pub(crate) use model::ModelArgs;
pub(crate) use tenant::{GroupArgs, OrganisationArgs, ProjectArgs};
