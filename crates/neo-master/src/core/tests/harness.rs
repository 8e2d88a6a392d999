//! A master among played peers: storage nodes that do what they must unless they are told not to,
//! and clients and admins that a test speaks for.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use neo_api::{
    Address, ClusterState, Instant, NodeId, NodeState, NodeType, Now, Oid, PartitionTable, Reign,
    Tid, TxnId, UnixMicros,
};
use neo_proto::{
    ClusterIdentity, ConnId, ConnectToken, Core, Effect, Effects, Identification, Input, Message,
    MsgId, Packet, decode, encode,
};

pub(super) use super::played::{CatchingUp, Storage};
use crate::MasterSettings;
use crate::{Command, MasterCore, Status};

pub(super) const T0: i64 = 1_795_297_530_000_000;

pub(super) fn nid(text: &str) -> NodeId {
    text.parse().unwrap()
}

/// The master and its peers.
#[derive(Debug)]
pub(super) struct World {
    pub(super) core: MasterCore,
    pub(super) now: Now,
    last_conn: u64,
    last_id: u64,
    pub(super) inbox: BTreeMap<ConnId, VecDeque<Message>>,
    pub(super) closed: BTreeMap<ConnId, String>,
    pub(super) storages: BTreeMap<u32, Storage>,
    pub(super) status: Status,
    pub(super) stopped: bool,
    /// Attempts to connect.
    pub(super) dials: Vec<(ConnectToken, Address)>,
}

impl World {
    pub(super) fn new(settings: MasterSettings) -> Self {
        let core = MasterCore::new(settings, Address::new("m", 1), [1, 2, 3, 4]);
        let mut world = Self::of(core);
        world.input(Input::Timer);
        world
    }

    pub(super) fn of(core: MasterCore) -> Self {
        Self {
            core,
            now: Now {
                mono: Instant(0),
                wall: UnixMicros(T0),
            },
            last_conn: 0,
            last_id: 0,
            inbox: BTreeMap::new(),
            closed: BTreeMap::new(),
            storages: BTreeMap::new(),
            status: Status::default(),
            stopped: false,
            dials: Vec::new(),
        }
    }

    /// A cluster that is created by its storage nodes, RUNNING.
    pub(super) fn running(storages: u32, replicas: u32, partitions: u32) -> Self {
        let mut world = Self::new(MasterSettings {
            autostart: Some(storages),
            replicas,
            partitions,
            ..MasterSettings::new("c")
        });
        for n in 1..=storages {
            world.storages.insert(n, Storage::new(n));
            world.join(n);
        }
        assert!(world.status.serving, "{:?}", world.status);
        world
    }

    pub(super) fn state(&self) -> ClusterState {
        self.core.cluster_state().expect("it is the primary")
    }

    pub(super) fn table(&self) -> &PartitionTable {
        self.core.partition_table().expect("there is a table")
    }

    /// Rows as `1U2O`.
    pub(super) fn rows(&self) -> Vec<String> {
        let rows = self.table().rows.iter();
        rows.map(|row| {
            let cell = |c: &neo_api::Cell| format!("{}{}", c.nid.number(), c.state.letter());
            row.iter().map(cell).collect()
        })
        .collect()
    }

    /// One input, and what is due then, as a driver does it that has nothing else to tell.
    pub(super) fn input(&mut self, input: Input<MasterCore>) {
        self.input_of_many(input);
        if self
            .core
            .poll_timeout()
            .is_some_and(|at| at <= self.now.mono)
        {
            self.input_of_many(Input::Timer);
        }
    }

