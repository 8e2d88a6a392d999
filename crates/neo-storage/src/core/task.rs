//! Long requests of the primary: what recovery and verification ask, and truncation. One at a
//! time, in the order asked.
//!
//! Outside of service each waits until every write of an earlier period is done: what verification
//! is told must not change by a write that was still on its way.

mod truncation;

use std::collections::VecDeque;

use neo_api::{
    BackendResult, Durability, LastIds, OPERATION_OBJECTS_MAX, ObjectData, Oid, Partition,
    Partitioning, Reign, RevisionId, Tid, TxnId, UnfinishedTransaction, VotedRecord, WriteBatch,
    WriteOp,
};
use neo_proto::{CellLastIds, ErrorCode, FinalTid, Packet, WireLastIds};

use self::truncation::{Found, Truncation};
use super::cells::Cells;
use super::effect::{Query, QueryResult};
use super::io::{AfterPersist, AfterRead, Asker, Io, code_of, words};
use super::transaction::{UNLOCK_PAGE, committed};

/// Transactions in one answer.
const LOCKED_PAGE: usize = 1_000;

/// A request that waits for its turn.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) asker: Asker,
    pub(crate) packet: Packet,
}

/// The requests of the primary.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    pub(crate) queue: VecDeque<Waiting>,
    current: Option<Task>,
    /// Of the current one; what is left of earlier ones is told apart by it.
    number: u64,
}

#[derive(Debug)]
struct Task {
    asker: Asker,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Locked,
    FinalTid,
    LastIds,
    Validate(Validate),
    Truncate(Truncation),
    PackOrders,
    /// Of a partition, in the period since which it is readable.
    Remaining(Partition, u64),
}

#[derive(Debug)]
struct Validate {
    txn: TxnId,
    tid: Tid,
    record: Option<VotedRecord>,
    after: Option<Oid>,
    last: bool,
}

impl Tasks {
    pub(crate) const fn is_busy(&self) -> bool {
        self.current.is_some()
    }

