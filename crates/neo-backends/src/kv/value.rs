//! Values: compact, each with the number of its format first, and decoded without trust.
//!
//! A number stands for one layout for ever: a golden file has a row of each kind.

use bytes::{BufMut, Bytes, BytesMut};
use neo_api::{
    BackendError, BackendResult, Checksum, Compression, DataId, ObjectData, Oid, PackOrder,
    PartitionTable, Record, Reign, Tid, TransactionMeta, TransactionRecord, TxnId, VotedRecord,
};

use crate::pack;

/// Of all kinds but one.
const FORMAT: u8 = 1;

/// Of unfinished transactions. 1 had no flags.
const UNFINISHED_FORMAT: u8 = 2;

/// Of values that others have as well.
const SHARING_FORMAT: u8 = 3;

/// A revision: where its value is.
///
/// `format u8, flags u8 (1: has a value, 2: repeats, 4: shared), [data id u64], [tid u64]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rev {
    /// Its value; `None` when it is a deletion.
    pub(super) data: Option<DataId>,
    /// Which revision it repeats; a deletion can repeat one.
    pub(super) data_serial: Option<Tid>,
    /// Whether another revision of the object may have the same value. Never reset: it only saves
    /// those that don't share, which are nearly all, the search for others when they go.
    pub(super) shared: bool,
}

impl Rev {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(18);
        out.put_u8(FORMAT);
        out.put_u8(
            u8::from(self.data.is_some())
                | u8::from(self.data_serial.is_some()) << 1
                | u8::from(self.shared) << 2,
        );
        if let Some(id) = self.data {
            out.put_u64(id.0);
        }
        if let Some(tid) = self.data_serial {
            out.put_u64(tid.0);
        }
        out.freeze()
    }

    pub(super) fn decode(bytes: &Bytes) -> BackendResult<Self> {
        let mut input = Input::new(bytes, "a revision")?;
        let flags = input.flags(0b111)?;
        let rev = Self {
            data: (flags & 1 != 0)
                .then(|| input.u64())
                .transpose()?
                .map(DataId),
            data_serial: (flags & 2 != 0).then(|| input.u64()).transpose()?.map(Tid),
            shared: flags & 4 != 0,
        };
        input.end()?;
        Ok(rev)
    }
}

/// `format u8, compression u8, checksum 16 bytes, data`
pub(super) fn encode_record(record: &Record) -> Bytes {
    let mut out = BytesMut::with_capacity(18 + record.data.len());
    out.put_u8(FORMAT);
    out.put_u8(record.compression.into());
    out.put_slice(&record.checksum.0);
    out.put_slice(&record.data);
    out.freeze()
}

/// What is found under a data id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// A value of its own.
    Own(Record),
    /// One that others have as well.
    Shared(Sharing),
}

/// How a value differs from others with the same bytes, and where these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sharing {
    pub(super) compression: Compression,
    pub(super) checksum: Checksum,
    /// The data id that the bytes came with.
    pub(super) id: DataId,
}

impl Sharing {
    pub(super) fn record(self, data: Bytes) -> Record {
        Record {
            compression: self.compression,
            checksum: self.checksum,
            data,
        }
    }
}

/// As a record, of [`SHARING_FORMAT`] and with a data id instead of the data.
pub(super) fn encode_sharing(sharing: &Sharing) -> Bytes {
    let mut out = BytesMut::with_capacity(26);
    out.put_u8(SHARING_FORMAT);
    out.put_u8(sharing.compression.into());
    out.put_slice(&sharing.checksum.0);
    out.put_u64(sharing.id.0);
    out.freeze()
}

