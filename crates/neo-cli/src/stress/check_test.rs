//! The checks see what they are there for: a right history, and one thing wrong in it at a time.

use std::sync::Arc;

use neo_api::{
    Cell, CellState, DataId, Durability, NodeId, NodeType, ObjectData, Oid, PartitionTable,
    Partitioning, Record, Reign, RevisionId, StorageBackend, TableVersion, Tid, TransactionRecord,
    TxnId, WriteBatch, WriteOp,
};

use super::copies::Copies;
use super::history::History;
use super::ledger::{Ledger, Read, Told};
use super::purpose::Purpose;
use super::value::{Account, AttemptId, Log, Value};

const LOGS: [Oid; 2] = [Oid(1), Oid(2)];
const ACCOUNTS: [Oid; 3] = [Oid(3), Oid(4), Oid(5)];

const fn id(attempt: u32) -> AttemptId {
    AttemptId { worker: 1, attempt }
}

/// Two nodes that have two partitions both, and what a client was told.
struct World {
    copies: Copies,
    ledger: Ledger,
    next: u64,
}

impl World {
    /// Set-up at tid 10, an append at 20, a transfer at 30; all told.
    async fn new() -> Self {
        let mut table = PartitionTable::empty(Partitioning::new(2).unwrap(), 1);
        let nids = [1, 2].map(|n| NodeId::new(NodeType::Storage, n).unwrap());
        let cell = |nid| Cell {
            nid,
            state: CellState::UpToDate,
            assigned: TableVersion::default(),
        };
        table.rows.fill(nids.map(cell).to_vec());
        let open = |nid| (nid, neo_backends::open("Memory", "").unwrap());
        let backends = nids.map(open).into();
        let mut world = Self {
            copies: Copies { table, backends },
            ledger: Ledger::new(),
            next: 1,
        };
        let mut values: Vec<Value> = LOGS.map(|oid| Value::Log(Log::empty(oid))).into();
        values.extend(ACCOUNTS.map(|oid| account(oid, 100)));
        world.commit(10, &Purpose::Setup, &values).await;
        let logs = LOGS.map(|oid| Value::Log(Log::empty(oid).append(id(1))));
        world.commit(20, &append(1), &logs).await;
        world.tell(1, Told::Committed(Tid(20)));
        let accounts = [account(ACCOUNTS[0], 90), account(ACCOUNTS[1], 110)];
        world.commit(30, &transfer(2, 10), &accounts).await;
        world.tell(2, Told::Committed(Tid(30)));
        world
    }

    fn tell(&self, attempt: u32, told: Told) {
        self.ledger.open(id(attempt));
        self.ledger.tell(id(attempt), Tid::ZERO, told);
    }

    fn nodes(&self) -> Vec<Arc<dyn StorageBackend>> {
        self.copies.backends.values().map(Arc::clone).collect()
    }

    async fn apply(&self, ops: Vec<WriteOp>) {
        for node in self.nodes() {
            let batch = WriteBatch::from(ops.clone());
            node.apply(batch, Durability::Synced).await.unwrap();
        }
    }

    fn revision(&mut self, tid: u64, value: &Value) -> [WriteOp; 2] {
        let data = DataId(self.next);
        self.next += 1;
        let oid = value.oid();
        let put = WriteOp::PutData {
            id: data,
            owner: None,
            record: Record::raw(value.encode()),
        };
        let partition = self.copies.table.partitioning().of_oid(oid);
        let id = RevisionId { tid: Tid(tid), oid };
        let data = ObjectData::Value(data);
        [
            put,
            WriteOp::PutObject {
                partition,
                id,
                data,
            },
        ]
    }

    fn record(&self, tid: u64, purpose: &Purpose, oids: Vec<Oid>) -> WriteOp {
        let tid = Tid(tid);
        WriteOp::PutTransaction {
            partition: self.copies.table.partitioning().of_tid(tid),
            record: TransactionRecord {
                tid,
                txn: None,
                meta: purpose.meta(),
                oids,
                packed: false,
                pack: None,
            },
        }
    }

    async fn commit(&mut self, tid: u64, purpose: &Purpose, values: &[Value]) {
        let oids = values.iter().map(Value::oid).collect();
        let mut ops = vec![self.record(tid, purpose, oids)];
        for value in values {
            ops.extend(self.revision(tid, value));
        }
        self.apply(ops).await;
    }

    /// What is found to be wrong.
    async fn anomalies(self) -> Vec<String> {
        self.copies.compare(&self.ledger).await.unwrap();
        let history = History::read(&self.copies, &self.ledger).await.unwrap();
        history.check(&self.ledger.read_entries(), &self.ledger);
        self.ledger.read_entries().anomalies
    }

    /// The one thing that is found to be wrong says this.
    async fn has(self, words: &str) {
        let anomalies = self.anomalies().await;
        let [only] = &anomalies[..] else {
            panic!("not one: {anomalies:?}");
        };
        assert!(only.contains(words), "{only}");
    }
}

const fn account(oid: Oid, balance: u64) -> Value {
    Value::Account(Account { oid, balance })
}

