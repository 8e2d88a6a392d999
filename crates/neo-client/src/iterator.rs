//! Committed transactions with what they wrote, in order of tid, from either end.
//!
//! Metadata lives in the partition of the tid, revisions in those of the objects: a cursor for
//! each partition and kind reads page after page, and the cursors are merged. Memory is bounded by
//! a page of each.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use neo_api::{Oid, Order, Record, RevisionId, Tid, TransactionRecord};
use neo_proto::WireRevision;

use crate::client::{Client, unexpected};
use crate::codec;
use crate::core::{Page, Reply};
use crate::cursor::{Cursor, Cursors};
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

/// Transactions in a range of tids: a stream. Made by [`Client::iterate`], and by
/// [`Client::undo_log`] from the end. What is committed after it was made is not part of it.
///
/// Its errors are [`Error::NotReady`] and [`Error::Timeout`], after which it may be polled again and
/// goes on; any other one ends it. A page of each partition is in memory at a time: 200 transactions
/// each, and about 32 MiB of values in all, or one value if that is larger. Dropping it costs
/// nothing, in the middle of a wait, too.
#[derive(Debug)]
pub struct Transactions {
    client: Client,
    order: Order,
    /// The least and the greatest tid.
    range: (Tid, Tid),
    page_bytes: u32,
    metadata: Cursors<TransactionRecord, Tid>,
    revisions: Cursors<Revision, RevisionId>,
    /// Revisions up to here are read.
    revisions_max: Tid,
    /// The transaction whose objects are told.
    current: Option<Tid>,
    /// Packs have been up to here: of all objects, for who looks for what can be undone; of any, for
    /// who copies, since a copy knows nothing of packs.
    packed_at: Tid,
}

impl Client {
    /// Committed transactions with `start <= tid <= stop`, ascending. Begins with a
    /// [`sync`](Self::sync): what was committed before the call is part of it.
    ///
    /// A [`TransactionRecord`] names the oids that the transaction stored or deleted;
    /// [`Transactions::objects`] gives what became of them.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// use futures_util::TryStreamExt;
    /// use neo_client::Tid;
    ///
    /// # let oid = client.new_oid().await?;
    /// # client.transact(|txn| async move { txn.store(oid, "x").await }).await?;
    /// let mut transactions = client.iterate(Tid::ZERO..=Tid::MAX).await?;
    /// while let Some(transaction) = transactions.try_next().await? {
    ///     println!("{} names {} objects", transaction.tid, transaction.oids.len());
    ///     let mut objects = transactions.objects();
    ///     while let Some(object) = objects.try_next().await? {
    ///         println!("  {}: {:?} bytes", object.oid, object.data.map(|data| data.len()));
    /// #       assert_eq!(object.oid, oid);
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
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// use futures_util::TryStreamExt;
    /// use neo_client::Tid;
    ///
    /// # let oid = client.new_oid().await?;
    /// # client.transact(|txn| async move { txn.store(oid, "x").await }).await?;
    /// let mut log = client.undo_log(Tid::ZERO..=Tid::MAX).await?;
    /// if let Some(last) = log.try_next().await? {
    ///     let txn = client.begin(Default::default()).await?;
    ///     txn.undo(last.tid).await?;
    ///     txn.commit().await?;
    /// }
    /// # assert_eq!(client.load(oid).await?, None);
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
        let partitioning = self.known_partitioning()?;
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
        let progress = self.pack_progress().await?;
        Ok(Transactions {
            client: self.clone(),
            order,
            range: (min, max),
            page_bytes: (BYTES / partitioning.count()).max(PAGE_BYTES_MIN),
            metadata: Cursors::of_each(partitioning.iter(), from),
            revisions: Cursors::of_each(partitioning.iter(), revisions),
            revisions_max: max,
            current: None,
            packed_at: match order {
                Order::Ascending => progress.packed_at,
                Order::Descending => progress.whole_packed_at,
            },
        })
    }
}

