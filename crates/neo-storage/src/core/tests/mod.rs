//! The core played by its messages: a primary and clients that are written down, a backend in
//! memory that can be slow, full, broken, or lose what was not synced.

mod commit;
mod discarded;
mod emptied;
mod faults;
mod imports;
mod locks;
mod master;
mod nonsense;
mod packs;
mod past;
mod random;
mod reads;
mod replication;
mod replication_changes;
mod replication_faults;
mod unchecked;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use neo_api::{
    At, BackendError, BackendInfo, Cell, CellState, Checksum, ClusterId, Compression, Epoch,
    EpochId, Partitioning, Ptid, RevisionId, StorageBackend, TableVersion, TransactionMeta, TxnId,
    UnixMicros, WriteBatch, WriteOp,
};
use neo_api::{Durability, NodeState, NodeType, Partition};
use neo_backends::{KvBackend, MemoryEngine};
use neo_proto::{
    AssignedPartition, ConnectToken, FinalTid, Identification, MsgId, NodeInfo, ObjectAnswer, Oids,
    RelockOutcome, StoreKind, StoreOutcome,
};

use super::*;
use crate::persist::Persister;
use crate::query::execute_query;

const MASTER: ConnId = ConnId(1);
const REIGN: Reign = Reign(3);

type Backend = KvBackend<MemoryEngine>;

fn memory() -> Backend {
    KvBackend::inline(MemoryEngine::default(), BackendInfo::new("Memory", false))
}

/// Futures of an inline backend are ready when they are first polled.
fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("an inline backend waits"),
    }
}

fn storage(n: u32) -> NodeId {
    NodeId::new(NodeType::Storage, n).unwrap()
}

fn client(n: u32) -> NodeId {
    NodeId::new(NodeType::Client, n).unwrap()
}

fn txn(ttid: u64) -> TxnId {
    TxnId {
        reign: REIGN,
        ttid: Tid(ttid),
    }
}

fn version(ptid: u64) -> TableVersion {
    TableVersion {
        reign: REIGN,
        ptid: Ptid(ptid),
    }
}

/// A table in which S1 has every partition in this state, beside S2.
fn table(np: u32, ptid: u64, state: CellState) -> PartitionTable {
    let mut table = PartitionTable::empty(Partitioning::new(np).unwrap(), 1);
    let assigned = version(1);
    for row in &mut table.rows {
        for (n, state) in [(1, state), (2, CellState::UpToDate)] {
            let nid = storage(n);
            row.push(Cell {
                nid,
                state,
                assigned,
            });
        }
    }
    table.version = version(ptid);
    table
}

fn identity() -> ClusterIdentity {
    ClusterIdentity {
        id: ClusterId([7; 16]),
        epochs: vec![Epoch {
            number: 1,
            id: EpochId([8; 16]),
            parent: None,
            base_reign: Reign(1),
            base_ptid: Ptid(1),
            base_tid: Tid(0),
        }],
    }
}

fn settings() -> StorageSettings {
    StorageSettings::new("test", vec![Address::new("m1", 1)])
}

/// Which operations fail, and how.
type Fault = (fn(&WriteOp) -> bool, fn() -> BackendError);

struct World {
    /// Number of its id.
    me: u32,
    core: StorageCore,
    backend: Backend,
    persister: Persister,
    reads: Vec<(Token, Query)>,
    /// Writes and reads stay where they are.
    hold_writes: bool,
    hold_reads: bool,
    /// Writes that have an operation like this fail.
    fails: Option<Fault>,
    /// Every batch that was applied.
    applied: Vec<(WriteBatch, Durability)>,
    mono: u64,
    last_id: u64,
    connects: Vec<(ConnectToken, Address)>,
    sent: BTreeMap<ConnId, Vec<Message>>,
    /// Votes that the primary was told of; not in `sent`.
    votes: Vec<Packet>,
    /// What it told of packs.
    packed: Vec<Packet>,
    /// Cells that the primary was asked to register; not in `sent`.
    registrations: Vec<(MsgId, Vec<AssignedPartition>)>,
    closed: BTreeMap<ConnId, String>,
    consumed: BTreeMap<ConnId, u64>,
    events: Vec<StorageEvent>,
    stopped: Option<Option<String>>,
}

