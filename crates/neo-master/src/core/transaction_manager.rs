//! Pending transactions, with the indexes that make every step cost what it changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use neo_api::{Instant, NodeId, Partition, Tid, TxnId};
use neo_proto::{ConnId, MsgId, Oids};

/// A client's request that is answered later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) nid: NodeId,
    pub(crate) conn: ConnId,
    pub(crate) id: MsgId,
}

/// A transaction that is not ended.
#[derive(Debug)]
pub(crate) struct Transaction {
    /// Whose it is; `None` when the client is gone.
    pub(crate) client: Option<NodeId>,
    /// Storage nodes that became ready up to this moment take part.
    pub(crate) readiness: u64,
    /// The tid that it must get.
    pub(crate) imposed: Option<Tid>,
    /// Nodes that it may finish without, since they failed to store or vote.
    pub(crate) failed: BTreeSet<NodeId>,
    /// What nodes told of their votes.
    pub(crate) votes: BTreeMap<NodeId, Vote>,
    /// Storage nodes that catch up, and are told when it ends.
    pub(crate) watchers: BTreeSet<ConnId>,
    pub(crate) stage: Stage,
}

/// A transaction that is committed now.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) txn: TxnId,
    /// Whose it is, if the client is still there.
    pub(crate) client: Option<NodeId>,
    pub(crate) watchers: BTreeSet<ConnId>,
    pub(crate) finishing: Finishing,
}

/// A vote of a storage node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vote {
    /// Whether it has the transaction's metadata.
    pub(crate) metadata: bool,
    /// How many objects it has of each partition, in order.
    pub(crate) objects: Vec<(Partition, u32)>,
}

impl Vote {
    /// How many objects it has of a partition.
    pub(crate) fn of(&self, partition: Partition) -> u32 {
        let at = self.objects.binary_search_by_key(&partition, |(p, _)| *p);
        at.map_or(0, |at| self.objects[at].1)
    }
}

/// How far a transaction is.
#[derive(Debug)]
pub(crate) enum Stage {
    /// The client stores and votes.
    Begun {
        since: Instant,
        /// The client wants it finished, but oids must be reserved first, or votes are missing.
        parked: Option<Box<Finish>>,
    },
    /// It has a tid; storage nodes lock it. It can't be aborted any more.
    Finishing(Finishing),
}

/// What a client said when it asked to finish.
#[derive(Debug)]
pub(crate) struct Finish {
    pub(crate) asker: Asker,
    pub(crate) oids: Oids,
    /// All that are involved, that of the ttid too; in order, each once.
    pub(crate) partitions: Vec<Partition>,
    /// Nodes whose votes it waits for, which were asked.
    pub(crate) unvoted: BTreeSet<NodeId>,
}

/// A transaction that has a tid.
#[derive(Debug)]
pub(crate) struct Finishing {
    pub(crate) tid: Tid,
    pub(crate) asker: Asker,
    pub(crate) oids: Oids,
    /// Nodes that it is locked on, or will be.
    pub(crate) nodes: BTreeSet<NodeId>,
    /// Those that have not said so yet.
    pub(crate) waiting: BTreeSet<NodeId>,
    /// Who asked for its final tid.
    pub(crate) asked: Vec<Asker>,
}

/// A request to go on without some nodes, which must wait for another transaction to end.
#[derive(Debug)]
pub(crate) struct DelayedVote {
    pub(crate) asker: Asker,
    pub(crate) txn: TxnId,
    pub(crate) failed: BTreeSet<NodeId>,
}

/// What becomes of a vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noted {
    Vote,
    /// The transaction waits for it.
    AwaitedVote,
    /// The transaction has ended, or goes on without the node.
    TooLate,
}

/// All pending transactions.
#[derive(Debug, Default)]
pub(crate) struct TransactionManager {
    all: BTreeMap<TxnId, Transaction>,
    by_client: BTreeMap<NodeId, BTreeSet<TxnId>>,
    ages: BTreeSet<(Instant, TxnId)>,
    /// Finishing ones, in order of tid.
    queue: VecDeque<TxnId>,
    by_storage: BTreeMap<NodeId, BTreeSet<TxnId>>,
    /// Begun ones that may finish without some nodes.
    with_failed: BTreeSet<TxnId>,
    /// Begun ones that are to finish and wait for votes.
    unvoted: BTreeSet<TxnId>,
    /// The one with an imposed tid: it is alone.
    imposed: Option<TxnId>,
    finishing_oids: usize,
}

