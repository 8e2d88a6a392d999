//! Suites that a storage backend or a transport runs in one line.

pub mod backend;
pub mod transport;
