//! A whole cluster in one node: primary and only storage, in memory, without failures of its own.

#![expect(clippy::unwrap_used, reason = "a test's own cluster")]

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use neo_api::{
    Address, At, Cell, CellState, Checksum, ClusterState, Compression, Instant, NodeId, NodeState,
    NodeType, Now, Oid, Partition, PartitionTable, Partitioning, Ptid, Reign, RevisionId,
    SessionId, SystemEnv, TableVersion, Tid, Transport, TxnId,
};
use neo_proto::net::{DoneSender, DriverOptions, MemoryNetwork, Shell, run};
use neo_proto::{
    ConnId, Core, Effect, Effects, ErrorCode, FinalTid, Input, Message, MsgId, NodeInfo,
    ObjectAnswer, Oids, Packet, SessionSettings, StoreKind, StoreOutcome, WireRevision,
    WireTransaction, WireValue,
};
use tokio::sync::mpsc;

const NP: u32 = 4;
const REIGN: Reign = Reign(1);

type Stored = (Compression, Checksum, Bytes);

#[derive(Debug, Default)]
struct Txn {
    client: Option<ConnId>,
    objects: BTreeMap<Oid, Option<Option<Stored>>>,
    meta: neo_api::TransactionMeta,
    oids: Vec<Oid>,
}

#[derive(Debug)]
pub(crate) struct Fake {
    address: Address,
    next: u64,
    clients: BTreeSet<ConnId>,
    last_tid: Tid,
    next_oid: u64,
    txns: BTreeMap<Tid, Txn>,
    /// Revisions; `None`: deleted.
    objects: BTreeMap<Oid, BTreeMap<Tid, Option<Stored>>>,
    transactions: BTreeMap<Tid, WireTransaction>,
    names: BTreeMap<TxnId, Tid>,
    locks: BTreeMap<Oid, Tid>,
    waiting: Vec<(ConnId, Message)>,
    committed_to: Tid,
}

/// What a test wants of it.
#[derive(Debug)]
pub(crate) enum Order {
    /// Commits, and closes every connection instead of answering: at the next finish.
    LoseNextAnswer,
}

impl Fake {
    fn new(address: Address) -> Self {
        Self {
            address,
            next: 1,
            clients: BTreeSet::new(),
            last_tid: Tid(10),
            next_oid: 1,
            txns: BTreeMap::new(),
            objects: BTreeMap::new(),
            transactions: BTreeMap::new(),
            names: BTreeMap::new(),
            locks: BTreeMap::new(),
            waiting: Vec::new(),
            committed_to: Tid::ZERO,
        }
    }

    fn table() -> PartitionTable {
        let version = TableVersion {
            reign: REIGN,
            ptid: Ptid(1),
        };
        let mut table = PartitionTable::empty(Partitioning::new(NP).unwrap(), 0);
        table.version = version;
        let (nid, state) = (storage(), CellState::UpToDate);
        for row in &mut table.rows {
            row.push(Cell {
                nid,
                state,
                assigned: version,
            });
        }
        table
    }

    fn identify(&mut self, out: &mut Effects<Self>, conn: ConnId, id: MsgId, to_storage: bool) {
        self.next += 1;
        let number = u32::try_from(self.next).unwrap();
        let (node_type, nid) = if to_storage {
            (NodeType::Storage, storage())
        } else {
            (NodeType::Master, NodeId::new(NodeType::Master, 1).unwrap())
        };
        let accept = Packet::AcceptIdentification {
            node_type,
            nid: Some(nid),
            your_nid: NodeId::new(NodeType::Client, number).unwrap(),
            reign: REIGN,
            session: SessionId(self.next),
            identity: None,
        };
        out.send(conn, id, accept);
        if to_storage {
            return;
        }
        self.clients.insert(conn);
        let node = NodeInfo {
            nid: storage(),
            address: Some(self.address.clone()),
            state: NodeState::Running,
            session: Some(SessionId(1)),
            since_micros: None,
            is_full: false,
        };
        out.notify(
            conn,
            Packet::NotifyNodeInformation {
                full: true,
                nodes: vec![node],
            },
        );
        let state = ClusterState::Running;
        out.notify(
            conn,
            Packet::NotifyClusterInformation {
                state,
                waiting: String::new(),
            },
        );
        let table = Box::new(Self::table());
        out.notify(
            conn,
            Packet::SendPartitionTable {
                identity: None,
                table,
            },
        );
    }

