//! What clients do in tests, with what must be true of it.

mod bank;

pub use bank::{Bank, Work};
