//! A read before a tid saw exactly the transactions below it.
//!
//! # Source
//! Promise 3 (isolated) of ARCHITECTURE.md.

use bytes::Bytes;
use neo_api::Tid;

use super::{Found, Violation};
use crate::oracle::Oracle;
use crate::sim::Facts;

pub(super) fn check(oracle: &Oracle, facts: &Facts) -> Vec<Violation> {
    let mut found = Found::new("reads");
    for read in oracle.reads() {
        if !facts.has_readable(read.oid) {
            continue;
        }
        let newest = facts.revisions(read.oid, ..read.before).next_back();
        let expected = newest.and_then(|(tid, value)| Some((tid, value.clone()?)));
        if expected != read.found {
            let serial = |value: &Option<(Tid, Bytes)>| value.as_ref().map(|(tid, _)| *tid);
            found.add(format!(
                "{} read {} before {} and got {:?}, but it is {:?}",
                read.client,
                read.oid,
                read.before,
                serial(&read.found),
                serial(&expected)
            ));
        }
    }
    listings(oracle, facts, &mut found);
    found.violations
}

/// A listing has exactly the transactions of its tids, in order.
fn listings(oracle: &Oracle, facts: &Facts, found: &mut Found) {
    if oracle.listings().is_empty() {
        return;
    }
    let transactions = facts.transactions();
    let partitioning = facts.table.partitioning();
    let mut readable = partitioning.iter();
    if readable.any(|partition| facts.readable(partition).next().is_none()) {
        return;
    }
    for listing in oracle.listings() {
        let expected = transactions.range(listing.range.clone());
        let expected: Vec<Tid> = expected.map(|(tid, _)| *tid).collect();
        if expected != listing.tids {
            let missing = expected.iter().find(|tid| !listing.tids.contains(tid));
            let surplus = listing.tids.iter().find(|tid| !expected.contains(tid));
            found.add(format!(
                "{} listed the transactions of {:?}: {missing:?} is missing, {surplus:?} is not \
                 there, or one is there twice",
                listing.client, listing.range
            ));
        }
    }
}
