//! The application's side of a simulated client: scripts that read as real ones do.
//!
//! A script is an `async` function over a [`SimClient`]; it runs on the world's thread, between
//! events, and waits for nothing but the client's core. All that it does, and all that it is told,
//! goes into the world's [`Oracle`].

mod packs;
mod past;
mod txn;

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use neo_api::{At, ConflictingChange, Loaded, Oid, Order, Partitioning, Tid};
use neo_client::Error;
use neo_client::core::{Command, ImportKey, Page, Reply, ReplyId, TxnKey};
use neo_proto::{WireRevision, WireTransaction};

use super::mailbox::{Answer, Mailbox};
use super::name::Name;
use crate::oracle::Oracle;

pub use self::txn::SimTxn;

/// A merge of two changes.
pub type Resolver = fn(&ConflictingChange) -> Option<Bytes>;

/// A client, for its scripts.
#[derive(Clone)]
pub struct SimClient {
    name: Name,
    mailbox: Rc<RefCell<Mailbox>>,
    oracle: Rc<RefCell<Oracle>>,
}

impl fmt::Debug for SimClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimClient({})", self.name)
    }
}

impl SimClient {
    pub(super) const fn new(
        name: Name,
        mailbox: Rc<RefCell<Mailbox>>,
        oracle: Rc<RefCell<Oracle>>,
    ) -> Self {
        Self {
            name,
            mailbox,
            oracle,
        }
    }

    async fn ask(&self, command: impl FnOnce(ReplyId) -> Command) -> Answer {
        let id = {
            let mut mailbox = self.mailbox.borrow_mut();
            let id = ReplyId(mailbox.key());
            mailbox.commands.push_back(command(id));
            id
        };
        std::future::poll_fn(|_| match self.mailbox.borrow_mut().answers.remove(&id) {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        })
        .await
    }

    async fn request(&self, command: impl FnOnce(ReplyId) -> Command) -> Result<Reply, Error> {
        match self.ask(command).await {
            Answer::Reply(result) => result,
            other => panic!("the core gave another kind of answer: {other:?}"),
        }
    }

    /// Waits until the client can work.
    ///
    /// # Errors
    /// When it can't in time.
    pub async fn wait_ready(&self, timeout: Duration) -> Result<(), Error> {
        self.request(|reply| Command::WaitReady { reply, timeout })
            .await
            .map(drop)
    }

    /// Waits.
    pub async fn sleep(&self, duration: Duration) {
        drop(
            self.request(|reply| Command::Sleep { reply, duration })
                .await,
        );
    }

    /// The last tid that the client has processed.
    #[must_use]
    pub fn last_tid(&self) -> Tid {
        self.mailbox.borrow().last_tid
    }

    /// How oids map to partitions.
    #[must_use]
    pub fn partitioning(&self) -> Option<Partitioning> {
        self.mailbox.borrow().partitioning
    }

    /// The last tid, at least what was committed before the call.
    ///
    /// # Errors
    /// As the core says.
    pub async fn sync(&self) -> Result<Tid, Error> {
        match self.request(|reply| Command::Sync { reply }).await? {
            Reply::LastTid(tid) => Ok(tid),
            other => panic!("an answer of another kind: {other:?}"),
        }
    }

    /// New oids.
    ///
    /// # Errors
    /// As the core says.
    pub async fn new_oids(&self, count: u32) -> Result<Vec<Oid>, Error> {
        let reply = self.request(|reply| Command::NewOids { reply, count });
        match reply.await? {
            Reply::Oids { first, count } => {
                let oids: Vec<Oid> = (first.0..first.0 + u64::from(count)).map(Oid).collect();
                self.oracle.borrow_mut().oids_given(self.name, &oids);
                Ok(oids)
            }
            other => panic!("an answer of another kind: {other:?}"),
        }
    }

    /// The newest revision of an object that the client can know of: its serial and its value,
    /// `None` when there is no value.
    ///
    /// # Errors
    /// As the core says.
    pub async fn load(&self, oid: Oid) -> Result<Option<(Tid, Bytes)>, Error> {
        let before = Tid(self.last_tid().0 + 1);
        self.load_before(oid, before).await
    }

    /// The revision of an object before a tid.
    ///
    /// # Errors
    /// As the core says.
    pub async fn load_before(&self, oid: Oid, before: Tid) -> Result<Option<(Tid, Bytes)>, Error> {
        let cached = self.mailbox.borrow().cached(oid, before);
        let found = match cached {
            Some(found) => found,
            None => match self.load_at(oid, At::Before(before)).await? {
                Loaded::Found(revision) => Some((revision.serial, revision.record.data)),
                Loaded::Deleted { .. } | Loaded::NotYet | Loaded::Unknown => None,
            },
        };
        let mut oracle = self.oracle.borrow_mut();
        oracle.read(self.name, oid, before, found.clone());
        Ok(found)
    }