pub(super) fn decode_value(bytes: &Bytes) -> BackendResult<Value> {
    let is_sharing = bytes.first() == Some(&SHARING_FORMAT);
    let format = if is_sharing { SHARING_FORMAT } else { FORMAT };
    let mut input = Input::of_format(format, bytes, "a value")?;
    let compression = input.u8()?;
    let compression =
        Compression::try_from(compression).map_err(|error| input.damaged(&error.to_string()))?;
    let checksum = Checksum(input.array()?);
    if !is_sharing {
        let data = input.rest;
        return Ok(Value::Own(Record {
            compression,
            checksum,
            data,
        }));
    }
    let id = DataId(input.u64()?);
    input.end()?;
    Ok(Value::Shared(Sharing {
        compression,
        checksum,
        id,
    }))
}

/// `format u8, data`
pub(super) fn encode_shared(data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + data.len());
    out.put_u8(FORMAT);
    out.put_slice(data);
    out.freeze()
}

pub(super) fn decode_shared(bytes: &Bytes) -> BackendResult<Bytes> {
    Ok(Input::new(bytes, "a shared value")?.rest)
}

/// `format u8, count u64`
pub(super) fn encode_count(count: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(9);
    out.put_u8(FORMAT);
    out.put_u64(count);
    out.freeze()
}

pub(super) fn decode_count(bytes: &Bytes) -> BackendResult<u64> {
    let mut input = Input::new(bytes, "a count")?;
    let count = input.u64()?;
    input.end()?;
    Ok(count)
}

/// `format u8, flags u8 (1: packed, 2: named, 4: orders a pack), [reign u64, ttid u64], metadata,
/// [order]`
pub(super) fn encode_transaction(record: &TransactionRecord) -> Bytes {
    let mut out = BytesMut::with_capacity(64 + record.oids.len() * 8);
    out.put_u8(FORMAT);
    out.put_u8(
        u8::from(record.packed)
            | u8::from(record.txn.is_some()) << 1
            | u8::from(record.pack.is_some()) << 2,
    );
    if let Some(txn) = record.txn {
        out.put_u64(txn.reign.0);
        out.put_u64(txn.ttid.0);
    }
    put_meta(&mut out, &record.meta, &record.oids);
    put_order(&mut out, record.pack.as_ref());
    out.freeze()
}

pub(super) fn decode_transaction(tid: Tid, bytes: &Bytes) -> BackendResult<TransactionRecord> {
    let mut input = Input::new(bytes, "a transaction")?;
    let flags = input.flags(0b111)?;
    let txn = (flags & 2 != 0).then(|| input.txn()).transpose()?;
    let (meta, oids) = input.meta()?;
    let pack = (flags & 4 != 0).then(|| input.order()).transpose()?;
    input.end()?;
    Ok(TransactionRecord {
        tid,
        txn,
        meta,
        oids,
        packed: flags & 1 != 0,
        pack,
    })
}

/// `format u8, flags u8 (1: packed, 4: orders a pack), metadata, [order]`, where metadata is `user,
/// description, extension: each u32 length and bytes; oids: u32 count and u64 each`. The format is
/// [`UNFINISHED_FORMAT`].
pub(super) fn encode_unfinished(record: &VotedRecord) -> Bytes {
    let mut out = BytesMut::with_capacity(64 + record.oids.len() * 8);
    out.put_u8(UNFINISHED_FORMAT);
    out.put_u8(u8::from(record.packed) | u8::from(record.pack.is_some()) << 2);
    put_meta(&mut out, &record.meta, &record.oids);
    put_order(&mut out, record.pack.as_ref());
    out.freeze()
}

pub(super) fn decode_unfinished(bytes: &Bytes) -> BackendResult<VotedRecord> {
    let mut input = Input::of_format(UNFINISHED_FORMAT, bytes, "an unfinished transaction")?;
    let flags = input.flags(0b101)?;
    let (meta, oids) = input.meta()?;
    let pack = (flags & 4 != 0).then(|| input.order()).transpose()?;
    input.end()?;
    Ok(VotedRecord {
        meta,
        oids,
        packed: flags & 1 != 0,
        pack,
    })
}

/// `format u8, [tid u64]`
pub(super) fn encode_lock(tid: Option<Tid>) -> Bytes {
    let mut out = BytesMut::with_capacity(9);
    out.put_u8(FORMAT);
    if let Some(tid) = tid {
        out.put_u64(tid.0);
    }
    out.freeze()
}

