//! How large the database is.

use crate::client::{Client, unexpected};
use crate::core::{Page, Reply};
use crate::cursor::{Cursor, fetch};
use crate::error::{Error, Result};

impl Client {
    /// Bytes that one copy of the database takes on the storage nodes, more or less, with its
    /// history: for people.
    ///
    /// # Errors
    /// [`Error::NotReady`] or [`Error::Timeout`].
    ///
    /// Cancel safe.
    pub async fn database_bytes(&self) -> Result<u64> {
        self.inner.shared.check_open()?;
        let partitioning = self
            .partitioning()
            .ok_or_else(|| Error::NotReady("the partition table is not known".into()))?;
        let cursors = Cursor::<(), ()>::of_each(partitioning.iter(), Some(()));
        let page = |partition, ()| Page::Size { partition };
        let mut sum = 0_u64;
        for (_, reply) in fetch(self, &cursors, page).await? {
            match reply {
                Reply::Size(bytes) => sum = sum.saturating_add(bytes),
                other => return Err(unexpected(&other)),
            }
        }
        Ok(sum)
    }
}
