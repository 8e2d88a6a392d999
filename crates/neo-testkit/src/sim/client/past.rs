//! The past, many objects at once, and undo.

use std::collections::BTreeMap;
use std::task::Poll;

use bytes::Bytes;
use neo_api::{At, ConflictingChange, HistoryEntry, Loaded, Oid, Order, Tid};
use neo_client::Error;
use neo_client::core::{Change, Command, Current, Page, Reply, ReplyId, Undoing};
use neo_proto::WireTransaction;

use super::{Answer, Resolver, SimClient, SimTxn};

/// Bytes of a page: few, so that there are many pages.
const PAGE_BYTES: u32 = 100;

impl SimClient {
    /// Several objects, each as it was before a tid; they are asked for together.
    ///
    /// # Errors
    /// As the core says, of the first that fails.
    pub async fn load_many(
        &self,
        objects: &[(Oid, Tid)],
    ) -> Result<Vec<Option<(Tid, Bytes)>>, Error> {
        let mut ids = Vec::new();
        {
            let mut mailbox = self.mailbox.borrow_mut();
            ids.extend(objects.iter().map(|_| ReplyId(mailbox.key())));
            let loads = ids.iter().zip(objects);
            let loads = loads.map(|(id, (oid, before))| (*id, *oid, At::Before(*before)));
            let loads = loads.collect();
            mailbox.commands.push_back(Command::LoadMany { loads });
        }
        let mut found = Vec::new();
        for (id, (oid, before)) in ids.into_iter().zip(objects) {
            let answer = std::future::poll_fn(|_| {
                let answer = self.mailbox.borrow_mut().answers.remove(&id);
                answer.map_or(Poll::Pending, Poll::Ready)
            });
            let value = match answer.await {
                Answer::Loaded(Loaded::Found(revision)) => {
                    Some((revision.serial, revision.record.data))
                }
                Answer::Loaded(_) => None,
                Answer::Reply(Err(error)) => return Err(error),
                other => panic!("an answer of another kind: {other:?}"),
            };
            let mut oracle = self.oracle.borrow_mut();
            oracle.read(self.name, *oid, *before, value.clone());
            found.push(value);
        }
        Ok(found)
    }

    /// Every transaction from a tid back to another, both included, the last one first.
    ///
    /// # Errors
    /// As the core says.
    pub async fn undo_log(&self, least: Tid, last: Tid) -> Result<Vec<WireTransaction>, Error> {
        let partitioning = self.partitioning().expect("the client was ready");
        let mut all = Vec::new();
        for partition in partitioning.iter() {
            let mut max = last;
            loop {
                let page = Page::Transactions {
                    partition,
                    min: least,
                    max,
                    order: Order::Descending,
                    entries: 3,
                };
                let Reply::Transactions {
                    transactions,
                    complete,
                } = self.page(page).await?
                else {
                    panic!("an answer of another kind");
                };
                let next = transactions.last().map(|last| Tid(last.tid.0 - 1));
                all.extend(transactions);
                match next {
                    Some(next) if !complete => max = next,
                    _ => break,
                }
            }
        }
        all.sort_by_key(|transaction| transaction.tid);
        let tids = all.iter().map(|transaction| transaction.tid).collect();
        let range = least..=last;
        self.oracle.borrow_mut().listed(self.name, range, tids);
        all.reverse();
        Ok(all)
    }

    /// Revisions of an object below a tid, newest first.
    ///
    /// # Errors
    /// As the core says.
    pub async fn history(&self, oid: Oid, mut before: Tid) -> Result<Vec<HistoryEntry>, Error> {
        let mut all = Vec::new();
        loop {
            let page = Page::History {
                oid,
                before,
                entries: 2,
            };
            let Reply::History { entries, complete } = self.page(page).await? else {
                panic!("an answer of another kind");
            };
            before = entries.last().map_or(before, |last| last.serial);
            all.extend(entries);
            if complete {
                return Ok(all);
            }
        }
    }

