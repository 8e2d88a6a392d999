//! The cluster that the tests play.

use super::*;

pub(super) const REIGN: Reign = Reign(3);

pub(super) fn s(n: u32) -> NodeId {
    NodeId::new(NodeType::Storage, n).unwrap()
}

pub(super) fn m(n: u32) -> NodeId {
    NodeId::new(NodeType::Master, n).unwrap()
}

pub(super) fn txn(ttid: u64) -> TxnId {
    TxnId {
        reign: REIGN,
        ttid: Tid(ttid),
    }
}

pub(super) fn address(nid: NodeId) -> Address {
    Address::new(nid.to_string(), 1)
}

pub(super) fn record(text: &str) -> Record {
    Record::raw(Bytes::copy_from_slice(text.as_bytes()))
}

pub(super) fn value(text: &str) -> Change {
    Change::Value(record(text))
}

pub(super) const R: ReplyId = ReplyId(1);
pub(super) const T: TxnKey = TxnKey(1);

/// A core with all that it said, by receiver.
#[derive(Debug)]
pub(super) struct World {
    pub(super) core: ClientCore,
    pub(super) now: Now,
    pub(super) sent: BTreeMap<ConnId, VecDeque<Message>>,
    pub(super) events: VecDeque<Event>,
    pub(super) cancelled: Vec<(ConnId, MsgId)>,
    pub(super) closed: Vec<ConnId>,
    pub(super) consumed: u64,
    pub(super) stopped: bool,
    /// Attempts to connect that are not decided.
    pub(super) connecting: VecDeque<(ConnectToken, Address)>,
    next_conn: u64,
    pub(super) conns: BTreeMap<NodeId, ConnId>,
    pub(super) states: BTreeMap<NodeId, NodeState>,
    pub(super) table: PartitionTable,
    /// Storages that can't be reached.
    pub(super) unreachable: Vec<NodeId>,
    /// Storages that do not even refuse.
    pub(super) silent: Vec<NodeId>,
    pub(super) last_tid: Tid,
    session: u64,
}

impl World {
    /// A cluster of storages that each hold every partition, the client not connected.
    pub(super) fn cold(storages: u32, np: u32) -> Self {
        let mut table = PartitionTable::empty(Partitioning::new(np).unwrap(), 1);
        let version = TableVersion {
            reign: REIGN,
            ptid: Ptid(1),
        };
        table.version = version;
        for row in &mut table.rows {
            *row = (1..=storages)
                .map(|n| Cell {
                    nid: s(n),
                    state: CellState::UpToDate,
                    assigned: version,
                })
                .collect();
        }
        let core = ClientCore::new(CoreSettings {
            cluster: "test".into(),
            masters: vec![address(m(1)), address(m(2))],
            read_only: false,
            ignore_wrong_checksum: false,
            operation_timeout: Duration::from_secs(60),
            seed: 7,
            routes: false,
            mutations: Mutations::default(),
        });
        Self {
            core,
            now: Now {
                mono: Instant(0),
                wall: UnixMicros(0),
            },
            sent: BTreeMap::new(),
            events: VecDeque::new(),
            cancelled: Vec::new(),
            closed: Vec::new(),
            consumed: 0,
            stopped: false,
            connecting: VecDeque::new(),
            next_conn: 1,
            conns: BTreeMap::new(),
            states: (1..=storages).map(|n| (s(n), NodeState::Running)).collect(),
            table,
            unreachable: Vec::new(),
            silent: Vec::new(),
            last_tid: Tid(100),
            session: 0,
        }
    }

    /// The same, with the client ready.
    pub(super) fn new(storages: u32, np: u32) -> Self {
        let mut world = Self::cold(storages, np);
        world.input(Input::Timer);
        world.accept_master();
        assert!(matches!(
            world.events.pop_front(),
            Some(Event::Resynced { .. })
        ));
        assert!(matches!(
            world.events.pop_front(),
            Some(Event::Ready { .. })
        ));
        world
    }

    /// The same, with a table that is changed before: partition, number of the node, state.
    pub(super) fn with_cells(storages: u32, np: u32, cells: &[(u32, u32, CellState)]) -> Self {
        let mut world = Self::cold(storages, np);
        for (partition, n, state) in cells {
            let row = &mut world.table.rows[*partition as usize];
            match state {
                CellState::Discarded => row.retain(|cell| cell.nid != s(*n)),
                state => {
                    let cells = row.iter_mut().filter(|cell| cell.nid == s(*n));
                    cells.for_each(|cell| cell.state = *state);
                }
            }
        }
        world.input(Input::Timer);
        world.accept_master();
        world.events.clear();
        world
    }

    /// With a transaction that has begun: `T`, named `txn(200)`.
    pub(super) fn with_txn(storages: u32, np: u32) -> Self {
        let mut world = Self::new(storages, np);
        world.begin(T, 200);
        world
    }

