//! Cells that catch up: which are registered, and what their nodes are told.
//!
//! A storage node that starts to fill a cell asks which transactions are pending. Those that end
//! later it must fetch when they have, and is told of; all that begin from then on are bound to have
//! the cell vote as a readable one does. So nothing is missed between what is fetched and what is
//! voted. When the node says that the cell is complete, it can be promoted.

use std::collections::{BTreeMap, BTreeSet};

use neo_api::{Cell, CellChange, CellState, NodeId, Now, Partition, TableVersion, Tid, TxnId};
use neo_proto::{AssignedPartition, ConnId, ErrorCode, MsgId, Packet};

use super::effect::Out;
use super::{MasterCore, Phase};

/// Most requests of one node that may wait for the end of an import.
const HELD_MAX: usize = 1000;

/// Registered cells, by node.
#[derive(Debug, Default)]
pub(crate) struct CatchingUp {
    cells: BTreeMap<NodeId, BTreeMap<Partition, Registration>>,
    /// Registered cells that are complete.
    done: BTreeSet<(NodeId, Partition)>,
    /// Requests that wait for the end of an import.
    held: BTreeMap<ConnId, Held>,
}

/// Requests of a node, in order.
#[derive(Debug)]
struct Held {
    nid: NodeId,
    requests: Vec<(MsgId, Vec<AssignedPartition>)>,
}

#[derive(Debug, Clone, Copy)]
struct Registration {
    assigned: TableVersion,
    /// Transactions with a greater ttid are bound.
    after: Tid,
}

impl CatchingUp {
    /// Whether a transaction must be voted by this cell, though it is not readable.
    pub(crate) fn is_bound(&self, partition: Partition, cell: &Cell, ttid: Tid) -> bool {
        let registration = self.cells.get(&cell.nid).and_then(|of| of.get(&partition));
        registration.is_some_and(|registration| {
            registration.assigned == cell.assigned && ttid > registration.after
        })
    }

    /// Whether no cell is registered.
    pub(crate) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Cells that are complete, in order.
    pub(crate) fn done(&self) -> &BTreeSet<(NodeId, Partition)> {
        &self.done
    }

    fn register(&mut self, nid: NodeId, cell: AssignedPartition, after: Tid) {
        let assigned = cell.assigned;
        let registration = Registration { assigned, after };
        let cells = self.cells.entry(nid).or_default();
        cells.insert(cell.partition, registration);
        self.done.remove(&(nid, cell.partition));
    }

    /// A cell is complete. Whether it is one that is registered.
    fn complete(&mut self, nid: NodeId, cell: AssignedPartition) -> bool {
        let registration = self.cells.get(&nid).and_then(|of| of.get(&cell.partition));
        let is_this = registration.is_some_and(|known| known.assigned == cell.assigned);
        if is_this {
            self.done.insert((nid, cell.partition));
        }
        is_this
    }

    /// The cell is not registered any more.
    pub(crate) fn forget(&mut self, nid: NodeId, partition: Partition) {
        if let Some(cells) = self.cells.get_mut(&nid) {
            cells.remove(&partition);
            if cells.is_empty() {
                self.cells.remove(&nid);
            }
            self.done.remove(&(nid, partition));
        }
    }

    /// Cells changed: what is not the same any more has to be registered anew.
    pub(crate) fn changed(&mut self, changes: &[CellChange]) {
        for CellChange { partition, cell } in changes {
            let registration = self.cells.get(&cell.nid).and_then(|of| of.get(partition));
            let is_other = registration.is_some_and(|registration| {
                cell.state != CellState::OutOfDate || registration.assigned != cell.assigned
            });
            if is_other {
                self.forget(cell.nid, *partition);
            }
        }
    }

    /// A node is lost: when it comes back, it begins again.
    pub(crate) fn node_lost(&mut self, nid: NodeId) {
        for partition in self.cells.remove(&nid).unwrap_or_default().into_keys() {
            self.done.remove(&(nid, partition));
        }
        self.held.retain(|_, held| held.nid != nid);
    }
}

