//! Cells that become readable: in two steps.
//!
//! ```text
//!  complete cells ──▶ sent to every node with a readable cell ──▶ stored by all ──▶ everybody
//!                                         │
//!                                         └─ one of them, or of the promoted, is lost: void
//! ```
//!
//! A start waits for the readable cells of the newest table that a storage node has. If a cell were
//! relied on before all of them know that it counts, they could start without it, and lose what it
//! alone has got since. A void promotion may be on some disks: the next table is above it, and goes
//! to storage nodes as a whole before anything else does.

use std::collections::BTreeSet;

use neo_api::{Cell, CellChange, CellState, NodeId, Now, Partition, TableVersion};
use neo_proto::Packet;

use super::effect::Out;
use super::{MasterCore, Phase};

/// A promotion that is under way.
#[derive(Debug)]
pub(crate) struct Promotion {
    version: TableVersion,
    changes: Vec<CellChange>,
    cells: BTreeSet<(NodeId, Partition)>,
    /// Nodes with readable cells in the old table, which store it first.
    stores: BTreeSet<NodeId>,
    /// Those of them that have not said so yet.
    waiting: BTreeSet<NodeId>,
}

impl Promotion {
    /// Whether it makes this cell readable.
    pub(crate) fn has(&self, nid: NodeId, partition: Partition) -> bool {
        self.cells.contains(&(nid, partition))
    }

    /// Whether it is void without one of these nodes.
    pub(crate) fn needs_any(&self, nodes: &BTreeSet<NodeId>) -> bool {
        let promoted = |nid: &NodeId| self.cells.iter().any(|(of, _)| of == nid);
        nodes
            .iter()
            .any(|nid| self.stores.contains(nid) || promoted(nid))
    }
}

impl MasterCore {
    /// Promotes the cells that are complete, all at once, unless the table is changing already.
    pub(super) fn promote(&mut self, now: Now, out: &mut Out) {
        let at_once = self.settings.mutations.promote_at_once;
        let (Phase::Running(running), Some(table)) = (&mut self.phase, &self.table) else {
            return;
        };
        if running.promotion.is_some()
            || running.import.is_some()
            || running.catching_up.done().is_empty()
        {
            return;
        }
        let cells = running.catching_up.done().clone();
        let changes = cells.iter().filter_map(|(nid, partition)| {
            let cell = table.get().cell(*partition, *nid)?;
            let cell = Cell {
                state: CellState::UpToDate,
                ..*cell
            };
            let partition = *partition;
            Some(CellChange { partition, cell })
        });
        let changes: Vec<CellChange> = changes.collect();
        let base = table.version();
        let reign = self.reign;
        let version = TableVersion {
            reign,
            ptid: base.ptid.next(),
        };
        let operating = running.operating.keys().copied();
        let stores: BTreeSet<NodeId> = operating.filter(|nid| table.is_readable_on(*nid)).collect();
        tracing::info!(%version, cells = changes.len(), "promoting cells that are complete");
        let packet = Packet::NotifyPartitionChanges {
            base,
            version,
            replicas: table.get().replicas,
            changes: changes.clone(),
        };
        for nid in &stores {
            if let Some(conn) = self.nodes.conn(*nid) {
                out.notify(conn, packet.clone());
            }
        }
        let waiting = if at_once {
            BTreeSet::new()
        } else {
            stores.clone()
        };
        running.promotion = Some(Promotion {
            version,
            changes,
            cells,
            stores,
            waiting,
        });
        self.promotion_step(now, out);
    }

    /// A node has stored a version of the table.
    pub(super) fn promotion_stored(
        &mut self,
        now: Now,
        nid: NodeId,
        version: TableVersion,
        out: &mut Out,
    ) {
        if let Some(promotion) = self.running().and_then(|r| r.promotion.as_mut())
            && promotion.version == version
            && promotion.waiting.remove(&nid)
        {
            self.promotion_step(now, out);
        }
    }

    /// When every node that must has stored it, it counts, and everybody else is told.
    fn promotion_step(&mut self, now: Now, out: &mut Out) {
        let (Phase::Running(running), Some(table)) = (&mut self.phase, &mut self.table) else {
            return;
        };
        let Some(promotion) = running.promotion.take_if(|p| p.waiting.is_empty()) else {
            return;
        };
        let (base, replicas) = (table.version(), table.get().replicas);
        let Promotion {
            version,
            changes,
            stores,
            ..
        } = promotion;
        table.apply(version, replicas, &changes);
        running.catching_up.changed(&changes);
        tracing::info!(%version, cells = changes.len(), "cells are readable");
        let partitions: BTreeSet<Partition> = changes.iter().map(|c| c.partition).collect();
        let packet = Packet::NotifyPartitionChanges {
            base,
            version,
            replicas,
            changes,
        };
        for (nid, conn) in self.nodes.followers() {
            if !stores.contains(&nid) {
                out.notify(conn, packet.clone());
            }
        }
        self.tell_users(&packet, out);
        self.discard_surplus(partitions.iter().copied(), out);
        self.discard_replaced(partitions.into_iter(), out);
        self.retry_delayed_votes(out);
        self.packs_step(out);
        self.table_settled(now, out);
    }

    /// Gives up the promotion that is under way: its version. Promoted nodes that were to store it
    /// see their cells become out of date again, and begin again with them.
    pub(super) fn promotion_void(&mut self) -> Option<TableVersion> {
        let running = self.running()?;
        let promotion = running.promotion.take()?;
        tracing::warn!(version = %promotion.version, "a promotion is void");
        for (nid, partition) in promotion.cells {
            if promotion.stores.contains(&nid) {
                running.catching_up.forget(nid, partition);
            }
        }
        Some(promotion.version)
    }
}
