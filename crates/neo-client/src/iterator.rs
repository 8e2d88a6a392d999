//! Committed transactions with what they wrote, in order of tid, from either end.
//!
//! Metadata lives in the partition of the tid, revisions in those of the objects: a cursor for
//! each partition and kind reads page after page, and the cursors are merged. Memory is bounded by
//! a page of each.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use bytes::Bytes;
use neo_api::{Oid, Order, Record, RevisionId, Tid, TransactionRecord};
use neo_proto::WireRevision;

use crate::client::{Client, unexpected};
use crate::codec;
use crate::core::{Page, Reply};
use crate::cursor::{Cursor, fetch};
use crate::error::{Error, Result};

/// Transactions in a page.
const ENTRIES: u32 = 200;
/// Bytes of values in the pages of all partitions together, about.
const BYTES: u32 = 32 << 20;
/// The least for one.
const PAGE_BYTES_MIN: u32 = 16 << 10;

/// What a transaction did to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransactionObject {
    /// The object.
    pub oid: Oid,
    /// Its value; `None`: it was deleted, or its creation undone.
    pub data: Option<Bytes>,
    /// The earlier revision that it repeats (an undo), which can be a deletion.
    pub data_serial: Option<Tid>,
}

impl TransactionObject {
    /// What an import writes: a value, or `None` for a deletion or for what
    /// [`same_as`](Self::same_as) says.
    #[must_use]
    pub const fn new(oid: Oid, data: Option<Bytes>) -> Self {
        Self {
            oid,
            data,
            data_serial: None,
        }
    }

    /// With the tid of the earlier revision that it repeats. An import takes the value from there
    /// when `data` is `None`.
    #[must_use]
    pub const fn same_as(mut self, data_serial: Option<Tid>) -> Self {
        self.data_serial = data_serial;
        self
    }
}

type Revision = (WireRevision, Option<Bytes>);

/// Transactions in a range of tids. Made by [`Client::iterate`], and by [`Client::undo_log`] from
/// the end.
///
/// What is committed after it was made is not part of it.
#[derive(Debug)]
pub struct Transactions {
    client: Client,
    order: Order,
    /// The least and the greatest tid.
    range: (Tid, Tid),
    page_bytes: u32,
    metadata: Vec<Cursor<TransactionRecord, Tid>>,
    revisions: Vec<Cursor<Revision, RevisionId>>,
    /// Revisions up to here are read.
    revisions_max: Tid,
    /// The transaction whose objects are told.
    current: Option<Tid>,
    /// Packs have been up to here.
    packed_at: Tid,
}

impl Client {
    /// Committed transactions with `start <= tid <= stop`, ascending. Begins with a
    /// [`sync`](Self::sync): what was committed before the call is part of it.
    ///
    /// A [`TransactionRecord`] names the oids that the transaction stored or deleted;
    /// [`Transactions::next_object`] gives what became of them.
    ///
    /// ```no_run
    /// # use neo_client::{Client, Error, Tid};
    /// # async fn f(client: Client) -> Result<(), Error> {
    /// let mut transactions = client.iterate(Tid::ZERO..=Tid::MAX).await?;
    /// while let Some(transaction) = transactions.next().await? {
    ///     println!("{} names {} objects", transaction.tid, transaction.oids.len());
    ///     while let Some(object) = transactions.next_object().await? {
    ///         println!("  {}: {:?} bytes", object.oid, object.data.map(|data| data.len()));
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotReady`] or [`Error::Timeout`].
    ///
    /// Cancel safe.
    pub async fn iterate(&self, range: RangeInclusive<Tid>) -> Result<Transactions> {
        self.transactions(range, Order::Ascending).await
    }

    /// As [`iterate`](Self::iterate), from the last transaction to the first: what can be undone,
    /// mostly. Who takes few of them reads little; the objects of a transaction cost a round trip.
    ///
    /// ```no_run
    /// # use neo_client::{Client, Error, Tid};
    /// # async fn f(client: Client) -> Result<(), Error> {
    /// let mut log = client.undo_log(Tid::ZERO..=Tid::MAX).await?;
    /// if let Some(last) = log.next().await? {
    ///     let txn = client.begin(Default::default()).await?;
    ///     txn.undo(last.tid).await?;
    ///     txn.commit().await?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotReady`] or [`Error::Timeout`].
    ///
    /// Cancel safe.
    pub async fn undo_log(&self, range: RangeInclusive<Tid>) -> Result<Transactions> {
        self.transactions(range, Order::Descending).await
    }

