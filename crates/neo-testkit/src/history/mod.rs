//! Histories of lists that only grow, and what is wrong with them.
//!
//! Each transaction reads whole lists and appends elements that no other one appends. A list then
//! tells the order of its versions, and what each reader saw tells its place in it: dependencies
//! between transactions follow without a guess, and an anomaly is a cycle of them, or a read of
//! what must not be seen.
//!
//! # Source
//! Kingsbury, Alvaro, "Elle: inferring isolation anomalies from experimental observations" (VLDB
//! 2020); Adya, "Weak consistency" (1999), whose names the anomalies have.

mod cycles;
mod versions;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

/// A list.
pub type Key = u64;
/// What is appended: never twice, in no list.
pub type Element = u32;

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its client was told that it is committed.
    Committed,
    /// It is not.
    Aborted,
    /// Nobody could tell: it is committed if somebody saw it.
    Unknown,
}

/// What a transaction was promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// It checked all that it read: it takes place at one moment.
    Serialisable,
    /// All that it read is of one moment, and nobody changed the lists that it appends to between
    /// that moment and its commit.
    Snapshot,
}

/// A transaction, as its client saw it. It reads before it appends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Its transactions take place in their order.
    pub session: u64,
    /// What it was promised.
    pub isolation: Isolation,
    /// Each list that it read, whole.
    pub reads: Vec<(Key, Vec<Element>)>,
    /// What it appended, in order.
    pub appends: Vec<(Key, Element)>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What clients did, and what is there in the end.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// In the order in which they began.
    pub transactions: Vec<Transaction>,
    /// Each list in the end.
    pub lists: BTreeMap<Key, Vec<Element>>,
}

/// A kind of anomaly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An element is in a list twice.
    Duplicate,
    /// A list has an element that nobody appended.
    FromNowhere,
    /// Two reads of one list agree on no order of its elements.
    IncompatibleOrder,
    /// What a committed transaction appended is not there in the end.
    LostAppend,
    /// G1a: what an aborted transaction appended was read.
    AbortedRead,
    /// G1b: a read saw some of what a transaction appended to a list.
    IntermediateRead,
    /// G0: transactions that overwrite each other in a circle.
    WriteCycle,
    /// G1c: a circle of overwriting and reading what was written.
    CircularInformation,
    /// G-single: two transactions change a list that both have read as it was before.
    LostUpdate,
    /// G-single: a transaction sees another one in one list and not in another.
    FracturedRead,
    /// G-single: a circle in which one transaction, and only one, did not see another.
    SingleAntiDependency,
    /// G2: two readers see two changes in different orders.
    LongFork,
    /// G2: any other circle in which several did not see each other.
    AntiDependency,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Duplicate => "duplicate element",
            Self::FromNowhere => "element from nowhere",
            Self::IncompatibleOrder => "incompatible order",
            Self::LostAppend => "lost append",
            Self::AbortedRead => "G1a, aborted read",
            Self::IntermediateRead => "G1b, intermediate read",
            Self::WriteCycle => "G0, write cycle",
            Self::CircularInformation => "G1c, circular information flow",
            Self::LostUpdate => "G-single, lost update",
            Self::FracturedRead => "G-single, fractured read",
            Self::SingleAntiDependency => "G-single",
            Self::LongFork => "G2, long fork",
            Self::AntiDependency => "G2",
        })
    }
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anomaly {
    /// Which.
    pub kind: Kind,
    /// Between what; transactions are told by their index.
    pub what: String,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.what)
    }
}

impl History {
    /// What is wrong. Of transactions that depend on each other in circles, one circle is told.
    #[must_use]
    pub fn anomalies(&self) -> Vec<Anomaly> {
        let versions = versions::Versions::of(self);
        let mut anomalies = versions.anomalies.clone();
        anomalies.extend(cycles::find(self, &versions));
        anomalies
    }
}