impl World {
    fn with(settings: StorageSettings, backend: Backend) -> Self {
        Self::of(1, settings, backend)
    }

    fn of(me: u32, settings: StorageSettings, backend: Backend) -> Self {
        let address = Self::address(me);
        let mut world = Self {
            me,
            core: StorageCore::new(settings, address, vec!["host".to_owned()], 1),
            backend,
            persister: Persister::new(),
            reads: Vec::new(),
            hold_writes: false,
            hold_reads: false,
            fails: None,
            applied: Vec::new(),
            mono: 0,
            last_id: 0,
            connects: Vec::new(),
            sent: BTreeMap::new(),
            votes: Vec::new(),
            packed: Vec::new(),
            registrations: Vec::new(),
            closed: BTreeMap::new(),
            consumed: BTreeMap::new(),
            events: Vec::new(),
            stopped: None,
        };
        world.give(Input::Timer);
        world
    }

    /// A node of two partitions that serves, and knows clients 1 to 4.
    fn serving() -> Self {
        Self::serving_with(settings())
    }

    fn serving_with(settings: StorageSettings) -> Self {
        let mut world = Self::with(settings, memory());
        world.join();
        world.tell_table(table(2, 1, CellState::UpToDate));
        world.serve();
        world
    }

    /// The primary accepts the node.
    fn join(&mut self) {
        self.join_at(MASTER);
    }

    /// What it said of itself.
    fn join_at(&mut self, conn: ConnId) -> Identification {
        if self.connects.is_empty() {
            self.mono = self.core.poll_timeout().unwrap().0.max(self.mono);
            self.give(Input::Timer);
        }
        let (token, to) = self.connects.remove(0);
        assert_eq!(to, Address::new("m1", 1));
        self.give(Input::Connected { token, conn });
        let asked = self.take(conn).remove(0);
        let Packet::RequestIdentification { identification } = asked.packet else {
            panic!("{asked:?}");
        };
        assert_eq!(identification.cluster, "test");
        let accept = Packet::AcceptIdentification {
            node_type: NodeType::Master,
            nid: None,
            your_nid: storage(self.me),
            reign: REIGN,
            session: SessionId(u64::from(self.me)),
            identity: None,
        };
        self.answer(conn, asked.id, accept);
        *identification
    }

    fn address(n: u32) -> Address {
        Address::new(format!("s{n}"), 9)
    }

    fn tell_table(&mut self, table: PartitionTable) {
        let version = table.version;
        let table = Box::new(table);
        let identity = Some(identity());
        self.notify(MASTER, Packet::SendPartitionTable { identity, table });
        let stored = Packet::NotifyPartitionTableStored { version };
        assert_eq!(self.packets(MASTER), [stored]);
    }

    fn serve(&mut self) {
        self.serve_in(MASTER, REIGN);
    }

    fn serve_in(&mut self, conn: ConnId, reign: Reign) {
        self.ask(conn, Packet::AskStartReign { reign });
        assert_eq!(self.packets(conn), [Packet::AnswerReignStarted { reign }]);
        self.notify(conn, Packet::StartOperation { operation: 7 });
        assert_eq!(self.packets(conn), [Packet::NotifyReady { operation: 7 }]);
        let nodes = (1..=4).map(|n| Self::node(client(n), u64::from(n) * 10));
        let storages = (1..=3).map(|n| NodeInfo {
            address: Some(Self::address(n)),
            ..Self::node(storage(n), u64::from(n))
        });
        let nodes = nodes.chain(storages).collect();
        self.notify(conn, Packet::NotifyNodeInformation { full: true, nodes });
    }

    fn node(nid: NodeId, session: u64) -> NodeInfo {
        NodeInfo {
            nid,
            address: None,
            state: NodeState::Running,
            session: Some(SessionId(session)),
            since_micros: None,
            is_full: false,
        }
    }

    /// Client `n` connects; its connection is `100 + n`.
    fn client(&mut self, n: u32) -> ConnId {
        let conn = ConnId(100 + u64::from(n));
        self.connect(conn, n, u64::from(n) * 10);
        let accepted = self.packets(conn);
        assert!(
            matches!(accepted[..], [Packet::AcceptIdentification { .. }]),
            "{accepted:?}"
        );
        conn
    }

