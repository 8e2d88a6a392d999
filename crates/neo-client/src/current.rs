//! All objects as they were at some tid.

use bytes::Bytes;
use neo_api::{Oid, Record, Tid};
use neo_proto::WireRevision;

use crate::client::{Client, unexpected};
use crate::codec;
use crate::core::{Page, Reply};
use crate::cursor::{Cursor, fetch};
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

/// Objects by ascending oid, as they were at one tid. Made by [`Client::current_objects`].
#[derive(Debug)]
pub struct CurrentObjects {
    client: Client,
    at: Tid,
    values: bool,
    page_bytes: u32,
    cursors: Vec<Cursor<(WireRevision, Option<Bytes>), Oid>>,
}

impl Client {
    /// Every object that has a value at `at`, from the oid `start` on, ascending: the newest
    /// revision up to that tid. With a tid in the future, as of everything that is committed before
    /// the call.
    ///
    /// ```no_run
    /// # use neo_client::{Client, Error, Oid, Tid};
    /// # async fn f(client: Client) -> Result<(), Error> {
    /// let mut objects = client.current_objects(Tid::MAX, Oid::ZERO).await?.without_values();
    /// let mut count = 0;
    /// while objects.next().await?.is_some() {
    ///     count += 1;
    /// }
    /// println!("{count} objects at {}", objects.tid());
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
        self.inner.shared.check_open()?;
        let partitioning = self
            .partitioning()
            .ok_or_else(|| Error::NotReady("the partition table is not known".into()))?;
        Ok(CurrentObjects {
            client: self.clone(),
            at,
            values: true,
            page_bytes: (BYTES / partitioning.count()).max(PAGE_BYTES_MIN),
            cursors: Cursor::of_each(partitioning.iter(), Some(start)),
        })
    }
}

impl CurrentObjects {
    /// The tid that it shows the database at.
    #[must_use]
    pub const fn tid(&self) -> Tid {
        self.at
    }

    /// Only which objects there are: values are not read.
    #[must_use]
    pub const fn without_values(mut self) -> Self {
        self.values = false;
        self
    }

    /// The next object; `None` at the end.
    ///
    /// # Errors
    /// [`Error::NotReady`] or [`Error::Timeout`]: it may be called again, and goes on.
    /// [`Error::Checksum`]. [`Error::PackedAway`] when a pack has been past the tid.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Result<Option<CurrentObject>> {
        self.fill().await?;
        let cursors = self.cursors.iter_mut();
        let first = cursors
            .filter(|cursor| !cursor.page.is_empty())
            .min_by_key(|cursor| cursor.page.front().map(|(revision, _)| revision.id.oid));
        let Some((revision, value)) = first.and_then(|cursor| cursor.page.pop_front()) else {
            return Ok(None);
        };
        let (oid, serial) = (revision.id.oid, revision.id.tid);
        let data = match (revision.value, value) {
            (Some(wire), Some(data)) if self.values => {
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
        Ok(Some(CurrentObject {
            oid,
            serial,
            data,
            data_serial: revision.data_serial,
        }))
    }

    /// Until each partition has an object at hand, or none left. A page may have none although
    /// there are more: of objects that are deleted, it looks at a bounded number.
    async fn fill(&mut self) -> Result<()> {
        loop {
            let (at, bytes, values) = (self.at, self.page_bytes, self.values);
            let page = |partition, min| Page::Current {
                partition,
                min,
                at,
                bytes,
                values,
            };
            let replies = fetch(&self.client, &self.cursors, page).await?;
            if replies.is_empty() {
                return Ok(());
            }
            for (at, reply) in replies {
                let cursor = &mut self.cursors[at];
                let (revisions, next) = match reply {
                    Reply::Current { revisions, next } => (revisions, next),
                    Reply::PackedAway => {
                        let (oid, tid) = (cursor.next.unwrap_or_default(), self.at);
                        return Err(Error::PackedAway { oid, tid });
                    }
                    other => return Err(unexpected(&other)),
                };
                cursor.page.extend(revisions);
                cursor.next = next;
            }
        }
    }
}
