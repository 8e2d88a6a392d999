//! Two who want the same object.

use std::sync::Arc;

use bytes::Bytes;
use neo_api::{ConflictResolver, ConflictingChange, Oid, Tid, TransactionMeta};
use neo_client::{Client, Error};

use crate::replicated;

/// Counters: the difference of each change is added.
#[derive(Debug)]
struct Counters;

impl ConflictResolver for Counters {
    fn resolve(&self, change: &ConflictingChange) -> Option<Bytes> {
        let number = |data: &Option<Bytes>| data.as_deref().map_or(Some(0), number);
        let (base, committed) = (number(&change.base)?, number(&change.committed)?);
        let new = self::number(&change.new)?;
        Some(Bytes::from((committed + new - base).to_string()))
    }
}

fn number(data: &[u8]) -> Option<i64> {
    std::str::from_utf8(data).ok()?.parse().ok()
}

async fn begin(client: &Client) -> neo_client::Transaction {
    client.begin(TransactionMeta::default()).await.unwrap()
}

async fn new(client: &Client, value: &'static str) -> (Oid, Tid) {
    let oid = client.new_oid().await.unwrap();
    let txn = begin(client).await;
    txn.store(oid, Tid::ZERO, value).await.unwrap();
    (oid, txn.commit().await.unwrap())
}

#[tokio::test]
async fn the_second_of_two_changes_of_a_revision_is_a_conflict() {
    let (cluster, a) = replicated().await;
    let b = cluster.client().await.unwrap();
    let (oid, serial) = new(&a, "base").await;
    let (x, y) = (begin(&a).await, begin(&b).await);
    x.store(oid, serial, "a").await.unwrap();
    let first = x.commit().await.unwrap();
    let stored = y.store(oid, serial, "b").await;
    let error = match stored {
        Ok(()) => y.commit().await.unwrap_err(),
        Err(error) => error,
    };
    let Error::Conflict { oid: of, serial } = error else {
        panic!("{error}");
    };
    assert_eq!((of, serial), (oid, first));
    assert_eq!(a.load(oid).await.unwrap().unwrap().data, "a");
}

#[tokio::test]
async fn a_change_of_what_another_relies_on_is_a_read_conflict() {
    let (_cluster, client) = replicated().await;
    let (oid, serial) = new(&client, "base").await;
    let (other, other_serial) = new(&client, "other").await;
    let txn = begin(&client).await;
    txn.store(oid, serial, "changed").await.unwrap();
    txn.commit().await.unwrap();
    let txn = begin(&client).await;
    let checked = txn.check_current(oid, serial).await;
    let stored = txn.store(other, other_serial, "relies").await;
    let error = match checked.and(stored) {
        Ok(()) => txn.commit().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(error, Error::ReadConflict { .. }), "{error}");
    assert_eq!(client.load(other).await.unwrap().unwrap().data, "other");
}

#[tokio::test]
async fn concurrent_increments_are_merged() {
    let (cluster, first) = replicated().await;
    let (oid, _) = new(&first, "0").await;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let builder = cluster.client_builder().resolver(Arc::new(Counters));
        let client = builder.connect().await.unwrap();
        tasks.push(tokio::spawn(async move {
            let mut done = 0;
            while done < 10 {
                let object = client.load(oid).await.unwrap().unwrap();
                let next = number(&object.data).unwrap() + 1;
                let txn = begin(&client).await;
                let stored = txn.store(oid, object.serial, next.to_string()).await;
                let committed = match stored {
                    Ok(()) => txn.commit().await,
                    Err(error) => Err(error),
                };
                match committed {
                    Ok(_) => done += 1,
                    Err(error) => assert!(error.is_retryable(), "{error}"),
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    first.sync().await.unwrap();
    assert_eq!(first.load(oid).await.unwrap().unwrap().data, "40");
}

/// Two transactions lock two objects in opposite order, over and over: without deadlock avoidance
/// the first pair would wait for ever.
#[tokio::test]
async fn opposite_orders_of_two_objects_do_not_deadlock() {
    let (cluster, first) = replicated().await;
    let (a, _) = new(&first, "0").await;
    let (b, _) = new(&first, "0").await;
    let mut tasks = Vec::new();
    for order in [[a, b], [b, a]] {
        let client = cluster.client().await.unwrap();
        tasks.push(tokio::spawn(async move {
            for _ in 0..30 {
                client
                    .transact(|txn| async move {
                        for oid in order {
                            let old = txn.load(oid).await?.expect("it was stored");
                            let next = number(&old.data).expect("a number") + 1;
                            txn.store(oid, next.to_string()).await?;
                            tokio::task::yield_now().await;
                        }
                        Ok(())
                    })
                    .await
                    .unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    first.sync().await.unwrap();
    for oid in [a, b] {
        assert_eq!(first.load(oid).await.unwrap().unwrap().data, "60");
    }
}

#[tokio::test]
async fn transact_redoes_what_was_in_conflict() {
    let (_cluster, client) = replicated().await;
    let (oid, serial) = new(&client, "0").await;
    let mut attempts = 0;
    let other = client.clone();
    client
        .transact(|txn| {
            attempts += 1;
            let (attempt, other) = (attempts, other.clone());
            async move {
                let old = txn.load(oid).await?.expect("it was stored");
                if attempt == 1 {
                    let between = begin(&other).await;
                    between.store(oid, serial, "10").await?;
                    between.commit().await?;
                }
                let next = number(&old.data).expect("a number") + 1;
                txn.store(oid, next.to_string()).await
            }
        })
        .await
        .unwrap();
    assert_eq!(attempts, 2);
    assert_eq!(client.load(oid).await.unwrap().unwrap().data, "11");
}
