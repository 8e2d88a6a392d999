//! What peers may read, what that waits for, and the queries that it takes.

mod answer;
mod asked;

use neo_api::{
    At, OPERATION_OBJECTS_MAX, Oid, Order, PageLimit, Partition, RevisionId, Tid, TxnId,
};

use super::cells::Cells;
use super::effect::Query;
use super::transaction::Transactions;

pub(crate) use answer::{answer, newest_serials, payload_bytes, tells_newest};

/// Most entries of an answer.
const PAGE_ENTRIES_MAX: usize = 10_000;
/// Most objects that a page of them looks at, so that others get their turn.
const PAGE_OBJECTS_MAX: usize = 1_000;
/// An answer ends with the entry that reaches this many bytes.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// What a peer wants to read.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    Object {
        oid: Oid,
        at: At,
    },
    Objects {
        objects: Vec<(Oid, At)>,
    },
    History {
        oid: Oid,
        before: Tid,
        entries: u32,
    },
    Transaction {
        tid: Tid,
    },
    Transactions {
        partition: Partition,
        min: Tid,
        max: Tid,
        entries: u32,
        order: Order,
    },
    Revisions {
        partition: Partition,
        min: RevisionId,
        max: Tid,
        bytes: u32,
    },
    RevisionIds {
        partition: Partition,
        min: RevisionId,
        max: Tid,
        entries: u32,
    },
    Current {
        partition: Partition,
        min: Oid,
        at: Tid,
        bytes: u32,
        values: bool,
    },
    Undo {
        partition: Partition,
        undone: Tid,
        before: Tid,
        oids: Vec<Oid>,
    },
    FinalTid {
        txn: TxnId,
    },
    Size {
        partition: Partition,
    },
    PackState {
        partition: Partition,
    },
}

/// What a read waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Block {
    /// The transaction of this tid.
    At(Tid),
    /// Every transaction locked at or below this tid.
    UpTo(Tid),
}

impl Block {
    /// Whether it is still to be waited for.
    pub(crate) fn holds(self, txns: &Transactions) -> bool {
        match self {
            Self::At(tid) => txns.is_locked(tid),
            Self::UpTo(tid) => txns.greatest_locked(tid).is_some(),
        }
    }
}

impl Wanted {
    /// Whether more is asked for at once than is answered.
    pub(crate) fn is_too_much(&self) -> bool {
        match self {
            Self::Objects { objects } => objects.len() > OPERATION_OBJECTS_MAX,
            Self::Undo { oids, .. } => oids.len() > OPERATION_OBJECTS_MAX,
            _ => false,
        }
    }

    /// Of several objects, keeps those before the first that is not readable here, if it is not the
    /// very first.
    pub(crate) fn keep_readable(&mut self, cells: &Cells) {
        if let Self::Objects { objects } = self {
            let readable = objects
                .iter()
                .take_while(|(oid, _)| cells.readable_of_oid(*oid).is_some());
            let count = readable.count().max(1);
            objects.truncate(count);
        }
    }

    /// The period since which all that is wanted is readable, if it is. A partition that stops to
    /// be readable and is again makes it another one.
    pub(crate) fn period(&self, cells: &Cells) -> Option<u64> {
        let partitioning = cells.partitioning()?;
        let partition = match self {
            Self::Object { oid, .. } | Self::History { oid, .. } => partitioning.of_oid(*oid),
            Self::Transaction { tid } => partitioning.of_tid(*tid),
            Self::FinalTid { txn } => partitioning.of_tid(txn.ttid),
            Self::Objects { objects } => {
                let mut period = None;
                for (oid, _) in objects {
                    period = period.max(Some(cells.readable(partitioning.of_oid(*oid))?));
                }
                return period;
            }
            Self::Transactions { partition, .. }
            | Self::Revisions { partition, .. }
            | Self::RevisionIds { partition, .. }
            | Self::Current { partition, .. }
            | Self::Undo { partition, .. }
            | Self::Size { partition }
            | Self::PackState { partition } => *partition,
        };
        cells.readable(partition)
    }