impl MasterCore {
    /// A storage node starts to fill cells.
    pub(super) fn unfinished_transactions(
        &mut self,
        now: Now,
        nid: NodeId,
        conn: ConnId,
        id: MsgId,
        cells: Vec<AssignedPartition>,
        out: &mut Out,
    ) {
        if let Err(message) = self.check_cells(nid, &cells) {
            tracing::info!(%nid, message, "a request to fill cells is void");
            let code = ErrorCode::Replication;
            out.send(conn, id, Packet::Error { code, message });
            return;
        }
        let Some(running) = self.running() else {
            return;
        };
        if running.import.is_some() {
            let held = running.catching_up.held.entry(conn);
            let requests = Vec::new();
            let held = held.or_insert_with(|| Held { nid, requests });
            if held.requests.len() < HELD_MAX {
                held.requests.push((id, cells));
            } else {
                let words = "it has too many requests waiting for the end of the import";
                self.refuse_storage(now, nid, words, out);
            }
            return;
        }
        if let Some(promotion) = &running.promotion
            && cells.iter().any(|cell| promotion.has(nid, cell.partition))
        {
            // It begins again with what it said was complete.
            self.change_table(&[], out);
        }
        let after = self.tids.last_ttid();
        let last_tid = self.tids.last();
        let untold = self.settings.mutations.no_pending;
        let Some(running) = self.running() else {
            return;
        };
        for cell in &cells {
            running.catching_up.register(nid, *cell, after);
        }
        let pending = if untold {
            Vec::new()
        } else {
            running.txns.watch(conn)
        };
        tracing::info!(%nid, cells = cells.len(), pending = pending.len(), "cells catch up");
        out.send(
            conn,
            id,
            Packet::AnswerUnfinishedTransactions {
                last_tid,
                pending,
                committed_in: self.committed_in,
            },
        );
        self.table_settled(now, out);
    }

    /// Whether these are cells of the node that catch up; the error tells which is not.
    fn check_cells(&self, nid: NodeId, cells: &[AssignedPartition]) -> Result<(), String> {
        let (Phase::Running(running), Some(table)) = (&self.phase, &self.table) else {
            return Err("the cluster does not run".to_owned());
        };
        if !running.takes_part(nid, running.readiness) {
            return Err(format!("{nid} is not ready"));
        }
        let is_other = |asked: &&AssignedPartition| {
            let cell = table.get().cell(asked.partition, nid);
            cell.is_none_or(|cell| {
                cell.state != CellState::OutOfDate || cell.assigned != asked.assigned
            })
        };
        match cells.iter().find(is_other) {
            Some(cell) => Err(format!(
                "partition {} is not what {nid} catches up with in table {}",
                cell.partition,
                table.version()
            )),
            None => Ok(()),
        }
    }

    /// An import is over: what waited for it is answered.
    pub(super) fn register_held(&mut self, now: Now, out: &mut Out) {
        let held = self
            .running()
            .map(|r| std::mem::take(&mut r.catching_up.held));
        for (conn, Held { nid, requests }) in held.unwrap_or_default() {
            for (id, cells) in requests {
                if self.nodes.conn(nid) == Some(conn) {
                    self.unfinished_transactions(now, nid, conn, id, cells, out);
                }
            }
        }
    }

    /// A storage node has all of a cell.
    pub(super) fn replication_done(
        &mut self,
        now: Now,
        nid: NodeId,
        cell: AssignedPartition,
        tid: Tid,
        out: &mut Out,
    ) {
        let is_current = self.table.as_ref().is_some_and(|table| {
            let current = table.get().cell(cell.partition, nid);
            current.is_some_and(|current| {
                current.state == CellState::OutOfDate && current.assigned == cell.assigned
            })
        });
        let Some(running) = self.running() else {
            return;
        };
        if is_current && running.catching_up.complete(nid, cell) {
            tracing::info!(%nid, partition = %cell.partition, %tid, "a cell is complete");
            self.promote(now, out);
        }
    }

    /// Tells nodes that catch up that a transaction ended, which was pending when they began.
    pub(super) fn tell_ended(
        &self,
        txn: TxnId,
        tid: Option<Tid>,
        watchers: &BTreeSet<ConnId>,
        out: &mut Out,
    ) {
        for conn in watchers {
            if self.peers.contains_key(conn) {
                out.notify(*conn, Packet::NotifyTransactionFinished { txn, tid });
            }
        }
    }
}