    /// A revision of an object.
    ///
    /// # Errors
    /// As the core says.
    pub async fn load_at(&self, oid: Oid, at: At) -> Result<Loaded, Error> {
        match self.ask(|reply| Command::Load { reply, oid, at }).await {
            Answer::Loaded(loaded) => Ok(loaded),
            Answer::Reply(Err(error)) => Err(error),
            other => panic!("an answer of another kind: {other:?}"),
        }
    }

    /// Transactions of a page.
    ///
    /// # Errors
    /// As the core says.
    pub async fn page(&self, page: Page) -> Result<Reply, Error> {
        self.request(|reply| Command::Page { reply, page }).await
    }

    /// Every transaction up to a tid, in order, as an iterator gives them.
    ///
    /// # Errors
    /// As the core says.
    pub async fn transactions(&self, max: Tid) -> Result<Vec<WireTransaction>, Error> {
        self.transactions_between(Tid::ZERO, max).await
    }

    /// Every transaction from a tid to another, both included, in order.
    ///
    /// # Errors
    /// As the core says.
    pub async fn transactions_between(
        &self,
        least: Tid,
        max: Tid,
    ) -> Result<Vec<WireTransaction>, Error> {
        let partitioning = self.partitioning().expect("the client was ready");
        let mut all = Vec::new();
        for partition in partitioning.iter() {
            let mut min = least;
            loop {
                let page = Page::Transactions {
                    partition,
                    min,
                    max,
                    order: Order::Ascending,
                    entries: 100,
                };
                let Reply::Transactions {
                    transactions,
                    complete,
                } = self.page(page).await?
                else {
                    panic!("an answer of another kind");
                };
                if let Some(last) = transactions.last() {
                    min = Tid(last.tid.0 + 1);
                }
                all.extend(transactions);
                if complete {
                    break;
                }
            }
        }
        all.sort_by_key(|transaction| transaction.tid);
        let tids = all.iter().map(|transaction| transaction.tid).collect();
        self.oracle
            .borrow_mut()
            .listed(self.name, least..=max, tids);
        Ok(all)
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// As the core says.
    pub async fn begin(&self) -> Result<SimTxn, Error> {
        self.begin_at(None).await
    }

    /// Begins a transaction, whose tid may be imposed.
    ///
    /// # Errors
    /// As the core says.
    pub async fn begin_at(&self, tid: Option<Tid>) -> Result<SimTxn, Error> {
        let key = TxnKey(self.mailbox.borrow_mut().key());
        let number = self.oracle.borrow_mut().begin(self.name);
        let mut txn = SimTxn {
            client: self.clone(),
            key,
            number,
            name: None,
            open: true,
            pack: None,
        };
        let begin = |reply| Command::Begin {
            txn: key,
            reply,
            tid,
        };
        match self.request(begin).await? {
            Reply::Begun(name) => {
                self.oracle.borrow_mut().named(number, name);
                txn.name = Some(name);
            }
            other => panic!("an answer of another kind: {other:?}"),
        }
        Ok(txn)
    }

    /// Begins an import.
    ///
    /// # Errors
    /// As the core says.
    pub async fn begin_import(&self) -> Result<(ImportKey, Tid), Error> {
        let import = ImportKey(self.mailbox.borrow_mut().key());
        match self
            .request(|reply| Command::BeginImport { import, reply })
            .await?
        {
            Reply::ImportBegun(tid) => Ok((import, tid)),
            other => panic!("an answer of another kind: {other:?}"),
        }
    }

    /// A batch of an import.
    ///
    /// # Errors
    /// As the core says.
    pub async fn import_batch(
        &self,
        import: ImportKey,
        transactions: Vec<WireTransaction>,
        revisions: Vec<(WireRevision, Bytes)>,
    ) -> Result<(), Error> {
        self.request(|reply| Command::ImportBatch {
            import,
            reply,
            transactions,
            revisions,
        })
        .await
        .map(drop)
    }

    /// Commits what was imported so far.
    ///
    /// # Errors
    /// As the core says.
    pub async fn checkpoint_import(
        &self,
        import: ImportKey,
        tid: Tid,
        last_oid: Oid,
    ) -> Result<(), Error> {
        self.request(|reply| Command::CheckpointImport {
            import,
            reply,
            tid,
            last_oid,
        })
        .await
        .map(drop)
    }

    /// Ends an import.
    ///
    /// # Errors
    /// As the core says.
    pub async fn end_import(&self, import: ImportKey) -> Result<(), Error> {
        let reply = |reply| Command::EndImport {
            import,
            reply: Some(reply),
        };
        self.request(reply).await.map(drop)
    }
}