    fn connect(&mut self, conn: ConnId, n: u32, session: u64) {
        let from = Address::new("c", 1);
        self.give(Input::Accepted { conn, from });
        let identification = Box::new(self.identification(n, session));
        self.ask(conn, Packet::RequestIdentification { identification });
    }

    fn identification(&self, n: u32, session: u64) -> Identification {
        Identification {
            node_type: NodeType::Client,
            nid: Some(client(n)),
            address: None,
            cluster: "test".to_owned(),
            identity: Some(identity()),
            session: Some((REIGN, SessionId(session))),
            read_only: false,
            topology: vec![],
            masters: vec![],
            new_nid: false,
            noted: None,
            is_full: false,
        }
    }

    fn now(&self) -> Now {
        Now {
            mono: Instant(self.mono),
            wall: UnixMicros(0),
        }
    }

    /// One input, and all that follows from it in the node itself.
    fn give(&mut self, input: Input<StorageCore>) {
        let mut out = Effects::new();
        self.core.handle(self.now(), input, &mut out);
        self.carry_out(out);
        self.work();
    }

    fn carry_out(&mut self, mut out: Effects<StorageCore>) {
        for effect in out.take() {
            match effect {
                Effect::Connect { token, to } => self.connects.push((token, to)),
                Effect::Send { conn, message } => {
                    if matches!(message.packet, Packet::NotifyVoted { .. }) {
                        self.votes.push(message.packet);
                        continue;
                    }
                    if matches!(
                        message.packet,
                        Packet::NotifyPacked { .. } | Packet::NotifyPackOrdered {}
                    ) {
                        self.packed.push(message.packet);
                        continue;
                    }
                    if let Packet::AskUnfinishedTransactions { cells } = message.packet {
                        self.registrations.push((message.id, cells));
                        continue;
                    }
                    self.sent.entry(conn).or_default().push(message);
                }
                Effect::Cancel { .. } => panic!("a storage cancels nothing"),
                Effect::Consumed { conn, bytes } => {
                    *self.consumed.entry(conn).or_default() += bytes;
                }
                Effect::Close { conn, reason } => {
                    self.closed.insert(conn, reason);
                }
                Effect::Job(Job::Persist {
                    token,
                    batch,
                    durability,
                }) => self.persister.push(token, batch, durability),
                Effect::Job(Job::Read { token, query }) => self.reads.push((token, query)),
                Effect::Event(event) => self.events.push(event),
                Effect::Stop { failure } => self.stopped = Some(failure),
            }
        }
    }

    /// Does jobs until none is left, or what is left is held.
    fn work(&mut self) {
        loop {
            let is_first = |(_, query): &(Token, Query)| matches!(query, Query::Extent { .. });
            if let Some(at) = self.reads.iter().position(is_first) {
                // A table waits for it.
                self.read_one(at);
            } else if !self.hold_reads && !self.reads.is_empty() {
                self.read_one(0);
            } else if self.hold_writes || !self.write_one() {
                return;
            }
        }
    }

    fn read_one(&mut self, at: usize) {
        let (token, query) = self.reads.remove(at);
        let result = now_or_never(execute_query(&self.backend, query));
        self.done(Done::Read { token, result });
    }

    fn write_one(&mut self) -> bool {
        let Some((batch, durability)) = self.persister.next_group() else {
            return false;
        };
        let failure = self
            .fails
            .filter(|(bad, _)| batch.ops.iter().any(bad))
            .map(|(_, error)| error());
        let result = match failure {
            Some(error) => Err(error),
            None => {
                self.applied.push((batch.clone(), durability));
                now_or_never(self.backend.apply(batch, durability))
            }
        };
        for (token, result) in self.persister.done(result) {
            self.done(Done::Persisted { token, result });
        }
        true
    }

    fn done(&mut self, done: Done) {
        let mut out = Effects::new();
        self.core.handle(self.now(), Input::Done(done), &mut out);
        self.carry_out(out);
    }

    fn release_writes(&mut self) {
        self.hold_writes = false;
        self.work();
    }

    fn release_reads(&mut self) {
        self.hold_reads = false;
        self.work();
    }

    fn ask(&mut self, conn: ConnId, packet: Packet) -> MsgId {
        self.ask_with(conn, packet, Bytes::new())
    }

