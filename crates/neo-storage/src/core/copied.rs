//! A database that is a copy of another node's: it gets an id of its own, with which the node joins
//! the cluster when it is started again.
//!
//! The primary gives the id, and a table in which it has cells, out of date, wherever the original
//! has some. What is here of those is as much as the original had when it was copied: the node
//! notes how far that goes, and ends.

use neo_api::{NodeId, Partition, PartitionTable, WriteOp};
use neo_proto::{ClusterIdentity, Effects};

use super::replication::drop_progress;
use super::{Now, StorageCore};

impl StorageCore {
    /// The primary gave a new id.
    pub(super) fn renamed(&mut self, nid: NodeId) -> Result<(), String> {
        match self.nid {
            Some(original) if original == nid => Err(format!(
                "the primary master does not give a copied database an id of its own: it calls it \
                 {original}, as the original"
            )),
            Some(original) => {
                tracing::info!(%original, %nid, "a copy gets an id of its own");
                self.renamed = Some(nid);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The table in which the new id has cells: stored with the id, and with how far they go.
    pub(super) fn table_of_copy(
        &mut self,
        now: Now,
        out: &mut Effects<Self>,
        nid: NodeId,
        (identity, table): (Option<ClusterIdentity>, PartitionTable),
        mut ops: Vec<WriteOp>,
    ) {
        let was_readable = self
            .cells
            .own()
            .filter(|(_, cell)| cell.state.is_readable());
        let was_readable: Vec<Partition> = was_readable.map(|(partition, _)| partition).collect();
        let own = was_readable.into_iter().filter_map(|partition| {
            let cell = table.cell(partition, nid)?;
            Some((partition, cell.assigned))
        });
        let outdated = own.collect();
        // What the original had to fetch is compared from the start.
        ops.extend(
            self.cells
                .outdated()
                .map(|(partition, _)| drop_progress(partition)),
        );
        self.nid = Some(nid);
        self.look_up_and_write_table(now, out, (identity, table), ops, outdated);
    }

    /// It is durable: the node ends.
    pub(super) fn copy_is_named(&mut self, out: &mut Effects<Self>, nid: NodeId) {
        tracing::info!(%nid, "the copy is {nid} now: start it without --new-nid");
        self.end(out, None);
    }
}
