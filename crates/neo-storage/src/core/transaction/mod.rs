//! Unfinished transactions: what they store, which locks they have, how far they are.
//!
//! `store` takes stores, checks and relocks, which are in `request` until they are answered,
//! `unchecked` those of cells that catch up; `finish` votes and locks, `unlock` unlocks; `discard`
//! drops what is of cells that are discarded; `garbage` removes what aborted transactions wrote.

mod discard;
mod finish;
mod garbage;
mod packs;
mod request;
mod serials;
mod store;
mod unchecked;
mod unlock;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use neo_api::{
    BackendResult, DataId, NodeId, ObjectData, Oid, Partition, Record, Reign, SessionId, Tid,
    TxnId, VotedRecord,
};
use neo_proto::{ConnId, ErrorCode, Packet};

use super::cells::Cells;
use super::effect::{Query, QueryResult};
use super::io::{AfterRead, Asker, Io, words};
use super::lock::{Locks, Ticket};
use crate::config::{Mutations, StorageLimits};

pub(crate) use serials::Era;
pub(crate) use store::Target;
pub(crate) use unchecked::{Claim, Compared};
pub(crate) use unlock::{UNLOCK_PAGE, committed};

use garbage::Garbage;
use request::Request;
use serials::Serials;
use unchecked::Unchecked;

/// Names of ended transactions that are remembered, so that what arrives late is refused.
const ENDED_MAX: usize = 10_000;

/// Why a request is refused.
pub(crate) type Refusal = (ErrorCode, String);

/// A client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) conn: ConnId,
    pub(crate) nid: NodeId,
    pub(crate) session: SessionId,
}

/// The unfinished transactions of one period of service.
#[derive(Debug)]
pub(crate) struct Transactions {
    reign: Reign,
    limits: StorageLimits,
    mutations: Mutations,
    object_bytes_max: usize,
    txns: BTreeMap<TxnId, Txn>,
    locks: Locks,
    serials: Serials,
    requests: BTreeMap<Ticket, Request>,
    last_ticket: u64,
    unanswered: BTreeMap<ConnId, usize>,
    /// Requests that have just got their lock.
    ready: VecDeque<Ticket>,
    /// Bytes of values in memory.
    buffered: usize,
    /// Objects that readers of this tid or later wait for.
    read_locks: BTreeMap<Oid, Tid>,
    locked: BTreeMap<Tid, TxnId>,
    /// Transactions that are being moved to their final place, in the order of the primary.
    unlocking: VecDeque<TxnId>,
    /// Whether a transaction was unlocked since it was asked.
    unlocked: bool,
    /// Objects that transactions repeat a revision of, until these end.
    repeats: BTreeMap<TxnId, BTreeSet<Oid>>,
    /// Objects of which a pack removes something just now, and stores that wait for its end.
    packing: BTreeSet<Oid>,
    after_pack: Vec<Ticket>,
    /// Whether a transaction that orders a pack was unlocked since it was asked.
    ordered: bool,
    /// Objects that were locked without a look at their newest serial.
    unchecked: BTreeMap<Partition, BTreeSet<(TxnId, Oid)>>,
    /// Revisions that were left out of unlocks: their cells fetch them.
    holes: Vec<(Partition, Tid)>,
    /// Votes that the primary has not been told of.
    voted: Vec<TxnId>,
    /// How many have ended.
    ends: u64,
    ended: BTreeSet<TxnId>,
    ended_order: VecDeque<TxnId>,
    garbage: Garbage,
}

#[derive(Debug)]
struct Txn {
    peer: Peer,
    /// Whether its client's connection is there.
    connected: bool,
    stage: Stage,
    objects: BTreeMap<Oid, Object>,
    /// Objects whose newest serial is being read, with the requests that come next.
    busy: BTreeMap<Oid, VecDeque<Ticket>>,
    /// Objects that were dropped with their discarded cells; its client may still count them.
    dropped: usize,
    /// Requests that are not answered.
    tickets: BTreeSet<Ticket>,
    /// Bytes of values in memory.
    buffered: usize,
    /// Values that are being written before the vote.
    writing: BTreeSet<DataId>,
    /// Why it can only be aborted here.
    refused: Option<ErrorCode>,
    /// Whether the backend may have rows of it.
    has_rows: bool,
    /// Whether it orders a pack, on a node of its metadata.
    orders: bool,
    /// On a node of its metadata, from the vote on.
    record: Option<Box<VotedRecord>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Takes stores.
    Open,
    /// The vote is being written; pages up to this oid are.
    Voting {
        asker: Asker,
        with_record: bool,
        after: Option<Oid>,
    },
    /// The vote is durable.
    Voted,
    /// The tid is being written.
    Locking { asker: Asker, tid: Tid },
    /// The tid is durable, where the metadata is.
    Locked { tid: Tid },
    /// It is moved to its final place; pages up to this oid are, or the last of them is being
    /// written.
    Unlocking {
        tid: Tid,
        after: Option<Oid>,
        writing: bool,
    },
}