    /// One input, and where its effects go. What is sent is encoded and decoded on its way.
    fn input_of_many(&mut self, input: Input<MasterCore>) {
        let before = self.core.partition_table().map(|table| table.version);
        let mut out = Effects::new();
        self.core.handle(self.now, input, &mut out);
        for effect in out.take() {
            match effect {
                Effect::Send { conn, message } => {
                    assert!(
                        !self.closed.contains_key(&conn),
                        "{message:?} after the close"
                    );
                    let mut bytes = Vec::new();
                    encode(message.id, &message.packet, &mut bytes);
                    let (id, packet) = decode(&bytes).expect("what was encoded can be decoded");
                    let message = Message::new(id, packet);
                    self.inbox.entry(conn).or_default().push_back(message);
                }
                Effect::Close { conn, reason } => {
                    let before = self.closed.insert(conn, reason);
                    assert_eq!(before, None, "a connection is closed once");
                    for storage in self.storages.values_mut() {
                        if storage.conn == Some(conn) {
                            storage.restart();
                        }
                    }
                }
                Effect::Event(crate::Event::Status(status)) => self.status = *status,
                Effect::Stop { failure } => {
                    assert_eq!(failure, None);
                    self.stopped = true;
                }
                Effect::Consumed { .. } => {}
                Effect::Connect { token, to } => self.dials.push((token, to)),
                other => panic!("{other:?}"),
            }
        }
        let after = self.core.partition_table().map(|table| table.version);
        let leads = self.core.cluster_state().is_some();
        if leads && self.core.settings.mutations == crate::Mutations::default() {
            assert!(after >= before, "{before:?} {after:?}: tables get newer");
        }
    }

    pub(super) fn sleep(&mut self, time: Duration) {
        let end = self.now.mono + time;
        loop {
            let next = self.core.poll_timeout().unwrap_or(end).min(end);
            let least = self.now.mono + Duration::from_millis(1).min(time);
            let step = next.max(least).min(end).since(self.now.mono);
            self.now.mono = self.now.mono + step;
            self.now.wall.0 += step.as_micros() as i64;
            if self
                .core
                .poll_timeout()
                .is_some_and(|at| at <= self.now.mono)
            {
                self.input(Input::Timer);
            }
            self.settle();
            if self.now.mono >= end {
                return;
            }
        }
    }

    pub(super) fn command(&mut self, command: Command) {
        self.input(Input::Command(command));
        self.settle();
    }

    pub(super) fn accept(&mut self) -> ConnId {
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        let from = Address::new("peer", 1);
        self.input(Input::Accepted { conn, from });
        conn
    }

    /// The oldest attempt to connect succeeds: to whom.
    pub(super) fn connected(&mut self) -> (ConnId, Address) {
        let (token, to) = self.dials.remove(0);
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        self.input(Input::Connected { token, conn });
        (conn, to)
    }

    /// Sends a message without waiting for what follows.
    pub(super) fn send(&mut self, conn: ConnId, id: MsgId, packet: Packet) {
        let message = Message::new(id, packet);
        self.input(Input::Message { conn, message });
    }

    /// Lets storage nodes do what they must until nobody has anything to do.
    pub(super) fn settle(&mut self) {
        loop {
            let next = self.storages.values_mut().find_map(|storage| {
                let conn = storage.conn?;
                let inbox = self.inbox.get_mut(&conn)?;
                let held = |m: &Message| storage.holds.contains(m.packet.name());
                let at = inbox.iter().position(|message| !held(message))?;
                // What comes after a table is not dealt with before it is stored.
                let is_table = |m: &Message| Storage::TABLES.contains(&m.packet.name());
                let first = inbox.iter().position(|m| held(m) && is_table(m));
                let at = first.is_none_or(|first| at < first).then_some(at)?;
                Some((storage.n, conn, inbox.remove(at)?))
            });
            let Some((n, conn, message)) = next else {
                return;
            };
            self.deliver(n, conn, message);
        }
    }

    /// A storage node takes a message.
    pub(super) fn deliver(&mut self, n: u32, conn: ConnId, message: Message) {
        let storage = self.storages.get_mut(&n).expect("it is played");
        storage.log.push(message.packet.name());
        let leaves = match &message.packet {
            Packet::NotifyNodeInformation { nodes, .. } => nodes.iter().any(|info| {
                info.nid == storage.nid()
                    && matches!(info.state, NodeState::Down | NodeState::Unknown)
            }),
            _ => false,
        };
        if leaves {
            self.lose(n);
            return;
        }
        for (id, packet) in storage.obey(message.id, message.packet) {
            if !self.closed.contains_key(&conn) {
                self.send(conn, id, packet);
            }
        }
    }

