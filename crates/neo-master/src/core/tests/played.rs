//! A storage node that is played: it does what it must, unless it is told not to.

use std::collections::{BTreeMap, BTreeSet};

use neo_api::{Address, NodeId, NodeType, Oid, PartitionTable, Reign, TableVersion, Tid, TxnId};
use neo_proto::{
    AssignedPartition, CellLastIds, ConnId, FinalTid, MsgId, Packet, Recovery, WireLastIds,
};

/// What a played storage node has on its disk, and how it behaves.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    pub(super) n: u32,
    /// Where it listens.
    pub(super) port: u16,
    pub(super) recovery: Recovery,
    pub(super) table: Option<PartitionTable>,
    /// Whether its id is on its disk.
    pub(super) is_noted: bool,
    pub(super) unfinished: BTreeMap<TxnId, Option<Tid>>,
    pub(super) committed: BTreeMap<TxnId, Tid>,
    pub(super) last_oid: Option<Oid>,
    /// Messages that it leaves alone; a test answers them, or does not.
    pub(super) holds: BTreeSet<&'static str>,
    /// What it received, by name.
    pub(super) log: Vec<&'static str>,
    pub(super) conn: Option<ConnId>,
    pub(super) operating: bool,
    /// Where it says that it is.
    pub(super) topology: Vec<String>,
    /// The answer to what it asked last.
    pub(super) answer: Option<Packet>,
    /// Cells that it fills.
    pub(super) catching_up: Option<CatchingUp>,
}

/// What a played storage node waits for before its cells are complete.
#[derive(Debug, Clone)]
pub(super) struct CatchingUp {
    pub(super) cells: Vec<AssignedPartition>,
    pub(super) pending: BTreeSet<TxnId>,
}

impl Storage {
    pub(super) fn new(n: u32) -> Self {
        Self {
            n,
            port: 1,
            recovery: Recovery {
                version: None,
                reign: Reign(0),
                identity: None,
                oid_mark: Oid(0),
                backup_tid: None,
                truncate_tid: None,
                import_tid: None,
            },
            table: None,
            is_noted: false,
            unfinished: BTreeMap::new(),
            committed: BTreeMap::new(),
            last_oid: None,
            holds: BTreeSet::new(),
            log: Vec::new(),
            conn: None,
            operating: false,
            topology: Vec::new(),
            answer: None,
            catching_up: None,
        }
    }

