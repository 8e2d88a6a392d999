//! Packs.

use neo_api::{Oid, PackOrder, Tid};
use neo_client::Error;
use neo_client::core::{Command, Reply};
use neo_proto::PackProgress;

use super::SimClient;

impl SimClient {
    /// Orders a pack: of all objects, or of these. Its id.
    ///
    /// # Errors
    /// As the core says.
    pub async fn pack(&self, at: Tid, oids: Option<Vec<Oid>>) -> Result<Tid, Error> {
        let at = at.min(self.sync().await?);
        let mut txn = self.begin().await?;
        txn.pack = Some(PackOrder { at, oids });
        txn.vote().await?;
        txn.finish().await
    }

    /// Waits for a pack, however long it takes.
    ///
    /// # Errors
    /// As the core says.
    pub async fn wait_pack(&self, id: Tid) -> Result<(), Error> {
        self.request(|reply| Command::WaitPack { reply, id })
            .await
            .map(drop)
    }

    /// How far packs are.
    ///
    /// # Errors
    /// As the core says.
    pub async fn pack_progress(&self) -> Result<PackProgress, Error> {
        match self
            .request(|reply| Command::PackProgress { reply })
            .await?
        {
            Reply::PackProgress(progress) => Ok(progress),
            other => panic!("an answer of another kind: {other:?}"),
        }
    }
}
