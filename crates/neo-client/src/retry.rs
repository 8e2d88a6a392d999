//! Whole transactions, redone on conflicts.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use neo_api::{Oid, Tid, TransactionMeta};

use crate::client::Client;
use crate::core::Command;
use crate::error::{Error, Result};
use crate::object::{Object, Snapshot};
use crate::transaction::Transaction;

/// Pause before the second attempt, at most; doubled for each.
const PAUSE_FIRST: Duration = Duration::from_millis(2);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// One attempt of [`Client::transact`]: reads go through one snapshot, and stores start from what
/// they read. Clones are the same attempt.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
/// use neo_client::{Error, Tid};
///
/// let (list, item) = (client.new_oid().await?, client.new_oid().await?);
/// let new = client
///     .transact(|txn| async move {
///         // All reads are of one moment: `txn.tid()`.
///         assert_eq!(txn.load(item).await?, None);
///         // It relies on the list, which it does not change: so nobody else may change it meanwhile.
///         txn.check_current(list).await?;
///         let new = txn.new_oid().await?;
///         txn.store(new, "the content").await?;
///         // What it stored it reads; who else reads sees it when all is committed.
///         assert_eq!(txn.load(new).await?.unwrap().data, "the content");
///         Ok(new)
///     })
///     .await?;
/// client.transact(|txn| async move { txn.delete(new).await }).await?;
/// assert_eq!(client.load(new).await?, None);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Attempt {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    snapshot: Snapshot,
    meta: TransactionMeta,
    /// Begins with the first write: an attempt that only reads costs the master nothing.
    transaction: tokio::sync::Mutex<Option<Transaction>>,
    seen: Mutex<BTreeMap<Oid, Seen>>,
}

/// What the attempt knows of an object.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// Serial in the snapshot; 0: not there.
    serial: Tid,
    /// What the attempt stored; `Some(None)`: it deleted it.
    written: Option<Option<Bytes>>,
}

impl Attempt {
    pub(crate) fn client(&self) -> &Client {
        &self.inner.client
    }

    fn new(client: &Client, meta: TransactionMeta) -> Self {
        Self {
            inner: Arc::new(Inner {
                client: client.clone(),
                snapshot: client.snapshot(),
                meta,
                transaction: tokio::sync::Mutex::new(None),
                seen: Mutex::default(),
            }),
        }
    }

    /// The tid that it reads at.
    #[must_use]
    pub fn tid(&self) -> Tid {
        self.inner.snapshot.tid()
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<Oid, Seen>> {
        self.inner
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The object as of the snapshot, or as this attempt stored it (with serial 0 then).
    ///
    /// # Errors
    /// As [`Client::load`].
    ///
    /// Cancel safe.
    pub async fn load(&self, oid: Oid) -> Result<Option<Object>> {
        if let Some(written) = self.seen().get(&oid).and_then(|seen| seen.written.clone()) {
            let serial = Tid::ZERO;
            return Ok(written.map(|data| Object { data, serial }));
        }
        let object = self.inner.snapshot.load(oid).await?;
        // Of what is not there, a change looks for itself: a deletion has a serial, too.
        if let Some(object) = &object {
            self.seen().entry(oid).or_default().serial = object.serial;
        }
        Ok(object)
    }

    /// The serial that a change starts from: the object is read if it was not.
    async fn base(&self, oid: Oid) -> Result<Tid> {
        let known = self.seen().get(&oid).map(|seen| seen.serial);
        if let Some(serial) = known {
            return Ok(serial);
        }
        let serial = match self.inner.snapshot.look_up(oid).await? {
            crate::Lookup::Found { serial, .. } | crate::Lookup::Deleted { serial, .. } => serial,
            crate::Lookup::NotYet | crate::Lookup::Unknown => Tid::ZERO,
        };
        self.seen().entry(oid).or_default().serial = serial;
        Ok(serial)
    }

    /// Stores an object, over what the snapshot has of it.
    ///
    /// # Errors
    /// As [`Transaction::store`].
    ///
    /// Not cancel safe: leave the closure with an error after that.
    pub async fn store(&self, oid: Oid, data: impl Into<Bytes>) -> Result<()> {
        let data = data.into();
        let base = self.base(oid).await?;
        self.seen().entry(oid).or_default().written = Some(Some(data.clone()));
        let mut transaction = self.inner.transaction.lock().await;
        let transaction = self.begun(&mut transaction).await?;
        transaction.store(oid, base, data).await
    }

    /// Deletes an object that the snapshot has.
    ///
    /// # Errors
    /// As [`Transaction::delete`].
    ///
    /// Not cancel safe: leave the closure with an error after that.
    pub async fn delete(&self, oid: Oid) -> Result<()> {
        let base = self.base(oid).await?;
        self.seen().entry(oid).or_default().written = Some(None);
        let mut transaction = self.inner.transaction.lock().await;
        let transaction = self.begun(&mut transaction).await?;
        transaction.delete(oid, base).await
    }

    /// Makes sure that an object is at the commit what it is in the snapshot: for what the
    /// transaction only reads but relies on.
    ///
    /// # Errors
    /// As [`Transaction::check_current`].
    ///
    /// Not cancel safe: leave the closure with an error after that.
    pub async fn check_current(&self, oid: Oid) -> Result<()> {
        let base = self.base(oid).await?;
        let mut transaction = self.inner.transaction.lock().await;
        let transaction = self.begun(&mut transaction).await?;
        transaction.check_current(oid, base).await
    }

    /// An oid for a new object.
    ///
    /// # Errors
    /// As [`Client::new_oid`].
    ///
    /// Cancel safe.
    pub async fn new_oid(&self) -> Result<Oid> {
        let oid = self.inner.client.new_oid().await?;
        self.seen().insert(oid, Seen::default());
        Ok(oid)
    }

    async fn begun<'a>(&self, slot: &'a mut Option<Transaction>) -> Result<&'a Transaction> {
        if slot.is_none() {
            *slot = Some(self.inner.client.begin(self.inner.meta.clone()).await?);
        }
        slot.as_ref().ok_or(Error::Closed)
    }

