//! Large objects, many objects.

use futures_util::TryStreamExt as _;
use neo_api::{Tid, TransactionMeta};
use neo_testkit::seed::Rng;

use crate::replicated;

#[tokio::test]
async fn objects_of_any_size_come_back_as_they_were() {
    let (cluster, client) = replicated().await;
    let mut rng = Rng::new(1);
    let sizes = [0, 1, 2, 100, 4096, 65_535, 1 << 20, (1 << 20) + 1, 16 << 20];
    let mut stored = Vec::new();
    for size in sizes {
        let mut data = vec![0; size];
        // The first half does not compress, the second half does.
        for byte in &mut data[..size / 2] {
            *byte = rng.next() as u8;
        }
        let oid = client.new_oid().await.unwrap();
        let txn = client.begin(TransactionMeta::default()).await.unwrap();
        txn.store(oid, Tid::ZERO, data.clone()).await.unwrap();
        txn.commit().await.unwrap();
        stored.push((oid, data));
    }
    let other = cluster.client().await.unwrap();
    for client in [client, other] {
        for (oid, data) in &stored {
            let object = client.load(*oid).await.unwrap().unwrap();
            assert!(object.data == data, "{} bytes differ", data.len());
        }
    }
}

#[tokio::test]
async fn a_transaction_of_two_thousand_objects_is_whole() {
    let (cluster, client) = replicated().await;
    let mut oids = Vec::new();
    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    for n in 0..2000_u32 {
        let oid = client.new_oid().await.unwrap();
        txn.store(oid, Tid::ZERO, n.to_be_bytes().to_vec())
            .await
            .unwrap();
        oids.push(oid);
    }
    let tid = txn.commit().await.unwrap();
    let other = cluster.client().await.unwrap();
    for (n, oid) in oids.iter().enumerate().step_by(97) {
        let object = other.load(*oid).await.unwrap().unwrap();
        assert_eq!(object.serial, tid);
        assert_eq!(object.data, (n as u32).to_be_bytes().to_vec());
    }
    let record = other.transaction(tid).await.unwrap().unwrap();
    assert_eq!(record.oids.len(), 2000);
    let mut transactions = other.iterate(tid..=tid).await.unwrap();
    transactions.try_next().await.unwrap().unwrap();
    let objects: Vec<_> = transactions.objects().try_collect().await.unwrap();
    assert_eq!(objects.len(), 2000);
}

#[tokio::test]
async fn a_transaction_larger_than_the_memory_for_stores_is_committed() {
    let (cluster, client) = replicated().await;
    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    let mut oids = Vec::new();
    let mut rng = Rng::new(2);
    for _ in 0..24 {
        let oid = client.new_oid().await.unwrap();
        let data: Vec<u8> = (0..1 << 17)
            .flat_map(|_| rng.next().to_be_bytes())
            .collect();
        txn.store(oid, Tid::ZERO, data.clone()).await.unwrap();
        oids.push((oid, data));
    }
    txn.commit().await.unwrap();
    let other = cluster.client().await.unwrap();
    for (oid, data) in oids {
        assert!(other.load(oid).await.unwrap().unwrap().data == data);
    }
}
