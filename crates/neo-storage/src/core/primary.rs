//! What masters say to this node.

use std::collections::BTreeSet;

use neo_api::{
    BackendResult, CellState, Durability, NodeState, NodeType, Partition, PartitionTable, Reign,
    TableVersion, Tid, WriteBatch, WriteOp,
};
use neo_proto::{
    ClusterIdentity, ConnId, Effects, ErrorCode, Message, NodeInfo, Packet, Recovery, shown,
};

use super::clients::Verdict;
use super::discarded::Drops;
use super::effect::{IMPORT_TID, OID_MARK, Query, QueryResult, REIGN, StorageEvent};
use super::import::Import;
use super::initialization::{set, set_identity};
use super::io::{AfterPersist, AfterRead, Asker, Io, words};
use super::replication::{Replication, drop_progress, set_progress};
use super::task::Waiting;
use super::transaction::Transactions;
use super::{NewTable, Now, Service, StorageCore};

impl StorageCore {
    pub(super) fn master_says(
        &mut self,
        now: Now,
        out: &mut Effects<Self>,
        conn: ConnId,
        message: Message,
    ) {
        let Message { id, packet, .. } = message;
        if let Some(request) = self.link.identifying() {
            if id == request && packet.is_answer() {
                return self.identified(now, out, conn, packet);
            }
            let reason = format!("{} before the identification's answer", packet.name());
            return self.drop_conn(now, out, conn, &reason);
        }
        if let Err(reason) = self.primary_says(now, out, Asker { conn, id }, packet) {
            tracing::error!(reason, "the primary and this node disagree");
            if id.0 != 0 {
                let (code, message) = (ErrorCode::Protocol, reason.clone());
                out.send(conn, id, Packet::Error { code, message });
            }
            self.drop_conn(now, out, conn, &reason);
        }
    }

    fn identified(&mut self, now: Now, out: &mut Effects<Self>, conn: ConnId, answer: Packet) {
        match answer {
            Packet::AcceptIdentification {
                your_nid, session, ..
            } => {
                if self.settings.new_nid {
                    if let Err(why) = self.renamed(your_nid) {
                        return self.end(out, Some(why));
                    }
                } else if let Some(nid) = self.nid.filter(|nid| *nid != your_nid)
                    && self.cells.table().is_some()
                {
                    let why = format!(
                        "the primary calls this node {your_nid}, but its database is that of {nid}"
                    );
                    return self.end(out, Some(why));
                }
                tracing::info!(nid = %your_nid, "connected to the primary master");
                if self.renamed.is_none() {
                    self.nid = Some(your_nid);
                }
                self.session = Some(session);
                self.link.accepted(now.mono);
                out.event(StorageEvent::Identified { nid: your_nid });
            }
            Packet::NotPrimaryMaster { primary, masters } => {
                out.close(conn, "not the primary master");
                if self.link.learn(masters.into_iter().chain(primary.clone())) {
                    out.event(StorageEvent::Masters(self.link.masters().to_vec()));
                }
                self.link.redirected(now.mono, primary);
                self.search(now, out);
            }
            Packet::Error {
                code: ErrorCode::OtherCluster,
                message,
            } => self.end(out, Some(message)),
            Packet::Error { code, message } => {
                tracing::warn!(%code, words = shown(&message), "the master refuses this node");
                self.drop_conn(now, out, conn, "refused by the master");
            }
            other => {
                let reason = format!("{} answers no identification", other.name());
                self.drop_conn(now, out, conn, &reason);
            }
        }
    }

