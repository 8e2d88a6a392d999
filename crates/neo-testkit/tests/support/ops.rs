//! Operations in few words.

use bytes::Bytes;
use neo_api::{
    DataId, ObjectData, Oid, PackOrder, Partition, PendingObject, Record, Reign, RevisionId, Tid,
    TransactionMeta, TransactionRecord, TxnId, VotedRecord, WriteOp,
};

pub(crate) const P: Partition = Partition(0);

pub(crate) const fn txn(reign: u64, ttid: u64) -> TxnId {
    TxnId {
        reign: Reign(reign),
        ttid: Tid(ttid),
    }
}

pub(crate) fn data(id: u64, owner: Option<TxnId>, text: &str) -> WriteOp {
    let record = Record::raw(Bytes::copy_from_slice(text.as_bytes()));
    WriteOp::PutData {
        id: DataId(id),
        owner,
        record,
    }
}

pub(crate) const fn object(tid: u64, oid: u64, data: ObjectData) -> WriteOp {
    WriteOp::PutObject {
        partition: P,
        id: RevisionId {
            tid: Tid(tid),
            oid: Oid(oid),
        },
        data,
    }
}

pub(crate) const fn delete(tid: u64, oid: u64) -> WriteOp {
    WriteOp::DeleteObject {
        partition: P,
        id: RevisionId {
            tid: Tid(tid),
            oid: Oid(oid),
        },
    }
}

/// A revision with a value of its own.
pub(crate) fn store(id: u64, tid: u64, oid: u64, text: &str) -> Vec<WriteOp> {
    vec![
        data(id, None, text),
        object(tid, oid, ObjectData::Value(DataId(id))),
    ]
}

pub(crate) fn meta(n: u64) -> TransactionMeta {
    TransactionMeta {
        user: Bytes::from(format!("user {n}")),
        description: Bytes::new(),
        extension: Bytes::from_static(b"\x80\x02}."),
    }
}

/// What some transactions order.
fn order(n: u64) -> Option<PackOrder> {
    let at = Tid(n / 2);
    let oids = n.is_multiple_of(2).then(|| vec![Oid(1), Oid(n)]);
    n.is_multiple_of(3).then_some(PackOrder { at, oids })
}

pub(crate) fn vote(txn: TxnId) -> WriteOp {
    WriteOp::PutUnfinished {
        txn,
        record: Some(VotedRecord {
            meta: meta(txn.ttid.0),
            oids: vec![Oid(1), Oid(2)],
            packed: txn.ttid.0.is_multiple_of(5),
            pack: order(txn.ttid.0),
        }),
    }
}

pub(crate) fn pend(txn: TxnId, objects: &[(u64, ObjectData)]) -> WriteOp {
    let object = |&(oid, data): &(u64, ObjectData)| PendingObject {
        oid: Oid(oid),
        data,
    };
    WriteOp::PutUnfinishedObjects {
        txn,
        objects: objects.iter().map(object).collect(),
    }
}

pub(crate) fn transaction(tid: u64, txn: Option<TxnId>) -> WriteOp {
    let oids = vec![Oid(tid % 3), Oid(1)];
    let packed = tid.is_multiple_of(2);
    let record = TransactionRecord {
        tid: Tid(tid),
        txn,
        meta: meta(tid),
        oids,
        packed,
        pack: order(tid),
    };
    WriteOp::PutTransaction {
        partition: P,
        record,
    }
}
