//! The past: many objects at once, histories, from the end to the beginning, all objects as they
//! were.

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, TryStream, TryStreamExt as _};
use neo_api::{Oid, Tid, TransactionMeta};
use neo_client::{Client, Error, Lookup, TransactionObject};

use crate::replicated;

async fn commit(client: &Client, changes: &[(Oid, Tid, Option<&str>)]) -> Tid {
    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    for (oid, serial, value) in changes {
        match value {
            Some(value) => txn.store(*oid, *serial, (*value).to_owned()).await.unwrap(),
            None => txn.delete(*oid, *serial).await.unwrap(),
        }
    }
    txn.commit().await.unwrap()
}

async fn oids(client: &Client, count: usize) -> Vec<Oid> {
    let mut oids = Vec::new();
    for _ in 0..count {
        oids.push(client.new_oid().await.unwrap());
    }
    oids
}

const fn after(tid: Tid) -> Tid {
    Tid(tid.0 + 1)
}

#[tokio::test]
async fn many_transactions_come_in_the_order_asked() {
    let (_cluster, client) = replicated().await;
    let oid = client.new_oid().await.unwrap();
    let mut tids = vec![Tid::ZERO];
    // More than are asked for together.
    for n in 0..150 {
        let value = n.to_string();
        tids.push(commit(&client, &[(oid, tids[n], Some(&value))]).await);
    }
    tids.reverse();
    let found = client.transactions_of(&tids).await.unwrap();
    let found: Vec<_> = found
        .into_iter()
        .map(|t| t.map(|t| (t.tid, t.oids)))
        .collect();
    let unknown = [None];
    let expected = tids[..150].iter().map(|tid| Some((*tid, vec![oid])));
    assert_eq!(found, expected.chain(unknown).collect::<Vec<_>>());
    assert!(client.transactions_of(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn many_objects_come_at_once_and_stay_in_the_cache() {
    let (cluster, a) = replicated().await;
    // More than go into one request.
    let oids = oids(&a, 2_500).await;
    let values: Vec<String> = oids.iter().map(ToString::to_string).collect();
    let new = oids.iter().zip(&values);
    let new: Vec<_> = new
        .map(|(oid, value)| (*oid, Tid::ZERO, Some(value.as_str())))
        .collect();
    let first = commit(&a, &new).await;
    let second = commit(&a, &[(oids[0], first, Some("x")), (oids[1], first, None)]).await;
    let b = cluster.client().await.unwrap();
    let mut wanted: Vec<(Oid, Tid)> = oids.iter().map(|oid| (*oid, Tid::MAX)).collect();
    wanted.extend([
        (oids[0], second),
        (oids[1], first),
        (Oid(1 << 40), Tid::MAX),
    ]);
    let found = b.load_many(&wanted).await.unwrap();
    assert_eq!(found.len(), wanted.len());
    for ((found, value), at) in found.iter().zip(&values).zip(0..) {
        let expected = match at {
            0 => Lookup::Found {
                data: Bytes::from_static(b"x"),
                serial: second,
                next_serial: None,
            },
            1 => Lookup::Deleted {
                serial: second,
                next_serial: None,
            },
            _ => Lookup::Found {
                data: Bytes::from(value.clone()),
                serial: first,
                next_serial: None,
            },
        };
        assert_eq!(*found, expected, "the object at {at}");
    }
    let before = Lookup::Found {
        data: Bytes::from(values[0].clone()),
        serial: first,
        next_serial: Some(second),
    };
    assert_eq!(found[2_500..], [before, Lookup::NotYet, Lookup::Unknown]);
    // Whatever becomes of the cluster, they are here.
    drop(cluster);
    let some: Vec<_> = oids.iter().map(|oid| (*oid, after(second))).collect();
    let again = b.load_many(&some).await.unwrap();
    assert_eq!(again[..], found[..2_500]);
}

#[tokio::test]
async fn values_of_many_mebibytes_come_in_several_answers() {
    let (cluster, a) = replicated().await;
    let oids = oids(&a, 12).await;
    let txn = a.begin(TransactionMeta::default()).await.unwrap();
    for (n, oid) in oids.iter().enumerate() {
        let noise = (0..1_500_000_u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8);
        let mut value: Vec<u8> = noise.collect();
        value[0] = n as u8;
        txn.store(*oid, Tid::ZERO, value).await.unwrap();
    }
    txn.commit().await.unwrap();
    let b = cluster.client().await.unwrap();
    let wanted: Vec<_> = oids.iter().map(|oid| (*oid, Tid::MAX)).collect();
    let found = b.load_many(&wanted).await.unwrap();
    let firsts = found
        .into_iter()
        .map(|lookup| lookup.object().unwrap().data[0]);
    assert_eq!(firsts.collect::<Vec<_>>(), (0..12).collect::<Vec<u8>>());
}

#[tokio::test]
async fn what_is_prefetched_is_in_the_cache() {
    let (cluster, a) = replicated().await;
    let oids = oids(&a, 20).await;
    let new: Vec<_> = oids
        .iter()
        .map(|oid| (*oid, Tid::ZERO, Some("value")))
        .collect();
    let tid = commit(&a, &new).await;
    let b = cluster.client().await.unwrap();
    b.sync().await.unwrap();
    let unknown = Oid(1 << 40);
    b.prefetch(oids.iter().copied().chain([unknown]), Tid::MAX);
    // It is on its way, and comes after what was asked before.
    assert_eq!(
        b.load_before(unknown, after(tid)).await.unwrap(),
        Lookup::Unknown
    );
    for oid in &oids {
        assert_eq!(b.load(*oid).await.unwrap().unwrap().data, "value");
    }
    drop(cluster);
    for oid in &oids {
        assert_eq!(b.load(*oid).await.unwrap().unwrap().serial, tid);
    }
}

#[tokio::test]
async fn the_history_of_an_object_is_told_from_its_end() {
    let (_cluster, client) = replicated().await;
    let oid = oids(&client, 1).await[0];
    let first = commit(&client, &[(oid, Tid::ZERO, Some("a"))]).await;
    let second = commit(&client, &[(oid, first, Some("four"))]).await;
    let third = commit(&client, &[(oid, second, None)]).await;
    let history = async |before: Tid, limit: usize| {
        let entries = client.history(oid, before).take(limit);
        let told = entries.map_ok(|entry| (entry.serial, entry.bytes));
        told.try_collect::<Vec<_>>().await.unwrap()
    };
    let all = [(third, None), (second, Some(4)), (first, Some(1))];
    assert_eq!(history(Tid::MAX, 100).await, all);
    assert_eq!(history(Tid::MAX, 2).await, all[..2]);
    assert_eq!(history(third, 100).await, all[1..]);
    assert_eq!(history(first, 100).await, []);
    assert_eq!(history(Tid::MAX, 0).await, []);
    let mut unknown = client.history(Oid(1 << 40), Tid::MAX);
    assert_eq!(unknown.try_next().await.unwrap(), None);
}

#[tokio::test]
async fn a_long_history_comes_in_pages() {
    let (_cluster, client) = replicated().await;
    let oid = oids(&client, 1).await[0];
    let mut serials = vec![Tid::ZERO];
    // More than the first two pages have.
    for _ in 0..300 {
        let last = serials[serials.len() - 1];
        serials.push(commit(&client, &[(oid, last, Some("x"))]).await);
    }
    let history = client.history(oid, Tid::MAX);
    let told = history.map_ok(|entry| entry.serial);
    let mut told: Vec<Tid> = told.try_collect().await.unwrap();
    told.push(Tid::ZERO);
    told.reverse();
    assert_eq!(told, serials);
}

/// Polls until it gives something, and lets go of every future that does not at once.
async fn impatient<S: TryStream + Unpin>(stream: &mut S) -> Result<Option<S::Ok>, S::Error> {
    loop {
        match stream.try_next().now_or_never() {
            Some(next) => return next,
            None => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test]
async fn a_stream_goes_on_where_a_wait_for_it_was_dropped() {
    let (_cluster, client) = replicated().await;
    let oids = oids(&client, 40).await;
    let mut tids = Vec::new();
    for oid in &oids {
        tids.push(commit(&client, &[(*oid, Tid::ZERO, Some("value"))]).await);
    }
    let mut seen = Vec::new();
    let mut all = client.iterate(Tid::ZERO..=Tid::MAX).await.unwrap();
    while let Some(transaction) = impatient(&mut all).await.unwrap() {
        while let Some(object) = impatient(&mut all.objects()).await.unwrap() {
            seen.push((transaction.tid, object.oid));
        }
    }
    let expected = tids.iter().copied().zip(oids.iter().copied());
    assert_eq!(seen, expected.collect::<Vec<_>>());
    let mut objects = client.current_objects(Tid::MAX, Oid::ZERO).await.unwrap();
    let mut told = Vec::new();
    while let Some(object) = impatient(&mut objects).await.unwrap() {
        told.push(object.oid);
    }
    assert_eq!(told, oids);
    let mut history = client.history(oids[0], Tid::MAX);
    let newest = impatient(&mut history).await.unwrap();
    assert_eq!(newest.map(|entry| entry.serial), Some(tids[0]));
    assert_eq!(impatient(&mut history).await.unwrap(), None);
}

#[tokio::test]
async fn an_error_that_stays_ends_a_stream() {
    let (_cluster, client) = replicated().await;
    let oid = oids(&client, 1).await[0];
    commit(&client, &[(oid, Tid::ZERO, Some("value"))]).await;
    let all = client.iterate(Tid::ZERO..=Tid::MAX).await.unwrap();
    let objects = client.current_objects(Tid::MAX, Oid::ZERO).await.unwrap();
    let history = client.history(oid, Tid::MAX);
    client.close().await;
    // Whoever goes on in spite of errors comes to an end.
    assert!(matches!(
        &all.collect::<Vec<_>>().await[..],
        [Err(Error::Closed)]
    ));
    assert!(matches!(
        &objects.collect::<Vec<_>>().await[..],
        [Err(Error::Closed)]
    ));
    assert!(matches!(
        &history.collect::<Vec<_>>().await[..],
        [Err(Error::Closed)]
    ));
}

#[tokio::test]
async fn the_undo_log_is_the_iteration_from_the_end() {
    let (cluster, client) = replicated().await;
    let oids = oids(&client, 3).await;
    let mut serials = [Tid::ZERO; 3];
    for n in 0..250 {
        let at = n % 3;
        let value = n.to_string();
        let mut changes = vec![(oids[at], serials[at], Some(value.as_str()))];
        if n % 5 == 0 {
            let next = (at + 1) % 3;
            changes.push((oids[next], serials[next], Some("too")));
        }
        let tid = commit(&client, &changes).await;
        for (oid, ..) in changes {
            serials[oids.iter().position(|o| *o == oid).unwrap()] = tid;
        }
    }
    let other = cluster.client().await.unwrap();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let mut iterated = client.iterate(Tid::ZERO..=Tid::MAX).await.unwrap();
    while let Some(transaction) = iterated.try_next().await.unwrap() {
        let objects: Vec<TransactionObject> =
            iterated.objects_as_stored(&transaction).await.unwrap();
        up.push((transaction, objects));
    }
    let mut log = other.undo_log(Tid::ZERO..=Tid::MAX).await.unwrap();
    while let Some(transaction) = log.try_next().await.unwrap() {
        let objects = log.objects_as_stored(&transaction).await.unwrap();
        down.push((transaction, objects));
    }
    assert_eq!(up.len(), 250);
    assert_eq!(up[5].1.len(), 2);
    down.reverse();
    assert_eq!(up, down);
    // A part of it, and what is skipped.
    let (min, max) = (up[20].0.tid, up[230].0.tid);
    let mut log = other.undo_log(min..=max).await.unwrap();
    let mut seen = Vec::new();
    while let Some(transaction) = log.try_next().await.unwrap() {
        if seen.len() == 1 {
            let object = log.objects().try_next().await.unwrap();
            assert_eq!(object.as_ref(), up[229].1.first());
        }
        seen.push(transaction.tid);
    }
    let mut expected: Vec<Tid> = up[20..=230].iter().map(|(t, _)| t.tid).collect();
    expected.reverse();
    assert_eq!(seen, expected);
    let mut empty = other.undo_log(max..=min).await.unwrap();
    assert_eq!(empty.try_next().await.unwrap(), None);
}

#[tokio::test]
async fn all_objects_are_told_as_they_were() {
    let (cluster, client) = replicated().await;
    let oids = oids(&client, 3_000).await;
    let new: Vec<_> = oids
        .iter()
        .map(|oid| (*oid, Tid::ZERO, Some("first")))
        .collect();
    let first = commit(&client, &new).await;
    // Few are left, far apart.
    let deleted = oids.iter().filter(|oid| oid.0 % 1_000 != 7);
    let deleted: Vec<_> = deleted.map(|oid| (*oid, first, None)).collect();
    let second = commit(&client, &deleted).await;
    let other = cluster.client().await.unwrap();
    let list = async |at: Tid, start: Oid, values: bool| {
        let mut objects = other.current_objects(at, start).await.unwrap();
        if !values {
            objects = objects.without_values();
        }
        let mut all = Vec::new();
        while let Some(object) = objects.try_next().await.unwrap() {
            let value = object.data.as_deref().map(|data| data == b"first");
            assert_eq!((object.serial, value), (first, values.then_some(true)));
            all.push(object.oid);
        }
        (objects.tid(), all)
    };
    assert_eq!(list(first, Oid::ZERO, true).await, (first, oids.clone()));
    let left: Vec<Oid> = oids
        .iter()
        .copied()
        .filter(|oid| oid.0 % 1_000 == 7)
        .collect();
    assert_eq!(left.len(), 3);
    assert_eq!(
        list(Tid::MAX, Oid::ZERO, false).await,
        (second, left.clone())
    );
    assert_eq!(
        list(second, left[1], true).await,
        (second, left[1..].to_vec())
    );
    assert_eq!(list(Tid(first.0 - 1), Oid::ZERO, true).await.1, []);
}

#[tokio::test]
async fn the_size_is_that_of_one_copy() {
    let (_cluster, client) = replicated().await;
    let empty = client.database_bytes().await.unwrap();
    let oids = oids(&client, 200).await;
    let value = "0123456789abcdef".repeat(256);
    let txn = client.begin(TransactionMeta::default()).await.unwrap();
    for oid in &oids {
        let value = format!("{oid}{value}");
        txn.store(*oid, Tid::ZERO, value).await.unwrap();
    }
    txn.commit().await.unwrap();
    let grown = client.database_bytes().await.unwrap() - empty;
    // It may be compressed, and is there twice.
    assert!((10_000..1_200_000).contains(&grown), "{grown}");
}

/// Who copies a cluster takes its past for packed as far as any pack went: what undoes a transaction
/// in the copy knows nothing of packs. In the cluster itself, what was not packed can be undone.
#[tokio::test]
async fn a_pack_of_some_objects_marks_transactions_for_copies_alone() {
    let (_cluster, client) = replicated().await;
    let oids = oids(&client, 2).await;
    let mut tids = Vec::new();
    let mut serials = [Tid::ZERO; 2];
    for value in ["a", "b"] {
        for (oid, serial) in oids.iter().zip(&mut serials) {
            *serial = commit(&client, &[(*oid, *serial, Some(value))]).await;
            tids.push(*serial);
        }
    }
    let pack = client.pack_objects(client.last_tid(), oids[..1].to_vec());
    pack.await.unwrap().wait().await.unwrap();
    let later = commit(&client, &[(oids[0], serials[0], Some("c"))]).await;
    let all = Tid::ZERO..=Tid::MAX;
    let copied = client.iterate(all.clone()).await.unwrap();
    let copied: Vec<_> = copied.try_collect().await.unwrap();
    let is_copied_as_packed = |tid: Tid| copied.iter().any(|t| t.tid == tid && t.packed);
    assert!(tids[1..].iter().all(|tid| is_copied_as_packed(*tid)));
    assert!(!is_copied_as_packed(later));
    let undoable = client.undo_log(all).await.unwrap();
    let undoable: Vec<_> = undoable.try_collect().await.unwrap();
    let undoable = undoable.iter().filter(|t| !t.packed).map(|t| t.tid);
    let undoable: Vec<Tid> = undoable.filter(|tid| *tid < later).collect();
    assert_eq!(undoable, [tids[3], tids[2], tids[1]]);
    for (tid, is_refused) in [(tids[2], true), (tids[3], false)] {
        let txn = client.begin(TransactionMeta::default()).await.unwrap();
        let undone = txn.undo(tid).await;
        assert_eq!(matches!(undone, Err(Error::Undo { .. })), is_refused);
    }
}