fn append(attempt: u32) -> Purpose {
    Purpose::Append {
        id: id(attempt),
        logs: LOGS.into(),
    }
}

fn transfer(attempt: u32, serial: u64) -> Purpose {
    let serial = Tid(serial);
    Purpose::Transfer {
        id: id(attempt),
        stores: vec![(ACCOUNTS[0], serial), (ACCOUNTS[1], serial)],
        check: (ACCOUNTS[2], Tid(10)),
    }
}

#[tokio::test]
async fn a_right_history_has_no_anomaly() {
    let mut world = World::new().await;
    let (bucket, head) = Log::empty(LOGS[0]).append(id(1)).roll_over(Oid(6), id(3));
    let other = Log::empty(LOGS[1]).append(id(1)).append(id(3));
    let values = [Value::Log(head), Value::Log(other), Value::Log(bucket)];
    world.commit(40, &append(3), &values).await;
    // Nobody knew.
    world.tell(3, Told::Unknown);
    world.ledger.read(Read {
        oid: ACCOUNTS[0],
        before: Tid(30),
        serial: Tid(10),
    });
    assert_eq!(world.anomalies().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_replica_that_lacks_something() {
    let world = World::new().await;
    let op = WriteOp::DeleteObject {
        partition: world.copies.table.partitioning().of_oid(ACCOUNTS[0]),
        id: RevisionId {
            tid: Tid(30),
            oid: ACCOUNTS[0],
        },
    };
    let batch = WriteBatch::from(vec![op]);
    world.nodes()[1]
        .apply(batch, Durability::Synced)
        .await
        .unwrap();
    world.has("partition 1: where S1 has Some").await;
}

#[tokio::test]
async fn a_loss_and_a_ghost() {
    let world = World::new().await;
    world.tell(3, Told::Committed(Tid(40)));
    world.has("LOST: 1.3").await;

    let mut world = World::new().await;
    let values = [account(ACCOUNTS[0], 80), account(ACCOUNTS[1], 120)];
    world.commit(40, &transfer(3, 30), &values).await;
    world.tell(3, Told::NotCommitted);
    world.has("1.3 was refused, and is committed").await;
}

#[tokio::test]
async fn a_change_that_does_not_follow() {
    let mut world = World::new().await;
    // It started from what the transfer at 30 replaced.
    let values = [account(ACCOUNTS[0], 95), account(ACCOUNTS[1], 105)];
    world.commit(40, &transfer(3, 10), &values).await;
    world.tell(3, Told::Committed(Tid(40)));
    world
        .has("it read 000000000000000a of 0000000000000003")
        .await;

    let mut world = World::new().await;
    // It forgets the entry of attempt 1.
    let logs = LOGS.map(|oid| Value::Log(Log::empty(oid).append(id(3))));
    world.commit(40, &append(3), &logs).await;
    world.tell(3, Told::Committed(Tid(40)));
    world.has("does not follow").await;

    let mut world = World::new().await;
    let values = [account(ACCOUNTS[0], 90), account(ACCOUNTS[1], 111)];
    world.commit(40, &transfer(3, 30), &values).await;
    world.tell(3, Told::Committed(Tid(40)));
    world.has("had 200, and have 201").await;
}

#[tokio::test]
async fn half_a_transaction() {
    let mut world = World::new().await;
    let ops = world.revision(40, &account(ACCOUNTS[2], 100));
    world.apply(ops.into()).await;
    world.has("which is no transaction").await;

    let world = World::new().await;
    let record = world.record(20, &append(1), [LOGS[0], LOGS[1], Oid(9)].into());
    world.apply(vec![record]).await;
    world.has("lists").await;
}

#[tokio::test]
async fn a_read_that_was_not_true() {
    let world = World::new().await;
    world.ledger.read(Read {
        oid: ACCOUNTS[0],
        before: Tid(31),
        serial: Tid(10),
    });
    world.has("Read {").await;
}

#[tokio::test]
async fn what_an_ended_transaction_left() {
    let world = World::new().await;
    let txn = TxnId {
        reign: Reign(1),
        ttid: Tid(50),
    };
    let record = None;
    world
        .apply(vec![WriteOp::PutUnfinished { txn, record }])
        .await;
    let anomalies = world.anomalies().await;
    assert_eq!(anomalies.len(), 2, "on both nodes: {anomalies:?}");
}

#[test]
fn a_tid_that_is_not_after_what_was_acknowledged() {
    let ledger = Ledger::new();
    ledger.open(id(1));
    ledger.tell(id(1), Tid::ZERO, Told::Committed(Tid(20)));
    assert_eq!(ledger.greatest(), Tid(20));
    assert!(!ledger.has_failed());
    ledger.open(id(2));
    ledger.tell(id(2), ledger.greatest(), Told::Committed(Tid(15)));
    ledger.oid(Oid(7));
    ledger.oid(Oid(7));
    let anomalies = ledger.read_entries().anomalies;
    assert!(anomalies[0].contains("began after") && anomalies[1].contains("given twice"));
}