impl TransactionManager {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Oids of all finishing transactions, and of those that are parked.
    pub(crate) const fn finishing_oids(&self) -> usize {
        self.finishing_oids
    }

    /// The transaction that must be alone.
    pub(crate) const fn imposed(&self) -> Option<TxnId> {
        self.imposed
    }

    pub(crate) fn get(&self, txn: TxnId) -> Option<&Transaction> {
        self.all.get(&txn)
    }

    /// Every pending transaction; the end of each will be told on this connection.
    pub(crate) fn watch(&mut self, conn: ConnId) -> Vec<TxnId> {
        let all = self.all.iter_mut();
        all.map(|(txn, transaction)| {
            transaction.watchers.insert(conn);
            *txn
        })
        .collect()
    }

    /// How many a client has pending.
    pub(crate) fn of_client(&self, client: NodeId) -> usize {
        self.by_client.get(&client).map_or(0, BTreeSet::len)
    }

    pub(crate) fn begin(
        &mut self,
        txn: TxnId,
        client: NodeId,
        readiness: u64,
        imposed: Option<Tid>,
        since: Instant,
    ) {
        let transaction = Transaction {
            client: Some(client),
            readiness,
            imposed,
            failed: BTreeSet::new(),
            votes: BTreeMap::new(),
            watchers: BTreeSet::new(),
            stage: Stage::Begun {
                since,
                parked: None,
            },
        };
        let before = self.all.insert(txn, transaction);
        assert!(before.is_none(), "names of transactions are given once");
        self.by_client.entry(client).or_default().insert(txn);
        self.ages.insert((since, txn));
        if imposed.is_some() {
            self.imposed = Some(txn);
        }
    }

    /// Keeps a request to finish until oids are reserved.
    pub(crate) fn park(&mut self, txn: TxnId, finish: Finish) {
        if let Some(Transaction {
            stage: Stage::Begun { parked, .. },
            ..
        }) = self.all.get_mut(&txn)
        {
            self.finishing_oids += finish.oids.0.len();
            *parked = Some(Box::new(finish));
        }
    }

    /// A request to finish that was parked.
    pub(crate) fn parked(&self, txn: TxnId) -> Option<(&Transaction, &Finish)> {
        let transaction = self.all.get(&txn)?;
        match &transaction.stage {
            Stage::Begun { parked, .. } => Some((transaction, parked.as_deref()?)),
            Stage::Finishing(_) => None,
        }
    }

    /// A storage node has voted.
    pub(crate) fn vote(&mut self, txn: TxnId, nid: NodeId, vote: Vote) -> Noted {
        let Some(transaction) = self.all.get_mut(&txn) else {
            return Noted::TooLate;
        };
        match &transaction.stage {
            Stage::Finishing(finishing) if !finishing.nodes.contains(&nid) => Noted::TooLate,
            Stage::Finishing(_) => Noted::Vote,
            Stage::Begun { parked, .. } => {
                transaction.votes.insert(nid, vote);
                let finish = parked.as_deref();
                match finish.is_some_and(|finish| finish.unvoted.contains(&nid)) {
                    true => Noted::AwaitedVote,
                    false => Noted::Vote,
                }
            }
        }
    }

    /// A parked transaction waits for a vote. Whether the node is to be asked: it was not yet.
    pub(crate) fn ask_for_vote(&mut self, txn: TxnId, nid: NodeId) -> bool {
        let stage = self.all.get_mut(&txn).map(|t| &mut t.stage);
        match stage {
            Some(Stage::Begun {
                parked: Some(finish),
                ..
            }) => {
                self.unvoted.insert(txn);
                finish.unvoted.insert(nid)
            }
            _ => false,
        }
    }

    /// Those that wait for votes.
    pub(crate) fn unvoted(&self) -> Vec<TxnId> {
        self.unvoted.iter().copied().collect()
    }

    /// Takes a request to finish that was parked.
    pub(crate) fn unpark(&mut self, txn: TxnId) -> Option<Finish> {
        self.unvoted.remove(&txn);
        match &mut self.all.get_mut(&txn)?.stage {
            Stage::Begun { parked, .. } => {
                let finish = *parked.take()?;
                self.finishing_oids -= finish.oids.0.len();
                Some(finish)
            }
            Stage::Finishing(_) => None,
        }
    }

    /// The transaction may finish without these nodes.
    pub(crate) fn set_failed(&mut self, txn: TxnId, failed: BTreeSet<NodeId>) {
        if let Some(transaction) = self.all.get_mut(&txn) {
            if !failed.is_empty() {
                self.with_failed.insert(txn);
            }
            transaction.failed = failed;
        }
    }