    pub(super) fn begin(&mut self, key: TxnKey, ttid: u64) {
        self.command(Command::Begin {
            txn: key,
            reply: R,
            tid: None,
        });
        let (id, packet) = self.to(m(1));
        assert_eq!(packet, Packet::AskBeginTransaction { tid: None });
        self.says(m(1), id, Packet::AnswerBeginTransaction { txn: txn(ttid) });
        assert_eq!(self.reply(), (R, Ok(Reply::Begun(txn(ttid)))));
    }

    // --- what happens ---

    pub(super) fn input(&mut self, input: Input<ClientCore>) {
        let mut out = Effects::new();
        self.core.handle(self.now, input, &mut out);
        for effect in out.take() {
            match effect {
                Effect::Connect { token, to } => self.connecting.push_back((token, to)),
                Effect::Send { conn, message } => {
                    self.sent.entry(conn).or_default().push_back(message);
                }
                Effect::Cancel { conn, ids } => {
                    self.cancelled.extend(ids.into_iter().map(|id| (conn, id)));
                }
                Effect::Consumed { bytes, .. } => self.consumed += bytes,
                Effect::Close { conn, .. } => {
                    self.closed.push(conn);
                    self.conns.retain(|_, open| *open != conn);
                }
                Effect::Job(never) => match never {},
                Effect::Event(event) => self.events.push_back(event),
                Effect::Stop { failure } => {
                    assert_eq!(failure, None);
                    self.stopped = true;
                }
            }
        }
        self.connect_storages();
    }

    pub(super) fn command(&mut self, command: Command) {
        self.input(Input::Command(command));
    }

    pub(super) fn wait(&mut self, duration: Duration) {
        self.now.mono = self.now.mono + duration;
        self.input(Input::Timer);
    }

    /// Lets time pass up to the core's next timer, and a bit.
    pub(super) fn next_timer(&mut self) {
        let at = self.core.poll_timeout().expect("a timer is set");
        self.now.mono = self.now.mono.max(at);
        self.input(Input::Timer);
    }

    // --- connections ---

    pub(super) fn connected(&mut self, nid: NodeId) -> ConnId {
        let at = self
            .connecting
            .iter()
            .position(|(_, to)| *to == address(nid));
        let (token, _) = self
            .connecting
            .remove(at.expect("it is connecting"))
            .unwrap();
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        self.conns.insert(nid, conn);
        self.input(Input::Connected { token, conn });
        conn
    }

    pub(super) fn node_infos(&self) -> Vec<NodeInfo> {
        let storages = self.states.iter().map(|(nid, state)| NodeInfo {
            nid: *nid,
            address: Some(address(*nid)),
            state: *state,
            session: Some(SessionId(u64::from(nid.number()))),
            since_micros: None,
            is_full: false,
        });
        storages.collect()
    }

    /// The master M1 accepts the client, and tells everything.
    pub(super) fn accept_master(&mut self) {
        assert!(self.try_accept_master());
    }

    /// The same, unless the client has given this attempt up.
    pub(super) fn try_accept_master(&mut self) -> bool {
        self.connected(m(1));
        let Some((id, packet)) = self.try_to(m(1)) else {
            return false;
        };
        let Packet::RequestIdentification { identification } = packet else {
            panic!("{packet:?}");
        };
        assert_eq!(identification.cluster, "test");
        assert_eq!(identification.nid, None);
        self.session += 1;
        let accept = Packet::AcceptIdentification {
            node_type: NodeType::Master,
            nid: Some(m(1)),
            your_nid: NodeId::new(NodeType::Client, 1).unwrap(),
            reign: REIGN,
            session: SessionId(self.session),
            identity: None,
        };
        self.says(m(1), id, accept);
        let nodes = self.node_infos();
        self.notify(m(1), Packet::NotifyNodeInformation { full: true, nodes });
        let state = neo_api::ClusterState::Running;
        self.notify(
            m(1),
            Packet::NotifyClusterInformation {
                state,
                waiting: String::new(),
            },
        );
        let table = Box::new(self.table.clone());
        let identity = None;
        self.notify(m(1), Packet::SendPartitionTable { identity, table });
        let (id, packet) = self.to(m(1));
        assert_eq!(packet, Packet::AskLastTransaction {});
        let tid = self.last_tid;
        self.says(m(1), id, Packet::AnswerLastTransaction { tid });
        true
    }

