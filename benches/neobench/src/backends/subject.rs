//! What is done to a database, with neo and without: the same values, in the same batches, with the
//! same syncs.

use anyhow::Result;
use bytes::Bytes;

/// Partitions that objects are spread over, by their oids.
pub(super) const PARTITIONS: u64 = 12;

/// An object's state.
#[derive(Debug, Clone)]
pub(super) struct Revision {
    /// Which object.
    pub(super) oid: u64,
    /// When.
    pub(super) tid: u64,
    /// The id of its value, which is new.
    pub(super) data: u64,
    /// The value.
    pub(super) value: Bytes,
}

/// Revisions of one tid.
pub(super) type Transaction = Vec<Revision>;

/// A database, through a backend of neo or without one.
pub(super) trait Subject {
    /// Writes a transaction in one batch, as import and replication do; it need not be durable.
    fn fill(&mut self, transaction: Transaction) -> Result<()>;

    /// Makes everything durable.
    fn sync(&mut self) -> Result<()>;

    /// Commits transactions that come together, with two syncs, as a storage node does: of the
    /// values, before it votes, and of what makes them final.
    fn commit(&mut self, group: Vec<Transaction>) -> Result<()>;

    /// The size of an object's newest value.
    fn load(&mut self, oid: u64) -> Result<usize>;

    /// Reads every revision with its value, in the order of (tid, oid) in each partition; how many
    /// bytes the values have.
    fn scan(&mut self) -> Result<u64>;

    /// Removes every revision that is not its object's newest; how many. `None` without neo, which
    /// has to find them.
    fn pack(&mut self) -> Result<Option<u64>>;

    /// Ends well.
    fn close(self: Box<Self>) -> Result<()>;
}

/// Makes values of which no two are alike, and that nothing makes smaller.
#[derive(Debug)]
pub(super) struct Source {
    state: u64,
    data: u64,
    tid: u64,
}

impl Source {
    /// Of what follows the ids given.
    pub(super) const fn after(tid: u64, data: u64) -> Self {
        Self {
            state: 0x9e37_79b9_7f4a_7c15,
            data,
            tid,
        }
    }

    /// The last tid and id.
    pub(super) const fn last(&self) -> (u64, u64) {
        (self.tid, self.data)
    }

    /// The next transaction, which gives these objects new values.
    pub(super) fn transaction(
        &mut self,
        oids: impl IntoIterator<Item = u64>,
        bytes: usize,
    ) -> Transaction {
        self.tid += 1;
        let mut revision = |oid| {
            self.data += 1;
            Revision {
                oid,
                tid: self.tid,
                data: self.data,
                value: value(&mut self.state, bytes),
            }
        };
        oids.into_iter().map(&mut revision).collect()
    }
}

fn value(state: &mut u64, bytes: usize) -> Bytes {
    let mut value = Vec::with_capacity(bytes + 8);
    while value.len() < bytes {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        value.extend_from_slice(&state.to_le_bytes());
    }
    value.truncate(bytes);
    value.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nothing_is_made_twice() {
        let mut source = Source::after(7, 100);
        let first = source.transaction(0..3, 21);
        let second = source.transaction(0..3, 21);
        let all: Vec<&Revision> = first.iter().chain(&second).collect();
        assert!(all.iter().all(|revision| revision.value.len() == 21));
        let values: BTreeSet<&Bytes> = all.iter().map(|revision| &revision.value).collect();
        assert_eq!(values.len(), 6);
        let ids: Vec<(u64, u64)> = all.iter().map(|r| (r.tid, r.data)).collect();
        assert_eq!(
            ids,
            [(8, 101), (8, 102), (8, 103), (9, 104), (9, 105), (9, 106)]
        );
        assert_eq!(source.last(), (9, 106));
    }
}
