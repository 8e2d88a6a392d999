//! The layout of a FileStorage file: fixed-size headers to and from bytes, and nothing else.

use neo_api::{Oid, Tid};

/// Bytes before the first transaction.
pub(super) const MAGIC_LEN: u64 = 4;

/// Bytes of a transaction before its user, description and extension.
pub(super) const TRANSACTION_HEADER_LEN: usize = 23;

/// Bytes of a transaction after its records: its length once more.
pub(super) const TRAILER_LEN: u64 = 8;

/// Bytes of a record before its data or back pointer.
pub(super) const RECORD_HEADER_LEN: usize = 42;

/// Bytes of a back pointer.
pub(super) const BACK_POINTER_LEN: usize = 8;

/// Which Python wrote the pickles in a file; everything else is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `FS21`: Python 2. ZODB on Python 3 refuses such a file: its strings need a conversion
    /// (zodbupdate).
    Fs21,
    /// `FS30`: Python 3.
    Fs30,
}

impl Format {
    pub(super) const fn magic(self) -> [u8; 4] {
        match self {
            Self::Fs21 => *b"FS21",
            Self::Fs30 => *b"FS30",
        }
    }

    pub(super) const fn from_magic(magic: [u8; 4]) -> Option<Self> {
        match &magic {
            b"FS21" => Some(Self::Fs21),
            b"FS30" => Some(Self::Fs30),
            _ => None,
        }
    }
}

/// What a transaction's status byte says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Status {
    /// `' '`: committed.
    #[default]
    Normal,
    /// `'p'`: committed, and a pack has been through it.
    Packed,
}

impl Status {
    pub(super) const fn to_byte(self) -> u8 {
        match self {
            Self::Normal => b' ',
            Self::Packed => b'p',
        }
    }
}

/// A status byte as it is found in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RawStatus {
    /// A transaction to read.
    Committed(Status),
    /// `'u'`: undone in place, as ZODB did before it had back pointers; as if it were not there.
    Undone,
    /// `'c'`: its writer did not come to the end of it.
    Unfinished,
    /// None of these.
    Unknown(u8),
}

impl RawStatus {
    const fn from_byte(byte: u8) -> Self {
        match byte {
            b' ' => Self::Committed(Status::Normal),
            b'p' => Self::Committed(Status::Packed),
            b'u' => Self::Undone,
            UNFINISHED => Self::Unfinished,
            byte => Self::Unknown(byte),
        }
    }
}

/// The status byte of a transaction that is being written.
pub(super) const UNFINISHED: u8 = b'c';

/// The fixed part of a transaction's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TransactionHeader {
    pub(super) tid: Tid,
    /// From the beginning of the transaction to its trailer.
    pub(super) length: u64,
    pub(super) status: RawStatus,
    pub(super) user_len: u16,
    pub(super) description_len: u16,
    pub(super) extension_len: u16,
}

impl TransactionHeader {
    pub(super) fn parse(bytes: &[u8; TRANSACTION_HEADER_LEN]) -> Self {
        Self {
            tid: Tid(u64_at(bytes, 0)),
            length: u64_at(bytes, 8),
            status: RawStatus::from_byte(bytes[16]),
            user_len: u16_at(bytes, 17),
            description_len: u16_at(bytes, 19),
            extension_len: u16_at(bytes, 21),
        }
    }

    /// The header of a transaction that has just begun: unfinished, its length not known.
    pub(super) fn begin(tid: Tid, lens: [u16; 3]) -> [u8; TRANSACTION_HEADER_LEN] {
        let mut bytes = [0; TRANSACTION_HEADER_LEN];
        bytes[..8].copy_from_slice(&tid.to_bytes());
        bytes[16] = UNFINISHED;
        for (field, len) in bytes[17..].chunks_exact_mut(2).zip(lens) {
            field.copy_from_slice(&len.to_be_bytes());
        }
        bytes
    }

    /// What finishing a transaction writes over its header, from [`Self::PATCH_OFFSET`] on.
    pub(super) fn finish(length: u64, status: Status) -> [u8; 9] {
        let mut bytes = [0; 9];
        bytes[..8].copy_from_slice(&length.to_be_bytes());
        bytes[8] = status.to_byte();
        bytes
    }

    pub(super) const PATCH_OFFSET: usize = 8;

    /// Length of the header with user, description and extension.
    pub(super) fn full_len(&self) -> u64 {
        let texts = [self.user_len, self.description_len, self.extension_len];
        TRANSACTION_HEADER_LEN as u64 + texts.map(u64::from).iter().sum::<u64>()
    }
}

/// A record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) oid: Oid,
    pub(super) tid: Tid,
    /// Position of the object's record in an earlier transaction, or 0.
    pub(super) previous: u64,
    /// Position of the transaction.
    pub(super) transaction: u64,
    /// Length of a version's name; versions are gone from ZODB since 3.9.
    pub(super) version_len: u16,
    /// Length of the data; 0: a back pointer follows.
    pub(super) data_len: u64,
}

impl RecordHeader {
    pub(super) fn parse(bytes: &[u8; RECORD_HEADER_LEN]) -> Self {
        Self {
            oid: Oid(u64_at(bytes, 0)),
            tid: Tid(u64_at(bytes, 8)),
            previous: u64_at(bytes, 16),
            transaction: u64_at(bytes, 24),
            version_len: u16_at(bytes, 32),
            data_len: u64_at(bytes, 34),
        }
    }

    pub(super) fn to_bytes(self) -> [u8; RECORD_HEADER_LEN] {
        let mut bytes = [0; RECORD_HEADER_LEN];
        bytes[..8].copy_from_slice(&self.oid.to_bytes());
        bytes[8..16].copy_from_slice(&self.tid.to_bytes());
        bytes[16..24].copy_from_slice(&self.previous.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.transaction.to_be_bytes());
        bytes[32..34].copy_from_slice(&self.version_len.to_be_bytes());
        bytes[34..].copy_from_slice(&self.data_len.to_be_bytes());
        bytes
    }

    /// Length of what follows the header: the data or a back pointer.
    pub(super) const fn payload_len(&self) -> u64 {
        if self.data_len == 0 {
            BACK_POINTER_LEN as u64
        } else {
            self.data_len
        }
    }
}

/// The number at `at`; for offsets that are fixed by the layout only.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(number)
}

/// The number at `at`; for offsets that are fixed by the layout only.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_header_reads_back() {
        let header = RecordHeader {
            oid: Oid(1),
            tid: Tid(0x0203_0405_0607_0809),
            previous: 10,
            transaction: 11,
            version_len: 12,
            data_len: 13,
        };
        assert_eq!(RecordHeader::parse(&header.to_bytes()), header);
        assert_eq!(header.to_bytes()[7..10], [1, 2, 3]);
    }

    #[test]
    fn a_transaction_is_unfinished_until_it_is_finished() {
        let mut bytes = TransactionHeader::begin(Tid(7), [1, 2, 3]);
        let header = TransactionHeader::parse(&bytes);
        assert_eq!((header.status, header.length), (RawStatus::Unfinished, 0));
        assert_eq!(header.full_len(), 29);
        bytes[TransactionHeader::PATCH_OFFSET..][..9]
            .copy_from_slice(&TransactionHeader::finish(99, Status::Packed));
        let finished = TransactionHeader {
            status: RawStatus::Committed(Status::Packed),
            ..header
        };
        assert_eq!(
            TransactionHeader::parse(&bytes),
            TransactionHeader {
                length: 99,
                ..finished
            }
        );
    }
}
