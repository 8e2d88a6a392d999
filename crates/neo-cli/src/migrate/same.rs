//! Whether a FileStorage and a cluster have the same history, as far as both go.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt as _;
use neo_api::{Oid, Tid, TransactionRecord};
use neo_backends::filestorage::{Data, Reader};
use neo_client::{Client, Error, Lookup};

/// Moments between the first and the last transaction at which both are compared.
const SAMPLES: u64 = 16;

/// Objects of a transaction whose values are compared.
const OBJECTS: usize = 100;

/// The first transaction, of those that are compared, that is not the same on both sides: the
/// first one, the last one at `last`, and some between, each with its values. The file may have more
/// than packs have left.
pub(super) async fn first_difference(
    client: &Client,
    reader: &mut Reader,
    last: Tid,
) -> anyhow::Result<Option<Tid>> {
    let packed_at = client.pack_progress().await?.packed_at;
    let mut all = client.iterate(Tid::ZERO..=last).await?;
    let Some(first) = all.try_next().await?.map(|transaction| transaction.tid) else {
        return Ok(Some(last));
    };
    let mut compared = None;
    for n in 0..=SAMPLES {
        let part = u128::from(last.0 - first.0) * u128::from(n) / u128::from(SAMPLES);
        // The first transaction of that moment or later; in the file, after the moment before.
        let moment = Tid(first.0 + part as u64);
        let ours = client.iterate(moment..=last).await?.try_next().await?;
        reader.seek_after(Tid(moment.0.saturating_sub(1)))?;
        let Some(ours) = ours else {
            return Ok(Some(moment));
        };
        let theirs = loop {
            let theirs = reader.next_transaction()?;
            // Nothing of it is left.
            let is_gone = |tid| tid < ours.tid && tid <= packed_at;
            if !theirs.as_ref().is_some_and(|theirs| is_gone(theirs.tid)) {
                break theirs;
            }
        };
        let Some(theirs) = theirs else {
            return Ok(Some(moment));
        };
        if compared.replace(ours.tid) == Some(ours.tid) {
            continue;
        }
        let same = theirs.tid == ours.tid && theirs.meta == ours.meta;
        if !same || !are_objects_same(client, reader, &ours).await? {
            return Ok(Some(ours.tid.min(theirs.tid)));
        }
    }
    Ok(None)
}

/// Compares the objects of the transaction that the reader has just begun.
async fn are_objects_same(
    client: &Client,
    reader: &mut Reader,
    ours: &TransactionRecord,
) -> anyhow::Result<bool> {
    let (oids, mut later) = distinct(reader.record_oids()?);
    // The transaction names what packs have left, and the file may have more.
    let are_named = if ours.packed {
        let named: BTreeSet<Oid> = oids.iter().copied().collect();
        ours.oids.iter().all(|oid| named.contains(oid))
    } else {
        oids == ours.oids
    };
    if !are_named {
        return Ok(false);
    }
    let mut compared = 0;
    while compared < OBJECTS
        && let Some(record) = reader.next_record()?
    {
        if is_followed(&mut later, record.oid) {
            continue;
        }
        compared += 1;
        let theirs = match record.data {
            Data::Data(data) | Data::BackPointer { data, .. } => Some(data),
            Data::Deleted { .. } => None,
        };
        let same = match client.load_serial(record.oid, ours.tid).await {
            Ok(Lookup::Found { data, .. }) => theirs == Some(data),
            Ok(Lookup::Deleted { .. }) => theirs.is_none(),
            Ok(Lookup::NotYet | Lookup::Unknown) | Err(Error::PackedAway { .. }) => ours.packed,
            Err(error) => return Err(error.into()),
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Oids in the order of their last records: a transaction that undid several others can have more
/// than one record of an object, and the last one is its state.
pub(super) fn distinct(oids: Vec<Oid>) -> (Vec<Oid>, BTreeMap<Oid, u32>) {
    let mut sorted = oids.clone();
    sorted.sort_unstable();
    if sorted.windows(2).all(|pair| pair[0] != pair[1]) {
        return (oids, BTreeMap::new());
    }
    let mut later = BTreeMap::new();
    for oid in &oids {
        *later.entry(*oid).or_insert(0) += 1;
    }
    later.retain(|_, count| {
        *count -= 1;
        *count > 0
    });
    let mut left = later.clone();
    let mut distinct = oids;
    distinct.retain(|oid| !is_followed(&mut left, *oid));
    (distinct, later)
}

/// Whether another record of the object follows; counts down.
pub(super) fn is_followed(later: &mut BTreeMap<Oid, u32>, oid: Oid) -> bool {
    match later.get_mut(&oid) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oids(numbers: &[u64]) -> Vec<Oid> {
        numbers.iter().copied().map(Oid).collect()
    }

    #[test]
    fn of_several_records_of_an_object_the_last_one_counts() {
        let (kept, later) = distinct(oids(&[3, 1, 2]));
        assert_eq!((kept, later.len()), (oids(&[3, 1, 2]), 0));
        let (kept, mut later) = distinct(oids(&[3, 1, 3, 2, 1, 3]));
        assert_eq!(kept, oids(&[2, 1, 3]));
        let taken: Vec<Oid> = oids(&[3, 1, 3, 2, 1, 3])
            .into_iter()
            .filter(|oid| !is_followed(&mut later, *oid))
            .collect();
        assert_eq!(taken, kept);
    }
}
