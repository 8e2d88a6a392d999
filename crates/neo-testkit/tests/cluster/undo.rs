//! Undo: of the last change and of earlier ones, of creations and deletions, of an undo, of several
//! transactions in one, with merges.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use neo_api::{ConflictResolver, ConflictingChange, Oid, Tid, TransactionMeta};
use neo_client::{Client, Error, Transaction};
use neo_testkit::Cluster;

/// Counters: what each change adds is added.
#[derive(Debug)]
struct Counters;

impl ConflictResolver for Counters {
    fn resolve(&self, change: &ConflictingChange) -> Option<Bytes> {
        let number = |data: &[u8]| std::str::from_utf8(data).ok()?.parse::<i64>().ok();
        let base = number(change.base.as_ref()?)?;
        let sum = number(change.committed.as_ref()?)? + number(&change.new)? - base;
        Some(Bytes::from(sum.to_string()))
    }
}

/// A cluster with a replica, and a client that merges.
async fn cluster() -> (Cluster, Client) {
    let builder = Cluster::builder().storages(2).replicas(1);
    let cluster = builder.start().await.unwrap();
    let builder = cluster.client_builder().resolver(Arc::new(Counters));
    let client = builder.connect().await.unwrap();
    (cluster, client)
}

async fn begin(client: &Client) -> Transaction {
    client.begin(TransactionMeta::default()).await.unwrap()
}

/// Gives objects values; `None` deletes.
async fn put(client: &Client, values: &[(Oid, Option<&str>)]) -> Tid {
    let txn = begin(client).await;
    for (oid, value) in values {
        let newest = client.history(*oid, Tid::MAX).try_next().await.unwrap();
        let serial = newest.map_or(Tid::ZERO, |entry| entry.serial);
        match value {
            Some(value) => txn.store(*oid, serial, (*value).to_owned()).await.unwrap(),
            None => txn.delete(*oid, serial).await.unwrap(),
        }
    }
    txn.commit().await.unwrap()
}

async fn undo(client: &Client, tids: &[Tid]) -> Tid {
    let txn = begin(client).await;
    for tid in tids {
        txn.undo(*tid).await.unwrap();
    }
    txn.commit().await.unwrap()
}

