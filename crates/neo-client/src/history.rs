//! The past of one object, and transactions by their tids.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use neo_api::{HistoryEntry, Oid, Partition, Tid, TransactionRecord};

use crate::client::{Client, unexpected};
use crate::core::{Command, Page, Reply};
use crate::cursor::{self, Cursors};
use crate::error::Result;

/// Entries of the first page: mostly the newest ones are wanted.
const ENTRIES_MIN: u32 = 16;
/// Each page has so many times as many as the one before,
const GROWTH: u32 = 16;
/// up to so many.
const ENTRIES_MAX: u32 = 10_000;

/// Transactions that are asked for together.
const TRANSACTIONS_ASKED: usize = 64;

/// The revisions of an object, newest first, deletions included: a stream. Made by
/// [`Client::history`].
///
/// After [`Error::NotReady`](crate::Error::NotReady) and [`Error::Timeout`](crate::Error::Timeout) it
/// may be polled again, and goes on; after another error it is at its end. Dropping it costs
/// nothing.
#[derive(Debug)]
pub struct History {
    client: Client,
    oid: Oid,
    entries: u32,
    cursors: Cursors<HistoryEntry, Tid>,
}

impl Client {
    /// The revisions of an object with a serial *below* `before`, newest first, deletions included:
    /// as of one transaction; with a tid in the future, of everything that is committed when the
    /// stream is first polled. Empty when there are none; then the object was not created before.
    ///
    /// Nothing is asked before the stream is polled. Who takes few of them reads few.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// use futures_util::{StreamExt, TryStreamExt};
    /// use neo_client::{HistoryEntry, Tid};
    ///
    /// let oid = client.new_oid().await?;
    /// for value in ["a", "bb", "ccc"] {
    ///     client.transact(|txn| async move { txn.store(oid, value).await }).await?;
    /// }
    /// let newest: Vec<HistoryEntry> = client.history(oid, Tid::MAX).take(2).try_collect().await?;
    /// assert_eq!((newest[0].bytes, newest[1].bytes), (Some(3), Some(2)));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of the stream are as [`load`](Self::load).
    #[must_use]
    pub fn history(&self, oid: Oid, before: Tid) -> History {
        History {
            client: self.clone(),
            oid,
            entries: ENTRIES_MIN,
            // The client knows which partition has it.
            cursors: Cursors::of_each(std::iter::once(Partition(0)), Some(before)),
        }
    }

    /// A transaction's metadata; `None`: no transaction has this tid, or packs have removed all that
    /// it wrote.
    ///
    /// [Example](Self::begin).
    ///
    /// # Errors
    /// [`Error::NotReady`](crate::Error::NotReady) or [`Error::Timeout`](crate::Error::Timeout).
    ///
    /// Cancel safe.
    pub async fn transaction(&self, tid: Tid) -> Result<Option<TransactionRecord>> {
        let page = Page::TransactionInformation { tid };
        told(self.ask(|reply| Command::Page { reply, page }).await?)
    }

    /// The metadata of many transactions, in the order of their tids here, asked for together; each
    /// as [`transaction`](Self::transaction) tells it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// # let oid = client.new_oid().await?;
    /// # client.transact(|txn| async move { txn.store(oid, "x").await }).await?;
    /// use futures_util::{StreamExt, TryStreamExt};
    /// use neo_client::Tid;
    ///
    /// let serials: Vec<Tid> = client
    ///     .history(oid, Tid::MAX)
    ///     .take(20)
    ///     .map_ok(|entry| entry.serial)
    ///     .try_collect()
    ///     .await?;
    /// let transactions = client.transactions_of(&serials).await?;
    /// # assert!(transactions[0].is_some());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`transaction`](Self::transaction), of the first that fails.
    ///
    /// Cancel safe.
    pub async fn transactions_of(&self, tids: &[Tid]) -> Result<Vec<Option<TransactionRecord>>> {
        let mut found = Vec::with_capacity(tids.len());
        for some in tids.chunks(TRANSACTIONS_ASKED) {
            let pages = some
                .iter()
                .map(|tid| Page::TransactionInformation { tid: *tid });
            for (_, reply) in cursor::ask(self.clone(), pages.enumerate().collect()).await? {
                found.push(told(reply)?);
            }
        }
        Ok(found)
    }
}

fn told(reply: Reply) -> Result<Option<TransactionRecord>> {
    match reply {
        Reply::Transaction(found) => {
            let found = found.map(|transaction| TransactionRecord::from(*transaction));
            Ok(found.filter(|transaction| !transaction.is_emptied()))
        }
        other => Err(unexpected(&other)),
    }
}

impl History {
    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }
}

impl Stream for History {
    type Item = Result<HistoryEntry>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self {
            client,
            oid,
            entries,
            cursors,
        } = &mut *self;
        let (oid, count) = (*oid, *entries);
        let page = |_, before| Page::History {
            oid,
            before,
            entries: count,
        };
        let filled = cursors.poll_fill(cx, client, page, |cursor, reply| {
            let Reply::History {
                entries: page,
                complete,
            } = reply
            else {
                return Err(unexpected(&reply));
            };
            let last = page.last().map(|last| last.serial);
            cursor.next = last.filter(|_| !complete);
            cursor.page.extend(page);
            *entries = count.saturating_mul(GROWTH).min(ENTRIES_MAX);
            Ok(())
        });
        if let Err(error) = ready!(filled) {
            return Poll::Ready(Some(Err(error)));
        }
        let next = cursors.filled().next();
        Poll::Ready(next.and_then(|cursor| cursor.page.pop_front()).map(Ok))
    }
}
