//! The vote: everything is stored and locked somewhere, then durable, then judged.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use neo_api::{NodeId, Oid, Partition, Record, Tid, VotedRecord};
use neo_proto::{ErrorCode, MsgId, Oids, Packet};

use super::effect::{Change, Event, Reply, ReplyId, TxnKey};
use super::transaction::Phase;
use super::{ClientCore, Failure, Req, Todo, refused_by_primary};
use crate::error::Error;

impl ClientCore {
    pub(super) fn vote(&mut self, key: TxnKey, reply: ReplyId, record: VotedRecord) {
        let Some(txn) = self.txns.get_mut(&key) else {
            self.reply(reply, Err(Error::Misuse("the transaction is over".into())));
            return;
        };
        match &txn.phase {
            Phase::Open => {
                txn.phase = Phase::Storing { reply, record };
                self.todo.push_back(Todo::Txn(key));
            }
            // Who waited has given up; another waits now.
            Phase::Storing { reply: old, .. } => {
                let old = *old;
                txn.phase = Phase::Storing { reply, record };
                self.replaced(old);
            }
            Phase::Voting(old) => {
                let old = *old;
                txn.phase = Phase::Voting(reply);
                self.replaced(old);
            }
            Phase::Arbitrating(old) => {
                let old = *old;
                txn.phase = Phase::Arbitrating(reply);
                self.replaced(old);
            }
            Phase::Voted => {
                let resolved = txn.resolved.iter().copied().collect();
                self.reply(reply, Ok(Reply::Voted(resolved)));
            }
            Phase::Failed(error) => {
                let error = error.clone();
                self.reply(reply, Err(error));
            }
            Phase::Beginning(_) | Phase::Finishing(_) | Phase::Lost(..) => {
                let error = Error::Misuse("the vote comes after begin and before finish".into());
                self.reply(reply, Err(error));
            }
        }
    }

    fn replaced(&mut self, reply: ReplyId) {
        self.reply(
            reply,
            Err(Error::Misuse("the vote was asked for again".into())),
        );
    }

    /// Goes on with a vote, as far as it can.
    pub(super) fn txn_step(&mut self, key: TxnKey) {
        let Some(txn) = self.txns.get_mut(&key) else {
            return;
        };
        match &txn.phase {
            Phase::Storing { reply, .. } => {
                let reply = *reply;
                match self.conflicts(key) {
                    Err(error) => self.fail_txn(key, error),
                    // Told before the other stores are answered: they may wait for a lock.
                    Ok(conflicts) if !conflicts.is_empty() => {
                        if let Some(txn) = self.txns.get_mut(&key) {
                            txn.phase = Phase::Open;
                        }
                        self.reply(reply, Ok(Reply::Conflicts(conflicts)));
                    }
                    Ok(_) => self.start_vote(key),
                }
            }
            Phase::Voting(_) if txn.outstanding.is_empty() => self.judge_votes(key),
            _ => {}
        }
    }

    fn start_vote(&mut self, key: TxnKey) {
        let Some(txn) = self.txns.get(&key) else {
            return;
        };
        // A change that waits for a relock has that outstanding.
        if !txn.outstanding.is_empty() {
            return;
        }
        if let Some(error) = self.not_locked(key) {
            self.fail_txn(key, error);
            return;
        }
        let counts = self.objects_by_node(key);
        let Some(txn) = self.txns.get(&key) else {
            return;
        };
        let Some(name) = txn.name else {
            return;
        };
        let metadata: BTreeSet<NodeId> = self
            .writable(self.partition_of_tid(name.ttid))
            .into_iter()
            .filter(|nid| txn.is_target(*nid))
            .collect();
        // Not what is only checked: the list tells which revisions the transaction has.
        let is_stored = |oid: &&Oid| {
            let object = txn.objects.get(oid);
            object.is_some_and(|object| object.change != Change::Check)
        };
        let oids = Oids(txn.order.iter().filter(is_stored).copied().collect());
        let Some(txn) = self.txns.get_mut(&key) else {
            return;
        };
        txn.metadata.clone_from(&metadata);
        let storing = std::mem::replace(&mut txn.phase, Phase::Open);
        let Phase::Storing { reply, record } = storing else {
            return;
        };
        txn.phase = Phase::Voting(reply);
        let nodes: BTreeSet<NodeId> = metadata.iter().chain(counts.keys()).copied().collect();
        // Their partitions went elsewhere meanwhile: they have no part in it.
        let contacted = txn.nodes.keys().copied();
        let idle: Vec<NodeId> = contacted
            .filter(|nid| !nodes.contains(nid) && !txn.failed.contains_key(nid))
            .collect();
        for nid in idle {
            self.abort_at(key, nid);
        }
        for nid in nodes {
            let objects = counts.get(&nid).copied().unwrap_or(0);
            let with_metadata = metadata.contains(&nid);
            let packet = if with_metadata {
                Packet::AskStoreTransaction {
                    txn: name,
                    meta: record.meta.clone(),
                    oids: oids.clone(),
                    objects,
                    pack: record.pack.clone().map(Box::new),
                    packed: record.packed,
                }
            } else {
                Packet::AskVoteTransaction { txn: name, objects }
            };
            let req = Req::Vote {
                txn: key,
                metadata: with_metadata,
            };
            self.ask_storage_in_txn(key, nid, req, packet, Bytes::new());
        }
        self.touch(key);
        self.todo.push_back(Todo::Txn(key));
    }

