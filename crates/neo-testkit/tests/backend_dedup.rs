//! Backends that keep equal values once keep the promises of a backend, and take less space.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use neo_api::{
    At, BackendInfo, BackendResult, DataId, Durability, Loaded, ObjectData, Oid, Partition, Record,
    RevisionId, StorageBackend, Tid, WriteBatch, WriteOp,
};
use neo_backends::{KvBackend, MemoryEngine, SqliteBackend, SqliteSettings};
use neo_testkit::MariaDb;
use neo_testkit::conformance::backend::{BackendFactory, Capability, OnDisk};

const P: Partition = Partition(0);
const COPIES: u64 = 200;
const BYTES: usize = 4_000;

/// As small as they are, so that the values of the suite are among them.
const BYTES_MIN: u32 = 1;

struct Memory;

impl BackendFactory for Memory {
    type Guard = ();

    fn open(&self) -> ((), Arc<dyn StorageBackend>) {
        let info = BackendInfo::new("Memory", false);
        let backend = KvBackend::inline(MemoryEngine::default(), info);
        ((), Arc::new(backend.deduplicating(Some(BYTES_MIN))))
    }
}

fn sqlite(path: &std::path::Path) -> BackendResult<Arc<dyn StorageBackend>> {
    let mut settings = SqliteSettings::new(path);
    settings.dedup_bytes_min = Some(BYTES_MIN);
    Ok(Arc::new(SqliteBackend::open_inline(&settings)?))
}

/// Databases on a server of its own, with tables of an engine.
struct MySql {
    engine: &'static str,
    server: OnceLock<MariaDb>,
    databases: AtomicUsize,
}

impl MySql {
    fn new(engine: &'static str) -> Self {
        Self {
            engine,
            server: OnceLock::new(),
            databases: AtomicUsize::new(0),
        }
    }

    fn database(&self, name: &str) -> BackendResult<Arc<dyn StorageBackend>> {
        let start = || MariaDb::start(self.engine).expect("a server starts");
        let database = self.server.get_or_init(start).database(name);
        let database = database.expect("a database is created");
        let settings = format!("engine={}&dedup_bytes_min={BYTES_MIN}", self.engine);
        neo_backends::open("MySQL", &format!("{database}?{settings}"))
    }
}

impl BackendFactory for MySql {
    type Guard = String;

    fn open(&self) -> (String, Arc<dyn StorageBackend>) {
        let name = format!("neo{}", self.databases.fetch_add(1, Ordering::SeqCst));
        let backend = self.database(&name).expect("a database is opened");
        (name, backend)
    }

    fn declared(&self) -> &[Capability] {
        &[Capability::Persistent]
    }

    fn reopen(&self, name: &String) -> Option<BackendResult<Arc<dyn StorageBackend>>> {
        Some(self.database(name))
    }

    /// A database takes a while to create.
    fn sequences(&self) -> u32 {
        8
    }
}

mod memory {
    neo_testkit::backend_conformance!(super::Memory);

    #[test]
    fn equal_values_are_kept_once() {
        super::equal_values_are_kept_once(&super::Memory);
    }
}

mod sqlite {
    neo_testkit::backend_conformance!(super::OnDisk(super::sqlite));

    #[test]
    fn equal_values_are_kept_once() {
        super::equal_values_are_kept_once(&super::OnDisk(super::sqlite));
    }
}

/// A server takes its time: those cases that tell most.
mod mysql {
    use neo_testkit::conformance::backend::{random, writes};

    use super::MySql;

    #[test]
    fn any_writes_to_innodb_are_read_as_a_model_has_them() {
        random::any_writes_are_read_as_a_model_has_them(&MySql::new("InnoDB"));
    }

    #[test]
    fn any_writes_to_rocksdb_are_read_as_a_model_has_them() {
        random::any_writes_are_read_as_a_model_has_them(&MySql::new("RocksDB"));
    }

    #[test]
    fn deleting_keeps_a_shared_value() {
        writes::deleting_keeps_a_shared_value(&MySql::new("InnoDB"));
    }

