//! Commit, read, look back, iterate.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use neo_api::{BackendInfo, Oid, Tid, TransactionMeta};
use neo_backends::{KvBackend, MemoryEngine};
use neo_client::{Client, Error, Lookup};
use neo_testkit::Cluster;

use crate::{both, replicated};

async fn put(client: &Client, oid: Oid, serial: Tid, value: &'static str) -> Tid {
    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    txn.store(oid, serial, value).await.unwrap();
    txn.commit().await.unwrap()
}

#[tokio::test]
async fn what_is_committed_is_read_by_everybody_on_both_transports() {
    for (name, builder) in both() {
        let cluster = builder.storages(2).replicas(1).start().await.unwrap();
        let (a, b) = (
            cluster.client().await.unwrap(),
            cluster.client().await.unwrap(),
        );
        let oid = a.new_oid().await.unwrap();
        let first = put(&a, oid, Tid::ZERO, "one").await;
        assert_eq!(
            a.last_tid(),
            first,
            "{name}: the own commit is seen at once"
        );
        assert!(b.sync().await.unwrap() >= first);
        let object = b.load(oid).await.unwrap().unwrap();
        assert_eq!((object.data, object.serial), (Bytes::from("one"), first));
        a.close().await;
        b.close().await;
    }
}

async fn count_in(snapshot: &neo_client::Snapshot, oid: Oid) -> (Tid, u32) {
    let object = snapshot.load(oid).await.unwrap().unwrap();
    let text = std::str::from_utf8(&object.data).unwrap();
    (object.serial, text.parse().unwrap())
}

/// While another client commits, too.
#[tokio::test]
async fn a_snapshot_has_the_own_last_commit_and_none_goes_back() {
    const COMMITS: u32 = 100;
    let (cluster, a) = replicated().await;
    let b = cluster.client().await.unwrap();
    let (mine, others) = (a.new_oid().await.unwrap(), a.new_oid().await.unwrap());
    put(&a, others, Tid::ZERO, "0").await;
    let mut own = put(&a, mine, Tid::ZERO, "0").await;
    let other = tokio::spawn(async move {
        for n in 1..=COMMITS {
            let store = move |txn: neo_client::Attempt| async move {
                txn.store(others, n.to_string()).await
            };
            b.transact(store).await.unwrap();
        }
    });
    let (mut last, mut seen) = (Tid::ZERO, (Tid::ZERO, 0));
    for n in 1..=COMMITS {
        let txn = a.begin(TransactionMeta::default()).await.unwrap();
        txn.store(mine, own, n.to_string()).await.unwrap();
        own = txn.commit().await.unwrap();
        let snapshot = a.snapshot();
        assert!(snapshot.tid() >= own.max(last));
        last = snapshot.tid();
        assert_eq!(count_in(&snapshot, mine).await, (own, n));
        let now = count_in(&snapshot, others).await;
        assert!(now >= seen && now.0 <= last, "{now:?} after {seen:?}");
        seen = now;
    }
    other.await.unwrap();
    a.sync().await.unwrap();
    assert_eq!(count_in(&a.snapshot(), others).await.1, COMMITS);
}

#[tokio::test]
async fn the_past_stays_readable() {
    let (_cluster, client) = replicated().await;
    let oid = client.new_oid().await.unwrap();
    assert_eq!(
        client.load_before(oid, Tid::MAX).await.unwrap(),
        Lookup::Unknown
    );
    let first = put(&client, oid, Tid::ZERO, "one").await;
    let old = client.snapshot();
    let second = put(&client, oid, first, "two").await;
    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    txn.delete(oid, second).await.unwrap();
    let third = txn.commit().await.unwrap();

    assert_eq!(old.load(oid).await.unwrap().unwrap().data, "one");
    assert_eq!(client.load(oid).await.unwrap(), None);
    let found = |data: &'static str, serial, next| Lookup::Found {
        data: Bytes::from(data),
        serial,
        next_serial: Some(next),
    };
    let before = |tid| client.load_before(oid, tid);
    assert_eq!(before(first).await.unwrap(), Lookup::NotYet);
    assert_eq!(before(second).await.unwrap(), found("one", first, second));
    assert_eq!(before(third).await.unwrap(), found("two", second, third));
    let deleted = Lookup::Deleted {
        serial: third,
        next_serial: None,
    };
    assert_eq!(before(Tid::MAX).await.unwrap(), deleted);
    let serial = client.load_serial(oid, first).await.unwrap();
    assert_eq!(serial, found("one", first, second));
    let reborn = put(&client, oid, third, "again").await;
    assert_eq!(client.load(oid).await.unwrap().unwrap().serial, reborn);
}

