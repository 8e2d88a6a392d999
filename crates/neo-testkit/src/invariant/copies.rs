//! What a database has of committed transactions: replicas have the same.

use neo_api::{BackendResult, Oid, Order, PageLimit, Partition, RevisionId, StorageBackend, Tid};

/// Entries of a page.
const PAGE: usize = 10_000;

/// Every committed transaction and revision of some partitions, a line each.
///
/// # Errors
/// When the database can't be read.
pub async fn committed(
    backend: &dyn StorageBackend,
    partitions: impl IntoIterator<Item = Partition>,
) -> BackendResult<Vec<String>> {
    let mut lines = Vec::new();
    for partition in partitions {
        let mut min = Some(Tid::ZERO);
        while let Some(from) = min {
            let limit = PageLimit::entries(PAGE);
            let page = backend
                .transactions(partition, from, Tid::MAX, Order::Ascending, limit)
                .await?;
            lines.extend(page.iter().map(|entry| format!("{partition}: {entry:?}")));
            min = page.last().and_then(|last| last.tid.checked_next());
        }
        let mut min = RevisionId {
            tid: Tid::ZERO,
            oid: Oid::ZERO,
        };
        loop {
            let limit = PageLimit::entries(PAGE);
            let page = backend.fetch(partition, min, Tid::MAX, limit).await?;
            let Some(last) = page.last() else { break };
            min = RevisionId {
                oid: Oid(last.id.oid.0 + 1),
                ..last.id
            };
            lines.extend(page.iter().map(|entry| format!("{partition}: {entry:?}")));
        }
    }
    Ok(lines)
}
