//! Deletion of what is left of cells that were discarded: in small steps, while nothing else waits.

use std::collections::BTreeSet;
use std::time::Duration;

use neo_api::{
    BackendResult, Durability, Instant, Oid, Order, PageLimit, Partition, RevisionId, Tid,
    WriteBatch, WriteOp,
};

use super::cells::Cells;
use super::effect::{Query, QueryResult};
use super::io::{AfterPersist, AfterRead, Io, words};

/// Rows of a step, at least and at most.
const ROWS: (usize, usize) = (50, 5_000);
/// A step should take about as long: a client may have to wait for its end.
const STEP: Duration = Duration::from_millis(10);
/// The pause after a step that failed.
const PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    Revisions,
    Transactions,
}

/// A partition that is being deleted.
#[derive(Debug, Clone, Copy)]
struct Current {
    partition: Partition,
    rows: Rows,
    deleted: u64,
}

/// What is left to delete.
#[derive(Debug)]
pub(crate) struct Drops {
    /// Partitions that may have rows and have no cell here.
    partitions: BTreeSet<Partition>,
    current: Option<Current>,
    /// The read or write that is under way began then.
    under_way: Option<Instant>,
    number: u64,
    /// Rows of the next step.
    rows: usize,
    not_before: Option<Instant>,
}

impl Drops {
    /// Every partition without a cell here is looked at, unless what is left of them is to stay.
    pub(crate) fn new(cells: &Cells, is_enabled: bool) -> Self {
        let all = cells.partitioning().into_iter().flat_map(|p| p.iter());
        let own: BTreeSet<Partition> = cells.assigned().into_iter().collect();
        Self {
            partitions: all.filter(|p| is_enabled && !own.contains(p)).collect(),
            current: None,
            under_way: None,
            number: 0,
            rows: ROWS.0,
            not_before: None,
        }
    }

    /// The partition table is another one: what is assigned again stays, with what is left of it.
    pub(crate) fn table_changed(&mut self, cells: &Cells, gone: &[Partition], is_enabled: bool) {
        if is_enabled {
            self.partitions.extend(gone);
        }
        for partition in cells.assigned() {
            self.partitions.remove(&partition);
        }
        if self.under_way.is_none() {
            self.leave_assigned();
        }
    }

    /// The partition of which rows may just be going.
    pub(crate) fn dropping(&self) -> Option<Partition> {
        self.current.map(|current| current.partition)
    }

    /// When a pause ends.
    pub(crate) const fn timeout(&self) -> Option<Instant> {
        self.not_before
    }

    /// Begins the next step, if there is one and nothing else waits.
    pub(crate) fn pump(&mut self, io: &mut Io<'_>, is_anybody_waiting: bool) {
        if self.not_before.is_some_and(|at| at <= io.now.mono) {
            self.not_before = None;
        }
        let is_paused = self.not_before.is_some();
        if self.under_way.is_some() || is_paused || is_anybody_waiting {
            return;
        }
        let Some(partition) = self.partitions.first().copied() else {
            return;
        };
        let current = self.current.get_or_insert(Current {
            partition,
            rows: Rows::Revisions,
            deleted: 0,
        });
        let partition = current.partition;
        let query = match current.rows {
            Rows::Revisions => Query::Revisions {
                partition,
                min: RevisionId::from((Tid::ZERO, Oid::ZERO)),
                max: Tid::MAX,
                limit: self.rows,
            },
            Rows::Transactions => Query::Transactions {
                partition,
                min: Tid::ZERO,
                max: Tid::MAX,
                order: Order::Ascending,
                limit: PageLimit {
                    entries: self.rows,
                    bytes: 1 << 20,
                },
            },
        };
        self.under_way = Some(io.now.mono);
        self.number += 1;
        io.read(query, AfterRead::Drop(self.number));
    }

    /// Rows to delete were found.
    pub(crate) fn found(
        &mut self,
        io: &mut Io<'_>,
        number: u64,
        result: BackendResult<QueryResult>,
    ) {
        let Some(current) = self.current.filter(|_| number == self.number) else {
            return;
        };
        let partition = current.partition;
        if !self.partitions.contains(&partition) {
            self.under_way = None;
            return self.leave_assigned();
        }
        let ops: Vec<WriteOp> = match result {
            Ok(QueryResult::Revisions(page)) => {
                let delete = |id| WriteOp::DeleteObject { partition, id };
                page.into_iter().map(delete).collect()
            }
            Ok(QueryResult::Transactions { page, .. }) => {
                let tids = page.into_iter().map(|record| record.tid);
                let delete = |tid| WriteOp::DeleteTransaction { partition, tid };
                tids.map(delete).collect()
            }
            Ok(_) => Vec::new(),
            Err(error) => {
                tracing::warn!(%partition, error = %words(&error), "cannot list what to delete");
                self.under_way = None;
                self.not_before = Some(io.now.mono + PAUSE);
                return;
            }
        };
        if ops.is_empty() {
            self.under_way = None;
            return self.kind_done();
        }
        if let Some(current) = &mut self.current {
            current.deleted += ops.len() as u64;
        }
        let then = AfterPersist::Dropped(number);
        io.persist(WriteBatch::from(ops), Durability::Buffered, then);
    }

    /// They are deleted.
    pub(crate) fn deleted(&mut self, io: &Io<'_>, number: u64, result: BackendResult<()>) {
        if number != self.number {
            return;
        }
        let Some(since) = self.under_way.take() else {
            return;
        };
        if let Err(error) = result {
            tracing::warn!(error = %words(&error), "cannot delete what is left of a cell");
            self.not_before = Some(io.now.mono + PAUSE);
        }
        let took = io.now.mono.since(since);
        let rows = if took < STEP {
            self.rows * 2
        } else {
            self.rows / 2
        };
        self.rows = rows.clamp(ROWS.0, ROWS.1);
        self.leave_assigned();
    }

    fn kind_done(&mut self) {
        let Some(current) = &mut self.current else {
            return;
        };
        if current.rows == Rows::Revisions {
            current.rows = Rows::Transactions;
            return;
        }
        let Current {
            partition, deleted, ..
        } = *current;
        if deleted > 0 {
            tracing::info!(%partition, rows = deleted, "deleted what was left of a discarded cell");
        }
        self.partitions.remove(&partition);
        self.current = None;
    }

    /// A partition that is assigned again is let alone.
    fn leave_assigned(&mut self) {
        let assigned = |c: &Current| !self.partitions.contains(&c.partition);
        if self.current.as_ref().is_some_and(assigned) {
            self.current = None;
        }
    }
}
