//! A loss of power: of what was written since the last sync the disk has any part, a sector here, a
//! sector there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use neo_api::{Durability, KvEngine};
use redb::{Database, StorageBackend};

use super::RedbEngine;
use crate::guard::Guard;
use crate::lock::FileLock;

#[path = "../../tests/support/kv_work.rs"]
mod work;

const SECTOR: usize = 512;

#[derive(Debug, Clone)]
enum Op {
    Write(usize, Vec<u8>),
    Length(usize),
    Sync,
}

/// A disk that remembers what was done to it.
#[derive(Debug, Clone, Default)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    ops: Arc<Mutex<Vec<Op>>>,
}

impl Disk {
    fn of(bytes: Vec<u8>) -> Self {
        Self {
            bytes: Arc::new(Mutex::new(bytes)),
            ops: Arc::default(),
        }
    }

    fn done(&self, op: Op) {
        change(&mut self.bytes.lock().unwrap(), &op);
        self.ops.lock().unwrap().push(op);
    }
}

fn change(bytes: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Write(at, data) => bytes[*at..][..data.len()].copy_from_slice(data),
        Op::Length(length) => bytes.resize(*length, 0),
        Op::Sync => {}
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, std::io::Error> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        let bytes = self.bytes.lock().unwrap();
        out.copy_from_slice(&bytes[offset as usize..][..out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.done(Op::Length(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.done(Op::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.done(Op::Write(offset as usize, data.to_vec()));
        Ok(())
    }
}

/// What the disk has after so many operations and a loss of power, in one of many ways.
fn image(ops: &[Op], random: &mut impl FnMut(u64) -> u64) -> Vec<u8> {
    let synced = ops.iter().rposition(|op| matches!(op, Op::Sync));
    let (durable, loose) = ops.split_at(synced.map_or(0, |last| last + 1));
    let mut bytes = Vec::new();
    durable.iter().for_each(|op| change(&mut bytes, op));
    // Often all, else so many of eight sectors.
    let share = random(16).min(8);
    for op in loose {
        match op {
            Op::Write(at, data) => {
                for (n, sector) in data.chunks(SECTOR).enumerate() {
                    let at = at + n * SECTOR;
                    if random(8) < share && at + sector.len() <= bytes.len() {
                        bytes[at..][..sector.len()].copy_from_slice(sector);
                    }
                }
            }
            Op::Length(length) => {
                if random(8) < share {
                    bytes.resize(*length, 0);
                }
            }
            Op::Sync => {}
        }
    }
    bytes
}

/// The engine on a disk, in the tables that it has; a fresh one gets them.
fn engine(disk: Disk, directory: &tempfile::TempDir, quick_repair: bool) -> RedbEngine {
    let path = directory.path().join("nothing");
    let mut builder = Database::builder();
    // So little that pages are written before their batch ends.
    builder.set_cache_size(64 << 10);
    let db = builder.create_with_backend(disk).unwrap();
    super::open::format(&db).unwrap();
    RedbEngine {
        db: Some(db),
        guard: Guard::default(),
        reserve_bytes: 0,
        quick_repair,
        _lock: FileLock::acquire(&path).unwrap(),
        path,
    }
}

fn check(quick_repair: bool, synced_every: u64) {
    const BATCHES: u64 = 60;
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let ops = Arc::clone(&disk.ops);
    let live = engine(disk, &directory, quick_repair);
    // How many batches were begun, and how many synced, when so many operations were done.
    let mut begun = BTreeMap::from([(ops.lock().unwrap().len(), 0)]);
    let mut synced = begun.clone();
    for n in 1..=BATCHES {
        begun.insert(ops.lock().unwrap().len(), n);
        let durability = if n % synced_every == 0 {
            Durability::Synced
        } else {
            Durability::Buffered
        };
        live.apply(work::batch(n), durability).unwrap();
        if durability == Durability::Synced {
            synced.insert(ops.lock().unwrap().len(), n);
        }
    }
    let ops = ops.lock().unwrap().clone();
    drop(live);
    let first = *synced.keys().next().unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut found_later = 0;
    for n in 0..400 {
        let mut at = first + random((ops.len() - first) as u64) as usize + 1;
        if random(2) == 0 {
            // While it syncs: anywhere else the commit is not whole.
            let sync = ops[at..].iter().position(|op| matches!(op, Op::Sync));
            at += sync.unwrap_or(0);
        }
        let bytes = image(&ops[..at], &mut random);
        let after = engine(Disk::of(bytes), &directory, quick_repair);
        let found = work::check(&after);
        let most = *begun.range(..=at).next_back().unwrap().1;
        let least = *synced.range(..=at).next_back().unwrap().1;
        assert!(
            (least..=most).contains(&found),
            "image {n} after {at} operations has {found} batches: {least} were synced of {most}"
        );
        found_later += u64::from(found > least);
    }
    // Else the images are all alike.
    assert!(found_later > 10, "{found_later}");
}

#[test]
fn a_prefix_with_all_that_was_synced_survives() {
    check(false, 1);
    check(false, 4);
}

#[test]
fn it_survives_with_quick_repair_too() {
    check(true, 2);
}
