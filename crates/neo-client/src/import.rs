//! Bulk loads: ordered, pipelined, committed by checkpoints.

use std::collections::VecDeque;

use bytes::Bytes;
use neo_api::{Oid, RevisionId, Tid, TransactionRecord};
use neo_proto::{WireRevision, WireTransaction, WireValue};

use crate::client::{Client, unexpected};
use crate::codec;
use crate::core::{Command, ImportKey, Reply};
use crate::error::{Error, Result};
use crate::iterator::TransactionObject;
use crate::shell::Pending;

/// Bytes of a batch, about.
const BATCH_BYTES: usize = 1 << 20;
/// Transactions and revisions of a batch, at most.
const BATCH_ENTRIES: usize = 10_000;
/// Batches in flight.
const WINDOW: usize = 8;

/// An import: transactions with their tids, in order, alone on the cluster. Made by
/// [`Client::import`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
/// use neo_client::{Oid, Tid, TransactionObject, TransactionRecord};
///
/// let mut import = client.import().await?;
/// for n in 1..=3 {
///     let (tid, oid) = (Tid(import.last_tid().0 + 1), Oid(n));
///     let record = TransactionRecord {
///         tid,
///         txn: None,
///         meta: Default::default(),
///         oids: vec![oid],
///         packed: false,
///         pack: None,
///     };
///     import.push(record, [TransactionObject::new(oid, Some("imported".into()))]).await?;
/// }
/// let last = import.finish().await?;
/// assert_eq!(client.sync().await?, last);
/// assert_eq!(client.load(Oid(3)).await?.unwrap().data, "imported");
/// # Ok(()) }
/// ```
///
/// Dropped before [`finish`](Self::finish), it ends at its last checkpoint: what came after is
/// removed.
#[derive(Debug)]
pub struct Import {
    client: Client,
    key: ImportKey,
    /// The greatest tid that was taken.
    last_tid: Tid,
    last_oid: Oid,
    /// Up to where everything is committed.
    committed: Tid,
    transactions: Vec<WireTransaction>,
    revisions: Vec<(WireRevision, Bytes)>,
    bytes: usize,
    in_flight: VecDeque<Pending>,
    /// Set while a call is on, too: half a transaction must not be committed, whoever goes on
    /// after an error or a future that was dropped.
    failed: Option<Error>,
    ended: bool,
}

impl Drop for Import {
    fn drop(&mut self) {
        if !self.ended {
            let (import, reply) = (self.key, None);
            let commands = &self.client.inner.commands;
            commands.send_later(Command::EndImport { import, reply });
        }
    }
}

impl Client {
    /// Begins an import, after the last transaction of the database.
    ///
    /// [Example](Import).
    ///
    /// # Errors
    /// [`Error::NotReady`] while transactions are pending, or another import is on;
    /// [`Error::ReadOnly`].
    ///
    /// Cancel safe: an import whose beginning is not waited for ends.
    pub async fn import(&self) -> Result<Import> {
        self.check_writable()?;
        let import = ImportKey(self.inner.shared.id());
        // From here on, dropping it ends it.
        let mut session = Import {
            client: self.clone(),
            key: import,
            last_tid: Tid::ZERO,
            last_oid: Oid::ZERO,
            committed: Tid::ZERO,
            transactions: Vec::new(),
            revisions: Vec::new(),
            bytes: 0,
            in_flight: VecDeque::new(),
            failed: None,
            ended: false,
        };
        match self
            .ask(|reply| Command::BeginImport { import, reply })
            .await?
        {
            Reply::ImportBegun(tid) => {
                session.last_tid = tid;
                session.committed = tid;
                Ok(session)
            }
            other => Err(unexpected(&other)),
        }
    }
}

impl Import {
    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// The greatest tid so far: the next transaction's must be greater.
    #[must_use]
    pub const fn last_tid(&self) -> Tid {
        self.last_tid
    }

    /// The tid up to which everything is committed.
    #[must_use]
    pub const fn committed_tid(&self) -> Tid {
        self.committed
    }

    /// Adds a transaction with its objects. Sent in batches, several at once; waited for only when
    /// too many are on their way.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a tid that is not greater than those before, or beyond [`Tid::MAX`]:
    /// nothing was done then. After any other error the import can only be dropped, and every call
    /// returns it again: [`Error::TooLarge`], or what made the import fail.
    ///
    /// Not cancel safe: after its future was dropped, the import can only be dropped.
    pub async fn push(
        &mut self,
        transaction: TransactionRecord,
        objects: impl IntoIterator<Item = TransactionObject>,
    ) -> Result<()> {
        self.enter()?;
        let tid = transaction.tid;
        if tid <= self.last_tid || tid > Tid::MAX {
            let words = format!(
                "tid {tid} must be above {} and at most {}",
                self.last_tid,
                Tid::MAX
            );
            self.failed = None;
            return Err(Error::Misuse(words));
        }
        let pushed = self.add(transaction, objects).await;
        self.leave(pushed)
    }

