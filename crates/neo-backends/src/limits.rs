//! What a backend refuses beside [`WriteBatch::check`](neo_api::WriteBatch::check).

use neo_api::{BackendError, BackendResult, Loaded, OPERATION_OBJECTS_MAX, Oid, Partition};

/// Where equal values are kept once, those with so many bytes, unless told otherwise: with fewer, what
/// tells where a value is takes as much as the value.
pub const DEDUP_BYTES_MIN: u32 = 64;
/// Of values with the same checksum, so many are compared with a new one.
pub(crate) const SHARED_COMPARED_MAX: usize = 8;

/// Refuses more oids than one call may have.
pub(crate) fn check_oids(oids: &[(Partition, Oid)]) -> BackendResult<()> {
    let n = oids.len();
    if n > OPERATION_OBJECTS_MAX {
        return refuse(format!(
            "{n} oids in one call, above {OPERATION_OBJECTS_MAX}"
        ));
    }
    Ok(())
}

/// Takes what is loaded until the values have so many bytes together.
pub(crate) fn until_bytes(
    all: impl Iterator<Item = BackendResult<Loaded>>,
    bytes: usize,
) -> BackendResult<Vec<Loaded>> {
    let (mut found, mut brought) = (Vec::new(), 0);
    for loaded in all {
        let loaded = loaded?;
        brought += loaded.value_bytes();
        found.push(loaded);
        if brought >= bytes {
            break;
        }
    }
    Ok(found)
}

pub(crate) fn refuse<T>(what: String) -> BackendResult<T> {
    Err(BackendError::Unsupported(what))
}