    /// A node that has no cell of the metadata any more votes for its objects, if it has any.
    pub(super) fn vote_without_metadata(&mut self, key: TxnKey, nid: NodeId) {
        let objects = self.objects_by_node(key).remove(&nid);
        let Some(txn) = self.txns.get_mut(&key) else {
            return;
        };
        txn.metadata.remove(&nid);
        let (Some(name), Phase::Voting(_)) = (txn.name, &txn.phase) else {
            return;
        };
        let Some(objects) = objects else {
            self.abort_at(key, nid);
            return;
        };
        let packet = Packet::AskVoteTransaction { txn: name, objects };
        let req = Req::Vote {
            txn: key,
            metadata: false,
        };
        self.ask_storage_in_txn(key, nid, req, packet, Bytes::new());
    }

    /// How many objects each node holds, of partitions that it still has.
    fn objects_by_node(&self, key: TxnKey) -> BTreeMap<NodeId, u32> {
        let mut counts = BTreeMap::new();
        let Some(txn) = self.txns.get(&key) else {
            return counts;
        };
        let mut writable: BTreeMap<Partition, Vec<NodeId>> = BTreeMap::new();
        for (oid, object) in &txn.objects {
            let partition = self.partition_of_oid(*oid);
            let nodes = writable
                .entry(partition)
                .or_insert_with(|| self.writable(partition));
            for nid in object.locked.iter().chain(&object.unchecked) {
                if nodes.contains(nid) && txn.is_target(*nid) {
                    *counts.entry(*nid).or_insert(0) += 1;
                }
            }
        }
        counts
    }

    /// An object that no node has locked: another transaction could change it, too.
    ///
    /// A node that does not have the partition any more has let go of the lock. One that could not
    /// compare serials, because it was catching up, and is readable now, has compared them since:
    /// what did not stand is gone there, and would be missed by its vote.
    fn not_locked(&self, key: TxnKey) -> Option<Error> {
        let txn = self.txns.get(&key)?;
        let (oid, _) = txn.objects.iter().find(|(oid, object)| {
            let cells = self.table.iter();
            let mut cells = cells.flat_map(|table| table.writable(self.partition_of_oid(**oid)));
            !cells.any(|cell| {
                let compared = cell.state.is_readable() && object.unchecked.contains(&cell.nid);
                compared || object.locked.contains(&cell.nid)
            })
        })?;
        let partition = self.partition_of_oid(*oid);
        Some(self.why_failed(key, partition).unwrap_or_else(|| {
            Error::IncompleteTransaction(format!(
                "no running node of partition {partition} has locked object {oid}"
            ))
        }))
    }

    /// The most telling of the failures of a partition's nodes.
    fn why_failed(&self, key: TxnKey, partition: Partition) -> Option<Error> {
        let txn = self.txns.get(&key)?;
        let cells = self.writable(partition);
        let mut failures = cells
            .iter()
            .filter_map(|nid| Some((*nid, txn.failed.get(nid)?)));
        let full = failures
            .clone()
            .find(|(_, failure)| failure.code == Some(ErrorCode::NoSpace));
        let (nid, failure) = full.or_else(|| failures.next())?;
        Some(match failure.code {
            Some(ErrorCode::NoSpace | ErrorCode::Internal) => failure.error(nid),
            _ => Error::IncompleteTransaction(format!(
                "no node of partition {partition} is left; {nid}: {}",
                failure.message
            )),
        })
    }

    pub(super) fn vote_answered(&mut self, id: MsgId, nid: Option<NodeId>, key: TxnKey) {
        let (Some(txn), Some(nid)) = (self.txns.get_mut(&key), nid) else {
            return;
        };
        txn.outstanding.remove(&id);
        if !txn.failed.contains_key(&nid) {
            txn.voted.insert(nid);
        }
        self.touch_if_waiting(key);
        self.todo.push_back(Todo::Txn(key));
    }

    /// Every node has voted, or failed.
    fn judge_votes(&mut self, key: TxnKey) {
        if let Some(error) = self.not_locked(key) {
            self.fail_txn(key, error);
            return;
        }
        let Some(txn) = self.txns.get(&key) else {
            return;
        };
        let (Some(name), Phase::Voting(reply)) = (txn.name, &txn.phase) else {
            return;
        };
        let reply = *reply;
        if txn.voted.is_disjoint(&txn.metadata) {
            let partition = self.partition_of_tid(name.ttid);
            let error = self.why_failed(key, partition).unwrap_or_else(|| {
                Error::IncompleteTransaction(format!("partition {partition} has no running node"))
            });
            self.fail_txn(key, error);
            return;
        }
        // Nodes that the primary does not count on any more need no judgement.
        let failed: Vec<NodeId> = txn
            .failed
            .keys()
            .copied()
            .filter(|nid| self.is_running(*nid))
            .collect();
        let (false, Some(conn)) = (failed.is_empty(), self.master.ready_conn()) else {
            self.voted(key, reply);
            return;
        };
        if let Some(txn) = self.txns.get_mut(&key) {
            txn.phase = Phase::Arbitrating(reply);
        }
        let packet = Packet::AskFailedVote {
            txn: name,
            nodes: failed,
        };
        self.ask_master(conn, Req::FailedVote(key), packet);
        self.touch(key);
    }

