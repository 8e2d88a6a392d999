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
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// # use neo_client::Error;
    /// let oid = client.new_oid().await?;
    /// for value in ["old", "new"] {
    ///     client.transact(|txn| async move { txn.store(oid, value).await }).await?;
    /// }
    /// let old = client.load(oid).await?.expect("it is there").serial;
    /// let old = client.load_before(oid, old).await?.object().expect("it was there").serial;
    ///
    /// let pack = client.pack(client.last_tid()).await?;
    /// pack.wait().await?;
    /// // What it was before is refused, rather than told wrongly.
    /// let past = client.snapshot_at(old).await?;
    /// assert!(matches!(past.load(oid).await, Err(Error::PackedAway { .. })));
    /// assert_eq!(client.load(oid).await?.unwrap().data, "new");
    /// # Ok(()) }
    /// ```
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
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// # let oid = client.new_oid().await?;
    /// # client.transact(|txn| async move { txn.store(oid, "x").await }).await?;
    /// client.pack_objects(client.last_tid(), vec![oid]).await?.wait().await?;
    /// # Ok(()) }
    /// ```
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
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// # let oid = client.new_oid().await?;
    /// # client.transact(|txn| async move { txn.store(oid, "x").await }).await?;
    /// let id = client.pack(client.last_tid()).await?.id();
    /// // Later, maybe in another process that was told the id:
    /// client.pack_of(id).wait().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn pack_of(&self, id: Tid) -> Pack {
        let client = self.clone();
        Pack { client, id }
    }

    /// How far the cluster is with its packs.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// let progress = client.pack_progress().await?;
    /// match progress.order {
    ///     Some(order) => println!("{order}: {} of {} copies", progress.cells_done, progress.cells),
    ///     None => println!("all packs are done"),
    /// }
    /// # assert_eq!(progress.order, None);
    /// # Ok(()) }
    /// ```
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
    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// The tid of the transaction that ordered it.
    ///
    /// [Example](Client::pack_of).
    #[must_use]
    pub const fn id(&self) -> Tid {
        self.id
    }

    /// Waits until every readable cell has been packed, however long it takes, whatever primary
    /// master there is. A copy that catches up is packed when it is readable. The cache begins anew
    /// then: it may have what is gone.
    ///
    /// [Example](Client::pack).
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
