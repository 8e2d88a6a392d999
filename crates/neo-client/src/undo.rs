//! Undo: a new transaction that gives objects the values that they had before an old one.

use std::collections::BTreeMap;

use bytes::Bytes;
use neo_api::{ConflictingChange, Oid, Partition, Tid};
use neo_proto::UndoRevision;

use crate::client::unexpected;
use crate::codec;
use crate::core::{Change, Command, Current, Page, Reply, Undoing};
use crate::error::{Error, Result};
use crate::object::Lookup;
use crate::shell::Answer;
use crate::transaction::Transaction;

/// Objects that are asked about at once.
const OBJECTS: usize = 1_000;

/// What is to be stored.
enum Store {
    SameAs(Tid),
    Value(Bytes),
    Delete,
}

impl Transaction {
    /// Undoes a transaction: each of its objects gets the value that it had before, as a change of
    /// this transaction. Where something else has changed an object since, both changes are merged
    /// by the client's resolver. Returns the objects.
    ///
    /// Several transactions may be undone in one, the last first; the undo of an undo is another
    /// one. An object that the undone transaction created is deleted.
    ///
    /// When it fails, this transaction is as it was before the call.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// let oid = client.new_oid().await?;
    /// for value in ["right", "wrong"] {
    ///     client.transact(|txn| async move { txn.store(oid, value).await }).await?;
    /// }
    /// let wrong = client.load(oid).await?.expect("it is there").serial;
    /// let txn = client.begin(Default::default()).await?;
    /// assert_eq!(txn.undo(wrong).await?, [oid]);
    /// txn.commit().await?;
    /// assert_eq!(client.load(oid).await?.unwrap().data, "right");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Undo`] when no transaction has this tid, when what it wrote was packed away, or when
    /// a later change can't be merged; [`Error::Misuse`] after the vote; as [`store`](Self::store)
    /// and [`Client::load`](crate::Client::load). [`Error::Conflict`] at the vote, when an object is
    /// changed meanwhile and that can't be merged.
    ///
    /// Not cancel safe: a part of the objects may be changed.
    pub async fn undo(&self, tid: Tid) -> Result<Vec<Oid>> {
        if self.is_voted() {
            return Err(Error::Misuse("an undo must come before the vote".into()));
        }
        let client = self.client();
        let (last, record) = tokio::join!(client.sync(), client.transaction(tid));
        let snapshot = Tid(last?.0.saturating_add(1));
        let cant = |oid, reason: &str| Error::Undo {
            tid,
            oid,
            reason: reason.to_owned(),
        };
        let record = match record? {
            Some(record) => Some(record),
            // It may not have been readable before.
            None => client.transaction(tid).await?,
        };
        let record = record.ok_or_else(|| cant(None, "there is no such transaction"))?;
        if record.packed {
            return Err(cant(None, "what was before it is packed away"));
        }
        let oids = record.oids;
        let own = self.own_changes(&oids).await?;
        let mut told = self.undo_revisions(tid, snapshot, &oids, &own).await?;
        let mut stores = Vec::with_capacity(oids.len());
        for (oid, own) in oids.iter().copied().zip(own) {
            let gone = || {
                cant(
                    Some(oid),
                    &format!("its revision of object {oid} is packed away"),
                )
            };
            let revision = told.remove(&oid).flatten().ok_or_else(gone)?;
            let (base, undoing) = Undoing::of(revision, own);
            let store = match undoing {
                Undoing::SameAs(previous) => Some(Store::SameAs(previous)),
                Undoing::Delete => Some(Store::Delete),
                Undoing::Merge { current, previous } => self
                    .merge_undone(oid, tid, current, previous)
                    .await?
                    .map(Store::Value),
                Undoing::Impossible => None,
            };
            let store = store.ok_or_else(|| {
                let reason = format!("object {oid} was changed later, which can't be merged");
                cant(Some(oid), &reason)
            })?;
            stores.push((oid, base, store));
        }
        for (oid, base, store) in stores {
            match store {
                Store::SameAs(previous) => self.store_same_as(oid, base, previous).await?,
                Store::Value(value) => self.store(oid, base, value).await?,
                Store::Delete => self.delete(oid, base).await?,
            }
        }
        Ok(oids)
    }

    /// What this transaction has done to objects so far.
    async fn own_changes(&self, oids: &[Oid]) -> Result<Vec<Option<(Tid, Change)>>> {
        let (txn, oids) = (self.key(), oids.to_vec());
        let ask = |reply| Command::Changes { txn, reply, oids };
        match self.client().ask(ask).await? {
            Reply::Changes(changes) => Ok(changes),
            other => Err(unexpected(&other)),
        }
    }

    /// What the storage nodes tell of the objects.
    async fn undo_revisions(
        &self,
        undone: Tid,
        snapshot: Tid,
        oids: &[Oid],
        own: &[Option<(Tid, Change)>],
    ) -> Result<BTreeMap<Oid, Option<UndoRevision>>> {
        let client = self.client();
        let partitioning = client.known_partitioning()?;
        let mut groups: BTreeMap<(Partition, Tid), Vec<Oid>> = BTreeMap::new();
        for (oid, own) in oids.iter().zip(own) {
            let before = Undoing::before(snapshot, own.as_ref());
            let group = groups.entry((partitioning.of_oid(*oid), before));
            group.or_default().push(*oid);
        }
        let mut asked = Vec::new();
        for ((partition, before), oids) in groups {
            for oids in oids.chunks(OBJECTS) {
                let pending = client.inner.shared.wait()?;
                let page = Page::Undo {
                    partition,
                    undone,
                    before,
                    oids: oids.to_vec(),
                };
                let reply = pending.id;
                let command = Command::Page { reply, page };
                client.inner.commands.send(command).await?;
                asked.push((oids.to_vec(), pending));
            }
        }
        let mut told = BTreeMap::new();
        for (oids, pending) in asked {
            match pending.answer().await? {
                Answer::Reply(Reply::Undo(revisions)) => {
                    told.extend(oids.into_iter().zip(revisions))
                }
                Answer::Reply(Reply::PackedAway) => {
                    return Err(Error::Undo {
                        tid: undone,
                        oid: oids.first().copied().filter(|_| oids.len() == 1),
                        reason: "what was before it is packed away".to_owned(),
                    });
                }
                other => return Err(Error::Node(format!("{other:?} tells no revisions"))),
            }
        }
        Ok(told)
    }

    /// What the undone transaction did is taken back from what the object is now. `None`: it can't
    /// be.
    async fn merge_undone(
        &self,
        oid: Oid,
        undone: Tid,
        current: Current,
        previous: Tid,
    ) -> Result<Option<Bytes>> {
        let Some(resolver) = &self.client().inner.resolver else {
            return Ok(None);
        };
        let (serial, current) = match current {
            Current::Revision(serial) => (serial, self.value(oid, serial).await?),
            Current::Stored(record) => (undone, codec::decode(&record)),
        };
        let base = self.value(oid, undone).await?;
        let previous = self.value(oid, previous).await?;
        let (Some(current), Some(base), Some(previous)) = (current, base, previous) else {
            return Ok(None);
        };
        let change =
            ConflictingChange::new(oid, (undone, Some(base)), (serial, Some(current)), previous);
        Ok(resolver.resolve(&change))
    }

    async fn value(&self, oid: Oid, serial: Tid) -> Result<Option<Bytes>> {
        Ok(match self.client().load_serial(oid, serial).await? {
            Lookup::Found { data, .. } => Some(data),
            Lookup::Deleted { .. } | Lookup::NotYet | Lookup::Unknown => None,
        })
    }
}