pub(super) fn decode_lock(bytes: &Bytes) -> BackendResult<Option<Tid>> {
    let mut input = Input::new(bytes, "a lock")?;
    let tid = (!input.rest.is_empty()).then(|| input.u64()).transpose()?;
    input.end()?;
    Ok(tid.map(Tid))
}

/// `format u8, kind u8 (0: deleted, 1: value, 2: same as), [data id or tid u64]`
pub(super) fn encode_pending(data: ObjectData) -> Bytes {
    let mut out = BytesMut::with_capacity(10);
    out.put_u8(FORMAT);
    match data {
        ObjectData::Deleted => out.put_u8(0),
        ObjectData::Value(id) => {
            out.put_u8(1);
            out.put_u64(id.0);
        }
        ObjectData::SameAs(tid) => {
            out.put_u8(2);
            out.put_u64(tid.0);
        }
    }
    out.freeze()
}

pub(super) fn decode_pending(bytes: &Bytes) -> BackendResult<ObjectData> {
    let mut input = Input::new(bytes, "a pending object")?;
    let data = match input.u8()? {
        0 => ObjectData::Deleted,
        1 => ObjectData::Value(DataId(input.u64()?)),
        2 => ObjectData::SameAs(Tid(input.u64()?)),
        _ => return Err(input.damaged("it is of no known kind")),
    };
    input.end()?;
    Ok(data)
}

/// `format u8, tid u64`
pub(super) fn encode_tid(tid: Tid) -> Bytes {
    encode_lock(Some(tid))
}

pub(super) fn decode_tid(bytes: &Bytes) -> BackendResult<Tid> {
    decode_lock(bytes)?
        .ok_or_else(|| BackendError::Corrupt("the name of a transaction has no tid".to_owned()))
}

/// `format u8, reign u64, ttid u64`
pub(super) fn encode_owner(txn: TxnId) -> Bytes {
    let mut out = BytesMut::with_capacity(17);
    out.put_u8(FORMAT);
    out.put_u64(txn.reign.0);
    out.put_u64(txn.ttid.0);
    out.freeze()
}

pub(super) fn decode_owner(bytes: &Bytes) -> BackendResult<TxnId> {
    let mut input = Input::new(bytes, "the owner of a loose value")?;
    let txn = input.txn()?;
    input.end()?;
    Ok(txn)
}

/// `format u8, CBOR`
pub(super) fn encode_table(table: &PartitionTable) -> BackendResult<Bytes> {
    let mut out = vec![FORMAT];
    ciborium::into_writer(table, &mut out).map_err(|error| BackendError::Failed {
        what: "encoding the partition table".to_owned(),
        source: Box::new(error),
    })?;
    Ok(out.into())
}

pub(super) fn decode_table(bytes: &Bytes) -> BackendResult<PartitionTable> {
    let input = Input::new(bytes, "the partition table")?;
    let table: PartitionTable = ciborium::from_reader(input.rest.as_ref())
        .map_err(|error| input.damaged(&error.to_string()))?;
    table
        .check()
        .map_err(|error| input.damaged(&error.to_string()))?;
    Ok(table)
}

fn put_meta(out: &mut BytesMut, meta: &TransactionMeta, oids: &[Oid]) {
    for text in [&meta.user, &meta.description, &meta.extension] {
        out.put_u32(u32::try_from(text.len()).expect("the length of metadata was checked"));
        out.put_slice(text);
    }
    out.put_u32(u32::try_from(oids.len()).expect("the number of oids was checked"));
    for oid in oids {
        out.put_u64(oid.0);
    }
}

/// Length u32 and bytes as [`pack::encode_order`] makes them.
fn put_order(out: &mut BytesMut, order: Option<&PackOrder>) {
    if let Some(order) = order {
        let bytes = pack::encode_order(order);
        out.put_u32(u32::try_from(bytes.len()).expect("the number of oids was checked"));
        out.put_slice(&bytes);
    }
}

