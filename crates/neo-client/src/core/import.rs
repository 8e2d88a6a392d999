//! Imports: ordered batches to every writable cell, several in flight, committed by checkpoints.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use neo_api::{NodeId, NodeType, Oid, Partition, Tid};
use neo_proto::{Packet, WireRevision, WireTransaction};

use super::call::CallKind;
use super::effect::{ImportKey, Reply, ReplyId};
use super::timer::TimerId;
use super::{ClientCore, Req, Timer};
use crate::error::Error;

#[derive(Debug)]
pub(super) struct Import {
    /// The primary's number of it.
    number: u64,
    /// Storages that were running when it began.
    targets: BTreeSet<NodeId>,
    next_batch: u64,
    batches: BTreeMap<u64, Batch>,
    /// Parts that wait until the node has answered all before: a message without values could
    /// overtake one with values.
    held: BTreeMap<NodeId, VecDeque<(u64, Part)>>,
    /// Who waits for a checkpoint, or for the end.
    reply: Option<ReplyId>,
    timer: Option<TimerId>,
    failed: Option<Error>,
}

#[derive(Debug)]
struct Batch {
    reply: ReplyId,
    waiting: BTreeSet<NodeId>,
}

#[derive(Debug, Default)]
struct Part {
    transactions: Vec<WireTransaction>,
    revisions: Vec<WireRevision>,
    payload: BytesMut,
}

impl Import {
    pub(super) fn everybody_who_waits(self) -> Vec<ReplyId> {
        let batches = self.batches.values().map(|batch| batch.reply);
        batches.chain(self.reply).collect()
    }
}

impl ClientCore {
    pub(super) fn begin_import(&mut self, import: ImportKey, reply: ReplyId) {
        self.call(CallKind::BeginImport { import, reply });
    }

    pub(super) fn import_begun(
        &mut self,
        key: ImportKey,
        reply: ReplyId,
        number: u64,
        last_tid: Tid,
    ) {
        let nodes = self.nodes.keys().copied();
        let targets = nodes
            .filter(|nid| nid.node_type() == NodeType::Storage && self.is_running(*nid))
            .collect();
        let import = Import {
            number,
            targets,
            next_batch: 0,
            batches: BTreeMap::new(),
            held: BTreeMap::new(),
            reply: None,
            timer: None,
            failed: None,
        };
        self.imports.insert(key, import);
        self.reply(reply, Ok(Reply::ImportBegun(last_tid)));
    }

    /// The import, unless it failed or is over: then the answer is the error.
    fn import_or_error(&mut self, key: ImportKey, reply: ReplyId) -> Option<&mut Import> {
        let error = match self.imports.get(&key) {
            None => Error::Misuse("the import is over".into()),
            Some(Import {
                failed: Some(error),
                ..
            }) => error.clone(),
            Some(_) => return self.imports.get_mut(&key),
        };
        self.reply(reply, Err(error));
        None
    }

    pub(super) fn import_batch(
        &mut self,
        key: ImportKey,
        reply: ReplyId,
        transactions: Vec<WireTransaction>,
        revisions: Vec<(WireRevision, Bytes)>,
    ) {
        let Some(import) = self.import_or_error(key, reply) else {
            return;
        };
        let number = import.next_batch;
        import.next_batch += 1;
        let parts = match self.split_batch(key, transactions, revisions) {
            Ok(parts) => parts,
            Err(partition) => {
                let error = Error::NotReady(format!("partition {partition} has no running node"));
                self.reply(reply, Err(error.clone()));
                self.import_failed(key, error);
                return;
            }
        };
        let waiting: BTreeSet<NodeId> = parts.keys().copied().collect();
        if waiting.is_empty() {
            self.reply(reply, Ok(Reply::Done));
            return;
        }
        if let Some(import) = self.imports.get_mut(&key) {
            import.batches.insert(number, Batch { reply, waiting });
            for (nid, part) in parts {
                import
                    .held
                    .entry(nid)
                    .or_default()
                    .push_back((number, part));
            }
        }
        self.import_send(key);
        self.import_touch(key);
    }

