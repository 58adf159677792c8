//! Whole-system suites: real servers, real processes, and what a user notices of them.

mod books;
mod chaos;
mod cluster;
mod fault_budget;
mod fault_roles;
mod fault_workers;
mod load;
