//! The SQLite backend when there is no space: on a limited database, and on a small file system
//! where one may be mounted.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use neo_api::{
    At, BackendError, BackendResult, DataId, Durability, Loaded, ObjectData, Oid, Partition,
    PendingObject, Record, Reign, RevisionId, StorageBackend, Tid, TransactionMeta,
    TransactionRecord, TxnId, WriteBatch, WriteOp,
};
use neo_backends::{SqliteBackend, SqliteSettings};
use tempfile::TempDir;

const P: Partition = Partition(0);
const MIB: u64 = 1 << 20;

/// Where a database has little space.
struct Place {
    directory: TempDir,
    mounted: bool,
    settings: SqliteSettings,
}

impl Place {
    fn path(directory: &TempDir) -> PathBuf {
        directory.path().join("node.sqlite")
    }

    /// A database that may have so many bytes.
    fn limited(bytes: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = SqliteSettings::new(Self::path(&directory));
        settings.max_database_bytes = Some(bytes);
        settings.reserve_bytes = MIB;
        Self {
            directory,
            mounted: false,
            settings,
        }
    }

    /// A database in a file system of so many bytes, if one may be mounted.
    fn mounted(bytes: u64) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = SqliteSettings::new(Self::path(&directory));
        settings.reserve_bytes = MIB;
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "neo-test"])
            .arg(directory.path())
            .output();
        if !mount.is_ok_and(|output| output.status.success()) {
            println!("skipped: no file system may be mounted here");
            return None;
        }
        Some(Self {
            directory,
            mounted: true,
            settings,
        })
    }

    fn all() -> Vec<Self> {
        let mut places = vec![Self::limited(12 * MIB)];
        places.extend(Self::mounted(24 * MIB));
        places
    }

    fn open(&self) -> SqliteBackend {
        SqliteBackend::open(&self.settings).unwrap()
    }

    /// Gives it space for more.
    fn grow(&mut self) {
        self.settings.max_database_bytes = None;
        if self.mounted {
            let grown = Command::new("mount")
                .args(["-o", "remount,size=96m"])
                .arg(self.directory.path())
                .status()
                .unwrap();
            assert!(grown.success());
        }
    }

    /// Leaves it no byte.
    fn fill_up(&self) {
        if self.mounted {
            std::io::copy(
                &mut std::io::repeat(7),
                &mut std::fs::File::create(self.directory.path().join("other")).unwrap(),
            )
            .unwrap_err();
        }
    }

    fn reserve(&self) -> u64 {
        let file = self.directory.path().join("node.sqlite.reserve");
        file.metadata()
            .map_or(0, |metadata| metadata.blocks() * 512)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg(self.directory.path()).status();
        }
    }
}

