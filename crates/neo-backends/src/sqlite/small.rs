//! Small transactions that have voted: many in a row, not several rows each.
//!
//! A row of `voted` is a parcel of transactions, one after the other: bytes that follow u32, reign
//! u64, ttid u64, flags u8 (1: has a tid, 2: has metadata, 4: orders a pack, 8: packed), tid u64, objects u32, then 17 bytes
//! for each object in order of oid as in [`pending`], with the kind 3 for a value that is loose, then
//! the metadata: three texts, each a u32 and its bytes, (with flag 4) what it orders in the same
//! way, and oids of 8 bytes up to the end. All big-endian. A lock changes no length, so that SQLite writes over the row where it is.

use neo_api::{
    BackendError, BackendResult, DataId, ObjectData, Oid, PendingObject, Reign, Tid,
    TransactionMeta, TxnId, UnfinishedTransaction, VotedRecord,
};

use rusqlite::Connection;

use super::error::Doing;
use super::pending::{self, OBJECT_BYTES};
use super::row;
use crate::pack;

/// With more objects, or more bytes of metadata and oids, a transaction has rows of its own. An
/// unlock moves as many objects in one batch, so that a small transaction is seldom written again
/// half-moved.
pub(super) const OBJECTS_MAX: usize = 1000;
pub(super) const RECORD_BYTES_MAX: usize = 16 << 10;

/// A row gets no more transactions once it has so many bytes: it stays within a page.
pub(super) const PARCEL_BYTES: usize = 3900;

const HAS_TID: u8 = 1;
const HAS_RECORD: u8 = 2;
const HAS_ORDER: u8 = 4;
const PACKED: u8 = 8;
const LOOSE_VALUE: u8 = 3;

/// A small transaction that has voted.
#[derive(Debug, Default)]
pub(super) struct Small {
    pub(super) tid: Option<Tid>,
    pub(super) record: Option<VotedRecord>,
    /// In order of oid, each once.
    pub(super) objects: Vec<Object>,
    /// Its row; `None` until the end of the batch that brought it.
    pub(super) parcel: Option<i64>,
    /// Whether some of its values, which are still called loose, may have been claimed.
    pub(super) moved: bool,
}

/// An object of a small transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Object {
    pub(super) pending: PendingObject,
    /// It has a value that no revision has claimed, which is known from here alone: `loose` has
    /// no row of it.
    pub(super) loose: bool,
}

impl Object {
    pub(super) const fn value(&self) -> Option<DataId> {
        match self.pending.data {
            ObjectData::Value(id) => Some(id),
            _ => None,
        }
    }

    /// The value, if it is loose.
    pub(super) fn loose_value(&self) -> Option<DataId> {
        self.value().filter(|_| self.loose)
    }
}

impl Small {
    /// Adds an object; gives the loose value that it displaces.
    pub(super) fn put(&mut self, object: Object) -> Option<DataId> {
        let at = self
            .objects
            .binary_search_by_key(&object.pending.oid, |o| o.pending.oid);
        match at {
            Ok(at) => {
                let old = self.objects[at];
                self.objects[at] = object;
                if old.value() == object.value() {
                    self.objects[at].loose |= old.loose;
                    return None;
                }
                old.loose_value()
            }
            Err(at) => {
                self.objects.insert(at, object);
                None
            }
        }
    }