    /// Messages with a partition table.
    pub(super) const TABLES: [&'static str; 2] = ["SendPartitionTable", "NotifyPartitionChanges"];

    /// Its cells that are out of date.
    pub(super) fn out_of_date(&self) -> Vec<AssignedPartition> {
        let rows = self.table.iter().flat_map(PartitionTable::iter);
        let cells = rows.flat_map(|(partition, row)| row.iter().map(move |cell| (partition, cell)));
        let own = cells.filter(|(_, cell)| {
            cell.nid == self.nid() && cell.state == neo_api::CellState::OutOfDate
        });
        own.map(|(partition, cell)| AssignedPartition {
            partition,
            assigned: cell.assigned,
        })
        .collect()
    }

    pub(super) fn nid(&self) -> NodeId {
        NodeId::new(NodeType::Storage, self.n).unwrap()
    }

    /// The version of its table, if its id is in its database: as it was told first that it has
    /// cells, or is to have some.
    pub(super) fn noted(&self) -> Option<TableVersion> {
        self.recovery.version.filter(|_| self.is_noted)
    }

    /// A table is on its disk.
    fn stored(&mut self, version: TableVersion) -> Vec<(MsgId, Packet)> {
        let own = self.nid();
        let mut rows = self.table.iter().flat_map(|table| &table.rows);
        let is_draft = rows.clone().all(Vec::is_empty);
        self.is_noted |= is_draft || rows.any(|row| row.iter().any(|cell| cell.nid == own));
        self.recovery.version = Some(version);
        vec![(MsgId(0), Packet::NotifyPartitionTableStored { version })]
    }

    pub(super) fn address(&self) -> Address {
        Address::new(format!("s{}", self.n), self.port)
    }

    /// What it forgets when it restarts, or loses its master.
    pub(super) fn restart(&mut self) {
        self.conn = None;
        self.operating = false;
        self.catching_up = None;
    }

    /// As a node that was started again.
    pub(super) fn restarted(&mut self) {
        self.restart();
        self.holds.clear();
    }

    pub(super) fn last_tid(&self) -> Option<Tid> {
        self.committed.values().max().copied()
    }

    /// Where its readable cells end: it plays the metadata alone.
    fn ends(&self) -> Vec<CellLastIds> {
        let rows = self.table.iter().flat_map(PartitionTable::iter);
        let readable = |cell: &neo_api::Cell| cell.nid == self.nid() && cell.state.is_readable();
        let own = rows.filter(|(_, row)| row.iter().any(readable));
        own.map(|(partition, _)| {
            let np = self.table.as_ref().map(PartitionTable::partitioning);
            let is_here = |tid: &&Tid| np.map(|np| np.of_tid(**tid)) == Some(partition);
            CellLastIds {
                partition,
                transaction: self.committed.values().filter(is_here).max().copied(),
                revision: None,
            }
        })
        .collect()
    }

    /// Does what a message says; what it answers.
    pub(super) fn obey(&mut self, id: MsgId, packet: Packet) -> Vec<(MsgId, Packet)> {
        let answer = match packet {
            Packet::AskRecovery {} => Packet::AnswerRecovery {
                recovery: Box::new(self.recovery.clone()),
            },
            Packet::AskPartitionTable {} => Packet::AnswerPartitionTable {
                table: self.table.clone().map(Box::new),
            },
            Packet::SendPartitionTable { identity, table } => {
                self.recovery.identity = identity;
                let version = table.version;
                self.table = Some(*table);
                return self.stored(version);
            }
            Packet::NotifyPartitionChanges {
                base,
                version,
                replicas,
                changes,
            } => {
                let table = self.table.as_mut().expect("changes follow a table");
                assert_eq!(
                    table.version, base,
                    "changes are of the table that is known"
                );
                assert!(version > base);
                table.apply(version, replicas, &changes).unwrap();
                return self.stored(version);
            }
            Packet::AskStartReign { reign } => {
                assert!(reign >= self.recovery.reign, "reigns increase");
                self.recovery.reign = reign;
                Packet::AnswerReignStarted { reign }
            }
            Packet::AskLockedTransactions { after } => {
                let rest = |txn: &&TxnId| after.is_none_or(|after| **txn > after);
                let left: Vec<TxnId> = self.unfinished.keys().filter(rest).copied().collect();
                let page = left.iter().take(2).map(|txn| (*txn, self.unfinished[txn]));
                Packet::AnswerLockedTransactions {
                    transactions: page.collect(),
                    more: left.len() > 2,
                }
            }
            Packet::AskFinalTid { txn } => {
                let tid = self.unfinished.get(&txn).copied().flatten();
                let tid = tid.or_else(|| self.committed.get(&txn).copied());
                let tid = tid.map_or(FinalTid::NotCommitted, FinalTid::Committed);
                Packet::AnswerFinalTid { tid }
            }
            Packet::AskValidateTransaction { txn, tid } => {
                assert!(self.unfinished.remove(&txn).is_some(), "it reported {txn}");
                self.committed.insert(txn, tid);
                Packet::AnswerTransactionValidated { txn }
            }
            Packet::AskTruncate { after } => {
                self.committed.retain(|_, tid| *tid <= after);
                Packet::AnswerTruncated { after }
            }
            Packet::AskImportMark { import, mark } => {
                self.recovery.import_tid = mark;
                Packet::AnswerImportMark { import }
            }
            Packet::AskSyncImport { import } => Packet::AnswerImportSynced { import },
            Packet::AskLastIds {} => Packet::AnswerLastIds {
                ids: WireLastIds {
                    first_tid: None,
                    last_tid: self.last_tid(),
                    last_oid: self.last_oid,
                },
                version: None,
                cells: self.ends(),
                committed_in: self
                    .committed
                    .keys()
                    .map(|txn| txn.reign)
                    .max()
                    .unwrap_or_default(),
            },
            Packet::AskStoreOidMark { mark } => {
                self.recovery.oid_mark = self.recovery.oid_mark.max(mark);
                Packet::AnswerOidMarkStored { mark }
            }
            Packet::StartOperation { operation } => {
                self.unfinished.clear();
                self.operating = true;
                return vec![(MsgId(0), Packet::NotifyReady { operation })];
            }
            Packet::AskLockInformation { txn, tid } => {
                let locked = self.unfinished.get_mut(&txn);
                let locked = locked.expect("what is locked was voted");
                *locked = Some(tid);
                Packet::AnswerInformationLocked { txn }
            }
            Packet::NotifyUnlockInformation { txn } => {
                let tid = self
                    .unfinished
                    .remove(&txn)
                    .flatten()
                    .expect("it was locked here");
                self.committed.insert(txn, tid);
                return Vec::new();
            }
            Packet::NotifyTransactionFinished { txn, .. } => {
                if let Some(catching_up) = &mut self.catching_up {
                    catching_up.pending.remove(&txn);
                }
                return Vec::new();
            }
            Packet::AbortTransaction { txn, .. } => {
                if self.unfinished.get(&txn) == Some(&None) {
                    self.unfinished.remove(&txn);
                }
                return Vec::new();
            }
            answer @ (Packet::AnswerUnfinishedTransactions { .. } | Packet::Error { .. }) => {
                self.answer = Some(answer);
                return Vec::new();
            }
            _ => return Vec::new(),
        };
        vec![(id, answer)]
    }
}
