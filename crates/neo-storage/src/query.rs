//! What a query of the core asks of a backend.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use neo_api::{
    At, BackendResult, Loaded, Oid, Order, PageLimit, Partition, RevisionId, StorageBackend, Tid,
    TxnId, UnfinishedTransaction,
};

use neo_proto::UndoRevision;

use crate::core::{
    CONFIG_KEYS, Extent, Packed, PackedValues, Query, QueryResult, StartState, objects_key,
    progress_key, state_key,
};
use crate::undo::undo_revision;

/// Reads what a query asks for. The shell and the simulator both use it.
///
/// # Errors
/// As the backend says.
pub async fn execute_query(
    backend: &dyn StorageBackend,
    query: Query,
) -> BackendResult<QueryResult> {
    Ok(match query {
        Query::Start => {
            let mut config = Vec::with_capacity(CONFIG_KEYS.len());
            for key in CONFIG_KEYS {
                config.push(backend.config(key).await?);
            }
            QueryResult::Start(Box::new(StartState {
                config,
                table: backend.partition_table().await?,
                next_data_id: backend.next_data_id().await?,
                object_bytes_max: backend.info().object_bytes_max,
            }))
        }
        Query::LastSerial {
            partition,
            oid,
            same_as,
        } => {
            let repeatable = match same_as {
                None => false,
                Some(tid) => matches!(
                    backend.load(partition, oid, At::Exact(tid)).await?,
                    Loaded::Found(_)
                ),
            };
            let serials = backend.last_serials(&[(partition, oid)]).await?;
            let last = serials.into_iter().next().flatten();
            QueryResult::LastSerial { last, repeatable }
        }
        Query::Load { partition, oid, at } => {
            let loaded = backend.load(partition, oid, at).await?;
            QueryResult::Load(known(backend, (partition, oid), at, loaded).await?)
        }
        Query::LoadMany { objects, bytes } => load_many(backend, objects, bytes).await?,
        Query::History {
            partition,
            oid,
            before,
            limit,
        } => {
            let entries = backend.history(partition, oid, before, limit).await?;
            let complete = entries.len() < limit;
            QueryResult::History { entries, complete }
        }
        Query::Current {
            partition,
            min,
            at,
            values,
            limit,
        } => {
            let page = backend.current(partition, min, at, values, limit).await?;
            let packed = packed_beyond(backend, partition, at).await?;
            let is_precise = packed.is_none_or(|packed| packed.are_precise((min, page.next), at));
            QueryResult::Current(is_precise.then_some(page))
        }
        Query::Bytes { partitions } => {
            QueryResult::Bytes(backend.bytes().await? / (partitions.max(1) as u64))
        }
        Query::Undo {
            partition,
            undone,
            before,
            oids,
        } => {
            let mut revisions = Vec::with_capacity(oids.len());
            for oid in &oids {
                revisions.push(undo_revision(backend, partition, *oid, undone, before).await?);
            }
            let lacks = |told: &Option<UndoRevision>| told.is_none_or(|t| t.previous.is_none());
            let found = oids.into_iter().zip(&revisions);
            let mut lacking = found.filter(|(_, told)| lacks(told)).map(|(oid, _)| oid);
            let newest = Tid(undone.0.saturating_sub(1));
            let packed = packed_beyond(backend, partition, newest).await?;
            let may_be_packed =
                packed.is_some_and(|packed| lacking.any(|oid| !packed.is_precise(oid, newest)));
            QueryResult::Undo((!may_be_packed).then_some(revisions))
        }
        Query::Transaction { partition, tid } => {
            let found = backend.transaction(partition, tid).await?;
            QueryResult::Transaction(found.map(Box::new))
        }
        Query::Transactions {
            partition,
            min,
            max,
            order,
            limit,
        } => transactions(backend, partition, min, max, order, limit).await?,
        Query::Fetch {
            partition,
            min,
            max,
            limit,
        } => {
            let page = backend.fetch(partition, min, max, limit).await?;
            let sizes = page.iter().filter_map(|r| r.record.as_ref());
            let bytes: usize = sizes.map(|record| record.data.len()).sum();
            let complete = page.len() < limit.entries && bytes < limit.bytes;
            QueryResult::Fetch { page, complete }
        }
        Query::Revisions {
            partition,
            min,
            max,
            limit,
        } => QueryResult::Revisions(backend.revisions(partition, min, max, limit).await?),
        Query::FinalTid { partition, txn } => {
            // In this order: a transaction that is moved between the two looks is not missed.
            let locked = unfinished_one(backend, txn).await?;
            let locked = locked.into_iter().find_map(|unfinished| unfinished.tid);
            QueryResult::FinalTid(match locked {
                None => backend.final_tid(partition, txn).await?,
                tid => tid,
            })
        }
        Query::Unfinished { after, limit } => {
            QueryResult::Unfinished(backend.unfinished(after, limit).await?)
        }
        Query::UnfinishedOne { txn } => {
            QueryResult::Unfinished(unfinished_one(backend, txn).await?)
        }
        Query::UnfinishedObjects { txn, after, limit } => {
            QueryResult::UnfinishedObjects(backend.unfinished_objects(txn, after, limit).await?)
        }
        Query::LooseData { after, limit } => {
            QueryResult::LooseData(backend.loose_data(after, limit).await?)
        }
        Query::LastIds { partitions } => {
            let mut all = Vec::with_capacity(partitions.len());
            for partition in partitions {
                let mut ids = backend.last_ids(partition).await?;
                // What a pack has removed was here: the cell goes that far.
                let packed = packed_values(backend, partition, false).await?;
                let packed = Packed::of_any(&packed).state;
                let was = |tid| Some(tid).filter(|tid| *tid > Tid::ZERO);
                ids.last_revision = ids.last_revision.max(was(packed.removed));
                ids.last_transaction = ids.last_transaction.max(was(packed.emptied));
                all.push((partition, ids));
            }
            QueryResult::LastIds(all)
        }
        Query::LastSerials { oids } => QueryResult::LastSerials(backend.last_serials(&oids).await?),
        Query::Extent { partitions } => {
            let mut extent = Extent::default();
            for partition in partitions {
                let ids = backend.last_ids(partition).await?;
                extent.greatest.push(ids.last_tid());
            }
            extent.unfinished = least_unfinished(backend).await?;
            QueryResult::Extent(extent)
        }
        Query::Progress { partitions } => {
            let mut progress = Vec::with_capacity(partitions.len());
            for partition in partitions {
                progress.push(backend.config(&progress_key(partition)).await?);
            }
            QueryResult::Progress(progress)
        }
        Query::PackStates { partitions } => {
            let mut states = Vec::with_capacity(partitions.len());
            for partition in partitions {
                states.push(packed_values(backend, partition, true).await?);
            }
            QueryResult::PackStates(states)
        }
        Query::Obsolete {
            partition,
            min,
            at,
            limit,
        } => QueryResult::Obsolete(backend.obsolete(partition, min, at, limit).await?),
        Query::Remaining { partition, at, ids } => {
            QueryResult::Remaining(remaining(backend, partition, at, ids).await?)
        }
        Query::PackOrders {
            partitions,
            after,
            max,
        } => pack_orders(backend, partitions, after, max).await?,
    })
}

