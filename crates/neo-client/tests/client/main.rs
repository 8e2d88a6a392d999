//! The client as applications use it, over the driver, against a cluster of one fake node.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod fake;
mod import;
mod transact;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fake::{Cluster, Order, cluster};
use futures_util::TryStreamExt as _;
use neo_client::{
    Client, CompressionSetting, ConflictResolver, ConflictingChange, Error, Invalidation, Lookup,
    Oid, Snapshot, Tid, TransactionMeta,
};

async fn put(client: &Client, oid: Oid, base: Tid, data: &str) -> Tid {
    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    txn.store(oid, base, data.to_owned()).await.unwrap();
    txn.commit().await.unwrap()
}

async fn text(client: &Client, oid: Oid) -> Option<String> {
    let object = client.load(oid).await.unwrap()?;
    Some(String::from_utf8(object.data.to_vec()).unwrap())
}

#[tokio::test]
async fn what_is_committed_is_read_by_all() {
    let cluster = cluster().await;
    let (one, two) = (cluster.client().await, cluster.client().await);
    let mut news = two.invalidations();
    let oid = one.new_oid().await.unwrap();
    assert_eq!(one.load(oid).await.unwrap(), None);
    assert_eq!(
        one.load_before(oid, Tid::MAX).await.unwrap(),
        Lookup::Unknown
    );
    let before = one.snapshot();
    let tid = put(&one, oid, Tid::ZERO, "first").await;
    assert_eq!(one.last_tid(), tid);
    assert_eq!(text(&one, oid).await.as_deref(), Some("first"));
    assert_eq!(before.load(oid).await.unwrap(), None);
    assert_eq!(two.sync().await.unwrap(), tid);
    assert_eq!(text(&two, oid).await.as_deref(), Some("first"));
    let expected = Invalidation::Objects {
        tid,
        oids: [oid].into(),
        own: false,
    };
    assert_eq!(news.recv().await, Some(expected));

    let second = put(&two, oid, tid, "second").await;
    one.sync().await.unwrap();
    assert_eq!(text(&one, oid).await.as_deref(), Some("second"));
    let found = Lookup::Found {
        data: Bytes::from_static(b"first"),
        serial: tid,
        next_serial: Some(second),
    };
    assert_eq!(one.load_before(oid, second).await.unwrap(), found);
    assert_eq!(one.load_serial(oid, tid).await.unwrap(), found);
    assert_eq!(one.load_before(oid, tid).await.unwrap(), Lookup::NotYet);
    let past = one.snapshot_at(tid).await.unwrap();
    assert_eq!(past.load(oid).await.unwrap().unwrap().data, "first");
    let future = one.snapshot_at(Tid::MAX).await.unwrap_err();
    assert!(matches!(future, Error::Misuse(_)));

    let txn = one.begin(TransactionMeta::default()).await.unwrap();
    txn.delete(oid, second).await.unwrap();
    let deleted = txn.commit().await.unwrap();
    assert_eq!(one.load(oid).await.unwrap(), None);
    let lookup = Lookup::Deleted {
        serial: deleted,
        next_serial: None,
    };
    assert_eq!(one.load_before(oid, Tid::MAX).await.unwrap(), lookup);
    assert_eq!(past.load(oid).await.unwrap().unwrap().serial, tid);
}

#[tokio::test]
async fn large_compressible_values_come_back() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    for size in [0, 63, 64, 10_000, 3_000_000] {
        let oid = client.new_oid().await.unwrap();
        let data = "neo ".repeat(size / 4);
        put(&client, oid, Tid::ZERO, &data).await;
        for _ in 0..2 {
            assert_eq!(text(&client, oid).await.unwrap(), data);
        }
        let other = cluster.builder().cache_bytes(0).connect().await.unwrap();
        assert_eq!(text(&other, oid).await.unwrap(), data);
        assert_eq!(other.cached_bytes(), 0);
    }
}

#[tokio::test]
async fn conflicts_are_errors_without_a_resolver() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    let oid = client.new_oid().await.unwrap();
    let tid = put(&client, oid, Tid::ZERO, "a").await;
    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    txn.store(oid, Tid::ZERO, "b").await.unwrap();
    let error = txn.vote().await.unwrap_err();
    assert!(matches!(error, Error::Conflict { oid: o, serial } if o == oid && serial == tid));
    drop(txn);
    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    txn.check_current(oid, Tid::ZERO).await.unwrap();
    assert!(matches!(
        txn.commit().await,
        Err(Error::ReadConflict { .. })
    ));
    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    assert!(matches!(txn.finish().await, Err(Error::Misuse(_))));
    // What would not be part of the transaction any more is refused at once.
    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    txn.vote().await.unwrap();
    let late = txn.store(oid, tid, "late").await;
    assert!(matches!(late, Err(Error::Misuse(_))));
    txn.finish().await.unwrap();
    assert_eq!(text(&client, oid).await.as_deref(), Some("a"));
}