impl Stage {
    /// Its tid, when it is durable where it has to be.
    const fn tid(self) -> Option<Tid> {
        match self {
            Self::Locked { tid } | Self::Unlocking { tid, .. } => Some(tid),
            _ => None,
        }
    }

    const fn may_abort(self) -> bool {
        matches!(self, Self::Open | Self::Voting { .. } | Self::Voted)
    }

    /// The primary counts on a vote that it was told of.
    const fn may_client_abort(self) -> bool {
        matches!(self, Self::Open | Self::Voting { .. })
    }
}

/// An object that a transaction stores or checks.
#[derive(Debug)]
struct Object {
    /// Its newest serial when the lock was taken.
    current: Option<Tid>,
    /// What it becomes; `None` when it is only checked.
    value: Option<Value>,
    /// Set when the newest serial was not looked at.
    unchecked: Option<Unchecked>,
}

#[derive(Debug)]
enum Value {
    Memory(Record),
    Written(DataId),
    SameAs(Tid),
    Deleted,
}

impl Value {
    fn buffered(&self) -> usize {
        match self {
            Self::Memory(record) => record.data.len(),
            _ => 0,
        }
    }
}

impl Transactions {
    pub(crate) fn new(
        reign: Reign,
        limits: StorageLimits,
        mutations: Mutations,
        object_bytes_max: usize,
    ) -> Self {
        Self {
            reign,
            limits,
            mutations,
            object_bytes_max,
            txns: BTreeMap::new(),
            locks: Locks::default(),
            serials: Serials::default(),
            requests: BTreeMap::new(),
            last_ticket: 0,
            unanswered: BTreeMap::new(),
            ready: VecDeque::new(),
            buffered: 0,
            read_locks: BTreeMap::new(),
            locked: BTreeMap::new(),
            unlocking: VecDeque::new(),
            unlocked: false,
            repeats: BTreeMap::new(),
            packing: BTreeSet::new(),
            after_pack: Vec::new(),
            ordered: false,
            unchecked: BTreeMap::new(),
            holes: Vec::new(),
            voted: Vec::new(),
            ends: 0,
            ended: BTreeSet::new(),
            ended_order: VecDeque::new(),
            garbage: Garbage::new(reign),
        }
    }

    /// Bytes of values in memory.
    pub(crate) const fn buffered(&self) -> usize {
        self.buffered
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.txns.is_empty()
    }

    /// Learns which objects are new: when the service begins, and after anything but a commit
    /// changed what is stored here, or the partitions that are here.
    pub(crate) fn learn_serials(&mut self, cells: &Cells, io: &mut Io<'_>) {
        self.serials.forget();
        let partitions = cells.all_checked();
        let era = self.serials.era();
        io.read(Query::LastIds { partitions }, AfterRead::LastOid(era));
    }

    /// What is stored here is about to change by other means than commits.
    pub(crate) fn forget_serials(&mut self) {
        self.serials.forget();
    }

    /// The greatest oid was read, in that era of serials.
    pub(crate) fn last_oid_read(&mut self, era: Era, result: BackendResult<QueryResult>) {
        match result {
            Ok(QueryResult::LastIds(all)) => {
                let greatest = all.iter().filter_map(|(_, ids)| ids.last_oid).max();
                self.serials.greatest(era, greatest);
            }
            // Every store looks at the backend, then.
            Ok(_) => {}
            Err(error) => tracing::warn!(error = %words(&error), "cannot read the greatest oid"),
        }
    }

    /// The era of serials in which a read begins.
    pub(crate) const fn era(&self) -> Era {
        self.serials.era()
    }

    /// A reader was told the newest serial of an object.
    pub(crate) fn newest_read(&mut self, era: Era, oid: Oid, serial: Tid) {
        self.serials.read(era, oid, serial);
    }

