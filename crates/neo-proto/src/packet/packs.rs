//! What messages about packs are made of.

use neo_api::{Partition, Tid};
use serde::{Deserialize, Serialize};

/// How far a cell is packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackState {
    /// The last order that was applied, with all before it.
    pub done: Tid,
    /// The last order that something was removed for, here or where the cell was copied from.
    pub begun: Tid,
    /// The greatest `at` of the orders that were begun: of what objects were before it, something
    /// may be gone.
    pub at: Tid,
    /// The greatest `at` of those that concern every object, or of which it is not known any more
    /// which they concern.
    pub whole_at: Tid,
    /// The greatest tid of a revision that was removed: the cell went that far, whatever is left.
    pub removed: Tid,
    /// The greatest tid of a transaction of which nothing is left, not even its metadata.
    pub emptied: Tid,
    /// Another number after each removal.
    pub removals: u64,
}

/// A readable cell of the node that tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedCell {
    /// Of which partition.
    pub partition: Partition,
    /// The last order that was applied, with all before it.
    pub done: Tid,
    /// The greatest `at` of the orders that were begun.
    pub at: Tid,
    /// The greatest `at` of those that concern every object.
    pub whole_at: Tid,
}

/// How far the cluster is packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackProgress {
    /// The last order that is known, if one is under way: the tid of its transaction.
    pub order: Option<Tid>,
    /// Readable cells that have applied it.
    pub cells_done: u32,
    /// Readable cells.
    pub cells: u32,
    /// The greatest `at` of the orders that were begun: what was before may be incomplete.
    pub packed_at: Tid,
    /// The greatest `at` of those that concern every object: nothing up to there can be undone.
    pub whole_packed_at: Tid,
}