    fn newest(&self, oid: Oid) -> Tid {
        let revisions = self.objects.get(&oid).and_then(|r| r.keys().next_back());
        revisions.copied().unwrap_or_default()
    }

    /// Locks, or says why not; `None`: it waits.
    fn lock(&mut self, ttid: Tid, oid: Oid, serial: Tid) -> Option<StoreOutcome> {
        match self.locks.get(&oid) {
            Some(holder) if *holder != ttid => return None,
            _ => {}
        }
        let newest = self.newest(oid);
        if newest != serial && !self.locks.contains_key(&oid) {
            return Some(StoreOutcome::Conflict(newest));
        }
        self.locks.insert(oid, ttid);
        Some(StoreOutcome::Locked)
    }

    fn end(&mut self, ttid: Tid, out: &mut Effects<Self>) -> Option<Txn> {
        let txn = self.txns.remove(&ttid);
        self.locks.retain(|_, holder| *holder != ttid);
        self.waiting.retain(|(_, message)| match message.packet {
            Packet::AskStoreObject { txn, .. } | Packet::AskCheckCurrentSerial { txn, .. } => {
                txn.ttid != ttid
            }
            _ => true,
        });
        for (conn, message) in std::mem::take(&mut self.waiting) {
            self.message(conn, message, out);
        }
        txn
    }

    fn commit(&mut self, name: TxnId, out: &mut Effects<Self>) -> (Tid, Option<ConnId>) {
        let tid = Tid::next_congruent(self.last_tid, Tid::ZERO, name.ttid, NP).unwrap();
        self.last_tid = tid;
        let txn = self.txns.remove(&name.ttid).unwrap_or_default();
        let mut changed = Vec::new();
        for (oid, value) in txn.objects {
            // Only checked: nothing is written.
            if let Some(value) = value {
                self.objects.entry(oid).or_default().insert(tid, value);
                changed.push(oid);
            }
        }
        let record = WireTransaction {
            tid,
            txn: Some(name),
            meta: txn.meta,
            oids: Oids(txn.oids),
            packed: false,
            pack: None,
        };
        self.transactions.insert(tid, record);
        self.names.insert(name, tid);
        for client in self.clients.iter().filter(|c| Some(**c) != txn.client) {
            let oids = Oids(changed.clone());
            out.notify(*client, Packet::InvalidateObjects { tid, oids });
        }
        self.end(name.ttid, out);
        (tid, txn.client)
    }

    fn find(&self, oid: Oid, at: At) -> (ObjectAnswer, Bytes) {
        let Some(revisions) = self.objects.get(&oid) else {
            return (ObjectAnswer::Unknown, Bytes::new());
        };
        let found = match at {
            At::Latest => revisions.iter().next_back(),
            At::Before(tid) => revisions.range(..tid).next_back(),
            At::Exact(tid) => revisions.get_key_value(&tid),
        };
        let Some((serial, value)) = found else {
            return (ObjectAnswer::NotYet, Bytes::new());
        };
        let serial = *serial;
        let next_serial = revisions.range(serial..).nth(1).map(|(tid, _)| *tid);
        match value {
            None => (
                ObjectAnswer::Deleted {
                    serial,
                    next_serial,
                },
                Bytes::new(),
            ),
            Some((compression, checksum, data)) => {
                let answer = ObjectAnswer::Found {
                    serial,
                    next_serial,
                    compression: *compression,
                    checksum: *checksum,
                    data_serial: None,
                };
                (answer, data.clone())
            }
        }
    }

    fn revisions(&self, partition: Partition, min: RevisionId, max: Tid) -> (Packet, Bytes) {
        let partitioning = Partitioning::new(NP).unwrap();
        let mut all = BTreeMap::new();
        for (oid, revisions) in &self.objects {
            if partitioning.of_oid(*oid) == partition {
                for (tid, value) in revisions.range(..=max) {
                    all.insert(
                        RevisionId {
                            tid: *tid,
                            oid: *oid,
                        },
                        value,
                    );
                }
            }
        }
        // Pages of two: the client must ask more than once.
        let mut page: Vec<_> = all.range(min..).take(3).collect();
        let complete = page.len() < 3;
        page.truncate(2);
        let mut payload = Vec::new();
        let revisions = page.into_iter().map(|(id, value)| {
            let value = value.as_ref().map(|(compression, checksum, data)| {
                payload.extend_from_slice(data);
                WireValue {
                    compression: *compression,
                    checksum: *checksum,
                    bytes: u32::try_from(data.len()).unwrap(),
                }
            });
            WireRevision {
                id: *id,
                value,
                data_serial: None,
            }
        });
        let revisions = revisions.collect();
        (
            Packet::AnswerRevisions {
                revisions,
                complete,
            },
            payload.into(),
        )
    }