/// Numbers: both changes are added.
#[derive(Debug)]
struct Add;

impl ConflictResolver for Add {
    fn resolve(&self, change: &ConflictingChange) -> Option<Bytes> {
        let number = |data: &[u8]| std::str::from_utf8(data).unwrap().parse::<i64>().unwrap();
        let base = change.base.as_deref().map_or(0, number);
        let committed = number(change.committed.as_deref()?);
        Some((committed + number(&change.new) - base).to_string().into())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolver_merges_what_many_write() {
    let cluster = cluster().await;
    let client = cluster
        .builder()
        .resolver(Arc::new(Add))
        .connect()
        .await
        .unwrap();
    let oid = client.new_oid().await.unwrap();
    let tid = put(&client, oid, Tid::ZERO, "0").await;
    let tasks = (1..=20).map(|n: i64| {
        let client = client.clone();
        tokio::spawn(async move {
            let txn = client.begin(TransactionMeta::default()).await.unwrap();
            txn.store(oid, tid, n.to_string()).await.unwrap();
            let resolved = txn.vote().await.unwrap();
            txn.finish().await.unwrap();
            resolved.len()
        })
    });
    let mut resolved = 0;
    for task in tasks.collect::<Vec<_>>() {
        resolved += task.await.unwrap();
    }
    assert_eq!(resolved, 19);
    assert_eq!(
        text(&client, oid).await.unwrap(),
        (1..=20).sum::<i64>().to_string()
    );
}

#[tokio::test]
async fn the_callback_runs_before_the_tid_shows() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    let mut news = client.invalidations();
    let oid = client.new_oid().await.unwrap();
    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    txn.store(oid, Tid::ZERO, "a").await.unwrap();
    txn.vote().await.unwrap();
    let seen = Arc::new(Mutex::new(None));
    let (inner, client_inside) = (Arc::clone(&seen), client.clone());
    let tid = txn
        .finish_with(move |tid| {
            *inner.lock().unwrap() = Some((tid, client_inside.last_tid()));
        })
        .await
        .unwrap();
    let (told, before) = seen.lock().unwrap().unwrap();
    assert_eq!(told, tid);
    assert!(before < tid);
    assert!(matches!(
        news.try_recv(),
        Some(Invalidation::Objects { own: true, .. })
    ));
}

#[tokio::test]
async fn a_dropped_transaction_frees_its_locks_and_a_dropped_finish_goes_on() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    let oid = client.new_oid().await.unwrap();
    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    txn.store(oid, Tid::ZERO, "dropped").await.unwrap();
    txn.vote().await.unwrap();
    drop(txn);
    let tid = put(&client, oid, Tid::ZERO, "kept").await;

    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    txn.store(oid, tid, "finished").await.unwrap();
    txn.vote().await.unwrap();
    let mut finish = Box::pin(txn.finish());
    // Polled once: the finish is on its way.
    assert!(futures_poll(&mut finish).is_pending());
    drop(finish);
    let second = put(&client, client.new_oid().await.unwrap(), Tid::ZERO, "x").await;
    assert!(second > tid);
    assert_eq!(text(&client, oid).await.as_deref(), Some("finished"));
}

fn futures_poll<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::Pin::new(future).poll(&mut cx)
}

async fn lost_answer(cluster: &Cluster) {
    let client = cluster.client().await;
    let oid = client.new_oid().await.unwrap();
    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    txn.store(oid, Tid::ZERO, "a").await.unwrap();
    txn.vote().await.unwrap();
    cluster.orders.send(Order::LoseNextAnswer).await.unwrap();
    client.sync().await.unwrap();
    let tid = txn.finish().await.unwrap();
    assert!(client.last_tid() >= tid);
    assert_eq!(text(&client, oid).await.as_deref(), Some("a"));
}

#[tokio::test]
async fn a_lost_answer_to_finish_is_found_out() {
    lost_answer(&cluster().await).await;
}