    /// The primary is gone.
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.current = None;
    }

    /// Starts one of the requests that take several steps.
    pub(crate) fn start(&mut self, cells: &Cells, io: &mut Io<'_>, waiting: Waiting) {
        let Waiting { asker, packet } = waiting;
        self.number += 1;
        let (kind, query) = match packet {
            Packet::AskLockedTransactions { after } => {
                let limit = LOCKED_PAGE;
                (Kind::Locked, Query::Unfinished { after, limit })
            }
            Packet::AskFinalTid { txn } => {
                let Some(partitioning) = cells.partitioning() else {
                    return no_table(io, asker);
                };
                let partition = partitioning.of_tid(txn.ttid);
                (Kind::FinalTid, Query::FinalTid { partition, txn })
            }
            Packet::AskLastIds {} => {
                let partitions = cells.all_readable();
                (Kind::LastIds, Query::LastIds { partitions })
            }
            Packet::AskValidateTransaction { txn, tid } => {
                let validate = Validate {
                    txn,
                    tid,
                    record: None,
                    after: None,
                    last: false,
                };
                (Kind::Validate(validate), Query::UnfinishedOne { txn })
            }
            Packet::AskTruncate { after } => {
                let kind = Kind::Truncate(Truncation::new(after, cells));
                self.current = Some(Task { asker, kind });
                return self.truncate(io);
            }
            Packet::AskPackOrders {
                partitions,
                after,
                max,
            } => {
                if partitions.iter().any(|p| cells.readable(*p).is_none()) {
                    let text = "this node has no readable cell of one of the partitions";
                    return io.error(asker, ErrorCode::NonReadableCell, text);
                }
                let query = Query::PackOrders {
                    partitions,
                    after,
                    max,
                };
                (Kind::PackOrders, query)
            }
            Packet::AskRemaining { partition, at, ids } => {
                let Some(period) = cells.readable(partition) else {
                    let text = "this node has no readable cell of the partition";
                    return io.error(asker, ErrorCode::NonReadableCell, text);
                };
                if ids.len() > OPERATION_OBJECTS_MAX {
                    let text = format!("more than {OPERATION_OBJECTS_MAX} revisions at once");
                    return io.error(asker, ErrorCode::TooLarge, text);
                }
                let query = Query::Remaining { partition, at, ids };
                (Kind::Remaining(partition, period), query)
            }
            other => {
                let text = format!("{} is not understood here", other.name());
                return io.error(asker, ErrorCode::Protocol, text);
            }
        };
        self.current = Some(Task { asker, kind });
        io.read(query, AfterRead::Task(self.number));
    }

    /// A read of the current request is done.
    pub(crate) fn found(
        &mut self,
        cells: &Cells,
        io: &mut Io<'_>,
        number: u64,
        result: BackendResult<QueryResult>,
    ) {
        let Some(task) = self.current.as_mut().filter(|_| number == self.number) else {
            return;
        };
        let asker = task.asker;
        let found = match result {
            Ok(found) => found,
            Err(error) => {
                self.current = None;
                return io.error(asker, code_of(&error), words(&error));
            }
        };
        match (&mut task.kind, found) {
            (Kind::Locked, QueryResult::Unfinished(page)) => {
                let more = page.len() == LOCKED_PAGE;
                let transactions = page.into_iter().map(|u| (u.txn, u.tid)).collect();
                let answer = Packet::AnswerLockedTransactions { transactions, more };
                self.finish(io, answer);
            }
            (Kind::FinalTid, QueryResult::FinalTid(tid)) => {
                let tid = tid.map_or(FinalTid::NotCommitted, FinalTid::Committed);
                self.finish(io, Packet::AnswerFinalTid { tid });
            }
            (Kind::LastIds, QueryResult::LastIds(all)) => {
                let answer = last_ids(&all, io.jobs.committed_in());
                self.finish(io, answer);
            }
            (Kind::PackOrders, QueryResult::PackOrders { orders, complete }) => {
                self.finish(io, Packet::AnswerPackOrders { orders, complete });
            }
            (Kind::Remaining(partition, period), QueryResult::Remaining(remaining)) => {
                // What is not found in a cell that is not readable any more may just be gone.
                let answer = if cells.readable(*partition) == Some(*period) {
                    Packet::AnswerRemaining { remaining }
                } else {
                    let message = "the cell is not readable any more".to_owned();
                    let code = ErrorCode::NonReadableCell;
                    Packet::Error { code, message }
                };
                self.finish(io, answer);
            }
            (Kind::Validate(_), QueryResult::Unfinished(page)) => {
                self.validate(io, page.into_iter().next());
            }
            (Kind::Validate(validate), QueryResult::UnfinishedObjects(page)) => {
                let Some(partitioning) = cells.partitioning() else {
                    self.current = None;
                    return no_table(io, asker);
                };
                let objects: Vec<_> = page.into_iter().map(|o| (o.oid, o.data)).collect();
                let (mut batch, durability) = validate.page(cells, partitioning, &objects);
                if let Some(op) = io.jobs.note_commit(validate.txn.reign) {
                    batch.push(op);
                }
                io.persist_surely(batch, durability, AfterPersist::Task(number));
            }
            (Kind::Truncate(truncation), found) => match truncation.found(cells, found) {
                Found::Page(ops) => self.remove(io, ops),
                Found::Packed(at) => {
                    let after = truncation.after;
                    let text = format!(
                        "cannot go back to {after}: this node is packed up to {at}, and what \
                         replaced the revisions that went would go too"
                    );
                    self.current = None;
                    io.error(asker, ErrorCode::Denied, text);
                }
                Found::Odd => {
                    self.current = None;
                    io.error(asker, ErrorCode::Internal, "the node failed");
                }
            },
            _ => {
                self.current = None;
                io.error(asker, ErrorCode::Internal, "the node failed");
            }
        }
    }

    /// A write of the current request is done.
    pub(crate) fn persisted(&mut self, io: &mut Io<'_>, number: u64) {
        let Some(task) = self.current.as_ref().filter(|_| number == self.number) else {
            return;
        };
        match &task.kind {
            Kind::Validate(validate) if validate.last => {
                let txn = validate.txn;
                self.finish(io, Packet::AnswerTransactionValidated { txn });
            }
            Kind::Validate(validate) => {
                let query = Query::UnfinishedObjects {
                    txn: validate.txn,
                    after: validate.after,
                    limit: UNLOCK_PAGE,
                };
                io.read(query, AfterRead::Task(number));
            }
            Kind::Truncate(truncation) if truncation.is_done() => {
                let after = truncation.after;
                self.finish(io, Packet::AnswerTruncated { after });
            }
            Kind::Truncate(_) => self.truncate(io),
            Kind::Locked
            | Kind::FinalTid
            | Kind::LastIds
            | Kind::PackOrders
            | Kind::Remaining(..) => {}
        }
    }

    fn finish(&mut self, io: &mut Io<'_>, answer: Packet) {
        if let Some(task) = self.current.take() {
            io.answer(task.asker, answer);
        }
    }

    /// The row of the transaction, if it is not moved yet.
    fn validate(&mut self, io: &mut Io<'_>, row: Option<UnfinishedTransaction>) {
        let number = self.number;
        let Some(Task {
            asker,
            kind: Kind::Validate(validate),
        }) = &mut self.current
        else {
            return;
        };
        let (txn, tid) = (validate.txn, validate.tid);
        let Some(row) = row else {
            // Moved before; that may not be durable yet.
            validate.last = true;
            let nothing = WriteBatch::new();
            return io.persist_surely(nothing, Durability::Synced, AfterPersist::Task(number));
        };
        if let Some(other) = row.tid.filter(|other| *other != tid) {
            let text = format!("transaction {txn} is locked here with {other}, not {tid}");
            io.error(*asker, ErrorCode::Internal, text);
            self.current = None;
            return;
        }
        validate.record = row.record;
        // The tid first: whatever part of the rest survives a crash comes with it.
        let lock = WriteBatch::from(vec![WriteOp::LockUnfinished { txn, tid }]);
        io.persist_surely(lock, Durability::Buffered, AfterPersist::Task(number));
    }

    /// Looks for the next page to remove.
    fn truncate(&mut self, io: &mut Io<'_>) {
        let number = self.number;
        let Some(Task {
            kind: Kind::Truncate(truncation),
            ..
        }) = &mut self.current
        else {
            return;
        };
        match truncation.query() {
            Some(query) => io.read(query, AfterRead::Task(number)),
            None => {
                let nothing = WriteBatch::new();
                io.persist_surely(nothing, Durability::Synced, AfterPersist::Task(number));
            }
        }
    }

    fn remove(&mut self, io: &mut Io<'_>, ops: Vec<WriteOp>) {
        if ops.is_empty() {
            return self.truncate(io);
        }
        let batch = WriteBatch::from(ops);
        let then = AfterPersist::Task(self.number);
        io.persist_surely(batch, Durability::Buffered, then);
    }
}

