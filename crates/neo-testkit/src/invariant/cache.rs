//! What a client's cache may make of an answer is true: no revision lies in the interval in which
//! another one is said to be the newest.
//!
//! # Source
//! Promise 8 (the cache never lies) of ARCHITECTURE.md.

use neo_api::{RevisionId, Tid};

use super::{Found, Violation};
use crate::oracle::Oracle;
use crate::sim::Facts;

pub(super) fn check(oracle: &Oracle, facts: &Facts) -> Vec<Violation> {
    let mut found = Found::new("cache");
    let partitioning = facts.table.partitioning();
    for (client, kept) in oracle.all_kept() {
        let Some((_, cell)) = facts.readable(partitioning.of_oid(kept.oid)).next() else {
            continue;
        };
        let after = RevisionId {
            tid: Tid(kept.serial.0 + 1),
            oid: neo_api::Oid::ZERO,
        };
        let mut later = cell.revisions.range(after..);
        let next = later.find(|(id, _)| id.oid == kept.oid);
        let next = next.map(|(id, _)| id.tid);
        let is_newest = next.is_none_or(|next| next >= kept.until);
        if !is_newest || (kept.next.is_some() && kept.next != next) {
            found.add(format!(
                "{client} keeps {} of {} until {}, but the next one is {next:?}",
                kept.oid, kept.serial, kept.until
            ));
        }
    }
    found.violations
}
