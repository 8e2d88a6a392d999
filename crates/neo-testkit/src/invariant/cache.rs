//! What a client's cache may make of an answer is true: no revision lies in the interval in which
//! another one is said to be the newest.
//!
//! # Source
//! Promise 8 (the cache never lies) of ARCHITECTURE.md.

use std::ops::Bound;

use super::{Found, Violation};
use crate::oracle::Oracle;
use crate::sim::Facts;

pub(super) fn check(oracle: &Oracle, facts: &Facts) -> Vec<Violation> {
    let mut found = Found::new("cache");
    for (client, kept) in oracle.all_kept() {
        if !facts.has_readable(kept.oid) {
            continue;
        }
        let after = (Bound::Excluded(kept.serial), Bound::Unbounded);
        let next = facts.revisions(kept.oid, after).next();
        let next = next.map(|(tid, _)| tid);
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
