//! An engine over fjall, to be measured. It is no backend of neo: docs/backends.md says why.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use fjall::{
    Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode, Readable,
};
use neo_api::{
    BackendError, BackendInfo, BackendResult, Durability, KeyRange, KvBatch, KvEngine, KvOp, Order,
    Space, StorageBackend,
};
use neo_backends::KvBackend;

use super::CACHE_BYTES;

struct FjallEngine {
    db: Database,
    /// In the order of [`Space::ALL`].
    spaces: Vec<Keyspace>,
}

impl fmt::Debug for FjallEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FjallEngine").finish_non_exhaustive()
    }
}

/// How a space is kept: large values apart, so that they are not written again with each merge.
pub(super) fn options(has_values: bool) -> KeyspaceCreateOptions {
    let options = KeyspaceCreateOptions::default();
    if has_values {
        options.with_kv_separation(Some(KvSeparationOptions::default()))
    } else {
        options
    }
}

/// A backend over a database in a directory.
pub(super) fn open(database: &str) -> anyhow::Result<Arc<dyn StorageBackend>> {
    let path = database.trim_start_matches("file:").trim_end_matches('?');
    let db = Database::builder(path).cache_size(CACHE_BYTES).open()?;
    let open = |space: Space| db.keyspace(space.name(), || options(space == Space::Data));
    let spaces = Space::ALL.into_iter().map(open).collect::<Result<_, _>>()?;
    let engine = FjallEngine { db, spaces };
    let info = BackendInfo::new("Fjall", true);
    Ok(Arc::new(KvBackend::local(engine, info, 2)))
}

fn failed(error: fjall::Error) -> BackendError {
    BackendError::Failed {
        what: "fjall".to_owned(),
        source: Box::new(error),
    }
}

impl KvEngine for FjallEngine {
    fn get(&self, space: Space, key: &[u8]) -> BackendResult<Option<Bytes>> {
        let snapshot = self.db.snapshot();
        let value = snapshot.get(&self.spaces[space as usize], key);
        Ok(value.map_err(failed)?.map(Into::into))
    }

    fn scan(
        &self,
        space: Space,
        range: KeyRange,
        order: Order,
        limit: usize,
    ) -> BackendResult<Vec<(Bytes, Bytes)>> {
        if let (Bound::Excluded(from), Bound::Excluded(to) | Bound::Included(to))
        | (Bound::Included(from), Bound::Excluded(to)) = &range
            && from >= to
        {
            return Ok(Vec::new());
        }
        let snapshot = self.db.snapshot();
        let rows = snapshot.range(&self.spaces[space as usize], range);
        let copy = |row: fjall::Guard| {
            let (key, value) = row.into_inner().map_err(failed)?;
            Ok((key.into(), value.into()))
        };
        match order {
            Order::Ascending => rows.take(limit).map(copy).collect(),
            Order::Descending => rows.rev().take(limit).map(copy).collect(),
        }
    }

    fn apply(&self, batch: KvBatch, durability: Durability) -> BackendResult<()> {
        // Of several writes of a key in a batch, fjall keeps any.
        let pair = |op| match op {
            KvOp::Put(space, key, value) => ((space, key), Some(value)),
            KvOp::Delete(space, key) => ((space, key), None),
        };
        let last: BTreeMap<(Space, Vec<u8>), Option<Bytes>> =
            batch.ops.into_iter().map(pair).collect();
        let mut rows = self.db.batch();
        for ((space, key), value) in last {
            let space = &self.spaces[space as usize];
            match value {
                Some(value) => rows.insert(space, key, value),
                None => rows.remove(space, key),
            }
        }
        rows.commit().map_err(failed)?;
        match durability {
            Durability::Buffered => Ok(()),
            Durability::Synced => self.db.persist(PersistMode::SyncData).map_err(failed),
        }
    }
}
