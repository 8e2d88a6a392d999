//! Copies between a FileStorage and a cluster: every transaction with its tid, metadata, back
//! pointers, deletions and order of records; as a stream, in either direction.

mod args;
mod export;
mod import;
mod order;
mod progress;

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
    /// Bytes of their data.
    pub bytes: u64,
}
