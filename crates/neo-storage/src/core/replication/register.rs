//! What a cell that catches up and the primary tell each other, and what the database remembers of
//! it.

use neo_api::{BackendResult, Reign, Tid, TxnId};
use neo_proto::{AssignedPartition, ErrorCode, MsgId, Packet, shown};

use super::progress::read_progress;
use super::{Around, Registering, Replication, Stage};
use crate::core::effect::{Query, QueryResult};
use crate::core::io::{AfterRead, Io, words};

impl Replication {
    /// Reads how far new cells were replicated before.
    pub(super) fn read_progress(&mut self, io: &mut Io<'_>) {
        if !self.looking.is_empty() {
            return;
        }
        let unknown = self.cells.iter();
        let unknown = unknown.filter(|(_, cell)| cell.stage == Stage::Unknown);
        self.looking = unknown.map(|(partition, _)| *partition).collect();
        if !self.looking.is_empty() {
            let partitions = self.looking.clone();
            io.read(Query::Progress { partitions }, AfterRead::Progress);
        }
    }

    /// It was read.
    pub(crate) fn progress_read(&mut self, result: BackendResult<QueryResult>) {
        let looked = std::mem::take(&mut self.looking);
        self.look = true;
        match result {
            Ok(QueryResult::Progress(values)) => {
                for (partition, value) in looked.iter().zip(&values) {
                    if let Some(cell) = self.cells.get_mut(partition)
                        && cell.stage == Stage::Unknown
                    {
                        // What was read for an earlier assignment does not fit this one.
                        cell.progress = read_progress(value.as_ref(), cell.assigned);
                        cell.stage = Stage::Unregistered;
                    }
                }
            }
            Ok(_) => {}
            Err(error) => {
                // From the start, then: no more than work.
                tracing::warn!(error = %words(&error), "cannot read how far cells were replicated");
                for partition in &looked {
                    if let Some(cell) = self.cells.get_mut(partition)
                        && cell.stage == Stage::Unknown
                    {
                        cell.stage = Stage::Unregistered;
                    }
                }
            }
        }
    }

    /// Tells the primary which cells catch up.
    pub(super) fn register(&mut self, around: &mut Around<'_, '_>) {
        let waits = self.registering.is_some() || self.register_at.is_some();
        let was_refused = self.refused.is_some() && self.refused == around.cells.version();
        if waits || was_refused {
            return;
        }
        let new = self.cells.iter();
        let new = new.filter(|(_, cell)| cell.stage == Stage::Unregistered);
        let cells: Vec<AssignedPartition> = new
            .map(|(partition, cell)| AssignedPartition {
                partition: *partition,
                assigned: cell.assigned,
            })
            .collect();
        if let (Some(conn), false) = (around.link.up(), cells.is_empty()) {
            let id = around.link.next_id();
            self.registering = Some(Registering {
                id,
                table: around.cells.version(),
                cells: cells.clone(),
            });
            let packet = Packet::AskUnfinishedTransactions { cells };
            around.io.out.send(conn, id, packet);
        }
    }

    /// The primary registered cells.
    pub(crate) fn registered(
        &mut self,
        id: MsgId,
        (committed_in, last_tid): (Reign, Tid),
        pending: &[TxnId],
    ) {
        let Some(Registering { cells, .. }) = self.registering.take_if(|asked| asked.id == id)
        else {
            return;
        };
        self.backoff.reset();
        self.look = true;
        for AssignedPartition {
            partition,
            assigned,
        } in cells
        {
            if let Some(cell) = self.cells.get_mut(&partition)
                && cell.assigned == assigned
                && cell.stage == Stage::Unregistered
            {
                tracing::info!(%partition, %last_tid, pending = pending.len(), "catching up");
                cell.stage = Stage::Fetching;
                cell.goal = cell.goal.max(last_tid);
                cell.committed_in = cell.committed_in.max(committed_in);
                cell.pending = pending.iter().copied().collect();
            }
        }
    }

    /// The primary refused a registration: its table is another one, perhaps one that came here
    /// meanwhile.
    pub(crate) fn refused(&mut self, io: &Io<'_>, id: MsgId, (code, text): (ErrorCode, &str)) {
        let Some(Registering { table, .. }) = self.registering.take_if(|asked| asked.id == id)
        else {
            return;
        };
        tracing::info!(%code, words = shown(text), "the primary does not register cells");
        if code == ErrorCode::Replication {
            self.refused = table;
        }
        self.register_at = Some(io.now.mono + self.pause_after_trouble());
    }

    /// A transaction ended that was pending when cells were registered.
    pub(crate) fn transaction_ended(&mut self, txn: TxnId, tid: Option<Tid>) {
        for cell in self.cells.values_mut() {
            if cell.pending.remove(&txn) {
                if let Some(tid) = tid {
                    cell.goal = cell.goal.max(tid);
                    cell.committed_in = cell.committed_in.max(txn.reign);
                }
                self.look |= cell.pending.is_empty();
            }
        }
    }
}
