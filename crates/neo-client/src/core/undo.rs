//! What an undo does to an object, by what a storage node tells of it.

use neo_api::{Record, Tid};
use neo_proto::UndoRevision;

use super::effect::Change;

/// What an undo does to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undoing {
    /// It gets the value of an earlier revision again.
    SameAs(Tid),
    /// It had no value: it is deleted.
    Delete,
    /// Something else has changed it since: both changes are merged.
    Merge {
        /// What it is now.
        current: Current,
        /// The revision that it was before.
        previous: Tid,
    },
    /// There is nothing to merge: it is deleted now, or was not there before.
    Impossible,
}

/// What an object is, to the transaction that undoes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Current {
    /// A revision.
    Revision(Tid),
    /// A value that the same transaction has stored.
    Stored(Record),
}

impl Undoing {
    /// The tid before which an object is looked at, for a transaction that has made this change of
    /// it: when that repeats a revision, what came later does not count any more.
    #[must_use]
    pub const fn before(snapshot: Tid, own: Option<&(Tid, Change)>) -> Tid {
        match own {
            Some((_, Change::SameAs(tid))) => Tid(tid.0.saturating_add(1)),
            _ => snapshot,
        }
    }

    /// What to do to an object of which `revision` was told, and this change made already; with the
    /// revision from which the new change starts.
    #[must_use]
    pub fn of(revision: UndoRevision, own: Option<(Tid, Change)>) -> (Tid, Self) {
        let (base, current) = match own {
            None | Some((_, Change::Check)) => {
                (revision.current, Current::Revision(revision.current))
            }
            Some((base, Change::SameAs(tid))) => (base, Current::Revision(tid)),
            Some((base, Change::Value(record))) => (base, Current::Stored(record)),
            Some((base, Change::Deletion)) => return (base, Self::Impossible),
        };
        let is_current = revision.is_current && matches!(current, Current::Revision(_));
        let undoing = match (is_current, revision.previous) {
            (true, Some(previous)) => Self::SameAs(previous),
            (true, None) => Self::Delete,
            (false, Some(previous)) => Self::Merge { current, previous },
            (false, None) => Self::Impossible,
        };
        (base, undoing)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const fn revision(is_current: bool, previous: Option<u64>) -> UndoRevision {
        UndoRevision {
            current: Tid(50),
            is_current,
            previous: match previous {
                Some(tid) => Some(Tid(tid)),
                None => None,
            },
        }
    }

    #[test]
    fn what_is_done_depends_on_what_was_changed_since() {
        let merge = Undoing::Merge {
            current: Current::Revision(Tid(50)),
            previous: Tid(10),
        };
        for (told, expected) in [
            (revision(true, Some(10)), Undoing::SameAs(Tid(10))),
            (revision(true, None), Undoing::Delete),
            (revision(false, Some(10)), merge),
            (revision(false, None), Undoing::Impossible),
        ] {
            assert_eq!(Undoing::of(told, None), (Tid(50), expected.clone()));
            let checked = Some((Tid(40), Change::Check));
            assert_eq!(Undoing::of(told, checked), (Tid(50), expected));
        }
    }

    #[test]
    fn what_the_same_transaction_did_counts() {
        let told = revision(true, Some(10));
        let repeats = Some((Tid(70), Change::SameAs(Tid(50))));
        assert_eq!(Undoing::before(Tid(90), repeats.as_ref()), Tid(51));
        assert_eq!(
            Undoing::of(told, repeats),
            (Tid(70), Undoing::SameAs(Tid(10)))
        );
        let record = Record::raw(Bytes::from_static(b"merged"));
        let stored = Some((Tid(70), Change::Value(record.clone())));
        assert_eq!(Undoing::before(Tid(90), stored.as_ref()), Tid(90));
        let merge = Undoing::Merge {
            current: Current::Stored(record),
            previous: Tid(10),
        };
        assert_eq!(Undoing::of(told, stored), (Tid(70), merge));
        let deleted = Some((Tid(70), Change::Deletion));
        assert_eq!(Undoing::of(told, deleted), (Tid(70), Undoing::Impossible));
    }
}
