//! Whole-system suites: real servers, real processes, and what a user notices of them.

mod account;
mod books;
mod bounds;
mod bus;
mod bytes;
mod chaos;
mod cluster;
mod dialects;
mod fault_budget;
mod fault_guard;
mod fault_roles;
mod fault_workers;
mod foreign;
mod input;
mod jobs;
mod layers;
mod limits;
mod live;
mod load;
mod project_keys;
mod recordings;
mod secrets;
mod stage;
mod tapes;
mod tenants;
mod up;