    /// Commits what was written. `None`: nothing was.
    async fn commit(&self) -> Result<Option<Tid>> {
        let transaction = self.inner.transaction.lock().await.take();
        match transaction {
            Some(transaction) => transaction.commit().await.map(Some),
            None => Ok(None),
        }
    }
}

impl Client {
    /// Runs a transaction: `f` reads and writes through the [`Attempt`] that it is given, and what
    /// it wrote is committed when it returns. On a conflict, and whenever nothing was committed
    /// and trying again may help, `f` runs again on a newer snapshot, after a short pause that
    /// grows; up to [`attempts_max`](crate::ClientBuilder::attempts_max) times. Each attempt may
    /// wait for the [operation timeout](crate::ClientBuilder::operation_timeout), so all of them
    /// for 20 times as long, by default.
    ///
    /// An object is in conflict when it was changed since the snapshot and this transaction stores,
    /// deletes or checks it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// use neo_client::{Error, Oid};
    ///
    /// let (from, to): (Oid, Oid) = (client.new_oid().await?, client.new_oid().await?);
    /// client
    ///     .transact(|txn| async move {
    ///         txn.store(from, vec![100]).await?;
    ///         txn.store(to, vec![0]).await
    ///     })
    ///     .await?;
    /// // Both changes, or none; and nobody else's change is overwritten.
    /// let left = client
    ///     .transact(|txn| async move {
    ///         let account = |object: Option<neo_client::Object>| object.map_or(0, |it| it.data[0]);
    ///         let (a, b) = (account(txn.load(from).await?), account(txn.load(to).await?));
    ///         let left = a.checked_sub(30).ok_or_else(|| Error::application("not enough"))?;
    ///         txn.store(from, vec![left]).await?;
    ///         txn.store(to, vec![b + 30]).await?;
    ///         Ok(left)
    ///     })
    ///     .await?;
    /// assert_eq!(left, 70);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What `f` returned, when that is not worth another attempt; the last error after all
    /// attempts. [`Error::Unknown`] at once: the commit is never repeated when it may have been
    /// made. For an error of your own, [`Error::application`].
    ///
    /// Dropped before it is done: aborted, or committed, by how far it was.
    pub async fn transact<T, F, Fut>(&self, f: F) -> Result<T>
    where
        F: FnMut(Attempt) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        self.transact_as(TransactionMeta::default(), f).await
    }

    /// As [`transact`](Self::transact), with the transaction's metadata.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// use neo_client::TransactionMeta;
    ///
    /// let oid = client.new_oid().await?;
    /// let meta = TransactionMeta {
    ///     user: "mary".into(),
    ///     ..TransactionMeta::default()
    /// };
    /// client.transact_as(meta, |txn| async move { txn.store(oid, "by mary").await }).await?;
    /// let record = client.transaction(client.last_tid()).await?.expect("it is committed");
    /// assert_eq!(record.meta.user, "mary");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`transact`](Self::transact).
    ///
    /// Dropped before it is done: aborted, or committed, by how far it was.
    pub async fn transact_as<T, F, Fut>(&self, meta: TransactionMeta, mut f: F) -> Result<T>
    where
        F: FnMut(Attempt) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let mut attempts = 0;
        loop {
            let attempt = Attempt::new(self, meta.clone());
            let error = match f(attempt.clone()).await {
                Ok(value) => match attempt.commit().await {
                    Ok(_) => return Ok(value),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            // Its locks must not be in the way of the next attempt.
            drop(attempt);
            attempts += 1;
            if !error.is_retryable() || attempts >= self.inner.attempts_max {
                return Err(error);
            }
            tracing::debug!(%error, attempts, "the transaction is redone");
            let duration = pause(attempts, self.inner.shared.id());
            self.ask(|reply| Command::Sleep { reply, duration }).await?;
            // The snapshot of the next attempt must show what this one was in conflict with.
            self.sync().await?;
        }
    }
}

/// Half of it is by chance, so that those who were in each other's way are not again.
fn pause(attempts: u32, seed: u64) -> Duration {
    let most = PAUSE_FIRST
        .saturating_mul(1 << attempts.min(16))
        .min(PAUSE_MAX);
    let chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    most / 2 + most.mul_f64(chance as f64 / 65536.0) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_differ() {
        assert!(pause(1, 1) >= PAUSE_FIRST / 2 && pause(1, 1) <= PAUSE_FIRST * 2);
        assert!(pause(99, 5) <= PAUSE_MAX && pause(99, 5) >= PAUSE_MAX / 2);
        assert_ne!(pause(5, 1), pause(5, 2));
    }
}