    /// Storages accept every client that reaches them.
    fn connect_storages(&mut self) {
        let storages: Vec<NodeId> = self.states.keys().copied().collect();
        for nid in storages
            .into_iter()
            .filter(|nid| !self.silent.contains(nid))
            .collect::<Vec<_>>()
        {
            while let Some(at) = self
                .connecting
                .iter()
                .position(|(_, to)| *to == address(nid))
            {
                if self.unreachable.contains(&nid) {
                    let (token, _) = self.connecting.remove(at).unwrap();
                    let error = "refused".to_owned();
                    self.input(Input::ConnectFailed { token, error });
                    continue;
                }
                self.connected(nid);
                let (id, packet) = self.to(nid);
                let Packet::RequestIdentification { identification } = packet else {
                    panic!("{packet:?}");
                };
                let session = identification.session.expect("shown to storages");
                assert_eq!(session, (REIGN, SessionId(self.session)));
                let accept = Packet::AcceptIdentification {
                    node_type: NodeType::Storage,
                    nid: Some(nid),
                    your_nid: identification.nid.unwrap(),
                    reign: REIGN,
                    session: session.1,
                    identity: None,
                };
                self.says(nid, id, accept);
            }
        }
    }

    pub(super) fn lose(&mut self, nid: NodeId) {
        let conn = self.conns.remove(&nid).expect("it is connected");
        let reason = "cut".to_owned();
        self.input(Input::Closed { conn, reason });
    }

    pub(super) fn set_state(&mut self, nid: NodeId, state: NodeState) {
        self.states.insert(nid, state);
        let nodes = self
            .node_infos()
            .into_iter()
            .filter(|n| n.nid == nid)
            .collect();
        self.notify(m(1), Packet::NotifyNodeInformation { full: false, nodes });
    }

    /// The table changes, and the client is told.
    pub(super) fn change_cells(&mut self, cells: &[(u32, u32, CellState)]) {
        let base = self.table.version;
        let ptid = Ptid(base.ptid.0 + 1);
        let version = TableVersion { ptid, ..base };
        let change = |(partition, n, state): &(u32, u32, CellState)| CellChange {
            partition: Partition(*partition),
            cell: Cell {
                nid: s(*n),
                state: *state,
                assigned: version,
            },
        };
        let changes: Vec<CellChange> = cells.iter().map(change).collect();
        let replicas = 1;
        self.table.apply(version, replicas, &changes).unwrap();
        let packet = Packet::NotifyPartitionChanges {
            base,
            version,
            replicas,
            changes,
        };
        self.notify(m(1), packet);
    }

    // --- messages ---

    /// The next message to a node.
    pub(super) fn to(&mut self, nid: NodeId) -> (MsgId, Packet) {
        self.try_to(nid)
            .unwrap_or_else(|| panic!("nothing is sent to {nid}"))
    }

    pub(super) fn try_to(&mut self, nid: NodeId) -> Option<(MsgId, Packet)> {
        let conn = self.conns.get(&nid)?;
        let message = self.sent.get_mut(conn)?.pop_front()?;
        Some((message.id, message.packet))
    }

    pub(super) fn says(&mut self, nid: NodeId, id: MsgId, packet: Packet) {
        self.says_with(nid, id, packet, Bytes::new());
    }

    pub(super) fn says_with(&mut self, nid: NodeId, id: MsgId, packet: Packet, payload: Bytes) {
        let conn = *self.conns.get(&nid).expect("it is connected");
        let message = Message::with_payload(id, packet, payload);
        self.input(Input::Message { conn, message });
    }

    pub(super) fn notify(&mut self, nid: NodeId, packet: Packet) {
        self.says(nid, MsgId(0), packet);
    }

    pub(super) fn error(&mut self, nid: NodeId, id: MsgId, code: ErrorCode) {
        let message = "no".to_owned();
        self.says(nid, id, Packet::Error { code, message });
    }

