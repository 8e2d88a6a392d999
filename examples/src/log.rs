//! A backend of your own: a log file of batches, read into memory when it is opened.
//!
//! An engine has three methods and knows nothing of nodes and transactions: it keeps keys and
//! values, and `KvBackend` makes a storage backend of it.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use neo_api::{BackendError, BackendInfo, BackendResult, Checksum, Durability, KeyRange};
use neo_api::{KvBatch, KvEngine, Order, Space, StorageBackend};
use neo_backends::{Adapter, DatabaseOptions, KvBackend, MemoryEngine, Place};

/// What a log begins with: nothing else is taken for one, and cut off.
const HEADER: &[u8] = b"neo log 1\n";

/// Keys and values in memory, and what made them in a file: batches, each with its checksum before
/// it.
#[derive(Debug)]
pub struct LogEngine {
    memory: MemoryEngine,
    file: Mutex<File>,
    /// A write or a sync has failed: nobody knows what is on disk, until it is opened again.
    is_lost: AtomicBool,
}

impl LogEngine {
    /// Opens a log, and creates it where there is none.
    ///
    /// # Errors
    /// When another node has it open, or it can't be read.
    pub fn open(path: &Path) -> BackendResult<Self> {
        let mut options = File::options();
        let mut file = options.read(true).append(true).create(true).open(path)?;
        let in_use = |_| BackendError::InUse(path.display().to_string());
        file.try_lock().map_err(in_use)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        if HEADER.starts_with(&bytes) {
            // New, or cut off while it was made.
            file.set_len(0)?;
            file.write_all(HEADER)?;
            file.sync_all()?;
            // The file's name is in its directory, which is a file of its own.
            let name = path.canonicalize()?;
            File::open(name.parent().expect("a file is in a directory"))?.sync_all()?;
            bytes = HEADER.to_vec();
        }
        let Some(mut rest) = bytes.strip_prefix(HEADER) else {
            return Err(BackendError::Incompatible {
                what: path.display().to_string(),
                why: "it is no log".to_owned(),
            });
        };
        let memory = MemoryEngine::default();
        while let Some((batch, after)) = next_batch(rest) {
            memory.apply(batch, Durability::Buffered)?;
            rest = after;
        }
        // A crash cut off what follows; it was never acknowledged.
        file.set_len((bytes.len() - rest.len()) as u64)?;
        let (file, is_lost) = (Mutex::new(file), AtomicBool::new(false));
        Ok(Self {
            memory,
            file,
            is_lost,
        })
    }

    fn check(&self) -> BackendResult<()> {
        if self.is_lost.load(Ordering::SeqCst) {
            let words = "its log could not be written".to_owned();
            return Err(BackendError::Closed(words));
        }
        Ok(())
    }
}

impl KvEngine for LogEngine {
    fn get(&self, space: Space, key: &[u8]) -> BackendResult<Option<Bytes>> {
        self.check()?;
        self.memory.get(space, key)
    }

    fn scan(
        &self,
        space: Space,
        range: KeyRange,
        order: Order,
        limit: usize,
    ) -> BackendResult<Vec<(Bytes, Bytes)>> {
        self.check()?;
        self.memory.scan(space, range, order, limit)
    }

    fn apply(&self, batch: KvBatch, durability: Durability) -> BackendResult<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        self.check()?;
        let batch_bytes = Bytes::from(cbor(&batch));
        let entry = cbor(&(Checksum::of(&batch_bytes), batch_bytes));
        let written = file.write_all(&entry).and_then(|()| match durability {
            Durability::Synced => file.sync_data(),
            Durability::Buffered => Ok(()),
        });
        self.is_lost.store(written.is_err(), Ordering::SeqCst);
        written?;
        self.memory.apply(batch, durability)
    }
}

fn cbor(value: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("a vector takes everything");
    bytes
}

fn next_batch(mut bytes: &[u8]) -> Option<(KvBatch, &[u8])> {
    let (checksum, batch): (Checksum, Bytes) = ciborium::from_reader(&mut bytes).ok()?;
    let intact = Checksum::of(&batch) == checksum;
    let batch = ciborium::from_reader(intact.then_some(&batch[..])?).ok()?;
    Some((batch, bytes))
}

/// The backend of a storage node, over a log.
///
/// # Errors
/// As [`LogEngine::open`].
pub fn open(path: &Path) -> BackendResult<Arc<dyn StorageBackend>> {
    let engine = LogEngine::open(path)?;
    let info = BackendInfo::new("Log", true);
    Ok(Arc::new(KvBackend::threads(engine, info, 2)))
}

/// What an operator calls it: `-a Log -d PATH`.
#[derive(Debug)]
pub struct Log;

impl Adapter for Log {
    fn name(&self) -> &str {
        "Log"
    }

    fn place(&self) -> Place {
        Place::Path
    }

    fn database_help(&self) -> &str {
        "the path of a log file"
    }

    fn open(&self, options: &DatabaseOptions) -> BackendResult<Arc<dyn StorageBackend>> {
        open(Path::new(&options.database))
    }
}

#[cfg(test)]
mod tests {
    use neo_testkit::conformance::backend::OnDisk;

    use super::*;

    mod engine {
        use super::*;

        neo_testkit::engine_conformance!(OnDisk(LogEngine::open));
    }

    neo_testkit::backend_conformance!(OnDisk(open));

    #[test]
    fn what_is_no_log_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("letter");
        std::fs::write(&path, "Dear Sirs,").unwrap();
        let error = LogEngine::open(&path).unwrap_err().to_string();
        assert!(error.ends_with("it is no log"), "{error}");
        let options = DatabaseOptions::new(path.to_str().unwrap());
        assert!(Log.erase(&options).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"Dear Sirs,");
        // One whose creation was cut off is a new one.
        std::fs::write(&path, &HEADER[..4]).unwrap();
        LogEngine::open(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), HEADER);
        assert!(Log.erase(&options).unwrap() && !path.exists());
    }
}
