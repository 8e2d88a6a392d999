//! Removes every transaction and revision after a tid, in the node's cells.
//!
//! First it is looked whether one of them is packed up to a later time: then what was the newest
//! revision at that tid may be gone for good, and with it everything of the object.

use std::collections::VecDeque;

use neo_api::{Oid, Order, PageLimit, Partition, RevisionId, Tid, WriteOp};

use crate::core::cells::Cells;
use crate::core::effect::{Query, QueryResult};
use crate::core::packing::Packed;

/// Rows removed by one batch.
const PAGE: usize = 1_000;

#[derive(Debug)]
pub(super) struct Truncation {
    pub(super) after: Tid,
    partitions: VecDeque<Partition>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    PackStates,
    /// Of the first partition.
    Revisions,
    /// Of the first partition.
    Transactions,
    End,
}

/// What was found on the way.
#[derive(Debug)]
pub(super) enum Found {
    /// A page to remove; it may be empty.
    Page(Vec<WriteOp>),
    /// It can't be done: a cell is packed up to this tid.
    Packed(Tid),
    /// It is no answer to what was asked.
    Odd,
}

impl Truncation {
    pub(super) fn new(after: Tid, cells: &Cells) -> Self {
        Self {
            after,
            partitions: cells.assigned().into(),
            stage: Stage::PackStates,
        }
    }

    /// Whether everything is removed.
    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::End
    }

    /// What it needs to know next; `None` if everything is removed.
    pub(super) fn query(&mut self) -> Option<Query> {
        let next = self.after.checked_next().zip(self.partitions.front());
        let Some((min, partition)) = next.map(|(min, partition)| (min, *partition)) else {
            self.stage = Stage::End;
            return None;
        };
        Some(match self.stage {
            Stage::End => return None,
            Stage::PackStates => Query::PackStates {
                partitions: self.partitions.iter().copied().collect(),
            },
            Stage::Revisions => Query::Revisions {
                partition,
                min: RevisionId {
                    tid: min,
                    oid: Oid::ZERO,
                },
                max: Tid::MAX,
                limit: PAGE,
            },
            Stage::Transactions => Query::Transactions {
                partition,
                min,
                max: Tid::MAX,
                order: Order::Ascending,
                limit: PageLimit {
                    entries: PAGE,
                    bytes: 1 << 20,
                },
            },
        })
    }

    /// It was found.
    pub(super) fn found(&mut self, cells: &Cells, result: QueryResult) -> Found {
        let Some(partition) = self.partitions.front().copied() else {
            return Found::Odd;
        };
        match (self.stage, result) {
            (Stage::PackStates, QueryResult::PackStates(values)) => {
                let states = self.partitions.iter().zip(&values);
                let packed = states.filter_map(|(partition, values)| {
                    let (_, own) = cells.own().find(|(own, _)| own == partition)?;
                    Some(Packed::of(values, own.assigned).state.at)
                });
                match packed.max().filter(|at| *at > self.after) {
                    Some(at) => Found::Packed(at),
                    None => {
                        self.stage = Stage::Revisions;
                        Found::Page(Vec::new())
                    }
                }
            }
            (Stage::Revisions, QueryResult::Revisions(page)) => {
                if page.is_empty() {
                    self.stage = Stage::Transactions;
                }
                let delete = |id| WriteOp::DeleteObject { partition, id };
                Found::Page(page.into_iter().map(delete).collect())
            }
            (Stage::Transactions, QueryResult::Transactions { page, .. }) => {
                if page.is_empty() {
                    self.partitions.pop_front();
                    self.stage = Stage::Revisions;
                }
                let delete = |tid| WriteOp::DeleteTransaction { partition, tid };
                Found::Page(page.into_iter().map(|r| delete(r.tid)).collect())
            }
            _ => Found::Odd,
        }
    }
}
