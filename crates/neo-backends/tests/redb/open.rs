//! What may be opened, and by whom.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use neo_api::{BackendError, BackendResult, Durability, KvBatch, KvEngine, KvOp, Space};
use neo_backends::{RedbEngine, RedbSettings};
use redb::{Database, TableDefinition};
use tempfile::TempDir;

use crate::work;

const ABOUT: TableDefinition<'static, &str, &str> = TableDefinition::new("neo");

fn open(path: &Path) -> BackendResult<RedbEngine> {
    RedbEngine::open(&RedbSettings::new(path))
}

fn place() -> (TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("database");
    (directory, path)
}

fn refusal(path: &Path) -> String {
    open(path).map(|_| ()).unwrap_err().to_string()
}

/// Makes a database of redb's with a row that says what it is.
fn write_about(path: &Path, table: TableDefinition<'static, &str, &str>, format: &str) {
    let db = Database::create(path).unwrap();
    let transaction = db.begin_write().unwrap();
    let mut rows = transaction.open_table(table).unwrap();
    rows.insert("format", format).unwrap();
    drop(rows);
    transaction.commit().unwrap();
}

#[test]
fn a_database_is_free_as_soon_as_it_is_dropped() {
    let (_directory, path) = place();
    for n in 1..=60 {
        let engine = open(&path).unwrap();
        assert!(matches!(open(&path), Err(BackendError::InUse(_))));
        engine.apply(work::batch(n), Durability::Buffered).unwrap();
        drop(engine);
    }
    // An end that nobody disturbs makes everything durable.
    assert_eq!(work::check(&open(&path).unwrap()), 60);
}

#[test]
fn two_names_of_a_file_are_one_database() {
    let (directory, path) = place();
    let engine = open(&path).unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(open(&link), Err(BackendError::InUse(_))));
    drop(engine);
    open(&link).unwrap();
}

#[test]
fn another_program_that_has_it_open_is_told_of() {
    let (_directory, path) = place();
    drop(open(&path).unwrap());
    let other = Database::open(&path).unwrap();
    assert!(matches!(open(&path), Err(BackendError::InUse(_))));
    drop(other);
    open(&path).unwrap();
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let (directory, path) = place();
    write_about(&path, TableDefinition::new("other"), "1");
    let words = refusal(&path);
    assert!(
        words.contains("it is a database of redb, of something else"),
        "{words}"
    );
    for (name, text) in [("notes", "text".to_owned()), ("book", "text".repeat(9000))] {
        let file = directory.path().join(name);
        fs::write(&file, &text).unwrap();
        let words = refusal(&file);
        assert!(words.ends_with("it is no database of redb"), "{words}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
    for wrong in [directory.path(), &directory.path().join("no/such")] {
        assert!(matches!(open(wrong), Err(BackendError::Failed { .. })));
    }
}

#[test]
fn another_format_is_refused() {
    let (_directory, path) = place();
    drop(open(&path).unwrap());
    write_about(&path, ABOUT, "2");
    let words = refusal(&path);
    assert!(
        words.ends_with("its format is of another version of neo"),
        "{words}"
    );
}

#[test]
fn damage_is_told_as_damage() {
    let (_directory, path) = place();
    let engine = open(&path).unwrap();
    for n in 1..=20 {
        engine.apply(work::batch(n), Durability::Synced).unwrap();
    }
    // As a crash leaves it: who opens it reads all of it.
    let copy = path.with_file_name("copy");
    fs::copy(&path, &copy).unwrap();
    drop(engine);
    assert_eq!(work::check(&open(&copy).unwrap()), 20);
    fs::copy(&path, &copy).unwrap();
    // Past the header, everything.
    let file = fs::File::options().write(true).open(&copy).unwrap();
    let bytes = file.metadata().unwrap().len();
    for at in (4096..bytes).step_by(4096) {
        file.write_all_at(&[0x55; 64], at + 100).unwrap();
    }
    let opened = open(&copy).and_then(|engine| {
        let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        engine.scan(Space::Data, all, neo_api::Order::Ascending, usize::MAX)
    });
    let error = opened.map(|_| ()).unwrap_err();
    assert!(
        matches!(
            error,
            BackendError::Corrupt(_) | BackendError::Failed { .. }
        ),
        "{error:?}"
    );
}

#[test]
fn values_of_every_size_leave_nothing_behind() {
    let (_directory, path) = place();
    let mut settings = RedbSettings::new(&path);
    // Less than the largest value.
    settings.cache_bytes = 1 << 20;
    let engine = RedbEngine::open(&settings).unwrap();
    for bytes in [1 << 20, 64 << 20, 4000, 4096, 4097, 0, 5_000_000] {
        let value = bytes::Bytes::from(vec![bytes as u8 | 1; bytes]);
        let ops = vec![KvOp::Put(Space::Data, vec![1], value.clone())];
        engine.apply(KvBatch { ops }, Durability::Buffered).unwrap();
        assert!(
            engine.get(Space::Data, &[1]).unwrap().unwrap() == value,
            "{bytes}"
        );
    }
    let ops = vec![KvOp::Delete(Space::Data, vec![1])];
    engine.apply(KvBatch { ops }, Durability::Synced).unwrap();
    assert!(work::contents(&engine).is_empty());
}

#[test]
fn a_file_does_not_grow_by_what_is_replaced() {
    let (_directory, path) = place();
    let engine = open(&path).unwrap();
    let mut size = 0;
    for n in 0..300_u32 {
        let value = vec![n as u8; 100_000];
        let ops = vec![KvOp::Put(Space::Data, vec![1], value.into())];
        engine.apply(KvBatch { ops }, Durability::Synced).unwrap();
        if n == 30 {
            size = engine.bytes().unwrap();
        }
    }
    assert!(size >= 100_000, "{size}");
    assert!(engine.bytes().unwrap() <= size, "{size}");
}

#[test]
fn no_room_for_new_values_leaves_all_else() {
    let (_directory, path) = place();
    let mut settings = RedbSettings::new(&path);
    settings.reserve_bytes = u64::MAX;
    let engine = RedbEngine::open(&settings).unwrap();
    let put = |space| KvBatch {
        ops: vec![KvOp::Put(space, vec![1], vec![1].into())],
    };
    for space in [Space::Data, Space::Pending] {
        let refused = engine.apply(put(space), Durability::Synced);
        assert!(matches!(refused, Err(BackendError::Full)), "{refused:?}");
        assert_eq!(engine.get(space, &[1]).unwrap(), None);
    }
    for space in [Space::Objects, Space::Unfinished, Space::Transactions] {
        engine.apply(put(space), Durability::Synced).unwrap();
        assert!(engine.get(space, &[1]).unwrap().is_some());
    }
}
