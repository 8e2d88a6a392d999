//! Rows of revisions and transactions, read without trust.

use bytes::Bytes;
use neo_api::{
    BackendError, BackendResult, Checksum, Compression, Oid, Record, Reign, RevisionId, Tid,
    TransactionMeta, TxnId,
};

use super::link::{Link, Row};
use super::pieces;

pub(super) const fn txn(reign: u64, ttid: u64) -> TxnId {
    TxnId {
        reign: Reign(reign),
        ttid: Tid(ttid),
    }
}

/// Of a revision: its data id, what it repeats, and all of its value but the bytes.
pub(super) const VALUE: &str = "o.data_id, o.data_tid, d.compression, d.checksum, d.bytes";

/// The columns of [`VALUE`].
#[derive(Debug)]
pub(super) struct Found {
    pub(super) data_serial: Option<Tid>,
    /// Its value: `None` for a deletion.
    pub(super) value: Option<Unread>,
}

/// A value without its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unread {
    pub(super) id: u64,
    compression: Compression,
    checksum: Checksum,
    pub(super) bytes: usize,
}

impl Found {
    /// From a column on.
    pub(super) fn read(row: &Row, at: usize, id: RevisionId) -> BackendResult<Self> {
        let data_serial = row.maybe(at + 1)?.map(Tid);
        let Some(data) = row.maybe(at)? else {
            return Ok(Self {
                data_serial,
                value: None,
            });
        };
        if row.maybe(at + 4)?.is_none() {
            let RevisionId { tid, oid } = id;
            let lost = format!("revision {tid} of object {oid} has no value {data}");
            return Err(BackendError::Corrupt(lost));
        }
        let damaged = |what: String| BackendError::Corrupt(format!("value {data}: {what}"));
        let checksum = row.maybe_bytes(at + 3)?.unwrap_or_default();
        let value = Unread {
            id: data,
            compression: Compression::try_from(row.int::<u8>(at + 2)?)
                .map_err(|error| damaged(error.to_string()))?,
            checksum: Checksum(
                <[u8; 16]>::try_from(&checksum[..])
                    .map_err(|_| damaged("its checksum is cut".to_owned()))?,
            ),
            bytes: row.int(at + 4)?,
        };
        Ok(Self {
            data_serial,
            value: Some(value),
        })
    }

    /// How many bytes its value has.
    pub(super) fn bytes(&self) -> usize {
        self.value.map_or(0, |value| value.bytes)
    }
}

impl Unread {
    /// Whether its bytes are beside its row.
    pub(super) const fn is_in_pieces(&self) -> bool {
        self.bytes > pieces::PIECE_BYTES
    }

    /// The value, from what its row has of its bytes.
    pub(super) fn record(self, link: &mut Link, inline: Bytes) -> BackendResult<Record> {
        let whose = (pieces::VALUE, self.id, 0);
        Ok(Record {
            compression: self.compression,
            checksum: self.checksum,
            data: pieces::whole(link, whose, self.bytes, inline)?,
        })
    }
}

/// `user, description, extension, oid_bytes, oids`, from a column on.
pub(super) fn metadata(
    link: &mut Link,
    row: &mut Row,
    at: usize,
    whose: pieces::Whose,
) -> BackendResult<(TransactionMeta, Vec<Oid>)> {
    let meta = TransactionMeta {
        user: row.bytes(at)?,
        description: row.bytes(at + 1)?,
        extension: row.bytes(at + 2)?,
    };
    let inline = row.bytes(at + 4)?;
    let oids = pieces::whole(link, whose, row.int(at + 3)?, inline)?;
    Ok((meta, pieces::oids(&oids)?))
}
