//! `neostress`: real processes, broken in every way that a process can do to another, while clients
//! commit; then everything is checked.

pub mod args;
#[cfg(test)]
mod check_test;
mod copies;
mod faults;
mod history;
mod hub;
mod ledger;
pub(crate) mod node;
mod nodes;
mod purpose;
mod report;
mod run;
mod value;
mod worker;

pub use run::run;
