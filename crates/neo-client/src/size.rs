//! How large the database is.

use crate::client::{Client, unexpected};
use crate::core::{Page, Reply};
use crate::cursor::of_all;
use crate::error::Result;

impl Client {
    /// Bytes that one copy of the database takes on the storage nodes, more or less, with its
    /// history: for people.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// println!("{} MiB", client.database_bytes().await? >> 20);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotReady`](crate::Error::NotReady) or [`Error::Timeout`](crate::Error::Timeout).
    ///
    /// Cancel safe.
    pub async fn database_bytes(&self) -> Result<u64> {
        let mut sum = 0_u64;
        for reply in of_all(self, |partition| Page::Size { partition }).await? {
            match reply {
                Reply::Size(bytes) => sum = sum.saturating_add(bytes),
                other => return Err(unexpected(&other)),
            }
        }
        Ok(sum)
    }
}
