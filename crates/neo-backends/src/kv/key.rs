//! Keys: the order of their bytes is the order of what they name.
//!
//! Integers are big-endian. A txn is `reign u64, ttid u64`.
//!
//! | space | key | value |
//! | --- | --- | --- |
//! | Config | the key, ASCII | the value |
//! | Config | `ff` | the partition table |
//! | Objects | `partition u32, oid u64, tid u64` | revision |
//! | History | `partition u32, tid u64, oid u64` | the same revision, so that a scan of the history needs no second look |
//! | Transactions | `partition u32, 00, tid u64` | transaction |
//! | Transactions | `partition u32, 01, txn` | tid: the transaction of that name |
//! | Transactions | `partition u32, 02, tid` | nothing: the transaction ordered a pack |
//! | Data | `data id u64` | record, or which shared value it has |
//! | Unfinished | `txn, 00` | tid, once locked: the transaction exists |
//! | Unfinished | `txn, 01` | metadata and oids, if it has any |
//! | Pending | `txn, oid u64` | pending object |
//! | Loose | `00, data id u64` | txn: whose value it is |
//! | Loose | `01, txn, data id u64` | nothing: the list in the order of (txn, data id) |
//! | Shared | `00, checksum, data id u64` | how many have the value, which came with that data id |
//! | Shared | `01, data id u64` | the value |

use std::ops::Bound;

use neo_api::{
    BackendError, BackendResult, Checksum, DataId, KeyRange, Oid, Partition, Reign, RevisionId,
    Tid, TxnId,
};

/// The partition table; no configuration key, being ASCII, is the same.
pub(super) const TABLE: &[u8] = &[0xff];

/// Where the rest of a key starts, after its partition.
const PARTITION: usize = 4;
const TXN: usize = 16;

struct Key(Vec<u8>);

impl Key {
    fn new() -> Self {
        Self(Vec::with_capacity(32))
    }

    fn partition(mut self, partition: Partition) -> Self {
        self.0.extend_from_slice(&partition.0.to_be_bytes());
        self
    }

    fn tag(mut self, tag: u8) -> Self {
        self.0.push(tag);
        self
    }

    fn int(mut self, n: u64) -> Self {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }

    fn txn(self, txn: TxnId) -> Self {
        self.int(txn.reign.0).int(txn.ttid.0)
    }
}

pub(super) fn object(partition: Partition, id: RevisionId) -> Vec<u8> {
    Key::new()
        .partition(partition)
        .int(id.oid.0)
        .int(id.tid.0)
        .0
}

/// Revisions of an object, within the bounds of their tids.
pub(super) fn revisions_of(
    partition: Partition,
    oid: Oid,
    from: Bound<Tid>,
    to: Bound<Tid>,
) -> KeyRange {
    let key = |tid| object(partition, RevisionId { tid, oid });
    let least = Bound::Included(key(Tid::ZERO));
    let greatest = Bound::Included(key(Tid(u64::MAX)));
    (
        if from == Bound::Unbounded {
            least
        } else {
            from.map(key)
        },
        if to == Bound::Unbounded {
            greatest
        } else {
            to.map(key)
        },
    )
}

/// All objects of a partition.
pub(super) fn objects_in(partition: Partition) -> KeyRange {
    objects_from(partition, Oid(0))
}

/// Objects of a partition with this oid or a greater one.
pub(super) fn objects_from(partition: Partition, min: Oid) -> KeyRange {
    let first = RevisionId {
        tid: Tid(0),
        oid: min,
    };
    let last = RevisionId {
        tid: Tid(u64::MAX),
        oid: Oid(u64::MAX),
    };
    (
        Bound::Included(object(partition, first)),
        Bound::Included(object(partition, last)),
    )
}

pub(super) fn history(partition: Partition, id: RevisionId) -> Vec<u8> {
    Key::new()
        .partition(partition)
        .int(id.tid.0)
        .int(id.oid.0)
        .0
}

/// Revisions of a partition with `min <= id` and `id.tid <= max`; there must be room for one.
pub(super) fn history_between(partition: Partition, min: RevisionId, max: Tid) -> KeyRange {
    let last = RevisionId {
        tid: max,
        oid: Oid(u64::MAX),
    };
    (
        Bound::Included(history(partition, min)),
        Bound::Included(history(partition, last)),
    )
}

pub(super) fn transaction(partition: Partition, tid: Tid) -> Vec<u8> {
    Key::new().partition(partition).tag(0).int(tid.0).0
}

pub(super) fn transactions_between(partition: Partition, min: Tid, max: Tid) -> KeyRange {
    (
        Bound::Included(transaction(partition, min)),
        Bound::Included(transaction(partition, max)),
    )
}

/// That a transaction ordered a pack.
pub(super) fn pack_order(partition: Partition, tid: Tid) -> Vec<u8> {
    Key::new().partition(partition).tag(2).int(tid.0).0
}

/// Orders to pack whose tids are greater than `after`.
pub(super) fn pack_orders_after(partition: Partition, after: Tid) -> KeyRange {
    (
        Bound::Excluded(pack_order(partition, after)),
        Bound::Included(pack_order(partition, Tid(u64::MAX))),
    )
}

pub(super) fn transaction_name(partition: Partition, txn: TxnId) -> Vec<u8> {
    Key::new().partition(partition).tag(1).txn(txn).0
}

pub(super) fn data(id: DataId) -> Vec<u8> {
    Key::new().int(id.0).0
}

pub(super) fn unfinished(txn: TxnId) -> Vec<u8> {
    Key::new().txn(txn).tag(0).0
}

