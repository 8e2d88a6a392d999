//! The partition table: a new one is narrowed to at once, made durable, and then used.

use std::collections::BTreeSet;

use neo_api::{
    BackendResult, CellState, Durability, NodeId, Now, Partition, PartitionTable, TableVersion,
    Tid, WriteBatch, WriteOp,
};
use neo_proto::{ClusterIdentity, Effects, Packet};

use super::effect::{NID, Query, QueryResult};
use super::initialization::{set, set_identity};
use super::io::{AfterPersist, AfterRead, Io, words};
use super::replication::{drop_progress, set_progress};
use super::{NewTable, StorageCore};

impl StorageCore {
    pub(super) fn new_table(
        &mut self,
        now: Now,
        out: &mut Effects<Self>,
        identity: Option<ClusterIdentity>,
        table: PartitionTable,
    ) -> Result<(), String> {
        table.check().map_err(|error| error.to_string())?;
        let nid = self.renamed.or(self.nid);
        let nid = nid.ok_or("a partition table before a node id")?;
        if let Some(current) = self.cells.table() {
            // After a forced start without this node, what it had is void: the chain of epochs,
            // which the primary has compared, says so.
            let newer_epoch = match (&self.identity, &identity) {
                (Some(own), Some(its)) => its.epochs.len() > own.epochs.len(),
                _ => false,
            };
            if table.version < current.version && !newer_epoch {
                let (old, new) = (table.version, current.version);
                return Err(format!("table {old} is older than {new}, which is here"));
            }
            // A draft, which came before the cluster was created, has no cells and fixes nothing.
            let has_cells = current.rows.iter().any(|row| !row.is_empty());
            if has_cells && table.rows.len() != current.rows.len() {
                let (is, was) = (table.rows.len(), current.rows.len());
                return Err(format!("a table of {is} partitions; there are {was} here"));
            }
        }
        if let (Some(own), Some(other)) = (&self.identity, &identity)
            && own.id != other.id
        {
            let why = format!("this is a node of cluster {}, not {}", own.id, other.id);
            return Err(why);
        }
        let mut ops = set_identity(&self.settings.cluster, identity.as_ref());
        ops.push(WriteOp::SetPartitionTable(table.clone()));
        if self.renamed.is_some() {
            self.table_of_copy(now, out, nid, (identity, table), ops);
        } else {
            self.store_table(now, out, identity, table, ops);
        }
        Ok(())
    }

    pub(super) fn store_table(
        &mut self,
        now: Now,
        out: &mut Effects<Self>,
        identity: Option<ClusterIdentity>,
        table: PartitionTable,
        ops: Vec<WriteOp>,
    ) {
        let outdated = self.newly_outdated(&table);
        let mut ops = ops;
        ops.extend(self.progress_to_drop(&table));
        self.look_up_and_write_table(now, out, (identity, table), ops, outdated);
    }

    pub(super) fn look_up_and_write_table(
        &mut self,
        now: Now,
        out: &mut Effects<Self>,
        (identity, table): (Option<ClusterIdentity>, PartitionTable),
        ops: Vec<WriteOp>,
        outdated: Vec<(Partition, TableVersion)>,
    ) {
        let notes = self.notes_id(&table);
        let mut ops = ops;
        ops.extend(notes.map(|nid| set(NID, Some(nid.to_string()))));
        // What it takes away must not be read from now on; what it gives, once it is durable.
        let gone = self.cells.narrow(&table);
        let mut io = Io {
            now,
            out,
            jobs: &mut self.jobs,
        };
        if let Some(service) = &mut self.service {
            service.transactions.discard(&self.cells, &mut io, &gone);
        }
        let partitions: Vec<Partition> = outdated.iter().map(|(partition, _)| *partition).collect();
        let is_ready = partitions.is_empty();
        self.table = Some(NewTable {
            table,
            identity,
            ops,
            nid: self.nid,
            notes: notes.is_some(),
            outdated,
        });
        if is_ready {
            self.write_table(now, out);
        } else {
            io.read(Query::Extent { partitions }, AfterRead::Extent);
        }
    }

    /// The id that is to be noted with a table: when it gives this node cells, or is the draft of a
    /// cluster that will. An id under which there was never anything may be another node's tomorrow.
    fn notes_id(&self, table: &PartitionTable) -> Option<NodeId> {
        let has_cells = |nid: &NodeId| {
            let mut cells = table.rows.iter().flatten();
            cells.any(|cell| cell.nid == *nid)
        };
        let is_draft = table.rows.iter().all(Vec::is_empty);
        let is_new = !self.is_noted || self.renamed.is_some();
        let id = self.nid.filter(|_| is_new);
        id.filter(|nid| is_draft || has_cells(nid))
    }