#[tokio::test]
async fn a_client_comes_back_after_a_cut() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    let mut news = client.invalidations();
    let oid = client.new_oid().await.unwrap();
    let tid = put(&client, oid, Tid::ZERO, "a").await;
    assert!(matches!(
        news.recv().await,
        Some(Invalidation::Objects { .. })
    ));
    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    assert!(cluster.network.cut_all() > 0);
    let other = cluster.client().await;
    let second = put(&other, oid, tid, "b").await;
    client.wait_ready(Duration::from_secs(10)).await.unwrap();
    client.sync().await.unwrap();
    assert!(client.last_tid() >= second);
    assert_eq!(text(&client, oid).await.as_deref(), Some("b"));
    assert!(matches!(txn.commit().await, Err(Error::NotReady(_))));
    client
        .transact(|txn| async move { txn.store(oid, "c").await })
        .await
        .unwrap();
}

#[tokio::test]
async fn history_is_iterated_in_order() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    let mut tids = Vec::new();
    for n in 0..20u64 {
        let txn = client
            .begin(TransactionMeta {
                user: format!("u{n}").into(),
                ..TransactionMeta::default()
            })
            .await
            .unwrap();
        // In descending order, to see that it is kept.
        for oid in (0..=n % 5).rev() {
            let oid = Oid(100 + 10 * n + oid);
            txn.store(oid, Tid::ZERO, format!("{n}")).await.unwrap();
        }
        tids.push(txn.commit().await.unwrap());
    }
    let mut transactions = client.iterate(tids[3]..=tids[17]).await.unwrap();
    let mut n = 3;
    while let Some(transaction) = transactions.try_next().await.unwrap() {
        assert_eq!(transaction.tid, tids[n]);
        assert_eq!(transaction.meta.user, format!("u{n}"));
        let count = n % 5 + 1;
        assert_eq!(transaction.oids.len(), count);
        match n % 3 {
            // Objects may be left.
            0 => {}
            1 => {
                let mut last = None;
                let mut told = 0;
                let mut objects = transactions.objects();
                while let Some(object) = objects.try_next().await.unwrap() {
                    assert!(Some(object.oid) > last);
                    last = Some(object.oid);
                    told += 1;
                }
                assert_eq!(told, count);
            }
            _ => {
                let objects = transactions.objects_as_stored(&transaction).await.unwrap();
                let oids: Vec<Oid> = objects.iter().map(|object| object.oid).collect();
                assert_eq!(oids, transaction.oids);
                assert!(
                    objects
                        .iter()
                        .all(|o| o.data.as_deref() == Some(format!("{n}").as_bytes()))
                );
            }
        }
        n += 1;
    }
    assert_eq!(n, 18);
    assert!(client.transaction(tids[4]).await.unwrap().is_some());
    assert!(
        client
            .transaction(Tid(tids[4].0 + 1))
            .await
            .unwrap()
            .is_none()
    );
    let mut none = client.iterate(Tid::MAX..=Tid::MAX).await.unwrap();
    assert!(none.try_next().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn blocking_callers_need_no_runtime() {
    let cluster = cluster().await;
    let builder = cluster.builder();
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let client = builder.connect_blocking().unwrap();
        let oid = client.new_oid().unwrap();
        let txn = client.begin(TransactionMeta::default()).unwrap();
        txn.store(oid, Tid::ZERO, "blocking").unwrap();
        let tid = txn.commit().unwrap();
        let meta = TransactionMeta {
            user: "me".into(),
            ..TransactionMeta::default()
        };
        let n = client
            .transact_as(meta, |txn| {
                let n = txn.load(oid)?.unwrap().data.len();
                txn.store(oid, "more")?;
                Ok(n)
            })
            .unwrap();
        let told = client.iterate(tid..=Tid::MAX).unwrap();
        let told: Vec<_> = told.map(|t| t.unwrap().meta.user).collect();
        assert_eq!(told, ["", "me"]);
        assert!(client.nid().is_some() && client.partitioning().is_some());
        assert_eq!((client.cluster(), client.is_read_only()), ("fake", false));
        let snapshot = client.snapshot();
        client.load(oid).unwrap().unwrap();
        client.close();
        assert!(matches!(client.sync(), Err(Error::Closed)));
        assert!(matches!(client.load(oid), Err(Error::Closed)));
        let before = client.load_before(oid, tid);
        assert!(matches!(before, Err(Error::Closed)));
        assert!(matches!(client.load_serial(oid, tid), Err(Error::Closed)));
        assert!(matches!(snapshot.load(oid), Err(Error::Closed)));
        assert!(matches!(client.new_oid(), Err(Error::Closed)));
        done.send(n).unwrap();
    });
    assert_eq!(result.await, Ok(8));
}

#[tokio::test]
async fn a_closed_client_answers_everybody() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    let mut news = client.invalidations();
    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    client.close().await;
    client.close().await;
    assert!(matches!(txn.commit().await, Err(Error::Closed)));
    assert!(matches!(client.load(Oid(1)).await, Err(Error::Closed)));
    assert_eq!(news.recv().await, None);
    assert_eq!(client.invalidations().recv().await, None);
}

