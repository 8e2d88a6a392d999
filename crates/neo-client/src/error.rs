//! What can go wrong, by what the caller does about it.

use std::error::Error as StdError;
use std::sync::Arc;

use neo_api::{Oid, Tid, TxnId};
use neo_proto::ErrorCode;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Somebody else changed the object, and the changes could not be merged: redo the
    /// transaction on a new snapshot.
    #[error("object {oid} was changed by transaction {serial} meanwhile")]
    Conflict {
        /// The object.
        oid: Oid,
        /// Its serial at the time.
        serial: Tid,
    },
    /// An object that the transaction read and checked is not current any more: redo the
    /// transaction on a new snapshot.
    #[error("object {oid}, which the transaction relies on, was changed by transaction {serial}")]
    ReadConflict {
        /// The object.
        oid: Oid,
        /// Its serial at the time.
        serial: Tid,
    },
    /// The cluster does not serve at the moment, or a part of it was lost in the middle of the
    /// transaction; nothing was committed. Try again.
    #[error("not ready: {0}")]
    NotReady(String),
    /// Nothing was heard in time; a transaction is not committed. Try again, or look at what the
    /// operation waited for.
    #[error("timed out waiting for {0}")]
    Timeout(String),
    /// The transaction can't be completed, because too many of its nodes failed; it is aborted.
    /// Redo it.
    #[error("the transaction can't be completed: {0}")]
    IncompleteTransaction(String),
    /// Nobody answered whether the transaction is committed. Do **not** redo it blindly: look at
    /// the data first.
    #[error("the outcome of transaction {txn} is unknown: {reason}")]
    Unknown {
        /// Which transaction.
        txn: TxnId,
        /// What happened.
        reason: String,
    },
    /// The client, or the database, is read-only.
    #[error("read-only: {0}")]
    ReadOnly(String),
    /// A limit; the message names it.
    #[error("too large: {0}")]
    TooLarge(String),
    /// The storage nodes' disks are full. Reads go on.
    #[error("no space left: {0}")]
    NoSpace(String),
    /// No replica has the data as it was stored.
    #[error("the data of object {oid} before {tid} does not match its checksum on any replica")]
    Checksum {
        /// The object.
        oid: Oid,
        /// The tid that was asked for: the revision is before it, or has it.
        tid: Tid,
    },
    /// An object is not there as of a tid that a pack has been through: what it was then, if it was,
    /// is gone. A transaction that reads a later snapshot may succeed.
    #[error("what object {oid} was before {tid} may have been packed away")]
    PackedAway {
        /// The object.
        oid: Oid,
        /// The tid that was asked for: the revision is before it, or has it.
        tid: Tid,
    },
    /// A revision that was to be repeated is not there any more.
    #[error("a revision is missing: {0}")]
    MissingRevision(String),
    /// A transaction can't be undone.
    #[error("transaction {tid} can't be undone: {reason}")]
    Undo {
        /// The transaction.
        tid: Tid,
        /// The object that stands in the way, if it is one.
        oid: Option<Oid>,
        /// What is in the way.
        reason: String,
    },
    /// The masters belong to another cluster, or to a side of it that went its own way.
    #[error("other cluster: {0}")]
    OtherCluster(String),
    /// The cluster refuses the request for what it is.
    #[error("denied: {0}")]
    Denied(String),
    /// A node failed, or broke the protocol; its log says how.
    #[error("a node failed: {0}")]
    Node(String),
    /// The call makes no sense now: for instance, a store after the vote.
    #[error("misuse: {0}")]
    Misuse(String),
    /// The client is closed.
    #[error("the client is closed")]
    Closed,
    /// The application's own error, out of [`Client::transact`](crate::Client::transact).
    #[error("{0}")]
    Application(#[source] Arc<dyn StdError + Send + Sync>),
}

impl Error {
    /// An error of the application's own, to leave [`Client::transact`](crate::Client::transact)
    /// with: it aborts the transaction and is never retried.
    pub fn application(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Application(Arc::from(error.into()))
    }

