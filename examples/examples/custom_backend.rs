//! A backend of your own: a log file of batches, read into memory when it is opened.
//!
//! An engine has three methods and knows nothing of neo; `KvBackend` makes a whole storage backend
//! of it. The suite at the end proves that this one keeps every promise:
//! `cargo test -p examples --example custom_backend`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use neo_api::{BackendError, BackendInfo, BackendResult, Checksum, Durability, KeyRange};
use neo_api::{KvBatch, KvEngine, KvOp, Order, Space, StorageBackend};
use neo_backends::{KvBackend, MemoryEngine};
use neo_client::Attempt;
use neo_testkit::Cluster;

/// In the file, each batch is its checksum and its writes: space, key, value or none.
#[derive(Debug)]
struct LogEngine {
    memory: MemoryEngine,
    /// None once a write or a sync has failed: then nobody knows what is on disk.
    file: Mutex<Option<File>>,
}

impl LogEngine {
    fn open(path: &Path) -> BackendResult<Self> {
        let mut options = File::options();
        let options = options.read(true).append(true).create(true);
        let mut file = options.open(path).map_err(failed)?;
        let in_use = |_| BackendError::InUse(path.display().to_string());
        file.try_lock().map_err(in_use)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let memory = MemoryEngine::default();
        let (mut rest, mut whole) = (&bytes[..], 0);
        while let Some(batch) = next_batch(&mut rest) {
            memory.apply(batch, Durability::Buffered)?;
            whole = bytes.len() - rest.len();
        }
        // A crash cut off what follows; it was never acknowledged.
        file.set_len(whole as u64).map_err(failed)?;
        let file = Mutex::new(Some(file));
        Ok(Self { memory, file })
    }
}

impl KvEngine for LogEngine {
    fn get(&self, space: Space, key: &[u8]) -> BackendResult<Option<Bytes>> {
        self.memory.get(space, key)
    }

    fn scan(
        &self,
        space: Space,
        range: KeyRange,
        order: Order,
        limit: usize,
    ) -> BackendResult<Vec<(Bytes, Bytes)>> {
        self.memory.scan(space, range, order, limit)
    }

    fn apply(&self, batch: KvBatch, durability: Durability) -> BackendResult<()> {
        let mut place = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = || BackendError::Closed("its log could not be written".to_owned());
        let mut file = place.take().ok_or_else(closed)?;
        file.write_all(&encode(&batch)).map_err(failed)?;
        if durability == Durability::Synced {
            file.sync_data().map_err(failed)?;
        }
        *place = Some(file);
        self.memory.apply(batch, durability)
    }
}

fn encode(batch: &KvBatch) -> Vec<u8> {
    let write = |op: &KvOp| match op {
        KvOp::Put(space, key, value) => (*space as usize, key.clone(), Some(value.clone())),
        KvOp::Delete(space, key) => (*space as usize, key.clone(), None),
    };
    let writes = cbor(&batch.ops.iter().map(write).collect::<Vec<_>>());
    cbor(&(Checksum::of(&writes), Bytes::from(writes)))
}

fn next_batch(bytes: &mut &[u8]) -> Option<KvBatch> {
    let (checksum, writes): (Checksum, Bytes) = ciborium::from_reader(bytes).ok()?;
    let intact = Checksum::of(&writes) == checksum;
    let writes: Vec<(usize, Vec<u8>, Option<Bytes>)> =
        ciborium::from_reader(intact.then_some(&writes[..])?).ok()?;
    let op = |(space, key, value): (usize, _, _)| {
        let space = *Space::ALL.get(space)?;
        Some(match value {
            Some(value) => KvOp::Put(space, key, value),
            None => KvOp::Delete(space, key),
        })
    };
    let ops = writes.into_iter().map(op).collect::<Option<_>>()?;
    Some(KvBatch { ops })
}

fn cbor(value: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("a vector takes everything");
    bytes
}

fn failed(error: io::Error) -> BackendError {
    let what = "the log file".to_owned();
    let source = error.into();
    BackendError::Failed { what, source }
}

fn open(path: &Path) -> BackendResult<Arc<dyn StorageBackend>> {
    let info = BackendInfo::new("Log", true);
    let backend = KvBackend::threads(LogEngine::open(path)?, info, 2);
    Ok(Arc::new(backend))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let logs = directory.path().to_owned();
    let open_log = move |n| open(&logs.join(format!("node-{n}.log")));
    let cluster = Cluster::builder().storages(2).replicas(1).backend(open_log);

    let mut running = cluster.clone().start().await?;
    let client = running.client().await?;
    let store = |txn: Attempt| async move {
        let oid = txn.new_oid().await?;
        txn.store(oid, "in two logs").await?;
        Ok(oid)
    };
    let oid = client.transact(store).await?;
    client.close().await;
    running.stop().await?;

    let mut running = cluster.start().await?;
    let client = running.client().await?;
    let object = client.load(oid).await?.expect("the logs have it");
    assert_eq!(object.data, "in two logs");
    println!("{oid} was read from {}", directory.path().display());
    client.close().await;
    Ok(running.stop().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Logs;

    impl neo_testkit::conformance::backend::BackendFactory for Logs {
        type Guard = tempfile::TempDir;

        fn open(&self) -> (Self::Guard, Arc<dyn StorageBackend>) {
            let directory = tempfile::tempdir().unwrap();
            let backend = open(&directory.path().join("log")).unwrap();
            (directory, backend)
        }

        fn reopen(&self, log: &Self::Guard) -> Option<BackendResult<Arc<dyn StorageBackend>>> {
            Some(open(&log.path().join("log")))
        }
    }

    neo_testkit::backend_conformance!(Logs);
}
