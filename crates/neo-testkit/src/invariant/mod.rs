//! What must be true, one property a file.
//!
//! Each looks at what the clients did and were told, and at what is in the databases.

mod acknowledged;
mod atomic;
mod cache;
mod copies;
mod leftovers;
mod packed;
mod reads;
mod replicas_equal;
mod serialised;
mod tid_order;

use std::fmt;

pub use copies::committed;
pub use packed::check_packed;

use crate::oracle::Oracle;
use crate::sim::Facts;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which property.
    pub property: &'static str,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.what)
    }
}

/// Collects what a property finds.
#[derive(Debug)]
struct Found {
    property: &'static str,
    violations: Vec<Violation>,
}

impl Found {
    const fn new(property: &'static str) -> Self {
        Self {
            property,
            violations: Vec::new(),
        }
    }

    fn add(&mut self, what: impl Into<String>) {
        self.violations.push(Violation {
            property: self.property,
            what: what.into(),
        });
    }
}

/// Checks every property; nothing may be under way.
#[must_use]
pub fn check_all(oracle: &Oracle, facts: &Facts) -> Vec<Violation> {
    let mut violations: Vec<Violation> = oracle
        .complaints()
        .iter()
        .map(|what| Violation {
            property: "client",
            what: what.clone(),
        })
        .collect();
    let properties: [fn(&Oracle, &Facts) -> Vec<Violation>; 9] = [
        acknowledged::check,
        atomic::check,
        replicas_equal::check,
        tid_order::check,
        serialised::check,
        reads::check,
        cache::check,
        leftovers::check,
        packed::check,
    ];
    for property in properties {
        violations.extend(property(oracle, facts));
    }
    violations
}
