//! Short words for the cases.

use std::sync::Arc;

use bytes::Bytes;
use neo_api::{
    At, BackendResult, DataId, Durability, FetchedRevision, Loaded, ObjectData, Oid, PageLimit,
    Partition, PendingObject, Record, Reign, RevisionId, StorageBackend, Tid, TransactionMeta,
    TransactionRecord, TxnId, WriteBatch, WriteOp,
};

use super::BackendFactory;

pub(super) const P0: Partition = Partition(0);
pub(super) const P1: Partition = Partition(1);

/// Runs a case on a database that has nothing in it.
pub(super) fn with<F, Fut>(factory: &F, case: impl FnOnce(Db) -> Fut)
where
    F: BackendFactory,
    Fut: Future<Output = ()>,
{
    let (_guard, backend) = factory.open();
    run(case(Db(backend)));
}

/// Runs a future on a runtime such as a node has.
pub(super) fn run<R>(future: impl Future<Output = R>) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime starts").block_on(future)
}

/// A backend whose calls must succeed.
#[derive(Debug, Clone)]
pub(super) struct Db(pub(super) Arc<dyn StorageBackend>);

impl Db {
    pub(super) async fn try_apply(&self, ops: Vec<WriteOp>) -> BackendResult<()> {
        self.0
            .apply(WriteBatch::from(ops), Durability::Synced)
            .await
    }

    pub(super) async fn apply(&self, ops: Vec<WriteOp>) {
        self.try_apply(ops).await.expect("the batch is applied");
    }

    pub(super) async fn load(&self, oid: u64, at: At) -> Loaded {
        self.0
            .load(P0, Oid(oid), at)
            .await
            .expect("the load succeeds")
    }

    /// What a load finds, in one line.
    pub(super) async fn see(&self, oid: u64, at: At) -> String {
        show(&self.load(oid, at).await)
    }

    pub(super) async fn fetch(&self, min: RevisionId, max: u64, limit: PageLimit) -> Vec<String> {
        let page = self.0.fetch(P0, min, Tid(max), limit).await;
        page.expect("the fetch succeeds")
            .iter()
            .map(show_fetched)
            .collect()
    }

    pub(super) async fn loose(&self) -> Vec<(TxnId, DataId)> {
        self.0
            .loose_data(None, 10_000)
            .await
            .expect("loose data are listed")
    }

    pub(super) async fn pending(&self, txn: TxnId) -> Vec<(u64, ObjectData)> {
        let found = self.0.unfinished_objects(txn, None, 10_000).await;
        let found = found.expect("unfinished objects are listed");
        found
            .into_iter()
            .map(|object| (object.oid.0, object.data))
            .collect()
    }

    /// Name and tid of what is unfinished, in one line.
    pub(super) async fn unfinished(&self) -> String {
        let found = self
            .0
            .unfinished(None, 100)
            .await
            .expect("the unfinished are listed");
        let show = |t: &neo_api::UnfinishedTransaction| {
            let record = t.record.as_ref().map_or_else(String::new, |record| {
                let user = String::from_utf8_lossy(&record.meta.user).into_owned();
                let orders = record.pack.as_ref().map_or("", |_| "!");
                format!("({user}:{}{orders})", record.oids.len())
            });
            let tid = t
                .tid
                .map_or_else(|| "-".to_owned(), |tid| tid.0.to_string());
            format!("{}/{}={tid}{record}", t.txn.reign, t.txn.ttid.0)
        };
        found.iter().map(show).collect::<Vec<_>>().join(" ")
    }
}

/// `found 10..20 "text" of 5`
pub(super) fn show(loaded: &Loaded) -> String {
    let until = |next: &Option<Tid>| next.map_or_else(String::new, |tid| tid.0.to_string());
    match loaded {
        Loaded::Found(revision) => {
            let same = revision
                .data_serial
                .map_or_else(String::new, |t| format!(" of {}", t.0));
            let text = String::from_utf8_lossy(&revision.record.data);
            let (serial, next) = (revision.serial.0, until(&revision.next_serial));
            format!("{serial}..{next} {text}{same}")
        }
        Loaded::Deleted {
            serial,
            next_serial,
        } => {
            format!("{}..{} deleted", serial.0, until(next_serial))
        }
        Loaded::NotYet => "not yet".to_owned(),
        Loaded::Unknown => "unknown".to_owned(),
    }
}

