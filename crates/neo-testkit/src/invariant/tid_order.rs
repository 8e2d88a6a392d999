//! Tids strictly increase: a transaction that began after another was acknowledged has a greater
//! one, and no tid names two transactions.
//!
//! # Source
//! Promise 4 (ordered) of ARCHITECTURE.md.

use std::collections::BTreeMap;

use super::{Found, Violation};
use crate::oracle::{Oracle, Told};
use crate::sim::Facts;

pub(super) fn check(oracle: &Oracle, _: &Facts) -> Vec<Violation> {
    let mut found = Found::new("tid order");
    let mut committed = Vec::new();
    for (number, seen) in oracle.transactions() {
        if let Told::Committed(tid) = seen.told {
            let ended = seen.ended.unwrap_or(u64::MAX);
            committed.push((*number, seen.begun, ended, tid));
        }
    }
    let mut owner = BTreeMap::new();
    for (number, _, _, tid) in &committed {
        if let Some(other) = owner.insert(*tid, *number) {
            found.add(format!(
                "{tid} is told to transactions {other} and {number}"
            ));
        }
    }
    for (later, begun, _, tid) in &committed {
        for (earlier, _, ended, before) in &committed {
            if ended < begun && before >= tid {
                found.add(format!(
                    "transaction {later} began after {earlier} ended, but {tid} <= {before}"
                ));
            }
        }
    }
    found.violations
}
