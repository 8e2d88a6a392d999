//! Committed transactions with what they wrote, in order of tid.
//!
//! Metadata lives in the partition of the tid, revisions in those of the objects: a cursor for
//! each partition and kind reads page after page, and the cursors are merged. Memory is bounded by
//! a page of each.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use bytes::Bytes;
use neo_api::{Oid, Partition, Record, RevisionId, Tid, TransactionRecord};
use neo_proto::WireRevision;

use crate::client::{Client, unexpected};
use crate::codec;
use crate::core::{Command, Page, Reply, ReplyId};
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

#[derive(Debug)]
struct Cursor<T> {
    partition: Partition,
    page: VecDeque<T>,
    /// Where the next page starts; `None`: there is none.
    next: Option<RevisionId>,
}

impl<T> Cursor<T> {
    fn needs_page(&self) -> bool {
        self.page.is_empty() && self.next.is_some()
    }
}

type Revision = (WireRevision, Option<Bytes>);

/// Transactions in a range of tids, ascending. Made by [`Client::iterate`].
///
/// What is committed after it was made is not part of it.
#[derive(Debug)]
pub struct Transactions {
    client: Client,
    stop: Tid,
    page_bytes: u32,
    metadata: Vec<Cursor<TransactionRecord>>,
    revisions: Vec<Cursor<Revision>>,
    /// The transaction whose objects are told.
    current: Option<Tid>,
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
        let last_tid = self.sync().await?;
        let partitioning = self
            .partitioning()
            .ok_or_else(|| Error::NotReady("the partition table is not known".into()))?;
        let (start, stop) = (*range.start(), (*range.end()).min(last_tid));
        let next = (start <= stop).then_some(RevisionId {
            tid: start,
            oid: Oid::ZERO,
        });
        Ok(Transactions {
            client: self.clone(),
            stop,
            page_bytes: (BYTES / partitioning.count()).max(PAGE_BYTES_MIN),
            metadata: cursors(partitioning.iter(), next),
            revisions: cursors(partitioning.iter(), next),
            current: None,
        })
    }

    /// A transaction's metadata; `None`: no transaction has this tid.
    ///
    /// # Errors
    /// [`Error::NotReady`] or [`Error::Timeout`].
    ///
    /// Cancel safe.
    pub async fn transaction(&self, tid: Tid) -> Result<Option<TransactionRecord>> {
        let page = Page::TransactionInformation { tid };
        match self.ask(|reply| Command::Page { reply, page }).await? {
            Reply::Transaction(found) => Ok(found.map(|transaction| (*transaction).into())),
            other => Err(unexpected(&other)),
        }
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
        self.fill_metadata().await?;
        let first = self
            .metadata
            .iter_mut()
            .filter(|cursor| !cursor.page.is_empty())
            .min_by_key(|cursor| cursor.page.front().map(|transaction| transaction.tid));
        let next = first.and_then(|cursor| cursor.page.pop_front());
        self.current = next.as_ref().map(|transaction| transaction.tid);
        Ok(next)
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
        let place: std::collections::BTreeMap<Oid, usize> = of
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
            let stop = self.stop;
            let page = |cursor: &Cursor<TransactionRecord>| {
                cursor.next.map(|min| Page::Transactions {
                    partition: cursor.partition,
                    min: min.tid,
                    max: stop,
                    entries: ENTRIES,
                })
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
                let ascending = transactions
                    .windows(2)
                    .all(|pair| pair[0].tid < pair[1].tid);
                let min = cursor.next.map_or(Tid::ZERO, |next| next.tid);
                let in_range = transactions.iter().all(|t| t.tid >= min && t.tid <= stop);
                if !ascending || !in_range || (transactions.is_empty() && !complete) {
                    return Err(Error::Node("a storage answers other transactions".into()));
                }
                let last = transactions.last().and_then(|last| last.tid.checked_next());
                cursor.next = last.filter(|_| !complete).map(|tid| RevisionId {
                    tid,
                    oid: Oid::ZERO,
                });
                cursor
                    .page
                    .extend(transactions.into_iter().map(TransactionRecord::from));
            }
        }
    }

    async fn fill_revisions(&mut self) -> Result<()> {
        loop {
            let (stop, bytes) = (self.stop, self.page_bytes);
            // Of transactions that were skipped, nothing is read.
            let from = RevisionId {
                tid: self.current.unwrap_or_default(),
                oid: Oid::ZERO,
            };
            let page = |cursor: &Cursor<Revision>| {
                cursor.next.map(|min| Page::Revisions {
                    partition: cursor.partition,
                    min: min.max(from),
                    max: stop,
                    bytes,
                })
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

fn cursors<T>(
    partitions: impl Iterator<Item = Partition>,
    next: Option<RevisionId>,
) -> Vec<Cursor<T>> {
    partitions
        .map(|partition| Cursor {
            partition,
            page: VecDeque::new(),
            next,
        })
        .collect()
}

/// The least revision id after one.
fn after(id: RevisionId) -> Option<RevisionId> {
    match id.oid.checked_next() {
        Some(oid) => Some(RevisionId { tid: id.tid, oid }),
        None => id.tid.checked_next().map(|tid| RevisionId {
            tid,
            oid: Oid::ZERO,
        }),
    }
}

/// Asks for the pages of all cursors that need one, at once.
async fn fetch<T>(
    client: &Client,
    cursors: &[Cursor<T>],
    page: impl Fn(&Cursor<T>) -> Option<Page>,
) -> Result<Vec<(usize, Reply)>> {
    let mut asked = Vec::new();
    for (at, cursor) in cursors.iter().enumerate() {
        if cursor.needs_page()
            && let Some(page) = page(cursor)
        {
            let pending = client.inner.shared.wait()?;
            let reply: ReplyId = pending.id;
            client
                .inner
                .commands
                .send(Command::Page { reply, page })
                .await?;
            asked.push((at, pending));
        }
    }
    let mut replies = Vec::new();
    for (at, pending) in asked {
        match pending.answer().await? {
            crate::shell::Answer::Reply(reply) => replies.push((at, reply)),
            other => return Err(Error::Node(format!("{other:?} is no page"))),
        }
    }
    Ok(replies)
}