    /// The locked transactions that the answer has to wait for. Those locked later have greater
    /// tids than any that the peer can know to be committed: they are not waited for, so that a
    /// read always gets its turn.
    pub(crate) fn block(&self, txns: &Transactions) -> Option<Block> {
        let up_to = |max| txns.greatest_locked(max).map(Block::UpTo);
        match self {
            Self::Object { oid, at } => concerns(*at, txns.locked_at(*oid)?).map(Block::At),
            Self::Objects { objects } => {
                let locked = objects
                    .iter()
                    .filter_map(|(oid, at)| concerns(*at, txns.locked_at(*oid)?));
                locked.max().map(Block::UpTo)
            }
            Self::Transaction { tid } => txns.is_locked(*tid).then_some(Block::At(*tid)),
            Self::History { before, .. } | Self::Undo { before, .. } => {
                up_to(Tid(before.0.checked_sub(1)?))
            }
            Self::Transactions { max, .. }
            | Self::Revisions { max, .. }
            | Self::RevisionIds { max, .. } => up_to(*max),
            Self::Current { at, .. } => up_to(*at),
            Self::FinalTid { .. } | Self::Size { .. } | Self::PackState { .. } => None,
        }
    }

    /// The lock of something that is wanted as it was before: see [`super::read`].
    pub(crate) fn later(&self, txns: &Transactions) -> Option<Block> {
        match self {
            Self::Object { oid, .. } => txns.locked_at(*oid).map(Block::At),
            Self::Objects { objects } => {
                let locked = objects.iter().filter_map(|(oid, _)| txns.locked_at(*oid));
                locked.max().map(Block::UpTo)
            }
            _ => None,
        }
    }

    /// What to read, where the partitions are known.
    pub(crate) fn query(&self, cells: &Cells) -> Option<Query> {
        let partitioning = cells.partitioning()?;
        Some(match *self {
            Self::Object { oid, at } => {
                let partition = partitioning.of_oid(oid);
                Query::Load { partition, oid, at }
            }
            Self::Objects { ref objects } => {
                let of = |&(oid, at): &(Oid, At)| (partitioning.of_oid(oid), oid, at);
                Query::LoadMany {
                    objects: objects.iter().map(of).collect(),
                    bytes: PAGE_BYTES_MAX,
                }
            }
            Self::History {
                oid,
                before,
                entries,
            } => Query::History {
                partition: partitioning.of_oid(oid),
                oid,
                before,
                limit: entries_limit(entries),
            },
            Self::Transaction { tid } => {
                let partition = partitioning.of_tid(tid);
                Query::Transaction { partition, tid }
            }
            Self::FinalTid { txn } => {
                let partition = partitioning.of_tid(txn.ttid);
                Query::FinalTid { partition, txn }
            }
            Self::Size { .. } => Query::Bytes {
                partitions: cells.own().count(),
            },
            Self::PackState { partition } => Query::PackStates {
                partitions: vec![partition],
            },
            Self::Transactions {
                partition,
                min,
                max,
                entries,
                order,
            } => Query::Transactions {
                partition,
                min,
                max,
                order,
                limit: PageLimit {
                    entries: entries_limit(entries),
                    bytes: PAGE_BYTES_MAX,
                },
            },
            Self::Revisions {
                partition,
                min,
                max,
                bytes,
            } => Query::Fetch {
                partition,
                min,
                max,
                limit: bytes_limit(PAGE_ENTRIES_MAX, bytes),
            },
            Self::RevisionIds {
                partition,
                min,
                max,
                entries,
            } => Query::Revisions {
                partition,
                min,
                max,
                limit: entries_limit(entries),
            },
            Self::Current {
                partition,
                min,
                at,
                bytes,
                values,
            } => Query::Current {
                partition,
                min,
                at,
                values,
                limit: bytes_limit(PAGE_OBJECTS_MAX, bytes),
            },
            Self::Undo {
                partition,
                undone,
                before,
                ref oids,
            } => Query::Undo {
                partition,
                undone,
                before,
                oids: oids.clone(),
            },
        })
    }
}

/// The tid at which an object is locked, if that changes what is wanted.
fn concerns(at: At, locked: Tid) -> Option<Tid> {
    let is_concerned = match at {
        At::Latest => true,
        At::Before(before) => locked < before,
        At::Exact(exact) => locked == exact,
    };
    is_concerned.then_some(locked)
}

fn entries_limit(entries: u32) -> usize {
    (entries as usize).clamp(1, PAGE_ENTRIES_MAX)
}

fn bytes_limit(entries: usize, bytes: u32) -> PageLimit {
    PageLimit {
        entries,
        bytes: (bytes as usize).clamp(1, PAGE_BYTES_MAX),
    }
}
