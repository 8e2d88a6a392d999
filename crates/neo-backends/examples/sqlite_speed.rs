//! How fast the SQLite backend is: `cargo run --release -p neo-backends --example sqlite_speed`.
//!
//! It makes a database in a new directory, in the current one or in that given as argument, so
//! that the disk is the one that is meant; `/tmp` is often none.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use neo_api::{
    At, DataId, Durability, Loaded, ObjectData, Oid, Partition, PendingObject, Record, Reign,
    RevisionId, StorageBackend, Tid, TransactionMeta, TransactionRecord, TxnId, WriteOp,
};
use neo_backends::{SqliteBackend, SqliteSettings};

const P: Partition = Partition(0);
/// Of the commits.
const PARTITIONS: u64 = 12;

/// Commits that are alike.
#[derive(Clone, Copy)]
struct Shape {
    /// New objects, or old ones from anywhere.
    new: bool,
    objects: u64,
    bytes: usize,
    /// How many at a time.
    group: usize,
}

fn main() {
    let place = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from("."), PathBuf::from);
    let directory = tempfile::tempdir_in(place).expect("a directory is made");
    let settings = SqliteSettings::new(directory.path().join("speed.sqlite"));
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime starts").block_on(async {
        let backend = SqliteBackend::open(&settings).expect("a database is created");
        let mut ids = Ids::default();
        println!("sync alone: {:.0}/s", syncs_per_second(&settings.path));
        for (new, objects, bytes, groups) in [
            (true, 1, 128, &[1, 31][..]),
            (true, 10, 128, &[31]),
            (true, 100, 128, &[31]),
            (true, 10, 4096, &[31]),
            (false, 2, 400, &[1, 8, 64]),
        ] {
            for group in groups.iter().copied() {
                let shape = Shape {
                    new,
                    objects,
                    bytes,
                    group,
                };
                commits(&backend, &mut ids, shape).await;
            }
        }
        bulk(&backend, &mut ids).await;
        loads(&backend, &ids).await;
        println!("resident: {}", resident());
        backend.close().await.expect("the database is closed");
        let bytes = std::fs::metadata(&settings.path)
            .expect("the file is there")
            .len();
        println!("file: {} MB", bytes / 1_000_000);
    });
}

#[derive(Default)]
struct Ids {
    tid: u64,
    data: u64,
    /// First oid of the large part, and how many there are.
    bulk: (u64, u64),
}

impl Ids {
    fn data(&mut self) -> DataId {
        self.data += 1;
        DataId(self.data)
    }

    fn tid(&mut self) -> Tid {
        self.tid += 1;
        Tid(self.tid)
    }
}

/// What the disk can: one page written and synced, again and again.
fn syncs_per_second(database: &std::path::Path) -> f64 {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::create(database.with_extension("sync")).expect("a file is made");
    file.write_all_at(&[0; 1 << 20], 0).expect("it is written");
    file.sync_all().expect("it is synced");
    let begun = Instant::now();
    let mut n = 0_u64;
    while begun.elapsed() < Duration::from_secs(1) {
        file.write_all_at(&[n as u8; 8192], n % 100 * 8192)
            .expect("it is written");
        file.sync_data().expect("it is synced");
        n += 1;
    }
    n as f64 / begun.elapsed().as_secs_f64()
}

/// Small transactions, as the persist stage of a node groups them: values buffered, votes synced,
/// locks synced, unlocks with the next group.
async fn commits(backend: &SqliteBackend, ids: &mut Ids, shape: Shape) {
    let (begun, mut n, mut syncs, mut rows) = (Instant::now(), 0, 0, 0);
    let writer_begun = writer();
    let mut unlock: Vec<WriteOp> = Vec::new();
    while begun.elapsed() < Duration::from_secs(3) {
        let (mut vote, mut lock, mut next) = (std::mem::take(&mut unlock), Vec::new(), Vec::new());
        for _ in 0..shape.group {
            transaction(ids, shape, &mut vote, &mut lock, &mut next);
        }
        rows += vote.len() + lock.len();
        for batch in [vote, lock] {
            let applied = backend.apply(batch.into(), Durability::Synced).await;
            applied.expect("the batch is applied");
            syncs += 1;
        }
        unlock = next;
        n += shape.group;
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "commits of {:3} {} objects of {:4} B, {:2} a group: {:.0} commits/s, \
         {:.0} operations/s, {:.0} syncs/s, writer: {:.1} us of processor a commit",
        shape.objects,
        if shape.new { "new" } else { "old" },
        shape.bytes,
        shape.group,
        n as f64 / seconds,
        rows as f64 / seconds,
        f64::from(syncs) / seconds,
        (writer() - writer_begun) / n as f64,
    );
    backend
        .apply(unlock.into(), Durability::Buffered)
        .await
        .expect("the batch is applied");
}

fn partition(n: u64) -> Partition {
    Partition((n % PARTITIONS) as u32)
}

