//! Transactions that are redone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use neo_client::{Error, Oid, Tid};

use crate::fake::cluster;
use crate::{put, text};

#[tokio::test(flavor = "multi_thread")]
async fn transact_loses_no_increment() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    let oid = client.new_oid().await.unwrap();
    let attempts = Arc::new(AtomicU32::new(0));
    let tasks = (0..8).map(|_| {
        let client = client.clone();
        let attempts = Arc::clone(&attempts);
        tokio::spawn(async move {
            for _ in 0..5 {
                client
                    .transact(|txn| {
                        attempts.fetch_add(1, Ordering::Relaxed);
                        async move {
                            let old = txn.load(oid).await?.map_or(0, |object| object.data.len());
                            txn.store(oid, vec![b'|'; old + 1]).await?;
                            // It reads what it wrote.
                            assert_eq!(txn.load(oid).await?.unwrap().data.len(), old + 1);
                            Ok(())
                        }
                    })
                    .await
                    .unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(text(&client, oid).await.unwrap().len(), 40);
    assert!(attempts.load(Ordering::Relaxed) >= 40);
}

#[tokio::test]
async fn transact_returns_what_is_not_worth_another_attempt() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    let oid = client.new_oid().await.unwrap();
    let calls = AtomicU32::new(0);
    let failed: Result<(), Error> = client
        .transact(|txn| {
            calls.fetch_add(1, Ordering::Relaxed);
            async move {
                txn.store(oid, "never").await?;
                Err(Error::application("mine"))
            }
        })
        .await;
    assert!(matches!(failed, Err(Error::Application(_))));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    // Its lock is gone.
    put(&client, oid, Tid::ZERO, "free").await;
    // Only reading costs no transaction.
    let last_tid = client.last_tid();
    let read = client
        .transact(|txn| async move { txn.load(oid).await })
        .await;
    assert_eq!(read.unwrap().unwrap().data, "free");
    assert_eq!(client.sync().await.unwrap(), last_tid);
    // Always in conflict: it gives up.
    let client = cluster.builder().attempts_max(4).connect().await.unwrap();
    let calls = AtomicU32::new(0);
    let error = client
        .transact(|_| {
            calls.fetch_add(1, Ordering::Relaxed);
            async move {
                Err::<(), _>(Error::Conflict {
                    oid,
                    serial: Tid(1),
                })
            }
        })
        .await
        .unwrap_err();
    assert!(error.is_conflict());
    assert_eq!(calls.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn transact_goes_on_from_a_deletion() {
    let cluster = cluster().await;
    // No second attempt: the first one knows what the change starts from.
    let client = cluster.builder().attempts_max(1).connect().await.unwrap();
    let (oid, other) = (Oid(1), Oid(2));
    put(&client, oid, Tid::ZERO, "first").await;
    let delete = async || {
        let deleted = client.transact(|txn| async move {
            txn.load(oid).await?;
            txn.delete(oid).await
        });
        deleted.await.unwrap();
        assert_eq!(client.load(oid).await.unwrap(), None);
    };
    delete().await;
    let stored = client.transact(|txn| async move {
        assert_eq!(txn.load(oid).await?, None);
        txn.check_current(oid).await?;
        txn.store(other, "beside").await
    });
    stored.await.unwrap();
    // Also when it is read after it was written.
    for reads in [true, false] {
        let stored = client.transact(|txn| async move {
            if reads {
                assert_eq!(txn.load(oid).await?, None);
            }
            txn.store(oid, "again").await?;
            assert_eq!(txn.load(oid).await?.unwrap().data, "again");
            txn.store(oid, "and again").await
        });
        stored.await.unwrap();
        assert_eq!(text(&client, oid).await.as_deref(), Some("and again"));
        delete().await;
    }
}