impl Transactions {
    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// What the transaction that was told last did to its objects, by ascending oid: those that
    /// were not taken yet. What is not taken before the next transaction is skipped, and mostly not
    /// read. Objects whose revision was packed away are not told.
    ///
    /// [Example](Client::iterate).
    pub const fn objects(&mut self) -> TransactionObjects<'_> {
        TransactionObjects(self)
    }

    /// The same of `of`, which was told last, in the order in which it stored them. They are all in
    /// memory then: for transactions of a known size.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// use futures_util::TryStreamExt;
    /// use neo_client::Tid;
    ///
    /// let (low, high) = (client.new_oid().await?, client.new_oid().await?);
    /// client
    ///     .transact(|txn| async move {
    ///         txn.store(high, "first").await?;
    ///         txn.store(low, "second").await
    ///     })
    ///     .await?;
    /// let mut all = client.iterate(Tid::ZERO..=Tid::MAX).await?;
    /// let transaction = all.try_next().await?.expect("it is committed");
    /// let objects = all.objects_as_stored(&transaction).await?;
    /// assert_eq!(objects.iter().map(|object| object.oid).collect::<Vec<_>>(), [high, low]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of the stream.
    ///
    /// Not cancel safe: what was read is lost.
    pub async fn objects_as_stored(
        &mut self,
        of: &TransactionRecord,
    ) -> Result<Vec<TransactionObject>> {
        let mut objects = Vec::new();
        while let Some(object) = poll_fn(|cx| self.poll_object(cx)).await {
            objects.push(object?);
        }
        let oids = of.oids.iter().enumerate();
        let place: BTreeMap<Oid, usize> = oids.map(|(at, oid)| (*oid, at)).collect();
        objects.sort_by_key(|object| place.get(&object.oid).copied().unwrap_or(usize::MAX));
        Ok(objects)
    }

    fn poll_record(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<TransactionRecord>>> {
        if let Err(error) = ready!(self.poll_metadata(cx)) {
            return Poll::Ready(Some(Err(error)));
        }
        let cursors = self.metadata.filled();
        let tid = |cursor: &&mut Cursor<TransactionRecord, Tid>| {
            cursor.page.front().map(|transaction| transaction.tid)
        };
        let first = match self.order {
            Order::Ascending => cursors.min_by_key(tid),
            Order::Descending => cursors.max_by_key(tid),
        };
        let next = first.and_then(|cursor| cursor.page.pop_front());
        Poll::Ready(next.map(Ok))
    }

    /// Whether it is told to nobody.
    fn hides(&self, record: &TransactionRecord) -> bool {
        // To order a pack changes nothing that could be undone.
        let is_order = record.pack.is_some() && self.order == Order::Descending;
        is_order || record.is_emptied()
    }

    /// The objects of this transaction are the next to be read.
    fn look_at(&mut self, transaction: &TransactionRecord) {
        self.revisions_max = transaction.tid;
        let Some(partitioning) = self.client.partitioning() else {
            return;
        };
        let oids = transaction.oids.iter();
        let partitions: BTreeSet<_> = oids.map(|oid| partitioning.of_oid(*oid)).collect();
        let from = first_of(transaction.tid);
        self.revisions
            .reset(|partition| partitions.contains(&partition).then_some(from));
    }

    fn poll_object(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<TransactionObject>>> {
        let Some(tid) = self.current else {
            return Poll::Ready(None);
        };
        loop {
            if let Err(error) = ready!(self.poll_revisions(cx)) {
                return Poll::Ready(Some(Err(error)));
            }
            let cursors = self.revisions.filled();
            let id = |cursor: &Cursor<Revision, _>| Some(cursor.page.front()?.0.id);
            let Some(cursor) = cursors.min_by_key(|cursor| id(cursor)) else {
                return Poll::Ready(None);
            };
            if id(cursor).is_some_and(|id| id.tid > tid) {
                return Poll::Ready(None);
            }
            match cursor.page.pop_front() {
                // Of a transaction that was skipped.
                Some((revision, _)) if revision.id.tid < tid => {}
                next => return Poll::Ready(next.map(open)),
            }
        }
    }

    fn poll_metadata(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
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
        self.metadata
            .poll_fill(cx, &self.client, page, |cursor, reply| {
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
                let records = transactions.into_iter().map(TransactionRecord::from);
                cursor.page.extend(records);
                Ok(())
            })
    }

    fn poll_revisions(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let (max, bytes) = (self.revisions_max, self.page_bytes);
        // Of transactions that were skipped, nothing is read.
        let from = first_of(self.current.unwrap_or_default());
        let page = |partition, min: RevisionId| Page::Revisions {
            partition,
            min: min.max(from),
            max,
            bytes,
        };
        self.revisions
            .poll_fill(cx, &self.client, page, |cursor, reply| {
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
                Ok(())
            })
    }
}

impl Stream for Transactions {
    type Item = Result<TransactionRecord>;

    /// The next transaction; objects of the one before that were not taken are skipped.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = loop {
            match ready!(self.poll_record(cx)) {
                Some(Ok(record)) if self.hides(&record) => {}
                Some(Ok(record)) => break Some(record),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => break None,
            }
        };
        self.current = next.as_ref().map(|transaction| transaction.tid);
        let Some(mut next) = next else {
            return Poll::Ready(None);
        };
        next.packed |= next.tid <= self.packed_at;
        if self.order == Order::Descending {
            self.look_at(&next);
        }
        Poll::Ready(Some(Ok(next)))
    }
}

/// What one transaction did to its objects, by ascending oid: a stream. Made by
/// [`Transactions::objects`], and goes on where the last one was dropped.
///
/// Its errors are as those of [`Transactions`], and [`Error::Checksum`], after which it goes on with
/// the next object.
#[derive(Debug)]
pub struct TransactionObjects<'a>(&'a mut Transactions);

impl TransactionObjects<'_> {
    pub(crate) const fn client(&self) -> &Client {
        self.0.client()
    }
}

impl Stream for TransactionObjects<'_> {
    type Item = Result<TransactionObject>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_object(cx)
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
