//! A pack removes only what was replaced, or deleted, at or below its tid; in the end it has removed
//! all of it.
//!
//! # Source
//! Packs, in docs/protocol.md.

use neo_api::{Oid, RevisionId};

use super::{Found, Violation};
use crate::oracle::Oracle;
use crate::sim::Facts;

/// Nothing is gone that must be there.
pub(super) fn check(_: &Oracle, facts: &Facts) -> Vec<Violation> {
    let mut found = Found::new("packed");
    for id in &facts.packed {
        let RevisionId { tid, oid } = *id;
        let goes = facts.orders.iter().any(|order| {
            if order.at < tid || !order.concerns(oid) {
                return false;
            }
            let mut rest = facts.revisions(oid, tid..=order.at);
            let is_deletion = rest.next().is_some_and(|(_, value)| value.is_none());
            let is_replaced = rest.next().is_some();
            is_deletion || is_replaced
        });
        if !goes {
            found.add(format!(
                "{oid} of {tid} is gone, and was newest for every pack"
            ));
        }
    }
    found.violations
}

/// Nothing is left that had to go; to be called when every pack is done.
#[must_use]
pub fn check_packed(facts: &Facts) -> Vec<Violation> {
    let mut found = Found::new("packed");
    for partition in facts.table.partitioning().iter() {
        for (node, cell) in facts.readable(partition) {
            let mut ids: Vec<(Oid, RevisionId, bool)> = Vec::new();
            for (id, revision) in &cell.revisions {
                ids.push((id.oid, *id, revision.record.is_none()));
            }
            ids.sort_unstable();
            for order in &facts.orders {
                for object in ids.chunk_by(|one, next| one.0 == next.0) {
                    let old = object.iter().take_while(|(_, id, _)| id.tid <= order.at);
                    let old: Vec<_> = old.collect();
                    let left = match old.last() {
                        Some((oid, _, is_deletion)) if order.concerns(*oid) => {
                            old.len() - usize::from(!is_deletion)
                        }
                        _ => 0,
                    };
                    for (oid, id, _) in old.into_iter().take(left) {
                        let tid = id.tid;
                        found.add(format!("{node} still has {oid} of {tid}"));
                    }
                }
            }
        }
    }
    found.violations
}