/// What is written of how far a partition is packed, with the objects or without. These are read
/// first: what becomes of them when all is packed is in the other.
async fn packed_values(
    backend: &dyn StorageBackend,
    partition: Partition,
    with_objects: bool,
) -> BackendResult<PackedValues> {
    let objects = match with_objects {
        true => backend.config(&objects_key(partition)).await?,
        false => None,
    };
    let state = backend.config(&state_key(partition)).await?;
    Ok(PackedValues { state, objects })
}

/// How far a partition is packed, if any of it is beyond a tid; of whatever assignment.
///
/// What a pack has begun with is noted before anything goes: it is asked for after what is not found
/// was looked for.
async fn packed_beyond(
    backend: &dyn StorageBackend,
    partition: Partition,
    tid: Tid,
) -> BackendResult<Option<Packed>> {
    let values = packed_values(backend, partition, false).await?;
    if tid >= Packed::of_any(&values).state.at {
        return Ok(None);
    }
    let values = packed_values(backend, partition, true).await?;
    Ok(Some(Packed::of_any(&values)))
}

/// The greatest tid up to which nothing was found, if nothing was.
const fn not_found_up_to(loaded: &Loaded, at: At) -> Option<Tid> {
    match (loaded, at) {
        (Loaded::Found(_) | Loaded::Deleted { .. }, _) | (_, At::Latest) => None,
        // Of the revisions up to the pack's tid, only the last is left.
        (_, At::Before(tid) | At::Exact(tid)) => Some(Tid(tid.0.saturating_sub(1))),
    }
}

/// `None`: it is not there, and a pack may have removed it.
async fn known(
    backend: &dyn StorageBackend,
    (partition, oid): (Partition, Oid),
    at: At,
    loaded: Loaded,
) -> BackendResult<Option<Loaded>> {
    let Some(newest) = not_found_up_to(&loaded, at) else {
        return Ok(Some(loaded));
    };
    let packed = packed_beyond(backend, partition, newest).await?;
    let is_precise = packed.is_none_or(|packed| packed.is_precise(oid, newest));
    Ok(is_precise.then_some(loaded))
}

/// Of each revision, whether a pack at `at` leaves it; without a pack, whether it is there.
async fn remaining(
    backend: &dyn StorageBackend,
    partition: Partition,
    at: Option<Tid>,
    ids: Vec<RevisionId>,
) -> BackendResult<Vec<bool>> {
    // What is known of an object tells of all its revisions up to the pack.
    let before = |id: &RevisionId| {
        let last = at.map_or(id.tid, |at| at.max(id.tid));
        (partition, id.oid, Tid(last.0.saturating_add(1)))
    };
    let mut wanted: Vec<_> = ids.iter().map(before).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let newest = backend.newest_before(&wanted).await?;
    let newest: BTreeMap<_, _> = wanted.into_iter().zip(newest).collect();
    let is_left = |id: &RevisionId| {
        let newest = newest.get(&before(id)).copied().flatten();
        let is_packed = at.is_some_and(|at| id.tid <= at);
        newest
            .is_some_and(|newest| newest.serial == id.tid && !(is_packed && newest.bytes.is_none()))
    };
    Ok(ids.iter().map(is_left).collect())
}

