//! The past, and many objects at once.

use std::ops::RangeInclusive;

use neo_api::{HistoryEntry, Oid, Tid};
use neo_proto::PackProgress;

use super::{Client, Transactions, block_on};
use crate::current::CurrentObject;
use crate::error::Result;
use crate::object::Lookup;

impl Client {
    /// See [`crate::Client::load_many`].
    ///
    /// # Errors
    /// As there.
    pub fn load_many(&self, objects: &[(Oid, Tid)]) -> Result<Vec<Lookup>> {
        block_on(self.0.load_many(objects))
    }

    /// See [`crate::Client::prefetch`].
    pub fn prefetch(&self, oids: impl IntoIterator<Item = Oid>, before: Tid) {
        self.0.prefetch(oids, before);
    }

    /// See [`crate::Client::history`].
    ///
    /// # Errors
    /// As there.
    pub fn history(&self, oid: Oid, before: Tid, limit: usize) -> Result<Vec<HistoryEntry>> {
        block_on(self.0.history(oid, before, limit))
    }

    /// See [`crate::Client::database_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn database_bytes(&self) -> Result<u64> {
        block_on(self.0.database_bytes())
    }

    /// See [`crate::Client::undo_log`].
    ///
    /// # Errors
    /// As there.
    pub fn undo_log(&self, range: RangeInclusive<Tid>) -> Result<Transactions> {
        block_on(self.0.undo_log(range)).map(Transactions)
    }

    /// See [`crate::Client::pack`].
    ///
    /// # Errors
    /// As there.
    pub fn pack(&self, at: Tid) -> Result<Pack> {
        block_on(self.0.pack(at)).map(Pack)
    }

    /// See [`crate::Client::pack_objects`].
    ///
    /// # Errors
    /// As there.
    pub fn pack_objects(&self, at: Tid, oids: Vec<Oid>) -> Result<Pack> {
        block_on(self.0.pack_objects(at, oids)).map(Pack)
    }

    /// See [`crate::Client::pack_progress`].
    ///
    /// # Errors
    /// As there.
    pub fn pack_progress(&self) -> Result<PackProgress> {
        block_on(self.0.pack_progress())
    }

    /// See [`crate::Client::current_objects`].
    ///
    /// # Errors
    /// As there.
    pub fn current_objects(&self, at: Tid, start: Oid) -> Result<CurrentObjects> {
        block_on(self.0.current_objects(at, start)).map(CurrentObjects)
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
        block_on(self.0.wait())
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

    /// See [`crate::CurrentObjects::next`].
    fn next(&mut self) -> Option<Self::Item> {
        block_on(self.0.next()).transpose()
    }
}
