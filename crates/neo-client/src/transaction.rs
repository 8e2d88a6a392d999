//! A transaction: store, vote, finish or abort.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use neo_api::{ConflictingChange, METADATA_BYTES_MAX, Oid, Tid, TxnId, VotedRecord};
use tokio::sync::Semaphore;

use crate::client::{Client, unexpected};
use crate::codec;
use crate::core::{Change, Command, Conflict, Reply, TxnKey};
use crate::error::{Error, Result};
use crate::object::Lookup;
use crate::shell::{Answer, Callback};

/// A transaction in progress. Nobody sees what it does before [`finish`](Self::finish); dropped
/// before, it is aborted.
///
/// Its methods take `&self`: stores may be made by several tasks.
///
/// What it stores, deletes or checks is locked until it ends: younger transactions that want the same
/// object wait. So a task that has one in hand must not wait for another one.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
/// use neo_client::{Error, Tid};
///
/// let (counter, log) = (client.new_oid().await?, client.new_oid().await?);
/// let txn = client.begin(Default::default()).await?;
/// // New objects start from tid zero.
/// txn.store(counter, Tid::ZERO, "1").await?;
/// txn.store(log, Tid::ZERO, "created").await?;
/// txn.vote().await?;
/// // Nobody sees it yet.
/// assert_eq!(client.load(counter).await?, None);
/// let first = txn.finish().await?;
///
/// // A change starts from the revision that was read.
/// let read = client.load(counter).await?.expect("it is committed");
/// assert_eq!(read.serial, first);
/// let (mine, theirs) = (
///     client.begin(Default::default()).await?,
///     client.begin(Default::default()).await?,
/// );
/// theirs.store(counter, read.serial, "theirs").await?;
/// theirs.commit().await?;
/// mine.store(counter, read.serial, "mine").await?;
/// let refused = mine.commit().await.expect_err("somebody was faster");
/// assert!(matches!(refused, Error::Conflict { oid, .. } if oid == counter));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Transaction {
    client: Client,
    key: TxnKey,
    name: TxnId,
    /// What is kept of it, but for the oids.
    record: VotedRecord,
    /// Bytes that may be on their way.
    bytes: Arc<Semaphore>,
    /// Bytes of the values that it stored.
    stored: AtomicUsize,
    /// What is stored from now on would not be part of it.
    voted: AtomicBool,
    /// What a store met.
    failure: Arc<OnceLock<Error>>,
    _abort: AbortOnDrop,
}

/// Aborts; the core ignores it once the finish was asked.
#[derive(Debug)]
struct AbortOnDrop(Client, TxnKey);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0
            .inner
            .commands
            .send_later(Command::Abort { txn: self.1 });
    }
}

impl Transaction {
    pub(crate) async fn begin(
        client: Client,
        record: VotedRecord,
        tid: Option<Tid>,
    ) -> Result<Self> {
        client.check_writable()?;
        for (name, field) in [
            ("user", &record.meta.user),
            ("description", &record.meta.description),
            ("extension", &record.meta.extension),
        ] {
            if field.len() > METADATA_BYTES_MAX {
                let len = field.len();
                let words = format!("{name} has {len} bytes, at most {METADATA_BYTES_MAX} can be");
                return Err(Error::TooLarge(words));
            }
        }
        let txn = TxnKey(client.inner.shared.id());
        let abort = AbortOnDrop(client.clone(), txn);
        match client
            .ask(|reply| Command::Begin { txn, reply, tid })
            .await?
        {
            Reply::Begun(name) => Ok(Self {
                bytes: Arc::new(Semaphore::new(client.inner.in_flight_bytes_max)),
                stored: AtomicUsize::new(0),
                voted: AtomicBool::new(false),
                failure: Arc::default(),
                client,
                key: txn,
                name,
                record,
                _abort: abort,
            }),
            other => Err(unexpected(&other)),
        }
    }

