//! The past, and many objects at once.

use std::ops::RangeInclusive;

use neo_api::{HistoryEntry, Oid, Tid, TransactionRecord};
use neo_proto::PackProgress;

use super::Client;
use crate::current::CurrentObject;
use crate::error::Result;
use crate::iterator::TransactionObject;
use crate::object::Lookup;

impl Client {
    /// See [`crate::Client::load_many`].
    ///
    /// # Errors
    /// As there.
    pub fn load_many(&self, objects: &[(Oid, Tid)]) -> Result<Vec<Lookup>> {
        self.0.wait(self.0.load_many(objects))
    }

    /// See [`crate::Client::prefetch`].
    pub fn prefetch(&self, oids: impl IntoIterator<Item = Oid>, before: Tid) {
        self.0.prefetch(oids, before);
    }

    /// See [`crate::Client::history`]: an iterator.
    #[must_use]
    pub fn history(&self, oid: Oid, before: Tid) -> History {
        History(self.0.history(oid, before))
    }

    /// See [`crate::Client::iterate`]: an iterator.
    ///
    /// # Errors
    /// As there.
    pub fn iterate(&self, range: RangeInclusive<Tid>) -> Result<Transactions> {
        self.0.wait(self.0.iterate(range)).map(Transactions)
    }

    /// See [`crate::Client::database_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn database_bytes(&self) -> Result<u64> {
        self.0.wait(self.0.database_bytes())
    }

    /// See [`crate::Client::undo_log`]: an iterator.
    ///
    /// # Errors
    /// As there.
    pub fn undo_log(&self, range: RangeInclusive<Tid>) -> Result<Transactions> {
        self.0.wait(self.0.undo_log(range)).map(Transactions)
    }

    /// See [`crate::Client::pack`].
    ///
    /// # Errors
    /// As there.
    pub fn pack(&self, at: Tid) -> Result<Pack> {
        self.0.wait(self.0.pack(at)).map(Pack)
    }

    /// See [`crate::Client::pack_objects`].
    ///
    /// # Errors
    /// As there.
    pub fn pack_objects(&self, at: Tid, oids: Vec<Oid>) -> Result<Pack> {
        self.0.wait(self.0.pack_objects(at, oids)).map(Pack)
    }

    /// See [`crate::Client::pack_progress`].
    ///
    /// # Errors
    /// As there.
    pub fn pack_progress(&self) -> Result<PackProgress> {
        self.0.wait(self.0.pack_progress())
    }

    /// See [`crate::Client::current_objects`]: an iterator.
    ///
    /// # Errors
    /// As there.
    pub fn current_objects(&self, at: Tid, start: Oid) -> Result<CurrentObjects> {
        self.0
            .wait(self.0.current_objects(at, start))
            .map(CurrentObjects)
    }
}

/// [`crate::Pack`], blocking.
#[derive(Debug, Clone)]
pub struct Pack(crate::Pack);

impl Pack {
    /// See [`crate::Pack::id`].
    #[must_use]
    pub const fn id(&self) -> Tid {
        self.0.id()
    }

    /// See [`crate::Pack::wait`].
    ///
    /// # Errors
    /// As there.
    pub fn wait(&self) -> Result<()> {
        self.0.client().wait(self.0.wait())
    }
}

/// [`crate::CurrentObjects`], blocking.
#[derive(Debug)]
pub struct CurrentObjects(crate::CurrentObjects);

impl CurrentObjects {
    /// See [`crate::CurrentObjects::tid`].
    #[must_use]
    pub const fn tid(&self) -> Tid {
        self.0.tid()
    }

    /// See [`crate::CurrentObjects::without_values`].
    #[must_use]
    pub fn without_values(self) -> Self {
        Self(self.0.without_values())
    }
}

impl Iterator for CurrentObjects {
    type Item = Result<CurrentObject>;

    fn next(&mut self) -> Option<Self::Item> {
        let client = self.0.client().clone();
        client.next_of(&mut self.0)
    }
}

/// [`crate::History`], blocking.
#[derive(Debug)]
pub struct History(crate::History);

impl Iterator for History {
    type Item = Result<HistoryEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        let client = self.0.client().clone();
        client.next_of(&mut self.0)
    }
}

/// [`crate::Transactions`], blocking.
#[derive(Debug)]
pub struct Transactions(crate::Transactions);

impl Transactions {
    /// See [`crate::Transactions::objects`]: an iterator.
    pub const fn objects(&mut self) -> TransactionObjects<'_> {
        TransactionObjects(self.0.objects())
    }

    /// See [`crate::Transactions::objects_as_stored`].
    ///
    /// # Errors
    /// As there.
    pub fn objects_as_stored(&mut self, of: &TransactionRecord) -> Result<Vec<TransactionObject>> {
        let client = self.0.client().clone();
        client.wait(self.0.objects_as_stored(of))
    }
}

impl Iterator for Transactions {
    type Item = Result<TransactionRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let client = self.0.client().clone();
        client.next_of(&mut self.0)
    }
}

/// [`crate::TransactionObjects`], blocking.
#[derive(Debug)]
pub struct TransactionObjects<'a>(crate::TransactionObjects<'a>);

impl Iterator for TransactionObjects<'_> {
    type Item = Result<TransactionObject>;

    fn next(&mut self) -> Option<Self::Item> {
        let client = self.0.client().clone();
        client.next_of(&mut self.0)
    }
}
