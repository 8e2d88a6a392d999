//! Newest serials that are known without asking the backend.
//!
//! A new object has no revision: its oid is above every oid that had one when the node looked, and
//! no transaction has committed it since. An object that was written or read lately has the serial
//! that was seen. So that most stores need no read.

use std::collections::{BTreeMap, VecDeque};

use neo_api::{Oid, RevisionId, Tid};

/// Most serials that are remembered: some megabytes.
const KNOWN_MAX: usize = 1 << 16;

/// When a read began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Era {
    /// How often everything was forgotten before.
    resets: u64,
    /// How many serials had been forgotten to make room.
    evictions: u64,
}

/// What is known, in one period of service.
#[derive(Debug, Default)]
pub(crate) struct Serials {
    /// An object above it has a revision only if it is in `known`.
    floor: Option<Oid>,
    known: BTreeMap<Oid, Tid>,
    /// The same oids, in the order in which they came, and some that were removed.
    order: VecDeque<Oid>,
    /// The greatest oid that is not remembered any more.
    forgotten: Option<Oid>,
    /// Moved on when something is forgotten: what was read before may be older than that.
    era: Era,
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
            self.era.evictions += 1;
        }
    }

    /// Revisions were removed, some of which may have been the newest of their objects.
    pub(crate) fn removed(&mut self, ids: &[RevisionId]) {
        // What a read is about to tell may be one of them.
        self.era.evictions += 1;
        for RevisionId { tid, oid } in ids {
            if self.known.get(oid) == Some(tid) {
                self.known.remove(oid);
                self.forgotten = self.forgotten.max(Some(*oid));
                self.floor = self.floor.map(|floor| floor.max(*oid));
            }
        }
    }

    /// Something else than commits changed what is stored, or which partitions are here.
    pub(crate) fn forget(&mut self) {
        let mut era = self.era;
        era.resets += 1;
        *self = Self {
            era,
            ..Self::default()
        };
    }

    /// To be shown with what a read that begins now finds.
    pub(crate) const fn era(&self) -> Era {
        self.era
    }

    /// A read that began in this era found the newest revision.
    pub(crate) fn read(&mut self, era: Era, oid: Oid, serial: Tid) {
        if era == self.era {
            self.committed(oid, serial);
        }
    }

    /// A read that began in this era found the greatest oid that has a revision.
    pub(crate) fn greatest(&mut self, era: Era, oid: Option<Oid>) {
        // What was committed after the read is known, or forgotten.
        if era.resets == self.era.resets {
            self.floor = Some(oid.max(self.forgotten).unwrap_or(Oid::ZERO));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(greatest: Option<u64>) -> Serials {
        let mut serials = Serials::default();
        serials.greatest(serials.era(), greatest.map(Oid));
        serials
    }

    #[test]
    fn what_is_above_the_greatest_oid_is_new() {
        assert_eq!(Serials::default().get(Oid(9)), None);
        let mut serials = looked(Some(7));
        assert_eq!(serials.get(Oid(7)), None);
        assert_eq!(serials.get(Oid(8)), Some(None));
        serials.committed(Oid(9), Tid(20));
        assert_eq!(serials.get(Oid(9)), Some(Some(Tid(20))));
        assert_eq!(serials.get(Oid(8)), Some(None));
    }

    #[test]
    fn a_read_never_takes_a_serial_back() {
        let mut serials = looked(Some(7));
        let era = serials.era();
        serials.committed(Oid(3), Tid(20));
        serials.read(era, Oid(3), Tid(10));
        assert_eq!(serials.get(Oid(3)), Some(Some(Tid(20))));
        serials.read(era, Oid(4), Tid(11));
        assert_eq!(serials.get(Oid(4)), Some(Some(Tid(11))));
    }

    #[test]
    fn what_was_read_before_something_was_forgotten_does_not_count() {
        let mut serials = looked(Some(7));
        let era = serials.era();
        serials.forget();
        serials.read(era, Oid(3), Tid(10));
        serials.greatest(era, Some(Oid(7)));
        assert_eq!((serials.get(Oid(3)), serials.get(Oid(8))), (None, None));
    }

    #[test]
    fn the_newest_revision_of_an_object_may_be_removed() {
        let mut serials = looked(Some(7));
        let era = serials.era();
        serials.committed(Oid(9), Tid(20));
        serials.committed(Oid(8), Tid(20));
        serials.removed(&[(Tid(10), Oid(9)).into(), (Tid(20), Oid(8)).into()]);
        assert_eq!(serials.get(Oid(9)), Some(Some(Tid(20))));
        assert_eq!(serials.get(Oid(8)), None);
        // A read that found it before it was removed.
        serials.read(era, Oid(8), Tid(20));
        assert_eq!(serials.get(Oid(8)), None);
    }

    #[test]
    fn it_is_bounded_and_what_leaves_is_not_new() {
        let mut serials = looked(None);
        let most = KNOWN_MAX as u64;
        for oid in 1..=most + 3 {
            serials.committed(Oid(oid), Tid(oid));
        }
        assert_eq!(serials.known.len(), KNOWN_MAX);
        assert_eq!(serials.get(Oid(3)), None);
        assert_eq!(serials.get(Oid(4)), Some(Some(Tid(4))));
        assert_eq!(serials.get(Oid(most + 4)), Some(None));
        // What left before the greatest oid was known counts too.
        let mut late = Serials::default();
        for oid in 1..=most + 3 {
            late.committed(Oid(oid), Tid(oid));
        }
        late.greatest(Era::default(), Some(Oid(1)));
        assert_eq!(late.get(Oid(3)), None);
        assert_eq!(late.get(Oid(4)), Some(Some(Tid(4))));
    }
}