    /// Nodes that other begun transactions may finish without.
    pub(crate) fn failed_of_others(&self, txn: TxnId) -> BTreeSet<NodeId> {
        let others = self.with_failed.iter().filter(|other| **other != txn);
        others
            .filter_map(|other| self.all.get(other))
            .flat_map(|transaction| transaction.failed.iter().copied())
            .collect()
    }

    /// The transaction has a tid, greater than every other, and waits for locks.
    pub(crate) fn finish(&mut self, txn: TxnId, finish: Finish, tid: Tid, nodes: BTreeSet<NodeId>) {
        if let Some(finishing) = self.queue.back().and_then(|last| self.finishing(*last)) {
            assert!(tid > finishing.tid, "transactions finish in order of tid");
        }
        let Some(transaction) = self.all.get_mut(&txn) else {
            return;
        };
        if let Stage::Begun { since, .. } = transaction.stage {
            self.ages.remove(&(since, txn));
        }
        transaction.votes = BTreeMap::new();
        self.with_failed.remove(&txn);
        self.finishing_oids += finish.oids.0.len();
        for nid in &nodes {
            self.by_storage.entry(*nid).or_default().insert(txn);
        }
        transaction.stage = Stage::Finishing(Finishing {
            tid,
            asker: finish.asker,
            oids: finish.oids,
            waiting: nodes.clone(),
            nodes,
            asked: Vec::new(),
        });
        self.queue.push_back(txn);
    }

    fn finishing(&self, txn: TxnId) -> Option<&Finishing> {
        match &self.all.get(&txn)?.stage {
            Stage::Finishing(finishing) => Some(finishing),
            Stage::Begun { .. } => None,
        }
    }

    fn finishing_mut(&mut self, txn: TxnId) -> Option<&mut Finishing> {
        match &mut self.all.get_mut(&txn)?.stage {
            Stage::Finishing(finishing) => Some(finishing),
            Stage::Begun { .. } => None,
        }
    }

    /// A storage node has locked.
    pub(crate) fn locked(&mut self, txn: TxnId, nid: NodeId) {
        if let Some(finishing) = self.finishing_mut(txn) {
            finishing.waiting.remove(&nid);
        }
    }

    /// Somebody waits for the final tid of a finishing transaction; `false` when it is not one.
    pub(crate) fn ask_final(&mut self, txn: TxnId, asker: Asker) -> bool {
        let finishing = self.finishing_mut(txn);
        finishing.is_some_and(|finishing| {
            finishing.asked.push(asker);
            true
        })
    }

    /// A storage node is lost: no transaction waits for it, and its votes are gone, since it drops
    /// what is not committed when it comes back.
    pub(crate) fn storage_lost(&mut self, nid: NodeId) {
        for transaction in self.all.values_mut() {
            transaction.votes.remove(&nid);
        }
        for txn in self.by_storage.remove(&nid).unwrap_or_default() {
            if let Some(finishing) = self.finishing_mut(txn) {
                finishing.waiting.remove(&nid);
                finishing.nodes.remove(&nid);
            }
        }
    }

    /// The next transaction in order of tid, once it is locked everywhere: it is committed, and
    /// not pending any more.
    pub(crate) fn next_committed(&mut self) -> Option<Committed> {
        let txn = *self.queue.front()?;
        if !self.finishing(txn)?.waiting.is_empty() {
            return None;
        }
        self.queue.pop_front();
        let transaction = self.remove(txn)?;
        match transaction.stage {
            Stage::Finishing(finishing) => Some(Committed {
                txn,
                client: transaction.client,
                watchers: transaction.watchers,
                finishing,
            }),
            Stage::Begun { .. } => None,
        }
    }

    /// Forgets a begun transaction; `None` when it is not one.
    pub(crate) fn abort(&mut self, txn: TxnId) -> Option<Transaction> {
        match self.all.get(&txn)?.stage {
            Stage::Begun { .. } => self.remove(txn),
            Stage::Finishing(_) => None,
        }
    }