    /// Lets a storage node take the oldest message of a name that it held back.
    pub(super) fn release(&mut self, n: u32, name: &str) {
        let conn = self.storages[&n].conn.expect("it is connected");
        let inbox = self.inbox.get_mut(&conn).expect("something was sent");
        let at = inbox.iter().position(|m| m.packet.name() == name);
        let message = inbox.remove(at.expect("it was sent")).expect("it is there");
        self.deliver(n, conn, message);
        self.settle();
    }

    /// What a storage node holds back, by name.
    pub(super) fn held(&self, n: u32, name: &str) -> usize {
        let Some(conn) = self.storages[&n].conn else {
            return 0;
        };
        let inbox = self.inbox.get(&conn).into_iter().flatten();
        inbox.filter(|m| m.packet.name() == name).count()
    }

    pub(super) fn identification(node_type: NodeType) -> Identification {
        Identification {
            node_type,
            nid: None,
            address: None,
            cluster: "c".to_owned(),
            identity: None,
            session: None,
            read_only: false,
            topology: Vec::new(),
            masters: Vec::new(),
            new_nid: false,
            noted: None,
            is_full: false,
        }
    }

    /// Connects with an identification; the answer.
    pub(super) fn identify(&mut self, identification: Identification) -> (ConnId, Packet) {
        let conn = self.accept();
        let identification = Box::new(identification);
        let packet = Packet::RequestIdentification { identification };
        self.send(conn, MsgId(1), packet);
        let answer = self
            .answer(conn, MsgId(1))
            .expect("identifications are answered");
        (conn, answer)
    }

    /// A storage node connects; nothing that follows is done yet.
    pub(super) fn connect(&mut self, n: u32) -> Packet {
        let storage = &self.storages[&n];
        let mut identification = Self::identification(NodeType::Storage);
        identification.nid = Some(storage.nid());
        identification.address = Some(storage.address());
        identification.identity = storage.recovery.identity.clone();
        identification.noted = storage.noted();
        identification.topology = storage.topology.clone();
        let (conn, answer) = self.identify(identification);
        if !self.closed.contains_key(&conn) {
            self.storages.get_mut(&n).expect("it is played").conn = Some(conn);
        }
        answer
    }

    /// A storage node connects, and does what it is told.
    pub(super) fn join(&mut self, n: u32) -> Packet {
        let answer = self.connect(n);
        self.settle();
        answer
    }

    /// The connection to a storage node breaks, or the node does.
    pub(super) fn lose(&mut self, n: u32) {
        let storage = self.storages.get_mut(&n).expect("it is played");
        let conn = storage.conn.expect("it is connected");
        storage.restart();
        self.inbox.remove(&conn);
        let reason = "lost".to_owned();
        self.input(Input::Closed { conn, reason });
        self.closed.insert(conn, "by the peer".to_owned());
        self.settle();
    }

    /// The connections to some storage nodes break at one moment.
    pub(super) fn lose_at_once(&mut self, nodes: &[u32]) {
        for n in nodes {
            let storage = self.storages.get_mut(n).expect("it is played");
            let conn = storage.conn.expect("it is connected");
            storage.restart();
            self.inbox.remove(&conn);
            let reason = "lost".to_owned();
            self.input_of_many(Input::Closed { conn, reason });
            self.closed.insert(conn, "by the peer".to_owned());
        }
        self.input(Input::Timer);
        self.settle();
    }

    pub(super) fn client(&mut self) -> ConnId {
        let (conn, answer) = self.identify(Self::identification(NodeType::Client));
        assert!(
            matches!(answer, Packet::AcceptIdentification { .. }),
            "{answer:?}"
        );
        self.settle();
        conn
    }

