//! What it takes to undo what a transaction did to an object.
//!
//! Revisions that repeat each other have one value: they are equivalent. An undo starts from the
//! newest revision; when that is equivalent to the one of the undone transaction, the object gets
//! back what it had before, and otherwise both changes have to be merged. What it had before is told
//! as the *newest* revision that is equivalent to it: so a later undo, which looks from there, finds
//! both ends, and a pack that removes what is old leaves what is pointed to.

use std::collections::BTreeSet;

use neo_api::{BackendResult, Oid, Partition, StorageBackend, Tid};
use neo_proto::UndoRevision;

/// Revisions that are read at once.
const PAGE: usize = 200;

/// `None`: the object has no revision of the transaction, or none before `before` at all.
pub(crate) async fn undo_revision(
    backend: &dyn StorageBackend,
    partition: Partition,
    oid: Oid,
    undone: Tid,
    before: Tid,
) -> BackendResult<Option<UndoRevision>> {
    let Some(after) = undone.checked_next() else {
        return Ok(None);
    };
    let two = backend.history(partition, oid, after, 2).await?;
    let Some(own) = two.first().filter(|entry| entry.serial == undone) else {
        return Ok(None);
    };
    let Some(since) = since(backend, partition, oid, undone, before).await? else {
        return Ok(None);
    };
    let mut same = BTreeSet::from_iter([undone].into_iter().chain(own.data_serial));
    // A deletion is repeated by a deletion.
    let previous = two.get(1).filter(|entry| entry.bytes.is_some());
    let mut newest_previous = previous.map(|entry| entry.serial);
    let mut earlier: BTreeSet<Tid> = previous
        .into_iter()
        .flat_map(|entry| [Some(entry.serial), entry.data_serial])
        .flatten()
        .collect();
    for (serial, repeated) in since.repetitions.into_iter().rev() {
        if same.contains(&repeated) {
            same.insert(serial);
        }
        if earlier.contains(&repeated) {
            earlier.insert(serial);
            newest_previous = Some(serial);
        }
    }
    Ok(Some(UndoRevision {
        current: since.current,
        is_current: same.contains(&since.current),
        previous: newest_previous,
    }))
}

/// An object's revisions below some tid, after another one.
struct Since {
    /// The newest, or an earlier one when there is none.
    current: Tid,
    /// Those that repeat others, with what they repeat: newest first.
    repetitions: Vec<(Tid, Tid)>,
}

async fn since(
    backend: &dyn StorageBackend,
    partition: Partition,
    oid: Oid,
    after: Tid,
    mut before: Tid,
) -> BackendResult<Option<Since>> {
    let mut found: Option<Since> = None;
    loop {
        let page = backend.history(partition, oid, before, PAGE).await?;
        for entry in &page {
            let since = found.get_or_insert(Since {
                current: entry.serial,
                repetitions: Vec::new(),
            });
            if entry.serial <= after {
                return Ok(found);
            }
            let repeated = entry.data_serial.map(|tid| (entry.serial, tid));
            since.repetitions.extend(repeated);
        }
        match page.last() {
            Some(last) if page.len() == PAGE => before = last.serial,
            _ => return Ok(found),
        }
    }
}

#[cfg(test)]
#[path = "undo/undo_test.rs"]
mod undo_test;