    pub(super) fn arbitrated(&mut self, key: TxnKey) {
        if let Some(txn) = self.txns.get(&key)
            && let Phase::Arbitrating(reply) = txn.phase
        {
            self.voted(key, reply);
        }
    }

    fn voted(&mut self, key: TxnKey, reply: ReplyId) {
        self.untouch(key);
        if let Some(txn) = self.txns.get_mut(&key) {
            txn.phase = Phase::Voted;
            let resolved = txn.resolved.iter().copied().collect();
            self.reply(reply, Ok(Reply::Voted(resolved)));
        }
    }

    // --- finish ---

    pub(super) fn finish(&mut self, key: TxnKey, reply: ReplyId) {
        let Some(txn) = self.txns.get_mut(&key) else {
            self.reply(reply, Err(Error::Misuse("the transaction is over".into())));
            return;
        };
        let conn = self.master.ready_conn();
        match (&txn.phase, txn.name, conn) {
            (Phase::Voted, Some(name), Some(conn)) => {
                txn.phase = Phase::Finishing(Some(reply));
                let changed = txn
                    .objects
                    .iter()
                    .filter(|(_, o)| o.change != Change::Check);
                let oids: Vec<Oid> = changed.map(|(oid, _)| *oid).collect();
                let all: Vec<Oid> = txn.objects.keys().copied().collect();
                let partitions: BTreeSet<Partition> = all
                    .into_iter()
                    .map(|oid| self.partition_of_oid(oid))
                    .collect();
                let packet = Packet::AskFinishTransaction {
                    txn: name,
                    oids: Oids(oids),
                    partitions: partitions.into_iter().collect(),
                };
                self.ask_master(conn, Req::Finish(key), packet);
                self.touch(key);
            }
            (Phase::Failed(error), ..) => {
                let error = error.clone();
                self.reply(reply, Err(error));
            }
            _ => {
                let error = Error::Misuse("finish comes after the vote".into());
                self.reply(reply, Err(error));
            }
        }
    }

    /// The primary refuses to go on: nothing is committed, unless it does not say so.
    pub(super) fn refused_by_master(&mut self, key: TxnKey, failure: &Failure) {
        let Some(txn) = self.txns.get_mut(&key) else {
            return;
        };
        if failure.code.is_none() {
            self.lost_or_failed(key, &failure.message);
            return;
        }
        let error = refused_by_primary(failure);
        if let Phase::Finishing(reply) = &mut txn.phase {
            let reply = reply.take();
            self.release(key);
            self.forget_txn(key);
            if let Some(reply) = reply {
                self.reply(reply, Err(error));
            }
        } else {
            self.fail_txn(key, error);
        }
    }

    fn lost_or_failed(&mut self, key: TxnKey, reason: &str) {
        match self.txns.get_mut(&key).map(|txn| &mut txn.phase) {
            Some(Phase::Finishing(reply)) => {
                let reply = reply.take();
                self.lost_finish(key, reply);
            }
            Some(_) => self.fail_txn(key, Error::NotReady(reason.to_owned())),
            None => {}
        }
    }

    /// The transaction is over; its objects are not needed any more.
    pub(super) fn forget_txn(&mut self, key: TxnKey) {
        self.untouch(key);
        self.txns.remove(&key);
        self.drop_calls_of(key);
        self.stop_when_idle();
    }

    /// Committed, as the primary or a storage says.
    pub(super) fn committed(&mut self, key: TxnKey, tid: Tid) {
        let Some(txn) = self.txns.get_mut(&key) else {
            return;
        };
        let (Phase::Finishing(reply) | Phase::Lost(reply, _)) = &mut txn.phase else {
            return;
        };
        let reply = reply.take();
        let changed: Vec<(Oid, Option<Record>)> = std::mem::take(&mut txn.objects)
            .into_iter()
            .filter_map(|(oid, object)| match object.change {
                Change::Value(record) => Some((oid, Some(record))),
                Change::SameAs(_) | Change::Deletion => Some((oid, None)),
                Change::Check => None,
            })
            .collect();
        let oids: Vec<Oid> = changed.iter().map(|(oid, _)| *oid).collect();
        let newest = tid > self.last_tid;
        self.invalidate(tid, &oids);
        self.out.event(Event::Committed {
            txn: key,
            reply,
            tid,
            changed,
            newest,
        });
        self.forget_txn(key);
    }
}
