//! Tids strictly increase: a transaction that began after another was acknowledged has a greater
//! one, and no tid names two transactions.
//!
//! # Source
//! Promise 4 (ordered) of ARCHITECTURE.md.

use std::collections::BTreeMap;

use neo_api::Tid;

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
    // By begin, each with the greatest tid of those that had ended before.
    let mut by_end: Vec<_> = committed
        .iter()
        .map(|(number, _, ended, tid)| (*ended, *tid, *number))
        .collect();
    by_end.sort_unstable();
    let mut ended = by_end.into_iter().peekable();
    committed.sort_unstable_by_key(|(_, begun, ..)| *begun);
    let mut greatest = (Tid::ZERO, 0);
    for (later, begun, _, tid) in committed {
        while let Some((_, before, earlier)) = ended.next_if(|(end, ..)| *end < begun) {
            greatest = greatest.max((before, earlier));
        }
        let (before, earlier) = greatest;
        if earlier != 0 && before >= tid {
            found.add(format!(
                "transaction {later} began after {earlier} ended, but {tid} <= {before}"
            ));
        }
    }
    found.violations
}
