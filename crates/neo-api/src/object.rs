//! Object revisions: raw records with their compression and checksum.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{Oid, Tid};

/// Largest object, in bytes as stored: 64 MiB.
pub const OBJECT_BYTES_MAX: usize = 64 << 20;

/// Most oids in one transaction: 2^21 - 1, as in NEO.
pub const TRANSACTION_OIDS_MAX: usize = (1 << 21) - 1;

/// How the bytes of a record are compressed; storage nodes keep them as the client sent them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
#[repr(u8)]
pub enum Compression {
    /// As they are.
    None = 0,
    /// A zlib stream (RFC 1950).
    Zlib = 1,
    /// The length uncompressed, as 32 bits of which the lowest come first, and an LZ4 block.
    Lz4 = 2,
}

/// A compression code of a newer version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("compression code {0} is not known to this version")]
pub struct UnknownCompression(pub u8);

impl TryFrom<u8> for Compression {
    type Error = UnknownCompression;

    fn try_from(code: u8) -> Result<Self, UnknownCompression> {
        match code {
            0 => Ok(Self::None),
            1 => Ok(Self::Zlib),
            2 => Ok(Self::Lz4),
            _ => Err(UnknownCompression(code)),
        }
    }
}

impl From<Compression> for u8 {
    fn from(compression: Compression) -> Self {
        compression as Self
    }
}

/// Checksum of a record's bytes as stored: XXH3, 128 bits, big-endian.
///
/// It finds damage, on the wire and at rest; it is no defence against a forger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Checksum(#[serde(with = "serde_bytes")] pub [u8; 16]);

impl Checksum {
    /// The checksum of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(xxhash_rust::xxh3::xxh3_128(bytes).to_be_bytes())
    }
}

/// The stored form of one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// How `data` is compressed.
    pub compression: Compression,
    /// Checksum of `data`.
    pub checksum: Checksum,
    /// The bytes, as stored.
    pub data: Bytes,
}

impl Record {
    /// An uncompressed record, its checksum computed.
    #[must_use]
    pub fn raw(data: Bytes) -> Self {
        Self::new(Compression::None, data)
    }

    /// A record of bytes that are compressed already, its checksum computed.
    #[must_use]
    pub fn new(compression: Compression, data: Bytes) -> Self {
        Self {
            compression,
            checksum: Checksum::of(&data),
            data,
        }
    }

    /// Whether the bytes are those that the checksum was made of.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        Checksum::of(&self.data) == self.checksum
    }
}

/// Which revision of an object is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum At {
    /// The newest.
    Latest,
    /// The newest with a serial strictly below this tid.
    Before(Tid),
    /// The one with exactly this serial.
    Exact(Tid),
}

/// What a look-up of a revision finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded {
    /// A revision with data.
    Found(Revision),
    /// A deletion, or the undo of the object's creation.
    Deleted {
        /// Tid of the deletion.
        serial: Tid,
        /// Tid of the next revision, if there is one.
        next_serial: Option<Tid>,
    },
    /// The object exists, but no revision is as asked: for `Before`, it was created later; for
    /// `Exact`, no revision has that serial.
    NotYet,
    /// No revision of this oid exists.
    Unknown,
}

impl Loaded {
    /// Bytes of the value that was found, as stored; 0 when there is none.
    #[must_use]
    pub const fn value_bytes(&self) -> usize {
        match self {
            Self::Found(revision) => revision.record.data.len(),
            _ => 0,
        }
    }
}

/// A revision with its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Tid of the transaction that wrote it.
    pub serial: Tid,
    /// Tid of the next revision, if there is one: the revision is valid in `[serial, next_serial)`.
    pub next_serial: Option<Tid>,
    /// The value.
    pub record: Record,
    /// When it repeats an earlier revision (an undo): the tid of that revision.
    pub data_serial: Option<Tid>,
}

/// Name of one revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(Tid, Oid)", into = "(Tid, Oid)")]
pub struct RevisionId {
    /// Tid of the transaction that wrote it. First, so that the order is that of replication.
    pub tid: Tid,
    /// The object.
    pub oid: Oid,
}

impl From<(Tid, Oid)> for RevisionId {
    fn from((tid, oid): (Tid, Oid)) -> Self {
        Self { tid, oid }
    }
}

impl From<RevisionId> for (Tid, Oid) {
    fn from(id: RevisionId) -> Self {
        (id.tid, id.oid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_is_found() {
        let mut record = Record::raw(Bytes::from_static(b"state"));
        assert!(record.is_intact());
        record.data = Bytes::from_static(b"stare");
        assert!(!record.is_intact());
    }
}
