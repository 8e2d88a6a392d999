//! A cluster that keeps its data in a backend of its own: log files. The backend is
//! `examples/src/log.rs`.

use examples::log;
use neo_client::Attempt;
use neo_testkit::Cluster;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let logs = directory.path().to_owned();
    let open_log = move |n| log::open(&logs.join(format!("node-{n}.log")));
    let cluster = Cluster::builder().storages(2).replicas(1).backend(open_log);
    let mut cluster = cluster.start().await?;
    let store = |txn: Attempt| async move {
        let oid = txn.new_oid().await?;
        txn.store(oid, "in two logs").await?;
        Ok(oid)
    };
    let oid = cluster.client().await?.transact(store).await?;

    cluster.kill_all().await;
    cluster.restart_all().await?;
    let object = cluster.client().await?.load(oid).await?;
    assert_eq!(object.expect("the logs have it").data, "in two logs");
    println!("{oid} was read from {}", directory.path().display());
    Ok(cluster.stop().await?)
}