    pub(super) fn admin(&mut self) -> ConnId {
        self.identify(Self::identification(NodeType::Admin)).0
    }

    pub(super) fn hang_up(&mut self, conn: ConnId) {
        let reason = "hung up".to_owned();
        self.input(Input::Closed { conn, reason });
        self.closed.insert(conn, "by the peer".to_owned());
        self.settle();
    }

    /// A request of a client or admin; its answer, if it has come.
    pub(super) fn ask(&mut self, conn: ConnId, packet: Packet) -> Option<Packet> {
        let id = self.request(conn, packet);
        self.answer(conn, id)
    }

    /// A request whose answer is looked for later.
    pub(super) fn request(&mut self, conn: ConnId, packet: Packet) -> MsgId {
        self.last_id += 1;
        let id = MsgId(1000 + self.last_id);
        self.send(conn, id, packet);
        self.settle();
        id
    }

    pub(super) fn notify(&mut self, conn: ConnId, packet: Packet) {
        self.send(conn, MsgId(0), packet);
        self.settle();
    }

    /// Takes the answer to a request.
    pub(super) fn answer(&mut self, conn: ConnId, id: MsgId) -> Option<Packet> {
        let inbox = self.inbox.get_mut(&conn)?;
        let at = inbox
            .iter()
            .position(|m| m.id == id && m.packet.is_answer())?;
        inbox.remove(at).map(|message| message.packet)
    }

    /// Takes everything that was sent to a peer.
    pub(super) fn received(&mut self, conn: ConnId) -> Vec<Packet> {
        let messages = self.received_messages(conn).into_iter();
        messages.map(|message| message.packet).collect()
    }

    /// The same with ids.
    pub(super) fn received_messages(&mut self, conn: ConnId) -> Vec<Message> {
        self.inbox.remove(&conn).unwrap_or_default().into()
    }

