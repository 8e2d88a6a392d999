//! The same on every database on disk, and on different ones at once.

use std::sync::Arc;

use neo_api::{BackendResult, StorageBackend};
use neo_client::Client;
use neo_testkit::workload::Bank;
use neo_testkit::{Cluster, ClusterBuilder, MariaDb};
use tempfile::TempDir;

/// Two storage nodes with a copy each, on the adapters named, the n-th node on the n-th.
fn on(adapters: [&'static str; 2]) -> ClusterBuilder {
    // Removed with the last of the cluster.
    let directory = Arc::new(TempDir::new().unwrap());
    let open = move |n: usize| -> BackendResult<Arc<dyn StorageBackend>> {
        let adapter = adapters[n - 1];
        let path = directory.path().join(format!("{n}.{adapter}"));
        neo_backends::open(adapter, &path.display().to_string())
    };
    Cluster::builder().storages(2).replicas(1).backend(open)
}

/// Transfers while a storage node is there, away and back; then everything is killed, and is there.
async fn serves(adapters: [&'static str; 2]) {
    let mut cluster = on(adapters).start().await.unwrap();
    let client = cluster.client().await.unwrap();
    let bank = Bank::open(&client, 20, 100).await.unwrap();
    let mut transfers = work(&client, &bank, 1).await;
    cluster.kill_storage(1).await;
    transfers += work(&client, &bank, 2).await;
    cluster.restart_storage(1).await.unwrap();
    transfers += work(&client, &bank, 3).await;
    cluster.kill_all().await;
    cluster.restart_all().await.unwrap();
    client.sync().await.unwrap();
    bank.audit(&client).await.unwrap();
    let checked = bank.audit_history(&client).await.unwrap();
    assert_eq!(checked as u64, 1 + transfers, "{adapters:?}");
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_on_sqlite() {
    serves(["sqlite", "sqlite"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_on_sled() {
    serves(["sled", "sled"]).await;
}

/// Whichever of them is the one that stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_on_sqlite_and_sled() {
    serves(["sqlite", "sled"]).await;
    serves(["sled", "sqlite"]).await;
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