    fn ask_with(&mut self, conn: ConnId, packet: Packet, payload: Bytes) -> MsgId {
        self.last_id += 1;
        let id = MsgId(self.last_id);
        let message = Message::with_payload(id, packet, payload);
        self.give(Input::Message { conn, message });
        id
    }

    fn answer(&mut self, conn: ConnId, id: MsgId, packet: Packet) {
        let message = Message::new(id, packet);
        self.give(Input::Message { conn, message });
    }

    fn notify(&mut self, conn: ConnId, packet: Packet) {
        self.answer(conn, MsgId(0), packet);
    }

    fn congested(&mut self, conn: ConnId, is: bool) {
        let mut out = Effects::new();
        let now = self.now();
        self.core.congested(now, conn, is, &mut out);
        self.carry_out(out);
        self.work();
    }

    fn lose(&mut self, conn: ConnId) {
        let reason = "cut".to_owned();
        self.give(Input::Closed { conn, reason });
    }

    fn sleep(&mut self, duration: Duration) {
        self.mono += duration.as_nanos() as u64;
        self.give(Input::Timer);
    }

    fn take(&mut self, conn: ConnId) -> Vec<Message> {
        self.sent.remove(&conn).unwrap_or_default()
    }

    fn packets(&mut self, conn: ConnId) -> Vec<Packet> {
        self.take(conn).into_iter().map(|m| m.packet).collect()
    }

    /// The one message that this connection was sent.
    fn one(&mut self, conn: ConnId) -> Packet {
        let mut packets = self.packets(conn);
        assert_eq!(packets.len(), 1, "{packets:?}");
        packets.remove(0)
    }

    fn store(&mut self, conn: ConnId, ttid: u64, oid: u64, serial: u64, value: &str) -> MsgId {
        let packet = Packet::AskStoreObject {
            txn: txn(ttid),
            oid: Oid(oid),
            serial: Tid(serial),
            kind: StoreKind::Value {
                compression: Compression::None,
                checksum: Checksum::of(value.as_bytes()),
            },
        };
        self.ask_with(conn, packet, Bytes::copy_from_slice(value.as_bytes()))
    }

    fn stored(&mut self, conn: ConnId, ttid: u64, oid: u64, serial: u64, value: &str) {
        self.store(conn, ttid, oid, serial, value);
        assert_eq!(self.one(conn), LOCKED);
    }

    fn check(&mut self, conn: ConnId, ttid: u64, oid: u64, serial: u64) -> MsgId {
        let packet = Packet::AskCheckCurrentSerial {
            txn: txn(ttid),
            oid: Oid(oid),
            serial: Tid(serial),
        };
        self.ask(conn, packet)
    }

    fn relock(&mut self, conn: ConnId, ttid: u64, oid: u64) -> MsgId {
        let (txn, oid) = (txn(ttid), Oid(oid));
        self.ask(conn, Packet::AskRelockObject { txn, oid })
    }

    fn vote(&mut self, conn: ConnId, ttid: u64, oids: &[u64], objects: u32) -> MsgId {
        let packet = Packet::AskStoreTransaction {
            txn: txn(ttid),
            meta: TransactionMeta {
                user: Bytes::from_static(b"somebody"),
                ..TransactionMeta::default()
            },
            oids: Oids(oids.iter().copied().map(Oid).collect()),
            objects,
            pack: None,
            packed: false,
        };
        self.ask(conn, packet)
    }

    fn voted(&mut self, conn: ConnId, ttid: u64, oids: &[u64]) {
        self.vote(conn, ttid, oids, oids.len() as u32);
        assert_eq!(self.one(conn), Packet::AnswerStoreTransaction {});
    }

    fn lock(&mut self, ttid: u64, tid: u64) {
        let (txn, tid) = (txn(ttid), Tid(tid));
        self.ask(MASTER, Packet::AskLockInformation { txn, tid });
    }

    fn locked(&mut self, ttid: u64, tid: u64) {
        self.lock(ttid, tid);
        let txn = txn(ttid);
        assert_eq!(self.one(MASTER), Packet::AnswerInformationLocked { txn });
    }

    fn unlock(&mut self, ttid: u64) {
        let txn = txn(ttid);
        self.notify(MASTER, Packet::NotifyUnlockInformation { txn });
    }

