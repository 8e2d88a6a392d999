//! A backend of your own: a log file of batches, read into memory when it is opened.
//!
//! An engine has three methods and knows nothing of nodes and transactions: it keeps keys and
//! values, and `KvBackend` makes a storage backend of it.
//! The suite at the end proves its promises: `cargo test -p examples --example custom_backend`.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use neo_api::{BackendError, BackendInfo, BackendResult, Checksum, Durability, KeyRange};
use neo_api::{KvBatch, KvEngine, Order, Space, StorageBackend};
use neo_backends::{KvBackend, MemoryEngine};
use neo_client::Attempt;
use neo_testkit::Cluster;

/// In the file, each batch has its checksum before it.
#[derive(Debug)]
struct LogEngine {
    memory: MemoryEngine,
    file: Mutex<File>,
    /// A write or a sync has failed: nobody knows what is on disk, until it is opened again.
    is_lost: AtomicBool,
}

impl LogEngine {
    fn open(path: &Path) -> BackendResult<Self> {
        let mut options = File::options();
        let mut file = options.read(true).append(true).create(true).open(path)?;
        let in_use = |_| BackendError::InUse(path.display().to_string());
        file.try_lock().map_err(in_use)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let memory = MemoryEngine::default();
        let mut rest = &bytes[..];
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

fn open(path: &Path) -> BackendResult<Arc<dyn StorageBackend>> {
    let engine = LogEngine::open(path)?;
    let info = BackendInfo::new("Log", true);
    Ok(Arc::new(KvBackend::threads(engine, info, 2)))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let logs = directory.path().to_owned();
    let open_log = move |n| open(&logs.join(format!("node-{n}.log")));
    let cluster = Cluster::builder().storages(2).replicas(1).backend(open_log);
    let mut cluster = cluster.start().await?;
    let store = |txn: Attempt| async move {
        let oid = txn.new_oid().await?;
        txn.store(oid, "in two logs").await?;
        Ok(oid)
    };
    let oid = cluster.client().await?.transact(store).await?;

    cluster.kill_all().await;
    cluster.restart_all().await?;
    let object = cluster.client().await?.load(oid).await?;
    assert_eq!(object.expect("the logs have it").data, "in two logs");
    println!("{oid} was read from {}", directory.path().display());
    Ok(cluster.stop().await?)
}

#[cfg(test)]
mod tests {
    neo_testkit::backend_conformance!(neo_testkit::conformance::backend::OnDisk(super::open));
}