fn transaction(
    ids: &mut Ids,
    shape: Shape,
    vote: &mut Vec<WriteOp>,
    lock: &mut Vec<WriteOp>,
    unlock: &mut Vec<WriteOp>,
) {
    let ttid = ids.tid();
    let tid = Tid(ttid.0 + 1000 * PARTITIONS);
    let txn = TxnId {
        reign: Reign(1),
        ttid,
    };
    let mut objects = Vec::new();
    for n in 0..shape.objects {
        let id = ids.data();
        let oid = if shape.new {
            Oid(id.0)
        } else {
            Oid((tid.0 * 7919 + n * 31) % 100_000)
        };
        vote.push(WriteOp::PutData {
            id,
            owner: Some(txn),
            record: record(id.0, shape.bytes),
        });
        objects.push(PendingObject {
            oid,
            data: ObjectData::Value(id),
        });
    }
    let oids: Vec<Oid> = objects.iter().map(|object| object.oid).collect();
    let meta = TransactionMeta {
        user: Bytes::from_static(b"someone"),
        description: Bytes::from_static(b"/some/where/in/a/site"),
        extension: Bytes::new(),
    };
    for object in &objects {
        let id = RevisionId {
            tid,
            oid: object.oid,
        };
        unlock.push(WriteOp::PutObject {
            partition: partition(object.oid.0),
            id,
            data: object.data,
        });
    }
    vote.push(WriteOp::PutUnfinishedObjects { txn, objects });
    vote.push(WriteOp::PutUnfinished {
        txn,
        record: Some((meta.clone(), oids.clone()).into()),
    });
    lock.push(WriteOp::LockUnfinished { txn, tid });
    let record = TransactionRecord {
        tid,
        txn: Some(txn),
        meta,
        oids,
        packed: false,
        pack: None,
    };
    unlock.push(WriteOp::PutTransaction {
        partition: partition(tid.0),
        record,
    });
    unlock.push(WriteOp::DropUnfinished { txn });
}

/// Values of 4 KiB in buffered batches of 1 MiB, as in replication and import.
async fn bulk(backend: &SqliteBackend, ids: &mut Ids) {
    const TOTAL: usize = 1 << 30;
    let begun = Instant::now();
    let first = 1_000_000;
    let mut oid = first;
    let mut slowest = Duration::ZERO;
    let processor_begun = processor();
    for _ in 0..TOTAL >> 20 {
        let tid = ids.tid();
        let mut ops = Vec::new();
        for _ in 0..256 {
            let data = ids.data();
            ops.push(WriteOp::PutData {
                id: data,
                owner: None,
                record: record(data.0, 4096),
            });
            let id = RevisionId { tid, oid: Oid(oid) };
            ops.push(WriteOp::PutObject {
                partition: P,
                id,
                data: ObjectData::Value(data),
            });
            oid += 1;
        }
        let batch = Instant::now();
        let applied = backend.apply(ops.into(), Durability::Buffered).await;
        applied.expect("the batch is applied");
        slowest = slowest.max(batch.elapsed());
    }
    let last = Instant::now();
    let nothing = backend.apply(Vec::new().into(), Durability::Synced).await;
    nothing.expect("the batches are synced");
    let seconds = begun.elapsed().as_secs_f64();
    ids.bulk = (first, oid - first);
    println!(
        "values of 4 KiB, 1 MiB a batch, buffered: {:.0} MB/s, {:.0} us of processor a value, slowest \
         batch {:.0} ms, last sync {:.0} ms",
        TOTAL as f64 / 1e6 / seconds,
        (processor() - processor_begun) / (TOTAL / 4096) as f64,
        slowest.as_secs_f64() * 1e3,
        last.elapsed().as_secs_f64() * 1e3,
    );
}

async fn loads(backend: &SqliteBackend, ids: &Ids) {
    let (first, n) = ids.bulk;
    for (what, oids) in [("cached", 1000), ("any", n)] {
        let mut times = Vec::new();
        for i in 0..40_000_u64 {
            let oid = Oid(first + i * 7919 % oids);
            let begun = Instant::now();
            let found = backend
                .load(P, oid, At::Latest)
                .await
                .expect("it is loaded");
            assert!(matches!(found, Loaded::Found(_)));
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        let at = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e6;
        println!(
            "load of 4 KiB, {what} pages: p50 {:.1} us, p99 {:.1} us, one after the other",
            at(50),
            at(99)
        );
    }
}

fn record(n: u64, bytes: usize) -> Record {
    Record::raw(Bytes::from(vec![n as u8; bytes]))
}

/// Processor time of all threads so far, in microseconds.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    let ticks = |n: usize| {
        fields
            .get(n)
            .and_then(|f| f.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) * 1e4
}

/// Processor time of the thread that writes so far, in microseconds.
fn writer() -> f64 {
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let tasks = std::fs::read_dir("/proc/self/task");
    let tasks = tasks
        .into_iter()
        .flatten()
        .flatten()
        .map(|task| task.path());
    let writers = tasks.filter(|task| read(task.join("comm")).trim_end() == "sqlite-write-0");
    let nanoseconds = |task: PathBuf| {
        let stat = read(task.join("schedstat"));
        stat.split(' ').next().and_then(|n| n.parse::<f64>().ok())
    };
    writers.filter_map(nanoseconds).sum::<f64>() / 1e3
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines = status
        .lines()
        .filter(|l| l.starts_with("VmRSS") || l.starts_with("VmHWM"));
    lines
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join(", ")
}
