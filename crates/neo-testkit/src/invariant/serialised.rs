//! Writers of an object are serialised: each committed change follows the revision that it started
//! from, and what a transaction checked was current when it committed.
//!
//! # Source
//! Promise 3 (isolated) of ARCHITECTURE.md.

use neo_api::{Oid, Tid};

use super::{Found, Violation};
use crate::oracle::Oracle;
use crate::sim::Facts;

pub(super) fn check(oracle: &Oracle, facts: &Facts) -> Vec<Violation> {
    let mut found = Found::new("serialised");
    let partitioning = facts.table.partitioning();
    for partition in partitioning.iter() {
        let Some((_, cell)) = facts.readable(partition).next() else {
            continue;
        };
        for record in cell.transactions.values() {
            let number = Oracle::number(&record.meta.description);
            let Some(seen) = number.and_then(|n| oracle.transactions().get(&n)) else {
                continue;
            };
            let stores = seen.stores.iter().map(|(oid, stored)| (*oid, stored.base));
            let checks = seen.checks.iter().map(|(oid, serial)| (*oid, *serial));
            for (oid, base) in stores.chain(checks) {
                let before = newest_before(facts, oid, record.tid);
                if before != base {
                    let tid = record.tid;
                    found.add(format!(
                        "{tid} relied on {oid} of {base}, but the one before it is {before}"
                    ));
                }
            }
        }
    }
    found.violations
}

fn newest_before(facts: &Facts, oid: Oid, tid: Tid) -> Tid {
    let newest = facts.revisions(oid, ..tid).next_back();
    newest.map_or(Tid::ZERO, |(tid, _)| tid)
}
