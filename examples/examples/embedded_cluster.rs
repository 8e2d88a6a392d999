//! The nodes as libraries: a master, two storage nodes and two clients in one process, without a
//! socket, put together by hand; and what happens when a storage node is lost.
//!
//! Each node is a task. Give it another transport (TCP is the default) and another backend, and it
//! is the program of the same name.

use std::sync::Arc;

use neo_api::{Address, Transport};
use neo_client::{Client, TransactionMeta};
use neo_master::{Master, MasterSettings};
use neo_proto::net::MemoryNetwork;
use neo_storage::{Storage, StorageSettings};

const CLUSTER: &str = "embedded";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let network: Arc<dyn Transport> = Arc::new(MemoryNetwork::new());

    let mut settings = MasterSettings::new(CLUSTER);
    settings.partitions = 12;
    settings.replicas = 1;
    // Create the cluster when two storage nodes are there; `neoctl start` would do it otherwise.
    settings.autostart = Some(2);
    let master = Master::builder(settings)
        .transport(Arc::clone(&network))
        .bind(Address::new("master", 0))
        .start()
        .await?;

    let mut storages = Vec::new();
    for host in ["first", "second"] {
        let settings = StorageSettings::new(CLUSTER, vec![master.address().clone()]);
        let backend = neo_backends::open("Memory", "")?;
        let storage = Storage::builder(settings, backend)
            .transport(Arc::clone(&network))
            .bind(Address::new(host, 0))
            .start()
            .await?;
        storages.push(storage);
    }

    let connect = || {
        Client::builder(CLUSTER)
            .master(master.address())
            .transport(Arc::clone(&network))
            .connect()
    };
    let (writer, reader) = (connect().await?, connect().await?);

    let oid = writer.new_oid().await?;
    let txn = writer.begin(TransactionMeta::default()).await?;
    txn.store(oid, neo_client::Tid::ZERO, "on two nodes")
        .await?;
    let created = txn.commit().await?;

    // The other client sees it after a look at the master; nobody polls in between.
    assert!(reader.sync().await? >= created);
    let object = reader.load(oid).await?.expect("it was created");
    assert_eq!(
        (&object.data[..], object.serial),
        (&b"on two nodes"[..], created)
    );

    // One node ends as if its process was killed. Its copies are out of date from now on, the
    // other node has them all: reads and writes go on.
    storages.remove(0).kill().await;
    let changed = writer
        .transact(|txn| async move {
            txn.store(oid, "on the one that is left").await?;
            Ok(())
        })
        .await;
    changed?;
    let object = writer.load(oid).await?.expect("it is still there");
    assert_eq!(&object.data[..], b"on the one that is left");
    // What was read before a change stays readable at its own tid.
    let before = writer.snapshot_at(created).await?;
    let object = before.load(oid).await?.expect("it was there");
    assert_eq!(&object.data[..], b"on two nodes");
    println!("{oid} was written at {created}, and again with one node left");

    writer.close().await;
    reader.close().await;
    master.stop_cluster().await?;
    Ok(())
}