    /// What goes to which node. The error names a partition that has none.
    fn split_batch(
        &self,
        key: ImportKey,
        transactions: Vec<WireTransaction>,
        revisions: Vec<(WireRevision, Bytes)>,
    ) -> Result<BTreeMap<NodeId, Part>, Partition> {
        let mut parts: BTreeMap<NodeId, Part> = BTreeMap::new();
        let mut rows: BTreeMap<Partition, Vec<NodeId>> = BTreeMap::new();
        let targets = self.imports.get(&key).map(|import| &import.targets);
        let mut nodes = |partition: Partition| {
            let row = rows.entry(partition).or_insert_with(|| {
                let cells = self.writable(partition).into_iter();
                cells
                    .filter(|nid| targets.is_some_and(|targets| targets.contains(nid)))
                    .collect()
            });
            if row.is_empty() {
                Err(partition)
            } else {
                Ok(row.clone())
            }
        };
        for transaction in transactions {
            for nid in nodes(self.partition_of_tid(transaction.tid))? {
                let part = parts.entry(nid).or_default();
                part.transactions.push(transaction.clone());
            }
        }
        for (revision, value) in revisions {
            for nid in nodes(self.partition_of_oid(revision.id.oid))? {
                let part = parts.entry(nid).or_default();
                part.revisions.push(revision);
                part.payload.extend_from_slice(&value);
            }
        }
        Ok(parts)
    }

    /// Sends what may go, in order for each node.
    fn import_send(&mut self, key: ImportKey) {
        let Some(import) = self.imports.get_mut(&key) else {
            return;
        };
        let mut ready = Vec::new();
        for (nid, held) in &mut import.held {
            while let Some((number, part)) = held.front() {
                let number = *number;
                let earlier = import
                    .batches
                    .range(..number)
                    .any(|(_, batch)| batch.waiting.contains(nid));
                if part.payload.is_empty() && earlier {
                    break;
                }
                if let Some((_, part)) = held.pop_front() {
                    ready.push((*nid, number, part));
                }
            }
        }
        let import_number = import.number;
        for (nid, batch, part) in ready {
            let packet = Packet::AskImport {
                import: import_number,
                transactions: part.transactions,
                revisions: part.revisions,
            };
            let req = Req::ImportBatch { import: key, batch };
            self.ask_storage(nid, req, packet, part.payload.freeze());
        }
    }

    pub(super) fn import_batch_answered(
        &mut self,
        key: ImportKey,
        number: u64,
        nid: Option<NodeId>,
    ) {
        let (Some(import), Some(nid)) = (self.imports.get_mut(&key), nid) else {
            return;
        };
        let Some(batch) = import.batches.get_mut(&number) else {
            return;
        };
        batch.waiting.remove(&nid);
        if batch.waiting.is_empty() {
            let reply = batch.reply;
            import.batches.remove(&number);
            self.reply(reply, Ok(Reply::Done));
        }
        self.import_send(key);
        self.import_touch(key);
    }

    pub(super) fn checkpoint_import(
        &mut self,
        key: ImportKey,
        reply: ReplyId,
        tid: Tid,
        last_oid: Oid,
    ) {
        let conn = self.master.ready_conn();
        let Some(import) = self.import_or_error(key, reply) else {
            return;
        };
        let (true, Some(conn)) = (import.batches.is_empty(), conn) else {
            let error = Error::Misuse("a checkpoint comes after its batches".into());
            self.reply(reply, Err(error));
            return;
        };
        import.reply = Some(reply);
        let packet = Packet::AskCheckpointImport {
            import: import.number,
            tid,
            last_oid,
        };
        self.ask_master(conn, Req::Checkpoint(key), packet);
        self.import_touch(key);
    }

    pub(super) fn import_checkpointed(&mut self, key: ImportKey, tid: Tid) {
        let Some(import) = self.imports.get_mut(&key) else {
            return;
        };
        let reply = import.reply.take();
        self.import_touch(key);
        if tid > self.last_tid {
            // Whatever the primary tells the others, this client has not heard of the changes.
            self.resync(tid);
        }
        if let Some(reply) = reply {
            self.reply(reply, Ok(Reply::LastTid(tid)));
        }
    }