    /// Its name until it has a tid.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// let txn = client.begin(Default::default()).await?;
    /// println!("{} has begun", txn.name());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub const fn name(&self) -> TxnId {
        self.name
    }

    pub(crate) const fn key(&self) -> TxnKey {
        self.key
    }

    pub(crate) fn is_voted(&self) -> bool {
        self.voted.load(Ordering::Relaxed)
    }

    /// The client.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// let txn = client.begin(Default::default()).await?;
    /// assert_eq!(txn.client().cluster(), "test");
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Stores an object. `base_serial` is the serial of the revision that the change starts from:
    /// what was read; [`Tid::ZERO`] for a new object.
    ///
    /// Sent to every replica, and not waited for, unless too many bytes are on their way: that the
    /// object was changed by somebody else shows at the [`vote`](Self::vote). The value is kept
    /// until the transaction ends.
    ///
    /// [Example](Self).
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond 64 MiB as stored, or 1 GiB before compression, or when the
    /// transaction has too many bytes with it (a value that is stored again counts again);
    /// [`Error::Misuse`] after the vote; [`Error::Closed`]; what made the transaction fail before.
    ///
    /// Cancel safe: the object is stored, or not.
    pub async fn store(&self, oid: Oid, base_serial: Tid, data: impl Into<Bytes>) -> Result<()> {
        let record = codec::encode(oid, data.into(), self.client.inner.compression)?;
        let len = record.data.len();
        let max = self.client.inner.transaction_bytes_max;
        let before = self.stored.fetch_add(len, Ordering::Relaxed);
        if before.saturating_add(len) > max {
            self.stored.fetch_sub(len, Ordering::Relaxed);
            let words = format!(
                "a transaction stores {max} bytes at most: {before} are stored, and object {oid} \
                 has {len}; commit more often, or raise transaction_bytes_max"
            );
            return Err(Error::TooLarge(words));
        }
        self.change(oid, base_serial, Change::Value(record), len)
            .await
    }

    /// Stores the value of an earlier revision of the object again, as an [`undo`](Self::undo) does.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// use neo_client::Tid;
    /// use futures_util::TryStreamExt;
    ///
    /// let oid = client.new_oid().await?;
    /// let mut serials = vec![Tid::ZERO];
    /// for value in ["good", "bad"] {
    ///     let txn = client.begin(Default::default()).await?;
    ///     txn.store(oid, serials[serials.len() - 1], value).await?;
    ///     serials.push(txn.commit().await?);
    /// }
    /// let txn = client.begin(Default::default()).await?;
    /// txn.store_same_as(oid, serials[2], serials[1]).await?;
    /// txn.commit().await?;
    /// assert_eq!(client.load(oid).await?.unwrap().data, "good");
    /// // The value is not kept twice.
    /// let newest = client.history(oid, Tid::MAX).try_next().await?.expect("it has revisions");
    /// assert_eq!(newest.data_serial, Some(serials[1]));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`store`](Self::store); at the vote, [`Error::MissingRevision`] when it is not there.
    ///
    /// Cancel safe.
    pub async fn store_same_as(&self, oid: Oid, base_serial: Tid, serial: Tid) -> Result<()> {
        self.change(oid, base_serial, Change::SameAs(serial), 0)
            .await
    }

    /// Deletes an object; `serial` is that of its newest revision. Earlier revisions stay readable.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// use neo_client::Tid;
    ///
    /// let oid = client.new_oid().await?;
    /// let txn = client.begin(Default::default()).await?;
    /// txn.store(oid, Tid::ZERO, "short-lived").await?;
    /// let serial = txn.commit().await?;
    /// let txn = client.begin(Default::default()).await?;
    /// txn.delete(oid, serial).await?;
    /// txn.commit().await?;
    /// assert_eq!(client.load(oid).await?, None);
    /// let past = client.snapshot_at(serial).await?;
    /// assert_eq!(past.load(oid).await?.unwrap().data, "short-lived");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`store`](Self::store); a conflict is never merged.
    ///
    /// Cancel safe.
    pub async fn delete(&self, oid: Oid, serial: Tid) -> Result<()> {
        self.change(oid, serial, Change::Deletion, 0).await
    }

    /// Makes sure that the object's newest revision is this one, and stays so until the transaction
    /// is committed. Of no effect for an object that the transaction stores.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// use neo_client::{Error, Tid};
    ///
    /// let (limit, order) = (client.new_oid().await?, client.new_oid().await?);
    /// client.transact(|txn| async move { txn.store(limit, "10").await }).await?;
    /// let read = client.load(limit).await?.expect("it is there");
    ///
    /// // Meanwhile:
    /// client.transact(|txn| async move { txn.store(limit, "5").await }).await?;
    /// let txn = client.begin(Default::default()).await?;
    /// txn.store(order, Tid::ZERO, "9, which is below the limit").await?;
    /// txn.check_current(limit, read.serial).await?;
    /// assert!(matches!(txn.commit().await, Err(Error::ReadConflict { .. })));
    /// assert_eq!(client.load(order).await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`store`](Self::store); at the vote, [`Error::ReadConflict`] when it is not.
    ///
    /// Cancel safe.
    pub async fn check_current(&self, oid: Oid, serial: Tid) -> Result<()> {
        self.change(oid, serial, Change::Check, 0).await
    }

    async fn change(&self, oid: Oid, serial: Tid, change: Change, bytes: usize) -> Result<()> {
        let inner = &self.client.inner;
        let most = inner.in_flight_bytes_max;
        // Some for the request itself: many small changes wait, too.
        let bytes = u32::try_from(bytes.saturating_add(256).min(most)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.bytes)
            .acquire_many_owned(bytes)
            .await
            .map_err(|_| Error::Closed)?;
        if self.is_voted() {
            return Err(Error::Misuse("a store must come before the vote".into()));
        }
        if let Some(error) = self.failure.get() {
            return Err(error.clone());
        }
        let command = Command::Store {
            txn: self.key,
            reply: inner.shared.hold(permit, &self.failure)?,
            oid,
            serial,
            change,
        };
        inner.commands.send(command).await
    }

    /// Makes everything durable but the decision. Conflicts are merged first, by the client's
    /// resolver. Returns the objects that were merged: their values are not those that were
    /// stored.
    ///
    /// After a vote, [`finish`](Self::finish) fails only with nodes.
    ///
    /// [Example](Self).
    ///
    /// # Errors
    /// [`Error::Conflict`] and [`Error::ReadConflict`]; [`Error::IncompleteTransaction`] when too
    /// many nodes failed; [`Error::NoSpace`]; [`Error::NotReady`] when the primary master was lost;
    /// [`Error::Timeout`]; [`Error::MissingRevision`] when what [`store_same_as`](Self::store_same_as)
    /// repeats is not there; [`Error::TooLarge`] for too many objects, or what a resolver made;
    /// [`Error::Misuse`] when another vote is on. The transaction can only be aborted then.
    ///
    /// Cancel safe: may be called again, and goes on where it was.
    pub async fn vote(&self) -> Result<Vec<Oid>> {
        let txn = self.key;
        self.voted.store(true, Ordering::Relaxed);
        loop {
            let record = self.record.clone();
            let vote = |reply| Command::Vote { txn, reply, record };
            match self.client.ask(vote).await? {
                Reply::Voted(resolved) => return Ok(resolved),
                Reply::Conflicts(conflicts) => {
                    for conflict in conflicts {
                        self.resolve(conflict).await?;
                    }
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Merges one conflict, on this task, holding nothing.
    async fn resolve(&self, conflict: Conflict) -> Result<()> {
        let Conflict {
            oid,
            version,
            base,
            serial,
            change,
        } = conflict;
        let failed = Error::Conflict { oid, serial };
        let Some(resolver) = &self.client.inner.resolver else {
            return Err(failed);
        };
        let new = match change {
            Change::Value(record) => codec::decode(&record),
            Change::SameAs(tid) => self.revision(oid, tid).await?.flatten(),
            Change::Deletion | Change::Check => None,
        };
        let new = new.ok_or_else(|| failed.clone())?;
        let base_data = self
            .revision(oid, base)
            .await?
            .ok_or_else(|| failed.clone())?;
        let committed = self
            .revision(oid, serial)
            .await?
            .ok_or_else(|| failed.clone())?;
        let change = ConflictingChange::new(oid, (base, base_data), (serial, committed), new);
        let merged = resolver.resolve(&change).ok_or(failed)?;
        let record = codec::encode(oid, merged, self.client.inner.compression)?;
        let command = Command::Resolve {
            txn: self.key,
            oid,
            version,
            serial,
            record,
        };
        self.client.inner.commands.send(command).await
    }

    /// The data of a revision, `Some(None)` when it is deleted, `None` when it is not there.
    async fn revision(&self, oid: Oid, serial: Tid) -> Result<Option<Option<Bytes>>> {
        if serial == Tid::ZERO {
            return Ok(Some(None));
        }
        Ok(match self.client.load_serial(oid, serial).await? {
            Lookup::Found { data, .. } => Some(Some(data)),
            Lookup::Deleted { .. } => Some(None),
            Lookup::NotYet | Lookup::Unknown => None,
        })
    }

    /// Commits, after the vote, and returns the tid: [`Client::last_tid`] is at least that then.
    ///
    /// [Example](Self).
    ///
    /// # Errors
    /// [`Error::Misuse`] before the vote. [`Error::IncompleteTransaction`] and [`Error::NotReady`]:
    /// it is not committed. [`Error::Unknown`]: nobody could tell in time; do not redo it blindly.
    ///
    /// Dropped before it is done, it goes on all the same: the transaction may be committed.
    pub async fn finish(self) -> Result<Tid> {
        self.finish_inner(None).await
    }

    /// As [`finish`](Self::finish); `f` is called with the tid when the transaction is committed,
    /// before [`Client::last_tid`] shows it, and before any later invalidation is delivered.
    ///
    /// `f` runs on the driver's task: it must not block, and not wait for this client. It also runs
    /// when the future was dropped. After the connection to the primary master was lost meanwhile,
    /// it runs when the outcome is known; [`Invalidation::All`](crate::Invalidation::All) may have
    /// been delivered before.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    ///
    /// use neo_client::Tid;
    ///
    /// let known = Arc::new(AtomicU64::new(0));
    /// let txn = client.begin(Default::default()).await?;
    /// txn.store(client.new_oid().await?, Tid::ZERO, "x").await?;
    /// txn.vote().await?;
    /// let told = Arc::clone(&known);
    /// let tid = txn.finish_with(move |tid| told.store(tid.0, Ordering::SeqCst)).await?;
    /// assert_eq!(known.load(Ordering::SeqCst), tid.0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`finish`](Self::finish); `f` is not called then.
    ///
    /// Dropped before it is done, it goes on all the same.
    pub async fn finish_with(self, f: impl FnOnce(Tid) + Send + 'static) -> Result<Tid> {
        self.finish_inner(Some(Box::new(f))).await
    }

    async fn finish_inner(self, callback: Option<Callback>) -> Result<Tid> {
        let inner = &self.client.inner;
        let pending = inner.shared.wait()?;
        let (txn, reply) = (self.key, pending.id);
        if let Some(callback) = callback {
            inner.shared.set_callback(txn, reply, callback);
        }
        inner.commands.send(Command::Finish { txn, reply }).await?;
        match pending.answer().await? {
            Answer::Committed(tid) => Ok(tid),
            other => Err(Error::Node(format!("{other:?} is no answer to a finish"))),
        }
    }

    /// Votes and commits.
    ///
    /// [Example](Self).
    ///
    /// # Errors
    /// As [`vote`](Self::vote) and [`finish`](Self::finish).
    ///
    /// Dropped before it is done: aborted, or committed, by how far it was.
    pub async fn commit(self) -> Result<Tid> {
        self.vote().await?;
        self.finish().await
    }

    /// Forgets everything that it did. The same as dropping it, but visible. Returns at once; its
    /// locks go a moment later.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// use neo_client::Tid;
    ///
    /// let oid = client.new_oid().await?;
    /// let txn = client.begin(Default::default()).await?;
    /// txn.store(oid, Tid::ZERO, "never").await?;
    /// txn.abort();
    /// client.sync().await?;
    /// assert_eq!(client.load(oid).await?, None);
    /// # Ok(()) }
    /// ```
    pub fn abort(self) {}
}
