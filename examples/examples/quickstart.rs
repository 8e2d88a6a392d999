//! The first ten minutes: store, load, look back, meet a conflict.
//!
//! It starts a cluster of its own in this process. With arguments it uses one that runs, as
//! `neosimple` prints it: `cargo run -p examples --example quickstart -- main 127.0.0.1:PORT`.

use neo_client::{Client, Error, Tid, TransactionMeta};
use neo_testkit::Cluster;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    if let Some(cluster) = arguments.next() {
        let client = Client::connect(cluster, arguments).await?;
        return Ok(tour(&client).await?);
    }
    let mut cluster = Cluster::builder().storages(2).replicas(1).start().await?;
    tour(&cluster.client().await?).await?;
    Ok(cluster.stop().await?)
}

async fn tour(client: &Client) -> Result<(), Error> {
    // An object is an id and some bytes. A new one starts from tid zero.
    let oid = client.new_oid().await?;
    let txn = client.begin(TransactionMeta::default()).await?;
    txn.store(oid, Tid::ZERO, "hello").await?;
    txn.vote().await?;
    let first = txn.finish().await?;
    println!("{oid} committed at {first}, {}", first.to_timestamp());

    // The short way: reads a snapshot, writes, commits; again, if somebody else was faster.
    client
        .transact(|txn| async move {
            let old = txn.load(oid).await?.expect("it was just stored");
            let longer = [&old.data[..], b", world"].concat();
            txn.store(oid, longer).await
        })
        .await?;
    let now = client.load(oid).await?.expect("it is there");
    assert_eq!(&now.data[..], b"hello, world");

    // Every revision is kept: this is the database as it was.
    let past = client.snapshot_at(first).await?;
    let then = past.load(oid).await?.expect("it was there");
    assert_eq!(&then.data[..], b"hello");

    // A change that starts from an old revision is refused, and nothing of it is kept.
    let late = client.begin(TransactionMeta::default()).await?;
    late.store(oid, first, "from what it was").await?;
    let refused = late.commit().await.expect_err("somebody was faster");
    assert!(refused.is_conflict(), "{refused}");
    println!("refused: {refused}");
    let still = client.load(oid).await?.expect("it is there");
    assert_eq!(still, now);
    client.close().await;
    Ok(())
}