    pub(super) fn end_import(&mut self, key: ImportKey, reply: Option<ReplyId>) {
        let conn = self.master.ready_conn();
        let Some(import) = self.imports.get_mut(&key) else {
            self.drop_begin_import(key);
            if let Some(reply) = reply {
                self.reply(reply, Err(Error::Misuse("the import is over".into())));
            }
            return;
        };
        let number = import.number;
        let failed = import.failed.clone();
        import.reply = reply;
        match (conn, failed) {
            // What is written after the last checkpoint does not count.
            (Some(conn), None) => {
                let packet = Packet::AskEndImport { import: number };
                self.ask_master(conn, Req::EndImport(key), packet);
                self.import_touch(key);
            }
            (_, failed) => {
                self.import_over(key);
                if let Some(reply) = reply {
                    self.reply(reply, Err(failed.unwrap_or(Error::Closed)));
                }
            }
        }
    }

    pub(super) fn import_ended(&mut self, key: ImportKey) {
        let Some(import) = self.imports.get_mut(&key) else {
            return;
        };
        if import.failed.is_some() {
            // The application has not heard yet: its next call says why.
            return;
        }
        let reply = import.reply.take();
        self.import_over(key);
        if let Some(reply) = reply {
            self.reply(reply, Ok(Reply::Done));
        }
    }

    fn import_over(&mut self, key: ImportKey) {
        if let Some(import) = self.imports.remove(&key)
            && let Some(timer) = import.timer
        {
            self.timers.cancel(timer);
        }
    }

    /// The import can't go on: it ends at its last checkpoint.
    pub(super) fn import_failed(&mut self, key: ImportKey, error: Error) {
        let Some(import) = self.imports.get_mut(&key) else {
            return;
        };
        if import.failed.is_some() {
            return;
        }
        import.failed = Some(error.clone());
        import.held.clear();
        let number = import.number;
        let batches = std::mem::take(&mut import.batches);
        let waiting: Vec<ReplyId> = batches
            .into_values()
            .map(|batch| batch.reply)
            .chain(import.reply.take())
            .collect();
        if let Some(timer) = import.timer.take() {
            self.timers.cancel(timer);
        }
        let ids = self.requests.iter().filter(
            |(_, sent)| matches!(sent.req, Req::ImportBatch { import, .. } if import == key),
        );
        let ids: Vec<_> = ids.map(|(id, _)| *id).collect();
        self.cancel_requests(&ids);
        if let Some(conn) = self.master.ready_conn() {
            let packet = Packet::AskEndImport { import: number };
            self.ask_master(conn, Req::EndImport(key), packet);
        }
        for reply in waiting {
            self.reply(reply, Err(error.clone()));
        }
    }

    pub(super) fn imports_without_master(&mut self, reason: &str) {
        let keys: Vec<ImportKey> = self.imports.keys().copied().collect();
        for key in keys {
            self.import_failed(key, Error::NotReady(reason.to_owned()));
        }
    }

    fn import_touch(&mut self, key: ImportKey) {
        let timeout = self.settings.operation_timeout;
        let at = self.now.mono + timeout;
        let Some(import) = self.imports.get_mut(&key) else {
            return;
        };
        if let Some(timer) = import.timer.take() {
            self.timers.cancel(timer);
        }
        if !import.batches.is_empty() || import.reply.is_some() {
            import.timer = Some(self.timers.set(at, Timer::Import(key)));
        }
    }

    pub(super) fn import_timer(&mut self, key: ImportKey) {
        let Some(import) = self.imports.get(&key) else {
            return;
        };
        let nodes: BTreeSet<NodeId> = import
            .batches
            .values()
            .flat_map(|batch| batch.waiting.iter().copied())
            .collect();
        let nodes: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
        let what = if nodes.is_empty() {
            "the primary master to commit a part of an import".to_owned()
        } else {
            format!("{} to import", nodes.join(", "))
        };
        let error = self.timeout_error(&what);
        self.import_failed(key, error);
    }
}
