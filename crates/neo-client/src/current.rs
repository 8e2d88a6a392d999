//! All objects as they were at some tid.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use neo_api::{Oid, Record, Tid};
use neo_proto::WireRevision;

use crate::client::{Client, unexpected};
use crate::codec;
use crate::core::{Page, Reply};
use crate::cursor::Cursors;
use crate::error::{Error, Result};

/// Bytes of values in the pages of all partitions together, about.
const BYTES: u32 = 32 << 20;
/// The least for one.
const PAGE_BYTES_MIN: u32 = 16 << 10;

/// An object as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CurrentObject {
    /// Which object.
    pub oid: Oid,
    /// The transaction that wrote it.
    pub serial: Tid,
    /// Its value, unless values are not wanted.
    pub data: Option<Bytes>,
    /// The earlier revision that it repeats (an undo).
    pub data_serial: Option<Tid>,
}

/// Objects by ascending oid, as they were at one tid: a stream. Made by
/// [`Client::current_objects`].
///
/// Its errors are [`Error::NotReady`] and [`Error::Timeout`], after which it may be polled again and
/// goes on; [`Error::Checksum`], after which it goes on with the next object; and
/// [`Error::PackedAway`], when a pack has been past the tid, and other ones, which end it. About 32
/// MiB are in memory at a time, or one value if that is larger. Dropping it costs nothing.
#[derive(Debug)]
pub struct CurrentObjects {
    client: Client,
    at: Tid,
    values: bool,
    page_bytes: u32,
    cursors: Cursors<(WireRevision, Option<Bytes>), Oid>,
}

impl Client {
    /// Every object that has a value at `at`, from the oid `start` on, ascending: the newest
    /// revision up to that tid. With a tid in the future, as of everything that is committed before
    /// the call.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// use futures_util::TryStreamExt;
    /// use neo_client::{Oid, Tid};
    ///
    /// # let oid = client.new_oid().await?;
    /// # client.transact(|txn| async move { txn.store(oid, "x").await }).await?;
    /// let objects = client.current_objects(Tid::MAX, Oid::ZERO).await?.without_values();
    /// let tid = objects.tid();
    /// let count = objects.try_fold(0, async |count, _| Ok(count + 1)).await?;
    /// println!("{count} objects at {tid}");
    /// # assert_eq!(count, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotReady`] or [`Error::Timeout`].
    ///
    /// Cancel safe.
    pub async fn current_objects(&self, mut at: Tid, start: Oid) -> Result<CurrentObjects> {
        if at > self.last_tid() {
            at = at.min(self.sync().await?);
        }
        let partitioning = self.known_partitioning()?;
        Ok(CurrentObjects {
            client: self.clone(),
            at,
            values: true,
            page_bytes: (BYTES / partitioning.count()).max(PAGE_BYTES_MIN),
            cursors: Cursors::of_each(partitioning.iter(), Some(start)),
        })
    }
}

impl CurrentObjects {
    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// The tid that it shows the database at.
    ///
    /// [Example](Client::current_objects).
    #[must_use]
    pub const fn tid(&self) -> Tid {
        self.at
    }

    /// Only which objects there are: values are not read.
    ///
    /// [Example](Client::current_objects).
    #[must_use]
    pub const fn without_values(mut self) -> Self {
        self.values = false;
        self
    }

    /// Until each partition has an object at hand, or none left. A page may have none although
    /// there are more: of objects that are deleted, it looks at a bounded number.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let (at, bytes, values) = (self.at, self.page_bytes, self.values);
        let page = |partition, min| Page::Current {
            partition,
            min,
            at,
            bytes,
            values,
        };
        self.cursors
            .poll_fill(cx, &self.client, page, |cursor, reply| {
                let (revisions, next) = match reply {
                    Reply::Current { revisions, next } => (revisions, next),
                    Reply::PackedAway => {
                        let oid = cursor.next.unwrap_or_default();
                        return Err(Error::PackedAway { oid, tid: at });
                    }
                    other => return Err(unexpected(&other)),
                };
                cursor.page.extend(revisions);
                cursor.next = next;
                Ok(())
            })
    }
}

impl Stream for CurrentObjects {
    type Item = Result<CurrentObject>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Err(error) = ready!(self.poll_fill(cx)) {
            return Poll::Ready(Some(Err(error)));
        }
        let cursors = self.cursors.filled();
        let first =
            cursors.min_by_key(|cursor| cursor.page.front().map(|(revision, _)| revision.id.oid));
        let next = first.and_then(|cursor| cursor.page.pop_front());
        let values = self.values;
        Poll::Ready(next.map(|revision| open(revision, values)))
    }
}

fn open((revision, value): (WireRevision, Option<Bytes>), values: bool) -> Result<CurrentObject> {
    let (oid, serial) = (revision.id.oid, revision.id.tid);
    let data = match (revision.value, value) {
        (Some(wire), Some(data)) if values => {
            let record = Record {
                compression: wire.compression,
                checksum: wire.checksum,
                data,
            };
            let damaged = Error::Checksum { oid, tid: serial };
            Some(codec::decode(&record).ok_or(damaged)?)
        }
        _ => None,
    };
    Ok(CurrentObject {
        oid,
        serial,
        data,
        data_serial: revision.data_serial,
    })
}