    /// Begins a call that changes the import.
    fn enter(&mut self) -> Result<()> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None => {
                let words = "a call of this import was dropped before it was done";
                self.failed = Some(Error::Misuse(words.into()));
                Ok(())
            }
        }
    }

    /// Ends it.
    fn leave<T>(&mut self, result: Result<T>) -> Result<T> {
        self.failed = result.as_ref().err().cloned();
        result
    }

    async fn add(
        &mut self,
        transaction: TransactionRecord,
        objects: impl IntoIterator<Item = TransactionObject>,
    ) -> Result<()> {
        let tid = transaction.tid;
        self.last_tid = tid;
        let oids = transaction.oids.iter().copied().max();
        self.last_oid = self.last_oid.max(oids.unwrap_or_default());
        self.transactions.push(transaction.into());
        for object in objects {
            self.push_object(tid, object)?;
            if self.bytes >= BATCH_BYTES || self.revisions.len() >= BATCH_ENTRIES {
                self.send().await?;
            }
        }
        if self.transactions.len() >= BATCH_ENTRIES {
            self.send().await?;
        }
        Ok(())
    }

    fn push_object(&mut self, tid: Tid, object: TransactionObject) -> Result<()> {
        let TransactionObject {
            oid,
            data,
            data_serial,
        } = object;
        self.last_oid = self.last_oid.max(oid);
        let record = data.map(|data| codec::encode(oid, data, self.client.inner.compression));
        let record = record.transpose()?;
        let bytes = record.as_ref().map_or(0, |record| record.data.len());
        let value = record.as_ref().map(|record| WireValue {
            compression: record.compression,
            checksum: record.checksum,
            bytes: u32::try_from(bytes).expect("encode refuses what is longer than 64 MiB"),
        });
        let revision = WireRevision {
            id: RevisionId { tid, oid },
            value,
            data_serial,
        };
        self.bytes += bytes;
        let data = record.map(|record| record.data).unwrap_or_default();
        self.revisions.push((revision, data));
        Ok(())
    }

    async fn send(&mut self) -> Result<()> {
        if self.transactions.is_empty() && self.revisions.is_empty() {
            return Ok(());
        }
        while self.in_flight.len() >= WINDOW {
            self.wait_one().await?;
        }
        let pending = self.client.inner.shared.wait()?;
        let command = Command::ImportBatch {
            import: self.key,
            reply: pending.id,
            transactions: std::mem::take(&mut self.transactions),
            revisions: std::mem::take(&mut self.revisions),
        };
        self.bytes = 0;
        self.client.inner.commands.send(command).await?;
        self.in_flight.push_back(pending);
        Ok(())
    }

    async fn wait_one(&mut self) -> Result<()> {
        if let Some(pending) = self.in_flight.pop_front() {
            pending.answer().await?;
        }
        Ok(())
    }

    /// Commits everything so far, durably, and returns the last tid. Readers see it then.
    ///
    /// # Errors
    /// What made the import fail: it ended at its last checkpoint then.
    ///
    /// Not cancel safe: after its future was dropped, the import can only be dropped.
    pub async fn checkpoint(&mut self) -> Result<Tid> {
        self.enter()?;
        let committed = self.commit().await;
        self.leave(committed)
    }

    async fn commit(&mut self) -> Result<Tid> {
        self.send().await?;
        while !self.in_flight.is_empty() {
            self.wait_one().await?;
        }
        if self.committed == self.last_tid {
            return Ok(self.committed);
        }
        let (import, tid, last_oid) = (self.key, self.last_tid, self.last_oid);
        let reply = self
            .client
            .ask(|reply| Command::CheckpointImport {
                import,
                reply,
                tid,
                last_oid,
            })
            .await?;
        match reply {
            Reply::LastTid(tid) => {
                self.committed = tid;
                Ok(tid)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Commits everything, ends the import, and returns the last tid.
    ///
    /// # Errors
    /// As [`checkpoint`](Self::checkpoint).
    ///
    /// Not cancel safe: dropped before it is done, the import ends at its last checkpoint.
    pub async fn finish(mut self) -> Result<Tid> {
        let tid = self.checkpoint().await?;
        let import = self.key;
        let end = |reply| Command::EndImport {
            import,
            reply: Some(reply),
        };
        self.client.ask(end).await?;
        self.ended = true;
        Ok(tid)
    }
}
