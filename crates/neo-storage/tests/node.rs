//! The whole node: its shell, its driver, a backend with threads, over streams in memory. The
//! primary and the client are scripts.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use neo_api::*;
use neo_backends::{KvBackend, MemoryEngine};
use neo_proto::net::{self, DoneSender, DriverOptions, MemoryNetwork, Shell};
use neo_proto::*;
use neo_storage::{RunningStorage, StartError, Storage, StorageSettings};
use tokio::sync::mpsc;

const REIGN: Reign = Reign(1);

/// A node that says what the test says, and tells the test what it hears.
#[derive(Debug)]
struct Script;

#[derive(Debug)]
enum Say {
    Connect(Address),
    Message(ConnId, Message),
}

#[derive(Debug)]
enum Heard {
    Open(ConnId),
    Message(ConnId, Message),
    Closed,
}

impl Core for Script {
    type Command = Say;
    type Event = Heard;
    type Job = Infallible;
    type Done = Infallible;

    fn handle(&mut self, _: Now, input: Input<Self>, out: &mut Effects<Self>) {
        match input {
            Input::Accepted { conn, .. } | Input::Connected { conn, .. } => {
                out.event(Heard::Open(conn));
            }
            Input::Message { conn, message } => {
                let bytes = message.payload.len() as u64;
                out.push(Effect::Consumed { conn, bytes });
                out.event(Heard::Message(conn, message));
            }
            Input::Closed { .. } => out.event(Heard::Closed),
            Input::Command(Say::Connect(to)) => {
                let token = ConnectToken(1);
                out.push(Effect::Connect { token, to });
            }
            Input::Command(Say::Message(conn, message)) => {
                out.push(Effect::Send { conn, message });
            }
            Input::ConnectFailed { error, .. } => panic!("{error}"),
            Input::Timer => {}
            Input::Done(never) => match never {},
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

#[derive(Debug)]
struct Tell(mpsc::Sender<Heard>);

impl Shell<Script> for Tell {
    fn job(&mut self, job: Infallible, _: &DoneSender<Script>) {
        match job {}
    }

    fn event(&mut self, event: Heard) {
        // The test may have heard enough.
        let _ = self.0.try_send(event);
    }
}

/// One side of the test: a master or a client.
#[derive(Debug)]
struct Peer {
    say: mpsc::Sender<Say>,
    hear: mpsc::Receiver<Heard>,
    conn: ConnId,
    last_id: u64,
}

impl Peer {
    async fn start(network: &MemoryNetwork, listen: Option<&Address>) -> Self {
        let listener = match listen {
            Some(address) => Some(network.bind(address).await.unwrap()),
            None => None,
        };
        let options = DriverOptions {
            transport: Arc::new(network.clone()),
            env: Arc::new(SystemEnv::new()),
            listener,
            session: SessionSettings::default(),
            span: tracing::Span::none(),
        };
        let (say, commands) = mpsc::channel(100);
        let (told, hear) = mpsc::channel(1_000);
        tokio::spawn(net::run(Script, Tell(told), options, commands));
        Self {
            say,
            hear,
            conn: ConnId(0),
            last_id: 0,
        }
    }

    async fn heard(&mut self) -> Heard {
        loop {
            let heard = tokio::time::timeout(Duration::from_secs(20), self.hear.recv());
            match heard.await.expect("nothing is heard").unwrap() {
                // How far its cells are packed is of no interest here.
                Heard::Message(_, message)
                    if matches!(message.packet, Packet::NotifyPacked { .. }) => {}
                heard => return heard,
            }
        }
    }

    async fn opened(&mut self) {
        match self.heard().await {
            Heard::Open(conn) => self.conn = conn,
            other => panic!("{other:?}"),
        }
    }

    async fn message(&mut self) -> Message {
        match self.heard().await {
            Heard::Message(conn, message) => {
                assert_eq!(conn, self.conn);
                message
            }
            other => panic!("{other:?}"),
        }
    }

    async fn send(&self, id: MsgId, packet: Packet, payload: Bytes) {
        let message = Message::with_payload(id, packet, payload);
        self.say
            .send(Say::Message(self.conn, message))
            .await
            .unwrap();
    }

    async fn notify(&self, packet: Packet) {
        self.send(MsgId(0), packet, Bytes::new()).await;
    }

    async fn ask(&mut self, packet: Packet) -> Message {
        self.ask_with(packet, Bytes::new()).await
    }

    async fn ask_with(&mut self, packet: Packet, payload: Bytes) -> Message {
        self.last_id += 1;
        let id = MsgId(self.last_id);
        self.send(id, packet, payload).await;
        let answer = self.message().await;
        assert_eq!(answer.id, id, "{answer:?}");
        answer
    }
}

fn settings() -> StorageSettings {
    StorageSettings::new("test", vec![Address::new("master", 1)])
}

fn memory() -> Arc<dyn StorageBackend> {
    let info = BackendInfo::new("Memory", false);
    Arc::new(KvBackend::threads(MemoryEngine::default(), info, 2))
}

async fn storage(network: &MemoryNetwork, backend: Arc<dyn StorageBackend>) -> RunningStorage {
    let node = Storage::builder(settings(), backend)
        .bind(Address::new("storage", 0))
        .transport(Arc::new(network.clone()))
        .start();
    node.await.unwrap()
}

/// Plays the primary until the node serves.
async fn serve(master: &mut Peer) -> NodeId {
    master.opened().await;
    let asked = master.message().await;
    let nid = NodeId::new(NodeType::Storage, 1).unwrap();
    let accept = Packet::AcceptIdentification {
        node_type: NodeType::Master,
        nid: None,
        your_nid: nid,
        reign: REIGN,
        session: SessionId(1),
        identity: None,
    };
    master.send(asked.id, accept, Bytes::new()).await;
    let mut table = PartitionTable::empty(Partitioning::new(1).unwrap(), 0);
    table.version.reign = REIGN;
    table.rows[0].push(Cell {
        nid,
        state: CellState::UpToDate,
        assigned: table.version,
    });
    let version = table.version;
    let identity = Some(ClusterIdentity {
        id: ClusterId([1; 16]),
        epochs: vec![],
    });
    let table = Box::new(table);
    master
        .notify(Packet::SendPartitionTable { identity, table })
        .await;
    let stored = Packet::NotifyPartitionTableStored { version };
    assert_eq!(master.message().await.packet, stored);
    let reign = REIGN;
    let started = master.ask(Packet::AskStartReign { reign }).await;
    assert_eq!(started.packet, Packet::AnswerReignStarted { reign });
    master.notify(Packet::StartOperation { operation: 1 }).await;
    let ready = Packet::NotifyReady { operation: 1 };
    assert_eq!(master.message().await.packet, ready);
    let nodes = vec![NodeInfo {
        nid: NodeId::new(NodeType::Client, 1).unwrap(),
        address: None,
        state: NodeState::Running,
        session: Some(SessionId(2)),
        since_micros: None,
        is_full: false,
    }];
    master
        .notify(Packet::NotifyNodeInformation { full: true, nodes })
        .await;
    nid
}

async fn client(network: &MemoryNetwork, to: &Address) -> Peer {
    let mut client = Peer::start(network, None).await;
    client.say.send(Say::Connect(to.clone())).await.unwrap();
    client.opened().await;
    let identification = Box::new(Identification {
        node_type: NodeType::Client,
        nid: NodeId::new(NodeType::Client, 1),
        address: None,
        cluster: "test".to_owned(),
        identity: None,
        session: Some((REIGN, SessionId(2))),
        read_only: false,
        topology: vec![],
        masters: vec![],
        new_nid: false,
        noted: None,
        is_full: false,
    });
    let accepted = client
        .ask(Packet::RequestIdentification { identification })
        .await;
    assert!(matches!(
        accepted.packet,
        Packet::AcceptIdentification { .. }
    ));
    client
}

fn store(oid: u64, serial: u64, value: &Bytes) -> Packet {
    Packet::AskStoreObject {
        txn: txn(),
        oid: Oid(oid),
        serial: Tid(serial),
        kind: StoreKind::Value {
            compression: Compression::None,
            checksum: Checksum::of(value),
        },
    }
}

fn txn() -> TxnId {
    TxnId {
        reign: REIGN,
        ttid: Tid(10),
    }
}

fn vote(objects: u32) -> Packet {
    Packet::AskStoreTransaction {
        txn: txn(),
        meta: TransactionMeta::default(),
        oids: Oids::default(),
        objects,
        pack: None,
        packed: false,
    }
}

#[tokio::test]
async fn a_node_commits_and_serves_what_it_committed() {
    let network = MemoryNetwork::new();
    let mut master = Peer::start(&network, Some(&Address::new("master", 1))).await;
    let node = storage(&network, memory()).await;
    let nid = serve(&mut master).await;
    assert_eq!(node.nid(), Some(nid));
    assert!(node.status().borrow().operating);
    let mut client = client(&network, node.address()).await;
    // More than the credit of a connection: what is written gives it back.
    let value = Bytes::from(vec![7; 3 << 20]);
    for oid in 0..6 {
        let stored = client.ask_with(store(oid, 0, &value), value.clone()).await;
        let outcome = StoreOutcome::Locked;
        assert_eq!(stored.packet, Packet::AnswerStoreObject { outcome });
    }
    let voted = client.ask(vote(6)).await;
    assert_eq!(voted.packet, Packet::AnswerStoreTransaction {});
    let (txn, tid) = (txn(), Tid(20));
    let told = master.message().await;
    assert!(
        matches!(told.packet, Packet::NotifyVoted { .. }),
        "{told:?}"
    );
    let locked = master.ask(Packet::AskLockInformation { txn, tid }).await;
    assert_eq!(locked.packet, Packet::AnswerInformationLocked { txn });
    master.notify(Packet::NotifyUnlockInformation { txn }).await;
    let (oid, at) = (Oid(5), At::Before(Tid(21)));
    // The lock was answered: a read that overtakes the unlock waits for it.
    let loaded = client.ask(Packet::AskObject { oid, at }).await;
    assert_eq!(loaded.payload, value);
    node.stop().await.unwrap();
    assert!(matches!(client.heard().await, Heard::Closed));
}

#[tokio::test]
async fn a_node_comes_back_to_a_primary_that_was_lost() {
    let network = MemoryNetwork::new();
    let address = Address::new("master", 1);
    let mut master = Peer::start(&network, Some(&address)).await;
    let node = storage(&network, memory()).await;
    serve(&mut master).await;
    network.cut(&address);
    assert!(matches!(master.heard().await, Heard::Closed));
    master.opened().await;
    let asked = master.message().await;
    let Packet::RequestIdentification { identification } = asked.packet else {
        panic!("{asked:?}");
    };
    assert_eq!(identification.nid, node.nid());
    assert_eq!(identification.identity.unwrap().id, ClusterId([1; 16]));
    assert!(!node.status().borrow().operating);
    node.kill().await;
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let network = MemoryNetwork::new();
    let nobody = StorageSettings::new("test", vec![]);
    let started = Storage::builder(nobody, memory()).start().await;
    assert!(matches!(started, Err(StartError::NoMaster)));
    let address = Address::new("storage", 7);
    let _taken = network.bind(&address).await.unwrap();
    let started = Storage::builder(settings(), memory())
        .bind(address)
        .transport(Arc::new(network.clone()))
        .start();
    let error = started.await.unwrap_err().to_string();
    assert_eq!(error, "cannot listen at storage:7");
}

/// A backend that panics when it is written, or read, to.
#[derive(Debug)]
struct Panics {
    inner: Arc<dyn StorageBackend>,
    writes: bool,
}

#[async_trait]
impl StorageBackend for Panics {
    fn info(&self) -> BackendInfo {
        self.inner.info()
    }
    async fn config(&self, key: &str) -> BackendResult<Option<Bytes>> {
        assert!(self.writes, "a read that panics, as the test wants it");
        self.inner.config(key).await
    }
    async fn partition_table(&self) -> BackendResult<Option<PartitionTable>> {
        self.inner.partition_table().await
    }
    async fn load(&self, partition: Partition, oid: Oid, at: At) -> BackendResult<Loaded> {
        self.inner.load(partition, oid, at).await
    }
    async fn last_serials(&self, oids: &[(Partition, Oid)]) -> BackendResult<Vec<Option<Tid>>> {
        self.inner.last_serials(oids).await
    }
    async fn transaction(
        &self,
        partition: Partition,
        tid: Tid,
    ) -> BackendResult<Option<TransactionRecord>> {
        self.inner.transaction(partition, tid).await
    }
    async fn transactions(
        &self,
        partition: Partition,
        min: Tid,
        max: Tid,
        order: Order,
        limit: PageLimit,
    ) -> BackendResult<Vec<TransactionRecord>> {
        let page = self.inner.transactions(partition, min, max, order, limit);
        page.await
    }
    async fn history(
        &self,
        partition: Partition,
        oid: Oid,
        before: Tid,
        limit: usize,
    ) -> BackendResult<Vec<HistoryEntry>> {
        self.inner.history(partition, oid, before, limit).await
    }
    async fn bytes(&self) -> BackendResult<u64> {
        self.inner.bytes().await
    }

    async fn current(
        &self,
        partition: Partition,
        min: Oid,
        at: Tid,
        values: bool,
        limit: PageLimit,
    ) -> BackendResult<CurrentPage> {
        let page = self.inner.current(partition, min, at, values, limit);
        page.await
    }
    async fn revisions(
        &self,
        partition: Partition,
        min: RevisionId,
        max: Tid,
        limit: usize,
    ) -> BackendResult<Vec<RevisionId>> {
        self.inner.revisions(partition, min, max, limit).await
    }
    async fn fetch(
        &self,
        partition: Partition,
        min: RevisionId,
        max: Tid,
        limit: PageLimit,
    ) -> BackendResult<Vec<FetchedRevision>> {
        self.inner.fetch(partition, min, max, limit).await
    }
    async fn obsolete(
        &self,
        partition: Partition,
        min: Oid,
        at: Tid,
        limit: usize,
    ) -> BackendResult<ObsoletePage> {
        self.inner.obsolete(partition, min, at, limit).await
    }
    async fn pack_orders(
        &self,
        partition: Partition,
        after: Tid,
        limit: usize,
    ) -> BackendResult<Vec<(Tid, PackOrder)>> {
        self.inner.pack_orders(partition, after, limit).await
    }
    async fn final_tid(&self, partition: Partition, txn: TxnId) -> BackendResult<Option<Tid>> {
        self.inner.final_tid(partition, txn).await
    }
    async fn unfinished(
        &self,
        after: Option<TxnId>,
        limit: usize,
    ) -> BackendResult<Vec<UnfinishedTransaction>> {
        self.inner.unfinished(after, limit).await
    }
    async fn unfinished_objects(
        &self,
        txn: TxnId,
        after: Option<Oid>,
        limit: usize,
    ) -> BackendResult<Vec<PendingObject>> {
        self.inner.unfinished_objects(txn, after, limit).await
    }
    async fn loose_data(
        &self,
        after: Option<(TxnId, DataId)>,
        limit: usize,
    ) -> BackendResult<Vec<(TxnId, DataId)>> {
        self.inner.loose_data(after, limit).await
    }
    async fn next_data_id(&self) -> BackendResult<DataId> {
        self.inner.next_data_id().await
    }
    async fn last_ids(&self, partition: Partition) -> BackendResult<LastIds> {
        self.inner.last_ids(partition).await
    }
    async fn apply(&self, _: WriteBatch, _: Durability) -> BackendResult<()> {
        panic!("a write that panics, as the test wants it");
    }
    async fn close(&self) -> BackendResult<()> {
        self.inner.close().await
    }
}

#[tokio::test]
async fn a_backend_that_panics_makes_the_node_fail_at_once() {
    for (writes, what) in [(false, "a read failed"), (true, "a write failed")] {
        let network = MemoryNetwork::new();
        let mut master = Peer::start(&network, Some(&Address::new("master", 1))).await;
        let inner = memory();
        let node = storage(&network, Arc::new(Panics { inner, writes })).await;
        if writes {
            master.opened().await;
            let asked = master.message().await;
            let accept = Packet::AcceptIdentification {
                node_type: NodeType::Master,
                nid: None,
                your_nid: NodeId::new(NodeType::Storage, 1).unwrap(),
                reign: REIGN,
                session: SessionId(1),
                identity: None,
            };
            master.send(asked.id, accept, Bytes::new()).await;
            master
                .send(
                    MsgId(1),
                    Packet::AskStoreOidMark { mark: Oid(1) },
                    Bytes::new(),
                )
                .await;
        }
        let waited = tokio::time::timeout(Duration::from_secs(10), node.wait());
        let failure = waited.await.expect("the node goes on").unwrap_err();
        assert!(failure.reason.contains(what), "{failure}");
        assert!(failure.reason.contains("panicked"), "{failure}");
    }
}
