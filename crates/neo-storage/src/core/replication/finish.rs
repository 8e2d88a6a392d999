//! The end of catching up: what was locked in the meantime is compared, all is made durable, the
//! primary is told.

use neo_api::{BackendResult, Durability, Partition, TableVersion, WriteBatch};
use neo_proto::{AssignedPartition, Packet};

use super::progress::set_progress;
use super::{Around, Replication, Stage};
use crate::core::effect::{Query, QueryResult};
use crate::core::io::{AfterPersist, AfterRead, words};
use crate::core::transaction::{Claim, Compared};

/// Locks that are compared at once.
const CLAIMS: usize = 1_000;

/// Locks whose newest serials are being read.
#[derive(Debug)]
pub(super) struct Comparing {
    partition: Partition,
    claims: Vec<Claim>,
}

impl Replication {
    /// Brings every cell in which nothing is missing as far as it can get.
    pub(super) fn finish(&mut self, around: &mut Around<'_, '_>) {
        self.waits = false;
        self.find_complete(around);
        let comparing = self.cells.iter();
        let comparing = comparing.filter(|(_, cell)| cell.stage == Stage::Comparing);
        let comparing: Vec<Partition> = comparing.map(|(partition, _)| *partition).collect();
        for partition in comparing {
            self.compare(around, partition);
        }
    }

    /// Cells in which nothing is missing any more compare serials from now on.
    fn find_complete(&mut self, around: &mut Around<'_, '_>) {
        // What an import writes is left out of cells that lack something: none may become complete
        // in the middle of it.
        if around.is_importing {
            return;
        }
        let waits_for_nobody = self.mutations.no_pending_wait;
        let (mut any, mut waits) = (false, false);
        for (partition, cell) in &mut self.cells {
            let fetching = self
                .current
                .as_ref()
                .is_some_and(|c| c.partition() == *partition);
            if cell.stage == Stage::Fetching
                && !cell.wants_fetch()
                && !fetching
                && (cell.pending.is_empty() || waits_for_nobody)
            {
                // What they repeat may have been packed away before it could be fetched.
                if around.transactions.repeats_unchecked(*partition) {
                    waits = true;
                    continue;
                }
                cell.stage = Stage::Comparing;
                around.cells.complete(*partition);
                any = true;
            }
        }
        self.waits |= waits;
        if any {
            // What is known of new objects was of other partitions.
            let cells = &*around.cells;
            around.transactions.learn_serials(cells, around.io);
        }
    }

    fn compare(&mut self, around: &mut Around<'_, '_>, partition: Partition) {
        if self.comparing.is_some() || self.compare_at.is_some() {
            return;
        }
        match around.transactions.left_to_compare(partition, CLAIMS) {
            Compared::Waits => self.waits = true,
            Compared::Left(claims) => {
                let oids = claims.iter().map(|claim| (partition, claim.oid)).collect();
                around
                    .io
                    .read(Query::LastSerials { oids }, AfterRead::Serials(partition));
                self.comparing = Some(Comparing { partition, claims });
            }
            Compared::All => {
                let Some(cell) = self.cells.get_mut(&partition) else {
                    return;
                };
                cell.stage = Stage::Syncing;
                let (assigned, tid) = (cell.assigned, cell.goal);
                let mut batch = WriteBatch::from(vec![set_progress(partition, assigned, tid)]);
                if let Some(op) = around.io.jobs.note_commit(cell.committed_in) {
                    batch.push(op);
                }
                let then = AfterPersist::Caught(partition, assigned);
                around.io.persist_surely(batch, Durability::Synced, then);
            }
        }
    }

    /// The newest serials of locked objects were read.
    pub(crate) fn serials_read(
        &mut self,
        around: &mut Around<'_, '_>,
        result: BackendResult<QueryResult>,
    ) {
        let Some(Comparing { partition, claims }) = self.comparing.take() else {
            return;
        };
        if !around.cells.is_checked(partition) {
            return;
        }
        match result {
            Ok(QueryResult::LastSerials(serials)) => {
                self.look = true;
                for (claim, last) in claims.into_iter().zip(serials) {
                    let cells = &*around.cells;
                    around.transactions.compare(cells, around.io, claim, last);
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(error = %words(&error), "cannot compare what is locked");
                self.compare_at = Some(around.io.now.mono + self.pause_after_trouble());
            }
        }
    }

    /// All of a cell is durable: tells the primary.
    pub(crate) fn caught(
        &mut self,
        around: &mut Around<'_, '_>,
        partition: Partition,
        assigned: TableVersion,
    ) {
        let cell = self.cells.get_mut(&partition);
        let cell = cell.filter(|cell| (cell.assigned, cell.stage) == (assigned, Stage::Syncing));
        if let (Some(cell), Some(primary)) = (cell, around.link.up()) {
            tracing::info!(%partition, "caught up");
            cell.stage = Stage::Done;
            let tid = cell.goal;
            let cell = AssignedPartition {
                partition,
                assigned,
            };
            let done = Packet::NotifyReplicationDone { cell, tid };
            around.io.out.notify(primary, done);
        }
    }
}
