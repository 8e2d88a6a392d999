//! A cluster whose nodes talk through a transport of its own: Unix sockets. The transport is
//! `examples/src/unix.rs`.

use std::sync::Arc;

use examples::unix::UnixTransport;
use neo_api::Address;
use neo_testkit::Cluster;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let sockets = tempfile::tempdir()?;
    let transport = Arc::new(UnixTransport::new(sockets.path()));
    let cluster = Cluster::builder().transport(transport, Address::new("node", 0));
    let mut cluster = cluster.storages(2).replicas(1).start().await?;
    let client = cluster.client().await?;
    let oid = client
        .transact(|txn| async move {
            let oid = txn.new_oid().await?;
            txn.store(oid, "no port was opened").await?;
            Ok(oid)
        })
        .await?;
    let object = client.load(oid).await?.expect("it was stored");
    assert_eq!(&object.data[..], b"no port was opened");
    println!("{oid} went through a Unix socket");
    client.close().await;
    Ok(cluster.stop().await?)
}
