//! Newest serials that are known without asking the backend.
//!
//! A new object has no revision: its oid is above every oid that had one when the node looked, and
//! no transaction has committed it since. An object that was written or read lately has the serial
//! that was seen. So that most stores need no read.

use std::collections::{BTreeMap, VecDeque};

use neo_api::{Oid, Tid};

/// Most serials that are remembered: some megabytes.
const KNOWN_MAX: usize = 1 << 16;

/// What is known, in one period of service.
#[derive(Debug, Default)]
pub(crate) struct Serials {
    /// An object above it has a revision only if it is in `known`.
    floor: Option<Oid>,
    known: BTreeMap<Oid, Tid>,
    /// The same oids, in the order in which they came.
    order: VecDeque<Oid>,
    /// The greatest oid that is not remembered any more.
    forgotten: Option<Oid>,
    /// Moved on when something is forgotten: what was read before may be older than what was.
    era: u64,
}

impl Serials {
    /// The newest serial of an object (`Some(None)`: it has no revision), if it is known.
    pub(crate) fn get(&self, oid: Oid) -> Option<Option<Tid>> {
        match self.known.get(&oid) {
            Some(serial) => Some(Some(*serial)),
            None if self.floor.is_some_and(|floor| oid > floor) => Some(None),
            None => None,
        }
    }

    /// A revision was committed.
    pub(crate) fn committed(&mut self, oid: Oid, serial: Tid) {
        let before = self.known.insert(oid, serial);
        // Never back: what was read may come after what was committed meanwhile.
        if let Some(before) = before.filter(|before| *before > serial) {
            self.known.insert(oid, before);
        }
        if before.is_none() {
            self.order.push_back(oid);
        }
        if self.order.len() > KNOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
            self.forgotten = self.forgotten.max(Some(oldest));
            self.floor = self.floor.map(|floor| floor.max(oldest));
            self.era += 1;
        }
    }

    /// Something else than commits changed what is stored, or which partitions are here.
    pub(crate) fn forget(&mut self) {
        let era = self.era + 1;
        *self = Self {
            era,
            ..Self::default()
        };
    }

    /// To be shown with what a read that begins now finds.
    pub(crate) const fn era(&self) -> u64 {
        self.era
    }

    /// A read that began in this era found the newest revision.
    pub(crate) fn read(&mut self, era: u64, oid: Oid, serial: Tid) {
        if era == self.era {
            self.committed(oid, serial);
        }
    }

    /// A read that began in this era found the greatest oid that has a revision.
    pub(crate) fn greatest(&mut self, era: u64, oid: Option<Oid>) {
        // What was committed after the read is known, or forgotten.
        if era == self.era {
            self.floor = Some(oid.max(self.forgotten).unwrap_or(Oid::ZERO));
        }
    }
}