    fn remove(&mut self, txn: TxnId) -> Option<Transaction> {
        let transaction = self.all.remove(&txn)?;
        if let Some(client) = transaction.client
            && let Some(txns) = self.by_client.get_mut(&client)
        {
            txns.remove(&txn);
            if txns.is_empty() {
                self.by_client.remove(&client);
            }
        }
        match &transaction.stage {
            Stage::Begun { since, parked } => {
                self.ages.remove(&(*since, txn));
                if let Some(finish) = parked {
                    self.finishing_oids -= finish.oids.0.len();
                }
            }
            Stage::Finishing(finishing) => {
                self.finishing_oids -= finishing.oids.0.len();
                for nid in &finishing.nodes {
                    if let Some(txns) = self.by_storage.get_mut(nid) {
                        txns.remove(&txn);
                    }
                }
            }
        }
        self.with_failed.remove(&txn);
        self.unvoted.remove(&txn);
        if self.imposed == Some(txn) {
            self.imposed = None;
        }
        Some(transaction)
    }

    /// A client is gone: its begun transactions, to be aborted. Those that finish go on without it.
    pub(crate) fn client_gone(&mut self, client: NodeId) -> Vec<TxnId> {
        let txns = self.by_client.remove(&client).unwrap_or_default();
        for txn in &txns {
            if let Some(transaction) = self.all.get_mut(txn) {
                transaction.client = None;
            }
        }
        let begun = |txn: &TxnId| self.finishing(*txn).is_none();
        txns.into_iter().filter(begun).collect()
    }

    /// When the oldest begun transaction began.
    pub(crate) fn oldest(&self) -> Option<(Instant, TxnId)> {
        self.ages.first().copied()
    }

    /// Every begun transaction.
    pub(crate) fn begun(&self) -> Vec<TxnId> {
        self.ages.iter().map(|(_, txn)| *txn).collect()
    }
}

#[cfg(test)]
mod tests {
    use neo_api::{NodeType, Oid, Reign};

    use super::*;

    fn txn(n: u64) -> TxnId {
        TxnId {
            reign: Reign(1),
            ttid: Tid(n),
        }
    }

    fn storages(numbers: &[u32]) -> BTreeSet<NodeId> {
        let nid = |n: &u32| NodeId::new(NodeType::Storage, *n).unwrap();
        numbers.iter().map(nid).collect()
    }

    fn client(n: u32) -> NodeId {
        NodeId::new(NodeType::Client, n).unwrap()
    }

    fn finish() -> Finish {
        Finish {
            asker: Asker {
                nid: client(1),
                conn: ConnId(1),
                id: MsgId(1),
            },
            oids: Oids(vec![Oid(1), Oid(2)]),
            partitions: Vec::new(),
            unvoted: BTreeSet::new(),
        }
    }

    #[test]
    fn transactions_are_committed_in_order_of_tid() {
        let mut txns = TransactionManager::default();
        for n in 1..=2 {
            txns.begin(txn(n), client(1), 0, None, Instant(n));
        }
        txns.finish(txn(2), finish(), Tid(10), storages(&[1, 2]));
        txns.finish(txn(1), finish(), Tid(11), storages(&[1]));
        assert_eq!(txns.finishing_oids(), 4);
        let s = |n| *storages(&[n]).first().unwrap();
        txns.locked(txn(1), s(1));
        txns.locked(txn(2), s(1));
        assert!(txns.next_committed().is_none());
        txns.storage_lost(s(2));
        let first = txns.next_committed().unwrap();
        assert_eq!((first.txn, first.finishing.nodes), (txn(2), storages(&[1])));
        assert_eq!(txns.next_committed().unwrap().txn, txn(1));
        assert!(txns.is_empty());
        assert_eq!((txns.finishing_oids(), txns.of_client(client(1))), (0, 0));
    }

    #[test]
    fn a_finishing_transaction_outlives_its_client() {
        let mut txns = TransactionManager::default();
        for n in 1..=2 {
            txns.begin(txn(n), client(1), 0, None, Instant(n));
        }
        txns.finish(txn(1), finish(), Tid(10), storages(&[1]));
        assert_eq!(txns.client_gone(client(1)), [txn(2)]);
        assert!(txns.abort(txn(1)).is_none());
        assert!(txns.abort(txn(2)).is_some());
        assert_eq!((txns.len(), txns.oldest()), (1, None));
    }

    #[test]
    fn failed_nodes_of_others_count_until_the_others_end() {
        let mut txns = TransactionManager::default();
        for n in 1..=2 {
            txns.begin(txn(n), client(n as u32), 0, None, Instant(n));
        }
        txns.set_failed(txn(1), storages(&[1]));
        assert_eq!(txns.failed_of_others(txn(2)), storages(&[1]));
        assert_eq!(txns.failed_of_others(txn(1)), storages(&[]));
        txns.abort(txn(1));
        assert_eq!(txns.failed_of_others(txn(2)), storages(&[]));
    }
}