    /// The tid with which an object is locked: readers of that tid or later wait.
    pub(crate) fn locked_at(&self, oid: Oid) -> Option<Tid> {
        if self.mutations.no_read_lock {
            return None;
        }
        self.read_locks.get(&oid).copied()
    }

    /// The greatest tid of a locked transaction at or below `max`.
    pub(crate) fn greatest_locked(&self, max: Tid) -> Option<Tid> {
        if self.mutations.no_read_lock {
            return None;
        }
        self.locked.range(..=max).next_back().map(|(tid, _)| *tid)
    }

    /// The least tid of a locked transaction at or below `max`.
    pub(crate) fn least_locked(&self, max: Tid) -> Option<Tid> {
        self.locked.range(..=max).next().map(|(tid, _)| *tid)
    }

    /// Whether a transaction of exactly this tid is locked.
    pub(crate) fn is_locked(&self, tid: Tid) -> bool {
        self.locked.contains_key(&tid)
    }

    /// Whether a transaction was unlocked since the last time.
    pub(crate) fn take_unlocked(&mut self) -> bool {
        std::mem::take(&mut self.unlocked)
    }

    /// Votes since the last time, as the primary is told of them.
    pub(crate) fn take_voted(&mut self, cells: &Cells) -> Vec<Packet> {
        let voted = std::mem::take(&mut self.voted);
        let told = voted.into_iter().filter_map(|txn| {
            let (t, partitioning) = (self.txns.get(&txn)?, cells.partitioning()?);
            let mut objects: BTreeMap<Partition, u32> = BTreeMap::new();
            for oid in t.objects.keys() {
                *objects.entry(partitioning.of_oid(*oid)).or_default() += 1;
            }
            Some(Packet::NotifyVoted {
                txn,
                metadata: t.record.is_some(),
                objects: objects.into_iter().collect(),
            })
        });
        told.collect()
    }

    /// The tid of a transaction that is locked here.
    pub(crate) fn tid_of(&self, txn: TxnId) -> Option<Tid> {
        self.txns.get(&txn).and_then(|t| t.stage.tid())
    }

    /// Forgets a transaction on behalf of the primary (`None`) or of its client. Locked ones stay;
    /// of those that have voted the client has to tell the primary.
    pub(crate) fn abort(&mut self, cells: &Cells, io: &mut Io<'_>, txn: TxnId, by: Option<Peer>) {
        if txn.reign != self.reign {
            return;
        }
        match self.txns.get(&txn) {
            // Stores that it overtook are refused.
            None => self.note_ended(txn),
            Some(t) => {
                let owns = |peer: Peer| peer.nid == t.peer.nid && peer.session == t.peer.session;
                let may_abort = match by {
                    None => t.stage.may_abort(),
                    Some(peer) => t.stage.may_client_abort() && owns(peer),
                };
                if may_abort {
                    self.forget(io, txn, "it was aborted");
                }
            }
        }
        self.run_ready(cells, io);
    }

    /// A client's connection is lost: its transactions that have not voted are aborted; whether
    /// those that have can be committed is for the primary to say.
    pub(crate) fn connection_lost(&mut self, cells: &Cells, io: &mut Io<'_>, conn: ConnId) {
        self.unanswered.remove(&conn);
        let mut aborted = Vec::new();
        for (txn, t) in &mut self.txns {
            if t.peer.conn == conn && t.connected {
                t.connected = false;
                if matches!(t.stage, Stage::Open | Stage::Voting { .. }) {
                    aborted.push(*txn);
                }
            }
        }
        for txn in aborted {
            self.forget(io, txn, "its connection was lost");
        }
        self.run_ready(cells, io);
    }

    /// The primary forgot this identification of a client: nobody will finish what is not locked.
    pub(crate) fn client_gone(
        &mut self,
        cells: &Cells,
        io: &mut Io<'_>,
        nid: NodeId,
        session: SessionId,
    ) {
        let gone = |t: &Txn| t.peer.nid == nid && t.peer.session == session;
        let its = self
            .txns
            .iter()
            .filter(|(_, t)| gone(t) && t.stage.may_abort());
        let its: Vec<_> = its.map(|(txn, _)| *txn).collect();
        for txn in its {
            if let Some(t) = self.txns.get_mut(&txn) {
                t.connected = false;
            }
            self.forget(io, txn, "its client is gone");
        }
        self.run_ready(cells, io);
    }

