//! A storage node is replaced by one whose database is of another kind, which gets all that there
//! is from the one that stays.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use neo_admin::{Admin, AdminSettings, Control, RunningAdmin};
use neo_api::{
    CellState, NodeState, NodeType, Oid, Order, PageLimit, Partition, RevisionId, StorageBackend,
    Tid, TransactionMeta,
};
use neo_client::Client;
use neo_testkit::Cluster;
use neo_testkit::workload::Bank;

use super::databases::{ADAPTERS, Databases};

const PARTITIONS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_replaced_by_one_on_another_adapter() {
    let order = every_pair();
    let databases = Databases::on(&[order[0]; 2]);
    let mut cluster = databases.cluster().tcp().start().await.unwrap();
    let client = cluster.client().await.unwrap();
    let bank = Bank::open(&client, 10, 100).await.unwrap();
    write_of_all_kinds(&client).await;
    let mut transfers = 0;
    for (step, pair) in order.windows(2).enumerate() {
        let work = bank.work(&client, step as u64, 5).await.unwrap();
        transfers += work.transfers;
        let [from, to] = [pair[0], pair[1]];
        // The one that was filled last gives now.
        let replaced = 1 + step % 2;
        cluster.kill_storage(replaced).await;
        let admin = admin(&cluster).await;
        let control = Control::connect(admin.address()).await.unwrap();
        forget(&control).await;
        databases.replace(replaced, to);
        cluster.restart_storage(replaced).await.unwrap();
        fill(&control).await;
        admin.stop().await.unwrap();
        bank.audit(&client).await.unwrap();
        let [one, other] = stopped(&mut cluster).await;
        assert_eq!(one, other, "from {from} to {to}");
        assert!(one.lines().count() > 30, "{one}");
        cluster.restart_all().await.unwrap();
        client.sync().await.unwrap();
    }
    let checked = bank.audit_history(&client).await.unwrap();
    assert_eq!(checked as u64, 1 + transfers);
    cluster.stop().await.unwrap();
}

/// The adapters in an order in which each comes right before each other one, once.
fn every_pair() -> Vec<&'static str> {
    let mut order = Vec::new();
    for (n, one) in ADAPTERS.iter().enumerate() {
        for other in &ADAPTERS[n + 1..] {
            order.extend([*one, *other]);
        }
    }
    order.push(ADAPTERS[0]);
    let pairs: BTreeSet<_> = order.windows(2).map(|pair| (pair[0], pair[1])).collect();
    assert_eq!(pairs.len(), order.len() - 1);
    assert_eq!(pairs.len(), ADAPTERS.len() * (ADAPTERS.len() - 1));
    order
}

async fn admin(cluster: &Cluster) -> RunningAdmin {
    let settings = AdminSettings {
        cluster: cluster.name().to_owned(),
        masters: cluster.masters(),
        nid: None,
    };
    let admin = Admin::builder(settings).start().await.unwrap();
    let mut status = admin.status();
    status
        .wait_for(|status| status.primary.is_some())
        .await
        .unwrap();
    admin
}

/// Values of several sizes, deletions, an undo, a pack of some of it.
async fn write_of_all_kinds(client: &Client) {
    let oids: Vec<Oid> = {
        let mut oids = Vec::new();
        for _ in 0..8 {
            oids.push(client.new_oid().await.unwrap());
        }
        oids
    };
    let mut serials = vec![Tid::ZERO; oids.len()];
    for round in 0..3_u8 {
        let txn = client.begin(TransactionMeta::default()).await.unwrap();
        for (n, oid) in oids.iter().enumerate() {
            let value = Bytes::from(vec![round; n * n * 4_000]);
            txn.store(*oid, serials[n], value).await.unwrap();
        }
        serials = vec![txn.commit().await.unwrap(); oids.len()];
    }
    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    txn.delete(oids[7], serials[7]).await.unwrap();
    let deleted = txn.commit().await.unwrap();
    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    assert_eq!(txn.undo(deleted).await.unwrap(), [oids[7]]);
    txn.commit().await.unwrap();
    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    txn.delete(oids[6], serials[6]).await.unwrap();
    txn.commit().await.unwrap();
    let some = oids[..3].to_vec();
    let pack = client.pack_objects(client.last_tid(), some).await.unwrap();
    pack.wait().await.unwrap();
}

/// The storage node that is down is not one of the cluster any more.
async fn forget(control: &Control) {
    loop {
        let nodes = control.nodes(Some(NodeType::Storage)).await.unwrap();
        let gone = nodes.iter().find(|node| node.state == NodeState::Down);
        if let Some(gone) = gone {
            control
                .set_node_state(gone.nid, NodeState::Unknown)
                .await
                .unwrap();
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The storage node that came is taken into the cluster, and gets copies of all.
async fn fill(control: &Control) {
    loop {
        let nodes = control.nodes(Some(NodeType::Storage)).await.unwrap();
        if nodes.iter().any(|node| node.state == NodeState::Pending) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    control.add_nodes(Vec::new()).await.unwrap();
    control.tweak(false, Vec::new()).await.unwrap();
    loop {
        let table = control.partition_table().await.unwrap().unwrap();
        let is_whole = table.iter().all(|(_, cells)| {
            let up_to_date = cells
                .iter()
                .filter(|cell| cell.state == CellState::UpToDate);
            up_to_date.count() == 2
        });
        if is_whole {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Stops all, and tells what each database has.
async fn stopped(cluster: &mut Cluster) -> [String; 2] {
    cluster.stop().await.unwrap();
    let mut dumps = [String::new(), String::new()];
    for (n, dump) in (1..).zip(&mut dumps) {
        let backend = cluster.open_backend(n).await.unwrap();
        for partition in (0..PARTITIONS).map(Partition) {
            describe(&*backend, partition, dump).await;
        }
        backend.close().await.unwrap();
    }
    dumps
}

/// All transactions and revisions of a partition, with their values.
async fn describe(backend: &dyn StorageBackend, partition: Partition, out: &mut String) {
    let all = PageLimit::entries(10_000);
    let (first, last) = (Tid::ZERO, Tid::MAX);
    let transactions = backend.transactions(partition, first, last, Order::Ascending, all);
    for transaction in transactions.await.unwrap() {
        writeln!(out, "{partition}: {transaction:?}").unwrap();
    }
    let min = RevisionId {
        tid: first,
        oid: Oid(0),
    };
    for fetched in backend.fetch(partition, min, last, all).await.unwrap() {
        let record = fetched
            .record
            .map(|r| (r.compression, r.checksum, r.data.len(), r.is_intact()));
        let same = fetched.data_serial;
        writeln!(out, "{partition}: {:?} {same:?} {record:?}", fetched.id).unwrap();
    }
}
