//! A transaction of a script.

use std::time::Duration;

use bytes::Bytes;
use neo_api::{
    At, ConflictingChange, Loaded, Oid, PackOrder, Record, Tid, TransactionMeta, TxnId, VotedRecord,
};
use neo_client::Error;
use neo_client::core::{Change, Command, Conflict, Reply, TxnKey};

use super::{Resolver, SimClient};
use crate::oracle::{Oracle, Told};
use crate::sim::mailbox::Answer;

/// A transaction of a script. Dropped before its end, it is aborted.
#[derive(Debug)]
pub struct SimTxn {
    pub(super) client: SimClient,
    pub(super) key: TxnKey,
    pub(super) number: u64,
    pub(super) name: Option<TxnId>,
    pub(super) open: bool,
    /// What it orders.
    pub(super) pack: Option<PackOrder>,
}

impl SimTxn {
    /// Its temporary tid.
    #[must_use]
    pub fn ttid(&self) -> Option<Tid> {
        self.name.map(|name| name.ttid)
    }

    /// The number that the oracle gave it.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    pub(super) async fn change(&self, oid: Oid, serial: Tid, change: Change) -> Result<(), Error> {
        let txn = self.key;
        self.client
            .request(|reply| Command::Store {
                txn,
                reply,
                oid,
                serial,
                change,
            })
            .await
            .map(drop)
    }

    /// Stores a value.
    ///
    /// # Errors
    /// As the core says.
    pub async fn store(&self, oid: Oid, serial: Tid, value: impl Into<Bytes>) -> Result<(), Error> {
        let value = value.into();
        self.note_store(oid, serial, Some(value.clone()));
        self.change(oid, serial, Change::Value(Record::raw(value)))
            .await
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// As the core says.
    pub async fn delete(&self, oid: Oid, serial: Tid) -> Result<(), Error> {
        self.note_store(oid, serial, None);
        self.change(oid, serial, Change::Deletion).await
    }

    /// Checks that an object is current.
    ///
    /// # Errors
    /// As the core says.
    pub async fn check(&self, oid: Oid, serial: Tid) -> Result<(), Error> {
        self.client
            .oracle
            .borrow_mut()
            .check(self.number, oid, serial);
        self.change(oid, serial, Change::Check).await
    }

    /// Votes; a conflict ends the transaction.
    ///
    /// # Errors
    /// As the core says.
    pub async fn vote(&mut self) -> Result<(), Error> {
        self.vote_with(|_| None).await
    }

    /// Votes; conflicts are merged.
    ///
    /// # Errors
    /// As the core says.
    pub async fn vote_with(&mut self, resolver: Resolver) -> Result<(), Error> {
        self.vote_slowly(resolver, Duration::ZERO).await.map(drop)
    }

    /// Votes; conflicts are merged, each of which takes a while. Tells how many there were.
    ///
    /// # Errors
    /// As the core says.
    pub async fn vote_slowly(
        &mut self,
        resolver: Resolver,
        merge: Duration,
    ) -> Result<usize, Error> {
        let mut merges = 0;
        loop {
            let (txn, meta, pack) = (self.key, self.meta(), self.pack.clone());
            let vote = |reply| Command::Vote {
                txn,
                reply,
                record: VotedRecord {
                    meta,
                    pack,
                    ..VotedRecord::default()
                },
            };
            match self.client.request(vote).await? {
                Reply::Voted(_) => return Ok(merges),
                Reply::Conflicts(conflicts) => {
                    for conflict in conflicts {
                        merges += 1;
                        if !merge.is_zero() {
                            self.client.sleep(merge).await;
                        }
                        self.resolve(conflict, resolver).await?;
                    }
                }
                other => panic!("an answer of another kind: {other:?}"),
            }
        }
    }

    pub(super) fn note_store(&self, oid: Oid, serial: Tid, value: Option<Bytes>) {
        let mut oracle = self.client.oracle.borrow_mut();
        oracle.store(self.number, oid, serial, value);
    }

    fn meta(&self) -> TransactionMeta {
        TransactionMeta {
            user: Bytes::from(self.client.name.to_string()),
            description: Oracle::label(self.number),
            extension: Bytes::new(),
        }
    }

    async fn resolve(&self, conflict: Conflict, resolver: Resolver) -> Result<(), Error> {
        let Conflict {
            oid,
            version,
            base,
            serial,
            change,
        } = conflict;
        let refused = match &change {
            Change::Check => Error::ReadConflict { oid, serial },
            _ => Error::Conflict { oid, serial },
        };
        let new = match change {
            Change::Value(record) => Some(record.data),
            Change::SameAs(tid) => self.data(oid, tid).await?,
            Change::Deletion | Change::Check => None,
        };
        let Some(new) = new else {
            return Err(refused);
        };
        let old = self.data(oid, base).await?;
        let committed = self.data(oid, serial).await?;
        let change = ConflictingChange::new(oid, (base, old), (serial, committed), new);
        let Some(merged) = resolver(&change) else {
            return Err(refused);
        };
        self.note_store(oid, serial, Some(merged.clone()));
        let mut mailbox = self.client.mailbox.borrow_mut();
        mailbox.commands.push_back(Command::Resolve {
            txn: self.key,
            oid,
            version,
            serial,
            record: Record::raw(merged),
        });
        Ok(())
    }

    pub(super) async fn data(&self, oid: Oid, serial: Tid) -> Result<Option<Bytes>, Error> {
        if serial == Tid::ZERO {
            return Ok(None);
        }
        Ok(match self.client.load_at(oid, At::Exact(serial)).await? {
            Loaded::Found(revision) => Some(revision.record.data),
            _ => None,
        })
    }

    /// Commits.
    ///
    /// # Errors
    /// As the core says.
    pub async fn finish(mut self) -> Result<Tid, Error> {
        self.open = false;
        let (txn, number) = (self.key, self.number);
        self.client.oracle.borrow_mut().tell(number, Told::Asked);
        let answer = self.client.ask(|reply| Command::Finish { txn, reply });
        let (told, result) = match answer.await {
            Answer::Committed(tid) => (Told::Committed(tid), Ok(tid)),
            Answer::Reply(Err(error)) => {
                let told = match error {
                    Error::Unknown { .. } | Error::Closed => Told::Unknown,
                    _ => Told::NotCommitted,
                };
                (told, Err(error))
            }
            other => panic!("the core gave another kind of answer: {other:?}"),
        };
        self.client.oracle.borrow_mut().tell(number, told);
        result
    }

    /// Votes and commits.
    ///
    /// # Errors
    /// As the core says.
    pub async fn commit(mut self) -> Result<Tid, Error> {
        self.vote().await?;
        self.finish().await
    }

    /// Aborts.
    pub fn abort(self) {}
}

impl Drop for SimTxn {
    fn drop(&mut self) {
        if self.open {
            let mut oracle = self.client.oracle.borrow_mut();
            oracle.tell(self.number, Told::NotCommitted);
            let mut mailbox = self.client.mailbox.borrow_mut();
            mailbox.commands.push_back(Command::Abort { txn: self.key });
        }
    }
}
