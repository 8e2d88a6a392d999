//! Copies between a FileStorage and a cluster: every transaction with its tid, metadata, back
//! pointers, deletions and order of records; as a stream, in either direction.
//!
//! One thing does not come back: of several records of an object in one transaction, the cluster
//! has the last one only, which is the one that ZODB loads.

mod args;
mod export;
mod import;
mod order;
mod progress;
mod same;

pub use args::{Direction, MigrateArgs};
pub use export::export;
pub use import::import;
pub use progress::Progress;

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Transactions.
    pub transactions: u64,
    /// Records of objects in them.
    pub records: u64,
    /// Records beside these that a later one of the same object and transaction replaces.
    pub left_out: u64,
    /// Bytes of their data.
    pub bytes: u64,
}