    /// Appends it to a parcel.
    pub(super) fn encode(&self, txn: TxnId, into: &mut Vec<u8>) -> BackendResult<()> {
        let start = into.len();
        into.extend_from_slice(&[0; 4]);
        into.extend_from_slice(&txn.reign.0.to_be_bytes());
        into.extend_from_slice(&txn.ttid.0.to_be_bytes());
        let has_tid = if self.tid.is_some() { HAS_TID } else { 0 };
        let has_record = if self.record.is_some() { HAS_RECORD } else { 0 };
        let order = self.record.as_ref().and_then(|record| record.pack.as_ref());
        let has_order = if order.is_some() { HAS_ORDER } else { 0 };
        let is_packed = self.record.as_ref().is_some_and(|record| record.packed);
        let packed = if is_packed { PACKED } else { 0 };
        into.push(has_tid | has_record | has_order | packed);
        into.extend_from_slice(&self.tid.unwrap_or_default().to_bytes());
        into.extend_from_slice(&length(self.objects.len())?);
        for object in &self.objects {
            let at = into.len();
            into.extend_from_slice(&pending::pack_object(object.pending));
            if object.loose {
                into[at + pending::KIND] = LOOSE_VALUE;
            }
        }
        if let Some(VotedRecord { meta, oids, .. }) = &self.record {
            for text in [&meta.user, &meta.description, &meta.extension] {
                into.extend_from_slice(&length(text.len())?);
                into.extend_from_slice(text);
            }
            if let Some(order) = order {
                let order = pack::encode_order(order);
                into.extend_from_slice(&length(order.len())?);
                into.extend_from_slice(&order);
            }
            for oid in oids {
                into.extend_from_slice(&oid.to_bytes());
            }
        }
        let bytes = length(into.len() - start - 4)?;
        into[start..start + 4].copy_from_slice(&bytes);
        Ok(())
    }
}

fn length(n: usize) -> BackendResult<[u8; 4]> {
    let n = u32::try_from(n);
    n.map(u32::to_be_bytes)
        .map_err(|_| BackendError::Unsupported("a transaction of 4 GiB".to_owned()))
}

/// The transactions of a parcel, read without trust.
#[derive(Debug)]
pub(super) struct Parcel<'a>(&'a [u8]);

impl<'a> Parcel<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn read(&mut self) -> BackendResult<Entry<'a>> {
        let bytes = u32::from_be_bytes(take(&mut self.0)?);
        let mut entry = self.0.split_off(..bytes as usize).ok_or_else(damaged)?;
        let txn = TxnId {
            reign: Reign(number(&mut entry)?),
            ttid: Tid(number(&mut entry)?),
        };
        Ok(Entry { txn, bytes: entry })
    }
}

impl<'a> Iterator for Parcel<'a> {
    type Item = BackendResult<Entry<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let entry = self.read();
        if entry.is_err() {
            self.0 = &[];
        }
        Some(entry)
    }
}

/// A transaction of a parcel, of which only the name was read.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) txn: TxnId,
    bytes: &'a [u8],
}

impl Entry<'_> {
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(super) fn decode(&self) -> BackendResult<Small> {
        let mut rest = self.bytes;
        let [flags] = take(&mut rest)?;
        let tid = Tid(number(&mut rest)?);
        let objects = u32::from_be_bytes(take(&mut rest)?) as usize;
        let objects = objects
            .checked_mul(OBJECT_BYTES)
            .and_then(|bytes| rest.split_off(..bytes))
            .ok_or_else(damaged)?;
        let (objects, _) = objects.as_chunks();
        let objects = objects.iter().map(decode_object).collect::<Result<_, _>>();
        let record = if flags & HAS_RECORD == 0 {
            None
        } else {
            let mut text = || {
                let length = u32::from_be_bytes(take(&mut rest)?) as usize;
                rest.split_off(..length).ok_or_else(damaged)
            };
            let meta = TransactionMeta {
                user: row::bytes(text()?),
                description: row::bytes(text()?),
                extension: row::bytes(text()?),
            };
            let pack = (flags & HAS_ORDER != 0)
                .then(|| pack::decode_order(text()?))
                .transpose()?;
            let (oids, none) = rest.as_chunks();
            if !none.is_empty() {
                return Err(damaged());
            }
            let oids = oids.iter().copied().map(Oid::from_bytes).collect();
            Some(VotedRecord {
                meta,
                oids,
                packed: flags & PACKED != 0,
                pack,
            })
        };
        Ok(Small {
            tid: (flags & HAS_TID != 0).then_some(tid),
            record,
            objects: objects?,
            ..Small::default()
        })
    }

    pub(super) fn transaction(&self) -> BackendResult<UnfinishedTransaction> {
        let small = self.decode()?;
        Ok(UnfinishedTransaction {
            txn: self.txn,
            tid: small.tid,
            record: small.record,
        })
    }
}