/// What is left of a value that is being read.
struct Input {
    rest: Bytes,
    what: &'static str,
}

impl Input {
    fn new(bytes: &Bytes, what: &'static str) -> BackendResult<Self> {
        Self::of_format(FORMAT, bytes, what)
    }

    fn of_format(known: u8, bytes: &Bytes, what: &'static str) -> BackendResult<Self> {
        let mut input = Self {
            rest: bytes.clone(),
            what,
        };
        match input.u8()? {
            format if format == known => Ok(input),
            format => Err(BackendError::Incompatible {
                what: format!("with {what} of format {format}"),
                why: format!("it knows format {known}"),
            }),
        }
    }

    /// Those that are not known may change what follows.
    fn flags(&mut self, known: u8) -> BackendResult<u8> {
        match self.u8()? {
            flags if flags & !known == 0 => Ok(flags),
            flags => Err(self.damaged(&format!("its flags are {flags:#b}"))),
        }
    }

    fn take(&mut self, n: usize) -> BackendResult<Bytes> {
        if n > self.rest.len() {
            return Err(self.damaged("it is too short"));
        }
        Ok(self.rest.split_to(n))
    }

    fn array<const N: usize>(&mut self) -> BackendResult<[u8; N]> {
        let bytes = self.take(N)?;
        <[u8; N]>::try_from(bytes.as_ref()).map_err(|_| self.damaged("it is too short"))
    }

    fn u8(&mut self) -> BackendResult<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> BackendResult<usize> {
        Ok(u32::from_be_bytes(self.array()?) as usize)
    }

    fn u64(&mut self) -> BackendResult<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn txn(&mut self) -> BackendResult<TxnId> {
        Ok(TxnId {
            reign: Reign(self.u64()?),
            ttid: Tid(self.u64()?),
        })
    }

    fn text(&mut self) -> BackendResult<Bytes> {
        let length = self.u32()?;
        self.take(length)
    }

    fn meta(&mut self) -> BackendResult<(TransactionMeta, Vec<Oid>)> {
        let meta = TransactionMeta {
            user: self.text()?,
            description: self.text()?,
            extension: self.text()?,
        };
        let count = self.u32()?;
        let oids = self.take(count.saturating_mul(8))?;
        let (oids, _) = oids.as_chunks();
        Ok((meta, oids.iter().copied().map(Oid::from_bytes).collect()))
    }

    fn order(&mut self) -> BackendResult<PackOrder> {
        let bytes = self.text()?;
        pack::decode_order(&bytes)
    }

    fn end(&self) -> BackendResult<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.damaged("it is too long"))
        }
    }

    fn damaged(&self, how: &str) -> BackendError {
        BackendError::Corrupt(format!("{} cannot be read: {how}", self.what))
    }
}

#[cfg(test)]
mod tests {
    use neo_api::KvOp;
    use proptest::prelude::*;

    use super::*;

    /// Logs of engines have batches in this form.
    #[test]
    fn a_serialized_batch_stays_what_it_is() {
        let batch = neo_api::KvBatch {
            ops: neo_api::Space::ALL
                .into_iter()
                .flat_map(|space| {
                    let put = KvOp::Put(space, vec![1, 0xff], Bytes::from_static(b"value"));
                    [put, KvOp::Delete(space, vec![])]
                })
                .collect(),
        };
        let mut bytes = Vec::new();
        ciborium::into_writer(&batch, &mut bytes).unwrap();
        let again: neo_api::KvBatch = ciborium::from_reader(&bytes[..]).unwrap();
        assert_eq!(again, batch);
        let hex: String = bytes[..44].iter().map(|b| format!("{b:02x}")).collect();
        // {"ops": [{"Put": ["Config", 01ff, "value"]}, {"Delete": ["Config",
        let expected = "a1636f707392a1635075748366436f6e6669674201ff4576616c7565\
                        a16644656c6574658266436f6e666967";
        assert_eq!(hex, expected);
    }

