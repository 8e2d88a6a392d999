//! The real programs, as an operator runs them.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod guide;
mod harness;
mod memory;
mod migrate;
mod migrate_packed;
mod nodes;
mod simple;
mod usage;
