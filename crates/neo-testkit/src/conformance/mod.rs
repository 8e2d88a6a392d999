//! Suites that a storage backend, an engine or a transport runs in one line.

pub mod backend;
pub mod engine;
pub mod transport;
