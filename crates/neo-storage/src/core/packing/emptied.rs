//! Transactions that a pack empties: what nothing is left of is forgotten, and what lost a part is
//! marked.
//!
//! The objects of a transaction are in many partitions, its metadata in one. A node that keeps it
//! asks, where the objects are, which of their revisions the pack leaves. The answer does not depend
//! on how far that cell is with the pack: so every cell can end its own pass alone. What is on other
//! nodes it asks through the primary.
//!
//! The name of a transaction tells a client, which was cut off before it learnt it, that it is
//! committed. So for some time the name stays, without anything else: a transaction without objects
//! that is marked as packed is one that is gone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use neo_api::{
    BackendResult, Durability, OPERATION_OBJECTS_MAX, Order, PackOrder, PageLimit, Partition,
    Partitioning, RevisionId, Tid, TransactionMeta, TransactionRecord, WriteBatch, WriteOp,
};
use neo_proto::{ErrorCode, MsgId, Packet, shown};

use super::{Packing, Pass, Place, Step};
use crate::core::cells::Cells;
use crate::core::effect::{Query, QueryResult};
use crate::core::io::{AfterPersist, AfterRead, Io, words};

/// Bytes of metadata that a step looks at.
const PAGE_BYTES: usize = 256 << 10;
/// The name of a transaction stays until a pack is ordered that is so much later.
const NAMES_KEPT: Duration = Duration::from_secs(3_600);

/// Revisions of a partition; with the tid of the pack, if it concerns them.
#[derive(Debug)]
struct Question {
    partition: Partition,
    at: Option<Tid>,
    ids: Vec<RevisionId>,
}

/// A page of transactions, and what is found out of it.
#[derive(Debug)]
pub(super) struct Emptied {
    page: Vec<TransactionRecord>,
    /// What is to be asked: the first one is being asked.
    questions: VecDeque<Question>,
    remaining: BTreeSet<RevisionId>,
    /// The period since which the partition is readable here where it is being read.
    period: Option<u64>,
    /// It goes to the primary.
    unsent: Option<Packet>,
    /// It went there.
    sent: Option<MsgId>,
}

impl Emptied {
    fn new(page: Vec<TransactionRecord>, order: &PackOrder, partitioning: Partitioning) -> Self {
        let mut groups: BTreeMap<(Partition, Option<Tid>), Vec<RevisionId>> = BTreeMap::new();
        for record in &page {
            for &oid in &record.oids {
                let at = order.concerns(oid).then_some(order.at);
                let group = groups.entry((partitioning.of_oid(oid), at)).or_default();
                group.push(RevisionId {
                    tid: record.tid,
                    oid,
                });
            }
        }
        let mut questions = VecDeque::new();
        for ((partition, at), mut ids) in groups {
            // What is known of an object is of use for all of its revisions.
            ids.sort_unstable_by_key(|id| (id.oid, id.tid));
            let parts = ids.chunks(OPERATION_OBJECTS_MAX).map(<[_]>::to_vec);
            questions.extend(parts.map(|ids| Question { partition, at, ids }));
        }
        Self {
            page,
            questions,
            remaining: BTreeSet::new(),
            period: None,
            unsent: None,
            sent: None,
        }
    }

    /// What is to be written for order `id`, and the greatest tid of what goes as a whole.
    fn writes(&self, partition: Partition, id: Tid) -> (Vec<WriteOp>, Tid) {
        let (mut ops, mut emptied) = (Vec::new(), Tid::ZERO);
        for record in self.page.iter().filter(|record| !is_whole(record)) {
            let tid = record.tid;
            let oids = record.oids.iter().copied();
            let left = oids.filter(|&oid| self.remaining.contains(&RevisionId { tid, oid }));
            let left: Vec<_> = left.collect();
            if left.len() == record.oids.len() && !left.is_empty() {
                continue;
            }
            let meta = match left.is_empty() {
                true => TransactionMeta::default(),
                false => record.meta.clone(),
            };
            let part = TransactionRecord {
                oids: left,
                packed: true,
                meta,
                ..record.clone()
            };
            if !part.oids.is_empty() || is_kept(record, id) {
                if part != *record {
                    let record = part;
                    ops.push(WriteOp::PutTransaction { partition, record });
                }
            } else {
                ops.push(WriteOp::DeleteTransaction { partition, tid });
                emptied = emptied.max(tid);
            }
        }
        (ops, emptied)
    }
}

