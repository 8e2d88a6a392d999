//! Nothing is left of what ended: no unfinished transaction, no value without a revision.

use super::{Found, Violation};
use crate::oracle::Oracle;
use crate::sim::Facts;

pub(super) fn check(_: &Oracle, facts: &Facts) -> Vec<Violation> {
    let mut found = Found::new("leftovers");
    // A node that does not serve cleans up when it will.
    for node in facts.nodes.iter().filter(|node| node.serving) {
        for unfinished in &node.unfinished {
            found.add(format!("{}: unfinished {}", node.name, unfinished.txn));
        }
        for (txn, id) in &node.loose {
            found.add(format!("{}: loose value {id:?} of {txn}", node.name));
        }
    }
    found.violations
}