impl Validate {
    /// Moves a page of objects; with the last goes the row.
    fn page(
        &mut self,
        cells: &Cells,
        partitioning: Partitioning,
        objects: &[(Oid, ObjectData)],
    ) -> (WriteBatch, Durability) {
        let (txn, tid) = (self.txn, self.tid);
        let mut batch = WriteBatch::new();
        for &(oid, data) in objects {
            let partition = partitioning.of_oid(oid);
            match data {
                _ if cells.readable(partition).is_some() => batch.push(WriteOp::PutObject {
                    partition,
                    id: RevisionId { tid, oid },
                    data,
                }),
                // A cell that is out of date fetches it; one that was discarded leaves nothing.
                ObjectData::Value(id) => batch.push(WriteOp::DeleteData { ids: vec![id] }),
                ObjectData::SameAs(_) | ObjectData::Deleted => {}
            }
        }
        self.after = objects.last().map(|(oid, _)| *oid).or(self.after);
        self.last = objects.len() < UNLOCK_PAGE;
        if !self.last {
            return (batch, Durability::Buffered);
        }
        let home = partitioning.of_tid(tid);
        if let Some(record) = self.record.take().filter(|_| cells.is_writable(home)) {
            batch.push(committed(home, txn, tid, record));
        }
        batch.push(WriteOp::DropUnfinished { txn });
        (batch, Durability::Synced)
    }
}

/// The answer that tells the greatest ids of the readable cells, together and of each.
fn last_ids(all: &[(Partition, LastIds)], committed_in: Reign) -> Packet {
    let ids = WireLastIds {
        first_tid: all.iter().filter_map(|(_, ids)| ids.first_tid).min(),
        last_tid: all.iter().filter_map(|(_, ids)| ids.last_tid()).max(),
        last_oid: all.iter().filter_map(|(_, ids)| ids.last_oid).max(),
    };
    let cell = |(partition, ids): &(Partition, LastIds)| CellLastIds {
        partition: *partition,
        transaction: ids.last_transaction,
        revision: ids.last_revision,
    };
    Packet::AnswerLastIds {
        ids,
        version: None,
        cells: all.iter().map(cell).collect(),
        committed_in,
    }
}

fn no_table(io: &mut Io<'_>, asker: Asker) {
    let text = "this node has no partition table";
    io.error(asker, ErrorCode::NotReady, text);
}
