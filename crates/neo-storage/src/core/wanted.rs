//! What peers may read: the queries that it takes, and the answers that are made of what is found.

use bytes::{Bytes, BytesMut};
use neo_api::{
    At, FetchedRevision, Loaded, Oid, Order, PageLimit, Partition, RevisionId, Tid, TxnId,
};
use neo_proto::{
    ErrorCode, FinalTid, ObjectAnswer, Packet, WireRevision, WireTransaction, WireValue,
};

use super::cells::Cells;
use super::effect::{Query, QueryResult};
use super::io::{Asker, Io};
use super::transaction::Transactions;

/// Most entries of an answer.
const PAGE_ENTRIES_MAX: usize = 10_000;
/// An answer ends with the entry that reaches this many bytes.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// What a peer wants to read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    Object {
        oid: Oid,
        at: At,
    },
    Transaction {
        tid: Tid,
    },
    Transactions {
        partition: Partition,
        min: Tid,
        max: Tid,
        entries: u32,
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
    FinalTid {
        txn: TxnId,
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

impl Wanted {
    pub(crate) fn partition(&self, cells: &Cells) -> Option<Partition> {
        match *self {
            Self::Object { oid, .. } => cells.readable_of_oid(oid),
            Self::Transaction { tid } => cells.readable_of_tid(tid),
            Self::FinalTid { txn } => cells.readable_of_tid(txn.ttid),
            Self::Transactions { partition, .. }
            | Self::Revisions { partition, .. }
            | Self::RevisionIds { partition, .. } => cells.readable(partition).map(|_| partition),
        }
    }

    /// The locked transactions that the answer has to wait for. Those locked later have greater
    /// tids than any that the peer can know to be committed: they are not waited for, so that a
    /// read always gets its turn.
    pub(crate) fn block(&self, txns: &Transactions) -> Option<Block> {
        match *self {
            Self::Object { oid, at } => {
                let tid = txns.locked_at(oid)?;
                let concerned = match at {
                    At::Latest => true,
                    At::Before(before) => tid < before,
                    At::Exact(exact) => tid == exact,
                };
                concerned.then_some(Block::At(tid))
            }
            Self::Transaction { tid } => txns.is_locked(tid).then_some(Block::At(tid)),
            Self::Transactions { max, .. }
            | Self::Revisions { max, .. }
            | Self::RevisionIds { max, .. } => txns.greatest_locked(max).map(Block::UpTo),
            Self::FinalTid { .. } => None,
        }
    }

    pub(crate) fn query(&self, partition: Partition) -> Query {
        match *self {
            Self::Object { oid, at } => Query::Load { partition, oid, at },
            Self::Transaction { tid } => Query::Transaction { partition, tid },
            Self::FinalTid { txn } => Query::FinalTid { partition, txn },
            Self::Transactions {
                min, max, entries, ..
            } => Query::Transactions {
                partition,
                min,
                max,
                order: Order::Ascending,
                limit: PageLimit {
                    entries: (entries as usize).clamp(1, PAGE_ENTRIES_MAX),
                    bytes: PAGE_BYTES_MAX,
                },
            },
            Self::Revisions {
                min, max, bytes, ..
            } => Query::Fetch {
                partition,
                min,
                max,
                limit: PageLimit {
                    entries: PAGE_ENTRIES_MAX,
                    bytes: (bytes as usize).clamp(1, PAGE_BYTES_MAX),
                },
            },
            Self::RevisionIds {
                min, max, entries, ..
            } => Query::Revisions {
                partition,
                min,
                max,
                limit: ids_limit(entries),
            },
        }
    }
}

/// Object bytes of the answer; of lists, about as many bytes as were read.
pub(crate) fn payload_bytes(found: &QueryResult) -> usize {
    match found {
        QueryResult::Load(Loaded::Found(revision)) => revision.record.data.len(),
        QueryResult::Fetch { page, .. } => {
            let records = page.iter().filter_map(|revision| revision.record.as_ref());
            records.map(|record| record.data.len()).sum()
        }
        QueryResult::Revisions(ids) => ids.len() * size_of::<RevisionId>(),
        QueryResult::Transactions { page, .. } => {
            let oids = page.iter().map(|record| record.oids.len());
            oids.map(|n| 64 + n * size_of::<Oid>()).sum()
        }
        _ => 0,
    }
}

/// The serial of a revision that is found and that no other one follows.
pub(crate) const fn newest_serial(found: &QueryResult) -> Option<Tid> {
    match found {
        QueryResult::Load(Loaded::Found(revision)) if revision.next_serial.is_none() => {
            Some(revision.serial)
        }
        QueryResult::Load(Loaded::Deleted {
            serial,
            next_serial: None,
        }) => Some(*serial),
        _ => None,
    }
}

pub(crate) fn answer(io: &mut Io<'_>, asker: Asker, wanted: Wanted, found: QueryResult) {
    match (wanted, found) {
        (Wanted::Object { oid, .. }, QueryResult::Load(loaded)) => {
            let (answer, data) = object_answer(loaded);
            io.answer_with(asker, Packet::AnswerObject { oid, answer }, data);
        }
        (_, QueryResult::Transaction(found)) => {
            let transaction = found.map(|record| Box::new(WireTransaction::from(*record)));
            io.answer(asker, Packet::AnswerTransactionInformation { transaction });
        }
        (_, QueryResult::Transactions { page, complete }) => {
            let transactions = page.into_iter().map(Into::into).collect();
            let answer = Packet::AnswerTransactions {
                transactions,
                complete,
            };
            io.answer(asker, answer);
        }
        (_, QueryResult::Fetch { page, complete }) => {
            let (revisions, payload) = wire_revisions(page);
            let answer = Packet::AnswerRevisions {
                revisions,
                complete,
            };
            io.answer_with(asker, answer, payload);
        }
        (Wanted::RevisionIds { entries, .. }, QueryResult::Revisions(ids)) => {
            let complete = ids.len() < ids_limit(entries);
            io.answer(asker, Packet::AnswerRevisionIds { ids, complete });
        }
        (_, QueryResult::FinalTid(tid)) => {
            let tid = tid.map_or(FinalTid::NotCommitted, FinalTid::Committed);
            io.answer(asker, Packet::AnswerFinalTid { tid });
        }
        _ => io.error(asker, ErrorCode::Internal, "the node failed"),
    }
}

fn ids_limit(entries: u32) -> usize {
    (entries as usize).clamp(1, PAGE_ENTRIES_MAX)
}

fn object_answer(loaded: Loaded) -> (ObjectAnswer, Bytes) {
    let answer = match loaded {
        Loaded::Found(revision) => {
            let answer = ObjectAnswer::Found {
                serial: revision.serial,
                next_serial: revision.next_serial,
                compression: revision.record.compression,
                checksum: revision.record.checksum,
                data_serial: revision.data_serial,
            };
            return (answer, revision.record.data);
        }
        Loaded::Deleted {
            serial,
            next_serial,
        } => ObjectAnswer::Deleted {
            serial,
            next_serial,
        },
        Loaded::NotYet => ObjectAnswer::NotYet,
        Loaded::Unknown => ObjectAnswer::Unknown,
    };
    (answer, Bytes::new())
}

fn wire_revisions(page: Vec<FetchedRevision>) -> (Vec<WireRevision>, Bytes) {
    let sizes = page.iter().filter_map(|revision| revision.record.as_ref());
    let mut payload = BytesMut::with_capacity(sizes.map(|record| record.data.len()).sum());
    let revisions = page.into_iter().map(|revision| {
        let value = revision.record.map(|record| {
            payload.extend_from_slice(&record.data);
            WireValue {
                compression: record.compression,
                checksum: record.checksum,
                // Values have 64 MiB at most.
                bytes: record.data.len() as u32,
            }
        });
        WireRevision {
            id: revision.id,
            value,
            data_serial: revision.data_serial,
        }
    });
    let revisions = revisions.collect();
    (revisions, payload.freeze())
}
