//! The readable copies of a partition are equal: transactions, revisions, values.
//!
//! # Source
//! Promise 7 (replicas agree) of ARCHITECTURE.md.

use super::{Found, Violation};
use crate::oracle::Oracle;
use crate::sim::Facts;

pub(super) fn check(_: &Oracle, facts: &Facts) -> Vec<Violation> {
    let mut found = Found::new("replicas equal");
    for partition in facts.table.partitioning().iter() {
        let mut copies = facts.readable(partition);
        let Some((first, expected)) = copies.next() else {
            found.add(format!("partition {partition} has no readable copy"));
            continue;
        };
        for (other, cell) in copies {
            if cell == expected {
                continue;
            }
            let differs = expected
                .revisions
                .iter()
                .find(|(id, revision)| cell.revisions.get(id) != Some(revision))
                .or_else(|| {
                    let mut more = cell.revisions.iter();
                    more.find(|(id, _)| !expected.revisions.contains_key(id))
                });
            found.add(match differs {
                Some((id, _)) => format!(
                    "partition {partition} on {first} and {other}: revision {} of {} differs: {:?} \
                     and {:?}",
                    id.tid,
                    id.oid,
                    expected.revisions.get(id),
                    cell.revisions.get(id)
                ),
                None => {
                    format!("partition {partition} on {first} and {other}: transactions differ")
                }
            });
        }
    }
    found.violations
}