    /// Removes a transaction that was not committed, with all that it wrote.
    fn forget(&mut self, io: &mut Io<'_>, txn: TxnId, why: &str) {
        let Some(t) = self.txns.remove(&txn) else {
            return;
        };
        self.repeats.remove(&txn);
        let mut askers = Vec::new();
        self.forget_unchecked(txn, &t.objects);
        let mut values: Vec<Value> = t.objects.into_values().filter_map(|o| o.value).collect();
        for ticket in t.tickets {
            if let Some(request) = self.requests.remove(&ticket) {
                askers.push(request.asker);
                values.extend(request.into_value());
            }
        }
        if let Stage::Voting { asker, .. } = t.stage {
            askers.push(asker);
        }
        for asker in askers {
            self.answered(asker.conn);
            if t.connected {
                let text = format!("transaction {txn} ended: {why}");
                io.error(asker, ErrorCode::UnknownTransaction, text);
            }
        }
        for value in values {
            self.buffered -= value.buffered();
            if let Value::Written(id) = value {
                self.garbage.data(id);
            }
        }
        if t.has_rows {
            self.garbage.rows(txn);
        }
        self.garbage.pump(io);
        self.note_ended(txn);
        let granted = self.locks.end(txn);
        self.ready.extend(granted);
    }

    /// How many transactions have ended.
    pub(crate) const fn ends(&self) -> u64 {
        self.ends
    }

    fn note_ended(&mut self, txn: TxnId) {
        self.ends += 1;
        if self.ended.insert(txn) {
            self.ended_order.push_back(txn);
            if self.ended_order.len() > ENDED_MAX
                && let Some(oldest) = self.ended_order.pop_front()
            {
                self.ended.remove(&oldest);
            }
        }
    }

    fn answered(&mut self, conn: ConnId) {
        if let Some(n) = self.unanswered.get_mut(&conn) {
            *n = n.saturating_sub(1);
        }
    }

    /// What a store, check, relock or vote needs of its transaction. One that is not known yet is
    /// fine: its first store makes it known.
    fn admit(&self, txn: TxnId, peer: Peer) -> Result<(), Refusal> {
        let unknown = |why: &str| {
            let text = format!("transaction {txn} is not served here: {why}");
            Err((ErrorCode::UnknownTransaction, text))
        };
        if txn.reign != self.reign && !self.mutations.any_reign {
            return unknown(&format!("this is reign {}", self.reign));
        }
        if self.ended.contains(&txn) {
            return unknown("it ended");
        }
        let Some(t) = self.txns.get(&txn) else {
            if self.txns.len() < self.limits.transactions_max {
                return Ok(());
            }
            let text = format!("{} transactions are unfinished here", self.txns.len());
            return Err((ErrorCode::TooLarge, text));
        };
        if t.peer.conn != peer.conn {
            return unknown("another connection began it");
        }
        if t.stage != Stage::Open {
            return unknown("it has voted");
        }
        Ok(())
    }

    /// A transaction that could not be written can only give way to others, and be aborted.
    fn admit_write(&self, txn: TxnId) -> Result<(), Refusal> {
        match self.txns.get(&txn).and_then(|t| t.refused) {
            Some(code) => {
                let text = format!("transaction {txn} failed here and can only be aborted");
                Err((code, text))
            }
            None => Ok(()),
        }
    }

    fn open(&mut self, txn: TxnId, peer: Peer) -> &mut Txn {
        self.txns.entry(txn).or_insert_with(|| Txn {
            peer,
            connected: true,
            stage: Stage::Open,
            objects: BTreeMap::new(),
            busy: BTreeMap::new(),
            dropped: 0,
            tickets: BTreeSet::new(),
            buffered: 0,
            writing: BTreeSet::new(),
            refused: None,
            has_rows: false,
            orders: false,
            record: None,
        })
    }
}

impl Object {
    /// Its row, unless it is only checked. Values in memory have none yet.
    fn data(&self) -> Option<ObjectData> {
        match self.value.as_ref()? {
            Value::Memory(_) => None,
            Value::Written(id) => Some(ObjectData::Value(*id)),
            Value::SameAs(tid) => Some(ObjectData::SameAs(*tid)),
            Value::Deleted => Some(ObjectData::Deleted),
        }
    }
}