/// Which of what could be answered at once is refused.
async fn refused(client: &Client, snapshot: &Snapshot, oid: Oid, serial: Tid) -> [bool; 7] {
    fn is_refused<T>(result: Result<T, Error>) -> bool {
        matches!(result, Err(Error::Closed))
    }
    let before = Tid(serial.0 + 1);
    [
        is_refused(client.load(oid).await),
        is_refused(client.load_before(oid, before).await),
        is_refused(client.load_serial(oid, serial).await),
        is_refused(snapshot.load(oid).await),
        is_refused(snapshot.look_up(oid).await),
        is_refused(client.snapshot_at(serial).await),
        is_refused(client.new_oid().await),
    ]
}

#[tokio::test]
async fn a_closed_client_does_not_answer_from_its_cache() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    let oid = client.new_oid().await.unwrap();
    let serial = put(&client, oid, Tid::ZERO, "first").await;
    put(&client, oid, serial, "second").await;
    let (snapshot, clone) = (client.snapshot(), client.clone());
    // Both revisions are cached, and oids are at hand.
    assert_eq!(text(&client, oid).await.as_deref(), Some("second"));
    client.load_serial(oid, serial).await.unwrap();
    assert_eq!(refused(&client, &snapshot, oid, serial).await, [false; 7]);
    // From the moment that it is called, for all clones; it goes on when it is not waited for.
    assert!(futures_poll(&mut Box::pin(client.close())).is_pending());
    assert_eq!(refused(&clone, &snapshot, oid, serial).await, [true; 7]);
    client.close().await;
    assert_eq!(refused(&clone, &snapshot, oid, serial).await, [true; 7]);
}

#[tokio::test]
async fn a_read_only_client_does_not_write() {
    let cluster = cluster().await;
    let client = cluster.builder().read_only(true).connect().await.unwrap();
    assert!(matches!(client.new_oid().await, Err(Error::ReadOnly(_))));
    let begun = client.begin(TransactionMeta::default()).await;
    assert!(matches!(begun, Err(Error::ReadOnly(_))));
    assert!(matches!(client.import().await, Err(Error::ReadOnly(_))));
}

#[tokio::test]
async fn nobody_at_the_address() {
    let cluster = cluster().await;
    let builder = Client::builder("fake")
        .master("nobody:1")
        .transport(Arc::new(cluster.network.clone()))
        .connect_timeout(Duration::from_millis(50));
    let error = builder.connect().await.unwrap_err();
    assert!(error.to_string().contains("nobody:1"), "{error}");
    assert!(error.is_retryable());
    let error = Client::builder("x").master("::1:1").start().unwrap_err();
    assert!(matches!(error, Error::Misuse(_)));
}

#[tokio::test]
async fn limits_are_told() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    let meta = TransactionMeta {
        user: vec![0; (1 << 20) + 1].into(),
        ..TransactionMeta::default()
    };
    assert!(matches!(client.begin(meta).await, Err(Error::TooLarge(_))));
    // What a transaction stores is kept in memory: not without end.
    let builder = cluster.builder().transaction_bytes_max(1000);
    let client = builder
        .compression(CompressionSetting::Off)
        .connect()
        .await
        .unwrap();
    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    let oid = client.new_oid().await.unwrap();
    txn.store(oid, Tid::ZERO, vec![1; 600]).await.unwrap();
    let error = txn.store(oid, Tid::ZERO, vec![2; 600]).await.unwrap_err();
    assert!(matches!(&error, Error::TooLarge(words) if words.contains("600 are stored")));
    txn.store(oid, Tid::ZERO, vec![3; 400]).await.unwrap();
    // However little or much may be on its way.
    for bytes in [0, usize::MAX] {
        let client = cluster.builder().in_flight_bytes_max(bytes);
        let client = client.connect().await.unwrap();
        let oid = client.new_oid().await.unwrap();
        put(&client, oid, Tid::ZERO, &"x".repeat(1000)).await;
    }
    // What nobody could unpack again is refused, however small it would become.
    let zeros = Bytes::from(vec![0; (1 << 30) + 1]);
    let error = txn.store(oid, Tid::ZERO, zeros).await.unwrap_err();
    assert!(
        matches!(&error, Error::TooLarge(words) if words.contains("1073741825 bytes uncompressed"))
    );
    txn.commit().await.unwrap();
    assert_eq!(client.load(oid).await.unwrap().unwrap().data, vec![3; 400]);
}