    fn import(
        &mut self,
        transactions: Vec<WireTransaction>,
        revisions: &[WireRevision],
        p: &Bytes,
    ) {
        for transaction in transactions {
            self.transactions.insert(transaction.tid, transaction);
        }
        let values = neo_proto::split_payload(revisions, p).unwrap();
        for (revision, data) in revisions.iter().zip(values) {
            let value = revision.value.zip(data);
            let stored = value.map(|(wire, data)| (wire.compression, wire.checksum, data));
            let RevisionId { tid, oid } = revision.id;
            self.objects.entry(oid).or_default().insert(tid, stored);
        }
    }

    fn message(&mut self, conn: ConnId, message: Message, out: &mut Effects<Self>) {
        let Message {
            id,
            packet,
            payload,
        } = message.clone();
        let answer = match packet {
            Packet::RequestIdentification { identification } => {
                return self.identify(out, conn, id, identification.session.is_some());
            }
            Packet::AskPackProgress {} => Packet::AnswerPackProgress {
                progress: neo_proto::PackProgress::default(),
            },
            Packet::AskLastTransaction {} => Packet::AnswerLastTransaction { tid: self.last_tid },
            Packet::AskNewOids { count } => {
                let first = Oid(self.next_oid);
                self.next_oid += u64::from(count);
                Packet::AnswerNewOids { first, count }
            }
            Packet::AskBeginTransaction { .. } => {
                self.next += 1;
                let ttid = Tid(self.next << 8);
                let client = Some(conn);
                self.txns.insert(
                    ttid,
                    Txn {
                        client,
                        ..Txn::default()
                    },
                );
                Packet::AnswerBeginTransaction {
                    txn: TxnId { reign: REIGN, ttid },
                }
            }
            Packet::AskStoreObject {
                txn,
                oid,
                serial,
                kind,
            } => {
                let Some(outcome) = self.lock(txn.ttid, oid, serial) else {
                    self.waiting.push((conn, message));
                    return;
                };
                if outcome == StoreOutcome::Locked {
                    let value = match kind {
                        StoreKind::Value {
                            compression,
                            checksum,
                        } => {
                            assert_eq!(Checksum::of(&payload), checksum);
                            Some((compression, checksum, payload.clone()))
                        }
                        StoreKind::Deletion => None,
                        StoreKind::SameAs(tid) => self.objects[&oid][&tid].clone(),
                    };
                    let txn = self.txns.entry(txn.ttid).or_default();
                    txn.objects.insert(oid, Some(value));
                }
                Packet::AnswerStoreObject { outcome }
            }
            Packet::AskCheckCurrentSerial { txn, oid, serial } => {
                let Some(outcome) = self.lock(txn.ttid, oid, serial) else {
                    self.waiting.push((conn, message));
                    return;
                };
                if outcome == StoreOutcome::Locked {
                    let txn = self.txns.entry(txn.ttid).or_default();
                    txn.objects.insert(oid, None);
                }
                Packet::AnswerCheckCurrentSerial { outcome }
            }
            Packet::AskStoreTransaction {
                txn,
                meta,
                oids,
                objects,
                ..
            } => {
                let known = self.txns.entry(txn.ttid).or_default();
                assert_eq!(known.objects.len(), objects as usize);
                known.meta = meta;
                known.oids = oids.0;
                Packet::AnswerStoreTransaction {}
            }
            Packet::AskFinishTransaction { txn, .. } => {
                let (tid, _) = self.commit(txn, out);
                if self.committed_to == Tid::MAX {
                    self.committed_to = Tid::ZERO;
                    for client in std::mem::take(&mut self.clients) {
                        out.close(client, "a test wants it");
                    }
                    return;
                }
                Packet::AnswerTransactionFinished { txn, tid }
            }
            Packet::AskFinalTid { txn } => {
                let tid = self.names.get(&txn).copied();
                let tid = tid.map_or(FinalTid::NotCommitted, FinalTid::Committed);
                Packet::AnswerFinalTid { tid }
            }
            Packet::AbortTransaction { txn, .. } => {
                self.end(txn.ttid, out);
                return;
            }
            Packet::AskObject { oid, at } => {
                let (answer, data) = self.find(oid, at);
                let packet = Packet::AnswerObject { oid, answer };
                let message = Message::with_payload(id, packet, data);
                out.push(Effect::Send { conn, message });
                return;
            }
            Packet::AskTransactions {
                partition,
                min,
                max,
                ..
            } => {
                let partitioning = Partitioning::new(NP).unwrap();
                let here = self.transactions.range(min..=max).map(|(_, t)| t.clone());
                let mut page: Vec<_> = here
                    .filter(|t| partitioning.of_tid(t.tid) == partition)
                    .take(3)
                    .collect();
                let complete = page.len() < 3;
                page.truncate(2);
                Packet::AnswerTransactions {
                    transactions: page,
                    complete,
                }
            }
            Packet::AskTransactionInformation { tid } => {
                let transaction = self.transactions.get(&tid).cloned().map(Box::new);
                Packet::AnswerTransactionInformation { transaction }
            }
            Packet::AskRevisions {
                partition,
                min,
                max,
                ..
            } => {
                let (packet, data) = self.revisions(partition, min, max);
                let message = Message::with_payload(id, packet, data);
                out.push(Effect::Send { conn, message });
                return;
            }
            Packet::AskBeginImport {} => {
                let last_tid = self.last_tid;
                Packet::AnswerBeginImport {
                    import: 1,
                    last_tid,
                }
            }
            Packet::AskImport {
                transactions,
                revisions,
                ..
            } => {
                self.import(transactions, &revisions, &payload);
                Packet::AnswerImport {}
            }
            Packet::AskCheckpointImport { tid, .. } => {
                self.last_tid = tid;
                for client in &self.clients {
                    out.notify(*client, Packet::InvalidateAll { tid });
                }
                Packet::AnswerImportCheckpointed { tid }
            }
            Packet::AskEndImport { .. } => {
                let after = Tid(self.last_tid.0 + 1);
                self.transactions.split_off(&after);
                for revisions in self.objects.values_mut() {
                    revisions.split_off(&after);
                }
                let tid = self.last_tid;
                Packet::AnswerImportEnded { tid }
            }
            packet => {
                let (code, message) = (ErrorCode::Protocol, packet.name().to_owned());
                Packet::Error { code, message }
            }
        };
        out.send(conn, id, answer);
    }
}