    /// Whether the same transaction, redone on a new snapshot, may succeed. Never true when it may
    /// be committed already.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Conflict { .. }
                | Self::ReadConflict { .. }
                | Self::PackedAway { .. }
                | Self::NotReady(_)
                | Self::Timeout(_)
                | Self::IncompleteTransaction(_)
        )
    }

    /// Whether redoing the transaction is what a conflict asks for.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        matches!(
            self,
            Self::Conflict { .. } | Self::ReadConflict { .. } | Self::PackedAway { .. }
        )
    }

    /// An error of each variant: for those who turn them into errors of their own, to test that
    /// they know all of them.
    #[must_use]
    pub fn one_of_each() -> Vec<Self> {
        let (oid, tid) = (Oid(1), Tid(2));
        let reign = neo_api::Reign(1);
        let txn = TxnId { reign, ttid: tid };
        let why = || "for some reason".to_owned();
        vec![
            Self::Conflict { oid, serial: tid },
            Self::ReadConflict { oid, serial: tid },
            Self::NotReady(why()),
            Self::Timeout(why()),
            Self::IncompleteTransaction(why()),
            Self::Unknown { txn, reason: why() },
            Self::ReadOnly(why()),
            Self::TooLarge(why()),
            Self::NoSpace(why()),
            Self::Checksum { oid, tid },
            Self::PackedAway { oid, tid },
            Self::MissingRevision(why()),
            Self::Undo {
                tid,
                oid: Some(oid),
                reason: why(),
            },
            Self::OtherCluster(why()),
            Self::Denied(why()),
            Self::Node(why()),
            Self::Misuse(why()),
            Self::Closed,
            Self::application(why()),
        ]
    }

    /// A refusal of a peer. `who` is for the message.
    pub(crate) fn refused(who: &str, code: ErrorCode, message: &str) -> Self {
        let words = format!("{who}: {message}");
        match code {
            ErrorCode::NotReady | ErrorCode::NonReadableCell | ErrorCode::IdConflict => {
                Self::NotReady(words)
            }
            ErrorCode::Denied => Self::Denied(words),
            ErrorCode::OtherCluster => Self::OtherCluster(words),
            ErrorCode::ReadOnly => Self::ReadOnly(words),
            ErrorCode::IncompleteTransaction | ErrorCode::UnknownTransaction => {
                Self::IncompleteTransaction(words)
            }
            ErrorCode::NoSpace => Self::NoSpace(words),
            ErrorCode::TooLarge => Self::TooLarge(words),
            ErrorCode::MissingRevision => Self::MissingRevision(words),
            code => Self::Node(format!("{words} ({code})")),
        }
    }
}

#[cfg(test)]
mod tests {
    use neo_api::Reign;

    use super::*;

    /// Its place in [`Error::one_of_each`]. A variant that is missing here belongs there, too.
    const fn place(error: &Error) -> usize {
        match error {
            Error::Conflict { .. } => 0,
            Error::ReadConflict { .. } => 1,
            Error::NotReady(_) => 2,
            Error::Timeout(_) => 3,
            Error::IncompleteTransaction(_) => 4,
            Error::Unknown { .. } => 5,
            Error::ReadOnly(_) => 6,
            Error::TooLarge(_) => 7,
            Error::NoSpace(_) => 8,
            Error::Checksum { .. } => 9,
            Error::PackedAway { .. } => 10,
            Error::MissingRevision(_) => 11,
            Error::Undo { .. } => 12,
            Error::OtherCluster(_) => 13,
            Error::Denied(_) => 14,
            Error::Node(_) => 15,
            Error::Misuse(_) => 16,
            Error::Closed => 17,
            Error::Application(_) => 18,
        }
    }

    #[test]
    fn there_is_an_example_of_each() {
        let places: Vec<usize> = Error::one_of_each().iter().map(place).collect();
        assert_eq!(places, (0..19).collect::<Vec<_>>());
    }

    #[test]
    fn an_unknown_outcome_is_never_retried() {
        let txn = TxnId {
            reign: Reign(1),
            ttid: Tid(2),
        };
        let unknown = Error::Unknown {
            txn,
            reason: "the connection was lost".into(),
        };
        assert!(!unknown.is_retryable());
        assert!(!Error::application("mine").is_retryable());
        assert!(
            Error::Conflict {
                oid: Oid(1),
                serial: Tid(2)
            }
            .is_retryable()
        );
        assert_eq!(Error::application("mine").to_string(), "mine");
    }

    #[test]
    fn a_refusal_says_who_and_why() {
        let error = Error::refused("S1", ErrorCode::NoSpace, "the disk is full");
        assert_eq!(error.to_string(), "no space left: S1: the disk is full");
    }
}
