//! What may be opened, and by whom.

use std::fs;
use std::path::Path;

use neo_api::{BackendError, BackendResult, Durability, KvBatch, KvEngine, KvOp, Space};
use neo_backends::{SledEngine, SledSettings};
use tempfile::TempDir;

use crate::work;

fn open(path: &Path) -> BackendResult<SledEngine> {
    SledEngine::open(&SledSettings::new(path))
}

fn place() -> (TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("database");
    (directory, path)
}

fn refusal(path: &Path) -> String {
    open(path).map(|_| ()).unwrap_err().to_string()
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
    assert_eq!(work::check(&open(&path).unwrap()), 60);
}

#[test]
fn two_names_of_a_directory_are_one_database() {
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
    let other = sled::open(&path).unwrap();
    assert!(matches!(open(&path), Err(BackendError::InUse(_))));
    drop(other);
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let (directory, path) = place();
    let other = sled::open(&path).unwrap();
    other.insert("key", "value").unwrap();
    drop(other);
    let words = refusal(&path);
    assert!(
        words.contains("it is a database of sled, of something else"),
        "{words}"
    );
    let file = directory.path().join("notes");
    fs::write(&file, "text").unwrap();
    let words = refusal(&file);
    assert!(words.ends_with("it is no directory"), "{words}");
    let words = refusal(directory.path());
    assert!(
        words.ends_with("is in it: it is no directory of sled's"),
        "{words}"
    );
    assert_eq!(fs::read(&file).unwrap(), b"text");
    let missing = directory.path().join("no/such");
    assert!(matches!(open(&missing), Err(BackendError::Failed { .. })));
}

#[test]
fn another_format_is_refused() {
    let (_directory, path) = place();
    drop(open(&path).unwrap());
    let other = sled::open(&path).unwrap();
    other.insert([0xff], "neo 2").unwrap();
    drop(other);
    let words = refusal(&path);
    assert!(
        words.ends_with("its format is of another version of neo"),
        "{words}"
    );
}

/// Sled writes a snapshot of what it knows at each start, and would take one that a crash cut off
/// for a whole one.
#[test]
fn a_start_that_was_cut_off_harms_nothing() {
    let (_directory, path) = place();
    let engine = open(&path).unwrap();
    engine.apply(work::batch(1), Durability::Synced).unwrap();
    drop(engine);
    let unfinished = path.join("snap.FFFFFFFFFFFFFFFF.generating");
    fs::write(&unfinished, "half").unwrap();
    assert_eq!(work::check(&open(&path).unwrap()), 1);
    assert!(!unfinished.exists());
}

#[test]
fn damage_is_told_as_damage() {
    let (_directory, path) = place();
    drop(open(&path).unwrap());
    let snapshot = fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut snapshots = snapshot.filter(|path| path.to_string_lossy().contains("snap."));
    let snapshot = match snapshots.next() {
        Some(snapshot) => snapshot,
        None => path.join("snap.0000000000000001"),
    };
    fs::write(snapshot, "this is no snapshot at all").unwrap();
    assert!(matches!(open(&path), Err(BackendError::Corrupt(_))));
}

#[test]
fn a_row_that_is_damaged_is_told_and_ends_nothing_else() {
    let (_directory, path) = place();
    let large = vec![7; 10_000];
    let engine = open(&path).unwrap();
    let put = |key: &[u8]| KvOp::Put(Space::Data, key.to_vec(), large.clone().into());
    let ops = vec![put(b"whole"), put(b"part")];
    engine.apply(KvBatch { ops }, Durability::Synced).unwrap();
    drop(engine);
    let other = sled::open(&path).unwrap();
    let piece = [
        &[0x80 | Space::Data as u8],
        &b"part"[..],
        &1_u32.to_be_bytes(),
    ]
    .concat();
    assert!(other.remove(piece).unwrap().is_some());
    drop(other);
    let engine = open(&path).unwrap();
    let part = engine.get(Space::Data, b"part");
    assert!(matches!(part, Err(BackendError::Corrupt(_))), "{part:?}");
    assert_eq!(engine.get(Space::Data, b"whole").unwrap().unwrap(), large);
}

#[test]
fn values_of_every_size_leave_nothing_behind() {
    let (_directory, path) = place();
    let mut settings = SledSettings::new(&path);
    // Less than the largest value.
    settings.cache_bytes = 1 << 20;
    let engine = SledEngine::open(&settings).unwrap();
    for bytes in [1 << 20, 64 << 20, 3072, 3073, 6144, 6145, 0, 5_000_000] {
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
    drop(engine);
    let rows = sled::open(&path).unwrap();
    let keys: Vec<_> = rows.iter().keys().map(Result::unwrap).collect();
    assert_eq!(keys, [[0xff]], "only the format is left");
    // Else sled would have kept something beside its log, which it does not sync.
    assert_eq!(fs::read_dir(path.join("blobs")).unwrap().count(), 0);
}

#[test]
fn no_room_for_new_values_leaves_all_else() {
    let (_directory, path) = place();
    let mut settings = SledSettings::new(&path);
    settings.reserve_bytes = u64::MAX;
    let engine = SledEngine::open(&settings).unwrap();
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
