//! Whole-system suites: real servers, real processes, and what a user notices of them.

mod books;
mod cluster;
mod fault_workers;
mod load;