    fn primary_says(
        &mut self,
        now: Now,
        out: &mut Effects<Self>,
        asker: Asker,
        packet: Packet,
    ) -> Result<(), String> {
        let mut io = Io {
            now,
            out,
            jobs: &mut self.jobs,
        };
        match packet {
            Packet::NotifyNodeInformation { full, nodes } => {
                self.node_information(now, out, full, &nodes);
            }
            Packet::NotifyClusterInformation { .. } => {}
            Packet::SendPartitionTable { identity, table } => {
                self.new_table(now, out, identity, *table)?;
            }
            Packet::NotifyPartitionChanges {
                base,
                version,
                replicas,
                changes,
            } => {
                let current = self.cells.table().filter(|table| table.version == base);
                let mut table = current
                    .cloned()
                    .ok_or_else(|| format!("changes of table {base}, which is not here"))?;
                table
                    .apply(version, replicas, &changes)
                    .map_err(|error| error.to_string())?;
                let op = WriteOp::ChangeCells {
                    version,
                    replicas,
                    changes,
                };
                self.store_table(now, out, None, table, vec![op]);
            }
            Packet::AskRecovery {}
            | Packet::AskPartitionTable {}
            | Packet::AskStartReign { .. }
            | Packet::AskLockedTransactions { .. }
            | Packet::AskFinalTid { .. }
            | Packet::AskValidateTransaction { .. }
            | Packet::AskLastIds {}
            | Packet::AskTruncate { .. }
            | Packet::AskImportMark { .. }
            | Packet::StartOperation { .. } => {
                self.tasks.queue.push_back(Waiting { asker, packet });
            }
            Packet::AskStoreOidMark { mark } => {
                let value = self.oid_mark.max(mark).to_string();
                let batch = WriteBatch::from(vec![set(OID_MARK, Some(value))]);
                let then = AfterPersist::OidMark(asker, mark);
                io.persist_surely(batch, Durability::Synced, then);
            }
            Packet::AskSyncImport { import } => {
                if self.import.as_ref().map(Import::number) != Some(import) {
                    return Err(format!("import {import} is not the one that goes on"));
                }
                let then = AfterPersist::SyncImport(asker, import);
                io.persist_surely(WriteBatch::new(), Durability::Synced, then);
            }
            Packet::StopOperation {} => {
                // Not while a table is on its way: this message would have been held.
                self.tasks.clear();
                self.stop_service(out);
                self.import = None;
                self.jobs.abandon();
            }
            Packet::AskLockInformation { txn, tid } => {
                let service = self.service.as_mut().ok_or("this node does not serve")?;
                let transactions = &mut service.transactions;
                transactions.lock(&self.cells, &mut io, asker, txn, tid)?;
            }
            Packet::NotifyUnlockInformation { txn } => {
                let service = self.service.as_mut().ok_or("this node does not serve")?;
                service.transactions.unlock(&self.cells, &mut io, txn)?;
            }
            Packet::AbortTransaction { txn, .. } => {
                if let Some(service) = &mut self.service {
                    service.transactions.abort(&self.cells, &mut io, txn, None);
                }
            }
            // What is of an earlier period of service is of no interest any more.
            Packet::AnswerUnfinishedTransactions { last_tid, pending } => {
                if let Some(service) = &mut self.service {
                    service.replication.registered(asker.id, last_tid, &pending);
                }
            }
            Packet::NotifyTransactionFinished { txn, tid } => {
                if let Some(service) = &mut self.service {
                    service.replication.transaction_ended(txn, tid);
                }
            }
            Packet::Error { code, message } => {
                if let Some(service) = &mut self.service {
                    let why = (code, message.as_str());
                    service.replication.refused(&io, asker.id, why);
                }
            }
            other => return Err(format!("{} was not expected", other.name())),
        }
        Ok(())
    }