/// Orders of several partitions, by id: a few of them.
async fn pack_orders(
    backend: &dyn StorageBackend,
    partitions: Vec<Partition>,
    after: Tid,
    max: Tid,
) -> BackendResult<QueryResult> {
    const FEW: usize = 8;
    const BYTES: usize = 4 << 20;
    let (mut orders, mut complete) = (Vec::new(), max);
    for partition in partitions {
        let found = backend.pack_orders(partition, after, FEW).await?;
        if let Some((last, _)) = found.last().filter(|_| found.len() == FEW) {
            complete = complete.min(*last);
        }
        orders.extend(found.into_iter().filter(|(id, _)| *id <= complete));
    }
    orders.sort_unstable_by_key(|(id, _)| *id);
    let mut bytes = 0;
    let fit = orders.iter().take_while(|(id, order)| {
        let fits = *id <= complete && bytes < BYTES;
        bytes += 64 + 8 * order.oids.as_ref().map_or(0, Vec::len);
        fits
    });
    let fit = fit.count();
    if let (Some((last, _)), true) = (orders.get(fit.max(1) - 1), fit < orders.len()) {
        complete = complete.min(*last);
    }
    orders.truncate(fit);
    Ok(QueryResult::PackOrders { orders, complete })
}

/// As many as have so many bytes.
async fn load_many(
    backend: &dyn StorageBackend,
    objects: Vec<(Partition, Oid, At)>,
    bytes: usize,
) -> BackendResult<QueryResult> {
    let loaded = backend.load_many(&objects, bytes).await?;
    let mut found = Vec::with_capacity(loaded.len());
    // Of each partition it is looked up once: after all that was not found.
    let mut packed = BTreeMap::new();
    for (loaded, (partition, oid, at)) in loaded.into_iter().zip(objects) {
        let Some(newest) = not_found_up_to(&loaded, at) else {
            found.push(Some(loaded));
            continue;
        };
        if let Entry::Vacant(entry) = packed.entry(partition) {
            let values = packed_values(backend, partition, true).await?;
            entry.insert(Packed::of_any(&values));
        }
        let is_precise = packed
            .get(&partition)
            .is_none_or(|packed| packed.is_precise(oid, newest));
        found.push(is_precise.then_some(loaded));
    }
    Ok(QueryResult::LoadMany(found))
}

/// The least ttid of the unfinished transactions, of all reigns.
async fn least_unfinished(backend: &dyn StorageBackend) -> BackendResult<Option<Tid>> {
    const PAGE: usize = 1_000;
    let (mut least, mut after) = (None, None);
    loop {
        let page = backend.unfinished(after, PAGE).await?;
        let ttids = page.iter().map(|unfinished| unfinished.txn.ttid);
        least = least.into_iter().chain(ttids).min();
        after = page.last().map(|last| last.txn);
        if page.len() < PAGE {
            return Ok(least);
        }
    }
}

/// A page of transactions, read a few at a time: each may have millions of oids.
async fn transactions(
    backend: &dyn StorageBackend,
    partition: Partition,
    mut min: Tid,
    mut max: Tid,
    order: Order,
    limit: PageLimit,
) -> BackendResult<QueryResult> {
    const FEW: usize = 32;
    let (mut page, mut bytes) = (Vec::new(), 0);
    loop {
        let ask = FEW.min(limit.entries.max(1) - page.len());
        let few = backend
            .transactions(partition, min, max, order, PageLimit::entries(ask))
            .await?;
        let complete = few.len() < ask;
        bytes += few.iter().map(|record| 64 + record.weight()).sum::<usize>();
        page.extend(few);
        let last = page.last().map(|last| last.tid);
        let next = match order {
            Order::Ascending => last.filter(|tid| *tid < max).and_then(Tid::checked_next),
            Order::Descending => last.filter(|tid| *tid > min).map(|tid| Tid(tid.0 - 1)),
        };
        let full = page.len() >= limit.entries.max(1) || bytes >= limit.bytes;
        match (next, order) {
            (Some(next), Order::Ascending) if !complete && !full => min = next,
            (Some(next), Order::Descending) if !complete && !full => max = next,
            (next, _) => {
                let complete = complete || next.is_none();
                return Ok(QueryResult::Transactions { page, complete });
            }
        }
    }
}

async fn unfinished_one(
    backend: &dyn StorageBackend,
    txn: TxnId,
) -> BackendResult<Vec<UnfinishedTransaction>> {
    let before = match txn.ttid.0.checked_sub(1) {
        Some(ttid) => Some((txn.reign, Tid(ttid)).into()),
        None => {
            let reign = txn.reign.0.checked_sub(1);
            reign.map(|reign| (neo_api::Reign(reign), Tid(u64::MAX)).into())
        }
    };
    let mut page = backend.unfinished(before, 1).await?;
    page.retain(|unfinished| unfinished.txn == txn);
    Ok(page)
}