#[tokio::test]
async fn iteration_gives_every_transaction_in_order_with_its_objects() {
    let (cluster, client) = replicated().await;
    let mut tids = Vec::new();
    for n in 0..30_u8 {
        let meta = TransactionMeta {
            user: Bytes::from("user"),
            description: Bytes::from(format!("number {n}")),
            extension: Bytes::from(vec![n]),
        };
        let txn = client.begin(meta).await.unwrap();
        for _ in 0..=n % 3 {
            let oid = client.new_oid().await.unwrap();
            txn.store(oid, Tid::ZERO, vec![n; 10]).await.unwrap();
        }
        tids.push(txn.commit().await.unwrap());
    }
    // Another client sees them at once, whether they are unlocked or not.
    let other = cluster.client().await.unwrap();
    let mut transactions = other.iterate(Tid::ZERO..=Tid::MAX).await.unwrap();
    let mut seen = Vec::new();
    while let Some(transaction) = transactions.try_next().await.unwrap() {
        let n = seen.len() as u8;
        assert_eq!(transaction.meta.description, format!("number {n}"));
        let objects: Vec<_> = transactions.objects().try_collect().await.unwrap();
        let values = objects.iter().map(|object| object.data.as_deref());
        assert!(values.eq(vec![Some(&[n; 10][..]); transaction.oids.len()]));
        seen.push(transaction.tid);
    }
    assert_eq!(seen, tids);
    let mut middle = other.iterate(tids[3]..=tids[5]).await.unwrap();
    assert_eq!(middle.try_next().await.unwrap().unwrap().tid, tids[3]);
}

#[tokio::test]
async fn a_dropped_transaction_is_aborted_and_its_locks_are_free() {
    let (_cluster, client) = replicated().await;
    let oid = client.new_oid().await.unwrap();
    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    txn.store(oid, Tid::ZERO, "never").await.unwrap();
    txn.vote().await.unwrap();
    drop(txn);
    put(&client, oid, Tid::ZERO, "first").await;
    let mut transactions = client.iterate(Tid::ZERO..=Tid::MAX).await.unwrap();
    assert!(transactions.try_next().await.unwrap().is_some());
    assert!(transactions.try_next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_cluster_that_was_stopped_serves_the_same_data_again() {
    let (mut cluster, client) = replicated().await;
    let oid = client.new_oid().await.unwrap();
    let tid = put(&client, oid, Tid::ZERO, "kept").await;
    client.close().await;
    assert!(matches!(client.sync().await, Err(Error::Closed)));
    cluster.stop().await.unwrap();
    cluster.restart_all().await.unwrap();
    let client = cluster.client().await.unwrap();
    assert_eq!(client.load(oid).await.unwrap().unwrap().serial, tid);
    let next = client.new_oid().await.unwrap();
    assert!(next > oid, "an oid is never given twice");
}

#[tokio::test]
async fn a_client_goes_on_after_the_master_came_back() {
    let (mut cluster, client) = replicated().await;
    let oid = client.new_oid().await.unwrap();
    let first = put(&client, oid, Tid::ZERO, "one").await;
    cluster.kill_master(1).await;
    cluster.restart_all().await.unwrap();
    client.wait_ready(Duration::from_secs(20)).await.unwrap();
    let second = put(&client, oid, first, "two").await;
    assert!(second > first);
    assert_eq!(client.load(oid).await.unwrap().unwrap().data, "two");
}

#[tokio::test]
async fn another_master_takes_over_and_clients_find_it() {
    let builder = Cluster::builder().masters(3).storages(2).replicas(1);
    let mut cluster = builder.start().await.unwrap();
    let client = cluster.client().await.unwrap();
    let oid = client.new_oid().await.unwrap();
    let mut serial = put(&client, oid, Tid::ZERO, "one").await;
    for value in ["two", "three"] {
        let primary = cluster.primary().unwrap();
        cluster.kill_master(primary).await;
        cluster.serving().await.unwrap();
        assert_ne!(cluster.primary(), Some(primary));
        client.wait_ready(Duration::from_secs(20)).await.unwrap();
        serial = put(&client, oid, serial, value).await;
    }
    cluster.restart_all().await.unwrap();
    assert_eq!(client.load(oid).await.unwrap().unwrap().data, "three");
    client.close().await;
    cluster.stop().await.unwrap();
}

/// A state that was reached once is where several tests begin.
#[tokio::test]
async fn clusters_begin_with_a_snapshot_of_a_database_in_memory() {
    let on = |engine: &Arc<MemoryEngine>| {
        let engine = Arc::clone(engine);
        Cluster::builder().backend(move |_| {
            let info = BackendInfo::new("Memory", false);
            Ok(Arc::new(KvBackend::inline(Arc::clone(&engine), info)))
        })
    };
    let prepared = Arc::new(MemoryEngine::default());
    let mut cluster = on(&prepared).start().await.unwrap();
    let client = cluster.client().await.unwrap();
    let oid = client.new_oid().await.unwrap();
    let serial = put(&client, oid, Tid::ZERO, "prepared").await;
    client.close().await;
    cluster.stop().await.unwrap();
    let snapshot = prepared.snapshot();
    for value in ["one", "other"] {
        let mut cluster = on(&Arc::new(snapshot.snapshot())).start().await.unwrap();
        let client = cluster.client().await.unwrap();
        let object = client.load(oid).await.unwrap().unwrap();
        assert_eq!(
            (object.data, object.serial),
            (Bytes::from("prepared"), serial)
        );
        put(&client, oid, serial, value).await;
        client.close().await;
        cluster.stop().await.unwrap();
    }
    let mut cluster = on(&prepared).start().await.unwrap();
    let client = cluster.client().await.unwrap();
    let object = client.load(oid).await.unwrap().unwrap();
    assert_eq!(object.serial, serial);
    cluster.stop().await.unwrap();
}
