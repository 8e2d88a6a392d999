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
        if !facts.is_obsolete(*id) {
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
    emptied(&mut found, facts);
    found.violations
}

/// Transactions name what is there, and what lost something says so.
fn emptied(found: &mut Found, facts: &Facts) {
    let partitioning = facts.table.partitioning();
    for partition in partitioning.iter() {
        for (node, cell) in facts.readable(partition) {
            for (tid, record) in &cell.transactions {
                let gone = record.oids.iter().find(|oid| {
                    let id = RevisionId::from((*tid, **oid));
                    let mut copies = facts.readable(partitioning.of_oid(**oid));
                    copies.any(|(_, copy)| !copy.revisions.contains_key(&id))
                });
                if let Some(oid) = gone {
                    found.add(format!("{node} still names {oid} of {tid}, which is gone"));
                }
                let mut packed = facts.packed.range(RevisionId::from((*tid, Oid::ZERO))..);
                let lacks = packed.next().is_some_and(|id| id.tid == *tid);
                if record.packed != lacks {
                    let packed = record.packed;
                    found.add(format!("{node} says that {tid} is packed: {packed}"));
                }
            }
        }
    }
}