    /// All objects as they were at a tid. Those that are `expected`, and are not told, count as
    /// read and not found.
    ///
    /// # Errors
    /// As the core says.
    pub async fn objects(
        &self,
        at: Tid,
        expected: &[Oid],
    ) -> Result<BTreeMap<Oid, (Tid, Bytes)>, Error> {
        let partitioning = self.partitioning().expect("the client was ready");
        let mut all = BTreeMap::new();
        for partition in partitioning.iter() {
            let mut next = Some(Oid::ZERO);
            while let Some(min) = next {
                let page = Page::Current {
                    partition,
                    min,
                    at,
                    bytes: PAGE_BYTES,
                    values: true,
                };
                let (revisions, after) = match self.page(page).await? {
                    Reply::Current { revisions, next } => (revisions, next),
                    Reply::PackedAway => {
                        return Err(Error::PackedAway { oid: min, tid: at });
                    }
                    other => panic!("an answer of another kind: {other:?}"),
                };
                next = after;
                for (revision, value) in revisions {
                    let value = value.expect("values are wanted");
                    all.insert(revision.id.oid, (revision.id.tid, value));
                }
            }
        }
        let before = Tid(at.0.saturating_add(1));
        let mut oracle = self.oracle.borrow_mut();
        for oid in expected.iter().chain(all.keys()) {
            oracle.read(self.name, *oid, before, all.get(oid).cloned());
        }
        Ok(all)
    }
}

impl SimTxn {
    /// Undoes a transaction; later changes are merged.
    ///
    /// # Errors
    /// As the core says, and [`Error::Undo`].
    pub async fn undo(&self, tid: Tid, resolver: Resolver) -> Result<Vec<Oid>, Error> {
        let cant = |oid, reason: &str| Error::Undo {
            tid,
            oid,
            reason: reason.to_owned(),
        };
        let client = &self.client;
        let snapshot = Tid(client.sync().await?.0 + 1);
        let page = Page::TransactionInformation { tid };
        let Reply::Transaction(found) = client.page(page).await? else {
            panic!("an answer of another kind");
        };
        let found = found.ok_or_else(|| cant(None, "there is none"))?;
        if found.packed {
            return Err(cant(None, "it is packed away"));
        }
        let oids = found.oids.0;
        let txn = self.key;
        let ask = |reply| Command::Changes {
            txn,
            reply,
            oids: oids.clone(),
        };
        let Reply::Changes(own) = client.request(ask).await? else {
            panic!("an answer of another kind");
        };
        let partitioning = client.partitioning().expect("the client was ready");
        for (oid, own) in oids.iter().copied().zip(own) {
            let page = Page::Undo {
                partition: partitioning.of_oid(oid),
                undone: tid,
                before: Undoing::before(snapshot, own.as_ref()),
                oids: vec![oid],
            };
            let told = match client.page(page).await? {
                Reply::Undo(told) => told,
                Reply::PackedAway => return Err(cant(Some(oid), "it is packed away")),
                other => panic!("an answer of another kind: {other:?}"),
            };
            let told = told[0].ok_or_else(|| cant(Some(oid), "it is gone"))?;
            let (base, undoing) = Undoing::of(told, own);
            match undoing {
                Undoing::SameAs(previous) => {
                    let value = self.data(oid, previous).await?;
                    self.note_store(oid, base, value);
                    self.change(oid, base, Change::SameAs(previous)).await?;
                }
                Undoing::Delete => self.delete(oid, base).await?,
                Undoing::Merge { current, previous } => {
                    let (serial, current) = match current {
                        Current::Revision(serial) => (serial, self.data(oid, serial).await?),
                        Current::Stored(record) => (tid, Some(record.data)),
                    };
                    let old = self.data(oid, tid).await?;
                    let new = self.data(oid, previous).await?;
                    let merged = new.and_then(|new| {
                        resolver(&ConflictingChange::new(
                            oid,
                            (tid, old),
                            (serial, current),
                            new,
                        ))
                    });
                    let merged = merged.ok_or_else(|| cant(Some(oid), "it was changed later"))?;
                    self.store(oid, base, merged).await?;
                }
                Undoing::Impossible => return Err(cant(Some(oid), "it was changed later")),
            }
        }
        Ok(oids)
    }
}