    fn node_information(
        &mut self,
        now: Now,
        out: &mut Effects<Self>,
        full: bool,
        nodes: &[NodeInfo],
    ) {
        let own = nodes.iter().find(|node| Some(node.nid) == self.nid);
        if let Some(own) = own
            && matches!(own.state, NodeState::Down | NodeState::Unknown)
        {
            tracing::info!(state = %own.state, "the primary wants this node to stop");
            return self.end(out, None);
        }
        let masters = nodes
            .iter()
            .filter(|node| node.node_type() == NodeType::Master);
        let masters: Vec<_> = masters.filter_map(|node| node.address.clone()).collect();
        if self.link.learn(masters) {
            out.event(StorageEvent::Masters(self.link.masters().to_vec()));
        }
        let changes = self.conns.nodes(full, nodes);
        let mut io = Io {
            now,
            out,
            jobs: &mut self.jobs,
        };
        for (nid, session) in changes.gone {
            if let Some(service) = &mut self.service {
                service.client_gone(&self.cells, &mut io, nid, session);
            }
        }
        for conn in changes.close {
            self.held.retain(|(from, _)| *from != conn);
            self.peer_lost(now, out, conn);
            out.close(conn, "the primary master says that this node is gone");
        }
        if let Some(service) = &mut self.service {
            service.replication.look();
        }
        for verdict in changes.verdicts {
            self.pronounce(out, verdict);
        }
    }

    /// Tells a peer what became of its identification.
    pub(super) fn pronounce(&self, out: &mut Effects<Self>, verdict: Verdict) {
        match verdict {
            Verdict::Wait => {}
            Verdict::Refuse(asker, (code, message)) => {
                tracing::info!(words = message, "refused a node");
                out.send(asker.conn, asker.id, Packet::Error { code, message });
                out.close(asker.conn, "not accepted");
            }
            Verdict::Accept(client, asker) => {
                let answer = Packet::AcceptIdentification {
                    node_type: NodeType::Storage,
                    nid: self.nid,
                    your_nid: client.peer.nid,
                    reign: self.reign,
                    session: client.peer.session,
                    identity: None,
                };
                out.send(asker.conn, asker.id, answer);
            }
        }
    }

    fn new_table(
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
        let mut ops = set_identity(&self.settings.cluster, nid, identity.as_ref());
        ops.push(WriteOp::SetPartitionTable(table.clone()));
        if self.renamed.is_some() {
            self.table_of_copy(now, out, nid, (identity, table), ops);
        } else {
            self.store_table(now, out, identity, table, ops);
        }
        Ok(())
    }

