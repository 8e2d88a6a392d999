//! The same on every database, and on different ones at once.

use futures_util::TryStreamExt as _;
use neo_api::{Oid, Tid, TransactionMeta};
use neo_client::Client;
use neo_testkit::workload::Bank;
use neo_testkit::{Cluster, MariaDb};

use super::databases::{ADAPTERS, Databases};

/// Transfers while a storage node is there, away and back; one is undone; then everything is
/// killed, is there, and is packed.
async fn serves(adapters: [&'static str; 2]) {
    let databases = Databases::on(&adapters);
    let mut cluster = databases.cluster().start().await.unwrap();
    let client = cluster.client().await.unwrap();
    let bank = Bank::open(&client, 20, 100).await.unwrap();
    let mut transfers = work(&client, &bank, 1).await;
    cluster.kill_storage(1).await;
    transfers += work(&client, &bank, 2).await;
    cluster.restart_storage(1).await.unwrap();
    transfers += work(&client, &bank, 3).await;
    client.sync().await.unwrap();
    let last = client.last_tid();
    let before = histories(&client, &bank).await;
    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    let undone = txn.undo(last).await.unwrap();
    txn.commit().await.unwrap();
    cluster.kill_all().await;
    cluster.restart_all().await.unwrap();
    client.sync().await.unwrap();
    bank.audit(&client).await.unwrap();
    let checked = bank.audit_history(&client).await.unwrap();
    assert_eq!(checked as u64, 1 + transfers + 1, "{adapters:?}");
    for (oid, told) in before {
        let is_undone = undone.contains(&oid);
        assert_eq!(history(&client, oid).await, told + usize::from(is_undone));
    }
    let packed = client.pack(client.last_tid()).await.unwrap();
    packed.wait().await.unwrap();
    bank.audit(&client).await.unwrap();
    for oid in bank.accounts() {
        assert_eq!(history(&client, *oid).await, 1, "{adapters:?}");
    }
    cluster.stop().await.unwrap();
}

/// How many revisions an object has.
async fn history(client: &Client, oid: Oid) -> usize {
    let told: Vec<_> = client.history(oid, Tid::MAX).try_collect().await.unwrap();
    told.len()
}

async fn histories(client: &Client, bank: &Bank) -> Vec<(Oid, usize)> {
    let mut all = Vec::new();
    for oid in bank.accounts() {
        all.push((*oid, history(client, *oid).await));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_on_memory() {
    serves(["memory", "memory"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_on_sqlite() {
    serves(["sqlite", "sqlite"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_on_sled() {
    serves(["sled", "sled"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_on_innodb() {
    serves(["innodb", "innodb"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_on_rocksdb() {
    serves(["rocksdb", "rocksdb"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_on_redb() {
    serves(["redb", "redb"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_on_redb_and_others() {
    serves(["redb", "sqlite"]).await;
    serves(["sled", "redb"]).await;
}

/// Whichever of them is the one that stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_on_sqlite_and_sled() {
    serves(["sqlite", "sled"]).await;
    serves(["sled", "sqlite"]).await;
}

/// Every node has another database; one of them is enough to go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_on_all_of_them() {
    let databases = Databases::on(&ADAPTERS);
    let mut cluster = databases.cluster().start().await.unwrap();
    let client = cluster.client().await.unwrap();
    let bank = Bank::open(&client, 20, 100).await.unwrap();
    let mut transfers = 0;
    for n in 1..=ADAPTERS.len() {
        cluster.kill_storage(n).await;
        transfers += work(&client, &bank, n as u64).await;
        cluster.restart_storage(n).await.unwrap();
    }
    cluster.kill_all().await;
    cluster.restart_all().await.unwrap();
    client.sync().await.unwrap();
    bank.audit(&client).await.unwrap();
    let checked = bank.audit_history(&client).await.unwrap();
    assert_eq!(checked as u64, 1 + transfers);
    cluster.stop().await.unwrap();
}

/// Two storage nodes on databases of one server, each with tables of another engine, which is
/// killed in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_on_mariadb() {
    let mut server = MariaDb::start("RocksDB").unwrap();
    let databases = [("neo1", "InnoDB"), ("neo2", "RocksDB")].map(|(name, engine)| {
        let database = server.database(name).unwrap();
        format!("{database}?engine={engine}")
    });
    let open = move |n: usize| neo_backends::open("MySQL", &databases[n - 1]);
    let builder = Cluster::builder().storages(2).replicas(1).backend(open);
    let mut cluster = builder.start().await.unwrap();
    let client = cluster.client().await.unwrap();
    let bank = Bank::open(&client, 20, 100).await.unwrap();
    let mut transfers = work(&client, &bank, 1).await;
    server.restart().unwrap();
    transfers += work(&client, &bank, 2).await;
    cluster.kill_all().await;
    server.restart().unwrap();
    cluster.restart_all().await.unwrap();
    client.sync().await.unwrap();
    transfers += work(&client, &bank, 3).await;
    bank.audit(&client).await.unwrap();
    let checked = bank.audit_history(&client).await.unwrap();
    assert_eq!(checked as u64, 1 + transfers);
    cluster.stop().await.unwrap();
}

async fn work(client: &Client, bank: &Bank, seed: u64) -> u64 {
    const ROUNDS: u64 = 30;
    let work = bank.work(client, seed, ROUNDS).await.unwrap();
    assert_eq!(work.transfers, ROUNDS, "{work:?}");
    ROUNDS
}