pub(super) fn unfinished_record(txn: TxnId) -> Vec<u8> {
    Key::new().txn(txn).tag(1).0
}

/// Rows of unfinished transactions whose names are greater than `after`.
pub(super) fn unfinished_after(after: Option<TxnId>) -> KeyRange {
    let from = after.map_or(Bound::Unbounded, |txn| {
        Bound::Excluded(unfinished_record(txn))
    });
    (from, Bound::Unbounded)
}

pub(super) fn pending(txn: TxnId, oid: Oid) -> Vec<u8> {
    Key::new().txn(txn).int(oid.0).0
}

/// Objects of an unfinished transaction whose oids are greater than `after`.
pub(super) fn pending_after(txn: TxnId, after: Option<Oid>) -> KeyRange {
    let from = after.map_or_else(
        || Bound::Included(pending(txn, Oid(0))),
        |oid| Bound::Excluded(pending(txn, oid)),
    );
    (from, Bound::Included(pending(txn, Oid(u64::MAX))))
}

pub(super) fn owner(id: DataId) -> Vec<u8> {
    Key::new().tag(0).int(id.0).0
}

pub(super) fn loose(txn: TxnId, id: DataId) -> Vec<u8> {
    Key::new().tag(1).txn(txn).int(id.0).0
}

pub(super) fn loose_of(txn: TxnId) -> KeyRange {
    (
        Bound::Included(loose(txn, DataId(0))),
        Bound::Included(loose(txn, DataId(u64::MAX))),
    )
}

pub(super) fn loose_after(after: Option<(TxnId, DataId)>) -> KeyRange {
    let from = after.map_or_else(
        || Bound::Included(vec![1]),
        |(txn, id)| Bound::Excluded(loose(txn, id)),
    );
    (from, Bound::Excluded(vec![2]))
}

fn shared_with(checksum: Checksum) -> Key {
    let mut key = Key::new().tag(0);
    key.0.extend_from_slice(&checksum.0);
    key
}

/// How many have a shared value.
pub(super) fn shared_count(checksum: Checksum, id: DataId) -> Vec<u8> {
    shared_with(checksum).int(id.0).0
}

/// The counts of shared values with a checksum.
pub(super) fn shared_counts(checksum: Checksum) -> KeyRange {
    (
        Bound::Included(shared_count(checksum, DataId(0))),
        Bound::Included(shared_count(checksum, DataId(u64::MAX))),
    )
}

pub(super) fn shared(id: DataId) -> Vec<u8> {
    Key::new().tag(1).int(id.0).0
}

/// All shared values.
pub(super) fn all_shared() -> KeyRange {
    (
        Bound::Included(shared(DataId(0))),
        Bound::Included(shared(DataId(u64::MAX))),
    )
}

pub(super) fn id_of_shared(key: &[u8]) -> BackendResult<DataId> {
    Ok(DataId(int(key, 1, 9, "Shared")?))
}

pub(super) fn id_of_shared_count(key: &[u8]) -> BackendResult<DataId> {
    Ok(DataId(int(key, 17, 25, "Shared")?))
}

/// The tid at the end of a key of Objects.
pub(super) fn tid_of_object(key: &[u8]) -> BackendResult<Tid> {
    Ok(Tid(int(key, PARTITION + 8, 20, "Objects")?))
}

/// The oid in a key of Objects.
pub(super) fn oid_of_object(key: &[u8]) -> BackendResult<Oid> {
    Ok(Oid(int(key, PARTITION, 20, "Objects")?))
}

pub(super) fn id_of_history(key: &[u8]) -> BackendResult<RevisionId> {
    let tid = Tid(int(key, PARTITION, 20, "History")?);
    let oid = Oid(int(key, PARTITION + 8, 20, "History")?);
    Ok(RevisionId { tid, oid })
}

pub(super) fn tid_of_transaction(key: &[u8]) -> BackendResult<Tid> {
    Ok(Tid(int(key, PARTITION + 1, 13, "Transactions")?))
}

pub(super) fn id_of_data(key: &[u8]) -> BackendResult<DataId> {
    Ok(DataId(int(key, 0, 8, "Data")?))
}

/// The name in a key of Unfinished, and whether its row is that of the metadata.
pub(super) fn txn_of_unfinished(key: &[u8]) -> BackendResult<(TxnId, bool)> {
    Ok((txn(key, 0, TXN + 1, "Unfinished")?, key.last() == Some(&1)))
}

pub(super) fn oid_of_pending(key: &[u8]) -> BackendResult<Oid> {
    Ok(Oid(int(key, TXN, TXN + 8, "Pending")?))
}

pub(super) fn id_of_loose(key: &[u8]) -> BackendResult<(TxnId, DataId)> {
    const LENGTH: usize = 1 + TXN + 8;
    let id = DataId(int(key, 1 + TXN, LENGTH, "Loose")?);
    Ok((txn(key, 1, LENGTH, "Loose")?, id))
}

fn txn(key: &[u8], at: usize, length: usize, space: &str) -> BackendResult<TxnId> {
    Ok(TxnId {
        reign: Reign(int(key, at, length, space)?),
        ttid: Tid(int(key, at + 8, length, space)?),
    })
}

/// The integer at `at` of a key that must be `length` bytes long.
fn int(key: &[u8], at: usize, length: usize, space: &str) -> BackendResult<u64> {
    key.get(at..at + 8)
        .and_then(|bytes| bytes.try_into().ok())
        .filter(|_| key.len() == length)
        .map(u64::from_be_bytes)
        .ok_or_else(|| BackendError::Corrupt(format!("a key of {space} has {} bytes", key.len())))
}