    fn write_table(&mut self, now: Now, out: &mut Effects<Self>) {
        let Some(new) = &mut self.table else {
            return;
        };
        let batch = WriteBatch::from(std::mem::take(&mut new.ops));
        let mut io = Io {
            now,
            out,
            jobs: &mut self.jobs,
        };
        io.persist_surely(batch, Durability::Synced, AfterPersist::Table);
        if self.settings.mutations.table_not_durable {
            self.table_stored(now, out);
        }
    }

    /// Cells of this node that were readable and are out of date by a new table.
    fn newly_outdated(&self, table: &PartitionTable) -> Vec<(Partition, TableVersion)> {
        let own = self
            .cells
            .own()
            .filter(|(_, cell)| cell.state.is_readable());
        let becomes = own.filter_map(|(partition, cell)| {
            let new = table.cell(partition, cell.nid)?;
            let is_same = new.assigned == cell.assigned;
            let is_outdated = is_same && new.state == CellState::OutOfDate;
            is_outdated.then_some((partition, new.assigned))
        });
        becomes.collect()
    }

    /// What is remembered of cells that a new table promotes or discards.
    fn progress_to_drop(&self, table: &PartitionTable) -> Vec<WriteOp> {
        let dropped = self.cells.outdated().filter(|(partition, assigned)| {
            let new = self.nid.and_then(|nid| table.cell(*partition, nid));
            !new.is_some_and(|new| new.state == CellState::OutOfDate && new.assigned == *assigned)
        });
        dropped
            .map(|(partition, _)| drop_progress(partition))
            .collect()
    }

    /// How far the cells go that a new table makes out of date. All up to the greatest tid is there,
    /// but for that one, since transactions are unlocked in order; what voted here and was not
    /// unlocked may have been committed, and what an import left after its mark does not count.
    pub(super) fn extent_read(
        &mut self,
        now: Now,
        out: &mut Effects<Self>,
        result: BackendResult<QueryResult>,
    ) {
        let Some(new) = &mut self.table else {
            return;
        };
        match result {
            Ok(QueryResult::Extent(extent)) => {
                let before = |tid: Tid| Tid(tid.0.saturating_sub(1));
                let unfinished = extent.unfinished.map(before);
                for ((partition, assigned), greatest) in std::mem::take(&mut new.outdated)
                    .into_iter()
                    .zip(extent.greatest)
                {
                    let bounds = [greatest.map(before), unfinished, self.import_tid];
                    if let (Some(_), Some(tid)) = (greatest, bounds.into_iter().flatten().min()) {
                        new.ops.push(set_progress(partition, assigned, tid));
                    }
                }
            }
            Ok(_) => {}
            // From the start, then: no more than work.
            Err(error) => tracing::warn!(error = %words(&error), "cannot read how far cells go"),
        }
        self.write_table(now, out);
    }

    /// The new table is durable.
    pub(super) fn table_stored(&mut self, now: Now, out: &mut Effects<Self>) {
        let Some(NewTable {
            table,
            identity,
            nid,
            notes,
            ..
        }) = self.table.take()
        else {
            return;
        };
        let version = table.version;
        self.is_noted |= notes;
        if identity.is_some() {
            self.identity = identity;
        }
        if let Some(nid) = self.renamed
            && let Some(conn) = self.link.up()
        {
            out.notify(conn, Packet::NotifyPartitionTableStored { version });
            return self.copy_is_named(out, nid);
        }
        let before: Vec<Partition> = self.cells.assigned();
        let more = self.cells.set(nid, table);
        if let Some(service) = &mut self.service {
            let mut io = Io {
                now,
                out,
                jobs: &mut self.jobs,
            };
            if more {
                service.transactions.learn_serials(&self.cells, &mut io);
            }
            let own: BTreeSet<Partition> = self.cells.assigned().into_iter().collect();
            let gone = before
                .into_iter()
                .filter(|partition| !own.contains(partition));
            let gone: Vec<Partition> = gone.collect();
            let may_drop = self.settings.drop_partitions;
            service.drops.table_changed(&self.cells, &gone, may_drop);
            service.replication.table_changed(&self.cells);
        }
        if let Some(conn) = self.link.up() {
            out.notify(conn, Packet::NotifyPartitionTableStored { version });
        }
    }
}