fn run<R>(future: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn apply(backend: &SqliteBackend, ops: Vec<WriteOp>, durability: Durability) -> BackendResult<()> {
    run(backend.apply(WriteBatch::from(ops), durability))
}

fn name(n: u64) -> TxnId {
    TxnId {
        reign: Reign(1),
        ttid: Tid(n),
    }
}

/// The vote of transaction `n`: one object of so many bytes.
fn vote(backend: &SqliteBackend, n: u64, bytes: usize) -> BackendResult<()> {
    let ops = vec![
        WriteOp::PutData {
            id: DataId(n),
            owner: Some(name(n)),
            record: Record::raw(vec![n as u8; bytes].into()),
        },
        WriteOp::PutUnfinishedObjects {
            txn: name(n),
            objects: vec![PendingObject {
                oid: Oid(n),
                data: ObjectData::Value(DataId(n)),
            }],
        },
        WriteOp::PutUnfinished {
            txn: name(n),
            record: Some((TransactionMeta::default(), vec![Oid(n)]).into()),
        },
    ];
    apply(backend, ops, Durability::Synced)
}

fn lock(backend: &SqliteBackend, n: u64) -> BackendResult<()> {
    let ops = vec![WriteOp::LockUnfinished {
        txn: name(n),
        tid: Tid(n),
    }];
    apply(backend, ops, Durability::Synced)
}

fn unlock(backend: &SqliteBackend, n: u64) -> BackendResult<()> {
    let id = RevisionId {
        tid: Tid(n),
        oid: Oid(n),
    };
    let record = TransactionRecord {
        tid: Tid(n),
        txn: Some(name(n)),
        meta: TransactionMeta::default(),
        oids: vec![Oid(n)],
        packed: false,
        pack: None,
    };
    let ops = vec![
        WriteOp::PutObject {
            partition: P,
            id,
            data: ObjectData::Value(DataId(n)),
        },
        WriteOp::PutTransaction {
            partition: P,
            record,
        },
        WriteOp::DropUnfinished { txn: name(n) },
    ];
    apply(backend, ops, Durability::Buffered)
}

fn abort(backend: &SqliteBackend, n: u64) -> BackendResult<()> {
    let ops = vec![
        WriteOp::DeleteData {
            ids: vec![DataId(n)],
        },
        WriteOp::DropUnfinished { txn: name(n) },
    ];
    apply(backend, ops, Durability::Buffered)
}

fn assert_there(backend: &SqliteBackend, n: u64) {
    match run(backend.load(P, Oid(n), At::Latest)).unwrap() {
        Loaded::Found(found) => assert_eq!(found.record.data[0], n as u8),
        other => panic!("{n}: {other:?}"),
    }
}

/// Votes until the first is refused: how many there are.
fn fill(backend: &SqliteBackend, from: u64, bytes: usize) -> u64 {
    for n in from.. {
        match vote(backend, n, bytes) {
            Ok(()) => {}
            Err(BackendError::Full) => return n,
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!("a disk ends")
}

#[test]
fn what_was_voted_can_be_locked_moved_and_forgotten_when_nothing_else_fits() {
    for mut place in Place::all() {
        let backend = place.open();
        assert!(place.reserve() >= MIB);
        // Everything small that fits, after everything large.
        let large = fill(&backend, 1, 100_000);
        let end = fill(&backend, large, 10);
        place.fill_up();
        assert!(end > 20, "{end} transactions fit");
        for n in 1..end {
            lock(&backend, n).unwrap();
        }
        for n in 1..end {
            if n % 10 == 3 {
                abort(&backend, n).unwrap();
            } else {
                unlock(&backend, n).unwrap();
                assert_there(&backend, n);
            }
        }
        run(backend.close()).unwrap();

        // It opens again on the full disk, and can be read; then there is space.
        let backend = place.open();
        assert_there(&backend, 1);
        run(backend.close()).unwrap();
        place.grow();
        let backend = place.open();
        assert!(place.reserve() >= MIB);
        for n in 1..end {
            if n % 10 != 3 {
                assert_there(&backend, n);
            }
        }
        vote(&backend, end, 100_000).unwrap();
        lock(&backend, end).unwrap();
        unlock(&backend, end).unwrap();
        assert_there(&backend, end);
    }
}

#[test]
fn new_values_wait_until_the_reserve_is_whole_again() {
    let Some(place) = Place::mounted(24 * MIB) else {
        return;
    };
    let backend = place.open();
    vote(&backend, 1, 10).unwrap();
    place.fill_up();
    // Locks and moves go on until they have used some of the reserve.
    lock(&backend, 1).unwrap();
    unlock(&backend, 1).unwrap();
    let mut n = 1;
    while place.reserve() > 0 {
        n += 1;
        let ops = vec![WriteOp::SetConfig {
            key: format!("k{n}"),
            value: Some(vec![1; 5000].into()),
        }];
        apply(&backend, ops, Durability::Synced).unwrap();
    }
    for _ in 0..3 {
        assert!(matches!(vote(&backend, 2, 10), Err(BackendError::Full)));
    }
    std::fs::remove_file(place.directory.path().join("other")).unwrap();
    vote(&backend, 2, 10).unwrap();
    assert!(place.reserve() >= MIB);
}

#[test]
fn a_vote_reserves_what_its_objects_will_take() {
    let pending = |from: u64, count: u64| WriteOp::PutUnfinishedObjects {
        txn: name(1),
        objects: (from..from + count)
            .map(|n| PendingObject {
                oid: Oid(n),
                data: ObjectData::Deleted,
            })
            .collect(),
    };
    let place = Place::limited(64 * MIB);
    let backend = place.open();
    let before = place.reserve();
    let mut count = 0;
    let refused = loop {
        match apply(&backend, vec![pending(count, 10_000)], Durability::Synced) {
            Ok(()) => count += 10_000,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, BackendError::Full), "{refused}");
    assert!(count >= 100_000, "{count} objects");
    assert!(
        place.reserve() > before + count * 100,
        "{}",
        place.reserve()
    );
    // It is known after a restart as well.
    drop(backend);
    let backend = place.open();
    let again = apply(&backend, vec![pending(count, 10_000)], Durability::Synced);
    assert!(matches!(again, Err(BackendError::Full)), "{again:?}");
    // Whatever was voted can be moved, page by page, in any order of oids.
    for page in 0..count / 1000 {
        let ops = (0..1000)
            .map(|k| WriteOp::PutObject {
                partition: P,
                id: RevisionId {
                    tid: Tid(5),
                    oid: Oid((page + k * (count / 1000)) * 7919 % count),
                },
                data: ObjectData::Deleted,
            })
            .collect();
        apply(&backend, ops, Durability::Buffered).unwrap();
    }
    apply(
        &backend,
        vec![WriteOp::DropUnfinished { txn: name(1) }],
        Durability::Synced,
    )
    .unwrap();
}

#[test]
fn nothing_is_kept_when_that_is_asked() {
    let mut place = Place::limited(12 * MIB);
    run(place.open().close()).unwrap();
    assert!(place.reserve() > 0);
    place.settings.reserve_bytes = 0;
    let backend = place.open();
    assert_eq!(place.reserve(), 0);
    fill(&backend, 1, 100_000);
    assert!(Path::new(&place.settings.path).metadata().unwrap().len() <= 12 * MIB);
}