/// Whether a transaction never had objects that could be packed.
fn is_whole(record: &TransactionRecord) -> bool {
    record.oids.is_empty() && !record.is_emptied()
}

/// Whether the name of a transaction stays, when a pack is ordered by another one.
fn is_kept(record: &TransactionRecord, order: Tid) -> bool {
    // Its tid may be imposed, and old.
    record.txn.is_some_and(|txn| {
        let age = order.to_unix().0.saturating_sub(txn.ttid.to_unix().0);
        age < NAMES_KEPT.as_micros() as i64
    })
}

impl Packing {
    /// Looks at the next page of transactions.
    pub(super) fn look_at_transactions(&mut self, io: &mut Io<'_>, pass: Pass, min: Tid) {
        let Some(order) = self.orders.get(pass.order) else {
            return;
        };
        self.number += 1;
        self.step = Some(Step::new(io.now.mono));
        let query = Query::Transactions {
            partition: pass.partition,
            min,
            max: order.at,
            order: Order::Ascending,
            limit: PageLimit {
                entries: self.rows,
                bytes: PAGE_BYTES,
            },
        };
        io.read(query, AfterRead::Packable(self.number));
    }

    /// A page of transactions was read.
    pub(crate) fn transactions_found(
        &mut self,
        cells: &Cells,
        io: &mut Io<'_>,
        number: u64,
        result: BackendResult<QueryResult>,
    ) {
        if number != self.number || self.step.is_none() {
            return;
        }
        let (page, complete) = match result {
            Ok(QueryResult::Transactions { page, complete }) => (page, complete),
            Ok(_) => return self.give_up_step(io),
            Err(error) => {
                tracing::warn!(error = %words(&error), "cannot list what a pack may empty");
                return self.give_up_step(io);
            }
        };
        let pass = self.valid_pass(cells);
        let order = pass.and_then(|pass| self.orders.get(pass.order));
        let (Some(order), Some(partitioning), Some(step)) =
            (order, cells.partitioning(), &mut self.step)
        else {
            self.step = None;
            return;
        };
        let next = page.last().and_then(|last| last.tid.checked_next());
        step.next = match next.filter(|_| !complete) {
            Some(next) => Place::Transaction(next),
            None => Place::End,
        };
        step.emptied = Some(Emptied::new(page, order, partitioning));
        self.ask_next(cells, io);
    }

    /// Asks what is left in the next partition; when nothing is to be asked any more, writes what
    /// follows.
    fn ask_next(&mut self, cells: &Cells, io: &mut Io<'_>) {
        let emptied = self.step.as_mut().and_then(|step| step.emptied.as_mut());
        let Some(emptied) = emptied else {
            return;
        };
        let Some(question) = emptied.questions.front() else {
            return self.write_emptied(cells, io);
        };
        let Question {
            partition,
            at,
            ref ids,
        } = *question;
        let ids = ids.clone();
        emptied.period = cells.readable(partition);
        if emptied.period.is_some() {
            let query = Query::Remaining { partition, at, ids };
            io.read(query, AfterRead::Remaining(self.number));
        } else {
            emptied.unsent = Some(Packet::AskRemaining { partition, at, ids });
        }
    }

    /// What the primary is to be asked, under a new id.
    pub(crate) fn take_question(
        &mut self,
        next_id: impl FnOnce() -> MsgId,
    ) -> Option<(MsgId, Packet)> {
        let emptied = self.step.as_mut()?.emptied.as_mut()?;
        let packet = emptied.unsent.take()?;
        let id = next_id();
        emptied.sent = Some(id);
        Some((id, packet))
    }

