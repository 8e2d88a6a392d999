//! Room on the disk that is left for what must not fail.

use std::path::Path;

use neo_api::{BackendError, BackendResult, KvBatch, KvOp, Space};

use crate::lock;

/// Refuses a batch that brings new values when the file system has no room for more than so many
/// bytes, for an engine that can't take a write back that the disk has no room for.
pub(crate) fn check(directory: &Path, reserve_bytes: u64, batch: &KvBatch) -> BackendResult<()> {
    let mut bytes = 0;
    let mut brings = false;
    for op in &batch.ops {
        if let KvOp::Put(space, _, value) = op {
            bytes += value.len() as u64;
            brings |= matches!(space, Space::Data | Space::Pending);
        }
    }
    if !brings {
        return Ok(());
    }
    let stat = rustix::fs::statvfs(directory)
        .map_err(|error| lock::failed("looking for space".to_owned(), error.into()))?;
    let room = stat.f_bavail.saturating_mul(stat.f_frsize);
    // Pages are written anew now and then, all of them.
    let takes = bytes.saturating_mul(4);
    if room < reserve_bytes.saturating_add(takes) {
        return Err(BackendError::Full);
    }
    Ok(())
}
