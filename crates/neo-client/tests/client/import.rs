//! Imports: what is committed, and what is not.

use bytes::Bytes;
use neo_client::{
    CompressionSetting, Error, Oid, Tid, TransactionMeta, TransactionObject, TransactionRecord,
};

use crate::fake::cluster;
use crate::{futures_poll, text};

fn imported(tid: Tid, oids: &[u64]) -> (TransactionRecord, Vec<TransactionObject>) {
    let oids: Vec<Oid> = oids.iter().map(|oid| Oid(*oid)).collect();
    let objects = oids.iter().map(|oid| {
        let data = (oid.0 % 7 != 0).then(|| Bytes::from(format!("{oid}")));
        TransactionObject::new(*oid, data)
    });
    let objects = objects.collect();
    let record = TransactionRecord {
        tid,
        txn: None,
        meta: TransactionMeta::default(),
        oids,
        packed: false,
        pack: None,
    };
    (record, objects)
}

#[tokio::test]
async fn an_import_counts_up_to_its_last_checkpoint() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    let mut import = client.import().await.unwrap();
    let first = import.last_tid().0 + 1;
    let push = async |import: &mut neo_client::Import, n: u64| {
        let (record, objects) = imported(Tid(first + n), &[n, n + 1000]);
        import.push(record, objects).await
    };
    for n in 0..50 {
        push(&mut import, n).await.unwrap();
    }
    assert!(matches!(push(&mut import, 3).await, Err(Error::Misuse(_))));
    assert_eq!(import.checkpoint().await.unwrap(), Tid(first + 49));
    assert_eq!(text(&client, Oid(8)).await.unwrap(), Oid(8).to_string());
    assert_eq!(client.load(Oid(7)).await.unwrap(), None);
    push(&mut import, 60).await.unwrap();
    drop(import);
    assert_eq!(client.sync().await.unwrap(), Tid(first + 49));
    let mut import = client.import().await.unwrap();
    push(&mut import, 70).await.unwrap();
    assert_eq!(import.finish().await.unwrap(), Tid(first + 70));
    assert_eq!(
        text(&client, Oid(71 + 999)).await.unwrap(),
        Oid(1070).to_string()
    );
    assert_eq!(client.load(Oid(60)).await.unwrap(), None);
}

/// A transaction with one object that is too large.
fn too_large(tid: Tid) -> (TransactionRecord, Vec<TransactionObject>) {
    let (mut record, mut objects) = imported(tid, &[1, 2, 3]);
    record.oids = vec![Oid(1), Oid(2), Oid(3)];
    objects[1].data = Some(vec![0; (64 << 20) + 1].into());
    (record, objects)
}

#[tokio::test]
async fn an_import_that_failed_commits_nothing_more() {
    let cluster = cluster().await;
    let builder = cluster.builder().compression(CompressionSetting::Off);
    let client = builder.connect().await.unwrap();
    let mut import = client.import().await.unwrap();
    let first = import.last_tid().0 + 1;
    let (record, objects) = imported(Tid(first), &[1]);
    import.push(record, objects).await.unwrap();
    import.checkpoint().await.unwrap();

    let (record, objects) = too_large(Tid(first + 1));
    let is_too_large =
        |error| matches!(error, Error::TooLarge(words) if words.contains("67108865"));
    assert!(is_too_large(
        import.push(record, objects).await.unwrap_err()
    ));
    // Half of the transaction is there: whoever goes on is told the same.
    let (record, objects) = imported(Tid(first + 2), &[4]);
    assert!(is_too_large(
        import.push(record, objects).await.unwrap_err()
    ));
    assert!(is_too_large(import.checkpoint().await.unwrap_err()));
    assert_eq!(import.committed_tid(), Tid(first));
    assert!(is_too_large(import.finish().await.unwrap_err()));
    assert_eq!(client.sync().await.unwrap(), Tid(first));
}

#[tokio::test]
async fn an_import_whose_push_was_dropped_commits_nothing_more() {
    let cluster = cluster().await;
    let builder = cluster.builder().compression(CompressionSetting::Off);
    let client = builder.connect().await.unwrap();
    let mut import = client.import().await.unwrap();
    let first = import.last_tid().0 + 1;
    let (record, objects) = imported(Tid(first), &[1]);
    import.push(record, objects).await.unwrap();
    import.checkpoint().await.unwrap();

    // More than may be on its way: it waits in the middle.
    let (mut record, _) = imported(Tid(first + 1), &[]);
    record.oids = (1..=20).map(Oid).collect();
    let value = Bytes::from(vec![0; 1 << 20]);
    let objects = record.oids.clone().into_iter();
    let objects = objects.map(|oid| TransactionObject::new(oid, Some(value.clone())));
    let mut push = Box::pin(import.push(record, objects));
    assert!(futures_poll(&mut push).is_pending());
    drop(push);
    let (record, objects) = imported(Tid(first + 2), &[4]);
    let dropped = |error| matches!(error, Error::Misuse(words) if words.contains("dropped"));
    assert!(dropped(import.push(record, objects).await.unwrap_err()));
    assert!(dropped(import.checkpoint().await.unwrap_err()));
    assert!(dropped(import.finish().await.unwrap_err()));
    assert_eq!(client.sync().await.unwrap(), Tid(first));
}

#[tokio::test]
async fn an_import_refuses_what_could_not_be_read_again() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    let zeros = Bytes::from(vec![0; (1 << 30) + 1]);
    let mut import = client.import().await.unwrap();
    let (record, _) = imported(Tid(import.last_tid().0 + 1), &[1]);
    let object = TransactionObject::new(Oid(1), Some(zeros));
    let error = import.push(record, [object]).await.unwrap_err();
    assert!(matches!(&error, Error::TooLarge(words) if words.contains("uncompressed")));
}