    async fn transactions(&self, range: RangeInclusive<Tid>, order: Order) -> Result<Transactions> {
        let last_tid = self.sync().await?;
        let partitioning = self
            .partitioning()
            .ok_or_else(|| Error::NotReady("the partition table is not known".into()))?;
        let (min, max) = (*range.start(), (*range.end()).min(last_tid));
        let from = match order {
            Order::Ascending => min,
            Order::Descending => max,
        };
        let from = (min <= max).then_some(from);
        let revisions = match order {
            Order::Ascending => from.map(first_of),
            // Those of each transaction, when they are wanted.
            Order::Descending => None,
        };
        Ok(Transactions {
            client: self.clone(),
            order,
            range: (min, max),
            page_bytes: (BYTES / partitioning.count()).max(PAGE_BYTES_MIN),
            metadata: Cursor::of_each(partitioning.iter(), from),
            revisions: Cursor::of_each(partitioning.iter(), revisions),
            revisions_max: max,
            current: None,
            packed_at: self.pack_progress().await?.packed_at,
        })
    }
}

impl Transactions {
    /// The next transaction; objects of the one before that were not taken are skipped. `None` at
    /// the end.
    ///
    /// # Errors
    /// [`Error::NotReady`] or [`Error::Timeout`]: it may be called again, and goes on.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Result<Option<TransactionRecord>> {
        let next = loop {
            let next = self.next_record().await?;
            let is_hidden = next.as_ref().is_some_and(|record| {
                // To order a pack changes nothing that could be undone.
                let is_order = record.pack.is_some() && self.order == Order::Descending;
                is_order || record.is_emptied()
            });
            if !is_hidden {
                break next;
            }
        };
        let next = next.map(|mut record| {
            record.packed |= record.tid <= self.packed_at;
            record
        });
        self.current = next.as_ref().map(|transaction| transaction.tid);
        if let (Order::Descending, Some(transaction)) = (self.order, &next) {
            self.look_at(transaction);
        }
        Ok(next)
    }

    async fn next_record(&mut self) -> Result<Option<TransactionRecord>> {
        self.fill_metadata().await?;
        let cursors = self.metadata.iter_mut();
        let cursors = cursors.filter(|cursor| !cursor.page.is_empty());
        let tid = |cursor: &&mut Cursor<TransactionRecord, Tid>| {
            cursor.page.front().map(|transaction| transaction.tid)
        };
        let first = match self.order {
            Order::Ascending => cursors.min_by_key(tid),
            Order::Descending => cursors.max_by_key(tid),
        };
        Ok(first.and_then(|cursor| cursor.page.pop_front()))
    }

    /// The objects of this transaction are the next to be read.
    fn look_at(&mut self, transaction: &TransactionRecord) {
        self.revisions_max = transaction.tid;
        let Some(partitioning) = self.client.partitioning() else {
            return;
        };
        let oids = transaction.oids.iter();
        let partitions: BTreeSet<_> = oids.map(|oid| partitioning.of_oid(*oid)).collect();
        for cursor in &mut self.revisions {
            cursor.page.clear();
            let has_some = partitions.contains(&cursor.partition);
            cursor.next = has_some.then_some(first_of(transaction.tid));
        }
    }

    /// The next object of the transaction, by ascending oid; `None` after the last. Objects
    /// whose revision was packed away are not told.
    ///
    /// # Errors
    /// As [`next`](Self::next); [`Error::Checksum`].
    ///
    /// Cancel safe.
    pub async fn next_object(&mut self) -> Result<Option<TransactionObject>> {
        let Some(tid) = self.current else {
            return Ok(None);
        };
        loop {
            self.fill_revisions().await?;
            let first = self
                .revisions
                .iter_mut()
                .filter(|cursor| !cursor.page.is_empty())
                .min_by_key(|cursor| cursor.page.front().map(|(revision, _)| revision.id));
            let Some(cursor) = first else {
                return Ok(None);
            };
            match cursor.page.front() {
                Some((revision, _)) if revision.id.tid > tid => return Ok(None),
                // Of a transaction that was skipped.
                Some((revision, _)) if revision.id.tid < tid => {
                    cursor.page.pop_front();
                }
                _ => {
                    let Some(revision) = cursor.page.pop_front() else {
                        return Ok(None);
                    };
                    return open(revision).map(Some);
                }
            }
        }
    }

    /// All objects of the transaction that were not taken yet, in the order in which it stored
    /// them. They are all in memory then: for transactions of a known size.
    ///
    /// # Errors
    /// As [`next_object`](Self::next_object).
    ///
    /// Not cancel safe: what was read is lost.
    pub async fn objects(&mut self, of: &TransactionRecord) -> Result<Vec<TransactionObject>> {
        let mut objects = Vec::new();
        while let Some(object) = self.next_object().await? {
            objects.push(object);
        }
        let place: BTreeMap<Oid, usize> = of
            .oids
            .iter()
            .enumerate()
            .map(|(at, oid)| (*oid, at))
            .collect();
        objects.sort_by_key(|object| place.get(&object.oid).copied().unwrap_or(usize::MAX));
        Ok(objects)
    }

    async fn fill_metadata(&mut self) -> Result<()> {
        loop {
            let ((least, greatest), order) = (self.range, self.order);
            let page = |partition, next| Page::Transactions {
                partition,
                min: if order == Order::Ascending {
                    next
                } else {
                    least
                },
                max: if order == Order::Descending {
                    next
                } else {
                    greatest
                },
                order,
                entries: ENTRIES,
            };
            let replies = fetch(&self.client, &self.metadata, page).await?;
            if replies.is_empty() {
                return Ok(());
            }
            for (at, reply) in replies {
                let cursor = &mut self.metadata[at];
                let Reply::Transactions {
                    transactions,
                    complete,
                } = reply
                else {
                    return Err(unexpected(&reply));
                };
                let tids = transactions.iter().map(|transaction| transaction.tid);
                let from = cursor.next;
                let (ordered, in_range, next) = match order {
                    Order::Ascending => (
                        tids.clone().is_sorted_by(|a, b| a < b),
                        tids.clone().all(|tid| Some(tid) >= from && tid <= greatest),
                        tids.last().and_then(Tid::checked_next),
                    ),
                    Order::Descending => (
                        tids.clone().is_sorted_by(|a, b| a > b),
                        tids.clone().all(|tid| Some(tid) <= from && tid >= least),
                        tids.last().and_then(|tid| tid.0.checked_sub(1)).map(Tid),
                    ),
                };
                if !ordered || !in_range || (transactions.is_empty() && !complete) {
                    return Err(Error::Node("a storage answers other transactions".into()));
                }
                cursor.next = next.filter(|tid| !complete && (least..=greatest).contains(tid));
                cursor
                    .page
                    .extend(transactions.into_iter().map(TransactionRecord::from));
            }
        }
    }

    async fn fill_revisions(&mut self) -> Result<()> {
        loop {
            let (max, bytes) = (self.revisions_max, self.page_bytes);
            // Of transactions that were skipped, nothing is read.
            let from = first_of(self.current.unwrap_or_default());
            let page = |partition, min: RevisionId| Page::Revisions {
                partition,
                min: min.max(from),
                max,
                bytes,
            };
            let replies = fetch(&self.client, &self.revisions, page).await?;
            if replies.is_empty() {
                return Ok(());
            }
            for (at, reply) in replies {
                let cursor = &mut self.revisions[at];
                let Reply::Revisions {
                    revisions,
                    complete,
                } = reply
                else {
                    return Err(unexpected(&reply));
                };
                let last = revisions.last().map(|(revision, _)| revision.id);
                cursor.next = last.filter(|_| !complete).and_then(after);
                cursor.page.extend(revisions);
            }
        }
    }
}

fn open((revision, value): Revision) -> Result<TransactionObject> {
    let RevisionId { tid, oid } = revision.id;
    let data = match (revision.value, value) {
        (Some(wire), Some(data)) => {
            let record = Record {
                compression: wire.compression,
                checksum: wire.checksum,
                data,
            };
            Some(codec::decode(&record).ok_or(Error::Checksum { oid, tid })?)
        }
        _ => None,
    };
    Ok(TransactionObject {
        oid,
        data,
        data_serial: revision.data_serial,
    })
}

/// The least revision id of a transaction.
const fn first_of(tid: Tid) -> RevisionId {
    RevisionId {
        tid,
        oid: Oid::ZERO,
    }
}

/// The least revision id after one.
fn after(id: RevisionId) -> Option<RevisionId> {
    match id.oid.checked_next() {
        Some(oid) => Some(RevisionId { tid: id.tid, oid }),
        None => id.tid.checked_next().map(first_of),
    }
}
