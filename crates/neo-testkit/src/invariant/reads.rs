//! A read before a tid saw exactly the transactions below it.
//!
//! # Source
//! Promise 3 (isolated) of ARCHITECTURE.md.

use neo_api::RevisionId;

use super::{Found, Violation};
use crate::oracle::Oracle;
use crate::sim::Facts;

pub(super) fn check(oracle: &Oracle, facts: &Facts) -> Vec<Violation> {
    let mut found = Found::new("reads");
    let partitioning = facts.table.partitioning();
    for read in oracle.reads() {
        let Some((_, cell)) = facts.readable(partitioning.of_oid(read.oid)).next() else {
            continue;
        };
        let end = RevisionId {
            tid: read.before,
            oid: neo_api::Oid::ZERO,
        };
        let mut revisions = cell.revisions.range(..end).rev();
        let newest = revisions.find(|(id, _)| id.oid == read.oid);
        let expected = newest.and_then(|(id, revision)| {
            let record = revision.record.as_ref()?;
            Some((id.tid, record.data.clone()))
        });
        if expected != read.found {
            let serial = |value: &Option<(neo_api::Tid, _)>| value.as_ref().map(|(tid, _)| *tid);
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
    found.violations
}
