//! What a backend refuses beside [`WriteBatch::check`](neo_api::WriteBatch::check).

use neo_api::{BackendError, BackendResult, OPERATION_OBJECTS_MAX, Oid, Partition};

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

pub(crate) fn refuse<T>(what: String) -> BackendResult<T> {
    Err(BackendError::Unsupported(what))
}
