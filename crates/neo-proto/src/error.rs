//! Errors as they travel.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a peer refuses, by what the receiver does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "u16", into = "u16")]
#[non_exhaustive]
pub enum ErrorCode {
    /// Not now: try another node, or the same one later.
    NotReady,
    /// An operator's request that would lose data, or that makes no sense now.
    Denied,
    /// The peer broke the protocol; the connection ends.
    Protocol,
    /// Another cluster: its name, its id, or a side of it that went its own way.
    OtherCluster,
    /// The node's id or address is in use by another node that is connected.
    IdConflict,
    /// The cell is not readable (any more): take the new partition table and another cell.
    NonReadableCell,
    /// The peer identified as read-only, or the database is.
    ReadOnly,
    /// The transaction can't be completed: too many of its nodes failed.
    IncompleteTransaction,
    /// The transaction is not known: aborted, expired, or of an earlier reign.
    UnknownTransaction,
    /// The node can't write: its disk is full. Reads go on.
    NoSpace,
    /// A limit of the peer; the message names it.
    TooLarge,
    /// The data does not match its checksum.
    Checksum,
    /// A revision whose value was to be repeated is not there.
    MissingRevision,
    /// The node can't serve the partition to a replica any more.
    Replication,
    /// The node failed; its log says how.
    Internal,
    /// A code of a newer version.
    Other(u16),
}

impl From<u16> for ErrorCode {
    fn from(code: u16) -> Self {
        match code {
            1 => Self::NotReady,
            2 => Self::Denied,
            3 => Self::Protocol,
            4 => Self::OtherCluster,
            5 => Self::IdConflict,
            6 => Self::NonReadableCell,
            7 => Self::ReadOnly,
            8 => Self::IncompleteTransaction,
            9 => Self::UnknownTransaction,
            10 => Self::NoSpace,
            11 => Self::TooLarge,
            12 => Self::Checksum,
            13 => Self::MissingRevision,
            14 => Self::Replication,
            15 => Self::Internal,
            other => Self::Other(other),
        }
    }
}

impl From<ErrorCode> for u16 {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::NotReady => 1,
            ErrorCode::Denied => 2,
            ErrorCode::Protocol => 3,
            ErrorCode::OtherCluster => 4,
            ErrorCode::IdConflict => 5,
            ErrorCode::NonReadableCell => 6,
            ErrorCode::ReadOnly => 7,
            ErrorCode::IncompleteTransaction => 8,
            ErrorCode::UnknownTransaction => 9,
            ErrorCode::NoSpace => 10,
            ErrorCode::TooLarge => 11,
            ErrorCode::Checksum => 12,
            ErrorCode::MissingRevision => 13,
            ErrorCode::Replication => 14,
            ErrorCode::Internal => 15,
            ErrorCode::Other(code) => code,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::NotReady => "not ready",
            Self::Denied => "denied",
            Self::Protocol => "protocol error",
            Self::OtherCluster => "other cluster",
            Self::IdConflict => "id conflict",
            Self::NonReadableCell => "cell not readable",
            Self::ReadOnly => "read-only",
            Self::IncompleteTransaction => "incomplete transaction",
            Self::UnknownTransaction => "unknown transaction",
            Self::NoSpace => "no space left",
            Self::TooLarge => "too large",
            Self::Checksum => "wrong checksum",
            Self::MissingRevision => "missing revision",
            Self::Replication => "replication refused",
            Self::Internal => "internal error",
            Self::Other(code) => return write!(f, "error {code}"),
        };
        f.write_str(text)
    }
}