fn decode_object(object: &[u8; OBJECT_BYTES]) -> BackendResult<Object> {
    let mut object = *object;
    let loose = object[pending::KIND] == LOOSE_VALUE;
    if loose {
        object[pending::KIND] = pending::VALUE;
    }
    Ok(Object {
        pending: pending::unpack_object(&object)?,
        loose,
    })
}

fn number(bytes: &mut &[u8]) -> BackendResult<u64> {
    Ok(u64::from_be_bytes(take(bytes)?))
}

fn take<const N: usize>(bytes: &mut &[u8]) -> BackendResult<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
    *bytes = rest;
    Ok(*first)
}

fn damaged() -> BackendError {
    BackendError::Corrupt("transactions that have voted cannot be read".to_owned())
}

/// Reads the rows of small transactions.
pub(super) fn each_parcel(
    conn: &Connection,
    mut read: impl FnMut(i64, Parcel<'_>) -> BackendResult<()>,
) -> BackendResult<()> {
    const DOING: &str = "reading small transactions";
    let sql = "SELECT id, transactions FROM voted";
    let mut query = conn.prepare_cached(sql).doing(DOING)?;
    let mut rows = query.query([]).doing(DOING)?;
    while let Some(row) = rows.next().doing(DOING)? {
        let blob = row.get_ref(1).doing(DOING)?.as_blob();
        let blob = blob.map_err(rusqlite::Error::from).doing(DOING)?;
        read(row::get(row, 0)?, Parcel::new(blob))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(ttid: u64) -> TxnId {
        TxnId {
            reign: Reign(3),
            ttid: Tid(ttid),
        }
    }

    fn small() -> Small {
        let object = |oid, data, loose| Object {
            pending: PendingObject {
                oid: Oid(oid),
                data,
            },
            loose,
        };
        let meta = TransactionMeta {
            user: "someone".into(),
            description: "does something".into(),
            extension: b"\x80}".as_slice().into(),
        };
        Small {
            tid: Some(Tid(77)),
            record: Some(VotedRecord {
                meta,
                oids: vec![Oid(5), Oid(1)],
                packed: true,
                pack: Some(neo_api::PackOrder {
                    at: Tid(70),
                    oids: Some(vec![Oid(3)]),
                }),
            }),
            objects: vec![
                object(1, ObjectData::Value(DataId(9)), true),
                object(2, ObjectData::Value(DataId(8)), false),
                object(3, ObjectData::SameAs(Tid(4)), false),
                object(5, ObjectData::Deleted, false),
            ],
            ..Small::default()
        }
    }

    fn parcel() -> Vec<u8> {
        let mut bytes = Vec::new();
        small().encode(name(1), &mut bytes).unwrap();
        Small::default().encode(name(2), &mut bytes).unwrap();
        bytes
    }

    fn read(bytes: &[u8]) -> BackendResult<Vec<(TxnId, Small)>> {
        let entries = Parcel::new(bytes).map(|entry| {
            let entry = entry?;
            Ok((entry.txn, entry.decode()?))
        });
        entries.collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let expected = [(name(1), small()), (name(2), Small::default())];
        let found = read(&parcel()).unwrap();
        assert_eq!(format!("{found:?}"), format!("{expected:?}"));
    }

    #[test]
    fn a_lock_changes_no_length() {
        let mut bytes = Vec::new();
        let unlocked = Small {
            tid: None,
            ..small()
        };
        unlocked.encode(name(1), &mut bytes).unwrap();
        let before = bytes.len();
        small().encode(name(1), &mut bytes).unwrap();
        assert_eq!(bytes.len(), 2 * before);
    }

    #[test]
    fn damage_is_an_error_or_other_data_and_never_a_panic() {
        let whole = parcel();
        for length in 1..whole.len() {
            let cut = read(&whole[..length]);
            assert!(cut.is_err() || cut.unwrap().len() == 1, "{length} bytes");
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                let _ = read(&flipped);
            }
        }
    }
}