    #[test]
    fn equal_values_are_kept_once_by_innodb() {
        super::equal_values_are_kept_once(&MySql::new("InnoDB"));
    }

    #[test]
    fn equal_values_are_kept_once_by_rocksdb() {
        super::equal_values_are_kept_once(&MySql::new("RocksDB"));
    }
}

fn run<R>(future: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(future)
}

fn revision(n: u64) -> RevisionId {
    RevisionId {
        tid: Tid(n),
        oid: Oid(n),
    }
}

/// A value with the checksum of another one.
fn record(fill: u8) -> Record {
    let mut record = Record::raw(Bytes::from(vec![0; BYTES]));
    record.data = Bytes::from(vec![fill; BYTES]);
    record
}

fn put(id: u64, record: Record) -> Vec<WriteOp> {
    vec![
        WriteOp::PutData {
            id: DataId(id),
            owner: None,
            record,
        },
        WriteOp::PutObject {
            partition: P,
            id: revision(id),
            data: ObjectData::Value(DataId(id)),
        },
    ]
}

fn apply(backend: &dyn StorageBackend, ops: Vec<WriteOp>) {
    let applied = run(backend.apply(WriteBatch::from(ops), Durability::Synced));
    applied.expect("it is written");
}

fn value(backend: &dyn StorageBackend, id: u64) -> Option<Record> {
    let at = At::Exact(Tid(id));
    match run(backend.load(P, Oid(id), at)).expect("it is read") {
        Loaded::Found(revision) => Some(revision.record),
        _ => None,
    }
}

/// Whoever has a value that others had has it as long as it is wanted; two that look alike stay two.
fn equal_values_are_kept_once<F: BackendFactory>(factory: &F) {
    let (_guard, backend) = factory.open();
    let backend = &*backend;
    for fill in [0, 1] {
        apply(backend, put(u64::from(fill) + 1, record(fill)));
    }
    let one_of_each = run(backend.bytes()).expect("it is counted");
    // In one batch, and in many; values of a vote as well.
    let first = 3..=COPIES / 2;
    apply(
        backend,
        first
            .flat_map(|id| put(id, record((id % 2) as u8)))
            .collect(),
    );
    for id in COPIES / 2 + 1..=COPIES {
        apply(backend, put(id, record((id % 2) as u8)));
    }
    let all = run(backend.bytes()).expect("it is counted");
    let values = COPIES * BYTES as u64;
    assert!(
        all - one_of_each < values / 2,
        "{one_of_each} bytes become {all}"
    );
    for id in 3..=COPIES {
        assert_eq!(value(backend, id), Some(record((id % 2) as u8)), "{id}");
    }
    // The first of each goes first, then all but the last.
    let delete = |id| WriteOp::DeleteObject {
        partition: P,
        id: revision(id),
    };
    apply(backend, vec![delete(1)]);
    apply(backend, vec![delete(2)]);
    apply(backend, (3..=COPIES - 2).map(delete).collect());
    for id in COPIES - 1..=COPIES {
        assert_eq!(value(backend, id), Some(record((id % 2) as u8)), "{id}");
    }
    apply(backend, (COPIES - 1..=COPIES).map(delete).collect());
    // Nothing is left of them: what comes now is new.
    let ids = [DataId(COPIES + 1), DataId(COPIES + 2)];
    apply(backend, put(ids[0].0, record(7)));
    apply(backend, put(ids[1].0, record(7)));
    apply(backend, vec![delete(ids[0].0)]);
    assert_eq!(value(backend, ids[1].0), Some(record(7)));
    // The id that bytes came with is in use as long as anybody has them.
    let (low, high) = (COPIES + 10, COPIES + 11);
    apply(backend, put(high, record(9)));
    apply(backend, put(low, record(9)));
    apply(backend, vec![delete(high)]);
    let next = run(backend.next_data_id()).expect("it is read");
    assert!(next > DataId(high), "{next}");
    run(backend.close()).expect("it is closed");
}
