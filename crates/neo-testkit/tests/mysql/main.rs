//! The MySQL backend and what happens to its server: it is away, ends, forgets, is full, or is not
//! what it should be.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod crash;
mod fence;
mod full;
#[path = "../../../neo-backends/tests/support/golden.rs"]
mod golden;
mod proxy;
mod settings;
mod upgrade;
mod work;