    fn store_table(
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
            outdated,
        });
        if is_ready {
            self.write_table(now, out);
        } else {
            io.read(Query::Extent { partitions }, AfterRead::Extent);
        }
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
            table, identity, ..
        }) = self.table.take()
        else {
            return;
        };
        let version = table.version;
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
        let more = self.cells.set(self.nid, table);
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

    /// Starts the request of the primary whose turn it is.
    pub(super) fn next_task(&mut self, now: Now, out: &mut Effects<Self>) {
        while !self.tasks.is_busy() {
            let Some(next) = self.tasks.queue.front() else {
                return;
            };
            let truncate = matches!(next.packet, Packet::AskTruncate { .. });
            if truncate && let Some(import) = &mut self.import {
                // Its batches that are on their way are taken back too.
                import.close();
                if import.is_writing() {
                    return;
                }
            }
            if self.service.is_none() && !self.jobs.is_quiet() {
                return;
            }
            let Some(next) = self.tasks.queue.pop_front() else {
                return;
            };
            let asker = next.asker;
            if let Err(reason) = self.start_task(now, out, next) {
                tracing::error!(reason, "the primary and this node disagree");
                let (code, message) = (ErrorCode::Protocol, reason.clone());
                out.send(asker.conn, asker.id, Packet::Error { code, message });
                return self.drop_conn(now, out, asker.conn, &reason);
            }
        }
    }

    fn start_task(
        &mut self,
        now: Now,
        out: &mut Effects<Self>,
        next: Waiting,
    ) -> Result<(), String> {
        let asker = next.asker;
        let serves = self.service.is_some();
        let mut io = Io {
            now,
            out,
            jobs: &mut self.jobs,
        };
        match next.packet {
            Packet::AskRecovery {} => {
                let recovery = Box::new(Recovery {
                    version: self.cells.version(),
                    reign: self.reign,
                    identity: self.identity.clone(),
                    oid_mark: self.oid_mark,
                    backup_tid: None,
                    truncate_tid: None,
                    import_tid: self.import_tid,
                });
                io.answer(asker, Packet::AnswerRecovery { recovery });
            }
            Packet::AskPartitionTable {} => {
                let table = self.cells.table().cloned().map(Box::new);
                io.answer(asker, Packet::AnswerPartitionTable { table });
            }
            Packet::AskStartReign { reign } => {
                if serves || reign < self.reign {
                    let known = self.reign;
                    return Err(format!("reign {reign} can't start: {known} has been here"));
                }
                self.served_before = reign == self.reign;
                let batch = WriteBatch::from(vec![set(REIGN, Some(reign.0.to_string()))]);
                let then = AfterPersist::Reign(asker, reign);
                io.persist_surely(batch, Durability::Synced, then);
            }
            Packet::AskImportMark { import, mark } => {
                let value = mark.map(|mark| mark.to_string());
                let batch = WriteBatch::from(vec![set(IMPORT_TID, value)]);
                if mark.is_none() {
                    // Late batches of it are refused from now on.
                    self.import = None;
                }
                let then = AfterPersist::ImportMark(asker, import, mark);
                io.persist_surely(batch, Durability::Synced, then);
            }
            Packet::StartOperation { operation } => self.start_operation(now, out, operation)?,
            Packet::AskValidateTransaction { .. } if serves => {
                return Err("a transaction is validated while this node serves".to_owned());
            }
            _ => self.tasks.start(&self.cells, &mut io, next),
        }
        Ok(())
    }

    fn start_operation(
        &mut self,
        now: Now,
        out: &mut Effects<Self>,
        operation: u64,
    ) -> Result<(), String> {
        if self.service.is_some() {
            return Err("this node serves already".to_owned());
        }
        if self.cells.table().is_none() || self.reign == Reign(0) {
            return Err("this node can't serve without a partition table and a reign".to_owned());
        }
        let mut transactions = Transactions::new(
            self.reign,
            self.settings.limits.clone(),
            self.settings.mutations,
            self.object_bytes_max,
        );
        let mut io = Io {
            now,
            out,
            jobs: &mut self.jobs,
        };
        transactions.learn_serials(&self.cells, &mut io);
        transactions.collect_garbage(self.served_before, &mut io);
        let limits = &self.settings.limits;
        let mut replication = Replication::new(self.seed, limits, self.settings.mutations);
        replication.table_changed(&self.cells);
        let drops = Drops::new(&self.cells, self.settings.drop_partitions);
        self.service = Some(Service {
            transactions,
            replication,
            drops,
            unready: Some(operation),
        });
        tracing::info!(reign = %self.reign, "serving");
        out.event(StorageEvent::Operating);
        self.tell_ready(out);
        Ok(())
    }

    /// Tells the primary that this node takes part: at once, or when transactions that may be named
    /// as new ones are gone.
    pub(super) fn tell_ready(&mut self, out: &mut Effects<Self>) {
        if let (Some(service), Some(conn)) = (&mut self.service, self.link.up())
            && (!self.served_before || service.transactions.is_clean())
            && let Some(operation) = service.unready.take()
        {
            out.notify(conn, Packet::NotifyReady { operation });
        }
    }

    pub(super) fn import_mark_stored(
        &mut self,
        now: Now,
        out: &mut Effects<Self>,
        asker: Asker,
        number: u64,
        mark: Option<Tid>,
    ) {
        self.import_tid = mark;
        match (mark, &mut self.import) {
            (None, _) => self.import = None,
            (Some(mark), Some(import)) if import.number() == number => import.raise(mark),
            (Some(mark), _) => self.import = Some(Import::new(number, mark)),
        }
        if let Some(service) = &mut self.service {
            if let Some(mark) = mark {
                service.replication.imported(mark);
            }
            service.replication.look();
            let mut io = Io {
                now,
                out,
                jobs: &mut self.jobs,
            };
            match self.import {
                Some(_) => service.transactions.forget_serials(),
                None => service.transactions.learn_serials(&self.cells, &mut io),
            }
        }
        let import = number;
        out.send(asker.conn, asker.id, Packet::AnswerImportMark { import });
    }
}
