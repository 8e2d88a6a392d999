//! Packs: what was replaced up to some time goes, to make room.

use neo_api::{Oid, PackOrder, Tid, TransactionMeta, VotedRecord};
use neo_proto::PackProgress;

use crate::client::{Client, unexpected};
use crate::core::{Command, Reply};
use crate::error::{Error, Result};
use crate::transaction::Transaction;

/// A pack that was ordered: see [`Client::pack`].
#[derive(Debug, Clone)]
pub struct Pack {
    client: Client,
    id: Tid,
}

impl Client {
    /// Orders a pack, durably, of all objects: of each, what was replaced up to `at` goes, and an
    /// object that was deleted up to then goes as a whole. What is newest at `at` stays: snapshots
    /// at `at` or later read what they did before. No garbage is collected: what nothing refers to
    /// stays as long as nobody deletes it.
    ///
    /// The cluster packs in the background, whoever is there: [`Pack::wait`] waits for the end.
    /// An `at` after the last transaction means that one.
    ///
    /// # Errors
    /// As those of a transaction; nothing is ordered then, except with [`Error::Unknown`].
    ///
    /// Not cancel safe: it may be ordered.
    pub async fn pack(&self, at: Tid) -> Result<Pack> {
        self.order_pack(at, None).await
    }

    /// The same, of some objects only; at most [`PACK_OIDS_MAX`](neo_api::PACK_OIDS_MAX).
    ///
    /// # Errors
    /// As [`pack`](Self::pack); [`Error::TooLarge`] for more objects.
    ///
    /// Not cancel safe: it may be ordered.
    pub async fn pack_objects(&self, at: Tid, mut oids: Vec<Oid>) -> Result<Pack> {
        oids.sort_unstable();
        oids.dedup();
        self.order_pack(at, Some(oids)).await
    }

    async fn order_pack(&self, at: Tid, oids: Option<Vec<Oid>>) -> Result<Pack> {
        let at = at.min(self.sync().await?);
        let order = PackOrder { at, oids };
        if !order.is_valid() {
            let max = neo_api::PACK_OIDS_MAX;
            let words = format!("a pack of some objects names {max} at most; order several");
            return Err(Error::TooLarge(words));
        }
        let record = VotedRecord {
            meta: TransactionMeta {
                description: "pack".into(),
                ..TransactionMeta::default()
            },
            pack: Some(order),
            ..VotedRecord::default()
        };
        let transaction = Transaction::begin(self.clone(), record, None).await?;
        transaction.vote().await?;
        let id = transaction.finish().await?;
        Ok(self.pack_of(id))
    }

    /// The pack that transaction `id` ordered, to wait for it.
    #[must_use]
    pub fn pack_of(&self, id: Tid) -> Pack {
        let client = self.clone();
        Pack { client, id }
    }

    /// How far the cluster is with its packs.
    ///
    /// # Errors
    /// [`Error::NotReady`] or [`Error::Timeout`].
    ///
    /// Cancel safe.
    pub async fn pack_progress(&self) -> Result<PackProgress> {
        match self.ask(|reply| Command::PackProgress { reply }).await? {
            Reply::PackProgress(progress) => Ok(progress),
            other => Err(unexpected(&other)),
        }
    }
}

impl Pack {
    /// The tid of the transaction that ordered it.
    #[must_use]
    pub const fn id(&self) -> Tid {
        self.id
    }

    /// Waits until every readable cell has been packed, however long it takes, whatever primary
    /// master there is. A copy that catches up is packed when it is readable. The cache begins anew
    /// then: it may have what is gone.
    ///
    /// # Errors
    /// [`Error::Denied`] when there is no such transaction; [`Error::Closed`].
    ///
    /// Cancel safe.
    pub async fn wait(&self) -> Result<()> {
        let id = self.id;
        let ask = |reply| Command::WaitPack { reply, id };
        match self.client.ask(ask).await? {
            Reply::Done => {
                self.client.inner.shared.cache.clear();
                Ok(())
            }
            other => Err(unexpected(&other)),
        }
    }
}
