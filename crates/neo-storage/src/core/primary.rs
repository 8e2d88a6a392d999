//! What masters say to this node.

use neo_api::{Durability, NodeState, NodeType, Now, Reign, Tid, WriteBatch, WriteOp};
use neo_proto::{ConnId, Effects, ErrorCode, Message, NodeInfo, Packet, Recovery, shown};

use super::clients::Verdict;
use super::discarded::Drops;
use super::effect::{IMPORT_TID, OID_MARK, REIGN, StorageEvent};
use super::import::Import;
use super::initialization::set;
use super::io::{AfterPersist, Asker, Io};
use super::packing::Packing;
use super::replication::Replication;
use super::task::Waiting;
use super::transaction::Transactions;
use super::{Service, StorageCore};

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
                } else if let Some(nid) = self.noted().filter(|nid| *nid != your_nid) {
                    let why = format!(
                        "the primary calls this node {your_nid}, but its database is that of {nid}"
                    );
                    return self.end(out, Some(why));
                } else if self.is_noting() && self.nid != Some(your_nid) {
                    return self.drop_conn(now, out, conn, "this node's id is being noted");
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
            | Packet::AskPackOrders { .. }
            | Packet::AskRemaining { .. }
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
            Packet::AnswerUnfinishedTransactions {
                last_tid,
                pending,
                committed_in,
            } => {
                if let Some(service) = &mut self.service {
                    let last = (committed_in, last_tid);
                    service.replication.registered(asker.id, last, &pending);
                }
            }
            Packet::NotifyTransactionFinished { txn, tid } => {
                if let Some(service) = &mut self.service {
                    service.replication.transaction_ended(txn, tid);
                }
            }
            Packet::AnswerRemaining { remaining } => {
                if let Some(service) = &mut self.service {
                    service
                        .packing
                        .told(&self.cells, &mut io, asker.id, remaining);
                }
            }
            Packet::NotifyPackOrders { after, orders } => {
                if let Some(service) = &mut self.service {
                    service.packing.ordered(after, orders);
                }
            }
            Packet::Error { code, message } => {
                if let Some(service) = &mut self.service {
                    let why = (code, message.as_str());
                    service.replication.refused(&io, asker.id, why);
                    service.packing.refused(&io, asker.id, why);
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
                let transactions = &mut service.transactions;
                transactions.client_gone(&self.cells, &mut io, nid, session);
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
                let mut batch = WriteBatch::from(vec![set(IMPORT_TID, value)]);
                let number = self.import.as_ref().map(Import::number);
                if mark.is_some()
                    && number == Some(import)
                    && let Some(op) = io.jobs.note_commit(self.reign)
                {
                    batch.push(op);
                }
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
            Packet::AskPackOrders { .. } | Packet::AskRemaining { .. } if !serves => {
                return Err("packs are asked about before this node serves".to_owned());
            }
            Packet::AskRemaining { at, ref ids, .. }
                if self.service.as_ref().is_some_and(|service| {
                    let last = ids.iter().map(|id| id.tid).chain(at).max();
                    last.is_some_and(|last| service.transactions.greatest_locked(last).is_some())
                }) =>
            {
                // What is locked has no place yet.
                let text = "a transaction that is locked here comes before";
                io.error(asker, ErrorCode::NotReady, text);
            }
            Packet::AskPackOrders {
                partitions,
                after,
                max,
            } => {
                // What is locked has no place yet: what it orders is not known here.
                let locked = self.service.as_ref().and_then(|service| {
                    let first = service.transactions.least_locked(max)?;
                    Some(Tid(first.0.saturating_sub(1)))
                });
                let packet = Packet::AskPackOrders {
                    partitions,
                    after,
                    max: locked.unwrap_or(max),
                };
                let next = Waiting { asker, packet };
                self.tasks.start(&self.cells, &mut io, next);
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
        let packing = Packing::new(limits.replication_bytes_per_s_min);
        self.service = Some(Service {
            transactions,
            replication,
            drops,
            packing,
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
                service.replication.imported(self.reign, mark);
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