async fn value(client: &Client, oid: Oid) -> Option<String> {
    let object = client.load(oid).await.unwrap()?;
    Some(String::from_utf8(object.data.to_vec()).unwrap())
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[tokio::test]
async fn the_last_change_is_undone_in_all_partitions() {
    let (cluster, client) = cluster().await;
    let mut oids = Vec::new();
    for _ in 0..30 {
        oids.push(client.new_oid().await.unwrap());
    }
    let all = |value| {
        oids.iter()
            .map(|oid| (*oid, Some(value)))
            .collect::<Vec<_>>()
    };
    let first = put(&client, &all("first")).await;
    let second = put(&client, &all("second")).await;
    let txn = begin(&client).await;
    assert_eq!(txn.undo(second).await.unwrap(), oids);
    let third = txn.commit().await.unwrap();
    let other = cluster.client().await.unwrap();
    for oid in &oids {
        assert_eq!(value(&other, *oid).await, some("first"));
        let history = other.history(*oid, Tid::MAX);
        let told = history.map_ok(|e| (e.serial, e.data_serial));
        let told: Vec<_> = told.try_collect().await.unwrap();
        assert_eq!(told, [(third, Some(first)), (second, None), (first, None)]);
    }
    let transaction = other.transaction(third).await.unwrap().unwrap();
    assert_eq!(transaction.oids, oids);
}

#[tokio::test]
async fn an_undo_can_be_undone_and_that_too() {
    let (_cluster, client) = cluster().await;
    let oid = client.new_oid().await.unwrap();
    put(&client, &[(oid, Some("a"))]).await;
    let mut last = put(&client, &[(oid, Some("b"))]).await;
    for expected in ["a", "b", "a", "b"] {
        last = undo(&client, &[last]).await;
        assert_eq!(value(&client, oid).await, some(expected));
    }
}

#[tokio::test]
async fn a_creation_and_a_deletion_are_undone() {
    let (_cluster, client) = cluster().await;
    let oid = client.new_oid().await.unwrap();
    let created = put(&client, &[(oid, Some("a"))]).await;
    let gone = undo(&client, &[created]).await;
    assert_eq!(value(&client, oid).await, None);
    let again = undo(&client, &[gone]).await;
    assert_eq!(value(&client, oid).await, some("a"));
    let newest = client.history(oid, Tid::MAX).try_next().await.unwrap();
    assert_eq!(newest.unwrap().data_serial, Some(created));
    undo(&client, &[again]).await;
    assert_eq!(value(&client, oid).await, None);
    let other = client.new_oid().await.unwrap();
    put(&client, &[(other, Some("x"))]).await;
    let deleted = put(&client, &[(other, None)]).await;
    undo(&client, &[deleted]).await;
    assert_eq!(value(&client, other).await, some("x"));
}

#[tokio::test]
async fn several_transactions_are_undone_in_one() {
    let (_cluster, client) = cluster().await;
    let (oid, other) = (
        client.new_oid().await.unwrap(),
        client.new_oid().await.unwrap(),
    );
    put(&client, &[(oid, Some("a"))]).await;
    let b = put(&client, &[(oid, Some("b")), (other, Some("o"))]).await;
    let c = put(&client, &[(oid, Some("c"))]).await;
    let d = put(&client, &[(oid, Some("d"))]).await;
    let undone = undo(&client, &[d, c, b]).await;
    assert_eq!(value(&client, oid).await, some("a"));
    assert_eq!(value(&client, other).await, None);
    // Each of them is undone: the values of both are back with one undo of all.
    undo(&client, &[undone]).await;
    assert_eq!(value(&client, oid).await, some("d"));
    assert_eq!(value(&client, other).await, some("o"));
    // Undone, and the undo undone, and the rest, in one.
    let e = undo(&client, &[d]).await;
    assert_eq!(value(&client, oid).await, some("c"));
    undo(&client, &[e, d, c]).await;
    assert_eq!(value(&client, oid).await, some("b"));
}

#[tokio::test]
async fn a_later_change_is_kept_where_both_can_be_merged() {
    let (cluster, client) = cluster().await;
    let oid = client.new_oid().await.unwrap();
    put(&client, &[(oid, Some("100"))]).await;
    let ten = put(&client, &[(oid, Some("110"))]).await;
    let twenty = put(&client, &[(oid, Some("130"))]).await;
    put(&client, &[(oid, Some("131"))]).await;
    // Without a resolver they can't be.
    let plain = cluster.client().await.unwrap();
    let txn = begin(&plain).await;
    let error = txn.undo(ten).await.unwrap_err();
    assert!(
        matches!(error, Error::Undo { tid, oid: Some(of), .. } if tid == ten && of == oid),
        "{error}"
    );
    assert!(!error.is_retryable());
    // Nothing of it was stored.
    assert_eq!(txn.vote().await.unwrap(), []);
    drop(txn);
    undo(&client, &[ten]).await;
    assert_eq!(value(&client, oid).await, some("121"));
    // The second merge sees what the first one made.
    let more = put(&client, &[(oid, Some("126"))]).await;
    put(&client, &[(oid, Some("127"))]).await;
    undo(&client, &[more, twenty]).await;
    assert_eq!(value(&client, oid).await, some("102"));
}

#[tokio::test]
async fn what_can_not_be_undone_says_why() {
    let (_cluster, client) = cluster().await;
    let oid = client.new_oid().await.unwrap();
    let first = put(&client, &[(oid, Some("1"))]).await;
    let second = put(&client, &[(oid, None)]).await;
    let txn = begin(&client).await;
    let no_such = Tid(first.0 - 1);
    let error = txn.undo(no_such).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("transaction {no_such} can't be undone: there is no such transaction")
    );
    // It is deleted: there is nothing to merge with.
    let error = txn.undo(first).await.unwrap_err();
    assert!(
        matches!(error, Error::Undo { oid: Some(of), .. } if of == oid),
        "{error}"
    );
    // The transaction goes on all the same.
    txn.undo(second).await.unwrap();
    txn.vote().await.unwrap();
    let error = txn.undo(second).await.unwrap_err();
    assert!(matches!(error, Error::Misuse(_)), "{error}");
    txn.finish().await.unwrap();
    assert_eq!(value(&client, oid).await, some("1"));
}

#[tokio::test]
async fn a_change_between_undo_and_vote_is_merged_or_a_conflict() {
    let (cluster, merging) = cluster().await;
    let (plain, other) = (
        cluster.client().await.unwrap(),
        cluster.client().await.unwrap(),
    );
    let oid = merging.new_oid().await.unwrap();
    put(&merging, &[(oid, Some("10"))]).await;
    let second = put(&merging, &[(oid, Some("12"))]).await;
    let (txn, third) = undo_beside(&plain, &other, oid, second, second, "13").await;
    let error = txn.vote().await.unwrap_err();
    assert!(
        matches!(error, Error::Conflict { oid: of, serial } if of == oid && serial == third),
        "{error}"
    );
    drop(txn);
    // What was told by now is older than the newest.
    let (txn, _) = undo_beside(&merging, &other, oid, third, third, "23").await;
    assert_eq!(txn.vote().await.unwrap(), [oid]);
    txn.finish().await.unwrap();
    assert_eq!(value(&merging, oid).await, some("22"));
}

/// Undoes a transaction while another one, which the undo does not know of, is about to change the
/// object; then that is committed.
async fn undo_beside(
    client: &Client,
    other: &Client,
    oid: Oid,
    undone: Tid,
    serial: Tid,
    value: &'static str,
) -> (Transaction, Tid) {
    let txn = begin(client).await;
    other.sync().await.unwrap();
    let change = begin(other).await;
    change.store(oid, serial, value).await.unwrap();
    change.vote().await.unwrap();
    txn.undo(undone).await.unwrap();
    (txn, change.finish().await.unwrap())
}