    /// What is left here was read.
    pub(crate) fn remaining_read(
        &mut self,
        cells: &Cells,
        io: &mut Io<'_>,
        number: u64,
        result: BackendResult<QueryResult>,
    ) {
        if number != self.number || self.step.is_none() {
            return;
        }
        // What is not found in a cell that is not readable any more may just be gone.
        let emptied = self.step.as_ref().and_then(|step| step.emptied.as_ref());
        let is_readable = emptied.is_some_and(|emptied| {
            let question = emptied.questions.front();
            let period = question.and_then(|question| cells.readable(question.partition));
            period.is_some() && period == emptied.period
        });
        match result {
            Ok(QueryResult::Remaining(remaining)) if is_readable => {
                self.answered(cells, io, remaining);
            }
            Ok(_) => self.give_up_step(io),
            Err(error) => {
                tracing::warn!(error = %words(&error), "cannot find out what a pack empties");
                self.give_up_step(io);
            }
        }
    }

    /// The primary told what is left elsewhere.
    pub(crate) fn told(&mut self, cells: &Cells, io: &mut Io<'_>, id: MsgId, remaining: Vec<bool>) {
        if self.take_sent(id) {
            self.answered(cells, io, remaining);
        }
    }

    /// The primary could not find it out: a node may be about to go, or to come.
    pub(crate) fn refused(&mut self, io: &Io<'_>, id: MsgId, (code, text): (ErrorCode, &str)) {
        if self.take_sent(id) {
            tracing::info!(%code, words = shown(text), "what a pack empties is asked for later");
            self.give_up_step(io);
        }
    }

    fn take_sent(&mut self, id: MsgId) -> bool {
        let emptied = self.step.as_mut().and_then(|step| step.emptied.as_mut());
        emptied.is_some_and(|emptied| emptied.sent.take_if(|sent| *sent == id).is_some())
    }

    fn answered(&mut self, cells: &Cells, io: &mut Io<'_>, remaining: Vec<bool>) {
        let emptied = self.step.as_mut().and_then(|step| step.emptied.as_mut());
        let Some(emptied) = emptied else {
            return;
        };
        let question = emptied.questions.pop_front();
        let ids = question.map_or_else(Vec::new, |question| question.ids);
        if ids.len() != remaining.len() {
            tracing::warn!(
                "an answer does not fit the question: what a pack empties is asked later"
            );
            return self.give_up_step(io);
        }
        let left = ids.into_iter().zip(remaining);
        let left = left.filter_map(|(id, is_left)| is_left.then_some(id));
        emptied.remaining.extend(left);
        self.ask_next(cells, io);
    }

    /// Everything is known of a page.
    fn write_emptied(&mut self, cells: &Cells, io: &mut Io<'_>) {
        let (Some(pass), Some(step)) = (self.valid_pass(cells), &mut self.step) else {
            self.step = None;
            return;
        };
        let (Some(order), Some(cell), Some((_, own)), Some(partitioning), Some(emptied)) = (
            self.orders.get(pass.order),
            self.cells.get(&pass.partition),
            cells.own().find(|(own, _)| *own == pass.partition),
            cells.partitioning(),
            step.emptied.take(),
        ) else {
            self.step = None;
            return;
        };
        let (partition, next) = (pass.partition, step.next);
        let (ops, greatest) = emptied.writes(partition, pass.order);
        if ops.is_empty() {
            self.step_done(io, emptied.page.len());
            return self.go_on(next);
        }
        let mut packed = cell.packed.clone();
        packed.begin(
            (pass.order, order),
            (partitioning, partition),
            std::iter::empty(),
        );
        packed.state.emptied = packed.state.emptied.max(greatest);
        let mut batch = WriteBatch::from(ops);
        packed.write(&mut batch, (partition, own.assigned), &cell.packed);
        step.packed = packed;
        let then = AfterPersist::Packed(self.number);
        io.persist(batch, Durability::Buffered, then);
    }
}
