//! The past of one object, and transactions by their tids.

use neo_api::{HistoryEntry, Oid, Tid, TransactionRecord};

use crate::client::{Client, unexpected};
use crate::core::{Command, Page, Reply};
use crate::error::Result;

/// Entries of a page.
const ENTRIES: usize = 10_000;

impl Client {
    /// The revisions of an object with a serial *below* `before`, newest first, deletions included,
    /// `limit` at most. As of one transaction: with a tid in the future, of everything that is
    /// committed. Empty when there are none; then the object was not created before.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    ///
    /// Cancel safe.
    pub async fn history(
        &self,
        oid: Oid,
        mut before: Tid,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>> {
        self.inner.shared.check_open()?;
        let mut found = Vec::new();
        while found.len() < limit {
            let entries = (limit - found.len()).min(ENTRIES) as u32;
            let page = Page::History {
                oid,
                before,
                entries,
            };
            match self.ask(|reply| Command::Page { reply, page }).await? {
                Reply::History { entries, complete } => {
                    before = entries.last().map_or(before, |last| last.serial);
                    found.extend(entries);
                    if complete {
                        break;
                    }
                }
                other => return Err(unexpected(&other)),
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// A transaction's metadata; `None`: no transaction has this tid, or packs have removed all that
    /// it wrote.
    ///
    /// # Errors
    /// [`Error::NotReady`](crate::Error::NotReady) or [`Error::Timeout`](crate::Error::Timeout).
    ///
    /// Cancel safe.
    pub async fn transaction(&self, tid: Tid) -> Result<Option<TransactionRecord>> {
        let page = Page::TransactionInformation { tid };
        match self.ask(|reply| Command::Page { reply, page }).await? {
            Reply::Transaction(found) => {
                let found = found.map(|transaction| TransactionRecord::from(*transaction));
                Ok(found.filter(|transaction| !transaction.is_emptied()))
            }
            other => Err(unexpected(&other)),
        }
    }
}