    fn decode_all(bytes: &Bytes) {
        // Whatever they say, they say it without a panic.
        let _ = Rev::decode(bytes);
        let _ = decode_value(bytes);
        let _ = decode_shared(bytes);
        let _ = decode_count(bytes);
        let _ = decode_transaction(Tid(1), bytes);
        let _ = decode_unfinished(bytes);
        let _ = decode_lock(bytes);
        let _ = decode_pending(bytes);
        let _ = decode_tid(bytes);
        let _ = decode_owner(bytes);
        let _ = decode_table(bytes);
    }

    fn transaction(n: usize) -> TransactionRecord {
        TransactionRecord {
            tid: Tid(1),
            txn: n.is_multiple_of(2).then_some(TxnId {
                reign: Reign(3),
                ttid: Tid(4),
            }),
            meta: TransactionMeta {
                user: vec![1; n].into(),
                description: Bytes::new(),
                extension: Bytes::from_static(b"}."),
            },
            oids: (0..n as u64).map(Oid).collect(),
            packed: n.is_multiple_of(3),
            pack: n.is_multiple_of(30).then(|| PackOrder {
                at: Tid(7),
                oids: n.is_multiple_of(60).then(|| vec![Oid(1), Oid(2)]),
            }),
        }
    }

    #[test]
    fn a_value_that_is_cut_is_corrupt() {
        for n in [0, 1, 30] {
            let whole = encode_transaction(&transaction(n));
            assert_eq!(decode_transaction(Tid(1), &whole).unwrap(), transaction(n));
            for length in 0..whole.len() {
                let error = decode_transaction(Tid(1), &whole.slice(..length)).unwrap_err();
                assert!(matches!(error, BackendError::Corrupt(_)), "{error}");
            }
        }
    }

    #[test]
    fn a_format_of_another_version_is_refused() {
        let rev = Rev {
            data: Some(DataId(1)),
            data_serial: Some(Tid(2)),
            shared: true,
        };
        assert_eq!(Rev::decode(&rev.encode()).unwrap(), rev);
        let error = Rev::decode(&of_format(2, &rev.encode())).unwrap_err();
        let words = "the database with a revision of format 2 cannot be opened by this version: \
                     it knows format 1";
        assert_eq!(error.to_string(), words);
        let voted = encode_unfinished(&VotedRecord::default());
        assert_eq!(decode_unfinished(&voted).unwrap(), VotedRecord::default());
        for format in [0, 1, 3] {
            let error = decode_unfinished(&of_format(format, &voted)).unwrap_err();
            assert!(
                matches!(error, BackendError::Incompatible { .. }),
                "{error}"
            );
        }
    }

    fn of_format(format: u8, value: &Bytes) -> Bytes {
        [&[format], &value[1..]].concat().into()
    }

    #[test]
    fn a_flag_that_is_not_known_is_not_passed_over() {
        let value = encode_transaction(&transaction(30));
        for flag in 3..8 {
            let mut damaged = value.to_vec();
            damaged[1] |= 1 << flag;
            let error = decode_transaction(Tid(1), &damaged.into()).unwrap_err();
            assert!(error.to_string().contains("its flags are"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            decode_all(&bytes.clone().into());
            bytes.insert(0, FORMAT);
            decode_all(&bytes.clone().into());
            bytes[0] = UNFINISHED_FORMAT;
            decode_all(&bytes.into());
        }

        #[test]
        fn no_damage_makes_it_panic(n in 0..20usize, at in 0..400usize, to in any::<u8>()) {
            let table = PartitionTable::empty(neo_api::Partitioning::new(7).unwrap(), 1);
            for whole in [encode_transaction(&transaction(n)), encode_table(&table).unwrap()] {
                let mut damaged = whole.to_vec();
                let at = at % damaged.len();
                damaged[at] = to;
                decode_all(&damaged.into());
            }
        }
    }
}