fn show_fetched(fetched: &FetchedRevision) -> String {
    let same = fetched
        .data_serial
        .map_or_else(String::new, |t| format!(" of {}", t.0));
    let (tid, oid) = (fetched.id.tid.0, fetched.id.oid.0);
    match &fetched.record {
        Some(record) => format!(
            "{tid}/{oid} {}{same}",
            String::from_utf8_lossy(&record.data)
        ),
        None => format!("{tid}/{oid} deleted{same}"),
    }
}

pub(super) const fn id(tid: u64, oid: u64) -> RevisionId {
    RevisionId {
        tid: Tid(tid),
        oid: Oid(oid),
    }
}

pub(super) const fn txn(reign: u64, ttid: u64) -> TxnId {
    TxnId {
        reign: Reign(reign),
        ttid: Tid(ttid),
    }
}

pub(super) fn data(id: u64, text: &str) -> WriteOp {
    let record = Record::raw(Bytes::copy_from_slice(text.as_bytes()));
    WriteOp::PutData {
        id: DataId(id),
        owner: None,
        record,
    }
}

pub(super) fn loose(id: u64, owner: TxnId, text: &str) -> WriteOp {
    let record = Record::raw(Bytes::copy_from_slice(text.as_bytes()));
    WriteOp::PutData {
        id: DataId(id),
        owner: Some(owner),
        record,
    }
}

pub(super) const fn object(tid: u64, oid: u64, data: ObjectData) -> WriteOp {
    WriteOp::PutObject {
        partition: P0,
        id: id(tid, oid),
        data,
    }
}

pub(super) const fn value(id: u64) -> ObjectData {
    ObjectData::Value(DataId(id))
}

pub(super) const fn same(tid: u64) -> ObjectData {
    ObjectData::SameAs(Tid(tid))
}

pub(super) const fn delete(tid: u64, oid: u64) -> WriteOp {
    WriteOp::DeleteObject {
        partition: P0,
        id: id(tid, oid),
    }
}

/// A revision of a value of its own, whose data id is `tid * 100 + oid`.
pub(super) fn store(tid: u64, oid: u64, text: &str) -> [WriteOp; 2] {
    let at = tid * 100 + oid;
    [data(at, text), object(tid, oid, value(at))]
}

pub(super) fn meta(user: &str) -> TransactionMeta {
    TransactionMeta {
        user: Bytes::copy_from_slice(user.as_bytes()),
        description: Bytes::from_static(b"what it did"),
        extension: Bytes::from_static(b"\x80\x02}q\x01."),
    }
}

pub(super) fn transaction(tid: u64, name: Option<TxnId>) -> TransactionRecord {
    TransactionRecord {
        tid: Tid(tid),
        txn: name,
        meta: meta("someone"),
        oids: vec![Oid(7), Oid(1), Oid(u64::MAX)],
        packed: false,
        pack: None,
    }
}

pub(super) const fn put_transaction(record: TransactionRecord) -> WriteOp {
    WriteOp::PutTransaction {
        partition: P0,
        record,
    }
}

pub(super) fn vote(txn: TxnId, user: &str) -> WriteOp {
    let record = Some((meta(user), vec![Oid(1), Oid(2)]).into());
    WriteOp::PutUnfinished { txn, record }
}

pub(super) fn pend(txn: TxnId, objects: &[(u64, ObjectData)]) -> WriteOp {
    let object = |&(oid, data): &(u64, ObjectData)| PendingObject {
        oid: Oid(oid),
        data,
    };
    WriteOp::PutUnfinishedObjects {
        txn,
        objects: objects.iter().map(object).collect(),
    }
}