fn storage() -> NodeId {
    NodeId::new(NodeType::Storage, 1).unwrap()
}

impl Core for Fake {
    type Command = Order;
    type Event = Infallible;
    type Job = Infallible;
    type Done = Infallible;

    fn handle(&mut self, _now: Now, input: Input<Self>, out: &mut Effects<Self>) {
        match input {
            Input::Message { conn, message } => {
                let bytes = message.payload.len() as u64;
                self.message(conn, message, out);
                if bytes > 0 {
                    out.push(Effect::Consumed { conn, bytes });
                }
            }
            Input::Closed { conn, .. } => {
                self.clients.remove(&conn);
                let gone = self.txns.iter().filter(|(_, txn)| txn.client == Some(conn));
                let gone: Vec<Tid> = gone.map(|(ttid, _)| *ttid).collect();
                for ttid in gone {
                    self.end(ttid, out);
                }
            }
            Input::Command(Order::LoseNextAnswer) => self.committed_to = Tid::MAX,
            _ => {}
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

struct Nothing;

impl Shell<Fake> for Nothing {
    fn job(&mut self, job: Infallible, _done: &DoneSender<Fake>) {
        match job {}
    }

    fn event(&mut self, event: Infallible) {
        match event {}
    }
}

/// A running cluster.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    pub(crate) network: MemoryNetwork,
    pub(crate) address: Address,
    pub(crate) orders: mpsc::Sender<Order>,
}

pub(crate) async fn cluster() -> Cluster {
    let network = MemoryNetwork::new();
    let listener = network.bind(&Address::new("fake", 0)).await.unwrap();
    let address = listener.local_address();
    let (orders, receiver) = mpsc::channel(8);
    let options = DriverOptions {
        transport: Arc::new(network.clone()),
        env: Arc::new(SystemEnv::new()),
        listener: Some(listener),
        session: SessionSettings::default(),
        span: tracing::Span::none(),
    };
    tokio::spawn(run(Fake::new(address.clone()), Nothing, options, receiver));
    Cluster {
        network,
        address,
        orders,
    }
}

impl Cluster {
    pub(crate) fn builder(&self) -> neo_client::ClientBuilder {
        neo_client::Client::builder("fake")
            .master(&self.address)
            .transport(Arc::new(self.network.clone()))
    }

    pub(crate) async fn client(&self) -> neo_client::Client {
        self.builder().connect().await.unwrap()
    }
}