    fn abort(&mut self, conn: ConnId, ttid: u64) {
        let (txn, nodes) = (txn(ttid), vec![]);
        self.notify(conn, Packet::AbortTransaction { txn, nodes });
    }

    /// A whole transaction of one object.
    fn commit(&mut self, conn: ConnId, ttid: u64, oid: u64, serial: u64, tid: u64) {
        self.stored(conn, ttid, oid, serial, &format!("{oid}@{tid}"));
        self.voted(conn, ttid, &[oid]);
        self.locked(ttid, tid);
        self.unlock(ttid);
    }

    fn load(&mut self, conn: ConnId, oid: u64, at: At) -> MsgId {
        let oid = Oid(oid);
        self.ask(conn, Packet::AskObject { oid, at })
    }

    /// What is found of an object: serial, next serial, value.
    fn loaded(&mut self, conn: ConnId, oid: u64, at: At) -> Option<(u64, Option<u64>, String)> {
        self.load(conn, oid, at);
        let mut messages = self.take(conn);
        assert_eq!(messages.len(), 1, "{messages:?}");
        found(messages.remove(0))
    }

    fn config(&self, key: &str) -> Option<String> {
        let value = now_or_never(self.backend.config(key)).unwrap();
        value.map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    /// A backend that has the first `n` batches that were applied.
    fn after_crash(&self, n: usize) -> Backend {
        let backend = memory();
        for (batch, durability) in &self.applied[..n] {
            now_or_never(backend.apply(batch.clone(), *durability)).unwrap();
        }
        backend
    }

    /// How many batches a crash leaves at least.
    fn synced(&self) -> usize {
        let synced = |(_, durability): &(WriteBatch, Durability)| *durability == Durability::Synced;
        self.applied.iter().rposition(synced).map_or(0, |n| n + 1)
    }

    fn unfinished(&self) -> Vec<(TxnId, Option<Tid>)> {
        let all = now_or_never(self.backend.unfinished(None, 100)).unwrap();
        all.into_iter().map(|u| (u.txn, u.tid)).collect()
    }

    fn loose(&self) -> usize {
        now_or_never(self.backend.loose_data(None, 10_000))
            .unwrap()
            .len()
    }
}

fn found(message: Message) -> Option<(u64, Option<u64>, String)> {
    match message.packet {
        Packet::AnswerObject {
            answer:
                ObjectAnswer::Found {
                    serial,
                    next_serial,
                    ..
                },
            ..
        } => {
            let value = String::from_utf8(message.payload.to_vec()).unwrap();
            Some((serial.0, next_serial.map(|tid| tid.0), value))
        }
        Packet::AnswerObject { .. } => None,
        other => panic!("{other:?}"),
    }
}

const LOCKED: Packet = Packet::AnswerStoreObject {
    outcome: StoreOutcome::Locked,
};

fn conflict(serial: u64) -> Packet {
    let outcome = StoreOutcome::Conflict(Tid(serial));
    Packet::AnswerStoreObject { outcome }
}

const CHECKED: Packet = Packet::AnswerCheckCurrentSerial {
    outcome: StoreOutcome::Locked,
};

fn check_conflict(serial: u64) -> Packet {
    let outcome = StoreOutcome::Conflict(Tid(serial));
    Packet::AnswerCheckCurrentSerial { outcome }
}

const RELOCKED: Packet = Packet::AnswerRelockObject {
    outcome: RelockOutcome::Relocked,
};

fn relock_conflict(serial: u64) -> Packet {
    let outcome = RelockOutcome::Conflict(Tid(serial));
    Packet::AnswerRelockObject { outcome }
}

fn delayed(request: MsgId, holder: u64) -> Packet {
    let holder = txn(holder);
    Packet::NotifyDelayed { request, holder }
}

fn deadlock(ttid: u64, oid: u64) -> Packet {
    let (txn, oid) = (txn(ttid), Oid(oid));
    Packet::NotifyDeadlock { txn, oid }
}

#[track_caller]
fn assert_error(packet: &Packet, expected: ErrorCode) {
    match packet {
        Packet::Error { code, .. } if *code == expected => {}
        other => panic!("{expected:?} expected, not {other:?}"),
    }
}