    /// Names of everything that was sent to a peer.
    pub(super) fn names(&mut self, conn: ConnId) -> Vec<&'static str> {
        self.received(conn).iter().map(Packet::name).collect()
    }

    // --- catching up ---

    /// A storage node asks something; the answer, if it has come.
    pub(super) fn storage_asks(&mut self, n: u32, packet: Packet) -> Option<Packet> {
        let conn = self.storages[&n].conn.expect("it is connected");
        self.request(conn, packet);
        self.storages.get_mut(&n).and_then(|s| s.answer.take())
    }

    /// A storage node asks for what it must know to fill its cells; the answer.
    pub(super) fn register(&mut self, n: u32) -> Option<Packet> {
        let cells = self.storages[&n].out_of_date();
        let packet = Packet::AskUnfinishedTransactions {
            cells: cells.clone(),
        };
        let answer = self.storage_asks(n, packet);
        if let Some(Packet::AnswerUnfinishedTransactions { pending, .. }) = &answer {
            let pending = pending.iter().copied().collect();
            let storage = self.storages.get_mut(&n).expect("it is played");
            storage.catching_up = Some(CatchingUp { cells, pending });
        }
        answer
    }

    /// A storage node says that its cells are complete.
    pub(super) fn complete(&mut self, n: u32) {
        let storage = self.storages.get_mut(&n).expect("it is played");
        let conn = storage.conn.expect("it is connected");
        let tid = storage.last_tid().unwrap_or(Tid::ZERO);
        let catching_up = storage.catching_up.take();
        for cell in catching_up.expect("it has begun").cells {
            self.send(conn, MsgId(0), Packet::NotifyReplicationDone { cell, tid });
        }
        self.settle();
    }

    // --- transactions ---

    pub(super) fn begin(&mut self, conn: ConnId) -> TxnId {
        match self.ask(conn, Packet::AskBeginTransaction { tid: None }) {
            Some(Packet::AnswerBeginTransaction { txn }) => txn,
            other => panic!("{other:?}"),
        }
    }

    /// Storage nodes hold a transaction that was voted, with an object of each partition, and tell
    /// of it.
    pub(super) fn vote(&mut self, txn: TxnId, storages: &[u32]) {
        let partitions = self.table().partitioning().iter();
        let objects: Vec<_> = partitions.map(|partition| (partition, 1)).collect();
        for n in storages {
            let storage = self.storages.get_mut(n).expect("it is played");
            storage.unfinished.insert(txn, None);
            if let Some(conn) = storage.conn {
                let packet = Packet::NotifyVoted {
                    txn,
                    metadata: true,
                    objects: objects.clone(),
                };
                self.send(conn, MsgId(0), packet);
            }
        }
    }

    /// A request to finish; objects are those of the partitions with their numbers.
    pub(super) fn finish(&mut self, conn: ConnId, txn: TxnId, oids: &[u64]) -> MsgId {
        let p = self.table().partitioning();
        let oids: Vec<Oid> = oids.iter().map(|oid| Oid(*oid)).collect();
        let partitions = oids.iter().map(|oid| p.of_oid(*oid)).collect();
        let oids = oids.into();
        let packet = Packet::AskFinishTransaction {
            txn,
            oids,
            partitions,
        };
        self.request(conn, packet)
    }

    /// Begins, votes on all storage nodes and finishes.
    pub(super) fn commit(&mut self, conn: ConnId, oids: &[u64]) -> Tid {
        let all: Vec<u32> = self.storages.keys().copied().collect();
        self.commit_with(conn, &all, oids)
    }

    /// The same without objects, on some storage nodes.
    pub(super) fn commit_on(&mut self, conn: ConnId, storages: &[u32]) -> Tid {
        self.commit_with(conn, storages, &[])
    }

    fn commit_with(&mut self, conn: ConnId, storages: &[u32], oids: &[u64]) -> Tid {
        let txn = self.begin(conn);
        self.vote(txn, storages);
        let id = self.finish(conn, txn, oids);
        match self.answer(conn, id) {
            Some(Packet::AnswerTransactionFinished { txn: of, tid }) if of == txn => tid,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn last_tid(&mut self, conn: ConnId) -> Tid {
        match self.ask(conn, Packet::AskLastTransaction {}) {
            Some(Packet::AnswerLastTransaction { tid }) => tid,
            other => panic!("{other:?}"),
        }
    }

    /// A new master process takes over: all connections break, nothing is remembered.
    pub(super) fn restart_master(&mut self) {
        let settings = self.core.settings.clone();
        let core = MasterCore::new(settings, Address::new("m", 1), [5, 6, 7, 8]);
        let storages = std::mem::take(&mut self.storages);
        let now = self.now;
        *self = Self::of(core);
        self.now = now;
        self.storages = storages;
        for storage in self.storages.values_mut() {
            storage.restart();
            storage.log.clear();
        }
        self.input(Input::Timer);
    }
}

/// The words of an error.
pub(super) fn words(packet: Option<Packet>) -> String {
    match packet {
        Some(Packet::Error { code, message }) => format!("{code}: {message}"),
        other => panic!("{other:?}"),
    }
}

/// The tid of a transaction that is committed.
pub(super) fn finished(answer: Option<Packet>) -> Tid {
    match answer {
        Some(Packet::AnswerTransactionFinished { tid, .. }) => tid,
        other => panic!("{other:?}"),
    }
}

/// An identity of so many epochs.
pub(super) fn identity(epochs: u64) -> ClusterIdentity {
    let epoch_id = |n: u64| neo_api::EpochId([n as u8; 16]);
    let epoch = |number| neo_api::Epoch {
        number,
        id: epoch_id(number),
        parent: (number > 1).then(|| epoch_id(number - 1)),
        base_reign: Reign(0),
        base_ptid: neo_api::Ptid(0),
        base_tid: Tid(number * 1000),
    };
    ClusterIdentity {
        id: neo_api::ClusterId([9; 16]),
        epochs: (1..=epochs).map(epoch).collect(),
    }
}
