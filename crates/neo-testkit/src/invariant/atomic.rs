//! A transaction is there with all of its objects or not at all, whatever its client was told.
//!
//! # Source
//! Promise 2 (atomic) of ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};

use neo_api::{Oid, RevisionId, Tid};

use super::{Found, Violation};
use crate::oracle::Oracle;
use crate::sim::{Facts, Name};

pub(super) fn check(oracle: &Oracle, facts: &Facts) -> Vec<Violation> {
    let mut found = Found::new("atomic");
    let partitioning = facts.table.partitioning();
    // By tid: the transaction, and the readable nodes that have it.
    let mut committed: BTreeMap<Tid, (Option<u64>, BTreeSet<Name>)> = BTreeMap::new();
    let mut tids: BTreeMap<u64, BTreeSet<Tid>> = BTreeMap::new();
    for partition in partitioning.iter() {
        for (node, cell) in facts.readable(partition) {
            for record in cell.transactions.values() {
                let number = Oracle::number(&record.meta.description);
                let entry = committed.entry(record.tid).or_default();
                entry.0 = number;
                entry.1.insert(node);
                if let Some(number) = number {
                    tids.entry(number).or_default().insert(record.tid);
                }
                if partitioning.of_tid(record.tid) != partition {
                    found.add(format!(
                        "{node}: {} is in partition {partition}",
                        record.tid
                    ));
                }
            }
        }
    }
    for (number, tids) in tids {
        if tids.len() > 1 {
            found.add(format!("transaction {number} is there as each of {tids:?}"));
        }
    }
    for (tid, (number, _)) in &committed {
        let Some(seen) = number.and_then(|n| oracle.transactions().get(&n)) else {
            continue;
        };
        for (oid, stored) in &seen.stores {
            let id = RevisionId {
                tid: *tid,
                oid: *oid,
            };
            for (node, cell) in facts.readable(partitioning.of_oid(*oid)) {
                let revision = cell.revisions.get(&id);
                let value = revision.map(|r| r.record.as_ref().map(|record| &record.data));
                let is_packed = revision.is_none() && facts.packed.contains(&id);
                if value != Some(stored.value.as_ref()) && !is_packed {
                    found.add(format!("{node} has {tid} without its value of {oid}"));
                }
            }
        }
    }
    for partition in partitioning.iter() {
        for (node, cell) in facts.readable(partition) {
            for id in cell.revisions.keys() {
                stray(&mut found, oracle, &committed, node, *id);
            }
        }
    }
    found.violations
}

/// A revision must be of a transaction that is there, and that stored it.
fn stray(
    found: &mut Found,
    oracle: &Oracle,
    committed: &BTreeMap<Tid, (Option<u64>, BTreeSet<Name>)>,
    node: Name,
    id: RevisionId,
) {
    let RevisionId { tid, oid } = id;
    let Some((number, _)) = committed.get(&tid) else {
        found.add(format!("{node} has {oid} of {tid}, and nobody has {tid}"));
        return;
    };
    let seen = number.and_then(|n| oracle.transactions().get(&n));
    let wrote = |oid: Oid| seen.is_none_or(|seen| seen.stores.contains_key(&oid));
    if !wrote(oid) {
        found.add(format!("{node} has {oid} of {tid}, which did not store it"));
    }
}