    /// The next event, which must be a reply; errors as text.
    pub(super) fn reply(&mut self) -> (ReplyId, Result<Reply, String>) {
        match self.events.pop_front() {
            Some(Event::Reply { id, result }) => (id, result.map_err(|error| error.to_string())),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn done(&mut self) {
        assert_eq!(self.reply().1, Ok(Reply::Done));
    }

    pub(super) fn failure(&mut self) -> Error {
        match self.events.pop_front() {
            Some(Event::Reply {
                result: Err(error), ..
            }) => error,
            other => panic!("{other:?}"),
        }
    }

    /// Nothing is left unlooked at.
    pub(super) fn quiet(&self) {
        assert!(self.events.is_empty(), "{:?}", self.events);
        for (nid, conn) in &self.conns {
            let left = self.sent.get(conn).filter(|sent| !sent.is_empty());
            assert!(left.is_none(), "to {nid}: {left:?}");
        }
    }

    // --- transactions ---

    pub(super) fn store(&mut self, oid: u64, serial: u64, change: Change) {
        self.command(Command::Store {
            txn: T,
            reply: ReplyId(1000 + oid),
            oid: Oid(oid),
            serial: Tid(serial),
            change,
        });
    }

    /// The store that is sent to a node: its id and serial.
    pub(super) fn stored(&mut self, nid: NodeId, oid: u64) -> (MsgId, Tid) {
        match self.to(nid) {
            (
                id,
                Packet::AskStoreObject {
                    oid: of, serial, ..
                },
            ) if of == Oid(oid) => (id, serial),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn answer_store(&mut self, nid: NodeId, id: MsgId, outcome: StoreOutcome) {
        self.says(nid, id, Packet::AnswerStoreObject { outcome });
    }

    /// Stores an object, locked on every node.
    pub(super) fn store_locked(&mut self, nodes: &[NodeId], oid: u64, serial: u64, text: &str) {
        self.store(oid, serial, value(text));
        for nid in nodes {
            let (id, sent) = self.stored(*nid, oid);
            assert_eq!(sent, Tid(serial));
            self.answer_store(*nid, id, StoreOutcome::Locked);
        }
        assert_eq!(self.reply(), (ReplyId(1000 + oid), Ok(Reply::Done)));
    }

    pub(super) fn vote(&mut self) {
        self.command(Command::Vote {
            txn: T,
            reply: R,
            record: neo_api::VotedRecord::default(),
        });
    }

    /// The vote that is sent to a node; whether it has the metadata.
    pub(super) fn asked_vote(&mut self, nid: NodeId) -> (MsgId, bool, u32) {
        match self.to(nid) {
            (id, Packet::AskStoreTransaction { objects, .. }) => (id, true, objects),
            (id, Packet::AskVoteTransaction { objects, .. }) => (id, false, objects),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn answer_vote(&mut self, nid: NodeId) {
        let (id, metadata, _) = self.asked_vote(nid);
        let answer = if metadata {
            Packet::AnswerStoreTransaction {}
        } else {
            Packet::AnswerVoteTransaction {}
        };
        self.says(nid, id, answer);
    }

    /// Voted by all.
    pub(super) fn vote_all(&mut self, nodes: &[NodeId]) {
        self.vote();
        for nid in nodes {
            self.answer_vote(*nid);
        }
        assert!(matches!(self.reply(), (R, Ok(Reply::Voted(_)))));
    }

    pub(super) fn finish(&mut self) -> MsgId {
        self.command(Command::Finish { txn: T, reply: R });
        match self.to(m(1)) {
            (id, Packet::AskFinishTransaction { .. }) => id,
            other => panic!("{other:?}"),
        }
    }

    // --- reads ---

    pub(super) fn load(&mut self, reply: u64, oid: u64, at: At) {
        self.command(Command::Load {
            reply: ReplyId(reply),
            oid: Oid(oid),
            at,
        });
    }

    /// Where a load went: the node, the request and what it asks.
    pub(super) fn asked_object(&mut self) -> (NodeId, MsgId, At) {
        let nodes: Vec<NodeId> = self.conns.keys().copied().filter(|n| *n != m(1)).collect();
        for nid in nodes {
            if let Some((id, packet)) = self.try_to(nid) {
                let Packet::AskObject { at, .. } = packet else {
                    panic!("{packet:?}");
                };
                return (nid, id, at);
            }
        }
        panic!("no object is asked for");
    }

    pub(super) fn partition_of(&self, oid: u64) -> Partition {
        self.table.partitioning().of_oid(Oid(oid))
    }
}

/// The nodes of a cluster of two.
pub(super) const NODES: [NodeId; 2] = [nid(1), nid(2)];

const fn nid(n: u32) -> NodeId {
    match NodeId::new(NodeType::Storage, n) {
        Some(nid) => nid,
        None => panic!("it has a number"),
    }
}

// --- conflicts and deadlocks ---

pub(super) fn conflicts(w: &mut World) -> Vec<(u64, u32, u64, u64)> {
    match w.reply() {
        (R, Ok(Reply::Conflicts(list))) => {
            let of = |c: Conflict| (c.oid.0, c.version, c.base.0, c.serial.0);
            list.into_iter().map(of).collect()
        }
        other => panic!("{other:?}"),
    }
}

pub(super) fn resolve(w: &mut World, oid: u64, version: u32, serial: u64, text: &str) {
    w.command(Command::Resolve {
        txn: T,
        oid: Oid(oid),
        version,
        serial: Tid(serial),
        record: record(text),
    });
}

pub(super) fn relock(w: &mut World, nid: NodeId, oid: u64) -> MsgId {
    match w.to(nid) {
        (id, Packet::AskRelockObject { oid: of, .. }) if of == Oid(oid) => id,
        other => panic!("{other:?}"),
    }
}

pub(super) fn deadlock(w: &mut World, nid: NodeId, oid: u64) {
    let oid = Oid(oid);
    w.notify(nid, Packet::NotifyDeadlock { txn: txn(200), oid });
}
