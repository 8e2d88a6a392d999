//! Ordered bulk loads.

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use neo_api::{Oid, Tid, TransactionMeta, TransactionRecord};
use neo_client::{Client, Error, TransactionObject};

use crate::replicated;

/// The n-th transaction of the imported database: three objects, and one that repeats another.
fn nth(n: u64) -> (TransactionRecord, Vec<TransactionObject>) {
    let tid = Tid((1 << 40) + n * 1000);
    let oids: Vec<Oid> = (1..=3).map(|k| Oid(n * 3 + k)).collect();
    let mut objects: Vec<TransactionObject> = oids
        .iter()
        .map(|oid| TransactionObject::new(*oid, Some(Bytes::from(format!("{n} {oid}")))))
        .collect();
    if n == 5 {
        // A deletion of what the transaction before wrote, and one that repeats what it wrote.
        objects.push(TransactionObject::new(Oid(4 * 3 + 1), None));
        let before = Tid((1 << 40) + 4 * 1000);
        objects.push(TransactionObject::new(Oid(4 * 3 + 2), None).same_as(Some(before)));
    }
    let record = TransactionRecord {
        tid,
        txn: None,
        meta: TransactionMeta {
            description: Bytes::from(format!("imported {n}")),
            ..TransactionMeta::default()
        },
        oids: objects.iter().map(|object| object.oid).collect(),
        packed: false,
        pack: None,
    };
    (record, objects)
}

async fn count(client: &Client) -> u64 {
    let mut transactions = client.iterate(Tid::ZERO..=Tid::MAX).await.unwrap();
    let mut n = 0;
    while let Some(transaction) = transactions.try_next().await.unwrap() {
        let (record, expected) = nth(n);
        assert_eq!(transaction.tid, record.tid);
        assert_eq!(transaction.meta, record.meta);
        assert_eq!(transaction.oids, record.oids);
        let told = |o: TransactionObject| (o.oid, o.data, o.data_serial);
        let objects: Vec<_> = transactions.objects().try_collect().await.unwrap();
        let objects: Vec<_> = objects.into_iter().map(told).collect();
        // What repeats comes with the data of what it repeats.
        let whole = |o: TransactionObject| match o.data_serial {
            Some(_) => (
                o.oid,
                Some(Bytes::from(format!("4 {}", o.oid))),
                o.data_serial,
            ),
            None => (o.oid, o.data, None),
        };
        let mut expected: Vec<_> = expected.into_iter().map(whole).collect();
        expected.sort();
        assert_eq!(objects, expected);
        n += 1;
    }
    n
}

#[tokio::test]
async fn an_import_keeps_tids_metadata_and_deletions() {
    let (cluster, client) = replicated().await;
    let mut import = client.import().await.unwrap();
    for n in 0..200 {
        let (record, objects) = nth(n);
        import.push(record, objects).await.unwrap();
    }
    let last = import.finish().await.unwrap();
    assert_eq!(last, nth(199).0.tid);
    assert_eq!(count(&client).await, 200);
    let other = cluster.client().await.unwrap();
    assert_eq!(count(&other).await, 200);
    assert!(other.new_oid().await.unwrap() > Oid(199 * 3 + 3));
    // And commits go on after it.
    let txn = other.begin(TransactionMeta::default()).await.unwrap();
    txn.store(Oid(1), nth(0).0.tid, "changed").await.unwrap();
    assert!(txn.commit().await.unwrap() > last);
}

#[tokio::test]
async fn an_import_that_is_dropped_ends_at_its_last_checkpoint_and_can_go_on() {
    let (cluster, client) = replicated().await;
    let mut import = client.import().await.unwrap();
    for n in 0..10 {
        let (record, objects) = nth(n);
        import.push(record, objects).await.unwrap();
    }
    import.checkpoint().await.unwrap();
    for n in 10..20 {
        let (record, objects) = nth(n);
        import.push(record, objects).await.unwrap();
    }
    drop(import);
    // Until the end of the dropped one, another one is refused.
    let mut import = loop {
        match client.import().await {
            Ok(import) => break import,
            Err(Error::NotReady(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(import.last_tid(), nth(9).0.tid);
    for n in 10..30 {
        let (record, objects) = nth(n);
        import.push(record, objects).await.unwrap();
    }
    import.finish().await.unwrap();
    let other = cluster.client().await.unwrap();
    assert_eq!(count(&other).await, 30);
}

#[tokio::test]
async fn a_killed_import_leaves_its_last_checkpoint() {
    let (mut cluster, client) = replicated().await;
    let mut import = client.import().await.unwrap();
    for n in 0..10 {
        let (record, objects) = nth(n);
        import.push(record, objects).await.unwrap();
    }
    import.checkpoint().await.unwrap();
    for n in 10..20 {
        let (record, objects) = nth(n);
        import.push(record, objects).await.unwrap();
    }
    cluster.kill_all().await;
    cluster.restart_all().await.unwrap();
    let other = cluster.client().await.unwrap();
    assert_eq!(count(&other).await, 10);
    drop(import);
}
