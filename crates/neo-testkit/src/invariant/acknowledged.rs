//! What a client was told is true: what is committed is on every readable cell, with its metadata
//! and all its values; what is not committed is nowhere.
//!
//! # Source
//! Promise 1 (durable) of ARCHITECTURE.md.

use neo_api::{Oid, RevisionId, Tid};

use super::{Found, Violation};
use crate::oracle::{Oracle, Seen, Told};
use crate::sim::Facts;

pub(super) fn check(oracle: &Oracle, facts: &Facts) -> Vec<Violation> {
    let mut found = Found::new("acknowledged");
    for (number, seen) in oracle.transactions() {
        match seen.told {
            Told::Committed(tid) => is_everywhere(&mut found, facts, *number, seen, tid),
            Told::Open | Told::NotCommitted => is_nowhere(&mut found, facts, *number),
            Told::Asked | Told::Unknown => {}
        }
    }
    found.violations
}

fn is_everywhere(found: &mut Found, facts: &Facts, number: u64, seen: &Seen, tid: Tid) {
    let partitioning = facts.table.partitioning();
    let home = partitioning.of_tid(tid);
    let mut copies = 0;
    for (node, cell) in facts.readable(home) {
        copies += 1;
        let Some(record) = cell.transactions.get(&tid) else {
            found.add(format!(
                "{node} lacks transaction {number}, committed as {tid}"
            ));
            continue;
        };
        if Oracle::number(&record.meta.description) != Some(number) {
            found.add(format!(
                "{node} has another transaction than {number} at {tid}"
            ));
        }
        let unchanged = |oid: &&Oid| !seen.stores.contains_key(oid);
        for oid in record.oids.iter().filter(unchanged) {
            found.add(format!(
                "{node}: transaction {number} lists {oid}, which it did not store"
            ));
        }
        let unlisted = seen.stores.keys().copied();
        let unlisted = unlisted.filter(|oid| !record.oids.contains(oid));
        for oid in unlisted.filter(|&oid| !facts.is_obsolete(RevisionId { tid, oid })) {
            found.add(format!("{node}: transaction {number} does not list {oid}"));
        }
    }
    if copies == 0 {
        found.add(format!("no readable cell of partition {home}, of {tid}"));
    }
    for (oid, stored) in &seen.stores {
        let id = RevisionId { tid, oid: *oid };
        for (node, cell) in facts.readable(partitioning.of_oid(*oid)) {
            let Some(revision) = cell.revisions.get(&id) else {
                if facts.packed.contains(&id) {
                    continue;
                }
                found.add(format!("{node} lacks {oid} of transaction {number}, {tid}"));
                continue;
            };
            let value = revision.record.as_ref().map(|record| &record.data);
            if value != stored.value.as_ref() {
                found.add(format!(
                    "{node} has another value of {oid} at {tid} than transaction {number} stored"
                ));
            }
            if revision.record.as_ref().is_some_and(|r| !r.is_intact()) {
                found.add(format!("{node}: the value of {oid} at {tid} is damaged"));
            }
        }
    }
}

fn is_nowhere(found: &mut Found, facts: &Facts, number: u64) {
    for partition in facts.table.partitioning().iter() {
        for (node, cell) in facts.readable(partition) {
            for record in cell.transactions.values() {
                if Oracle::number(&record.meta.description) == Some(number) {
                    let tid = record.tid;
                    found.add(format!(
                        "{node} has transaction {number} as {tid}, which is not committed"
                    ));
                }
            }
        }
    }
}
