//! Suites that an implementation of an SDK trait runs in one line.

pub mod backend;
pub mod transport;
